"""An MLP names more digits than RBF networks of as many parameters; of 16 units those fit a wavy function better, one without descent.

With M units on D inputs and K outputs both nets have M(D + 1 + K) + K parameters. The two stages are Moody and Darken's: centres by
k-means, widths from the two nearest other centres, the output by least squares on 1-of-K targets. The same net all learnt by gradient
(centres, widths and output) starts at random training points; it and the MLP, with sigmoid units, take the same steps of Adam on the same
batches, at the rate of the lowest training loss in the same grid. Seconds are those of one training, without compilation.

The tasks are the digits, whose error is the share of the test images that are named wrongly, and 60 noisy points of
sin 2πx + ½ sin 6πx, whose error is the mean square to that function.

Source: lecture row 28 (S4:25), which lists the RBF network beside the perceptrons; Broomhead and Lowe 1988, Complex Systems 2:321-355;
Moody and Darken 1989, doi:10.1162/neco.1989.1.2.281.

Command: python -m experiments.rbf_against_mlp        (1.5 minutes on two CPU cores, most of it compilation)
Expected: with 100 units 9.6 % of the test digits are named wrongly after two stages, 14 % by gradient, 7.5 % by the MLP; with 16 units
the error on the function is .019, .02 to .05 and .048, the two stages taking 1 ms and descent 100.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.scales import logarithmic
from experiments import command, figures
from experiments.descent import best
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses
from jaxnn.data import Dataset
from jaxnn.learners import supervised
from jaxnn.models import MLP, Functional, functional
from jaxnn.models.rbf import RBF, functional_rbf, nearest_widths, outputs, two_stages
from jaxnn.record import Record, compare
from jaxnn.train import sweep
from jaxnn.types import Batch, Learner


@dataclass(frozen=True)
class Config:
    digit_units: tuple[int, ...] = (10, 30, 100)
    """Units of the nets for the digits."""
    function_units: tuple[int, ...] = (4, 8, 16)
    """Units of the nets for the function."""
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    """The grid of Adam's rates, for both nets that learn by gradient."""
    epochs: int = 10
    """Passes over the digits, in batches of 100."""
    function_steps: int = 3000
    """Steps on the function, of all its points."""
    seeds: int = 3
    """Seeds 0 … n-1 of every net; for the function, of its noise too."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, epochs=self.epochs, function_steps=self.function_steps, seeds=self.seeds)
        command.at_least(3, digit_units=self.digit_units, function_units=self.function_units)


UNITS = {"digits": "digit_units", "function": "function_units"}
METHODS = ("RBF, two stages", "RBF, all by gradient", "MLP")
RANGE = (-1.0, 1.0)
POINTS = 60
NOISE = 0.1


class Task(NamedTuple):
    train: Batch
    """`x` (N, D) and `y`: labels (N,) or values (N, K)."""
    test: Batch
    targets: Array
    """What least squares aims at, (N, K)."""
    loss: Callable[[Array, Array], Array]
    error: Callable[[Array, Array], Array]
    """Of one test example."""
    batch_size: int | None
    num_steps: int
    ridge: float


class Measured(NamedTuple):
    errors: np.ndarray
    """(seeds,)"""
    seconds: float
    predicted: np.ndarray
    """The outputs for the test examples, (seeds, N, K)."""
    net: Any
    """The parameters of seed 0."""


def digits_task(train: Dataset, test: Dataset, epochs: int) -> Task:
    def flat(dataset: Dataset) -> Batch:
        image, label = dataset.arrays["image"], dataset.arrays["label"]
        return {"x": jnp.asarray(image.reshape(len(image), -1) / 255, jnp.float32), "y": jnp.asarray(label)}

    data = flat(train)
    batch_size = min(100, len(data["y"]))
    steps = epochs * (len(data["y"]) // batch_size)
    loss = losses.softmax_cross_entropy_with_integer_labels
    return Task(data, flat(test), jax.nn.one_hot(data["y"], 10), loss, lambda y, t: 1 - losses.accuracy(y, t), batch_size, steps, 0.1)


def function(x: Array) -> Array:
    """sin 2πx + ½ sin 6πx."""
    return jnp.sin(2 * jnp.pi * x) + 0.5 * jnp.sin(6 * jnp.pi * x)


def function_task(steps: int) -> Task:
    """Noise as of one draw: the seeds differ in the nets."""
    x_key, noise_key = jax.random.split(jax.random.key(1))
    x = jax.random.uniform(x_key, (POINTS, 1), minval=RANGE[0], maxval=RANGE[1])
    y = function(x) + NOISE * jax.random.normal(noise_key, x.shape)
    grid = jnp.linspace(*RANGE, 201)[:, None]
    error = losses.mean_squared_error
    return Task({"x": x, "y": y}, {"x": grid, "y": function(grid)}, y, error, error, None, steps, 1e-3)


def by_two_stages(task: Task, units: int, seeds: int) -> Measured:
    train = jax.jit(partial(two_stages, units=units, ridge=task.ridge))
    keys = [jax.random.fold_in(jax.random.key(0), seed) for seed in range(seeds)]
    first: RBF = train(keys[0], task.train["x"], task.targets)  # compiled here
    nets, seconds = [], []
    for key in keys:
        began = time.perf_counter()
        nets.append(jax.block_until_ready(train(jax.random.clone(key), task.train["x"], task.targets)))
        seconds.append(time.perf_counter() - began)
    predicted = jnp.stack([outputs(net, task.test["x"]) for net in nets])
    return judged(task, predicted, float(np.median(seconds)), first)


def by_gradient(task: Task, net: Functional, rates: tuple[float, ...], seeds: int, label: str, keep: Keep) -> Measured:
    """At the best rate of the grid."""

    def learner(learning_rate: float) -> Learner:
        return supervised(*net, task.loss, optax.adam(learning_rate), preprocess=lambda batch: (batch["x"], batch["y"]))

    how: dict[str, Any] = {"batch_size": task.batch_size, "num_steps": task.num_steps, "eval_data": task.train, "label": label}
    how["checkpoint"] = keep.checkpoint(f"{len(task.train['x'])} points, {label}")
    # One after the other: so the time of all is the sum of that of each alone.
    state, history = sweep(learner, jax.random.key(0), task.train, seeds=seeds, axes={"learning_rate": rates}, how="map", **how)
    at = best(history.evaluation["loss"], history.diverged_at)
    variables = jax.tree.map(lambda x: jnp.asarray(x)[:, at], state.variables)
    predicted = jax.jit(jax.vmap(lambda variables: net.apply(variables, task.test["x"], train=False)[0]))(variables)
    return judged(task, predicted, history.run_seconds / (seeds * len(rates)), variables)


def judged(task: Task, predicted: Array, seconds: float, net: Any) -> Measured:
    errors = [task.error(outputs, task.test["y"]).mean() for outputs in predicted]
    return Measured(np.array(errors), seconds, np.asarray(predicted), net)


def rbf_net(task: Task, units: int) -> Functional:
    """Centres at random training points, all widths those of such points."""
    x, features = task.train["x"], task.targets.shape[1]

    def random_points(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        return x[jax.random.choice(key, len(x), shape[:1], replace=False)].astype(dtype)

    width = float(nearest_widths(random_points(jax.random.key(2), (units,), x.dtype)).mean())
    return functional_rbf(units, features, width=width, centres_init=random_points)


def measure(task: Task, units: int, config: Config, keep: Keep) -> dict[str, Measured]:
    """Each method, by its name."""
    mlp = functional(MLP((units, task.targets.shape[1])))
    by = partial(by_gradient, task, rates=config.learning_rates, seeds=config.seeds, keep=keep)
    made = (
        by_two_stages(task, units, config.seeds),
        by(rbf_net(task, units), label=f"RBF, {units} units"),
        by(mlp, label=f"MLP, {units} units"),
    )
    return dict(zip(METHODS, made, strict=True))


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train, test = (command.load_digits(config.digits, split) for split in ("train", "test"))
    tasks = {"digits": digits_task(train, test, config.epochs), "function": function_task(config.function_steps)}
    sizes = {name: getattr(config, field) for name, field in UNITS.items()}
    measured = {name: [measure(task, units, config, keep) for units in sizes[name]] for name, task in tasks.items()}
    history: dict[str, Any] = {}
    comparisons = []
    for name, task in tasks.items():
        inputs, features = task.train["x"].shape[1], task.targets.shape[1]
        history[f"parameters/{name}"] = np.array([units * (inputs + 1 + features) + features for units in sizes[name]])
        for method in METHODS:
            ours = [by_method[method] for by_method in measured[name]]
            history |= {f"error/{name}/{method}": np.stack([m.errors for m in ours])}
            history |= {f"seconds/{name}/{method}": np.array([m.seconds for m in ours])}
            for units, m in zip(sizes[name], ours, strict=True):
                comparisons += [compare(f"{name}, {units} units, {method}: test error", m.errors)]
                comparisons += [compare(f"{name}, {units} units, {method}: seconds", [m.seconds])]
    history |= {f"curve/{method}": np.stack([m[method].predicted[..., 0] for m in measured["function"]]) for method in METHODS}
    history |= {f"function/{part}": np.asarray(tasks["function"].train[part][:, 0]) for part in "xy"}
    axes = {key: AXES[key.split("/")[0]] for key in history}
    state = measured["digits"][-1][METHODS[0]].net
    return command.Outcome(history, axes, comparisons, {"data": train.source}, state)


AXES = {
    "parameters": ("units",),
    "error": ("units", "seed"),
    "seconds": ("units",),
    "curve": ("units", "seed", "x"),
    "function": ("point",),
}


def plot(record: Record) -> Mapping[str, Figure]:
    """Error against parameters and seconds; the curves."""
    return {"error": draw_errors(record), "curves": draw_curves(record)}


def draw_errors(record: Record) -> Figure:
    figure, axes = figures.panels(2, 2, "An RBF network against an MLP of as many parameters", size=(4.6, 3.2), sharey="row")
    rows = {"digits": "share of test digits named wrongly", "function": "mean square to the function"}
    for row, (name, label) in zip(axes, rows.items(), strict=True):
        for method, colour in zip(METHODS, figures.COLOURS, strict=False):
            errors, seconds = (record.history[f"{what}/{name}/{method}"] for what in ("error", "seconds"))
            figures.bands(row[0], record.history[f"parameters/{name}"], list(errors), colour, method)
            row[1].plot(seconds, np.median(errors, 1), "o-", color=colour, linewidth=1, markersize=4)
            for units, *place in zip(record.config[UNITS[name]], seconds, np.median(errors, 1), strict=True):
                row[1].annotate(f"{units}", place, xytext=(4, 4), textcoords="offset points", fontsize=8, color=colour)
        logarithmic(row[0], x=True, y=True)
        logarithmic(row[1], x=True, steps=(1, 3))
        row[0].set(ylabel=label, xlabel=f"{name}: parameters")
        row[1].set(xlabel=f"{name}: seconds of one training of so many units, {record.meta['backend'].upper()}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_curves(record: Record) -> Figure:
    units = record.config["function_units"]
    middle = len(units) // 2
    heading = f"{units[middle]} units, {record.history['parameters/function'][middle]} parameters, on {POINTS} noisy points"
    figure, axes = figures.panels(1, 3, heading, size=(3.6, 3.2), sharey=True)
    for ax, method, colour in zip(axes.flat, METHODS, figures.COLOURS, strict=False):
        draw_curve(ax, record, method, middle, colour)
    axes[0, 0].set(ylabel="y", ylim=(-2, 2))
    axes[0, 0].legend(fontsize=8, frameon=False, loc="upper center", ncols=3)
    return figure


def draw_curve(ax: Axes, record: Record, method: str, at: int, colour: str) -> None:
    x = np.linspace(*RANGE, record.history[f"curve/{method}"].shape[-1])
    ax.plot(record.history["function/x"], record.history["function/y"], ".", color="0.6", markersize=4, label="points")
    ax.plot(x, function(jnp.asarray(x)), color="0.2", linewidth=1, linestyle="--", label="function")
    for seed, curve in enumerate(record.history[f"curve/{method}"][at]):
        ax.plot(x, curve, color=colour, linewidth=1, alpha=0.8, label="nets" if seed == 0 else None)
    ax.set_title(f"{method}: error {np.median(record.history[f'error/function/{method}'][at]):.3g}", fontsize=9)
    ax.set(xlabel="x")


if __name__ == "__main__":
    command.main(Config, run, plot)
