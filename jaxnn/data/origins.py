"""What a data set can be prepared from: four IDX files, a tree of images, a zip of either, an npz."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.data import archives, idx, images, npz
from jaxnn.data.archives import Tree
from jaxnn.data.image_tree import JUNK, in_order, layout
from jaxnn.data.known import Arrays, DataError, Known


class Row(NamedTuple):
    """One example, and how a message calls it."""

    where: str
    image: np.ndarray
    encoded: bytes
    label: int


class Split(NamedTuple):
    """How many rows, and a function that goes through them."""

    count: int  # type: ignore[assignment]  # the field is worth more than tuple.count
    rows: Callable[[], Iterator[Row]]


class Origin(NamedTuple):
    """Splits in their order, each with its rows in theirs; `left_out` are files that belong to none."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@contextmanager
def opened(path: Path, known: Known | None) -> Iterator[Origin]:
    """What lies at `path`. Raises DataError for anything else; `known` gives the image shape and the classes of IDX files."""
    if path.is_dir():
        yield _from_idx(path, known) if idx.found(path) else _from_images(archives.open_folder(path))
    elif not path.is_file():
        raise DataError(f"{path}: there is no such file or folder")
    elif path.suffix.lower() == ".npz":
        yield _from_arrays(path.name, *npz.read(path))
    elif path.suffix.lower() == ".zip":
        with archives.open_zip(path) as tree:
            packed = _packed_idx(tree)
            yield _from_packed(tree, packed, known) if packed else _from_images(tree)
    else:
        raise DataError(f"{path.name}: is neither a folder nor a .zip nor a .npz, one of which would be right")


def _from_idx(folder: Path, known: Known | None) -> Origin:
    reader = idx.open_folder(folder, known)
    arrays = {split: reader.rows(split, 0, count) for split, count in reader.counts.items()}
    return _from_arrays(folder.name, arrays, tuple(map(str, range(known.classes))) if known else None)


def _packed_idx(tree: Tree) -> dict[str, str]:
    """Members of a zip that are IDX files by their names: plain name -> member."""
    packed: dict[str, str] = {}
    for member in tree.files:
        name = member.rsplit("/", 1)[-1]
        if name.removesuffix(".gz") in idx.NAMES and not JUNK.search(member):
            if name in packed:
                raise DataError(f"{tree.name}: holds {packed[name]} and {member}; one of each would be right")
            packed[name] = member
    return packed


def _from_packed(tree: Tree, packed: dict[str, str], known: Known | None) -> Origin:
    """The IDX files alone are unpacked, under their plain names, for the reader that knows them."""
    with tempfile.TemporaryDirectory() as beside:
        folder = Path(beside) / tree.name
        folder.mkdir()
        for name, member in packed.items():
            (folder / name).write_bytes(tree.files[member]())
        return _from_idx(folder, known)


def _from_arrays(name: str, arrays: dict[str, Arrays], classes: tuple[str, ...] | None) -> Origin:
    """Rows stay in their order; without names the classes are 0 to the largest label."""
    most = max(int(part["label"].max()) for part in arrays.values())
    splits = {split: Split(len(part["label"]), partial(_array_rows, f"{name}: {split}", part)) for split, part in arrays.items()}
    return Origin({split: splits[split] for split in in_order(splits)}, classes or tuple(map(str, range(most + 1))))


def _array_rows(where: str, arrays: Arrays) -> Iterator[Row]:
    for row, (image, label) in enumerate(zip(arrays["image"], arrays["label"], strict=True)):
        yield Row(f"{where} row {row}", image, images.encode(image), int(label))


def _from_images(tree: Tree) -> Origin:
    splits, classes, left_out = layout(tree)
    return Origin({split: Split(len(rows), partial(_image_rows, tree, rows)) for split, rows in splits.items()}, classes, left_out)


def _image_rows(tree: Tree, rows: list[tuple[str, int]]) -> Iterator[Row]:
    for name, label in rows:
        where = f"{tree.name}/{name}"
        try:
            image, encoded = images.recode(tree.files[name]())
        except images.Unfit as error:
            raise DataError(f"{where} {error}") from error
        yield Row(where, image, encoded, label)
