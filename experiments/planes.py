"""Two classes in the plane: a grid to ask a net on, the regions that it makes of it, and the points that it learnt from."""

import math

import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

from experiments.figures import COLOURS
from jaxnn.types import Batch

LIGHT = ("#e3eef7", "#fbe6d8")
"""Where the net says 0, and 1."""
SIDE = 121
"""Points of the grid along each axis."""


def x_and_target(batch: Batch) -> tuple[Array, Array]:
    """Points (B, 2), and the classes 0 and 1 as targets (B, 1) of one output."""
    return batch["x"], batch["label"][:, None]


def grid(low: float, high: float, side: int = SIDE) -> np.ndarray:
    """(side², 2), row after row from below."""
    line = np.linspace(low, high, side, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def shade(ax: Axes, values: np.ndarray, low: float, high: float) -> None:
    """The regions below 0 and from 0 on, of values (side²,) on `grid(low, high, side)`."""
    side = math.isqrt(len(values))
    line = np.linspace(low, high, side)
    values = np.asarray(values, float).reshape(side, side)
    ends = min(values.min(), -1) - 1, max(values.max(), 1) + 1
    ax.contourf(line, line, values, levels=[ends[0], 0, ends[1]], colors=LIGHT)
    if values.min() < 0 < values.max():
        ax.contour(line, line, values, levels=[0], colors=["0.25"], linewidths=1.0)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.grid(False)


def mark(ax: Axes, x: np.ndarray, label: np.ndarray, size: float = 14) -> None:
    """Points of class 0 as rings, of class 1 as discs."""
    for value, face in ((0, "white"), (1, COLOURS[1])):
        ax.scatter(x[label == value, 0], x[label == value, 1], s=size, facecolors=face, edgecolors=COLOURS[value], linewidths=1.0, zorder=3)
