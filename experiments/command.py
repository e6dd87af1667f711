"""What every experiment and benchmark shares at the command line.

A file hands its `Config`, `run` and `plot` to `main`, which parses, sets the platform, runs, records, draws, prints the
table, and prints the record's folder as its last line. A caller's mistake is one paragraph and exit code 2.
"""

import inspect
import math
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import tyro

from experiments import together, unfinished
from experiments.unfinished import Keep
from jaxnn import data, devices, record
from jaxnn.checkpoint import CheckpointWarning
from jaxnn.data.locate import cache_root
from jaxnn.interrupt import Interrupted
from jaxnn.manifest import difference
from jaxnn.record import Comparison, Record
from jaxnn.train import Diverged, History
from jaxnn.types import InputError


@dataclass(frozen=True)
class Common:
    """The fields of every `Config`."""

    results: Path = Path("results")
    """Folder that takes the record."""
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the fastest device there is."""
    checkpoint_every: Literal["auto", "never"] | float = "auto"
    """Seconds between checkpoints; 0 saves after every compiled chunk, auto after 30 or when 20 times what one costs have gone by."""
    resume: str | None = None
    """Go on with this unfinished run, with its own config: its folder, or auto for the newest of this config, if there is one."""
    distributed: str = "no"
    """Compute with the other processes of this job: auto as SLURM, MPI or a TPU pod started them, else HOST:PORT/PROCESSES/ID."""

    def __post_init__(self) -> None:
        if isinstance(self.checkpoint_every, float) and not 0 <= self.checkpoint_every < math.inf:
            raise InputError(f"--checkpoint-every must be seconds from 0, auto or never, got {self.checkpoint_every}")
        if self.checkpoint_every == "never" and self.resume is not None:
            raise InputError("--resume goes on with what is kept, and keeps on keeping it: leave --checkpoint-every never out")

    @property
    def every(self) -> float | None:
        """What `jaxnn.checkpoint.Checkpoints` takes."""
        return None if isinstance(self.checkpoint_every, str) else self.checkpoint_every


@dataclass(frozen=True)
class Digits:
    """The fields of a `Config` whose run needs handwritten digits."""

    data: str = "auto"
    """Data set; auto is mnist where its files are, else the 5,000 real digits mnist_5k that a dependency ships."""
    download: bool = False
    """Fetch the data set where it is missing."""


@dataclass(frozen=True)
class Sharing:
    """The fields of a `Config` whose run is a sweep."""

    at_once: int | None = None
    """Models trained at the same time, over all devices; None takes what their memory holds. Another number changes the last bits."""

    def __post_init__(self) -> None:
        at_least(1, at_once=self.at_once)

    def out(self) -> dict[str, Any]:
        """What a sweep takes as `mesh` and `at_once`: all devices, where there are several."""
        return {"mesh": devices.mesh("members") if len(jax.devices()) > 1 else None, "at_once": self.at_once}


CommonFields = tyro.conf.OmitArgPrefixes[Common]
DigitsFields = tyro.conf.OmitArgPrefixes[Digits]
SharingFields = tyro.conf.OmitArgPrefixes[Sharing]


class Outcome(NamedTuple):
    """What `run(config)` returns."""

    history: Mapping[str, Any]
    """Named arrays."""
    axes: Mapping[str, tuple[str, ...]]
    """The names of each array's axes; `seed`, `step` and `epoch` have a meaning to the recorder."""
    comparisons: Sequence[Comparison] = ()
    """Our numbers, beside published ones where there are any."""
    about: Mapping[str, Any] = {}
    """What else belongs in meta.json: data source, seconds."""
    state: Any = None
    """The learner's, to be kept in the record."""


Run = Callable[[Any, Keep], Outcome]
"""`run(config, keep)`: `keep` is where it keeps its parts and its checkpoints."""
Plot = Callable[[Record], Mapping[str, Any]]


def main(config_class: type, run: Run, plot: Plot) -> None:
    """Run one experiment from the command line, and exit."""
    sys.exit(execute(config_class, run, plot, sys.argv[1:]))


