"""What does more cost? Time, memory and compilation of a step against sweep width, batch, depth, data size and devices.

A point is [784, 30, …, 30, 10] in a sweep over learning rates, trained by `sweep` (or `fit`) on random images in a process of its own;
one axis varies, the others stand at their base. Step time is the run's time over its steps, the median of several runs, compilation
apart; in a sweep it is the step of all members. Peak memory is the device's where it tells (GPU, TPU), else the data and what the
process grew by once all was compiled. Each panel has the power law y ∝ x^p through the larger half of its points, with the standard
error of p: 0 is for free, 1 is proportional. Devices share the members of a sweep, which need nothing of each other, and the rows of
one net's batches, whose gradients are summed up; on a CPU they are fakes that share its cores, and show what sharing itself costs.

Source: lecture row 158 (S0:160-163), which names speed on CPU and GPU as what a framework is for.

Command: python -m benchmarks.scaling        (3 to 5 minutes on two CPU cores; `--widths 1 4 16 64 256 1024 4096` on an accelerator)
Expected on CPU cores: time in proportion to the members, for one keeps them busy already; memory grows more slowly.
"""

import dataclasses
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import scales, scaling_point
from benchmarks.scaling_point import Point
from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.record import Comparison, Record, compare
from jaxnn.types import InputError


@dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Members of the sweep; 4096 and more are for accelerators."""
    batches: tuple[int, ...] = (8, 32, 128, 512, 2048)
    """Images a mini-batch."""
    depths: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Hidden layers."""
    data: tuple[int, ...] = (1000, 4000, 16000, 64000)
    """Images to draw the batches from."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """That share the members of a sweep, and the rows of a batch; of real ones, those that there are."""
    base_width: int = 16
    """Members where another axis varies."""
    base_batch: int = 32
    """Images a mini-batch where another axis varies."""
    base_depth: int = 2
    """Hidden layers where another axis varies."""
    base_data: int = 4000
    """Images where another axis varies."""
    device_width: int = 64
    """Members that the devices share."""
    device_batch: int = 512
    """Rows that the devices share."""
    units: int = 30
    """Of a hidden layer."""
    seconds: float = 0.2
    """Duration of a timed run, about."""
    repeats: int = 5
    """Timed runs of each point."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("common", "seconds")}
        command.at_least(1, **numbers)
        if self.seconds <= 0:
            raise InputError(f"--seconds must be above 0, got {self.seconds}")
        if max(*self.batches, self.base_batch) > self.base_data or self.base_batch > min(self.data):
            raise InputError("no batch may be larger than its data: raise --base-data or --data, or lower --batches or --base-batch")
        for count in self.devices:
            if self.device_batch % count:
                raise InputError(f"--device-batch {self.device_batch} is no multiple of {count} devices")


class Axis(NamedTuple):
    """What varies."""

    name: str
    label: str
    values: tuple[int, ...]
    share: str = "members"


def axes_of(config: Config, there: int) -> list[Axis]:
    """The axes, with the device counts that this machine has."""
    counts = tuple(count for count in config.devices if count <= there)
    return [
        Axis("width", "members of the sweep", config.widths),
        Axis("batch", "images a mini-batch", config.batches),
        Axis("depth", "hidden layers", config.depths),
        Axis("data", "images in the data", config.data),
        Axis("devices", f"devices, sharing {config.device_width} members", counts),
        Axis("devices_rows", f"devices, sharing {config.device_batch} rows", counts, "rows"),
    ]


def points(axis: Axis, config: Config, platform: str) -> Iterator[Point]:
    base = {"width": config.base_width, "batch": config.base_batch, "depth": config.base_depth, "data": config.base_data, "devices": 1}
    if axis.name.startswith("devices"):
        base |= {"width": config.device_width} if axis.share == "members" else {"width": 1, "batch": config.device_batch}
    rest = {"share": axis.share, "units": config.units, "seconds": config.seconds, "repeats": config.repeats, "platform": platform}
    for value in sorted(set(axis.values)):
        yield Point(**base | {axis.name.removesuffix("_rows"): value}, **rest)  # type: ignore[arg-type]


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    platform = jax.default_backend()
    there = max(config.devices) if platform == "cpu" else len(jax.devices())
    history: dict[str, Any] = {}
    comparisons: list[Comparison] = []
    known: dict[Point, dict[str, np.ndarray]] = {}  # the base is a point of several axes
    for axis in axes_of(config, there):
        chosen = list(points(axis, config, platform))
        for point in chosen:
            known[point] = known.get(point) or {**keep.part(name_of(point), partial(measure, point))}
        columns = {name: np.stack([known[point][name] for point in chosen]) for name in known[chosen[0]]}
        columns |= {"x": np.array(sorted(set(axis.values)), float)}
        columns |= {f"exponent_{name}": np.array(power_law(columns["x"], columns[name])[:2]) for name in QUANTITIES}
        history |= {f"{name}/{axis.name}": values for name, values in columns.items()}
        comparisons += [
            compare(f"{QUANTITIES[name][0]} ∝ ({axis.label})^", [columns[f"exponent_{name}"][0]])
            for name in ("step_seconds", "bytes")
            if len(columns["x"]) > 1
        ]
    kinds = {"step_seconds": ("x", "repeat"), "compile_seconds": ("x",), "bytes": ("x",), "of_device": ("x",), "x": ("x",)}
    axes = {name: kinds.get(name.partition("/")[0], ("exponent_and_error",)) for name in history}
    labels = {axis.name: axis.label for axis in axes_of(config, there)}
    return command.Outcome(history, axes, comparisons, {"axis_labels": labels})


