"""A run under way: the folder that keeps its finished parts and its checkpoints until it is recorded.

    results/<experiment>/unfinished/<20261122T044400Z>-<8 hex of the config>/
        run.json             command, config, and what else the numbers depend on: commit, versions, device
        checkpoints/<part>/  of each `fit`, `fit_stream` and `sweep`, as `jaxnn.checkpoint` writes them
        parts/<part>.npz     what a run measured by other means

`kill -9` at any moment loses no more than the time since the last checkpoint.
"""

import json
import os
import re
import shutil
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn import record
from jaxnn.checkpoint import Checkpoints, CheckpointWarning, locked
from jaxnn.manifest import CheckpointError, difference, first_line, sealed, unsealed
from jaxnn.types import InputError

RUN = "run.json"
OF = "made of"
"""Beside the arrays of a part: what they were made of, as JSON."""


class Keep(NamedTuple):
    """What `run(config, keep)` keeps of its work as it goes."""

    folder: Path | None = None
    """None keeps nothing."""
    every: float | int | None = None
    """Seconds between two checkpoints, as `Checkpoints` has it."""

    def checkpoint(self, part: str) -> Checkpoints | None:
        """What a `fit`, `fit_stream` or `sweep` takes as `checkpoint`; every one of a run under a name of its own."""
        return None if self.folder is None else Checkpoints(self.folder / "checkpoints" / _file_name(part), self.every)

    def part(self, part: str, make: Callable[[], Mapping[str, Any]], of: Mapping[str, str] = {}) -> Mapping[str, np.ndarray]:
        """The named arrays that `make` gives: those that are kept from before, else made now and kept.

        `of` is what they were made of beside the config, the sha256 of their data. Raises `InputError` where those that are kept
        were made of something else. Several processes make them each time: they must all do the same.
        """
        if self.folder is None or jax.process_count() > 1:
            return {name: np.asarray(values) for name, values in make().items()}
        path = self.folder / "parts" / f"{_file_name(part)}.npz"
        if path.exists():
            try:
                return self._of_the_same(part, record.read_arrays(path), of)
            except CheckpointError:
                raise
            except (InputError, OSError) as error:
                warnings.warn(f"the part {part} of {self.folder} is made again: {first_line(error)}", CheckpointWarning, stacklevel=2)
        made = {name: np.asarray(values) for name, values in make().items()}
        try:
            path.parent.mkdir(exist_ok=True)
            record.write_bytes(path, record.npz_bytes({**made, OF: np.array(json.dumps(dict(of)))}))
        except OSError as error:
            message = f"the part {part} could not be written to {self.folder}: {first_line(error)}; the run goes on without it there"
            warnings.warn(message, CheckpointWarning, stacklevel=2)
        return made

    def _of_the_same(self, part: str, kept: dict[str, np.ndarray], of: Mapping[str, str]) -> dict[str, np.ndarray]:
        if changed := difference(json.loads(str(kept.pop(OF, "{}"))), of):
            message = f"the part {part} of {self.folder} was made of other data:\n{changed}"
            raise CheckpointError(f"{message}\nBring those back, or begin a new run.")
        return kept

    def forget(self, *parts: str) -> None:
        """Remove the checkpoints of these parts, whose results are kept in another."""
        for part in parts if self.folder else ():
            shutil.rmtree(self.folder / "checkpoints" / _file_name(part), ignore_errors=True)  # type: ignore[operator]

    @property
    def is_empty(self) -> bool:
        """Whether no part and no checkpoint is kept."""
        return self.folder is None or not [path for path in self.folder.rglob("*") if path.is_file() and path.name not in (RUN, ".lock")]


NOTHING = Keep()


