"""How the maps of `experiments.som_digits` are drawn: every unit in its place, a square or a hexagon."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.record import Record

DIGITS = [*figures.COLOURS[:6], "#8c6d31", "#7a7a7a", "#4b0082", "#d4c400"]
"""A colour a digit."""
COMPONENTS = ((0.5, 0.5), (0.25, 0.5), (0.5, 0.3), (0.75, 0.5))
"""Pixels whose component planes are drawn, as shares of the image's height and width."""


def names(record: Record) -> list[str]:
    """The maps, such as `hexagonal, batch`."""
    return [key.removeprefix("codebook/") for key in record.history if key.startswith("codebook/")]


def positions(record: Record, name: str) -> np.ndarray:
    return record.history[f"positions/{name.split(',')[0]}"]


def outline(name: str) -> np.ndarray:
    """The corners of a unit around its middle, (corners, 2)."""
    corners, radius, turn = (6, 1 / math.sqrt(3), math.pi / 6) if name.startswith("hexagonal") else (4, math.sqrt(0.5), math.pi / 4)
    angles = turn + 2 * math.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], -1)


def paint(ax: Axes, record: Record, name: str, colours: np.ndarray) -> None:
    """Every unit in its colour, the first row on top."""
    middle = positions(record, name)
    ax.add_collection(PolyCollection(middle[:, None] + outline(name), facecolors=colours, edgecolors="white", linewidths=0.3))
    bare(ax, middle)


def bare(ax: Axes, middle: np.ndarray) -> None:
    """Room for all units, and nothing else."""
    low, high = middle.min(0) - 0.7, middle.max(0) + 0.7
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal", xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def draw_codebooks(record: Record) -> Figure:
    """Every unit's codebook vector as the image that it is."""
    height, width = record.meta["image"]
    figure, axes = figures.panels(1, 2, "What the units stand for, after the batch rule", size=(5.0, 5.0))
    shown = [name for name in names(record) if name.endswith("batch")]
    for ax, name in zip(axes.flat, shown, strict=True):
        middle = positions(record, name)
        for (x, y), vector in zip(middle, record.history[f"codebook/{name}"], strict=True):
            image = vector.reshape(height, width)
            ax.imshow(image, extent=(x - 0.43, x + 0.43, y + 0.43, y - 0.43), cmap="gray_r", vmin=0, vmax=1, zorder=2)
        bare(ax, middle)
        ax.set_title(name, fontsize=10)
    return figure


def draw_labels(record: Record) -> Figure:
    """The hit map: the label of most images that each unit won, the larger the more it won."""
    figure, axes = figures.panels(2, 2, "Which digits the units won; no label was seen in learning", size=(4.0, 4.0))
    for ax, name in zip(axes.flat, names(record), strict=True):
        counts, middle = record.history[f"hits/{name}"], positions(record, name)
        total, label = counts.sum(1), counts.argmax(1)
        share = counts.max(1) / np.maximum(total, 1)
        paint(
            ax,
            record,
            name,
            np.array([(*_rgb(DIGITS[k]), 0.25 + 0.6 * s) if n else (1, 1, 1, 1) for k, s, n in zip(label, share, total, strict=True)]),
        )
        for (x, y), digit, count in zip(middle, label, total, strict=True):
            if count:
                ax.text(x, y, str(digit), ha="center", va="center", fontsize=5 + 5 * math.sqrt(count / total.max()))
        ax.set_title(f"{name}: {np.count_nonzero(total == 0)} of {len(total)} units won nothing", fontsize=9)
    return figure


def _rgb(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def draw_u_matrices(record: Record) -> Figure:
    figure, axes = figures.panels(2, 2, "U-matrices: mean distance to the neighbours' codebook vectors", size=(4.0, 3.8))
    for ax, name in zip(axes.flat, names(record), strict=True):
        shade(figure, ax, record, name, record.history[f"u_matrix/{name}"].ravel(), "magma")
        ax.set_title(name, fontsize=10)
    return figure


def shade(figure: Figure, ax: Axes, record: Record, name: str, values: np.ndarray, colours: str) -> None:
    """A value a unit, with its scale."""
    scale = ScalarMappable(Normalize(values.min(), values.max()), colormaps[colours])
    paint(ax, record, name, scale.to_rgba(values))
    bar = figure.colorbar(scale, ax=ax, shrink=0.7)
    bar.ax.tick_params(labelsize=8)


def draw_components(record: Record) -> Figure:
    """Single pixels of the codebook over the map: where on it each is ink."""
    height, width = record.meta["image"]
    name = names(record)[-1]
    figure, axes = figures.panels(1, len(COMPONENTS), f"Component planes of four pixels, {name}", size=(3.2, 3.0))
    for ax, (down, right) in zip(axes.flat, COMPONENTS, strict=True):
        row, column = int(down * height), int(right * width)
        shade(figure, ax, record, name, record.history[f"codebook/{name}"][:, row * width + column], "viridis")
        ax.set_title(f"pixel in row {row}, column {column}", fontsize=9)
    return figure


def draw_training(record: Record) -> Figure:
    figure, axes = figures.panels(1, 2, "Errors on the training images, pass by pass", size=(4.6, 3.6))
    labels = {"quantization_error": "quantization error", "topographic_error": "topographic error"}
    for ax, (error, label) in zip(axes.flat, labels.items(), strict=True):
        for number, name in enumerate(names(record)):
            values = record.history[f"{error}/{name}"]
            ax.plot(values, "--" if name.endswith("online") else "-", color=figures.COLOURS[number // 2], linewidth=1.5, label=name)
        ax.set(xlabel="passes over the images", ylabel=label)
        ax.locator_params(axis="x", integer=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure
