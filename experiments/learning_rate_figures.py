"""What `experiments.learning_rates` reads off a record, and how it draws it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from experiments import figures
from experiments.descent import best, rises
from jaxnn.record import Record

STYLES: dict[str, dict[str, Any]] = {
    "constant": {"color": "black"},
    "step_0.5": {"color": "#0072b2"},
    "step_0.2": {"color": "#0072b2", "linestyle": "--"},
    "step_0.1": {"color": "#0072b2", "linestyle": ":"},
    "exponential": {"color": "#e69f00"},
    "inverse_time": {"color": "#009e73"},
    "cosine": {"color": "#d55e00"},
    "warm_up_cosine": {"color": "#d55e00", "linestyle": "--"},
}
REGIMES = (
    ("it crawls, or arrives", 0, 1),
    ("it oscillates", 1, math.nextafter(2, 0)),
    ("it never arrives", math.nextafter(2, 0), math.inf),
)
"""Title, and the ηλ above the first and up to the second number."""
PRODUCTS = np.linspace(0.05, 2.4, 48)
"""ηλ whose speed on the quadratic is drawn."""


def chosen(names: Sequence[str], peaks: Sequence[float]) -> tuple[list[str], list[float]]:
    """The schedules in their order and the peaks from low to high, each once."""
    return list(dict.fromkeys(names)), sorted(set(peaks))


def closed_form(product: float, steps: int) -> np.ndarray:
    """(1 - ηλ)^t for t = 0 … steps, infinite where a float64 is too small for it."""
    with np.errstate(over="ignore"):
        return np.power(1 - product, np.arange(steps + 1))


def draw_quadratic(record: Record) -> Figure:
    """w_t with its closed form as dots, a panel for what it does; and how fast |w| changes in a step, against ηλ."""
    figure, axes = figures.panels(1, 4, "Gradient descent on ½λw²: lines measured, dots exact", size=(3.3, 3.4))
    descents = sorted(zip(record.config["products"], record.history["quadratic"], strict=True), key=lambda pair: pair[0])
    for ax, (word, low, high) in zip(axes[0], REGIMES, strict=False):
        inside = [(product, descent) for product, descent in descents if low < product <= high]
        for (product, descent), colour in zip(inside, figures.ordered(len(inside)), strict=True):
            exact = closed_form(product, len(descent) - 1)
            steps = np.flatnonzero(np.isfinite(descent) & np.isfinite(exact))  # float32 ends before the steps do
            ax.plot(steps, descent[steps], color=colour, linewidth=1.3, label=f"ηλ = {product:g}")
            ax.plot(steps, exact[steps], ".", color=colour, markersize=5)
        ax.set(xlabel="step t", ylabel="w")
        ax.set_title(word, fontsize=10)
        ax.locator_params(axis="x", integer=True)
        if inside:
            ax.legend(frameon=False, fontsize=8)
    draw_convergence(axes[0, -1], record.history["convergence"])
    return figure


def draw_convergence(ax: Axes, factors: np.ndarray) -> None:
    ax.plot(PRODUCTS[np.isfinite(factors)], factors[np.isfinite(factors)], color="black", linewidth=1.4, label="measured")
    ax.plot(PRODUCTS, np.abs(1 - PRODUCTS), ".", color=figures.COLOURS[1], markersize=5, label="|1 - ηλ|")
    ax.axhline(1, color="0.5", linewidth=0.8)
    ax.set(xlabel="ηλ", ylabel="factor of |w| in a step", ylim=(0, 1.45))
    ax.set_title("it converges below 1", fontsize=10)
    ax.legend(frameon=False, fontsize=8)


def draw_constant_rates(record: Record) -> Figure:
    """The loss by step; and against the rate the loss at the end, the share of steps that raise it, and ηλ_max before and after."""
    rates, history, steps = np.array(sorted(set(record.config["learning_rates"]))), record.history, record.config["steps"]
    heading = f"Full-batch descent of [784, 30, 10] on {record.config['images']:,} digits at constant learning rates"
    figure, axes = figures.panels(2, 2, heading, size=(4.8, 3.6))
    curves, last, rising, eigenvalues = axes.flat
    kept = history["diverged_at"] < 0
    for i, colour in enumerate(figures.ordered(len(rates))):
        if kept[:, i].any():
            losses = history["loss"][kept[:, i], i]
            curves.plot(np.median(losses, 0), color=colour, linewidth=1.2, label=f"η = {rates[i]:g}")
    blue, orange = figures.COLOURS[:2]
    draw_against(last, rates, history["loss"][..., -1], kept, blue, f"after {steps} steps")
    draw_against(rising, rates, rises(history["loss"]), kept, blue, f"of {steps} steps")
    draw_against(eigenvalues, rates, rates * history["sharpness"], kept, blue, f"after {steps} steps")
    draw_against(eigenvalues, rates, np.outer(history["sharpness_at_start"], rates), np.full(kept.shape, True), "0.5", "at the start")
    limits = np.quantile(2 / history["sharpness_at_start"], [0, 1])
    for ax, label in (
        (last, f"training loss after {steps} steps"),
        (rising, "share of steps that raise the loss"),
        (eigenvalues, "ηλ_max"),
    ):
        ax.axvspan(*limits, color=orange, alpha=0.3, linewidth=1, label="η = 2/λ_max at the start")
        ax.set(xscale="log", xlabel="learning rate η", ylabel=label)
    eigenvalues.axhline(2, color="black", linewidth=0.8, linestyle=":")
    curves.set(xlabel="step", ylabel="training loss")
    for ax in (curves, last, eigenvalues):
        plain(ax)
    eigenvalues.legend(frameon=False, fontsize=8)
    figures.note_diverged(last, history["diverged_at"], figures.COLOURS[1])
    if curves.lines:
        figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def draw_against(ax: Axes, rates: np.ndarray, values: np.ndarray, kept: np.ndarray, colour: str, label: str) -> None:
    """`values` (seeds, rates) of the members that did not diverge."""
    columns = {rate: column[alive & np.isfinite(column)] for rate, column, alive in zip(rates, values.T, kept.T, strict=True)}
    drawn = {rate: column for rate, column in columns.items() if len(column)}
    figures.bands(ax, list(drawn), list(drawn.values()), colour, label)


def plain(ax: Axes) -> None:
    """A logarithmic axis with numbers as they are read; a linear one where nothing above 0 is drawn."""
    if any((np.asarray(line.get_ydata(), float) > 0).any() for line in ax.lines):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())


def draw_decays(record: Record) -> Figure:
    """The schedules; the validation loss by step, each at its best peak; the validation loss at the end by peak. Medians over seeds."""
    history, (names, peaks) = record.history, chosen(record.config["schedules"], record.config["peaks"])
    figure, axes = figures.panels(1, 3, f"Decays of the learning rate, batch {record.config['batch_size']}", size=(4.2, 3.9))
    shapes, curves, last = axes[0]
    for i, name in enumerate(names):
        loss, lost = history["validation_loss"][:, i], history["decay_diverged_at"][:, i]
        at, kept = best(loss, lost), {j: loss[lost[:, j] < 0, j] for j in range(len(peaks)) if (lost[:, j] < 0).any()}
        shapes.plot(history["rate"][i], **STYLES[name], label=name)
        if at in kept:
            curves.plot(history["evaluated_at"][1:], np.median(kept[at], 0)[1:], **STYLES[name])
        last.plot([peaks[j] for j in kept], [np.median(values[:, -1]) for values in kept.values()], marker=".", **STYLES[name])
    shapes.set(xlabel="step", ylabel="η / peak", yscale="log")
    curves.set(xlabel="step", ylabel="validation loss at the best peak")
    last.set(xlabel="peak", ylabel="validation loss at the end", xscale="log")
    last.set_xticks(peaks, [f"{peak:g}" for peak in peaks])
    last.xaxis.set_minor_locator(NullLocator())
    plain(last)
    figures.note_diverged(last, history["decay_diverged_at"], figures.COLOURS[1])
    figure.legend(*shapes.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure
