"""What `experiments.batch_regimes` reads off a record, and how it draws it."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from experiments.descent import best, rises
from jaxnn.measure import batch_gradient_noise
from jaxnn.record import Record

WEIGHTS = {"start": "fresh weights", "end": "trained weights"}


def regimes(batch_sizes: tuple[int, ...], images: int) -> list[int]:
    """The batch sizes from small to large, the last one the full batch."""
    return sorted({*batch_sizes, images})


def title(batch_size: int, images: int) -> str:
    if batch_size == images:
        return f"full batch {images}"
    return "one sample" if batch_size == 1 else f"mini-batch {batch_size}"


def rising(watched: np.ndarray) -> np.ndarray:
    """The share of steps that raise the loss, (seeds, rates, steps + 1) -> (seeds, rates); NaN for a member that diverged."""
    return np.where(np.isfinite(watched).all(-1), rises(watched), np.nan)


def recorded(record: Record) -> dict[int, object]:
    """The batch sizes of a record with their colours."""
    sizes = regimes(tuple(record.config["batch_sizes"]), record.config["images"])
    return dict(zip(sizes, figures.ordered(len(sizes)), strict=True))


def kept(record: Record, batch_size: int, at: int) -> np.ndarray:
    """The loss of the seeds that did not diverge at a rate, (seeds, epochs + 1)."""
    return record.history[f"loss/{batch_size}"][:, at][record.history[f"diverged_at/{batch_size}"][:, at] < 0]


def draw_loss(record: Record) -> Figure:
    """Every regime at its best rate."""
    images, rates = record.config["images"], record.config["learning_rates"]
    heading = f"Training loss of [784, 30, 10] on {images:,} digits, every batch size at its best learning rate"
    figure, axes = figures.panels(1, 2, heading, size=(4.8, 3.9), sharey=True)
    for m, colour in recorded(record).items():
        at = best(record.history[f"loss/{m}"], record.history[f"diverged_at/{m}"])
        losses, label = kept(record, m, at), f"{title(m, images)}, η = {rates[at]:g}"
        epochs = np.arange(losses.shape[1])
        seconds = epochs * np.median(record.history[f"epoch_seconds/{m}"])
        if len(losses):
            figures.band(axes[0, 0], epochs, losses, colour, label)
            figures.band(axes[0, 1], seconds[1:], losses[:, 1:], colour, label)
    axes[0, 0].set(xlabel="epoch", ylabel="training loss")
    axes[0, 0].locator_params(axis="x", integer=True)
    axes[0, 1].set(xlabel=f"seconds, one net alone, {record.meta['backend'].upper()}")
    finish(figure, axes[0, 0], axes[0, 1:])
    return figure


def finish(figure: Figure, ax: Axes, logarithmic: Iterable[Axes]) -> None:
    """Logarithmic scales and one legend below the panels, where something was drawn."""
    if ax.lines:
        ax.set_yscale("log")
        for other in logarithmic:
            other.set_xscale("log")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def draw_rates(record: Record) -> Figure:
    """The loss after the last epoch against η, and against η/m, where the regimes fall onto one curve."""
    images, rates, epochs = (record.config[name] for name in ("images", "learning_rates", "epochs"))
    figure, axes = figures.panels(1, 2, f"Training loss after {epochs} epochs against the learning rate", size=(4.8, 3.9), sharey=True)
    order = np.argsort(rates)
    for m, colour in recorded(record).items():
        drawn = [(rates[i], kept(record, m, i)[:, -1]) for i in order if len(kept(record, m, i))]
        x, values = np.array([rate for rate, _ in drawn]), [losses for _, losses in drawn]
        figures.bands(axes[0, 0], x, values, colour, title(m, images))
        figures.bands(axes[0, 1], x / m, values, colour, title(m, images))
    for ax, label in zip(axes[0], ("learning rate η", "η / batch size"), strict=True):
        ax.set(xlabel=label)
    figures.note_diverged(axes[0, 0], np.array([record.history[f"diverged_at/{m}"] for m in recorded(record)]), "black")
    axes[0, 0].set_ylabel("training loss")
    finish(figure, axes[0, 0], axes[0])
    return figure


def draw_noise(record: Record) -> Figure:
    """Sampled noise as dots, the law as a line, at fresh and at trained weights: medians over seeds."""
    history, images = record.history, record.config["images"]
    figure, axes = figures.panels(1, 1, f"Gradient noise of batches from {images:,} images", size=(6.4, 4.4))
    ax, towards_both_ends = axes[0, 0], np.geomspace(1, images - 1, 100)
    sizes = np.unique(np.concatenate([towards_both_ends, images - towards_both_ends]).round())
    for (when, weights), colour in zip(WEIGHTS.items(), figures.COLOURS, strict=False):
        signal, variance, sampled = (history[f"{name}/{when}"] for name in ("signal", "variance", "noise"))
        kept = np.isfinite(sampled).all(-1) & (signal > 0)
        if kept.any():
            scale, sampled = np.median(variance[kept] / signal[kept]), np.median(sampled[kept] / signal[kept, None], 0)
            ax.plot(sizes, [float(scale) * batch_gradient_noise(1.0, int(m), images) for m in sizes], color=colour, linewidth=1.2)
            ax.plot(history["noise_batch_size"], sampled, "o", color=colour, label=rf"{weights}: $\sigma^2/\|g\|^2$ = {scale:,.0f}")
    if ax.lines:
        ax.set(xscale="log", yscale="log")
    ax.plot([], [], color="0.4", label=r"the law: $\frac{\sigma^2}{m}\,\frac{N-m}{N-1}\,/\,\|g\|^2$")
    ax.set(xlabel="batch size m", ylabel=r"$E\|g_B-g\|^2 \,/\, \|g\|^2$")
    ax.legend(frameon=False, fontsize=9)
    return figure


def draw_oscillation(record: Record) -> Figure:
    """The first steps of seed 0, a panel a regime, all from the same weights."""
    sizes, images = recorded(record), record.config["images"]
    heading = f"The loss of all {images:,} images step by step, from the same weights"
    figure, axes = figures.panels(1, len(sizes), heading, size=(3.2, 3.6), sharey=True)
    rates, same = record.config["learning_rates"], record.config["same_rate"]
    for ax, m in zip(axes[0], sizes, strict=True):
        watched, at = record.history[f"watched_start/{m}"], best(record.history[f"loss/{m}"], record.history[f"diverged_at/{m}"])
        for column, rate in list(enumerate((same, rates[at])))[: 2 if rates[at] != same else 1]:
            shares = rising(watched)[:, column]
            if np.isfinite(watched[0, column]).all():
                label = f"η = {rate:g}, {np.nanmedian(shares):.0%} of steps rise"
                ax.plot(watched[0, column], color=figures.COLOURS[column], linewidth=1.1, label=label)
        ax.set_title(title(m, images), fontsize=10)
        ax.set(xlabel="step")
        if ax.lines:
            ax.legend(frameon=False, fontsize=8, loc="upper right")
    axes[0, 0].set_ylabel("loss of all images")
    return figure
