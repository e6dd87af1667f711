"""Five ways to pool a map, and how the error goes back through each: for the maximum to its arg max alone, for the mean a part to each.

With s the slope of a pooled value y by an entry x of its window of n, the error δ of y gives x the error sδ, added up over the windows
that x lies in:

    max: 1 for the first of the largest, else 0      mean: 1/n      √(mean of x²): x/(ny)      Σx²/Σx: (2x - y)/Σx

written out window by window and held against `jax.grad`. An activation f may follow the pooling in place of the layer below where
f(pool(z)) = pool(f(z)): for max pooling and an f that never falls, and not for the mean.

Source: lecture rows 91-93 (S0:261, S3:588-613, S4:557-566, S4:682, S4:713-715). The 4×4 slice is that of Stanford's CS231n.

Command: python -m experiments.pooling_kinds        (10 s)
Expected: max pooling makes [6 8; 3 4] of the slice; ReLU before and after it differ by 0, before and after mean pooling by .2 of the
standard deviation of z.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.activations import ACTIVATIONS
from jaxnn.models.pooling import max_pool, mean_pool, mean_square_pool, normalised_pool
from jaxnn.record import Record, compare


@dataclass(frozen=True)
class Config:
    windows: int = 10_000
    """Windows of normally distributed z, over which activations before and after pooling are compared."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, windows=self.windows)


SLICE = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
"""The single depth slice of S3:604."""
TIES = np.array([[1, 1, 2, 2], [1, 1, 2, 0], [3, 0, 4, 4], [0, 3, 0, 4]], np.float32)
"""A slice in which every window has more than one maximum."""
FUNCTIONS = ("relu", "sigmoid", "tanh", "elu", "gaussian")
"""All but the last never fall."""


class Kind(NamedTuple):
    """A way to pool 2×2 windows."""

    pool: Callable
    slope: Callable[[np.ndarray], np.ndarray]
    """∂y/∂x of every entry of a window, by hand."""
    stride: int = 2


def first_of_the_largest(window: np.ndarray) -> np.ndarray:
    return (np.arange(window.size) == np.argmax(window)).reshape(window.shape)


KINDS = {
    "max": Kind(max_pool, first_of_the_largest),
    "max, overlapping": Kind(partial(max_pool, stride=1), first_of_the_largest, 1),
    "mean": Kind(mean_pool, lambda window: np.full(window.shape, 1 / window.size)),
    "mean square": Kind(mean_square_pool, lambda window: window / window.size / np.sqrt(np.square(window).mean())),
    "normalised": Kind(normalised_pool, lambda window: (2 * window - np.sum(np.square(window)) / np.sum(window)) / np.sum(window)),
}


def backward_by_hand(kind: Kind, x: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Σ δ ∂y/∂x over the 2×2 windows that an entry lies in; `deltas` holds one δ a window."""
    errors = np.zeros(x.shape)
    for (row, column), delta in np.ndenumerate(deltas):
        window = (slice(row * kind.stride, row * kind.stride + 2), slice(column * kind.stride, column * kind.stride + 2))
        errors[window] += delta * kind.slope(x[window].astype(float))
    return errors


def forward_and_backward(kind: Kind, x: np.ndarray, deltas: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pooled slice, the errors δ = 1, 2, … that come from above, and what jax makes of them below."""
    y, back = jax.vjp(kind.pool, jnp.asarray(x)[..., None])
    deltas = np.arange(1.0, y.size + 1).reshape(y.shape[:2]) if deltas is None else deltas
    (errors,) = back(jnp.asarray(deltas, y.dtype)[..., None])
    return np.asarray(y[..., 0]), deltas, np.asarray(errors[..., 0])


def gaps(windows: int) -> np.ndarray:
    """Mean |f(pool(z)) - pool(f(z))| for z ~ N(0, 1), (max and mean, functions)."""
    z = jax.random.normal(jax.random.key(0), (2, 2 * windows, 1))
    functions = [ACTIVATIONS[name] for name in FUNCTIONS]
    return np.array([[jnp.abs(f(pool(z)) - pool(f(z))).mean() for f in functions] for pool in (max_pool, mean_pool)])


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    history: dict[str, np.ndarray] = {}
    for of, x in {"slice": SLICE, "ties": TIES}.items():
        for name, kind in KINDS.items():
            pooled, deltas, errors = forward_and_backward(kind, x)
            history |= {f"{of}/pooled/{name}": pooled, f"{of}/delta/{name}": deltas, f"{of}/autodiff/{name}": errors}
            history[f"{of}/by_hand/{name}"] = backward_by_hand(kind, x, deltas)
    axes: dict[str, tuple[str, ...]] = {name: ("row", "column") for name in history}
    history["gap"] = gaps(config.windows)
    compared = [
        compare(f"row 93: {f} after {pool} pooling against before: mean |difference|", [history["gap"][row, column]])
        for row, pool in enumerate(("max", "mean"))
        for column, f in enumerate(FUNCTIONS)
    ]
    return command.Outcome(history, {**axes, "gap": ("pooling", "function")}, compared)


def plot(record: Record) -> Mapping[str, Figure]:
    """Forward and backward through every kind; the activation before or after."""
    return {
        "backward": _draw_backward(record, "slice", SLICE, "A 4×4 slice pooled by 2×2 windows, and errors δ = 1, 2, … on their way back"),
        "ties": _draw_backward(record, "ties", TIES, "The same with equal maxima: the first by rows gets the error"),
        "order": _draw_order(record),
    }


def _draw_backward(record: Record, of: str, x: np.ndarray, title: str) -> Figure:
    figure, axes = figures.panels(3, len(KINDS) + 1, title, size=(2.2, 2.3))
    figures.cells(axes[0, 0], x, "slice")
    for ax in axes[1:, 0]:
        ax.axis("off")
    for column, name in enumerate(KINDS, 1):
        pooled, deltas, errors = (record.history[f"{of}/{part}/{name}"] for part in ("pooled", "delta", "autodiff"))
        figures.cells(axes[0, column], pooled, name, float(x.max()), "{:.3g}")
        figures.cells(axes[1, column], deltas, "δ from above")
        figures.cells(axes[2, column], errors, "error below", float(max(deltas.max(), errors.max())), "{:.2g}")
    return figure


def _draw_order(record: Record) -> Figure:
    figure, axes = figures.panels(1, 1, "Activation before or after pooling: the same for the maximum, if f never falls", size=(7.0, 3.4))
    ax, places = axes[0, 0], np.arange(len(FUNCTIONS))
    for row, pool in enumerate(("max", "mean")):
        values = record.history["gap"][row]
        ax.bar(places + 0.4 * row, values, width=0.38, color=figures.COLOURS[row], label=f"{pool} pooling")
        for place, value in zip(places + 0.4 * row, values, strict=True):
            ax.text(place, value, "0" if value == 0 else f"{value:.2f}", ha="center", va="bottom", fontsize=9)
    ax.set_xticks(places + 0.2, [f"{name}\n(falls for z > 0)" if name == "gaussian" else name for name in FUNCTIONS])
    ax.set(ylabel="mean |f(pool(z)) - pool(f(z))|, z ~ N(0, 1)")
    ax.legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
