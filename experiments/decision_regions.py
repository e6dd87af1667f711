"""What a net can cut out of the plane: a half-plane, a convex region, any union of them; one hidden layer can already do more.

Threshold units by hand, every weight a number of the figure's geometry:

    no hidden layer        a neuron                                    a half-plane
    one, under an AND      a half-plane for each side of a polygon     a convex region
    two, AND then OR       an AND for each polygon, an OR of these     a union of convex regions
    one, under 4 of 5      the five sides of a pentagon, θ = 3½        a pentagram, which is not convex

The lecture's "one hidden layer: convex regions" holds for the second line alone (Lippmann 1987): the fourth has one hidden layer too,
and so has XOR. And one hidden layer of sigmoid units is universal (erratum E14): on a compact set, under a linear output and with
enough hidden units it comes as near as one likes to any continuous function (Cybenko 1989, Hornik et al. 1989). Shown as
MLPs of sigmoid units, trained on random points of the same regions, and for the union over the number of hidden units.

Source: Lippmann 1987, doi:10.1109/MASSP.1987.1165576; Cybenko 1989, doi:10.1007/BF02551274; Hornik, Stinchcombe, White 1989,
doi:10.1016/0893-6080(89)90020-8; lecture row 18 (S0:89, S2:507-508, S3:77).

Command: python -m experiments.decision_regions        (1 minute on one CPU core)
Expected: right of the square, without a hidden layer 64 to 77 % but for the half-plane; with one of 32 sigmoid units 99.2 % of the convex
region, 98.1 % of the pentagram and 96.7 % of the union; with two 99.0, 98.7 and 98.1 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import command, figures, planes
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.models.neuron import Network, Neurons, apply, neuron, or_neuron, side_by_side
from jaxnn.optimizers import adam
from jaxnn.record import Record, compare
from jaxnn.train import Checkpoints, sweep
from jaxnn.types import Learner, PyTree, Trained

LOW, HIGH = -1.0, 1.0
FINE = 401
"""Points along each axis of the pictures of what is by hand, which has corners."""
SQUARE = ((-0.8, -0.7), (-0.1, -0.7), (-0.1, 0.0), (-0.8, 0.0))
TRIANGLE = ((-0.3, 0.2), (0.8, 0.2), (0.1, 0.9))
DIAMOND = ((0.5, -0.9), (0.9, -0.45), (0.5, 0.0), (0.1, -0.45))
"""Corners against the clock."""


@dataclass(frozen=True)
class Config:
    units: int = 32
    """Of each hidden layer of the MLPs."""
    widths: tuple[int, ...] = (2, 4, 8, 16, 64)
    """Hidden units of the further nets with one hidden layer."""
    points: int = 2000
    """Of the square [-1, 1]², to train on."""
    batch_size: int = 200
    """Of them in a step."""
    steps: int = 4000
    """Of Adam."""
    learning_rate: float = 0.02
    """Its η."""
    seeds: int = 3
    """Of each net."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, units=self.units, widths=self.widths, batch_size=self.batch_size, steps=self.steps, seeds=self.seeds)
        command.at_least(self.batch_size, points=self.points)


def sides(corners: Sequence[tuple[float, float]]) -> Neurons:
    """A neuron for each side of a convex polygon with its corners against the clock: 1 on the polygon's side of it."""
    here = jnp.array(corners)
    along = jnp.roll(here, -1, axis=0) - here
    inward = jnp.stack([-along[:, 1], along[:, 0]], axis=1)
    return Neurons(inward.T, (inward * here).sum(1))


def at_least(count: int, of: int) -> Neurons:
    """1 where at least `count` of its inputs are 1; an AND where all must be."""
    return neuron([1.0] * of, count - 0.5)


def convex(corners: Sequence[tuple[float, float]]) -> Network:
    """1 inside the polygon: its sides under an AND."""
    return sides(corners), at_least(len(corners), len(corners))


def union(*polygons: Sequence[tuple[float, float]]) -> Network:
    """1 inside any of the polygons: all their sides, an AND for each polygon, an OR."""
    counts = [len(corners) for corners in polygons]
    belongs = np.repeat(np.eye(len(polygons)), counts, axis=0)
    ands = Neurons(jnp.array(belongs, jnp.float32), jnp.array(counts, jnp.float32) - 0.5)
    return side_by_side(*map(sides, polygons)), ands, or_neuron(len(polygons))


def pentagram(radius: float = 0.35) -> Network:
    """1 on a five-pointed star: at least 4 of the 5 sides of the pentagon in it. Two layers, not convex."""
    angles = np.pi * (0.3 + 0.4 * np.arange(5))
    return sides([(radius * float(np.cos(a)), radius * float(np.sin(a))) for a in angles]), at_least(4, 5)


class Region(NamedTuple):
    title: str
    network: Network


def regions() -> dict[str, Region]:
    """By name, in the order of the figure."""
    return {
        "half_plane": Region("no hidden layer", (neuron([1.0, 0.5], 0.1),)),
        "convex": Region("one, under an AND", convex(((-0.7, -0.5), (0.0, -0.8), (0.7, -0.2), (0.5, 0.6), (-0.4, 0.7)))),
        "pentagram": Region("one, under 4 of 5", pentagram()),
        "union": Region("two: ANDs under an OR", union(SQUARE, TRIANGLE, DIAMOND)),
    }


