"""Images and labels in an npz, read without ever unpickling: `image`, `label`, or `train_image`, `train_label`, `test_image`, ...

`image` is uint8 (N, H, W) or (N, H, W, C) with C 1 or 3, `label` whole numbers from 0 (N,), `classes`, if it is there, the names (K,).
"""

import io
import math
import re
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from jaxnn.data.archives import Tree, open_zip
from jaxnn.data.known import Arrays, DataError

KEY = re.compile(r"(?:(?P<split>[A-Za-z]\w*)_)?(?P<what>image|label)\.npy")
KEYS = "image and label, or train_image, train_label, test_image and so on, and perhaps classes"
MOST_CLASSES = 2**17
"""A label beyond this is a mistake."""


def read(path: Path) -> tuple[dict[str, Arrays], tuple[str, ...] | None]:
    """The arrays of each split, and the names of the classes, or None.

    Raises DataError for anything but arrays of these names, types and shapes that agree with each other.
    """
    with open_zip(path) as tree:
        found = {name: KEY.fullmatch(name) for name in tree.files if name != "classes.npy"}
        if not found or not all(found.values()):
            strange = ", ".join(sorted(name.removesuffix(".npy") for name, match in found.items() if not match)) or "nothing"
            raise DataError(f"{path.name}: holds {strange}; {KEYS} would be right")
        splits = dict.fromkeys((match["split"] or "train") for match in found.values() if match)
        names = _names(tree) if "classes.npy" in tree.files else None
        return {split: _split(tree, split, names) for split in splits}, names


def _split(tree: Tree, split: str, names: tuple[str, ...] | None) -> Arrays:
    plain = split == "train" and not {"train_image.npy", "train_label.npy"} & set(tree.files)
    if split == "train" and not plain and {"image.npy", "label.npy"} & set(tree.files):
        raise DataError(f"{tree.name}: holds image or label beside train_image or train_label; one name for the train split would be right")
    prefix = "" if plain else f"{split}_"
    image = _images(tree, f"{prefix}image")
    return {"image": image, "label": _labels(tree, f"{prefix}label", len(image), names)}


def _array(tree: Tree, key: str) -> np.ndarray:
    """One member, without numpy.load: that takes the header's word for the size, and makes room for it."""
    if f"{key}.npy" not in tree.files:
        raise DataError(f"{tree.name}: {key} is missing; {KEYS} would be right")
    data = io.BytesIO(tree.files[f"{key}.npy"]())
    try:
        shape, fortran, dtype = _header(data)
    except Exception as error:
        raise DataError(f"{tree.name}: {key} is no NumPy array ({str(error).splitlines()[0]}); save it again") from error
    if dtype.hasobject:
        raise DataError(f"{tree.name}: {key} holds Python objects, which are never loaded; numbers would be right")
    promised, held = math.prod(shape) * dtype.itemsize, len(data.getbuffer()) - data.tell()
    if promised != held or min(shape, default=1) < 0:
        raise DataError(f"{tree.name}: {key} promises {promised} bytes for the shape {shape}, holds {held}; save it again")
    flat = np.frombuffer(data.getbuffer(), dtype, offset=data.tell()) if held else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(data: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(data)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format {version[0]}.{version[1]}")
    return readers[version](data)


def _images(tree: Tree, key: str) -> np.ndarray:
    image = _array(tree, key)
    if image.dtype != np.uint8:
        nan = f", with {np.isnan(image).sum()} NaN" if image.dtype.kind in "fc" and np.isnan(image).any() else ""
        raise DataError(f"{tree.name}: {key} is {image.dtype}{nan}; uint8, 0 to 255, would be right")
    image = image[..., None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[3] not in (1, 3) or image.size == 0:
        raise DataError(f"{tree.name}: {key} has the shape {image.shape}; (N, H, W), (N, H, W, 1) or (N, H, W, 3) would be right")
    return image


def _labels(tree: Tree, key: str, count: int, names: tuple[str, ...] | None) -> np.ndarray:
    label, classes = _array(tree, key), len(names) if names else MOST_CLASSES
    if label.dtype.kind not in "iu" or label.ndim != 1:
        raise DataError(f"{tree.name}: {key} is {label.dtype} of the shape {label.shape}; whole numbers of the shape (N,) would be right")
    if len(label) != count:
        raise DataError(f"{tree.name}: {key} holds {len(label)} labels for {count} images; one an image would be right")
    if label.min() < 0 or label.max() >= classes:
        row = int(np.argmax((label < 0) | (label >= classes)))
        raise DataError(f"{tree.name}: {key} is {label[row]} in row {row}; 0 to {classes - 1} would be right")
    return label.astype(np.int32)


def _names(tree: Tree) -> tuple[str, ...]:
    names = _array(tree, "classes")
    if names.dtype.kind != "U" or names.ndim != 1 or not names.size:
        raise DataError(f"{tree.name}: classes is {names.dtype} of the shape {names.shape}; text of the shape (K,) would be right")
    return tuple(map(str, names))
