"""The surfaces that optimizers are shown on, and how paths over them are drawn."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import figures
from jaxnn import optimizers
from jaxnn.record import Animation, Record

FLOOR = 1e-10
"""Losses below it are equal: rounding in float32."""
GROUPS = {"the lecture's optimizers": False, "today's optimizers": True}
"""By title, whether they are today's."""


def beale(w: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def long_valley(w: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    x, y = w
    return (x**2 / 100 + y**2) / 2


def rosenbrock(w: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def saddle(w: Float[Array, "2 ..."]) -> Float[Array, "..."]:
    x, y = w
    return x**2 - y**2


class Surface(NamedTuple):
    formula: str
    loss: Callable[[Any], Any]
    start: tuple[float, float]
    minimum: tuple[float, float] | None
    """Where the loss is 0 and least; None on the saddle."""
    low: tuple[float, float]
    """The picture's corner (x, y) at the bottom left."""
    high: tuple[float, float]
    """The corner at the top right."""


SURFACES = {
    "beale": Surface(r"$(1.5-x+xy)^2+(2.25-x+xy^2)^2+(2.625-x+xy^3)^2$", beale, (1.0, 1.5), (3.0, 0.5), (-0.5, -1.5), (4.5, 2.0)),
    "long_valley": Surface(r"$(x^2/100+y^2)\,/\,2$", long_valley, (-9.0, 1.5), (0.0, 0.0), (-12.0, -2.5), (5.0, 2.5)),
    "rosenbrock": Surface(r"$(1-x)^2+100\,(y-x^2)^2$", rosenbrock, (-1.2, 1.0), (1.0, 1.0), (-2.0, -1.0), (2.0, 3.0)),
    "saddle": Surface(r"$x^2-y^2$", saddle, (-1.0, 1e-4), None, (-1.5, -0.5), (1.0, 1.5)),
}


class Trail(NamedTuple):
    """One optimizer's path over a surface, as a record has it."""

    name: str
    label: str
    """Its name, its rate, and when it left."""
    points: np.ndarray
    """Inside the picture until the end, or until it left for good."""
    loss: np.ndarray
    total: int
    """How many points there were, with those after it left."""
    today: bool
    style: dict[str, Any]

    @property
    def left(self) -> bool:
        return len(self.points) < self.total


def trails(record: Record, surface: str) -> list[Trail]:
    history, bounded = record.history, SURFACES[surface].minimum is not None
    found = []
    for i, name in enumerate(record.meta["optimizers"]):
        left, total = int(history[f"left_at/{surface}"][i]), history[f"loss/{surface}"].shape[1]
        until = left if left >= 0 else total
        end = "" if left < 0 else f"\n(diverged at {left})" if bounded else f"\n(leaves at {left})"
        label = f"{name}, η = {history[f'rate/{surface}'][i]:.3g}{end}"
        points, loss = (history[f"{quantity}/{surface}"][i][:until] for quantity in ("trajectory", "loss"))
        found.append(Trail(name, label, points, np.maximum(loss, FLOOR) if bounded else loss, total, is_of_today(name), style(name)))
    return found


def is_of_today(name: str) -> bool:
    return optimizers.by_name(name) not in optimizers.SEVEN


def style(name: str) -> dict[str, Any]:
    """The lecture's seven solid, today's dashed; the same for a name in every figure."""
    colour = figures.COLOURS[list(optimizers.OPTIMIZERS).index(name) % len(figures.COLOURS)]
    return {"color": colour, "linestyle": (0, (3.5, 1.5)) if is_of_today(name) else "-", "linewidth": 1.5}


def groups(found: list[Trail]) -> dict[str, list[Trail]]:
    """The lecture's optimizers and today's, each in a panel of their own: thirteen in one are too many."""
    by_title = {title: [trail for trail in found if trail.today is today] for title, today in GROUPS.items()}
    return {title: members for title, members in by_title.items() if members}


def heading(surface: str) -> str:
    return f"{surface.replace('_', ' ').capitalize()}  {SURFACES[surface].formula}"


def draw_surface(record: Record, surface: str) -> Figure:
    """The paths over the contours, and the loss against the step, a row a group."""
    rows = groups(trails(record, surface))
    figure, axes = figures.panels(len(rows), 2, heading(surface), size=(4.9, 3.7), sharex="col")
    for (title, members), (left, right) in zip(rows.items(), axes, strict=True):
        draw_contours(left, surface, title)
        for trail in members:
            move(*draw_path(left, trail), trail, trail.total)
            draw_loss(right, trail)
        left.set_ylabel("y")
        right.set(yscale="linear" if SURFACES[surface].minimum is None else "log", ylabel="loss")
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, frameon=False)
    axes[-1, 0].set_xlabel("x")
    axes[-1, 1].set_xlabel("step")
    return figure


def draw_contours(ax: Axes, surface: str, title: str) -> None:
    """Contours of the loss, of its logarithm where it has a minimum, with the start and the minimum."""
    _, loss, start, minimum, low, high = SURFACES[surface]
    x, y = np.meshgrid(*(np.linspace(*ends, 121) for ends in zip(low, high, strict=True)))
    height = loss(np.stack([x, y]))
    height = height if minimum is None else np.log10(height + 1e-2)
    ax.contourf(x, y, height, levels=14, cmap="Greys", vmin=height.min(), vmax=height.min() + 3 * np.ptp(height))
    ax.contour(x, y, height, levels=14, colors="0.75", linewidths=0.5, linestyles="solid")
    ax.plot(*start, "o", color="black", markersize=5, zorder=4)
    ax.annotate("start", start, (-4, 6), textcoords="offset points", fontsize=9, ha="right")
    if minimum is not None:
        ax.plot(*minimum, "*", color="black", markersize=11, markeredgecolor="white", zorder=6)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_title(title, fontsize=10)
    ax.locator_params(nbins=6)
    ax.grid(False)


def draw_path(ax: Axes, trail: Trail, **how: Any) -> tuple[Line2D, Line2D]:
    """A line and its head, still empty."""
    (line,) = ax.plot([], [], **trail.style, **how)
    (head,) = ax.plot([], [], color=trail.style["color"], markersize=6, markeredgewidth=2, zorder=5, clip_on=False, **how)
    return line, head


def move(line: Line2D, head: Line2D, trail: Trail, count: int) -> None:
    """Show the first `count` points: a dot at their end, or a cross where the path left the picture."""
    points = trail.points[:count]
    line.set_data(*points.T)
    head.set_data(*points[-1:].T)
    head.set_marker("x" if count > len(points) else "o")


def draw_loss(ax: Axes, trail: Trail) -> None:
    ax.plot(trail.loss, label=trail.label, **trail.style | {"linewidth": 1.1})
    if trail.left:
        ax.plot(len(trail.loss) - 1, trail.loss[-1], "x", color=trail.style["color"], markeredgewidth=2)


def draw_rates(record: Record, surfaces: Sequence[str]) -> Figure:
    """The score against the rate."""
    title = "Every optimizer's score by its rate: a dot is the rate chosen, a line ends where paths leave the picture"
    figure, axes = figures.panels(1, len(surfaces), title, size=(4.2, 3.8))
    for ax, surface in zip(axes[0], surfaces, strict=True):
        for i, name in enumerate(record.meta["optimizers"]):
            kept = np.isfinite(record.history[f"score/{surface}"][i])
            rates, score = record.history["rates"][kept], record.history[f"score/{surface}"][i][kept]
            ax.plot(rates, score, label=name, **style(name))
            chosen = rates == record.history[f"rate/{surface}"][i]
            ax.plot(rates[chosen], score[chosen], "o", color=style(name)["color"], markersize=5)
        ax.set(xscale="log", xlabel="η")
        ax.set_title(surface.replace("_", " "), fontsize=10)
    axes[0, 0].set_ylabel(r"mean $\log_{10}$ of the largest loss to come")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=9, frameon=False)
    return figure


def animate(record: Record, surface: str, count: int) -> Animation:
    """The paths as they grow, in at most `count` frames: close together at the beginning, where most happens."""
    columns = groups(trails(record, surface))
    figure, axes = figures.panels(1, len(columns), heading(surface), size=(4.6, 5.2), sharey=True)
    clock = axes[0, 0].text(0.97, 0.95, "", transform=axes[0, 0].transAxes, fontsize=10, ha="right", animated=True)
    drawn = []
    for (title, members), ax in zip(columns.items(), axes[0], strict=True):
        draw_contours(ax, surface, title)
        drawn += [(*draw_path(ax, trail, animated=True), trail) for trail in members]
        handles = [Line2D([], [], label=trail.label, **trail.style) for trail in members]
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2, fontsize=9, frameon=False)
    axes[0, 0].set_ylabel("y")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    still, frames = canvas.copy_from_bbox(figure.bbox), []
    for step in moments(columns[title][0].total - 1, count):
        canvas.restore_region(still)  # the contours and the legend are drawn once
        clock.set_text(f"step {step}")
        for line, head, trail in drawn:
            move(line, head, trail, step + 1)
        for artist in (clock, *(artist for line, head, _ in drawn for artist in (line, head))):
            figure.draw_artist(artist)
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return Animation(np.stack(frames))


def moments(last: int, count: int) -> list[int]:
    """At most `count` steps from 0 to the last one, ever further apart.

    >>> moments(100, 5)
    [0, 12, 35, 65, 100]
    """
    return np.unique(np.rint(last * np.linspace(0, 1, count) ** 1.5).astype(int)).tolist()
