"""Inputs should be normalised: raw, scaled or standardised, each at its own best rate, decide how fast a net learns and whether it does.

Gradient descent can take no rate above 2/λ_max, and along the smallest eigenvalue of the Hessian it crawls at that rate: its condition
number κ = λ_max/λ_min counts the steps. For a linear neuron the Hessian is E[x xᵀ], of the inputs alone: a feature in other units, or a
mean far from zero, makes κ large, and standardising makes it small. At the best rate 2/(λ_max + λ_min) a step shrinks the error by
(κ - 1)/(κ + 1) at least, which is held against training on two generated features of the scales 1 and 10, the means 5 and 0 and a
correlation of .6. To divide both by one number leaves κ about where it was.

Digits, 784-30-10 with sigmoid units under mini-batch descent: pixels from 0 to 255 as they are, divided by 255, and each pixel
standardised by the training images' mean and deviation (those that are nearly constant are only centred). All run over one grid of
rates, and each is shown at its best, that of the lowest training loss. Raw pixels are more than a matter of the rate: they start
the sigmoids saturated, and the first layer would need 1/255² of the others' rate.

Source: lecture row 166 (S2:519, "normalise where necessary"). LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, section 4.3,
doi:10.1007/3-540-49430-8_2.

Command: python -m experiments.input_normalisation        (half a minute on two CPU cores)
Expected: κ of the two features is 3,900 raw, 2,100 divided by their largest number, 3.3 standardised; digits after 10 epochs, each form at
its best rate: a training loss of .71, .075 and .017, and 19, 9.4 and 9.3 % of the test images wrong.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.descent import LOSS, NET, best, final_loss, least_squares_descent, moments, with_bias
from experiments.unfinished import NOTHING, Keep
from jaxnn import initializers, losses
from jaxnn.learners import standardised, supervised
from jaxnn.measure import sharpness
from jaxnn.models import MLP, functional
from jaxnn.optimizers import sgd
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, PyTree

INPUTS = {"raw": "raw", "scaled": "divided by the largest", "standardised": "standardised"}
COLOURS = {"raw": "#d55e00", "scaled": "#0072b2", "standardised": "#009e73"}
QUIET = 0.01
"""A pixel, from 0 to 1, of a smaller standard deviation is only centred: divided by that, its few grey dots would outweigh all else."""
FAR = 100
"""λ_1/λ_100 stands for the condition number of the pixels, many of which are always white: λ_min is 0."""


@dataclass(frozen=True)
class Config:
    examples: int = 200
    """Generated, for the linear neuron."""
    linear_steps: int = 300
    """Of full-batch gradient descent."""
    learning_rates: tuple[float, ...] = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    """The grid of η, for all inputs of the digits."""
    images: int = 4000
    """The first so many training images."""
    batch_size: int = 100
    """Images a step."""
    epochs: int = 10
    """Passes over them."""
    seeds: int = 3
    """Seeds 0 … n-1."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, linear_steps=self.linear_steps, images=self.images, batch_size=self.batch_size, epochs=self.epochs)
        command.at_least(1, seeds=self.seeds)
        command.at_least(4, examples=self.examples)
        if not all(0 < rate < math.inf for rate in self.learning_rates):
            raise InputError(f"--learning-rates must be above 0 and finite, got {' '.join(map(str, self.learning_rates))}")
        if self.batch_size > self.images:
            raise InputError(f"--batch-size must not exceed --images {self.images}, got {self.batch_size}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    linear, first = linear_neuron(config, keep)
    train, test = (command.load_digits(config.digits, split) for split in (f"train[:{config.images}]", "test"))
    on_digits, second = digits(config, train.arrays, test.arrays, keep)
    history = {**linear, **on_digits}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"data": train.source, "test_data": test.source, "seconds": command.seconds([*first, *second])}
    return command.Outcome(history, axes, list(compare_all(config, history)), about)


AXES = {
    "linear_gap": ("step",),
    "linear_exact": ("step",),
    "linear_eigenvalues": ("eigenvalue",),
    "eigenvalues": ("eigenvalue",),
    "sharpness": ("seed",),
    "loss": ("seed", "learning_rate", "epoch"),
    "test_error": ("seed", "learning_rate"),
    "diverged_at": ("seed", "learning_rate"),
}


def normalised(x: np.ndarray) -> dict[str, np.ndarray]:
    """(N, D) in all three forms; scaling divides all features by the one largest number."""
    return {"raw": x, "scaled": x / np.abs(x).max(), "standardised": (x - x.mean(0)) / x.std(0)}


