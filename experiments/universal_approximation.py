"""One hidden layer of sigmoids comes as near to a continuous function as its units allow, on an interval, with a linear output.

    g(x) = sin(2x) + ½|x|    on -3 ≤ x ≤ 3,    ŷ(x) = Σ_j v_j σ(w_j x + b_j) + c

Three nets of each width, and the largest and the root-mean-square error of each on a grid:
- built:   the proof's staircase, a steep sigmoid for each step of g; no training. Its largest error falls as 1/width;
- trained: Adam from random weights. What a net can hold and what training finds are two things: the lecture's 属存在性性质;
- squashed: trained with a sigmoid output, which stays in (0, 1): no width brings its error below that of g clipped to [0, 1].
Beyond the interval nothing is promised, and nothing holds.

Source: lecture row 18 (S0:89, S2:507-514, S3:77). Against S2:507 a net of one hidden layer is not bound to convex regions: that holds for
an AND over threshold units (Lippmann 1987), and "any continuous function" (S0:89) for a compact set, enough hidden units and a linear
output (erratum E14). Cybenko 1989, doi:10.1007/BF02551274; Hornik, Stinchcombe, White 1989, doi:10.1016/0893-6080(89)90020-8.

Command: python -m experiments.universal_approximation        (a minute on two CPU cores)
Expected: the largest error, median over seeds, falls from 1.05 (1 unit) over .46 (8) and .10 (32) to .034 (64), with a spread over seeds
of ten times; the staircase's to .11. With a sigmoid output the rms error stays at .510, and .509 is the least that is possible.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import normal, variance_scaling
from jaxtyping import Array, ArrayLike, Float
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.activations import sigmoid
from jaxnn.learners import supervised
from jaxnn.losses import half_squared_error
from jaxnn.models import MLP, functional
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, Trained

BEYOND = 1.5
"""The pictures reach so much further than the interval."""
OUTPUTS = ("trained", "squashed")
"""With a linear and with a sigmoid output."""


@dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Hidden units."""
    drawn: tuple[int, ...] = (2, 8, 32)
    """Of these, the widths whose curves are drawn."""
    reach: float = 3.0
    """The interval is -reach ≤ x ≤ reach."""
    points: int = 256
    """Of the interval, to train on and to measure at."""
    steps: int = 4000
    """Of Adam, each on all points."""
    learning_rate: float = 0.02
    """At the start; it falls to 0 as a cosine."""
    seeds: int = 8
    """Seeds 0 … n-1 of each width."""
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, widths=self.widths, steps=self.steps, seeds=self.seeds)
        command.at_least(2, points=self.points)
        for flag in ("reach", "learning_rate"):
            if not 0 < getattr(self, flag) < math.inf:
                raise InputError(f"--{flag.replace('_', '-')} must be above 0 and finite, got {getattr(self, flag)}")
        for width in self.drawn:
            if width not in self.widths:
                raise InputError(f"--drawn must be among --widths {self.widths}, got {width}")


