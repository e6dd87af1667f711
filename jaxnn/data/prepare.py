"""Your own files to a tfds data set in ArrayRecord, without TensorFlow: `load`, `stream` and every other tfds user read it.

Images become PNG; JPEG and PNG files stay the bytes that they are. Rows stay in the order of their source, so that `load` gives
the sha256 that the source has (`jaxnn.data.image_tree` says which order a tree of images has).
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxnn.data import origins, sums
from jaxnn.data.known import KNOWN, DataError, Known, canonical
from jaxnn.data.locate import places, tfds_roots
from jaxnn.data.origins import Origin, Row, Split
from jaxnn.progress import Show, progress
from jaxnn.types import InputError

NAME = re.compile(r"[a-z][a-z0-9_]*")
SPLIT = re.compile(r"(?!all$)[A-Za-z]\w*", re.ASCII)
VERSION = "1.0.0"
SHARD = 2**28
"""A file holds at most so many bytes of pixels; PNG and JPEG make a half to a tenth of it."""


class Prepared(NamedTuple):
    """What was made. `sha256` of each split is the one that `load` gives."""

    path: str
    counts: dict[str, int]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    sha256: dict[str, str]
    left_out: tuple[str, ...]
    seconds: float
    before: str | None
    """The place that `load` and `stream` take in its stead, if there is one."""


def prepare(name: str, source: Path, to: Path | None = None, *, overwrite: bool = False, label: str | None = None) -> Prepared:
    """Make the tfds set `name` of what lies at `source` (see `jaxnn.data.origins`).

    It is written to `to/name/1.0.0`; without `to`, where `load` looks for it: `$JAXNN_DATA/tfds`, else tfds's own folder.
    It appears there whole or not at all, and replaces what is there only if told to `overwrite`. `label` shows a progress bar.

    Raises InputError for a name that tfds or `load` would not take, DataError for a source that is not right throughout.
    """
    name, began = _checked_name(name), time.perf_counter()
    root, relative = (to, f"{to.name}/") if to else tfds_roots()[0]
    target = root / name / VERSION
    if target.exists() and not overwrite:
        raise DataError(f"{relative}{name}/{VERSION} is there already; pass overwrite=True, --overwrite, or take another name")
    known = KNOWN.get(name)
    with origins.opened(source, known) as origin, _beside(root, name) as folder, _quiet():
        _check(source.name, origin, known)
        shape, digests = _write(folder, name, origin, known, label)
        _put(folder, target, overwrite)
    first = next(places(name), None)
    before = first.path if first and not to and first.folder != target else None
    counts = {split: part.count for split, part in origin.splits.items()}
    seconds = time.perf_counter() - began
    return Prepared(f"{relative}{name}/{VERSION}", counts, origin.classes, shape, digests, origin.left_out, seconds, before)


def _checked_name(name: str) -> str:
    plain = canonical(name)
    if not NAME.fullmatch(plain) or plain in ("auto", "mnist_5k"):
        reason = "is taken" if plain in ("auto", "mnist_5k") else "is no name that tfds takes"
        raise InputError(f"{name!r} {reason}; small letters, digits and _, for example my_cells, would be right")
    return plain


def _check(name: str, origin: Origin, known: Known | None) -> None:
    if known and len(origin.classes) != known.classes:
        raise DataError(f"{name}: {len(origin.classes)} classes; {known.classes} would be right for a data set of this name")
    for split in origin.splits:
        if not SPLIT.fullmatch(split):
            raise DataError(f"{name}: {split!r} cannot name a split; letters, digits and _, such as train, would be right")
    seen: set[str] = set()
    for label in origin.classes:
        # tfds keeps the names as the lines of a text file, and strips them.
        if not label.isprintable() or label != label.strip() or not label or label in seen:
            raise DataError(f"{name}: {label!r} cannot name a class; names that differ, without blanks at the ends, would be right")
        seen.add(label)


@contextlib.contextmanager
def _beside(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `root`, for a set in the making; whatever happens, nothing of it stays."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as beside:
            folder = Path(beside) / VERSION
            folder.mkdir()
            yield folder
    except OSError as error:
        raise DataError(f"{error.filename or name}: cannot be written ({error.strerror or error}); nothing was prepared") from error


def _write(folder: Path, name: str, origin: Origin, known: Known | None, label: str | None) -> tuple[tuple[int, ...], dict[str, str]]:
    """All splits, tfds's metadata and our sums; the images' shape, and each split's sha256."""
    shape = next(next(iter(origin.splits.values())).rows()).image.shape
    if known and shape != known.shape:
        raise DataError(f"{name}: images of {_text(shape)}; {_text(known.shape)} would be right for a data set of this name")
    writer, digests, done = _writer(folder, name, origin, shape), dict[str, str](), 0
    with progress(label, sum(split.count for split in origin.splits.values()), unit="images") as show:
        for split, part in origin.splits.items():
            examples = _Examples(part, shape, show, done)
            _add(writer, split, examples)
            digests[split], done = examples.digest(), done + part.count
    sums.write(folder, digests)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return shape, digests


def _writer(folder: Path, name: str, origin: Origin, shape: tuple[int, ...]) -> Any:
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=list(origin.classes))}
    )
    identity = tfds.core.dataset_info.DatasetIdentity(name=name, version=tfds.core.Version(VERSION), data_dir=str(folder), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=features, disable_shuffling=True)
    most = max(1, SHARD // int(np.prod(shape)))
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=most, file_format="array_record")
    writer.initialize_splits(list(origin.splits))
    return writer


def _add(writer: Any, split: str, examples: "_Examples") -> None:
    try:
        writer.add_examples({split: iter(examples)})
        writer.close_splits([split])
    # array_record tells of a full disk as a RuntimeError, when it closes a file.
    except RuntimeError as error:
        raise DataError(f"{split} cannot be written ({str(error).split(';')[0]}); nothing was prepared") from error


class _Examples:
    """The rows of a split as tfds takes them, checked against the first image, counted, and summed up."""

    def __init__(self, split: Split, shape: tuple[int, ...], show: Show, done: int):
        self.split, self.shape, self.show, self.done = split, shape, show, done
        self.sha, self.labels = hashlib.sha256(), list[int]()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.split.rows():
            self._check(row)
            self.sha.update(np.ascontiguousarray(row.image).data)
            self.labels.append(row.label)
            yield {"image": row.encoded, "label": row.label}
            if len(self.labels) % 256 == 0:
                self.show(self.done + len(self.labels), {})

    def _check(self, row: Row) -> None:
        if row.image.shape != self.shape:
            raise DataError(f"{row.where} is {_text(row.image.shape)}, the first image {_text(self.shape)}; all must be of one shape")

    def digest(self) -> str:
        """As `jaxnn.data.known.digest` has it: all images, then all labels."""
        self.sha.update(np.asarray(self.labels, "<i4").data)
        return self.sha.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of images that `jaxnn.data.images` refuses anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _put(folder: Path, target: Path, overwrite: bool) -> None:
    """Give the finished folder its name; what stood there goes away with the hidden folder, or comes back."""
    target.parent.mkdir(exist_ok=True)
    old = folder.parent / "old"
    if overwrite and target.exists():
        os.rename(target, old)
    try:
        os.rename(folder, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