def execute(config_class: type, run: Run, plot: Plot, args: Sequence[str]) -> int:
    """`main` without the exit: 0; 2 for a caller's mistake, 1 for a run that diverged, 130 for Ctrl-C, 143 for SIGTERM."""
    path = Path(inspect.getfile(run))
    module, doc = f"{path.parent.name}.{path.stem}", inspect.getdoc(inspect.getmodule(run)) or ""
    keep = unfinished.NOTHING
    with _said_in_words(), _sigterm_as_interrupt():
        try:
            config, resumed = parse(config_class, args, doc, module)
            together.join(config.common.distributed)
            use_platform(config.common.platform)
            record.check_writable(config.common.results)
            line = _command(module, args)
            found = together.keep_of_first(partial(_keep, config, path.stem, resumed, line), config.common.every)
            if not together.is_first():
                run(config, found)
                return 0
            with unfinished.locked_for_this_process(found):
                keep = found  # not before it is this process's own: what keeps nothing is removed
                kept = _run_and_record(config, run, plot, keep, path.stem, {"claim": doc.splitlines()[0], "command": line})
                unfinished.remove(keep)
        except InputError as error:
            return _say(f"error: {error}{_how_to_go_on(keep, module)}", 2)
        except Diverged as error:
            return _say(f"error: {error}{_how_to_go_on(keep, module)}", 1)
        except KeyboardInterrupt as interrupt:
            code = interrupt.exit_code if isinstance(interrupt, Interrupted) else 130
            return _say(f"interrupted{_how_to_go_on(keep, module) or ': nothing was recorded'}", code)
    print_table(kept.comparisons)
    print(kept.folder)
    return 0


def _run_and_record(config: Any, run: Run, plot: Plot, keep: Keep, experiment: str, about: Mapping[str, Any]) -> Record:
    """The record of a run, drawn."""
    began = time.perf_counter()
    outcome = run(config, keep)
    about = {**about, **outcome.about}
    if keep.folder:  # a run that goes on has the command line of its beginning
        begun = unfinished.read(keep.folder)
        about |= {"command": begun["command"]} | ({"environments": begun["environments"]} if len(begun["environments"]) > 1 else {})
    about["seconds"] = {**about.get("seconds", {}), "total": round(time.perf_counter() - began, 2)}
    folder = save(config, experiment, outcome, about)
    kept = record.load_run(folder)
    record.save_figures(folder, plot(kept))
    return kept


def parse(config_class: type, args: Sequence[str], doc: str, module: str) -> tuple[Any, Path | None]:
    """The config, and the folder of the unfinished run that it is of, where it goes on with one."""
    description = doc.replace("\nExpected", "\n\nExpected")  # a paragraph of its own: tyro joins lines

    def by_tyro(**default: Any) -> Any:
        config = tyro.cli(config_class, args=list(args), description=description, prog=f"python -m {module}", **default)
        for name, value in vars(config).items():
            if value == ():
                raise InputError(f"--{name.replace('_', '-')} needs at least one value")
        return config

    config: Any = by_tyro()
    if config.common.resume is None:
        return config, None
    experiment = module.rpartition(".")[2]
    if config.common.resume == "auto":
        found = unfinished.of_config(config.common.results, experiment, plain(config))
        return config, found[-1] if found else None
    folder = Path(config.common.resume)
    run = unfinished.read(folder)
    if run["experiment"] != experiment:
        raise InputError(f"--resume {folder}: is a run of {run['experiment']}, not of {experiment}")
    saved = dict(run["config"])
    place = folder.absolute()
    if place.parent.name != "unfinished":
        raise InputError(f"--resume {folder}: it was moved. Move it back to results/{experiment}/unfinished/")
    common = Common(results=place.parents[2], platform=saved.pop("platform"))
    config = by_tyro(default=unfinished.from_plain(config_class, saved, common=common))
    if changed := difference(run["config"], plain(config)):
        raise InputError(f"--resume {folder}: another config was asked for than the run's own. Leave these flags out:\n{changed}")
    return config, folder


def _keep(config: Any, experiment: str, resumed: Path | None, line: str) -> Keep:
    """Where the run keeps its work: in the folder of the run that it goes on with, or in a new one."""
    common: Common = config.common
    if resumed is not None:
        return unfinished.go_on(resumed, common.every)
    if common.checkpoint_every == "never":
        return unfinished.NOTHING
    if common.resume is None and (others := unfinished.of_config(common.results, experiment, plain(config))):
        print(f"an unfinished run of this config stands in {others[-1]}; --resume auto would go on with it", file=sys.stderr)
    return unfinished.begin(common.results, experiment, plain(config), line, common.every)