def features(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Two features of correlation .6, with means of 5 and 0 and deviations of 1 and 10; and a linear function of them with noise."""
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, config.examples))
    x = np.stack([5 + first, 10 * (0.6 * first + 0.8 * other)], -1)
    return x, (x @ [2.0, -0.1] + 1 + 0.1 * rng.normal(size=config.examples))[:, None]


def best_rate(eigenvalues: np.ndarray) -> float:
    """2/(λ_max + λ_min), at which the largest and the smallest eigenvalue are equally slow."""
    return 2 / (eigenvalues.max() + eigenvalues.min())


def linear_neuron(config: Config, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """The loss above its least before every step, trained and in closed form, for every form of the inputs at its best rate."""
    x, y = features(config)
    forms = normalised(x)
    eigenvalues = {name: moments(with_bias(inputs))[0] for name, inputs in forms.items()}
    rates = jnp.array([best_rate(values) for values in eigenvalues.values()], jnp.float32)
    model = functional(MLP((1,), kernel_init=initializers.zeros))

    def learner(form: Array) -> Learner:
        preprocess = lambda batch: (batch["x"][:, form], batch["y"])  # noqa: E731
        return supervised(*model, losses.half_squared_error, sgd(rates[form]), preprocess=preprocess)

    data = {"x": np.stack(list(forms.values()), 1).astype(np.float32), "y": y.astype(np.float32)}
    loop = partial(sweep, learner, jax.random.key(0), data, seeds=1, axes={"form": range(len(forms))}, num_steps=config.linear_steps)
    history = loop(checkpoint=keep.checkpoint("linear neuron"), label="linear neuron").history
    arrays: dict[str, Any] = {}
    for number, (name, inputs) in enumerate(forms.items()):
        exact, least = least_squares_descent(with_bias(inputs), y, float(rates[number]), np.arange(config.linear_steps))
        arrays |= {f"linear_gap/{name}": history.train["loss"][0, number] - least, f"linear_exact/{name}": exact}
        arrays |= {f"linear_eigenvalues/{name}": eigenvalues[name]}
    return arrays, [history]


def pixels(name: str, train: np.ndarray) -> Callable[[Batch], tuple[Array, Array]]:
    """`preprocess` for one of INPUTS, by the mean and deviation of the training images (N, H, W, 1)."""
    mean, deviation = train.mean(0, dtype=float) / 255, train.std(0, dtype=float) / 255
    forms: dict[str, tuple[Any, Any]] = {
        "raw": (0.0, 1 / 255),
        "scaled": (0.0, 1.0),
        "standardised": (mean, np.where(deviation > QUIET, deviation, 1)),
    }
    return standardised(*forms[name])


def digit_learner(preprocess: Callable[[Batch], tuple[Array, Array]]) -> Callable[[Any], Learner]:
    """784-30-10 under gradient descent at a rate that may be traced."""
    return lambda learning_rate: supervised(*NET, LOSS, sgd(learning_rate), preprocess=preprocess, metrics={"accuracy": losses.accuracy})


def digits(config: Config, train: Batch, test: Batch, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """Every form of the pixels over the grid of rates: the loss of all training images by the epoch, the test error at the end."""
    rates, epoch = sorted(set(config.learning_rates)), config.images // config.batch_size
    arrays: dict[str, Any] = {}
    times = []
    for name in INPUTS:
        preprocess = pixels(name, train["image"])
        make = digit_learner(preprocess)
        loop = partial(
            sweep,
            make,
            jax.random.key(0),
            train,
            seeds=config.seeds,
            axes={"learning_rate": rates},
            batch_size=config.batch_size,
            num_steps=config.epochs * epoch,
            eval_every=epoch,
            **config.sharing.out(),
        )
        state, history = loop(eval_data=train, checkpoint=keep.checkpoint(name), label=f"digits, {INPUTS[name]}")
        tested = loop(eval_data=test, start=(config.epochs * epoch, state), label=None).history
        times += [history, tested]
        x, y = preprocess(train)
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(config.seeds))
        starts = jax.vmap(make(0.0).init, in_axes=(0, None))(keys, train).variables["params"]
        arrays |= {
            f"loss/{name}": history.evaluation["loss"],
            f"diverged_at/{name}": history.diverged_at,
            f"test_error/{name}": 100 * (1 - tested.evaluation["accuracy"][..., -1]),
            f"eigenvalues/{name}": moments(with_bias(np.asarray(x, float).reshape(len(x), -1)))[0],
            f"sharpness/{name}": np.asarray(largest_eigenvalues(starts, x, y)),
        }
    return arrays, times


@jax.jit
def largest_eigenvalues(params: PyTree, x: Array, y: Array) -> Float[Array, "seeds"]:
    """λ_max of the Hessian of the loss of all images, at each of the weights (seeds,)."""

    def one(params: PyTree) -> Array:
        mean_loss = lambda w: LOSS(NET.apply({"params": w}, x, train=False, rngs=None)[0], y).mean()  # noqa: E731
        return sharpness(jax.random.key(1), mean_loss, params, iterations=20)

    return lax.map(one, params)


def compare_all(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """Condition numbers, rates and what they come to."""
    rates = sorted(set(config.learning_rates))
    for name, words in INPUTS.items():
        eigenvalues = history[f"linear_eigenvalues/{name}"]
        yield compare(f"linear neuron, {words}: condition number", [eigenvalues[0] / eigenvalues[-1]])
        gap = history[f"linear_gap/{name}"]
        yield compare(f"linear neuron, {words}: loss above its least after {len(gap) - 1} steps, share of the first", [gap[-1] / gap[0]])
    for name, words in INPUTS.items():
        at = best(history[f"loss/{name}"], history[f"diverged_at/{name}"])
        lost = history[f"diverged_at/{name}"][:, at] >= 0
        eigenvalues, sharp = history[f"eigenvalues/{name}"], history[f"sharpness/{name}"]
        yield compare(f"digits, {words}: λ_1/λ_{FAR} of E[x xᵀ]", [eigenvalues[0] / eigenvalues[FAR - 1]])
        yield compare(f"digits, {words}: 2/|λ|_max at the start", 2 / np.abs(sharp))
        what = f"digits, {words}, best η = {rates[at]:g}"
        yield compare(f"{what}: training loss after {config.epochs} epochs", history[f"loss/{name}"][:, at, -1], diverged=lost)
        yield compare(f"{what}: test error, %", history[f"test_error/{name}"][:, at], diverged=lost)


def plot(record: Record) -> Mapping[str, Figure]:
    return {"digits": draw_digits(record), "linear": draw_linear(record)}


def draw_linear(record: Record) -> Figure:
    """The loss above its least by the step; lines trained, dots in closed form."""
    heading = "A linear neuron, each form of its inputs at its best rate"
    figure, axes = figures.panels(1, 1, heading, size=(6.8, 4.2))
    for name, words in INPUTS.items():
        gap, exact = record.history[f"linear_gap/{name}"], record.history[f"linear_exact/{name}"]
        eigenvalues = record.history[f"linear_eigenvalues/{name}"]
        above = exact > 1e-6 * exact[0]  # below that float32 has no more digits
        steps = np.flatnonzero(np.cumprod(above))
        condition = eigenvalues[0] / eigenvalues[-1]
        label = f"{words}: κ = {condition:,.0f}" if condition >= 10 else f"{words}: κ = {condition:.1f}"
        axes[0, 0].plot(steps + 1, np.maximum(gap[steps], 1e-12), color=COLOURS[name], linewidth=1.3, label=label)
        dots = np.unique(np.geomspace(1, len(steps), 12).astype(int)) - 1
        axes[0, 0].plot(steps[dots] + 1, exact[steps[dots]], ".", color=COLOURS[name])
    axes[0, 0].set(xscale="log", yscale="log", xlabel="step, the first being 1; lines trained, dots exact", ylabel="loss above its least")
    axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def draw_digits(record: Record) -> Figure:
    """The loss by the epoch at the best rates; after the last epoch against the rate; the spectra of the inputs."""
    rates = sorted(set(record.config["learning_rates"]))
    heading = f"784-30-10 on {record.config['images']:,} digits, pixels in three forms"
    figure, axes = figures.panels(1, 3, heading, size=(4.3, 3.7))
    for name, words in INPUTS.items():
        loss, diverged = record.history[f"loss/{name}"], record.history[f"diverged_at/{name}"]
        at, colour = best(loss, diverged), COLOURS[name]
        alive = loss[:, at][diverged[:, at] < 0]
        if len(alive):
            figures.band(axes[0, 0], np.arange(alive.shape[1]), alive, colour, f"{words}, η = {rates[at]:g}")
        draw_rates(axes[0, 1], rates, loss, diverged, colour, 2 / float(np.median(np.abs(record.history[f"sharpness/{name}"]))))
        eigenvalues = record.history[f"eigenvalues/{name}"]
        axes[0, 2].plot(np.arange(1, len(eigenvalues) + 1), eigenvalues, color=colour, linewidth=1.4)
    axes[0, 0].set(yscale="log", xlabel="epoch", ylabel="training loss", title="at the best rate of each")
    axes[0, 0].legend(frameon=False, fontsize=8)
    axes[0, 1].set(xscale="log", yscale="log", xlabel="η; dotted: 2/|λ|$_{max}$ at the start", title="after the last epoch")
    axes[0, 2].set(xscale="log", yscale="log", xlabel="number i", title="eigenvalues λ$_i$ of E[x xᵀ]", ylim=(1e-5, None))
    for ax in axes[0]:
        ax.title.set_fontsize(10)
    return figure


def draw_rates(ax: Axes, rates: list[float], loss: np.ndarray, diverged: np.ndarray, colour: str, limit: float) -> None:
    final = final_loss(loss, diverged)
    shown = np.isfinite(final)
    ax.plot(np.array(rates)[shown], final[shown], "-o", color=colour, markersize=4, linewidth=1.4)
    ax.axvline(limit, color=colour, linestyle=":", linewidth=1.2)


if __name__ == "__main__":
    command.main(Config, run, plot)
