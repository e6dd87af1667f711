"""Checkpoints that prove their bits: the state, history and position of a run, with a sha256 of every block.

    <folder>/<step>/state/ history/    arrays, written by Orbax
    <folder>/<step>/manifest/          what they are: names, shapes, dtypes, blocks and their sha256, the run they belong to
    <folder>/set_aside/<step>/         what did not verify: nothing is deleted for being broken

Orbax writes a step whole or not at all, but reads flipped bits back without a word: 40 of 40 in a trial. So the digests are
taken of the arrays in memory, and compared with what comes back. A block is what one device held; a process of any later run
reads whole leaves, so any number of processes and devices can verify what any other number has saved.
"""

import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn.devices import everywhere
from jaxnn.leaves import named, rebuilt
from jaxnn.manifest import (
    CheckpointError,
    Damaged,
    described,
    difference,
    first_line,
    is_finite,
    manifest_of,
    scores_of,
    scores_of_one_goal,
    sealed,
    sha256,
    steps,
)
from jaxnn.types import InputError, PyTree, unknown

SHARE = 0.05
"""Of the time that saving may take where `every` is left to the loop."""
LEAST_SECONDS = 30.0
"""Between two checkpoints where `every` is left to the loop."""
SET_ASIDE = "set_aside"


class CheckpointWarning(UserWarning):
    """A checkpoint was skipped or could not be written; the run goes on."""


class Goal(NamedTuple):
    """What makes a state better than another: an evaluation's metric."""

    metric: str
    higher_is_better: bool = True

    def score(self, evaluation: Mapping[str, Any]) -> float:
        """The metric, the higher the better; in a sweep the median over its members, of which one that is not finite is the worst.

        >>> Goal("loss", higher_is_better=False).score({"loss": 0.25})
        -0.25
        """
        if self.metric not in evaluation:
            raise unknown("metric of the evaluation", self.metric, evaluation)
        values = np.asarray(evaluation[self.metric], float)
        ranked = np.where(np.isfinite(values), values if self.higher_is_better else -values, -np.inf)
        return float(np.median(ranked))


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often `fit`, `fit_stream` and `sweep` save. The same call goes on from what it finds there."""

    folder: Path | str
    every: float | int | None = None
    """Seconds between two checkpoints; 0 saves after every compiled chunk. None: 30, and more where saving takes over 5 % of the time."""
    keep: int = 2
    """The newest so many; the newest that is finite and the best one stay beside them."""
    best: Goal | None = None
    """Also save whenever an evaluation is better than all before, and keep that one."""
    at_end: bool = True
    """Also save the last step."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What else makes this run what it is, as JSON knows it: the learning rate, the net. Another config is refused."""

    def __post_init__(self) -> None:
        if self.every is not None and not 0 <= self.every < float("inf"):
            raise InputError(f"every must be None or seconds from 0, got {self.every}")
        if self.keep < 1:
            raise InputError(f"keep must be at least 1, got {self.keep}")
        try:
            json.dumps(dict(self.config))
        except (TypeError, ValueError) as error:
            raise InputError(f"config must hold what JSON knows, Python's own numbers and texts: {first_line(error)}") from error

    def inside(self, name: str) -> "Checkpoints":
        """The same for a part of the run, in a folder of its own."""
        return Checkpoints(Path(self.folder) / name, self.every, self.keep, self.best, self.at_end, self.config)


class Saved(NamedTuple):
    """A checkpoint read back and verified."""

    step: int
    state: Any
    history: dict[str, np.ndarray]
    position: Any
    """Of the data stream; None where the step says it all."""
    score: float | None
    """Of the evaluation at this step, by `Checkpoints.best`; the higher the better."""


def restore(folder: Path | str, like: PyTree, which: int | str = "newest") -> Saved:
    """One checkpoint of a run: of step `which`, the "newest" or the "best".

    `like` is the state wanted, as arrays or as shapes and dtypes: `jax.eval_shape(learner.init, key, batch)`. A shape with
    a sharding is placed by it. Raises `CheckpointError` where there is none, or where it does not verify: no other is taken for it.
    """
    found, folder = steps(folder), Path(folder).absolute()
    if which == "best":
        scores = scores_of_one_goal(folder)
        found = [max(scores, key=lambda step: scores[step])] if scores else []
    elif isinstance(which, int):
        found = [step for step in found if step == which]
    elif which != "newest":
        raise InputError(f"which must be a step, 'newest' or 'best', got {which!r}")
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint{'' if which == 'newest' else f' {which}'}; it holds {_listed(steps(folder))}")
    return _saved(folder / str(found[-1]), like)


