"""How `experiments.pooling_effect` draws its record."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.record import Record

LABELS = {"shift": "shift to the right, pixels", "rotation": "turn, degrees", "scale": "scale"}


def draw_parameters(record: Record) -> Figure:
    """Rows 162 and 164: the error on digits that were not seen, and on those that were, against what a net may choose."""
    images = record.config["images"]
    heading = f"What sharing and pooling buy: trained on {images:,} digits"
    figure, axes = figures.panels(1, 1, heading, size=(7.0, 4.2))
    ax = axes[0, 0]
    unmoved = np.flatnonzero(record.history["amount/shift"] == 0)[0]
    for name, colour in zip(record.config["nets"], figures.COLOURS, strict=False):
        count, error = int(record.history[f"parameters/{name}"]), 100 * record.history[f"error/shift/{name}"][:, unmoved]
        low, median, high = np.quantile(error, [0.05, 0.5, 0.95])
        place = count * {"strided": 0.9, "mean": 1.1}.get(name, 1.0)  # three nets have the same count
        ax.errorbar(place, median, [[median - low], [high - median]], fmt="o", color=colour, capsize=4, label=f"{name}: {count:,}")
        ax.plot(place, 100 * np.median(record.history[f"train_error/{name}"]), "x", color=colour)
    ax.plot([], [], "x", color="0.3", label="error on the training digits")
    ax.set(xscale="log", xlabel="parameters", ylabel="test error, %, median and 5–95 % of seeds", ylim=(-0.4, None))
    ax.legend(frameon=False, fontsize=9)
    return figure


def draw_errors(record: Record, nothing_done: Mapping[str, float]) -> Figure:
    """Erratum E49: the error under each distortion, beside that of a net without pooling; how far the hidden layer's answer moves."""
    nets = record.config["nets"]
    reference = "strided" if "strided" in nets else nets[0]
    figure, axes = figures.panels(3, 3, "Pooling against shifts, turns and scaling of test digits", size=(4.0, 2.9), sharey="row")
    for column, kind in enumerate(LABELS):
        amounts = record.history[f"amount/{kind}"]
        for name, colour in zip(nets, figures.COLOURS, strict=False):
            error = 100 * record.history[f"error/{kind}/{name}"]
            figures.band(axes[0, column], amounts, error, colour, name)
            axes[1, column].plot(
                amounts, np.median(error - 100 * record.history[f"error/{kind}/{reference}"], 0), color=colour, linewidth=1.4
            )
            figures.band(axes[2, column], amounts, record.history[f"moved/{kind}/{name}"], colour, name)
        for ax in axes[:, column]:
            ax.axvline(nothing_done[kind], color="0.7", linewidth=0.8)
        axes[2, column].set_xlabel(LABELS[kind])
    axes[0, 0].set_ylabel("test error, %")
    axes[1, 0].set_ylabel(f"error less that of {reference},\npoints, median of seeds")
    axes[2, 0].set_ylabel(r"$\|h(Tx)-h(x)\|\,/\,\|h(x)\|$")
    axes[0, 2].legend(frameon=False, fontsize=9, ncols=2, loc="upper center")
    return figure
