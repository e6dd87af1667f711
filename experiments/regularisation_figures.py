"""How `experiments.regularisation` draws its record."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.record import Record

METHODS = {"l2": "L2", "l1": "L1, proximal step", "l1_gradient": "L1, gradient"}
"""What the methods are called."""
LINES = {"l2": ("#0072b2", "-"), "l1": ("#d55e00", "-"), "l1_gradient": ("#e69f00", "--")}


def grid(record: Record, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the strengths of a grid are drawn, 0 a step to the left of the others, and all of them in their order."""
    values = np.array([0.0, *sorted(set(record.config[name]))])
    drawn = values.copy()
    drawn[0] = values[1] / (values[2] / values[1] if len(values) > 2 else 3)
    return drawn, values


def strength_axis(ax: Axes, drawn: np.ndarray) -> None:
    """A logarithmic axis whose first mark is 0."""
    ax.set_xscale("log")
    powers = [10.0**p for p in range(-6, 3) if drawn[1] <= 1.001 * 10.0**p <= 1.01 * drawn[-1]] or [drawn[-1]]
    ax.set_xticks([drawn[0], *powers], ["0", *(f"{power:g}" for power in powers)])
    ax.minorticks_off()
    ax.set(xlabel="λ")


def draw_regression(record: Record) -> Figure:
    """Coefficients of seed 0 against λ, relevant ones in colour with their true values as marks; the error of fresh examples."""
    history, config = record.history, record.config
    heading = f"One linear neuron, {config['examples']} examples of {config['features']} features, {config['relevant']} of which matter"
    figure, axes = figures.panels(1, 3, heading, size=(4.0, 3.6))
    drawn, _ = grid(record, "regression_strengths")
    colours = figures.ordered(config["relevant"])
    for ax, method, name in zip(axes[0], ("l2", "l1"), ("L2, ridge", "L1, lasso"), strict=False):
        for number in range(config["features"] - 1, -1, -1):
            relevant = number < config["relevant"]
            look = {"color": colours[number], "linewidth": 1.6} if relevant else {"color": "0.75", "linewidth": 0.7}
            ax.plot(drawn, history[f"coefficients/{method}"][0, :, number], **look)
            if relevant:
                ax.plot(drawn[0] / 1.7, history["truth"][number], ">", color=colours[number], markersize=6, clip_on=False)
        ax.set_title(f"{name}: coefficients, ▸ the truth", fontsize=10)
        strength_axis(ax, drawn)
    axes[0, 1].sharey(axes[0, 0])
    for method, name in (("l2", "L2"), ("l1", "L1")):
        figures.band(axes[0, 2], drawn, history[f"regression_error/{method}"], LINES[method][0], f"{name}, fresh examples")
        fit = np.median(history[f"regression_fit/{method}"], 0)
        axes[0, 2].plot(drawn, fit, ":", color=LINES[method][0], linewidth=1.2, label=f"{name}, those learnt from")
    axes[0, 2].axhline(config["noise"] ** 2, color="black", linewidth=0.8)
    axes[0, 2].text(drawn[-1], config["noise"] ** 2, "noise", ha="right", va="bottom", fontsize=8)
    axes[0, 2].set_title("squared error", fontsize=10)
    axes[0, 2].set(yscale="log")
    strength_axis(axes[0, 2], drawn)
    axes[0, 2].legend(frameon=False, fontsize=8)
    return figure


def draw_digits(record: Record) -> Figure:
    """Test error, training loss and exact zeros against λ."""
    wrong = f"{record.config['wrong_labels']:.0%} of them with a wrong label"
    heading = f"784-{record.config['hidden']}-10 on {record.config['images']} digits, {wrong}"
    figure, axes = figures.panels(1, 3, heading, size=(4.0, 3.5))
    drawn, _ = grid(record, "strengths")
    for method, (colour, style) in LINES.items():
        alive = (record.history[f"diverged_at/{method}"] < 0).all(0)
        for ax, name, scale in zip(axes[0], ("test_error", "train_loss", "zeros"), (1, 1, 100), strict=True):
            figures.band(ax, drawn[alive], scale * record.history[f"{name}/{method}"][:, alive], colour, METHODS[method])
            ax.lines[-1].set_linestyle(style)
    for ax, label in zip(axes[0], ("test error, %", "training loss", "weights that are exactly zero, %"), strict=True):
        ax.set(ylabel=label)
        strength_axis(ax, drawn)
    axes[0, 0].set_ylim(0, 50)
    axes[0, 1].set_yscale("log")
    axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def draw_histograms(record: Record, edges: np.ndarray, at: Mapping[str, int]) -> Figure:
    """The weights of seed 0 without a penalty and at each method's chosen λ, over |w| on a logarithmic axis."""
    _, values = grid(record, "strengths")
    cases = [("no penalty", record.history["histogram/l2"][0], "0.4")]
    cases += [
        (f"{METHODS[method]}, λ = {values[at[method]]:g}", record.history[f"histogram/{method}"][at[method]], LINES[method][0])
        for method in METHODS
    ]
    figure, axes = figures.panels(1, len(cases), "Magnitudes of the weights, seed 0", size=(3.0, 3.2), sharey=True)
    middle = len(edges) // 2
    for ax, (name, counts, colour) in zip(axes[0], cases, strict=True):
        both = counts[middle:] + counts[:middle][::-1]
        ax.bar(edges[middle + 1 : -1], both[1:], np.diff(edges[middle + 1 :]), align="edge", color=colour)
        ax.bar(edges[middle + 1] / 2, both[0], edges[middle + 1] / 3, color="black")
        ax.set_title(name, fontsize=9)
        ax.set(xscale="log", xlabel="|w|; black: below $10^{-4}$ and zero", yscale="symlog")
        ax.set_xlim(edges[middle + 1] / 4, 1)
        ax.xaxis.label.set_fontsize(8)
    axes[0, 0].set_ylabel("weights")
    return figure