QUANTITIES = {
    "step_seconds": ("step time", "milliseconds a step of all members", 1e3),
    "bytes": ("peak memory", "MB", 1e-6),
    "compile_seconds": ("compilation before the first step", "seconds", 1.0),
}
"""Name -> (what it is, its unit in figures, how many of them)."""


def name_of(point: Point) -> str:
    names = ("width", "batch", "depth", "data", "devices", "share")
    return ", ".join(f"{name} {getattr(point, name)}" for name in names)


def measure(point: Point) -> dict[str, np.ndarray]:
    """A point in its own process, and a line about it. Raises `InputError` with what the process said where it failed."""
    try:
        measured = scaling_point.in_own_process(point)
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise InputError(f"the point of {name_of(point)} could not be measured: {said}") from error
    step, size, compilation = 1e3 * np.median(measured["step_seconds"]), measured["bytes"] / 1e6, measured["compile_seconds"]
    print(f"{name_of(point)}: {step:.3g} ms a step, {size:.3g} MB, compiled in {compilation:.2g} s", flush=True)
    return {name: np.asarray(values, float) for name, values in measured.items()}


def power_law(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """p, its standard error, the factor and the x of y = factor·x^p through the larger half of the points; NaN where two are too few.

    y (points,) or (points, repeats), whose median counts. Least squares of the logarithms.

    >>> p, error, factor, _ = power_law(np.array([1, 2, 4, 8]), 3 * np.array([1.0, 2, 4, 8]) ** 0.5)
    >>> round(p, 6), round(error, 6), round(factor, 6)
    (0.5, 0.0, 3.0)
    """
    y = np.median(y, axis=tuple(range(1, y.ndim)))
    half = np.flatnonzero((y > 0) & (x > 0))[-max(3, (len(x) + 1) // 2) :]
    if len(half) < 2:
        return np.nan, np.nan, np.nan, x[half]
    logs = np.log(x[half]), np.log(y[half])
    slope, shift = np.polyfit(*logs, 1)
    squares = ((logs[1] - slope * logs[0] - shift) ** 2).sum()
    spread = ((logs[0] - logs[0].mean()) ** 2).sum()
    error = np.sqrt(squares / (len(half) - 2) / spread) if len(half) > 2 else np.nan
    return float(slope), float(error), float(np.exp(shift)), x[half]


def plot(record: Record) -> Mapping[str, Figure]:
    """A figure a quantity, a panel an axis; and model-steps a second against the width of the sweep."""
    drawn = {name: draw(record, name) for name in QUANTITIES}
    return {"model_steps_per_second": draw_rate(record), **drawn}


def draw(record: Record, quantity: str) -> Figure:
    what, unit, scale = QUANTITIES[quantity]
    labels = record.meta["axis_labels"]
    if quantity == "bytes":
        what += " of the device" if record.history["of_device/width"].all() else ": the data and what the process grew by"
    title = f"{what[0].upper()}{what[1:]}, {record.meta['backend']}"
    figure, axes = figures.panels(2, (len(labels) + 1) // 2, title, size=(3.6, 2.9))
    for ax, (name, label) in zip(axes.flat, labels.items(), strict=False):
        draw_points(ax, record.history[f"x/{name}"], scale * record.history[f"{quantity}/{name}"], label)
    for row in axes:
        row[0].set_ylabel(unit)
    for ax in axes.flat[len(labels) :]:
        ax.set_visible(False)
    return figure


def draw_points(ax: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    """Medians with the range of their repeats, and the power law."""
    low, median, high = np.quantile(y.reshape(len(x), -1), [0, 0.5, 1], axis=1)
    if not (low > 0).all():  # a system that tells no memory
        ax.set_visible(False)
        return
    ax.plot(x, median, "o", color=figures.COLOURS[0], markersize=5)
    if y.ndim > 1:
        ax.errorbar(x, median, [median - low, high - median], fmt="none", ecolor=figures.COLOURS[0], capsize=3)
    exponent, error, factor, over = power_law(x, y)
    if np.isfinite(exponent):
        uncertain = f" ± {error:.2f}" if np.isfinite(error) else ""
        ax.plot(over, factor * over**exponent, "--", color=figures.COLOURS[1], linewidth=1.4, label=f"∝ $x^{{{exponent:.2f}}}${uncertain}")
        ax.legend(frameon=False, fontsize=9)
    ax.set(xlim=(x.min() / 1.4, x.max() * 1.4), ylim=(low.min() / 1.6, high.max() * 1.6))  # what does not vary has no limits of its own
    scales.logarithmic(ax, x=True, y=True)
    ax.set_xticks(x, [f"{value:,.0f}" for value in x], fontsize=8)
    ax.set_xlabel(label, fontsize=9)


def draw_rate(record: Record) -> Figure:
    """What a wider sweep brings: nets trained at once for the time of one."""
    title = f"Training steps of all members a second, [784, 30, …, 10], batch {record.config['base_batch']}, {record.meta['backend']}"
    figure, axes = figures.panels(1, 1, title, size=(7.0, 4.1))
    x = record.history["x/width"]
    draw_points(axes[0, 0], x, x[:, None] / record.history["step_seconds/width"], "members of the sweep")
    axes[0, 0].set_ylabel("model-steps / s")
    return figure


if __name__ == "__main__":
    os.environ |= scaling_point.ONLY_WHAT_IS_NEEDED
    command.main(Config, run, plot)
