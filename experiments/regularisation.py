"""A penalty on the weights trades fit for small weights: L2 shrinks all, L1 makes most of them zero; either can help where examples err.

Regression: 40 features of which 6 matter, 60 noisy examples, one linear neuron under E + ½λΣw² (ridge) or E + λΣ|w| (the lasso, by its
proximal step), trained by gradient descent for a grid of λ; coefficients against λ, and the error of fresh examples. Where features are
orthogonal the lasso is the least-squares solution moved towards zero by λ; here they are drawn at random.

Digits: 784-30-10 with ReLU units on few images, a fifth of which have a wrong label, a grid of λ for L2, for L1 by its gradient and for L1
by its proximal step: the test error against λ, the share of weights that are exactly zero, and the weights' histograms. Under the gradient
of L1 no weight is exactly zero. Validation images choose the λ at which test errors are compared; biases go free. With
`--wrong-labels 0` no penalty lowers the test error of 15 %, but the L1 of λ = .001 takes 60 % of the weights at no cost.

Source: lecture rows 50 and 167 (S0:125, further constraints in the cost function; S1:44-48, 206, regression is the other task). Hoerl &
Kennard 1970, doi:10.1080/00401706.1970.10488634; Tibshirani 1996, doi:10.1111/j.2517-6161.1996.tb02080.x.

Command: python -m experiments.regularisation        (half a minute on two CPU cores)
Expected: fresh examples err by 12.5 without a penalty, 9.4 at the best λ of ridge, 6.6 at that of the lasso, which sets 62 % of the
irrelevant coefficients to zero; digits: 29 % wrong without a penalty, 23 % with L2, 31 % with L1, which takes 71 % of the weights.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from experiments import command
from experiments.regularisation_figures import METHODS, draw_digits, draw_histograms, draw_regression
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, initializers, losses
from jaxnn.learners import supervised
from jaxnn.leaves import weights
from jaxnn.models import MLP, functional
from jaxnn.optimizers import sgd
from jaxnn.penalties import l1, l2, shrink
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner

EDGES = np.concatenate([-np.geomspace(1, 1e-4, 40), [0], np.geomspace(1e-4, 1, 40)])
"""Of the histograms' bins."""


@dataclass(frozen=True)
class Config:
    features: int = 40
    """Of the regression."""
    relevant: int = 6
    """Of these, with coefficients ±1, ±2 …; the others have none."""
    examples: int = 60
    """To learn from."""
    noise: float = 2.0
    """Standard deviation of what is added to their targets."""
    regression_strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
    """λ; 0 is run beside them."""
    regression_steps: int = 3000
    """Of full-batch gradient descent."""
    images: int = 500
    """The first so many training images."""
    wrong_labels: float = 0.2
    """Share of the training images whose label is turned into another: what a net should not learn by heart."""
    validation_images: int = 1000
    """The next so many, which choose λ."""
    hidden: int = 30
    """ReLU units."""
    strengths: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
    """λ on digits; 0 is run beside them."""
    learning_rate: float = 0.2
    """On digits."""
    batch_size: int = 50
    """Images a step."""
    steps: int = 1000
    """On digits."""
    seeds: int = 3
    """Seeds 0 … n-1; of the regression's examples too."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, features=self.features, relevant=self.relevant, regression_steps=self.regression_steps, hidden=self.hidden)
        command.at_least(1, images=self.images, validation_images=self.validation_images, batch_size=self.batch_size, steps=self.steps)
        command.at_least(1, seeds=self.seeds)
        command.at_least(2, examples=self.examples)
        for name, values in (("regression-strengths", self.regression_strengths), ("strengths", self.strengths)):
            if not all(0 < value < math.inf for value in values):
                raise InputError(f"--{name} must be above 0 and finite, got {' '.join(map(str, values))}")
        if not 0 <= self.wrong_labels <= 1:
            raise InputError(f"--wrong-labels is a share from 0 to 1, got {self.wrong_labels}")
        if self.relevant > self.features:
            raise InputError(f"--relevant must not exceed --features {self.features}, got {self.relevant}")
        if self.batch_size > self.images:
            raise InputError(f"--batch-size must not exceed --images {self.images}, got {self.batch_size}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    learnt, first = regress(config, keep)
    end = config.images + config.validation_images
    load = partial(command.load_digits, config.digits)
    train, validation, test = load(f"train[:{config.images}]"), load(f"train[{config.images}:{end}]"), load("test")
    classified, second = classify(config, mislabelled(train.arrays, config.wrong_labels), validation.arrays, test.arrays, keep)
    history = {**learnt, **classified}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"data": train.source, "validation": validation.source, "test_data": test.source, "seconds": command.seconds([*first, *second])}
    return command.Outcome(history, axes, list(compare_all(config, history)), about)


AXES = {
    "truth": ("feature",),
    "coefficients": ("seed", "strength", "feature"),
    "regression_error": ("seed", "strength"),
    "regression_fit": ("seed", "strength"),
    "validation_error": ("seed", "strength"),
    "test_error": ("seed", "strength"),
    "train_loss": ("seed", "strength"),
    "zeros": ("seed", "strength"),
    "histogram": ("strength", "bin"),
    "diverged_at": ("seed", "strength"),
}


class How(NamedTuple):
    """What of λ a method puts where."""

    l2: float | Array = 0.0
    l1: float | Array = 0.0
    shrink: float | Array = 0.0


HOW = {"l2": How(l2=1.0), "l1": How(shrink=1.0), "l1_gradient": How(l1=1.0)}


def penalised(method: Array, strength: Array, learning_rate: Any) -> dict[str, Any]:
    """What `supervised` takes for λ = `strength` and the method of that number in HOW, which may be traced: an axis of a sweep."""
    how = How(*(strength * jnp.array(column)[method] for column in zip(*HOW.values(), strict=True)))
    penalty = lambda params: how.l2 * l2(params) + how.l1 * l1(params)  # noqa: E731
    return {"optimizer": optax.chain(sgd(learning_rate), shrink(learning_rate * how.shrink)), "penalty": penalty}


def truth(config: Config) -> np.ndarray:
    """±1, ±2, ±3 … and zeros."""
    coefficients = np.zeros(config.features)
    numbers = np.arange(1, config.relevant + 1)
    coefficients[: config.relevant] = (numbers + 1) // 2 * np.where(numbers % 2, 1, -1)
    return coefficients


def examples(config: Config, count: int, seed: list[int]) -> dict[str, np.ndarray]:
    """`count` examples with features from N(0, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, config.features))
    y = x @ truth(config) + config.noise * rng.normal(size=count)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)[:, None]}


