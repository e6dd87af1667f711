"""The figures of `benchmarks.convolution`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import scales
from experiments import figures
from jaxnn.record import Record

MARKS = "sDo^"


def plot(record: Record) -> Mapping[str, Figure]:
    """Milliseconds of every layer, a panel a pass; and a step of LeNet-5 as a bar."""
    drawn_figures = {"layers": draw_layers(record)}
    if "profile/whole step" in record.history:
        drawn_figures["profile"] = draw_profile(record)
    return drawn_figures


def draw_layers(record: Record) -> Figure:
    """A row a layer, a mark a way: the median, and the range of repeats. Ringed: the way that `conv` takes."""
    names, taken, passes = [*dict.fromkeys(record.config["layers"])], record.meta["taken"], record.meta["passes"]
    title = f"Convolutions of {record.config['batch_size']} images inside a loop, {record.meta['backend']}"
    figure, axes = figures.panels(1, len(passes), title, (4.2, 1.4 + 0.5 * len(names)), sharey=True)
    found = [key.split("/")[1:] for key in record.history if key.startswith("ms/")]
    everyone = sorted({who for *_, who in found}, key=lambda who: (who == "torch", who))
    for ax, (kind, label) in zip(axes[0], passes.items(), strict=True):
        for name, of_kind, who in found:
            if of_kind == kind:
                column = everyone.index(who)
                row = names.index(name) + 0.17 * (column - (len(everyone) - 1) / 2)
                draw_mark(ax, record.history[f"ms/{name}/{kind}/{who}"], row, column, taken[name] == who)
        ax.set(xscale="log", xlabel="ms", yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        ax.set_yticklabels([f"{name}, {record.history[f'flops/{name}'] / 1e6:,.0f} MFLOP" for name in names])
        ax.set_title(label, fontsize=10)
        scales.plain(ax.xaxis)
    marks = [axes[0, 0].plot([], [], MARKS[n], color=figures.COLOURS[n], label=who)[0] for n, who in enumerate(everyone)]
    ring = axes[0, 0].plot([], [], "o", color="none", markeredgecolor="black", markersize=10, label="taken by jaxnn.models.conv")
    figure.legend(handles=marks + ring, loc="outside lower center", ncols=len(marks) + 1, frameon=False, fontsize=9)
    return figure


def draw_mark(ax: Axes, values: np.ndarray, row: float, column: int, taken: bool) -> None:
    colour = figures.COLOURS[column]
    ax.plot([values.min(), values.max()], [row, row], color=colour, linewidth=2.5, alpha=0.4)
    ax.plot(np.median(values), row, MARKS[column], color=colour, markersize=5.5)
    if taken:
        ax.plot(np.median(values), row, "o", color="none", markeredgecolor="black", markersize=10)


def draw_profile(record: Record) -> Figure:
    """The parts of a step one after the other, and a line where the whole step ends: before them where parts overlap."""
    parts = {key.removeprefix("profile/"): float(np.median(v)) for key, v in record.history.items() if key.startswith("profile/")}
    whole = parts.pop("whole step")
    title = f"A training step of LeNet-5, batch {record.config['batch_size']}, {record.meta['backend']}: {whole:.3g} ms"
    figure, axes = figures.panels(1, 1, title, (8.0, 1.9))
    draw_stack(axes[0, 0], parts)
    axes[0, 0].axvline(whole, color="black", linewidth=1.2, linestyle="--", label="the whole step")
    axes[0, 0].set(xlabel="ms", yticks=[], ylim=(-0.55, 0.55))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_stack(ax: Axes, parts: Mapping[str, float]) -> None:
    """Parts below 0 have no bar; their number is in the legend, as all have."""
    end = 0.0
    colours: Sequence[Any] = figures.ordered(len(parts))
    for (name, ms), colour in zip(parts.items(), colours, strict=True):
        ax.barh(0, max(ms, 0.0), left=end, color=colour, height=0.7, label=f"{name} {ms:.3g} ms")
        end += max(ms, 0.0)
