"""Photographs of any size in folders, one a class, as batches of squares: cut out at random and turned over, or out of the centre.

    train/cat/1.jpg   train/cat/2.jpg   train/dog/1.jpg   …   val/cat/7.jpg   …

Nothing is prepared: threads read, decode and cut ahead while the device computes. What is drawn for an image hangs on the seed, the
epoch and the image alone, so a stream goes on bit for bit from any position, whatever the number of threads.

Grey images become three equal channels; palettes and CMYK are converted, transparency is dropped, as ImageNet's own files need it.
A camera's note on how to turn an image is not obeyed.

Source: `random_crops` is Szegedy et al. 2015, arXiv:1409.4842, section 6 (patches of 8 to 100 % of the area, 3/4 to 4/3 as wide as high);
turned over left to right: Krizhevsky, Sutskever, Hinton 2012, section 4.1; lecture rows 107 and 108. `centre_crops` is the usual single
view: the shorter side scaled to 256 of 224 pixels, and the centre taken.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxnn.data import archives
from jaxnn.data.image_tree import layout
from jaxnn.data.images import FORMATS, PIXELS, Unfit
from jaxnn.data.known import Arrays, DataError, Source
from jaxnn.data.stream import SEEDS, Recipe, Stream
from jaxnn.types import InputError

AREA = (0.08, 1.0)
"""Of a patch, as a share of the image's."""
ASPECT = (3 / 4, 4 / 3)
"""Width / height of a patch, even in its logarithm."""
TRIES = 10
"""Patches drawn until one fits into the image; then the largest in the centre is taken."""
CENTRE = 224 / 256
"""Side of the centre, as a share of the image's shorter side."""
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
"""What Pillow turns into 8-bit RGB without guessing a range."""
JUDGED = ("val", "validation", "valid", "test")
"""How the folder of the images that judge a net may be called; the first that is there counts."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""
View: TypeAlias = Callable[[int, int], tuple[Box, bool]]
"""`(width, height) -> (what is cut out, whether it is turned over)`."""


class ImageFolder(NamedTuple):
    """The images below one folder, each with the index of its class; rows go round the classes."""

    name: str
    """How messages call it."""
    files: tuple[Callable[[], bytes], ...]
    names: tuple[str, ...]
    """Below the folder: `cat/1.jpg`."""
    labels: np.ndarray
    classes: tuple[str, ...]
    sha256: str
    """Of all names and lengths: no image is read."""

    def source(self) -> Source:
        return Source("folder", self.name, self.name.rpartition("/")[2], self.name, self.sha256, len(self.files))


def open_pair(folder: Path) -> tuple[ImageFolder, ImageFolder]:
    """What is trained on, `folder/train`, and what judges: `folder/val`, or another name of JUDGED.

    Raises DataError where one is missing or not as `open_folder` wants it, for fewer than two classes, and for classes that differ.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found = [name for name in JUDGED if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not found:
        missing = "train/" if found else " and ".join((["train/"] if not (folder / "train").is_dir() else []) + ["val/"])
        raise DataError(f"{folder} holds no {missing}; train/class/image and val/class/image would be right")
    train, judged = (open_folder(folder / name, f"{folder.name}/{name}") for name in ("train", found[0]))
    if len(train.classes) < 2:
        raise DataError(f"{train.name} holds one class, {train.classes[0]!r}; a folder for each of two classes or more would be right")
    for one, other in ((train, judged), (judged, train)):
        if lacking := [name for name in other.classes if name not in one.classes]:
            raise DataError(f"{one.name} has no folder {lacking[0]!r}, as {other.name} has; both need the same classes")
    return train, judged


def open_folder(folder: Path, name: str | None = None) -> ImageFolder:
    """The images of `folder/class/image`, none of them read yet.

    Raises DataError for a folder that is not there or holds anything else, and for a class without images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    tree = archives.open_folder(folder)._replace(name=name or folder.name)
    found = layout(tree)
    if any(row.count("/") != 1 for rows in found.splits.values() for row, _ in rows):
        raise DataError(f"{tree.name}: images do not lie right below the folders of their classes; class/image would be right")
    rows = found.splits["train"]
    lengths = hashlib.sha256()
    for row, _ in rows:
        lengths.update(f"{row} {(folder / row).stat().st_size}\n".encode())
    names = tuple(row for row, _ in rows)
    labels = np.array([label for _, label in rows], np.int32)
    return ImageFolder(tree.name, tuple(tree.files[row] for row in names), names, labels, found.classes, lengths.hexdigest())


def random_crops(images: ImageFolder, *, size: int, batch_size: int, seed: int, epochs: int | None = None, threads: int = 2) -> Stream:
    """Batches of `size` × `size` patches, each drawn anew in every epoch and turned over half the time: `image` uint8, `label` int32.

    Each epoch holds every image once, in an order of its own; the rest of its last batch is dropped. Raises InputError for sizes and seeds
    that make no sense; DataError, when it comes to the image, for one that cannot be read.
    """
    _check(images, size, batch_size, threads)
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed is {seed}; one from 0 to {SEEDS - 1} would be right")
    if batch_size > len(images.files):
        raise InputError(f"{images.name} holds {len(images.files)} images, fewer than a batch of {batch_size}; take smaller batches")
    view = f"{size} pixels, at random: area {AREA}, aspect {ASPECT}"
    recipe = Recipe(images.sha256, len(images.files), batch_size, seed, epochs, True, view)
    return Stream(images.source(), recipe, partial(_random_batch, images, recipe, size), threads)


def centre_crops(images: ImageFolder, *, size: int, batch_size: int, threads: int = 2) -> Stream:
    """The centre of every image once, as `size` × `size` pixels, in the order of the rows; the last batch may be shorter."""
    _check(images, size, batch_size, threads)
    recipe = Recipe(images.sha256, len(images.files), batch_size, None, 1, False, f"{size} pixels, of the centre")
    return Stream(images.source(), recipe, partial(_centre_batch, images, recipe, size), threads)


def first_centres(images: ImageFolder, count: int, *, size: int) -> Arrays:
    """The centres of the first so many images, at most of all: as many of each class as there are, but for one."""
    _check(images, size, count, 0)
    return _cut_all(images, np.arange(min(count, len(images.files))), size, lambda row: centre_box)


def random_box(draw: np.random.Generator, width: int, height: int) -> tuple[Box, bool]:
    """A patch of an image of these sizes, in whole pixels, and whether to turn it over.

    Its area is even in AREA, the logarithm of its aspect in ASPECT, its place among those inside the image. Of TRIES that do not fit,
    as in an image far from square, the largest patch in the centre whose aspect is allowed takes the place.
    """
    area = draw.uniform(*AREA, TRIES) * width * height
    aspect = np.exp(draw.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), TRIES))
    wide, high = (np.rint(np.sqrt(side)).astype(int) for side in (area * aspect, area / aspect))
    place, turned = draw.random(2), bool(draw.random() < 0.5)
    fits = (wide >= 1) & (high >= 1) & (wide <= width) & (high <= height)
    if not fits.any():
        high_, wide_ = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
        return centred(width, height, wide_, high_), turned
    w, h = (float(side[fits.argmax()]) for side in (wide, high))
    left, top = (float(spare // 1) for spare in (place[0] * (width - w + 1), place[1] * (height - h + 1)))
    return (left, top, left + w, top + h), turned


def centre_box(width: int, height: int) -> tuple[Box, bool]:
    """The square in the centre whose side is CENTRE of the shorter side.

    >>> centre_box(512, 256)
    ((144.0, 16.0, 368.0, 240.0), False)
    """
    side = CENTRE * min(width, height)
    return centred(width, height, side, side), False


def centred(width: int, height: int, wide: float | int, high: float | int) -> Box:
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high


def cut(data: bytes, size: int, view: View) -> UInt8[np.ndarray, "size size 3"]:
    """What `view` chooses of an encoded image, scaled to `size` × `size`, each pixel the mean of those that it covers.

    A JPEG that is much larger is decoded at a half, a quarter or an eighth of its size, in a fraction of the time. Raises Unfit for bytes
    that are no whole image.
    """
    with _in_words():
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image)
    (left, top, right, bottom), turned = view(*image.size)
    with _in_words(), image:
        width, height = image.size
        image.draft("RGB", (math.ceil(width * size / (right - left)), math.ceil(height * size / (bottom - top))))
        across, down = image.width / width, image.height / height
        # Rounding must not carry an edge out of the image.
        box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
        array = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box))
    return array[:, ::-1] if turned else array


@contextmanager
def _in_words() -> Iterator[None]:
    # Pillow's readers raise anything from SyntaxError to struct.error at bytes that they do not expect.
    try:
        yield
    except Unfit:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unfit(f"cannot be decoded ({line}); get the file again, or take it out") from error


def _check_header(image: Any) -> None:
    if image.width * image.height > PIXELS:
        raise Unfit(f"is {image.height}x{image.width} pixels; {PIXELS} in all would be the most")
    if image.mode not in MODES:
        raise Unfit(f"is of mode {image.mode}; 8 bits a channel would be right")


def _random_batch(images: ImageFolder, recipe: Recipe, size: int, number: int) -> Arrays:
    epoch = number // recipe.batches_per_epoch()
    # The order of an epoch comes of [seed, epoch]: these are other streams.
    draws = lambda row: np.random.Generator(np.random.PCG64([recipe.seed or 0, epoch, row, 1]))  # noqa: E731
    return _cut_all(images, recipe.rows(number), size, lambda row: partial(random_box, draws(row)))


def _centre_batch(images: ImageFolder, recipe: Recipe, size: int, number: int) -> Arrays:
    return _cut_all(images, recipe.rows(number), size, lambda row: centre_box)


def _cut_all(images: ImageFolder, rows: np.ndarray, size: int, view_of: Callable[[int], View]) -> Arrays:
    out = np.empty((len(rows), size, size, 3), np.uint8)
    for i, row in enumerate(rows.tolist()):
        try:
            out[i] = cut(images.files[row](), size, view_of(row))
        except Unfit as error:
            raise DataError(f"{images.name}/{images.names[row]} {error}") from error
    return {"image": out, "label": images.labels[rows]}


def _check(images: ImageFolder, size: int, batch_size: int, threads: int) -> None:
    if min(size, batch_size) < 1 or threads < 0:
        raise InputError(f"{images.name}: size {size}, batch_size {batch_size}, threads {threads}: at least 1, 1 and 0 would be right")