class Store:
    """The checkpoints of one run, open for writing."""

    def __init__(self, checkpoints: Checkpoints, run: Mapping[str, Any]):
        """`run` says what the run is, as JSON knows it; a checkpoint of another is refused."""
        import orbax.checkpoint as ocp

        self.checkpoints, self.folder = checkpoints, Path(checkpoints.folder).absolute()
        self.run = json.loads(json.dumps({**run, "config": dict(checkpoints.config)}))
        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, cleanup_tmp_directories=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = locked(self.folder / ".lock") if jax.process_index() == 0 else None
            with _quiet():
                self.manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(
                f"checkpoints cannot be written to {checkpoints.folder}: {error.strerror}. Name another folder."
            ) from error
        self.goal = list(checkpoints.best) if checkpoints.best else None
        self.scores = {step: score if goal == self.goal else None for step, (score, goal) in scores_of(self.folder).items()}
        self.finite = {step for step in steps(self.folder) if is_finite(self.folder / str(step))}
        self.last_saved, self.cost = time.monotonic(), 0.0

    def close(self) -> None:
        """Give the folder free."""
        self.manager.close()
        if self.lock is not None:
            os.close(self.lock)

    def newest(self, like: PyTree) -> Saved | None:
        """The newest checkpoint that verifies, None where there is none at all.

        What is newer and does not verify is moved to `set_aside`, with a `CheckpointWarning` that says why. Raises
        `CheckpointError` where none verifies, and where it is that of another run.
        """
        reasons: dict[int, str] = {}
        for step in reversed(steps(self.folder)):
            try:
                saved: Saved | None = _saved(self.folder / str(step), like, self.run)
            except Damaged as error:
                saved, reasons[step] = None, str(error)
            if everywhere(saved is not None):
                self._set_aside(reasons, step)
                return saved
            reasons.setdefault(step, f"{self.folder / str(step)}: another process could not verify its part")
        if reasons:
            each = "\n".join(f"  {reason}" for reason in reasons.values())
            raise CheckpointError(f"no checkpoint in {self.checkpoints.folder} verifies:\n{each}\nMove the folder away to begin anew.")
        return None

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        every = self.checkpoints.every
        wait = max(LEAST_SECONDS, self.cost / SHARE) if every is None else every
        return time.monotonic() - self.last_saved >= wait

    def is_best(self, score: float) -> bool:
        """Whether no checkpoint has this score or a higher one."""
        return all(score > old for old in self.scores.values() if old is not None)

    def save(self, step: int, state: PyTree, history: Mapping[str, np.ndarray], position: Any = None, score: float | None = None) -> bool:
        """Write a checkpoint, then remove what need not be kept. Where it cannot be written, warn, keep the older ones and return False."""
        import orbax.checkpoint as ocp

        if step in self.scores:
            return True
        began = time.monotonic()
        arrays = named(state)
        content = {
            "step": step,
            "run": self.run,
            "position": position,
            "score": score,
            "goal": self.goal,
            "finite": _finite(arrays),
            "state": described(arrays),
            "history": described(history),
        }
        items = {name: ocp.args.PyTreeSave(_with_entries(leaves)) for name, leaves in (("state", arrays), ("history", history))}
        try:
            with _quiet():
                self.manager.save(step, args=ocp.args.Composite(**items, manifest=ocp.args.JsonSave(sealed(content))), force=True)
        except Exception as error:  # a full disk shows as an error of tensorstore, of Python or of Orbax
            self._clear_partial(step)
            self.last_saved = time.monotonic()
            stays = f"that of step {max(self.scores)} stays" if self.scores else "there is none before it"
            _warn(f"the checkpoint of step {step} could not be written to {self.checkpoints.folder}: {first_line(error)}; {stays}.")
            return False
        self.scores[step] = score
        self.finite |= {step} if content["finite"] else set()
        self._remove_old()
        self.last_saved = time.monotonic()
        self.cost = self.last_saved - began
        return True

    def _remove_old(self) -> None:
        for old in self.scores.keys() - self._kept():
            try:
                self.manager.delete(old)
            except OSError as error:
                _warn(f"the checkpoint of step {old} in {self.checkpoints.folder} cannot be removed: {first_line(error)}; it stays.")
            del self.scores[old]

    def _kept(self) -> set[int]:
        newest = set(sorted(self.scores)[-self.checkpoints.keep :])
        finite = {max(self.finite & self.scores.keys(), default=max(self.scores))}
        scored = {step: score for step, score in self.scores.items() if score is not None}
        return newest | finite | ({max(scored, key=lambda step: scored[step])} if scored else set())

    def _set_aside(self, reasons: Mapping[int, str], instead: int) -> None:
        for step, reason in reasons.items():
            if jax.process_index() == 0:
                _move_to_new_name(self.folder / str(step), self.folder / SET_ASIDE)
            self.scores.pop(step, None)
            _warn(f"{reason}. It was moved to {SET_ASIDE}/, and the run goes on from step {instead}.")
        if reasons:
            everywhere(True)  # no process goes on before they are moved
            self.manager.reload()

    def _clear_partial(self, step: int) -> None:
        """What a failed save left would fill the disk further."""
        import orbax.checkpoint as ocp

        with suppress(Exception):
            self.manager.close()
        for path in self.folder.glob(f"{step}.*"):
            shutil.rmtree(path, ignore_errors=True)
        self.manager = ocp.CheckpointManager(self.folder, options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False))