def begin(results: Path, experiment: str, config: Mapping[str, Any], command: str, every: float | None) -> Keep:
    """A new folder for a run of this config."""
    parent, name = results / experiment / "unfinished", f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{record.config_digest(config)}"
    run = {"experiment": experiment, "command": command, "config": config, "environments": [record.environment()]}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = next(path for path in (parent / (f"{name}-{n}" if n else name) for n in range(1000)) if _made(path))
        _write(folder, run)
    except OSError as error:
        raise InputError(
            f"the run cannot be kept in {parent}: {error.strerror}. Make room, or name another folder, with --results."
        ) from error
    return Keep(folder, every)


def _made(folder: Path) -> bool:
    """Whether it was not there before; of two processes that begin in the same second, for one of them."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _write(folder: Path, run: Mapping[str, Any]) -> None:
    record.write_bytes(folder / RUN, json.dumps(sealed(run), indent=2).encode())


def go_on(folder: Path, every: float | None) -> Keep:
    """The folder of a run that goes on here; what changed since (commit, versions, device) is said, and noted in `run.json`."""
    run, now = read(folder), record.environment()
    changed = difference(run["environments"][-1], now)
    if changed:
        message = f"{folder} was begun under other circumstances; its numbers may differ from an unbroken run's:\n{changed}"
        warnings.warn(message, CheckpointWarning, stacklevel=2)
        run["environments"].append(now)
        _write(folder, run)
    return Keep(folder, every)


def read(folder: Path) -> dict[str, Any]:
    """What `run.json` says. Raises `InputError` where the folder is not that of an unfinished run."""
    try:
        run = unsealed(folder / RUN)
        return {name: run[name] for name in ("experiment", "command", "config", "environments")}
    except FileNotFoundError as error:
        there = "it is the record of a finished run" if (folder / "meta.json").exists() else "it has no run.json"
        raise InputError(f"--resume {folder}: not an unfinished run, {there}. They stand in results/<experiment>/unfinished/") from error
    except (CheckpointError, KeyError, TypeError) as error:
        raise InputError(f"--resume {folder}: its {RUN} is broken: {first_line(error)}. The checkpoints beside it may be whole") from error


def of_config(results: Path, experiment: str, config: Mapping[str, Any]) -> list[Path]:
    """The unfinished runs of this very config, the newest last."""
    pattern = f"*-{record.config_digest(config)}*"
    return [path for path in sorted((results / experiment / "unfinished").glob(pattern)) if _has_config(path, config)]


def _has_config(folder: Path, config: Mapping[str, Any]) -> bool:
    try:
        return read(folder)["config"] == config
    except InputError:
        return False


@contextmanager
def locked_for_this_process(keep: Keep) -> Iterator[None]:
    """No second process goes on with the same run."""
    if keep.folder is None:
        yield
        return
    handle = locked(keep.folder / ".lock")
    try:
        yield
    finally:
        os.close(handle)


def remove(keep: Keep) -> None:
    """The run is recorded, or there is nothing to keep of it."""
    if keep.folder is not None:
        (keep.folder / RUN).unlink(missing_ok=True)  # first: what is left of it if this is broken off is no unfinished run
        shutil.rmtree(keep.folder, ignore_errors=True)
        if keep.folder.parent.is_dir() and not any(keep.folder.parent.iterdir()):
            keep.folder.parent.rmdir()


def from_plain(config_class: type, plain: Mapping[str, Any], **given: Any) -> Any:
    """The dataclass that `record.plain` was given, from what it gave: its lists were tuples, its strings paths where a field may be one.

    `given` are fields that `plain` leaves out. Raises `InputError` for fields that are missing or unknown.
    """
    names, hints = {f.name for f in fields(config_class)} - set(given), typing.get_type_hints(config_class)
    if names != set(plain):
        unlike = ", ".join(sorted(names ^ set(plain)))
        raise InputError(f"the config of this run is another version's: it differs in the fields {unlike}")
    return config_class(**{name: _field(hints[name], plain[name]) for name in names}, **given)


def _field(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return from_plain(kind, value)
    if isinstance(value, list):
        return tuple(_field(None, item) for item in value)
    return Path(value) if isinstance(value, str) and Path in (kind, *typing.get_args(kind)) else value


def _file_name(part: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", part)
