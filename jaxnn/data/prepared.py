"""Data sets that tensorflow_datasets has prepared as ArrayRecord, read without TensorFlow.

tfds writes examples in an order of its own unless the set was made with `disable_shuffling=True`, as `jaxnn.data.prepare` does;
only then are its rows, and so its sha256, those of the files it was made from.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxnn.data import sums
from jaxnn.data.images import Unfit, decode
from jaxnn.data.known import Arrays, DataError, Reader
from jaxnn.data.locate import Place

BLOCK = 1024
"""Rows fetched at once: what is encoded need not lie in memory all together."""


class Opened(NamedTuple):
    """A run of rows of one split, in files that are open."""

    where: str
    records: Any
    start: int
    shape: tuple[int, ...]
    classes: int | None


def open_folder(place: Place) -> Reader:
    """A reader of one prepared version, which must have the features `image` (Image, uint8) and `label` (ClassLabel)."""
    import tensorflow_datasets as tfds

    sums.read(place)
    # tfds answers damaged metadata with whatever its parsers raise: JSON, protobuf and key errors among others.
    try:
        builder = tfds.builder_from_directory(place.folder)
        features = dict(builder.info.features.items())
        counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    except Exception as error:
        raise DataError(f"{place.path}: cannot be opened ({_line(error)}); prepare it again, as ArrayRecord") from error
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise DataError(f"{place.path}: has features {kinds}; image (Image) and label (ClassLabel) are needed")
    opened = partial(_opened, place, builder, label.num_classes)
    return Reader(counts, label.num_classes, partial(_rows, opened), lambda *rows: partial(_gathered, opened(*rows)))


def _opened(place: Place, builder: Any, classes: int | None, split: str, start: int, stop: int) -> Opened:
    import tensorflow_datasets as tfds

    where = f"{place.path}: {split}"
    try:
        instruction = tfds.core.ReadInstruction(split, from_=start, to=stop, unit="abs")
        records = builder.as_data_source(split=instruction).data_source
    except Exception as error:
        raise _unread(where, error) from error
    shape = _decoded(f"{where} row {start}", _fetched(Opened(where, records, start, (), classes), np.array([0]))[0])[0].shape
    return Opened(where, records, start, shape, classes)


def _rows(opened: Any, split: str, start: int, stop: int) -> Arrays:
    rows = opened(split, start, stop)
    out = {"image": np.empty((stop - start, *rows.shape), np.uint8), "label": np.empty(stop - start, np.int32)}
    for first in range(0, stop - start, BLOCK):
        part = slice(first, min(first + BLOCK, stop - start))
        for key, array in _gathered(rows, np.arange(stop - start)[part]).items():
            out[key][part] = array
    return out


def _gathered(rows: Opened, numbers: np.ndarray) -> Arrays:
    """The rows of these numbers, counted from the first of the run, decoded and checked."""
    image, label = np.empty((len(numbers), *rows.shape), np.uint8), np.empty(len(numbers), np.int32)
    for i, record in enumerate(_fetched(rows, numbers)):
        row = rows.start + int(numbers[i])
        pixels, label[i] = _decoded(f"{rows.where} row {row}", record)
        if pixels.shape != rows.shape:
            raise DataError(f"{rows.where} image {row} is {pixels.shape}, image {rows.start} {rows.shape}; all must be of one shape")
        if rows.classes is not None and not 0 <= label[i] < rows.classes:
            raise DataError(f"{rows.where} label {label[i]} in row {row}; labels must be 0 to {rows.classes - 1}")
        image[i] = pixels
    return {"image": image, "label": label}


def _fetched(rows: Opened, numbers: np.ndarray) -> Sequence[bytes]:
    """The records as they are stored; a damaged one is looked for again, to name it."""
    try:
        return rows.records.__getitems__(numbers.tolist())
    # A damaged shard shows as an exception of array_record, of whichever type.
    except Exception as error:
        for i in range(len(numbers) if len(numbers) > 1 else 0):
            _fetched(rows, numbers[i : i + 1])
        raise _unread(f"{rows.where} row {rows.start + int(numbers[0])}", error) from error


def _decoded(where: str, record: bytes) -> tuple[np.ndarray, int]:
    """tfds would decode through OpenCV where that is installed; Pillow gives every machine the same pixels."""
    from tensorflow_datasets.proto import tf_example_pb2

    # What array_record does not find in a file that is cut short, it leaves empty.
    if not record:
        raise _unread(where, EOFError("its file ends before it"))
    try:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        return decode(feature["image"].bytes_list.value[0]), feature["label"].int64_list.value[0]
    except Unfit as error:
        raise DataError(f"{where} {error}") from error
    except Exception as error:
        raise _unread(where, error) from error


def _unread(where: str, error: Exception) -> DataError:
    return DataError(f"{where} cannot be read ({_line(error)}); prepare it again, as ArrayRecord")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