def linear(learning_rates: Array) -> Callable[..., Learner]:
    """One linear neuron under ½(y - t)² and a penalty, for the sample of that number: all three are axes of a sweep."""

    def learner(method: Array, sample: Array, strength: Array) -> Learner:
        model = functional(MLP((1,), kernel_init=initializers.zeros))
        how = penalised(method, strength, learning_rates[method, sample])
        preprocess = lambda batch: (batch["x"][:, sample], batch["y"][:, sample])  # noqa: E731
        return supervised(*model, losses.half_squared_error, how["optimizer"], preprocess=preprocess, penalty=how["penalty"])

    return learner


def regress(config: Config, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """Ridge and lasso over the grid of λ, each seed with examples of its own, and the squared error of 1,000 fresh ones."""
    strengths = [0.0, *sorted(set(config.regression_strengths))]
    samples = [examples(config, config.examples, [seed, 0]) for seed in range(config.seeds)]
    fresh = [examples(config, 1000, [seed, 1]) for seed in range(config.seeds)]
    data = {name: np.stack([sample[name] for sample in samples], 1) for name in ("x", "y")}
    largest = np.array([np.linalg.eigvalsh(sample["x"].T @ sample["x"] / config.examples)[-1] for sample in samples])
    rates = 1 / (1.1 * largest + max(strengths) * np.array([[1.0], [0.0]]))  # of ridge and lasso, below 2/λ_max whatever the penalty
    state, history = sweep(
        linear(jnp.asarray(rates, jnp.float32)),
        jax.random.key(0),
        data,
        seeds=1,
        axes={"method": range(2), "sample": range(config.seeds), "strength": strengths},
        num_steps=config.regression_steps,
        checkpoint=keep.checkpoint("regression"),
        label="regression",
    )
    arrays: dict[str, Any] = {"truth": truth(config)}
    for number, method in enumerate(("l2", "l1")):
        layer: Any = jax.tree.map(lambda leaf, i=number: np.asarray(leaf[0, i], float), state.variables["params"]["output"])
        arrays[f"coefficients/{method}"] = layer["kernel"][..., 0]
        for name, parts in (("regression_error", fresh), ("regression_fit", samples)):
            arrays[f"{name}/{method}"] = np.stack([squared_error(layer, seed, part) for seed, part in enumerate(parts)])
    return arrays, [history]


def squared_error(layer: Mapping[str, np.ndarray], seed: int, data: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mean over examples for every strength, (strengths,), of the neurons of that seed."""
    kernel, bias = layer["kernel"][seed], layer["bias"][seed]
    return ((data["x"] @ kernel + bias[:, None] - data["y"]) ** 2).mean((1, 2))


def mislabelled(arrays: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """The same images, round(share · N) of them under the label of another class."""
    rng, label = np.random.default_rng(0), arrays["label"].copy()
    rows = rng.choice(len(label), round(share * len(label)), replace=False)
    label[rows] = (label[rows] + rng.integers(1, 10, len(rows))) % 10
    return {**arrays, "label": label}


def classifier(config: Config) -> Callable[..., Learner]:
    """784-hidden-10 under a penalty: both are axes of a sweep."""

    def learner(method: Array, strength: Array) -> Learner:
        model = functional(MLP((config.hidden, 10), activations.relu, initializers.he_normal))
        loss = losses.softmax_cross_entropy_with_integer_labels
        return supervised(*model, loss, metrics={"accuracy": losses.accuracy}, **penalised(method, strength, config.learning_rate))

    return learner


def classify(
    config: Config, train: Batch, validation: Batch, test: Batch, keep: Keep = NOTHING
) -> tuple[dict[str, np.ndarray], list[History]]:
    """Every method, λ and seed; errors in per cent at the end, and what became of the weights."""
    loop = partial(
        sweep,
        classifier(config),
        jax.random.key(0),
        train,
        seeds=config.seeds,
        axes={"method": range(len(HOW)), "strength": [0.0, *sorted(set(config.strengths))]},
        batch_size=config.batch_size,
        num_steps=config.steps,
        eval_every=config.steps,
        **config.sharing.out(),
    )
    state, history = loop(eval_data=validation, checkpoint=keep.checkpoint("digits"), label="digits")
    again = partial(loop, start=(config.steps, state), label=None)
    tested, fitted = (again(eval_data=data).history for data in (test, train))
    every = np.concatenate([np.asarray(w).reshape(*w.shape[:3], -1) for w in weights(state.variables["params"]).values()], -1)
    measured = {
        "validation_error": error(history),
        "test_error": error(tested),
        "train_loss": fitted.evaluation["loss"][..., -1],
        "zeros": (every == 0).mean(-1),
        "diverged_at": history.diverged_at,
    }
    arrays = {f"{name}/{method}": values[:, i] for name, values in measured.items() for i, method in enumerate(HOW)}
    counts = {f"histogram/{method}": np.stack([histogram(w) for w in every[0, i]]) for i, method in enumerate(HOW)}
    return arrays | counts, [history, tested, fitted]


def histogram(w: np.ndarray) -> np.ndarray:
    """The weights in each bin, those of magnitude 1 and more in the outer ones."""
    return np.histogram(np.clip(np.nan_to_num(w), -0.999, 0.999), EDGES)[0]


def error(history: History) -> np.ndarray:
    """In per cent, at the end."""
    return 100 * (1 - history.evaluation["accuracy"][..., -1])


def chosen(history: Mapping[str, np.ndarray], method: str) -> int:
    """The place in the grid of the lowest validation error, as the median over seeds; not where one diverged."""
    alive = (history[f"diverged_at/{method}"] < 0).all(0)
    return int(np.argmin(np.where(alive, np.median(history[f"validation_error/{method}"], 0), np.inf)))


def compared(history: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The place in the grid at which each method is shown: its chosen λ, and for both forms of L1 the same."""
    at = {method: chosen(history, method) for method in ("l2", "l1")}
    return {**at, "l1_gradient": at["l1"]}


def compare_all(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """The regression without a penalty and at its best; the digits without one and at the chosen one."""
    strengths = [0.0, *sorted(set(config.regression_strengths))]
    yield compare("regression, no penalty: squared error of fresh examples", history["regression_error/l2"][:, 0])
    for method, name in (("l2", "ridge"), ("l1", "lasso")):
        errors = history[f"regression_error/{method}"]
        at = int(np.argmin(np.median(errors, 0)))
        yield compare(f"regression, {name}, best λ = {strengths[at]:g}: squared error of fresh examples", errors[:, at])
        zeros = (history[f"coefficients/{method}"][:, at, config.relevant :] == 0).mean(-1)
        yield compare(f"regression, {name}, λ = {strengths[at]:g}: share of the irrelevant coefficients that are zero", zeros)
    strengths = [0.0, *sorted(set(config.strengths))]
    yield compare("digits, no penalty: test error, %", history["test_error/l2"][:, 0], diverged=history["diverged_at/l2"][:, 0] >= 0)
    for method, at in compared(history).items():
        name = METHODS[method]
        lost = history[f"diverged_at/{method}"][:, at] >= 0
        yield compare(f"digits, {name}, λ = {strengths[at]:g}: test error, %", history[f"test_error/{method}"][:, at], diverged=lost)
        yield compare(f"digits, {name}, λ = {strengths[at]:g}: share of weights that are zero", history[f"zeros/{method}"][:, at])


def plot(record: Record) -> Mapping[str, Any]:
    """The coefficients and their error, the digits' error and zeros, and the weights' histograms."""
    weights = draw_histograms(record, EDGES, compared(record.history))
    return {"regression": draw_regression(record), "digits": draw_digits(record), "weights": weights}


if __name__ == "__main__":
    command.main(Config, run, plot)