def _finite(arrays: Mapping[str, Any]) -> bool:
    """Whether no float of the blocks here is NaN or infinite."""
    parts = [shard.data for leaf in arrays.values() if isinstance(leaf, jax.Array) for shard in leaf.addressable_shards]
    parts += [leaf for leaf in arrays.values() if not isinstance(leaf, jax.Array)]
    floats = [np.asarray(part) for part in parts if jax.dtypes.issubdtype(part.dtype, np.inexact)]
    return everywhere(all(np.isfinite(part).all() for part in floats))


def _with_entries(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Orbax refuses arrays with no entries; their shapes in the manifest say all there is to say. It must hold something."""
    return {name: array for name, array in arrays.items() if np.prod(np.shape(array))} or {"nothing": np.zeros(1)}


def _saved(folder: Path, like: PyTree, run: Mapping[str, Any] | None = None) -> Saved:
    """One step, verified; of that run, if it is given."""
    content = manifest_of(folder)
    if run is not None and content["run"] != run:
        raise CheckpointError(f"{folder} is of another run:\n{difference(content['run'], run)}\nName another folder, or run what it is of.")
    state, history = (_verified(folder / item, content[item]) for item in ("state", "history"))
    return Saved(content["step"], rebuilt(like, state, folder), history, content["position"], content["score"])


def _verified(folder: Path, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of one item, each block with the sha256 that was saved. Raises `Damaged`."""
    arrays = _read(folder, [name for name, leaf in wanted.items() if np.prod(leaf["shape"])])
    for name, leaf in wanted.items():
        array = arrays.setdefault(name, np.zeros(leaf["shape"], jax.numpy.dtype(leaf["dtype"])))
        if list(array.shape) != leaf["shape"] or str(array.dtype) != leaf["dtype"]:
            raise Damaged(f"{folder}: {name} is {array.dtype}{array.shape}, saved was {leaf['dtype']}{tuple(leaf['shape'])}")
        for block in leaf["blocks"]:
            found = sha256(array[tuple(slice(*span) for span in block["at"])]).hex()
            if found != block["sha256"]:
                where = f" at {block['at']}" if len(leaf["blocks"]) > 1 else ""
                raise Damaged(f"{folder}: {name}{where} has the sha256 {found[:12]}…, saved was {block['sha256'][:12]}…")
    return {name: arrays[name] for name in wanted}


def _read(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Whole leaves as NumPy arrays, by this process alone.

    One after the other: where one of many that are under way is damaged, those beside it would complain to nobody.
    """
    import orbax.checkpoint as ocp

    if not folder.is_dir():
        raise Damaged(f"{folder} is missing")
    handler, arrays = ocp.PyTreeCheckpointHandler(), {}
    for name in names:
        wanted = ocp.args.PyTreeRestore({name: 0}, {name: ocp.RestoreArgs(restore_type=np.ndarray)}, partial_restore=True)
        try:
            with _quiet():
                arrays[name] = handler.restore(folder, args=wanted)[name]
        except Exception as error:  # Orbax and tensorstore answer a damaged file with whatever their parsers raise
            raise Damaged(f"{folder}: {name} cannot be read: {first_line(error)}") from error
        if not isinstance(arrays[name], np.ndarray):
            raise Damaged(f"{folder} does not hold {name}, which its manifest names")
    return arrays


def _listed(found: list[int]) -> str:
    return f"steps {', '.join(map(str, found))}" if found else "none"


def _move_to_new_name(path: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    number = next(n for n in range(1, 10_000) if not (folder / f"{path.name}-{n}").exists())
    os.rename(path, folder / f"{path.name}-{number}")


def locked(path: Path) -> int:
    """A file locked until it is closed or the process ends: nobody else writes beside it. Some file systems know no locks."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise CheckpointError(f"another process is writing to {path.parent}. Wait for it, or name another folder.") from error
    except (ImportError, OSError):
        pass
    return handle


@contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs what it cannot read, whole files of it; what it means for the run is said here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _warn(message: str) -> None:
    warnings.warn(message, CheckpointWarning, stacklevel=2)
