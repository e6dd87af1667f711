"""What `experiments.neocognitron_digits` shows its nets, and how their answers are judged."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnn.distortions import Ranges, distorted, moved
from jaxnn.types import Batch

SIDE = 16
"""Pixels of the input layer U_0, as in the paper."""
DRAWN = (
    "..###.. .#...#. #.....# #.....# #.....# #.....# #.....# .#...#. ..###..",
    "...#... ..##... .#.#... ...#... ...#... ...#... ...#... ...#... .#####.",
    "..###.. .#...#. ......# ......# .....#. ....#.. ..##... .#..... #######",
    ".####.. .....#. ......# .....#. ..###.. .....#. ......# .....#. .####..",
    "....#.. ...##.. ..#.#.. .#..#.. #...#.. ####### ....#.. ....#.. ....#..",
)
"""The digits 0 to 4 in thin strokes, in the manner of the paper's figure 6; drawn for this file."""
CORNER = (3, 4)
"""The row and the column where a drawn digit begins that stands in the middle."""
REACH = 3
"""So many pixels each way a drawn digit can move and stay inside."""
STRETCH = Ranges(shift=0.0)
"""Deformations of strength 1; another strength multiplies all of them."""
SILENT = -1
"""The class that a net names where no plane answers."""


class Patterns(NamedTuple):
    image: np.ndarray
    """(B, 16, 16, 1), uint8."""
    label: np.ndarray
    shift: np.ndarray
    """(B, 2), pixels down and to the right of the middle."""

    @property
    def batch(self) -> Batch:
        return {"image": jnp.asarray(self.image), "label": jnp.asarray(self.label, jnp.int32)}


def placed(labels: np.ndarray, shifts: np.ndarray) -> Patterns:
    """Drawn digits, moved by whole pixels."""
    drawn = [np.array([[c == "#" for c in row] for row in rows.split()]) for rows in DRAWN]
    images = np.zeros((len(labels), SIDE, SIDE, 1), np.uint8)
    for image, label, shift in zip(images, labels, shifts, strict=True):
        row, column = CORNER + shift
        height, width = drawn[label].shape
        image[row : row + height, column : column + width, 0] = 255 * drawn[label]
    return Patterns(images, labels, shifts)


def everywhere() -> Patterns:
    """Every drawn digit in each of its 49 places."""
    steps = np.arange(-REACH, REACH + 1)
    label, down, right = (a.ravel() for a in np.meshgrid(np.arange(len(DRAWN)), steps, steps, indexing="ij"))
    return placed(label, np.stack([down, right], -1))


def presented(key: Array, times: int, reach: int) -> Patterns:
    """Every drawn digit so many times, each time in a place up to `reach` pixels from the middle."""
    label = np.tile(np.arange(len(DRAWN)), times)
    return placed(label, np.asarray(jax.random.randint(key, (len(label), 2), -reach, reach + 1)))


def reduced(batch: Batch) -> Float[Array, "B 16 16 1"]:
    """Pixels from 0 … 255 to 0 … 1, on 16 × 16 of them."""
    image = batch["image"].astype(jnp.float32) / 255
    return jnp.clip(jax.image.resize(image, (len(image), SIDE, SIDE, image.shape[-1]), "linear"), 0, 1)


def shifted(image: Array, pixels: int) -> Array:
    """Images that went so many pixels to the right, up, to the left and down, in turn; grey values from 0 … 255."""
    turn = jnp.arange(len(image)) % 4
    right, up = (jnp.where(turn == way, pixels, jnp.where(turn == way + 2, -pixels, 0)).astype(jnp.float32) for way in (0, 1))
    one, none = jnp.ones(len(image)), jnp.zeros(len(image))
    return moved(image.astype(jnp.float32), right, up, one, one, none)


def deformed(key: Array, image: Array, strength: float) -> Array:
    """Images scaled, squeezed and sheared by random amounts, with `strength` times the usual ranges; grey values from 0 … 255."""
    return distorted(key, image.astype(jnp.float32), Ranges(*(strength * reach for reach in STRETCH)))


def names_of_planes(answers: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The class of every plane (K,): the one that most of the images have for which it is the strongest; `SILENT` for one that never is."""
    counts = np.zeros((answers.shape[1], classes), int)
    loud = answers.max(1) > 0
    np.add.at(counts, (answers.argmax(1)[loud], labels[loud]), 1)
    return np.where(counts.sum(1) > 0, counts.argmax(1), SILENT)


def named(names: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The class of the strongest plane of each image; `SILENT` where none answers."""
    return np.where(answers.max(1) > 0, names[answers.argmax(1)], SILENT)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1, and those of zeros."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def class_means(x: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The mean of each class's rows, each taken at length 1: the templates (classes, D)."""
    return np.stack([unit(x)[labels == c].mean(0) for c in range(classes)])


def matched(templates: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Template matching: the class whose template has the largest cosine with x; `SILENT` for zeros."""
    return np.where(np.abs(x).max(1) > 0, (unit(x) @ unit(templates).T).argmax(1), SILENT)


def answering(responses: np.ndarray) -> np.ndarray:
    """Which planes (patterns, K) answer: their strongest of (patterns, size, size, K) cells says at least half of what the layer's does."""
    strongest = responses.max((1, 2))
    return strongest >= 0.5 * np.maximum(strongest.max(1, keepdims=True), 1e-12)
