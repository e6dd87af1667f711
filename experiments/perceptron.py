"""The perceptron separates what a line can separate within (R/γ)² mistakes; on XOR it cycles, and one hidden layer solves it.

w ← w + η(t - y)x and θ ← θ - η(t - y) for every example that is wrong, from zero. Points of [-1, 1]² stand at least the margin away
from a random line. Against the theorem's bound, with R = max ‖(1, x)‖ and γ the distance from that line in the coordinates (1, x),
the mistakes are counted: it holds for every order of the examples, and is far from tight.

XOR has no such line: the rule never rests, Gallant's pocket keeps the three of four that a line can do, and with the product x_1 x_2 as
a third input (a predicate of order 2, erratum E13) the same rule solves it. So does a hidden layer: OR and NAND under an AND
with weights by hand, or 2 + 1 sigmoid units by gradient descent, which from some starts ends in a local minimum.

Source: Rosenblatt 1958, doi:10.1037/h0042519; Novikoff 1962, On convergence proofs for perceptrons; Minsky and Papert 1969, Perceptrons;
Gallant 1990, doi:10.1109/72.80230; lecture rows 14-16.

Command: python -m experiments.perceptron        (20 seconds on one CPU core)
Expected: at margins of .01 to .3 the mistakes are a median of 3 % of the bound, at most 17 %; the pocket gets 1 of XOR's 4 wrong, the rule
with x_1 x_2 none; of 20 nets of 2 + 1 sigmoid units 9 solve it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures, planes
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses
from jaxnn.checkpoint import Goal
from jaxnn.learners import perceptron_rule, pocket_rule, supervised
from jaxnn.models import MLP, functional
from jaxnn.models.neuron import Neurons, apply, fire, truth_table_inputs, xor_network
from jaxnn.models.perceptron import mistake_bound, products
from jaxnn.optimizers import adam
from jaxnn.record import Record, compare
from jaxnn.train import Reached, fit, sweep
from jaxnn.types import Batch, InputError, Learner, Metrics, Trained

XOR = np.array([0, 1, 1, 0], np.int32)
RANGE = (-0.6, 1.6)
"""Of the pictures of XOR."""


@dataclass(frozen=True)
class Config:
    points: int = 40
    """Examples of each separable data set."""
    margin: float = 0.05
    """Least distance from the line in the data set whose boundary is drawn."""
    margins: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """Those over which mistakes are held against the bound."""
    seeds: int = 10
    """Data sets for each margin, and twice as many trained nets."""
    passes: int = 1000
    """At most, through the separable data."""
    xor_passes: int = 40
    """Of four examples each."""
    xor_steps: int = 1000
    """Of Adam at .05, for the nets with a hidden layer."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, seeds=self.seeds, passes=self.passes, xor_passes=self.xor_passes, xor_steps=self.xor_steps)
        command.at_least(2, points=self.points)
        for margin in (self.margin, *self.margins):
            if not 0 < margin < 10:
                raise InputError(f"a margin must be above 0 and below 10, got {margin}")


class Separable(NamedTuple):
    data: dict[str, Array]
    line: Neurons
    """From which all points are at least the margin away."""


def separable(key: Array, points: int, margin: float) -> Separable:
    """Points of [-1, 1]², pushed away from a random line by the margin."""
    angle_key, offset_key, x_key = jax.random.split(key, 3)
    angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
    normal = jnp.array([jnp.cos(angle), jnp.sin(angle)])
    line = Neurons(normal[:, None], jax.random.uniform(offset_key, (1,), minval=-0.3, maxval=0.3))
    x = jax.random.uniform(x_key, (points, 2), minval=-1, maxval=1)
    label = fire(line, x)[:, 0].astype(jnp.int32)
    return Separable({"x": x + margin * jnp.outer(2 * label - 1, normal), "label": label}, line)


def x_and_label(batch: Batch) -> tuple[Array, Array]:
    return batch["x"], batch["label"]


def watched(learner: Learner) -> Learner:
    """The learner, reporting its weights and threshold (w_1, w_2, θ) after each step."""

    def step(key: Array, state: Any, batch: Batch) -> tuple[Any, Metrics]:
        state, metrics = learner.step(key, state, batch)
        return state, {**metrics, "weights": jnp.append(state.perceptron.weights[:, 0], state.perceptron.thresholds)}

    return learner._replace(step=step)


def correct(logits: Float[Array, "*batch K"], t: Array) -> Float[Array, "*batch"]:
    return ((logits[..., 0] >= 0) == (t[..., 0] == 1)).astype(jnp.float32)


