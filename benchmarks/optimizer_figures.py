"""The figures of `benchmarks.optimizer_family`."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import scales
from benchmarks.optimizer_results import DEFAULT, PROFILE_TO, TUNED, Entry, profile, report, score, unreached_last
from experiments import figures
from jaxnn.record import Record

STYLES = ("-", "--", ":")


def plot(record: Record) -> Mapping[str, Figure]:
    """Curves, time to the target, sensitivity to the rate, the performance profile, and what tuning gained."""
    return {
        "curves": draw_curves(record),
        "steps_to_target": draw_target(record, "steps", "steps"),
        "seconds_to_target": draw_target(record, "seconds", "seconds of a model, its share of a sweep"),
        "sensitivity": draw_sensitivity(record),
        "steps_by_rate": draw_steps_by_rate(record),
        "performance_profile": draw_profile(record),
        "tuned_and_default": draw_gain(record),
    }


def entries_of(record: Record) -> list[Entry]:
    return [Entry(**fields) for fields in record.meta["entries"]]


def optimizers_of(record: Record) -> dict[str, dict]:
    """Name -> colour and line of each optimizer, the same in all figures."""
    names = list(dict.fromkeys(entry.optimizer for entry in entries_of(record)))
    colours = figures.COLOURS
    return {name: {"color": colours[i % len(colours)], "linestyle": STYLES[i // len(colours) % 3]} for i, name in enumerate(names)}


def workload_panels(record: Record, title: str, **shared: object) -> tuple[Figure, list[tuple[str, Axes]]]:
    names = list(record.meta["targets"])
    figure, axes = figures.panels(1, len(names), title, size=(4.6, 4.0), **shared)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(f"{name}, target {record.meta['targets'][name]:.4g}", fontsize=10)
    return figure, list(zip(names, axes[0], strict=True))


def rate_panels(record: Record, title: str) -> tuple[Figure, list[tuple[str, Axes]]]:
    """`workload_panels` along the grid of learning rates, which all optimizers share."""
    figure, panels = workload_panels(record, title)
    any_optimizer = next(iter(optimizers_of(record)))
    for workload, ax in panels:
        rates = record.history[Entry(workload, any_optimizer).key("rates")]
        ax.set(xscale="log", xlabel="learning rate", xlim=(rates.min() / 1.5, rates.max() * 1.5))
    return figure, panels


def legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    columns = max(1, min(len(labels), int(figure.get_figwidth() / 1.2)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def draw_curves(record: Record) -> Figure:
    """Validation error against the step, at the tuned rate: median and quartiles over the fresh seeds that did not diverge."""
    figure, panels = workload_panels(record, "Validation error at the tuned rate, fresh seeds")
    for workload, ax in panels:
        for name, style in optimizers_of(record).items():
            entry = Entry(workload, name)
            alive = record.history[entry.key("diverged_at")][:, TUNED] < 0
            at = record.history[entry.key("evaluated_at")]
            errors = 100 * (1 - record.history[entry.key("validation_accuracy")][alive, TUNED])
            low, median, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=0) if len(errors) else np.full((3, len(at)), np.nan)
            ax.fill_between(at, low, high, color=style["color"], alpha=0.13, linewidth=0)
            ax.plot(at, median, linewidth=1.4, label=name, **style)
        scales.logarithmic(ax, y=True)
        ax.axhline(100 * (1 - record.meta["targets"][workload]), color="0.5", linewidth=0.8, linestyle=(0, (1, 2)))
        ax.set(xlabel="step")
    panels[0][1].set_ylabel("validation error, %")
    legend(figure, panels[0][1])
    return figure


def draw_target(record: Record, quantity: str, label: str) -> Figure:
    """A row an optimizer: every fresh seed as a dot and the median, tuned above and default below; how many reach the target."""
    figure, panels = workload_panels(record, f"{quantity.capitalize()} to the target", sharey=True)
    styles = optimizers_of(record)
    for workload, ax in panels:
        for row, (name, style) in enumerate(styles.items()):
            for which, offset in ((TUNED, -0.17), (DEFAULT, 0.17)):
                values = getattr(report(Entry(workload, name), record.history, record.meta["targets"][workload], which), quantity)
                draw_row(ax, values, row + offset, style["color"], filled=which == TUNED)
        ax.set(yticks=range(len(styles)), yticklabels=list(styles), ylim=(len(styles) - 0.5, -0.5), xlabel=label)
        scales.logarithmic(ax, x=True)
    ax = panels[0][1]
    ax.plot([], [], "o", color="0.3", label="tuned rate")
    ax.plot([], [], "o", color="0.3", markerfacecolor="none", label="default rate")
    legend(figure, ax)
    return figure


def draw_row(ax: Axes, values: np.ndarray, row: float, colour: str, *, filled: bool) -> None:
    reached = values[np.isfinite(values)]  # 0 where the untrained net is there already, which a log axis leaves out
    face = colour if filled else "none"
    ax.plot(reached, np.full(len(reached), row), "o", color=colour, markerfacecolor=face, markersize=4, alpha=0.6)
    median = np.median(unreached_last(values))
    if np.isfinite(median):
        ax.plot(median, row, "|", color=colour, markersize=13, markeredgewidth=2)
    if len(reached) < len(values):
        text = f"{len(reached)} of {len(values)}"
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), ha="left", va="center", fontsize=8, color=colour)


def draw_sensitivity(record: Record) -> Figure:
    """Best validation accuracy against the learning rate; a rate at which a seed diverged is left out."""
    figure, panels = rate_panels(record, "Sensitivity: best validation accuracy of the tuning seeds against the learning rate")
    for workload, ax in panels:
        for name, style in optimizers_of(record).items():
            entry = Entry(workload, name)
            rates, best = (record.history[entry.key(part)] for part in ("rates", "tuning_best"))
            alive = np.isfinite(best).all(0)
            low, median, high = np.quantile(best[:, alive], [0, 0.5, 1], axis=0)
            ax.fill_between(rates[alive], low, high, color=style["color"], alpha=0.13, linewidth=0)
            ax.plot(rates[alive], median, linewidth=1.4, marker=".", label=name, **style)
        ax.axhline(record.meta["targets"][workload], color="0.5", linewidth=0.8, linestyle=(0, (1, 2)))
    panels[0][1].set_ylabel("best validation accuracy")
    legend(figure, panels[0][1])
    return figure


def draw_steps_by_rate(record: Record) -> Figure:
    """Median steps to the target against the learning rate, where most seeds reach it and none diverges; a ring is the chosen one."""
    figure, panels = rate_panels(record, "Sensitivity: median steps to the target against the learning rate; a ring is the chosen rate")
    for workload, ax in panels:
        for name, style in optimizers_of(record).items():
            entry = Entry(workload, name)
            rates, steps = (record.history[entry.key(part)] for part in ("rates", "tuning_steps"))
            median = np.median(unreached_last(steps), 0)
            reached = np.isfinite(median) & (record.history[entry.key("tuning_diverged_at")] < 0).all(0)
            ax.plot(rates[reached], median[reached], linewidth=1.4, marker=".", label=name, **style)
            ring = rates == record.history[entry.key("reported_rates")][TUNED]
            ax.plot(rates[reached & ring], median[reached & ring], "o", color=style["color"], markerfacecolor="none", markersize=9)
        scales.logarithmic(ax, y=True)
    panels[0][1].set_ylabel("steps to the target")
    legend(figure, panels[0][1])
    return figure


def draw_profile(record: Record) -> Figure:
    """The share of (workload, seed) solved within τ times the steps of the quickest, tuned and at the default rates."""
    figure, axes = figures.panels(1, 2, "Performance profile over pairs of workload and seed", size=(4.8, 4.0), sharey=True)
    taus = np.linspace(1, PROFILE_TO, 301)
    for ax, which, title in ((axes[0, 0], TUNED, "tuned rates"), (axes[0, 1], DEFAULT, "default rates")):
        ratios = profile(entries_of(record), record.history, record.meta["targets"], which)
        for name, style in optimizers_of(record).items():
            share = [(ratios[name] <= tau).mean() if len(ratios[name]) else 0.0 for tau in taus]
            ax.step(taus, share, where="post", linewidth=1.5, label=f"{name}  {score(ratios[name]):.2f}", **style)
        ax.set(xlabel="τ", ylim=(-0.02, 1.02), xlim=(1, PROFILE_TO))
        solved = len(next(iter(ratios.values())))
        ax.set_title(f"{title}, the {solved} pairs that any solves; beside each its area", fontsize=9)
        ax.legend(fontsize=8, frameon=False)
    axes[0, 0].set_ylabel("share within τ × the quickest's steps")
    return figure


def draw_gain(record: Record) -> Figure:
    """Test accuracy at the best validation accuracy: default against tuned rate, median and quartiles."""
    figure, panels = workload_panels(record, "What tuning gains: test error at the best validation accuracy")
    for workload, ax in panels:
        for name, style in optimizers_of(record).items():
            draw_gain_of(ax, record, Entry(workload, name), style["color"])
        scales.logarithmic(ax, x=True, y=True)
        ends = np.array([*ax.get_xlim(), *ax.get_ylim()])
        same = max(ends.min(), 1e-2), ends.max()
        ax.plot(same, same, color="0.6", linewidth=0.8)
        ax.set(xlabel="at the tuned rate, %", xlim=same, ylim=same)
    panels[0][1].set_ylabel("at the default rate, %")
    legend(figure, panels[0][1])
    return figure


def draw_gain_of(ax: Axes, record: Record, entry: Entry, colour: str) -> None:
    target = record.meta["targets"][entry.workload]
    errors = [100 * (1 - report(entry, record.history, target, which).test) for which in (TUNED, DEFAULT)]
    errors = [values[np.isfinite(values)] for values in errors]
    if not all(map(len, errors)):
        ax.plot([], [], "o", color=colour, label=f"{entry.optimizer} (diverged)")
        return
    (low_x, x, high_x), (low_y, y, high_y) = (np.quantile(values, [0.25, 0.5, 0.75]) for values in errors)
    x_bar, y_bar = [[x - low_x], [high_x - x]], [[y - low_y], [high_y - y]]
    ax.errorbar(x, y, y_bar, x_bar, fmt="o", color=colour, markersize=6, label=entry.optimizer, linewidth=1)
