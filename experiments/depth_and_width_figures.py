"""What `experiments.depth_and_width` reads off a record, and how it draws it."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.record import Record


def key(budget: int, depth: int) -> str:
    return f"{budget}/{depth}"


def chosen(history: Mapping[str, np.ndarray], budget: int, depth: int) -> int:
    """The place in the grid of the rate of the lowest validation error, the median over seeds; not where one diverged."""
    of = key(budget, depth)
    alive = (history[f"diverged_at/{of}"] < 0).all(0)
    return int(np.argmin(np.where(alive, np.median(history[f"validation_error/{of}"], 0), np.inf)))


def middle(gap: np.ndarray) -> np.ndarray:
    """(seeds, evaluations) -> (seeds,): the mean over the last tenth of them, which mini-batches shake."""
    return gap[:, -max(1, gap.shape[1] // 10) :].mean(1)


def draw_power(record: Record, grid: int) -> Figure:
    """The saws of three depths, and the pieces of all against their weights."""
    depths = sorted(set(record.config["saws"]))
    shown = depths if len(depths) <= 3 else [depths[0], depths[len(depths) // 2], depths[-1]]
    heading = "Two ReLU units a layer: every layer doubles the pieces"
    figure, axes = figures.panels(1, len(shown) + 1, heading, size=(3.4, 3.2))
    x = np.linspace(0, 1, grid + 1)
    for ax, depth in zip(axes[0], shown, strict=False):
        ax.plot(x, record.history[f"saw/{depth}"], color="#0072b2", linewidth=1.1)
        ax.set_title(f"{depth} hidden layer{'s' * (depth > 1)}: {record.history['pieces'][depths.index(depth)]} pieces", fontsize=10)
        ax.set(xlabel="x", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    last, sizes = axes[0, -1], record.history["saw_weights"]
    last.plot(sizes, record.history["pieces"], "-o", color="#0072b2", markersize=4, label="these nets")
    last.plot(sizes, record.history["pieces_of_one_layer"], "--s", color="#d55e00", markersize=4, label="one hidden layer, at most")
    last.set(yscale="log", xlabel="weights and biases", ylabel="straight pieces")
    last.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    last.minorticks_off()
    last.legend(frameon=False, fontsize=8)
    return figure


def draw_digits(record: Record) -> Figure:
    """Test error and training loss against depth, a line a budget; what least squares reads off the layers."""
    history, config = record.history, record.config
    depths, budgets = sorted(set(config["depths"])), sorted(set(config["budgets"]))
    heading = f"ReLU nets on {config['images']:,} digits, {config['steps']} steps at the best rate of each"
    figure, axes = figures.panels(1, 3, heading, size=(4.2, 3.7))
    for budget, colour in zip(budgets, figures.ordered(len(budgets)), strict=True):
        for ax, name in zip(axes[0], ("test_error", "train_loss"), strict=False):
            values = []
            for depth in depths:
                at, of = chosen(history, budget, depth), key(budget, depth)
                values.append(history[f"{name}/{of}"][history[f"diverged_at/{of}"][:, at] < 0, at])
            kept = [number for number, column in enumerate(values) if len(column)]
            label = f"{budget:,} weights, width {history[f'width/{key(budget, depths[0])}']}–{history[f'width/{key(budget, depths[-1])}']}"
            figures.bands(ax, [depths[number] for number in kept], [values[number] for number in kept], colour, label)
    for ax, label in zip(axes[0], ("test error, %", "training loss"), strict=False):
        ax.set(xscale="log", xlabel="hidden layers", ylabel=label)
        ax.set_xticks(depths, [str(depth) for depth in depths])
        ax.minorticks_off()
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    axes[0, 0].minorticks_off()
    axes[0, 0].legend(frameon=False, fontsize=8)
    probes = history["probe_error"]
    figures.band(axes[0, 2], np.arange(probes.shape[1]), probes, "#0072b2", "")
    axes[0, 2].plot(np.median(probes, 0), "o", color="#0072b2", markersize=4)
    axes[0, 2].set(
        xlabel=f"layer of the deepest net, {budgets[-1]:,} weights; 0: pixels", ylabel="test error of least squares, %", ylim=(0, None)
    )
    axes[0, 2].locator_params(axis="x", integer=True)
    return figure


def draw_batch(record: Record) -> Figure:
    """The loss above the least of the full batch, with its closed form as dots, and of mini-batches."""
    history, size = record.history, record.config["mini_batch"]
    heading = f"Linear classifier of {record.config['batch_images']:,} digits of 7 × 7 pixels"
    figure, axes = figures.panels(1, 1, heading, size=(7.2, 4.3))
    ax, steps = axes[0, 0], history["evaluated_at"]
    ax.plot(steps, history["gap/full"][0, 0], color="#0072b2", linewidth=1.6, label="full batch, η = 1/λ$_{max}$; dots: exact")
    ax.plot(steps[::8], history["gap_exact"][::8], ".", color="#0072b2")
    for column, (colour, words) in enumerate((("#d55e00", "1/λ$_{max}$"), ("#e69f00", "1/(10 λ$_{max}$)"))):
        gaps = history["gap/mini"][:, column]
        if np.isfinite(gaps).all():
            figures.band(ax, steps, gaps, colour, f"batches of {size}, η = {words}")
    ax.set(yscale="log", xlabel="step", ylabel="loss of all images, above the least")
    ax.legend(frameon=False, fontsize=9)
    return figure
