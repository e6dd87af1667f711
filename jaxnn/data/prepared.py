"""Data sets that tensorflow_datasets has prepared as ArrayRecord, read without TensorFlow.

tfds writes examples in an order of its own unless the set was made with `disable_shuffling=True`; only then are its
rows, and so its sha256, those of the files it was made from.
"""

from functools import partial
from typing import Any

import numpy as np

from jaxnn.data.known import Arrays, DataError, Reader
from jaxnn.data.locate import Place


def open_folder(place: Place) -> Reader:
    """A reader of one prepared version, which must have the features `image` (Image) and `label` (ClassLabel)."""
    import tensorflow_datasets as tfds

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
    return Reader(counts, label.num_classes, partial(_rows, place, builder, label.num_classes))


def _rows(place: Place, builder: Any, classes: int | None, split: str, start: int, stop: int) -> Arrays:
    import tensorflow_datasets as tfds

    instruction = tfds.core.ReadInstruction(split, from_=start, to=stop, unit="abs")
    # A damaged shard shows as an exception of array_record, Pillow or tfds; all mean the same to the caller.
    try:
        source = builder.as_data_source(split=instruction)
        examples = [(example["image"], example["label"]) for example in source]
    except Exception as error:
        raise DataError(f"{place.path}: {split} cannot be read ({_line(error)}); prepare it again, as ArrayRecord") from error
    return _stacked(place, split, examples, classes)


def _stacked(place: Place, split: str, examples: list[tuple[Any, Any]], classes: int | None) -> Arrays:
    shape = np.shape(examples[0][0])
    for row, (image, label) in enumerate(examples):
        if np.shape(image) != shape or image.dtype != np.uint8:
            wrong = f"image {row} is {image.dtype} {np.shape(image)}, image 0 {shape}"
            raise DataError(f"{place.path}: {split} {wrong}; all must be uint8 and of one shape")
        if classes is not None and not 0 <= label < classes:
            raise DataError(f"{place.path}: {split} label {label} in row {row}; labels must be 0 to {classes - 1}")
    images, labels = zip(*examples, strict=True)
    return {"image": np.stack(images), "label": np.asarray(labels, np.int32)}


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
