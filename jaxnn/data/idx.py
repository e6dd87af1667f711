"""IDX, the format of MNIST's four files: a header of big-endian integers, then the bytes. Read streaming, trusting nothing.

Magic 00 00 08 d (08: unsigned bytes, d: number of dimensions), then d sizes of four bytes each, then the payload.
Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from jaxnn.data.known import Arrays, DataError, Known, Reader

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = tuple(name for pair in FILES.values() for name in pair)
LARGEST = 2**30
"""No header may promise more bytes than this: a gzip bomb of 194 kB inflates to 200 MB."""
CHUNK = 2**20


def found(folder: Path) -> dict[str, Path]:
    """Those of the four files that are there, by their plain names; a plain file goes before its `.gz`."""
    pairs = ((name, path) for name in NAMES for path in (folder / f"{name}.gz", folder / name))
    return {name: path for name, path in pairs if path.is_file()}


def open_folder(folder: Path, known: Known | None) -> Reader:
    """A reader of the four files in `folder`. `known` gives the classes and the image shape to insist on.

    Raises DataError if one of the four is missing; each split's files are checked whole when its rows are fetched.
    """
    files = found(folder)
    missing = [name for name in NAMES if name not in files]
    if missing:
        raise DataError(f"{folder.name}/{missing[0]} is missing (plain or .gz); an IDX set has all four: {', '.join(NAMES)}")
    counts = {split: _header(files[images], 3)[0] for split, (images, _) in FILES.items()}
    return Reader(counts, known.classes if known else None, partial(_rows, files, known))


def _rows(files: dict[str, Path], known: Known | None, split: str, start: int, stop: int) -> Arrays:
    images, labels = (files[name] for name in FILES[split])
    arrays = read_pair(images, labels, known)
    return {name: array[start:stop] for name, array in arrays.items()}


def read_pair(images: Path, labels: Path, known: Known | None = None) -> Arrays:
    """The images (N, H, W, 1) uint8 and labels (N,) int32 of two files, each checked, and checked against each other."""
    image, label = read(images, 3)[..., None], read(labels, 1)
    if len(image) != len(label):
        raise DataError(f"{_where(images)} holds {len(image)} images, {labels.name} {len(label)} labels; the two must be of one split")
    if known and image.shape[1:] != known.shape:
        raise DataError(
            f"{_where(images)}: images of {image.shape[1]}x{image.shape[2]} pixels; {known.shape[0]}x{known.shape[1]} would be right"
        )
    if known and label.max() >= known.classes:
        row = int(np.argmax(label >= known.classes))
        raise DataError(f"{_where(labels)}: label {label[row]} in row {row}; labels must be 0 to {known.classes - 1}")
    return {"image": image, "label": label.astype(np.int32)}


def read(path: Path, dims: int) -> np.ndarray:
    """The uint8 array of `dims` dimensions in an IDX file, gzipped if its name ends in `.gz`.

    Raises DataError if the magic, the sizes, the length of the payload or the gzip checksum is wrong.
    Never inflates more than the header promises and one buffer.
    """
    with _opened(path) as stream:
        sizes = _sizes(path, stream, dims)
        array = np.empty(sizes, np.uint8)
        view = array.data.cast("B")
        held = _fill(stream, view)
        # The read past the end also makes gzip compare its checksum.
        if held < len(view) or stream.read(1):
            _wrong_length(path, sizes, held)
    return array


def _header(path: Path, dims: int) -> tuple[int, ...]:
    with _opened(path) as stream:
        return _sizes(path, stream, dims)


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{_where(path)}: cannot be read whole ({reason}); get the file again") from error


def _sizes(path: Path, stream: io.BufferedIOBase, dims: int) -> tuple[int, ...]:
    head = stream.read(4 + 4 * dims)
    if head[:2] == b"\x1f\x8b":
        raise DataError(f"{_where(path)}: is gzipped; its name must end in .gz")
    right = bytes((0, 0, 8, dims))
    if len(head) >= 4 and head[:4] != right:
        kind = f"magic {head[:4].hex(' ')}; unsigned bytes in {dims} dimension{'s' * (dims > 1)} have {right.hex(' ')}"
        raise DataError(f"{_where(path)}: {kind}. Is it the file that its name says?")
    if len(head) < 4 + 4 * dims:
        raise DataError(f"{_where(path)}: ends after {len(head)} bytes, inside its header of {4 + 4 * dims}; get the file again")
    sizes = struct.unpack(f">{dims}I", head[4:])
    if not 0 < math.prod(sizes) <= LARGEST:
        raise DataError(f"{_where(path)}: header promises {_sizes_text(sizes)} = {math.prod(sizes)} bytes; 1 to {LARGEST} would be right")
    return sizes


def _fill(stream: io.BufferedIOBase, view: memoryview) -> int:
    """Read until the view is full or the file ends; how many bytes that were."""
    held = 0
    # A gzip stream that breaks off is, like a clean one that is too short, a file that holds less than it promises.
    with suppress(EOFError):
        while got := stream.readinto(view[held : held + CHUNK]):
            held += got
    return held


def _wrong_length(path: Path, sizes: tuple[int, ...], held: int) -> NoReturn:
    what = "images" if len(sizes) == 3 else "labels"
    row = math.prod(sizes[1:])
    rest = f" and {held % row} bytes" if held % row else ""
    holds = f"file holds {held // row}{rest}" if held < math.prod(sizes) else "file holds more"
    raise DataError(f"{_where(path)}: header promises {sizes[0]} {what}, {holds}; get the file again")


def _sizes_text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _where(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
