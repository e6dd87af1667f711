"""How `experiments.tdnn_phonemes` draws its record."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from experiments.formants import FRAMES
from jaxnn.record import Record


def draw_errors(record: Record, conditions: Sequence[str]) -> Figure:
    """Error against the shift of the test tokens; the shifts that were learnt from are shaded."""
    widest = {conditions[0]: 0, conditions[1]: record.config["train_shift"]}
    seeds = record.config["seeds"]
    heading = "Generated /b, d, g/ shifted in their window: " + (f"{seeds} seeds, median and 5–95 %" if seeds > 1 else "one seed")
    figure, axes = figures.panels(1, 2, heading, size=(4.8, 3.6), sharey=True)
    for ax, condition in zip(axes.flat, conditions, strict=True):
        for name, colour in zip(record.meta["methods"], figures.COLOURS, strict=False):
            figures.band(
                ax,
                record.history["shift"],
                100 * record.history[f"error/{condition}/{name}"],
                colour,
                f"{name}: {int(record.history[f'parameters/{name}']):,} parameters",
            )
        ax.axvspan(-widest[condition] - 0.1, widest[condition] + 0.1, color="0.5", alpha=0.13, linewidth=0)
        ax.axhline(200 / 3, color="0.4", linewidth=0.8, linestyle=":")
        learnt = "in one place" if widest[condition] == 0 else f"at shifts up to {widest[condition]}"
        ax.set_title(f"trained on tokens {learnt}", fontsize=9)
        ax.set(xlabel="shift of the test tokens, frames of 10 ms", ylim=(0, 80))
    axes[0, 0].set(ylabel="test error, %")
    axes[0, 1].text(0, 200 / 3 + 1, "chance", ha="center", fontsize=8, color="0.4")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_inside(record: Record, at: Sequence[int], classes: Sequence[str]) -> Figure:
    """One token at several shifts: its channels, the hidden units and the squared output units over time, and their sums."""
    figure, axes = figures.panels(
        3, len(at), "What the net makes of one /d/, by where it stands; units from 0, dark, to 1", size=(3.4, 1.9), sharex=True
    )
    for column, shift in enumerate(at):
        squares = record.history["inside/2"][column] ** 2
        found = ", ".join(f"{name} {total:.1f}" for name, total in zip(classes, squares.sum(0), strict=True))
        over_time(axes[0, column], squares, 1.0, f"shift {shift:+d}: Σy² {found}".replace("+0", "0"))
        over_time(axes[1, column], record.history["inside/1"][column], 1.0, "")
        over_time(axes[2, column], record.history["inside/x"][column], None, "")
        axes[0, column].set_yticks(range(1, len(classes) + 1), classes)
        axes[2, column].set(xlabel="frame of 10 ms", xticks=(0, 5, 10))
    for row, label in enumerate(("output units, y²", "hidden units", "mel channels")):
        axes[row, 0].set(ylabel=label)
    return figure


def over_time(ax: Axes, values: np.ndarray, most: float | None, title: str) -> None:
    """Units, counted from 1, by frames, each above the middle of the frames that it sees."""
    frames, units = values.shape
    missing = (FRAMES - frames) / 2
    extent = (missing - 0.5, missing + frames - 0.5, 0.5, units + 0.5)
    ax.imshow(values.T, origin="lower", aspect="auto", cmap="viridis", extent=extent, vmin=0.0 if most else None, vmax=most)
    ax.set(xlim=(-0.5, FRAMES - 0.5))
    ax.grid(False)
    ax.set_title(title, fontsize=9)


def draw_delays(record: Record) -> Figure:
    """The weights of the first layer: what each hidden unit looks for in three frames."""
    weights = record.history["delays/weights"]
    frames, channels, units = weights.shape
    figure, axes = figures.panels(1, units, "What the hidden units look for: the weights of the first layer", size=(1.15, 3.2))
    limit = np.abs(weights).max()
    for unit, ax in enumerate(axes.flat):
        extent = (-0.5, frames - 0.5, 0.5, channels + 0.5)
        image = ax.imshow(
            weights[:, :, unit].T, origin="lower", aspect="auto", cmap=figures.signed(), extent=extent, vmin=-limit, vmax=limit
        )
        figures.bare(ax, f"unit {unit + 1}")
        ax.set(xticks=range(frames))
    axes[0, 0].set(ylabel="mel channel", yticks=(1, 6, 11, 16))
    figure.colorbar(image, ax=axes, label="weight", fraction=0.02)
    figure.supxlabel("delay, frames", fontsize=9)
    return figure


def draw_tokens(record: Record, classes: Sequence[str]) -> Figure:
    """Tokens of each class, in a row."""
    tokens = record.history["token/x"]
    rows, columns = len(classes), len(tokens) // len(classes)
    figure, axes = figures.panels(rows, columns, "Generated tokens: only the second formant tells the classes apart", size=(1.6, 1.5))
    for number, x in enumerate(tokens):
        ax = axes[number % rows, number // rows]
        ax.imshow(x.T, origin="lower", aspect="auto", cmap="viridis")
        figures.bare(ax, "")
    for ax, name in zip(axes[:, 0], classes, strict=True):
        ax.set_ylabel(name, rotation=0, labelpad=10, fontsize=11)
    figure.supxlabel("15 frames of 10 ms, by 16 mel channels", fontsize=9)
    return figure
