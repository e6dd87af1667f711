"""Faults, done for real to real runs, and what came of each."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import command, vanishing_gradient
from jaxnn import loop
from jaxnn.checkpoint import Checkpoints, CheckpointWarning, Store, steps
from jaxnn.manifest import CheckpointError
from jaxnn.train import Diverged, fit
from jaxnn.types import Learner
from tests import processes
from tests.faults import victim

ROOT = Path(__file__).parents[2]
CACHE = Path(tempfile.gettempdir()) / f"jaxnn-faults-{os.getpid()}"


class Tally(NamedTuple):
    """What came of one kind of fault."""

    fault: str
    tried: int
    survived: int
    note: str = ""
    bad: tuple[str, ...] = ()
    """What went wrong, a line each."""


def environment() -> dict[str, str]:
    """Of the victims, who compile as this process does. What one compiles the next one finds: a kill meets no compiler, but a run."""
    quickly = str(int(jax.config._read("jax_disable_most_optimizations")))
    cache = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": quickly,
        "JAX_COMPILATION_CACHE_DIR": str(CACHE),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {**os.environ, **cache, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": processes.own_flags()}


def python(*arguments: str, **more: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(), **more
    )


def kills(count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """kill -9 of a run at a random moment, then the same call again: it must end with the bits of an unbroken run."""
    expected, bad, inside, lost_steps = unbroken(), [], 0, []
    for number in range(count):
        kept = folder / f"kill-{number}"
        died_at, saving = kill_once(kept, rng)
        inside += saving
        found = steps(kept)
        lost_steps.append(found[-1] if found else 0)
        with said() as warned:
            again = victim.digest(in_small_chunks(Checkpoints(kept, every=3600.0)))
        if again != expected:
            bad.append(f"kill {number} after {died_at:.2f} s: other bits; {warned}")
        shutil.rmtree(kept)
    note = f"{inside} inside a save; resumed from steps {min(lost_steps)} to {max(lost_steps)} of {victim.STEPS}"
    return Tally("kill -9 at a random moment", count, count - len(bad), note, tuple(bad))


def kill_once(kept: Path, rng: np.random.Generator) -> tuple[float, bool]:
    """Seconds after the first checkpoint, and whether the victim was writing one."""
    elsewhere = str(kept.with_name("results"))
    process = python("-m", "tests.faults.victim", "--folder", str(kept), "--results", elsewhere, "--checkpoint-every", "never")
    began = time.monotonic()
    while not steps(kept) and process.poll() is None and time.monotonic() - began < 120:
        time.sleep(0.005)
    delay = float(rng.uniform(0, 4))
    time.sleep(delay)
    process.kill()
    _, error = process.communicate()
    if process.returncode == 0:  # it had finished: nothing was killed
        shutil.rmtree(kept)
        return kill_once(kept, rng)
    if process.returncode != -signal.SIGKILL:
        raise AssertionError(f"the victim ended by itself, exit code {process.returncode}: {error[-1000:]}")
    return delay, any(kept.glob("*.orbax-checkpoint-tmp*"))


def unbroken() -> str:
    return victim.digest(in_small_chunks(None))


def in_small_chunks(checkpoint: Checkpoints | None) -> Any:
    before, loop.CHUNK_SECONDS = loop.CHUNK_SECONDS, victim.CHUNK_SECONDS
    try:
        return victim.train(checkpoint)
    finally:
        loop.CHUNK_SECONDS = before


@contextmanager
def said() -> Iterator[list[str]]:
    """What was warned of."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        yield messages
        messages += [str(warning.message) for warning in caught]


# A checkpoint's files