class Net(NamedTuple):
    """A learner, and its logits for each seed's state; both of the same net are the same, which then compile once for all regions."""

    make: Callable[[], Learner]
    logits: Callable[[PyTree, Array], Float[Array, "seeds grid"]]


@cache
def sigmoid_net(hidden: tuple[int, ...], learning_rate: float) -> Net:
    net = functional(MLP((*hidden, 1)))
    learner = supervised(*net, losses.sigmoid_cross_entropy, adam(learning_rate), preprocess=planes.x_and_target)
    return Net(lambda: learner, jax.jit(jax.vmap(lambda state, x: Trained(learner, state).predict({"x": x})[..., 0], (0, None))))


class Learnt(NamedTuple):
    logits: Float[Array, "seeds grid"]
    accuracy: Float[Array, "seeds"]
    """On the grid."""


def train(network: Network, hidden: tuple[int, ...], config: Config, checkpoint: Checkpoints | None = None) -> Learnt:
    """MLPs that learn the region of a net from random points of it."""
    x_key, key = jax.random.split(jax.random.key(0))
    x, grid = jax.random.uniform(x_key, (config.points, 2), minval=LOW, maxval=HIGH), jnp.array(planes.grid(LOW, HIGH))
    data, net = {"x": x, "label": apply(network, x)[:, 0]}, sigmoid_net(hidden, config.learning_rate)
    label = f"hidden units: {', '.join(map(str, hidden)) or 'none'}"
    how: dict[str, Any] = {"batch_size": config.batch_size, "num_steps": config.steps, "checkpoint": checkpoint, "label": label}
    run = sweep(net.make, key, data, seeds=config.seeds, **how)
    logits = net.logits(run.state, grid)
    right = (logits >= 0) == jnp.broadcast_to(apply(network, grid)[:, 0] == 1, logits.shape)
    return Learnt(logits, right.mean(1))


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    grid = jnp.array(planes.grid(LOW, HIGH, FINE))
    nets, layers = {name: region.network for name, region in regions().items()}, [(config.units,) * count for count in range(3)]
    history = {"by_hand": np.stack([apply(net, grid)[:, 0] for net in nets.values()]).astype(np.uint8)}
    found = {name: [train(net, hidden, config, keep.checkpoint(f"{name} {hidden}")) for hidden in layers] for name, net in nets.items()}
    history["logits"] = np.array([[learnt.logits[0] for learnt in row] for row in found.values()], np.float16)
    history["accuracy"] = np.array([[learnt.accuracy for learnt in row] for row in found.values()])
    others = [width for width in config.widths if width != config.units]
    by_width = {width: train(nets["union"], (width,), config, keep.checkpoint(f"union {width}")).accuracy for width in others}
    by_width = dict(sorted({**by_width, config.units: found["union"][1].accuracy}.items()))
    history |= {"width": np.array(list(by_width)), "width_accuracy": np.stack(list(by_width.values()))}
    axes: dict[str, tuple[str, ...]] = {"by_hand": ("region", "fine grid"), "logits": ("region", "layers", "grid")}
    axes |= {"accuracy": ("region", "layers", "seed"), "width": ("width",), "width_accuracy": ("width", "seed")}
    comparisons = [
        compare(f"{name}, {count} hidden layers trained: right of the square, %", 100 * learnt.accuracy)
        for name, row in found.items()
        for count, learnt in enumerate(row)
    ]
    widest = max(by_width)
    comparisons.append(compare(f"union, one hidden layer of {widest} trained: right, %", 100 * by_width[widest]))
    return command.Outcome(history, axes, comparisons)


def plot(record: Record) -> Mapping[str, Figure]:
    return {"decision_regions": _regions(record), "decision_width": _width(record.history)}


def _regions(record: Record) -> Figure:
    titles = [region.title for region in regions().values()]
    figure, axes = figures.panels(4, len(titles), "Regions of nets: threshold units by hand, and sigmoid units trained", (2.9, 2.9))
    h = record.history
    for column, title in enumerate(titles):
        planes.shade(axes[0, column], h["by_hand"][column].astype(float) - 0.5, LOW, HIGH)
        axes[0, column].set_title(f"by hand, hidden layers:\n{title}", fontsize=9)
        for layers in range(3):
            ax = axes[1 + layers, column]
            planes.shade(ax, h["logits"][column, layers], LOW, HIGH)
            ax.set_title(f"{np.median(h['accuracy'][column, layers]):.1%} right", fontsize=9)
    for ax in axes.flat:
        ax.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    units = record.config["units"]
    for row, name in enumerate(("by hand", "trained, none hidden", f"trained, {units} hidden", f"trained, {units} + {units} hidden")):
        axes[row, 0].set_ylabel(name, fontsize=10)
    return figure


def _width(h: Mapping[str, np.ndarray]) -> Figure:
    figure, axes = figures.panels(1, 1, "One hidden layer of sigmoid units is enough, if it is wide", (5.4, 3.8))
    ax = axes[0, 0]
    figures.band(ax, h["width"], 100 * (1 - h["width_accuracy"].T), figures.COLOURS[0], "trained on the union of three regions")
    ax.plot(h["width"], 100 * (1 - h["width_accuracy"]), ".", color=figures.COLOURS[0], markersize=5)
    ax.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="wrong of the square (%)")
    ax.set_xticks(h["width"], list(map(str, h["width"])), minor=False)
    ax.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    ax.set_ylim(0.8 * 100 * (1 - h["width_accuracy"]).min(), 60)
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
