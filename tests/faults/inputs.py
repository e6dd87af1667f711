"""Malformed data files, configs and command lines: each gets an error in words, or is no harm."""

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments import command, unfinished, vanishing_gradient
from jaxnn import data, record
from jaxnn.data.prepare import prepare
from jaxnn.types import InputError
from tests.faults.harness import Tally, flip

Way = tuple[str, Callable[[bytes], bytes | None]]


def ways(content: bytes, count: int, rng: np.random.Generator) -> Iterator[Way]:
    """Ways to spoil a file's bytes."""
    fixed: list[Way] = [
        ("empty", lambda c: b""),
        ("gone", lambda c: None),
        ("one byte short", lambda c: c[:-1]),
        ("half", lambda c: c[: len(c) // 2]),
        ("twice", lambda c: c + c),
        ("text", lambda c: b"hello\n"),
        ("zeros", lambda c: bytes(len(c))),
        ("a pickle", lambda c: b"\x80\x04K\x01."),
    ]
    yield from fixed
    for _ in range(count - len(fixed)):
        bit = int(rng.integers(8 * len(content)))
        yield f"bit {bit}", lambda c, bit=bit: flip(c, bit)  # type: ignore[misc]


def spoiled(name: str, path: Path, read: Callable[[], Any], count: int, rng: np.random.Generator) -> Tally:
    """Read after each way to spoil the file: an `InputError`, or what the whole file gives."""
    whole, bad, refused = path.read_bytes(), [], 0
    expected = fingerprint(read())
    for what, change in ways(whole, count, rng):
        content = change(whole)
        path.unlink() if content is None else path.write_bytes(content)
        try:
            if fingerprint(read()) != expected:
                bad.append(f"{path.name}, {what}: other values, silently")
        except InputError as error:
            refused += 1
            if not any(part in str(error) for part in path.parts[-3:]):
                bad.append(f"{path.name}, {what}: the error names neither file nor folder: {error}")
        except Exception as error:
            bad.append(f"{path.name}, {what}: a raw {type(error).__name__}: {error}")
        path.write_bytes(whole)
    return Tally(name, count, count - len(bad), f"{refused} refused, {count - refused - len(bad)} harmless", tuple(bad))


def fingerprint(value: Any) -> int:
    if isinstance(value, dict):
        return zlib.crc32(b"".join(str(name).encode() + np.ascontiguousarray(array).tobytes() for name, array in sorted(value.items())))
    return zlib.crc32(repr(value).encode())


def data_files(count: int, rng: np.random.Generator, folder: Path, environment: Any) -> Iterator[Tally]:
    """IDX files, gzipped as they are distributed: a plain IDX file has no checksum, so that only its header and length can show a fault."""
    import gzip

    environment["JAXNN_DATA"] = str(folder)
    home = folder / "own"
    home.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = rng.integers(0, 256, (30, 8, 8), dtype=np.uint8)
        labels = rng.integers(0, 10, 30).astype(np.uint8)
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (home / f"{prefix}-{kind}.gz").write_bytes(gzip.compress(header + array.tobytes(), mtime=0))
        del split
    for path in sorted(home.iterdir()):
        split = "train" if path.name.startswith("train") else "test"
        yield spoiled(f"IDX file {path.name}", path, lambda split=split: dict(data.load("own", split).arrays), count, rng)  # type: ignore[misc]


def prepared_files(count: int, rng: np.random.Generator, folder: Path, environment: Any) -> Iterator[Tally]:
    """An npz that a data set is prepared from, and every file of the set that was made of it."""
    environment["JAXNN_DATA"] = str(folder)
    folder.mkdir(parents=True)
    source = folder / "cells.npz"
    np.savez_compressed(source, image=rng.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8), label=np.arange(12) % 3)

    def prepared() -> dict[str, Any]:
        prepare("cells", source, folder / "tfds", overwrite=True)
        return dict(data.load("cells").arrays)

    yield spoiled("an npz to prepare", source, prepared, count, rng)
    prepared()
    for path in sorted(file for file in (folder / "tfds" / "cells").rglob("*") if file.is_file()):
        kind = "shard" if "array_record" in path.name else path.name
        yield spoiled(f"a prepared set's {kind}", path, lambda: dict(data.load("cells").arrays), count, rng)


def record_files(count: int, rng: np.random.Generator, folder: Path) -> Iterator[Tally]:
    """The files of a record."""
    kept = record.save_run(folder, "faults", {"rate": 0.1}, {"loss": np.arange(9.0)}, axes={"loss": ("step",)}, state={"w": np.arange(5.0)})
    like = {"w": np.zeros(5)}
    reads: dict[str, Callable[[], Any]] = {
        "history.npz": lambda: record.load_run(kept).history,
        "state.npz": lambda: record.load_run(kept).state(like),
    }
    for name, read in reads.items():
        yield spoiled(f"a record's {name}", kept / name, read, count, rng)


def configs(count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """`run.json` of an unfinished run, bit by bit: read as it was, or refused."""
    plain = command.plain(vanishing_gradient.Config())
    keep = unfinished.begin(folder, "vanishing_gradient", plain, "python -m experiments.vanishing_gradient", None)
    path = keep.folder / unfinished.RUN  # type: ignore[operator]
    whole, bad, refused = path.read_bytes(), [], 0
    assert unfinished.read(keep.folder)["config"] == plain  # type: ignore[arg-type]
    for what, change in ways(whole, count, rng):
        content = change(whole)
        path.unlink() if content is None else path.write_bytes(content)
        try:
            found = unfinished.read(keep.folder)["config"]  # type: ignore[arg-type]
            if found != plain:
                bad.append(f"{what}: {json.dumps(found)[:80]} was taken")
        except InputError:
            refused += 1
        except Exception as error:
            bad.append(f"{what}: a raw {type(error).__name__}: {error}")
        path.write_bytes(whole)
    return Tally(
        "run.json of an unfinished run", count, count - len(bad), f"{refused} refused, {count - refused - len(bad)} harmless", tuple(bad)
    )


FLAGS = [
    "--seeds 0",
    "--seeds -1",
    "--seeds x",
    "--epochs 0",
    "--epochs 1e9999",
    "--images 0",
    "--images 99999999",
    "--hidden-layers 0",
    "--hidden-layers",
    "--recipes nilsen",
    "--activations sigmod",
    "--data nowhere",
    "--data ../x",
    "--data ''",
    "--platform gpuu",
    "--results /dev/null/x",
    "--checkpoint-every -1",
    "--checkpoint-every nan",
    "--resume nowhere",
    "--resume /",
    "--learning-rate x",
    "--sedes 3",
    "seeds 3",
]
"""Command lines that must end with exit code 2 and a paragraph."""
