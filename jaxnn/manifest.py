"""What a checkpoint says of itself: names, shapes, dtypes and the sha256 of every block of its arrays, under a sha256 of its own."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnn.types import InputError

FORMAT = 1
"""Of the manifest."""


class CheckpointError(InputError):
    """A checkpoint cannot be used; the message names the file, what was found and what would be right."""


class Damaged(CheckpointError):
    """The checkpoint's bits are not those that were saved; an older one may do."""


def described(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Shape, dtype and the sha256 of every block of named arrays; a block is what one device holds, [start, stop] an axis."""
    blocks = {name: _blocks(array) for name, array in arrays.items()}
    digests = iter(_together([digest for parts in blocks.values() for digest in parts.values()]))
    return {
        name: {
            "shape": list(np.shape(array)),
            "dtype": str(array.dtype),
            "blocks": [{"at": [list(span) for span in at], "sha256": next(digests).hex()} for at in blocks[name]],
        }
        for name, array in arrays.items()
    }


def _blocks(array: Any) -> dict[tuple, bytes | None]:
    """The sha256 of each block by its place; None for one that another process holds. A copy on a second device is no second block."""
    if not isinstance(array, jax.Array):  # each process has one of its own, and the first one's is what Orbax writes
        return {tuple((0, n) for n in np.shape(array)): sha256(array) if jax.process_index() == 0 else None}
    places = array.sharding.devices_indices_map(array.shape).values()
    found: dict[tuple, bytes | None] = {place: None for place in sorted({_spans(at, array.shape) for at in places})}
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            found[_spans(shard.index, array.shape)] = sha256(shard.data)
    return found


def _spans(index: tuple[slice, ...], shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(at.indices(n)[:2] for at, n in zip(index, shape, strict=True))


def _together(digests: list[bytes | None]) -> list[bytes]:
    """Every block's digest, from the process that holds it."""
    mine = np.array([np.frombuffer(digest or bytes(32), np.uint8) for digest in digests], np.uint8).reshape(-1, 32)
    if jax.process_count() == 1 or not len(mine):
        return [row.tobytes() for row in mine]
    from jax.experimental import multihost_utils

    everyone = np.asarray(multihost_utils.process_allgather(mine))
    return [row.tobytes() for row in everyone.max(0)]


def sha256(array: Any) -> bytes:
    """Of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is written: the content, its format, and the sha256 of both as sorted JSON."""
    content = json.loads(json.dumps({"format": FORMAT, **content}))  # as it will be read: JSON makes texts of numbers that are names
    return {"sha256": _text_digest(content), "content": content}


def unsealed(path: Path) -> dict[str, Any]:
    """The content of a file that `sealed` gave. Raises `Damaged` where it is not what was written, `FileNotFoundError` for none."""
    try:
        sealed = json.loads(path.read_bytes())
        content, digest = sealed["content"], sealed["sha256"]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{path} is broken: {first_line(error)}") from error
    if _text_digest(content) != digest:
        raise Damaged(f"{path} is broken: its sha256 is {_text_digest(content)[:12]}…, saved was {str(digest)[:12]}…")
    return content


def _text_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of one step. Raises `Damaged`, and `CheckpointError` for one of a newer format."""
    path = folder / "manifest" / "metadata"
    try:
        content = unsealed(path)
    except FileNotFoundError as error:
        raise Damaged(f"{path} is missing") from error
    if content["format"] > FORMAT:
        raise CheckpointError(f"{folder} was written by a newer jaxnn: its format is {content['format']}, this one reads up to {FORMAT}")
    if str(content["step"]) != folder.name:
        raise Damaged(f"{folder} holds step {content['step']}: it was renamed")
    return content


def difference(saved: Mapping[str, Any], now: Mapping[str, Any], indent: str = "  ") -> str:
    """Two configs, only what differs, one line each.

    >>> print(difference({"lr": 0.1, "net": {"units": 30}}, {"lr": 0.1, "net": {"units": 40}}))
      net.units: saved 30, now 40
    """
    return "\n".join(f"{indent}{name}: saved {_shown(old)}, now {_shown(new)}" for name, old, new in _differing(saved, now))


def _differing(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*saved, *now]):
        old, new = saved.get(name, "nothing"), now.get(name, "nothing")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differing(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}", old, new


def _shown(value: Any) -> str:
    text = value if value == "nothing" else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def steps(folder: Path | str) -> list[int]:
    """The steps that have a checkpoint in `folder`, in order; whether they verify is not looked at."""
    return sorted(int(path.name) for path in Path(folder).glob("[0-9]*") if re.fullmatch(r"0|[1-9][0-9]*", path.name) and path.is_dir())


def scores_of(folder: Path) -> dict[int, tuple[float | None, Any]]:
    """The score of each step and the goal that it is by; None where it has none or cannot be read."""
    found: dict[int, tuple[float | None, Any]] = {}
    for step in steps(folder):
        found[step] = None, None
        with suppress(CheckpointError):
            content = manifest_of(folder / str(step))
            found[step] = content["score"], content.get("goal")
    return found


def scores_of_one_goal(folder: Path) -> dict[int, float]:
    """The scores by the goal of the newest step that has one: those of two goals do not compare."""
    scored = {step: (score, goal) for step, (score, goal) in scores_of(folder).items() if score is not None}
    newest = scored[max(scored)][1] if scored else None
    return {step: score for step, (score, goal) in scored.items() if goal == newest}


def is_finite(folder: Path) -> bool:
    """Whether a step's manifest says so; one that cannot be read says nothing."""
    try:
        return bool(manifest_of(folder)["finite"])
    except CheckpointError:
        return False