def g(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Continuous, with a kink, and with values outside (0, 1)."""
    return jnp.sin(2 * x) + jnp.abs(x) / 2


def staircase(width: int, reach: float, x: Float[Array, "P"]) -> Float[Array, "P"]:
    """c + Σ_j v_j σ(k(x - m_j)): the net of the proof, g's value in the middle of each of width + 1 equal parts of the interval.

    A unit steps up by v_j, the difference of two neighbours' values, at the border m_j between them; k makes the step steep.
    """
    part = 2 * reach / (width + 1)
    values = g(-reach + part * (jnp.arange(width + 1) + 0.5))
    borders, steps = -reach + part * jnp.arange(1, width + 1), jnp.diff(values)
    return values[0] + sigmoid(20 / part * (x[:, None] - borders[None])) @ steps


def net(width: int, steps: int, squash: float | Array, learning_rate: float) -> Learner:
    """A hidden layer of sigmoids; `squash` is 0 for a linear output, 1 for a sigmoid."""
    steep = variance_scaling(16.0, "fan_in", "normal")  # four times as steep as is usual: units that step, all over the interval
    init, apply = functional(MLP((width, 1), activation=sigmoid, kernel_init=steep, bias_init=normal(4.0)))

    def squashed(variables: Mapping, x: Array, **how: object) -> tuple[Array, Mapping]:
        z, variables = apply(variables, x, **how)
        return jnp.where(squash > 0, sigmoid(z), z), variables

    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    return supervised(init, squashed, half_squared_error, optimizer, preprocess=lambda batch: (batch["x"], batch["y"]))


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    x, wide = (jnp.linspace(-reach, reach, config.points) for reach in (config.reach, BEYOND * config.reach))
    history = {"width": np.array(config.widths), "x": np.asarray(wide), "g": np.asarray(g(wide))}
    trained = [train(config, width, {"x": x[:, None], "y": g(x)[:, None]}, wide, keep) for width in config.widths]
    errors, curves, histories = zip(*trained, strict=True)
    history |= {"error": np.stack(errors, 2), "curve": np.stack(curves, 2)}
    history["built_error"] = np.stack([error(staircase(width, config.reach, x), g(x)) for width in config.widths])
    history["built_curve"] = np.stack([staircase(width, config.reach, wide) for width in config.widths])
    history["clipped_error"] = error(jnp.clip(g(x), 0, 1), g(x))
    return command.Outcome(history, AXES, list(comparisons(config, history)), {"seconds": command.seconds(histories)})


AXES = {
    "width": ("width",),
    "x": ("x",),
    "g": ("x",),
    "error": ("seed", "output", "width", "kind"),
    "curve": ("seed", "output", "width", "x"),
    "built_error": ("width", "kind"),
    "built_curve": ("width", "x"),
    "clipped_error": ("kind",),
}


def error(outputs: Float[ArrayLike, "*lead P"], targets: Float[ArrayLike, "P"]) -> np.ndarray:
    """The largest error and the root of the mean squared one: (..., 2)."""
    distance = np.abs(np.asarray(outputs) - np.asarray(targets))
    return np.stack([distance.max(-1), np.sqrt((distance**2).mean(-1))], -1)


def train(config: Config, width: int, data: Batch, wide: Float[Array, "P"], keep: Keep) -> tuple[np.ndarray, np.ndarray, History]:
    """Errors (seeds, outputs, 2) and curves (seeds, outputs, points) of a width."""
    make = partial(net, width, config.steps, learning_rate=config.learning_rate)
    shared = {"axes": {"squash": [0.0, 1.0]}, "num_steps": config.steps, "checkpoint": keep.checkpoint(f"width {width}")}
    what = {"seeds": config.seeds, **shared, **config.sharing.out()}
    state, history = sweep(make, jax.random.key(0), data, label=f"{width} hidden units", **what)

    def curves(squash: Array, state: Any, x: Array) -> Array:
        return Trained(make(squash=squash), state).predict({"x": x[:, None], "y": x[:, None]})[:, 0]

    over = jax.jit(jax.vmap(jax.vmap(curves, (0, 0, None)), (None, 0, None)))
    inside, beyond = (np.asarray(over(jnp.array([0.0, 1.0]), state, x)) for x in (data["x"][:, 0], wide))
    return error(inside, data["y"][:, 0]), beyond, history


def comparisons(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """The largest error of each width, built and trained; the squashed net's mean error and what bounds it."""
    for number, width in enumerate(config.widths):
        yield compare(f"{width} hidden units: largest error, trained", history["error"][:, 0, number, 0])
        yield compare(f"{width} hidden units: largest error, built", history["built_error"][number, :1])
    yield compare(f"{config.widths[-1]} hidden units, sigmoid output: rms error", history["error"][:, 1, -1, 1])
    yield compare("least rms error of any output within [0, 1]", history["clipped_error"][1:])


def plot(record: Record) -> Mapping[str, Figure]:
    return {"error_against_width": draw_errors(record), "curves": draw_curves(record)}


def draw_errors(record: Record) -> Figure:
    """The largest and the rms error against the number of hidden units."""
    figure, axes = figures.panels(1, 2, "Error of a net with one hidden layer of sigmoids on an interval", size=(4.6, 3.6), sharex=True)
    history, widths = record.history, record.history["width"]
    for kind, (ax, title) in enumerate(zip(axes[0], ("largest error", "root-mean-square error"), strict=True)):
        for output, name in enumerate(("trained, linear output", "trained, sigmoid output")):
            figures.band(ax, widths, history["error"][:, output, :, kind], figures.COLOURS[output], name)
        ax.plot(
            widths,
            history["built_error"][:, kind],
            "s--",
            color=figures.COLOURS[2],
            markersize=4,
            linewidth=1.1,
            label="built: a staircase",
        )
        ax.axhline(history["clipped_error"][kind], color="0.4", linewidth=1, linestyle=":", label="g clipped to [0, 1]")
        ax.set(xscale="log", yscale="log", xlabel="hidden units", title=title, xticks=widths)
        ax.set_xticklabels([str(width) for width in widths])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.title.set_fontsize(10)
    axes[0, 0].legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def draw_curves(record: Record) -> Figure:
    """g and the nets of some widths, inside the interval and beyond."""
    drawn, history, reach = record.config["drawn"], record.history, record.config["reach"]
    figure, axes = figures.panels(
        1, len(drawn), "What the nets compute; nothing is promised outside the shaded interval", size=(4.0, 3.4), sharey=True
    )
    for ax, width in zip(axes[0], drawn, strict=True):
        number = list(history["width"]).index(width)
        best = np.argmin(history["error"][:, :, number, 0], 0)
        ax.axvspan(-reach, reach, color="0.95", linewidth=0)
        ax.plot(history["x"], history["g"], color="black", linewidth=2.4, alpha=0.35, label="g(x)")
        ax.plot(history["x"], history["built_curve"][number], color=figures.COLOURS[2], linewidth=1, label="built")
        for output, name in enumerate(OUTPUTS):
            ax.plot(history["x"], history["curve"][best[output], output, number], color=figures.COLOURS[output], linewidth=1.3, label=name)
        ax.set(xlabel="x", ylim=(-1.1, 3.4))
        ax.set_title(f"{width} hidden units, best of {len(history['error'])} seeds", fontsize=10)
    axes[0, 0].legend(fontsize=8, frameon=False, loc="upper center", ncols=2)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