def pair(folder: Path) -> tuple[dict, dict]:
    """Two checkpoints of a state with arrays of some size, steps 1 and 2; their states."""
    rng = np.random.default_rng(0)
    states = [{"w": rng.normal(size=(40, 30)).astype(np.float32), "n": np.int32(step), "b": np.zeros(30, np.float32)} for step in (1, 2)]
    store = Store(Checkpoints(folder, every=0.0), {"run": "a"})
    for step, state in zip((1, 2), states, strict=True):
        store.save(step, state, {"train/loss": rng.normal(size=50)}, position={"at": step})
    store.close()
    return states[0], states[1]


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def outcome(folder: Path, older: dict, newer: dict) -> str:
    """`detected`: the older state was taken and it was said; `harmless`: the newer one, bit-equal; else what went wrong."""
    store = None
    try:
        with said() as warned:
            store = Store(Checkpoints(folder, every=0.0), {"run": "a"})
            saved = store.newest(newer)
    except CheckpointError as error:
        return f"no older one was taken: {error}"
    except Exception as error:
        return f"a raw {type(error).__name__}: {error}"
    finally:
        if store is not None:
            store.close()
    wanted = {1: older, 2: newer}.get(saved.step) if saved else None
    if wanted is None or any(np.asarray(saved.state[name]).tobytes() != np.asarray(wanted[name]).tobytes() for name in wanted):
        return "other bits, silently"
    if saved.step == 1:
        return "detected" if warned else "the older one was taken without a word"
    return "harmless"


def damaged(name: str, folder: Path, ways: list[tuple[Path, Callable[[bytes], bytes | None]]], states: tuple[dict, dict]) -> Tally:
    """Each way to change one file of the newest checkpoint, on a fresh copy."""
    bad, harmless = [], 0
    for number, (file, change) in enumerate(ways):
        copy = folder.with_name(f"{folder.name}-{name.split()[0]}-{number}")
        shutil.copytree(folder, copy)
        path = copy / file.relative_to(folder)
        content = change(path.read_bytes())
        path.unlink() if content is None else path.write_bytes(content)
        found = outcome(copy, *states)
        harmless += found == "harmless"
        if found not in ("detected", "harmless"):
            bad.append(f"{file.relative_to(folder)}: {found}")
        shutil.rmtree(copy)
    return Tally(name, len(ways), len(ways) - len(bad), f"{len(ways) - len(bad) - harmless} detected, {harmless} harmless", tuple(bad))


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bit_flips(per_file: int | None, rng: np.random.Generator, folder: Path) -> Tally:
    """Single bits of every file of the newest checkpoint: so many random ones of each, or all."""
    states = pair(folder / "flips")
    ways: list[tuple[Path, Callable[[bytes], bytes | None]]] = []
    for file in files_of(folder / "flips" / "2"):
        size = 8 * file.stat().st_size
        bits = range(size) if per_file is None or per_file >= size else rng.choice(size, per_file, replace=False).tolist()
        ways += [(file, lambda content, bit=bit: flip(content, bit)) for bit in bits]  # type: ignore[misc]
    return damaged("bit flips in a checkpoint's files", folder / "flips", ways, states)


def truncations(folder: Path) -> Tally:
    """Every file of the newest checkpoint cut to nothing, to half, by one byte, and with one byte more."""
    states = pair(folder / "cuts")
    cuts: list[Callable[[bytes], bytes | None]] = [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: c[:-1], lambda c: c + b"\0"]
    ways = [(file, cut) for file in files_of(folder / "cuts" / "2") for cut in cuts]
    return damaged("truncated or lengthened files of a checkpoint", folder / "cuts", ways, states)


def deletions(folder: Path) -> Tally:
    """Every file of the newest checkpoint removed."""
    states = pair(folder / "gone")
    return damaged(
        "deleted files of a checkpoint", folder / "gone", [(file, lambda c: None) for file in files_of(folder / "gone" / "2")], states
    )


# Runs