def _how_to_go_on(keep: Keep, module: str) -> str:
    """What to say of a run that ended too early; a folder without anything kept is removed."""
    if keep.is_empty:
        unfinished.remove(keep)
        return ""
    return f"\nWhat is finished is kept. Go on with: {shlex.join(['python', '-m', module, '--resume', str(keep.folder)])}"


@contextmanager
def _said_in_words() -> Iterator[None]:
    """Warnings about checkpoints as lines for people, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, CheckpointWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                shown(message, category, *where, **more)

        warnings.showwarning = show
        yield


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does, with the exit code 143; inside `fit` and `sweep` both wait for the chunk's end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise Interrupted("", number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def plain(config: Any) -> dict[str, Any]:
    """The config as a record has it: where a run is kept, and how often, is not what was run."""
    own = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "common"}
    return record.plain({**own, "platform": config.common.platform})


def save(config: Any, experiment: str, outcome: Outcome, about: Mapping[str, Any]) -> Path:
    """Record an outcome."""
    return record.save_run(
        config.common.results,
        experiment,
        plain(config),
        outcome.history,
        axes=outcome.axes,
        comparisons=outcome.comparisons,
        about=about,
        state=outcome.state,
    )


def use_platform(name: str) -> None:
    """Choose the device, full float32 precision, and the compilation cache that all runs share."""
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if name == "auto":
        return
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(name, name))
    try:
        jax.devices()
    except Exception as error:  # a backend that is not there fails in ways of its own
        extra = {"gpu": "cuda"}.get(name, name)
        advice = f"Install its driver and `pip install 'jaxnn[{extra}]'`, or run with --platform cpu."
        raise InputError(f"--platform {name}: JAX finds no {name.upper()} on this machine. {advice}") from error


def load_digits(digits: Digits, split: str) -> data.Dataset:
    """Load a split of the chosen data set, and say which it is."""
    dataset = data.load(digits.data, split, download=digits.download)
    source = dataset.source
    print(f"data: {source.name} {source.split}, {source.count} examples from {source.path}, sha256 {source.sha256[:12]}", flush=True)
    return dataset


def seconds(histories: Iterable[History]) -> dict[str, float]:
    """Compile and run time, summed over runs."""
    pairs = [(history.compile_seconds, history.run_seconds) for history in histories]
    return dict(zip(("compile", "run"), (round(sum(column), 2) for column in zip(*pairs, strict=True)), strict=True))


def at_least(least: int, **values: int | Iterable[int] | None) -> None:
    """Raise `InputError` for the first value below `least`, under its flag's name."""
    for name, value in values.items():
        numbers = [] if value is None else [value] if isinstance(value, int) else list(value)
        if any(number < least for number in numbers):
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {' '.join(map(str, numbers))}")


def print_table(comparisons: Sequence[Comparison]) -> None:
    """What, published, ours as median and 5–95 % over seeds."""
    rows = [("", "published", "ours", "5–95 %", "seeds")] + [_row(c) for c in comparisons]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for what, *numbers in rows if comparisons else []:
        print(what.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)), sep="  ")


def number(value: float | None) -> str:
    """Three significant digits; nothing for a number there is none of.

    >>> number(0.0003121), number(95.83), number(None)
    ('0.000312', '95.8', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.3g}" if value == 0 or 1e-4 <= abs(value) < 1e4 else f"{value:.2e}"


def _row(c: Comparison) -> tuple[str, ...]:
    seeds = f"{c.seeds} ({c.diverged} diverged)" if c.diverged else str(c.seeds)
    band = f"{number(c.p05)} … {number(c.p95)}" if c.seeds > 1 else ""
    return c.what, number(c.published), number(c.median), band, seeds


def _command(module: str, args: Sequence[str]) -> str:
    """The command line, without where the run is kept, how often, and with whom it computes."""
    kept, skip = [], False
    for arg in args:
        flag = arg.partition("=")[0].replace("_", "-") in ("--results", "--resume", "--checkpoint-every", "--distributed")
        if not skip and not flag:
            kept.append(arg)
        skip = flag and "=" not in arg
    return shlex.join(["python", "-m", module, *kept])


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