RULE = perceptron_rule(preprocess=x_and_label)
WATCHED = watched(RULE)
POCKET = watched(pocket_rule(preprocess=x_and_label))
TWO_ONE = supervised(
    *functional(MLP((2, 1))), losses.sigmoid_cross_entropy, adam(0.05), preprocess=planes.x_and_target, metrics={"right": correct}
)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    history = boundary(config) | bounds(config) | xor(config)
    ratio = (history["bound/mistakes"] / history["bound/bound"]).ravel()
    solved = history["xor/right"] == 1
    comparisons = [
        compare("separable: mistakes / (R/γ)² (theorem: at most 1)", ratio),
        compare("XOR: examples of 4 that the pocket gets wrong (no line: fewer than 1)", [history["xor/pocket_errors"][-1]]),
        compare("XOR with x_1 x_2 as an input: wrong", [history["xor/order_two_error"][-1] * 4]),
        compare("XOR: 2 + 1 trained sigmoid units right of 4", 4 * history["xor/right"]),
        compare("XOR: share of the starts that solve it", [solved.mean()]),
    ]
    return command.Outcome(history, {name: AXES[name] for name in history}, comparisons)


AXES: dict[str, tuple[str, ...]] = {
    "boundary/x": ("point", "axis"),
    "boundary/label": ("point",),
    "boundary/weights": ("update", "weight"),
    "bound/margin": ("margin",),
    "bound/mistakes": ("margin", "seed"),
    "bound/bound": ("margin", "seed"),
    "bound/error": ("margin", "seed"),
    "xor/weights": ("step", "weight"),
    "xor/pocket_errors": ("step",),
    "xor/pocket": ("weight",),
    "xor/order_two_error": ("step",),
    "xor/right": ("seed",),
    "xor/by_hand": ("grid",),
    "xor/trained": ("grid",),
}


def until_separated(learner: Learner, key: Array, data: Batch, config: Config, batch_size: int | None = None) -> Any:
    """`fit`, ended by the first pass through the data that leaves no error."""
    steps = config.points if batch_size == 1 else 1
    stop = Reached(Goal("error", higher_is_better=False), 0.0)
    most = config.passes * steps
    return fit(learner, key, data, batch_size=batch_size, num_steps=most, eval_every=steps, eval_data=data, stop=stop, label=None)


def boundary(config: Config) -> dict[str, np.ndarray]:
    """The weights after every update on one data set."""
    data_key, key = jax.random.split(jax.random.key(1))
    data, _ = separable(data_key, config.points, config.margin)
    train = until_separated(WATCHED, key, data, config, batch_size=1).history.train
    updates = np.flatnonzero(np.diff(train["mistakes"], prepend=0))
    return {"boundary/x": data["x"], "boundary/label": data["label"], "boundary/weights": train["weights"][updates]}


def bounds(config: Config) -> dict[str, np.ndarray]:
    """Mistakes and bound of `seeds` data sets at each margin."""
    rows = []
    for margin in config.margins:
        for seed in range(config.seeds):
            data_key, key = jax.random.split(jax.random.fold_in(jax.random.key(2), seed))
            data, line = separable(data_key, config.points, margin)
            run = until_separated(RULE, key, data, config)
            rows.append([run.state.mistakes[0], mistake_bound(line, *data.values())[0], run.history.evaluation["error"][-1]])
    table = np.array(rows, float).reshape(len(config.margins), config.seeds, 3)
    named = zip(("mistakes", "bound", "error"), np.moveaxis(table, -1, 0), strict=True)
    return {"bound/margin": np.array(config.margins)} | {f"bound/{name}": values for name, values in named}


def xor(config: Config) -> dict[str, np.ndarray]:
    """XOR by the pocket, by a rule of order two, by hand and by gradient descent."""
    pocket_key, order_key, net_key = jax.random.split(jax.random.key(3), 3)
    x, label = truth_table_inputs(2), jnp.array(XOR)
    pocket = fit(POCKET, pocket_key, {"x": x, "label": label}, num_steps=config.xor_passes, label=None)
    order_two = fit(RULE, order_key, {"x": products(x, 2), "label": label}, num_steps=config.xor_passes, label=None)
    steps, seeds = config.xor_steps, 2 * config.seeds
    data = {"x": x, "label": label}
    nets = sweep(lambda: TWO_ONE, net_key, data, seeds=seeds, num_steps=steps, eval_data=data, label=None)
    right, grid = nets.history.evaluation["right"][:, -1], {"x": jnp.array(planes.grid(*RANGE))}
    best = jax.tree.map(lambda leaf: leaf[int(np.argmax(right))], nets.state)
    return {
        "xor/weights": pocket.history.train["weights"],
        "xor/pocket_errors": pocket.history.train["pocket_errors"],
        "xor/pocket": np.append(pocket.state.best.weights, pocket.state.best.thresholds),
        "xor/order_two_error": order_two.history.train["error"],
        "xor/right": right,
        "xor/by_hand": np.asarray(apply(xor_network(), grid["x"])[:, 0]),
        "xor/trained": np.asarray(Trained(TWO_ONE, best).predict(grid)[:, 0]),
    }


