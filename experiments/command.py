"""What every experiment and benchmark shares at the command line.

A file hands its `Config`, `run` and `plot` to `main`, which parses, sets the platform, runs, records, draws, prints the
table, and prints the record's folder as its last line. A caller's mistake is one paragraph and exit code 2.
"""

import inspect
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import tyro

from jaxnn import data, record
from jaxnn.data.locate import cache_root
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


@dataclass(frozen=True)
class Digits:
    """The fields of a `Config` whose run needs handwritten digits."""

    data: str = "auto"
    """Data set; auto is mnist where its files are, else the 5,000 real digits mnist_5k that a dependency ships."""
    download: bool = False
    """Fetch the data set where it is missing."""


CommonFields = tyro.conf.OmitArgPrefixes[Common]
DigitsFields = tyro.conf.OmitArgPrefixes[Digits]


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
    recorded: Callable[[], None] = lambda: None
    """Called once the record is written."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run that has kept something: says what, and how to go on."""


def main(config_class: type, run: Callable[[Any], Outcome], plot: Callable[[Record], Mapping[str, Any]]) -> None:
    """Run one experiment from the command line, and exit."""
    sys.exit(execute(config_class, run, plot, sys.argv[1:]))


def execute(config_class: type, run: Callable, plot: Callable, args: Sequence[str]) -> int:
    """`main` without the exit: 0, 2 for a caller's mistake, 1 for a run that diverged, 130 for Ctrl-C."""
    path = Path(inspect.getfile(run))
    module, doc = f"{path.parent.name}.{path.stem}", inspect.getdoc(inspect.getmodule(run)) or ""
    try:
        config: Any = tyro.cli(config_class, args=list(args), description=doc, prog=f"python -m {module}")
        use_platform(config.common.platform)
        record.check_writable(config.common.results)
        began = time.perf_counter()
        outcome = run(config)
        about = {"claim": doc.splitlines()[0], "command": _command(module, args), **outcome.about}
        about["seconds"] = {**about.get("seconds", {}), "total": round(time.perf_counter() - began, 2)}
        folder = save(config, path.stem, outcome, about)
        kept = record.load_run(folder)
        record.save_figures(folder, plot(kept))
        outcome.recorded()
    except InputError as error:
        return _say(f"error: {error}", 2)
    except Diverged as error:
        return _say(f"error: {error}", 1)
    except KeyboardInterrupt as interrupt:
        return _say(f"interrupted: {str(interrupt) or 'nothing was recorded'}", 130)
    print_table(kept.comparisons)
    print(folder)
    return 0


def save(config: Any, experiment: str, outcome: Outcome, about: Mapping[str, Any]) -> Path:
    """Record an outcome. The folder of the results is where a run is kept, not what was run: the record leaves it out."""
    plain = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "common"} | {"platform": config.common.platform}
    return record.save_run(
        config.common.results,
        experiment,
        plain,
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
    """The command line, without the folder of the results."""
    kept, skip = [], False
    for arg in args:
        if not skip and arg != "--results" and not arg.startswith("--results="):
            kept.append(arg)
        skip = arg == "--results"
    return shlex.join(["python", "-m", module, *kept])


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
