"""Data sets as NumPy arrays, with where they came from. The only package that knows tfds, grain and IDX files.

`load("mnist")` looks in `$JAXNN_DATA/mnist/` (the four IDX files), the user's cache, Debian's standard folder and the folders of
prepared tfds sets, in this order. It downloads when asked to, never hangs, and never takes one data set for another:
a file that is there but broken is an error. `jaxnn.data.prepare` makes a set of your own files, `jaxnn.data.stream` reads a set
batch by batch.
"""

import os

import numpy as np

from jaxnn.data import idx, mnist_5k
from jaxnn.data.known import KNOWN, DataError, Dataset, Known, Reader, Source, canonical, digest
from jaxnn.data.locate import Place, names, places
from jaxnn.data.slices import parse
from jaxnn.types import unknown

__all__ = ["KNOWN", "DataError", "Dataset", "Known", "Source", "choose", "load", "opened"]


def load(name: str, split: str = "train", *, download: bool = False) -> Dataset:
    """The examples of `split` in the data set `name`, as stored, and their source.

    `name` is one of `KNOWN` or an alias, `"auto"` (see `choose`; with `download` it is mnist),
    or a set of your own: IDX files in `$JAXNN_DATA/<name>/`,
    a prepared tfds set in `$JAXNN_DATA/tfds/<name>/`. `split` is spelled as in tfds: `train`, `train[:1000]`, `train[10%:20%]`,
    `train+test`. `download=True` fetches the set if it is not there (cifar10 needs TensorFlow for that one step; see `jaxnn.data.fetch`).

    Raises InputError for an unknown name or split, DataError for a set that is missing or broken.
    """
    name = "mnist" if name == "auto" and download else choose(name)
    place, reader = opened(name, download=download)
    parts = [reader.rows(*rows) for rows in parse(name, split, reader.counts)]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in ("image", "label")}
    return Dataset(arrays, Source(place.kind, name, split, place.path, digest(arrays), len(arrays["label"])))


def choose(name: str) -> str:
    """The canonical name. `"auto"` means mnist if there are files of it, whole or broken, else mnist_5k.

    >>> choose("MNIST-5k")
    'mnist_5k'
    """
    if name == "auto":
        return "mnist" if any(places("mnist")) else "mnist_5k"
    name = canonical(name)
    if name not in KNOWN and not any(places(name)):
        raise unknown("data set", name, {*KNOWN, *names(), "auto"})
    return name


def opened(name: str, *, download: bool = False) -> tuple[Place, Reader]:
    """Where a data set lies, and its reader: the splits' counts, the classes, any rows. Raises as `load` does."""
    name = choose(name)
    if name == "mnist_5k":
        return mnist_5k.PLACE, mnist_5k.open_shipped()
    if download and not any(places(name)):
        from jaxnn.data.fetch import download as fetch

        fetch(name)
    for place in places(name):
        return place, _reader(name, place)
    raise DataError(_missing(name))


def _reader(name: str, place: Place) -> Reader:
    if place.kind != "tfds":
        return idx.open_folder(place.folder, KNOWN.get(name))
    from jaxnn.data import prepared

    return prepared.open_folder(place)


def _missing(name: str) -> str:
    """What to do about a data set that is not there."""
    root = os.environ.get("JAXNN_DATA")
    now = f"is {root}" + ("" if os.path.isdir(root) else ", which is not a folder") if root else "is not set"
    folder = f"$JAXNN_DATA/tfds/{name}/ (a set prepared as ArrayRecord)"
    if KNOWN[name].shape[2] == 1:
        folder = f"$JAXNN_DATA/{name}/ ({', '.join(idx.NAMES)}, each plain or .gz) or {folder}"
    debian = "install Debian's dataset-fashion-mnist; " if name == "fashion_mnist" else ""
    small = "; or take mnist_5k, 5,000 digits that need no files" if name == "mnist" else ""
    return (
        f"{name} is not on this machine. Put it into {folder}; JAXNN_DATA {now}. Or {debian}download it: download=True, --download{small}."
    )