def disk_full(sizes: list[int], folder: Path) -> Tally:
    """No file may grow beyond so many bytes while a run saves, as on a full disk: the run ends well, its older checkpoint stays."""
    bad = []
    for size in sizes:
        kept = folder / f"full-{size}"
        older = np.arange(5000.0)
        store = Store(Checkpoints(kept, every=0.0), {})
        store.save(1, {"w": older}, {})
        with said() as warned, no_file_beyond(size):
            wrote = store.save(2, {"w": np.random.default_rng(0).normal(size=5000)}, {})
        store.close()
        if wrote or not any("could not be written" in message and "step 1 stays" in message for message in warned):
            bad.append(f"{size} bytes: wrote {wrote}, said {warned}")
        store = Store(Checkpoints(kept, every=0.0), {})
        with said() as warned:
            saved = store.newest({"w": older})
        if saved is None or saved.step != 1 or warned or not np.array_equal(saved.state["w"], older):
            bad.append(f"{size} bytes: afterwards {saved and saved.step}, said {warned}")
        store.close()
    return Tally("disk full in a save", len(sizes), len(sizes) - len(bad), f"limits {sizes[0]} to {sizes[-1]} bytes", tuple(bad))


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def nans(at: list[int], folder: Path) -> Tally:
    """A state that becomes NaN at a step: the run says so, and its last finite checkpoint stays."""
    bad = []
    for step in at:
        kept = Checkpoints(folder / f"nan-{step}", every=0.0, keep=1)
        try:
            fit(nan_at(step), jax.random.key(0), num_steps=60, checkpoint=kept, label=None)
            bad.append(f"step {step}: not noticed")
        except Diverged as error:
            if f"diverged at step {step}:" not in str(error):
                bad.append(f"step {step}: {error}")
        found = steps(kept.folder)
        finite = [s for s in found if json.loads((Path(kept.folder) / str(s) / "manifest" / "metadata").read_bytes())["content"]["finite"]]
        if not finite:
            bad.append(f"step {step}: no finite checkpoint, {found}")
    return Tally("NaN at a step", len(at), len(at) - len(bad), "", tuple(bad))


def nan_at(step: int) -> Learner:
    def advance(key: Any, state: Any, batch: Any) -> tuple[Any, dict]:
        state = jax.numpy.where(state == step, jax.numpy.nan, state + 1)
        return state, {"loss": state}

    return Learner(lambda key, batch: jax.numpy.zeros(()), advance, lambda key, state, batch: {})


# The command line


def signals(numbers: list[int], folder: Path) -> Tally:
    """SIGTERM and Ctrl-C to an experiment, then the command that it prints: the record has the arrays of an unbroken run's."""
    whole, bad = {name: np.asarray(values) for name, values in in_small_chunks(None).history.train.items()}, []
    for index, number in enumerate(numbers):
        results = folder / f"signal-{index}"
        process = python("-m", "tests.faults.victim", "--results", str(results), "--checkpoint-every", "0")
        wait_for(lambda results=results: [kept for kept in results.glob("*/unfinished/*/checkpoints/*") if steps(kept)], process)  # type: ignore[misc]
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
        if process.returncode != 128 + number or "--resume" not in error:
            bad.append(f"signal {number}: exit {process.returncode}, said {error[-300:]!r}")
            continue
        again = finished(python("-m", "tests.faults.victim", "--resume", error.split("--resume ")[1].split()[0]))
        bad += [f"signal {number}: {name} differs" for name in whole if not np.array_equal(whole[name], again[name], equal_nan=True)]
        if list(results.glob("*/unfinished/*")):
            bad.append(f"signal {number}: the unfinished run is still there")
    return Tally("SIGTERM and Ctrl-C to an experiment", len(numbers), len(numbers) - len(bad), "exit 143 and 130", tuple(bad))


def wait_for(there: Callable[[], object], process: subprocess.Popen, seconds: float = 120) -> None:
    began = time.monotonic()
    while not there() and process.poll() is None and time.monotonic() - began < seconds:
        time.sleep(0.01)


def finished(process: subprocess.Popen) -> dict[str, np.ndarray]:
    """The arrays that a run recorded."""
    out, error = process.communicate(timeout=600)
    if process.returncode:
        raise AssertionError(f"exit {process.returncode}: {error}")
    with np.load(Path(out.splitlines()[-1]) / "history.npz") as file:
        return dict(file)


def command_lines(lines: list[str], folder: Path, capture: Callable[[], Any]) -> Tally:
    """Flags that cannot be: exit code 2, one paragraph, no traceback. `capture()` gives what was said since the last call."""
    bad = []
    for line in lines:
        try:
            arguments = ["--results", str(folder / "flags"), *shlex.split(line)]
            code = command.execute(vanishing_gradient.Config, vanishing_gradient.run, vanishing_gradient.plot, arguments)
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]
        except Exception as error:
            code = f"a raw {type(error).__name__}: {error}"  # type: ignore[assignment]
        if code != 2 or not capture():
            bad.append(f"{line}: {code}")
    return Tally("command lines that cannot be", len(lines), len(lines) - len(bad), "exit code 2, in words", tuple(bad))