def plot(record: Record) -> Mapping[str, Figure]:
    h = record.history
    return {"perceptron_boundary": _boundary(h), "perceptron_bound": _bound(h), "perceptron_xor": _xor(h)}


def _boundary(h: Mapping[str, np.ndarray]) -> Figure:
    x, label, weights = h["boundary/x"], h["boundary/label"], h["boundary/weights"]
    shown = np.unique(np.geomspace(1, len(weights), 6).round().astype(int))
    columns = min(3, len(shown))
    figure, axes = figures.panels(
        -(-len(shown) // columns), columns, "The boundary moves with every mistake, until there is none", (3.2, 3.2)
    )
    low, high = -1.3, 1.3
    for ax, update in zip(axes.flat, shown, strict=False):
        *w, threshold = weights[update - 1]
        planes.shade(ax, planes.grid(low, high) @ w - threshold, low, high)
        wrong = (x @ w - threshold >= 0) != label
        planes.mark(ax, x, label)
        ax.scatter(*x[wrong].T, s=60, facecolors="none", edgecolors="k", linewidths=0.8, zorder=4)
        ax.set_title(f"after mistake {update} of {len(weights)}: {wrong.sum()} wrong (ringed)", fontsize=9)
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    return figure


def _bound(h: Mapping[str, np.ndarray]) -> Figure:
    figure, axes = figures.panels(1, 1, "Mistakes until all are right, against the convergence theorem", (5.6, 4.4))
    ax = axes[0, 0]
    colours = figures.ordered(len(h["bound/margin"]))
    for margin, bound, mistakes, colour in zip(h["bound/margin"], h["bound/bound"], h["bound/mistakes"], colours, strict=True):
        ax.scatter(bound, np.maximum(mistakes, 0.5), s=22, color=colour, alpha=0.8, label=f"margin {margin:g}")
    ends = np.array([h["bound/bound"].min(), h["bound/bound"].max()])
    ax.plot(ends, ends, color="0.3", linewidth=1.2, label="the bound")
    ax.set(xscale="log", yscale="log", xlabel="bound (R/γ)²", ylabel="mistakes")
    ax.legend(frameon=False, fontsize=9)
    return figure


def _xor(h: Mapping[str, np.ndarray]) -> Figure:
    figure, axes = figures.panels(1, 4, "XOR: no line separates it, a hidden layer does", (3.5, 3.3))
    x = np.asarray(truth_table_inputs(2))
    passes = np.arange(1, len(h["xor/weights"]) + 1)
    wrong = ((x @ h["xor/weights"][:, :2].T - h["xor/weights"][:, 2] >= 0) != XOR[:, None]).sum(0)
    ax = axes[0, 0]
    ax.plot(passes, wrong, color=figures.COLOURS[0], linewidth=1.0, label="the rule's weights")
    ax.plot(passes, h["xor/pocket_errors"], color=figures.COLOURS[1], linewidth=1.8, label="the pocket's")
    ax.plot(passes, 4 * h["xor/order_two_error"], color=figures.COLOURS[2], linewidth=1.4, label="with $x_1x_2$ as an input")
    ax.set(xlabel="passes of four examples", ylabel="wrong of four", yticks=range(5), ylim=(-0.15, 5.6))
    ax.legend(frameon=False, fontsize=8, loc="upper right")
    ax.set_title("the perceptron", fontsize=9)
    pocket = planes.grid(*RANGE) @ h["xor/pocket"][:2] - h["xor/pocket"][2]
    solved = f"{np.mean(h['xor/right'] == 1):.0%} of {h['xor/right'].size} starts"
    titles = ("in the pocket: three of four", "OR and NAND under AND, by hand", f"2 + 1 sigmoid units, trained\n({solved} solve it)")
    for ax, values, title in zip(axes[0, 1:], (pocket, h["xor/by_hand"] - 0.5, h["xor/trained"]), titles, strict=True):
        _plane(ax, x, values, title)
    return figure


def _plane(ax: Axes, x: np.ndarray, values: np.ndarray, title: str) -> None:
    planes.shade(ax, values, *RANGE)
    planes.mark(ax, x, XOR, size=60)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xticks=(0, 1), yticks=(0, 1))
    ax.set_title(title, fontsize=9)


if __name__ == "__main__":
    command.main(Config, run, plot)
