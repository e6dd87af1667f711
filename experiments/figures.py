"""The look that the figures share."""

from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers: Okabe and Ito 2008, without the yellow that vanishes on white."""
INCHES_A_LETTER = 0.09
"""Of a title."""


def panels(rows: int, columns: int, title: str, size: tuple[float, float] = (3.8, 3.0), **shared: Any) -> tuple[Figure, np.ndarray]:
    """A figure of rows × columns axes, `size` inches each, without pyplot's global state."""
    width = max(5.0, size[0] * columns)
    figure = Figure(figsize=(width, size[1] * rows + 0.5), layout="constrained")
    figure.suptitle(fill(title, int(width / INCHES_A_LETTER)), fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=9)
    return figure, axes


def band(ax: Axes, x: Any, values: np.ndarray, colour: object, label: str) -> None:
    """The median over seeds as a line and the 5–95 % band; `values` (seeds, len(x)), one seed is a line alone."""
    bands(ax, x, list(values.T), colour, label)


def bands(ax: Axes, x: Any, values: list[np.ndarray], colour: object, label: str) -> None:
    """`band` for another number of seeds at each x; a single x is a mark with its range."""
    if not values:
        return
    low, median, high = np.transpose([np.quantile(column, [0.05, 0.5, 0.95]) for column in values])
    if len(values) == 1:
        ax.errorbar(x, median, [median - low, high - median], fmt="_", color=colour, capsize=6, label=label)
        return
    if max(map(len, values)) > 1:
        ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    ax.plot(x, median, color=colour, linewidth=1.4, label=label)


def note_diverged(ax: Axes, diverged_at: np.ndarray, colour: str) -> None:
    """How many members diverged, in a corner; nothing where none did. `diverged_at` is -1 for one that did not."""
    count = np.count_nonzero(diverged_at >= 0)
    if count:
        ax.text(0.02, 0.03, f"{count} of {diverged_at.size} diverged", transform=ax.transAxes, fontsize=9, color=colour)


def ordered(count: int, colours: Colormap | None = None) -> list:
    """`count` colours in an order that the eye sees: the named ones for few, a colour map for many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return list((colours or colormaps["viridis"])(np.linspace(0, 0.92, count)))


def signed() -> Colormap:
    """Blue above 0, orange below."""
    return LinearSegmentedColormap.from_list("signed", ["#d55e00", "#ffffff", "#0072b2"])


def cells(ax: Axes, values: np.ndarray, title: str, limit: float | None = None, form: str = "{:g}") -> None:
    """A small matrix as coloured cells with its numbers in them: blue above 0, orange below; `limit` is the darkest number."""
    limit = limit or float(np.abs(values).max()) or 1.0
    ax.imshow(values, cmap=signed(), vmin=-1.6 * limit, vmax=1.6 * limit)  # black numbers stay readable on the darkest
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, form.format(value), ha="center", va="center", fontsize=8)
    bare(ax, title)


def bare(ax: Axes, title: str) -> None:
    """An image without ticks and grid, in a thin frame."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color="0.6", linewidth=0.6)
    ax.set_title(title, fontsize=9)
