"""Depth adds power and weights: each layer doubles what a net can draw, few learn digits better than one or two; batch training converges.

Power: a ReLU net of k hidden layers of two units draws the saw of 2^k straight pieces; with one hidden layer, n units draw at most n + 1.
Weights: nets of equal weight counts, deep and narrow or shallow and wide, learn the digits for the same number of steps, each at its
best rate of a grid by validation images. More weights help; for the same weights a second layer helps a little where the net is wide,
and from four on plain descent learns worse. Layer by layer: least squares reads the class off every layer of the deepest net, and errs
less from the first layers to the last.

Batch training: a linear classifier of 7 × 7 pixels under squared error descends on all images at η = 1/λ_max exactly as its closed form
says, never up; on mini-batches the same η soon falls no further, and a tenth of it falls further but more slowly. For a net the
guarantee is a stationary point, not the least loss. `benchmarks.depth` has deep nets of five activations, `experiments.batch_regimes`
nets by batch size.

Source: lecture row 168 (S1:155-158, 358-362; S0:139-154). Telgarsky 2016, arXiv:1602.04485; Alain & Bengio 2016, arXiv:1610.01644; Bottou,
Curtis, Nocedal 2018, arXiv:1606.04838, theorem 4.6.

Command: python -m experiments.depth_and_width        (three quarters of a minute on two CPU cores)
Expected: 2^k pieces; with 40,000 weights 8.9, 7.8, 8.9 and 12.6 % of the test images wrong for 1, 2, 4 and 8 hidden layers, with 5,000 from
19 to 73 %; least squares errs by 21 % from the pixels, 13 from the first layer, 10 from the eighth; the linear classifier ends .004 above
the least loss on the full batch, .036 on mini-batches at the same rate, .018 at a tenth of it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import command
from experiments.depth_and_width_figures import chosen, draw_batch, draw_digits, draw_power, key, middle
from experiments.descent import least_squares_descent, moments, with_bias
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, initializers, losses
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.optimizers import sgd
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, PyTree

GRID = 2**12
"""Steps from 0 to 1, on which the saws are drawn and their pieces counted: exact in float32."""


@dataclass(frozen=True)
class Config:
    saws: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    """Hidden layers of the nets that draw saws."""
    depths: tuple[int, ...] = (1, 2, 4, 8)
    """Hidden layers of the nets that learn digits."""
    budgets: tuple[int, ...] = (5_000, 40_000)
    """Weights and biases of a net, at most: its width follows from depth and budget."""
    learning_rates: tuple[float, ...] = (0.05, 0.2)
    """The grid for each net."""
    images: int = 3000
    """The first so many training images."""
    validation_images: int = 1000
    """The next so many, which choose each net's rate."""
    batch_size: int = 50
    """Images a step."""
    steps: int = 500
    """Of every net."""
    seeds: int = 3
    """Seeds 0 … n-1."""
    batch_images: int = 1000
    """For the linear classifier."""
    mini_batch: int = 10
    """Images a step, of its mini-batches."""
    batch_steps: int = 4000
    """Of it."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, saws=self.saws, depths=self.depths, images=self.images, validation_images=self.validation_images)
        command.at_least(1, batch_size=self.batch_size, steps=self.steps, seeds=self.seeds, batch_images=self.batch_images)
        command.at_least(1, mini_batch=self.mini_batch, batch_steps=self.batch_steps)
        command.at_least(weights(1, max(self.depths, default=1)), budgets=self.budgets)
        if not all(0 < rate < math.inf for rate in self.learning_rates):
            raise InputError(f"--learning-rates must be above 0 and finite, got {' '.join(map(str, self.learning_rates))}")
        if max(self.saws) > math.log2(GRID) - 1:
            raise InputError(f"--saws must not exceed {math.log2(GRID) - 1:.0f} layers, got {max(self.saws)}")
        if self.batch_size > self.images:
            raise InputError(f"--batch-size must not exceed --images {self.images}, got {self.batch_size}")
        if self.mini_batch > self.batch_images:
            raise InputError(f"--mini-batch must not exceed --batch-images {self.batch_images}, got {self.mini_batch}")


def weights(width: int, depth: int, inputs: int = 784, outputs: int = 10) -> int:
    """Weights and biases of a net of `depth` hidden layers of `width` units.

    >>> weights(30, 2), weights(30, 3), weights(30, 4)  # lecture row 67
    (24790, 25720, 26650)
    """
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs


def width_for(budget: int, depth: int) -> int:
    """The widest net of this depth within the budget.

    >>> width_for(24_790, 2), width_for(24_789, 2)
    (30, 29)
    """
    return max(width for width in range(1, budget) if weights(width, depth) <= budget)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    end = config.images + config.validation_images
    load = partial(command.load_digits, config.digits)
    train, validation, test = load(f"train[:{config.images}]"), load(f"train[{config.images}:{end}]"), load("test")
    learnt, first = equal_budgets(config, train.arrays, validation.arrays, test.arrays, keep)
    descents, second = batch_training(config, load(f"train[:{config.batch_images}]").arrays, keep)
    history = {**saws(config), **learnt, **descents}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"data": train.source, "validation": validation.source, "test_data": test.source, "seconds": command.seconds([*first, *second])}
    return command.Outcome(history, axes, list(compare_all(config, history)), about)


AXES = {
    "saw": ("point",),
    **dict.fromkeys(("pieces", "pieces_of_one_layer", "saw_weights"), ("saw",)),
    **dict.fromkeys(("validation_error", "test_error", "train_loss", "diverged_at"), ("seed", "learning_rate")),
    "width": (),
    "weights": (),
    "probe_error": ("seed", "layer"),
    "gap": ("seed", "learning_rate", "evaluation"),
    "gap_exact": ("evaluation",),
    "evaluated_at": ("evaluation",),
}


def saw(depth: int) -> tuple[MLP, PyTree]:
    """The net of `depth` hidden layers of two units that folds [0, 1] so often: tent(tent(… x)), tent(x) = 2 relu(x) - 4 relu(x - ½)."""
    fold = jnp.array([[2.0], [-4.0]])
    halves, both = jnp.array([0.0, -0.5]), jnp.ones((1, 2))
    params = {f"hidden_{number}": {"kernel": both if number == 1 else fold @ both, "bias": halves} for number in range(1, depth + 1)}
    return MLP((2,) * depth + (1,), activations.relu), {**params, "output": {"kernel": fold, "bias": jnp.zeros(1)}}


def pieces(values: np.ndarray) -> int:
    """Straight pieces of a function from its values at equal steps: one more than the places where its slope changes."""
    slopes = np.diff(values)
    return 1 + int(np.count_nonzero(np.abs(np.diff(slopes)) > 1e-6))


def saws(config: Config) -> dict[str, np.ndarray]:
    """The saws, how many pieces they have, and how many one hidden layer with as many weights could have: 3n + 1 of them for n units."""
    depths, x = sorted(set(config.saws)), jnp.linspace(0, 1, GRID + 1)[:, None]
    drawn, sizes = {}, []
    for depth in depths:
        model, params = saw(depth)
        drawn[f"saw/{depth}"] = np.asarray(model.apply({"params": params}, x))[:, 0]
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
    counts = [pieces(values) for values in drawn.values()]
    return {**drawn, "pieces": np.array(counts), "saw_weights": np.array(sizes), "pieces_of_one_layer": (np.array(sizes) - 1) // 3 + 1}


def make_learner(width: int, depth: int) -> Callable[[Any], Learner]:
    """784-width-…-width-10 with ReLU units under gradient descent at a rate that may be traced."""
    model = functional(MLP((width,) * depth + (10,), activations.relu, initializers.he_normal))
    loss = losses.softmax_cross_entropy_with_integer_labels
    return lambda learning_rate: supervised(*model, loss, sgd(learning_rate), metrics={"accuracy": losses.accuracy})


def equal_budgets(
    config: Config, train: Batch, validation: Batch, test: Batch, keep: Keep = NOTHING
) -> tuple[dict[str, np.ndarray], list[History]]:
    """Every depth and budget over the grid of rates: errors in per cent, and what the layers of the deepest and largest net know."""
    parts = {"validation": validation, "test": test, "train": train}
    arrays: dict[str, Any] = {}
    times = []
    for budget, depth in ((budget, depth) for budget in sorted(set(config.budgets)) for depth in sorted(set(config.depths))):
        width, of = width_for(budget, depth), key(budget, depth)
        state, history = sweep(
            make_learner(width, depth),
            jax.random.key(0),
            train,
            seeds=config.seeds,
            axes={"learning_rate": sorted(set(config.learning_rates))},
            batch_size=config.batch_size,
            num_steps=config.steps,
            **config.sharing.out(),
            checkpoint=keep.checkpoint(f"{budget} {depth}"),
            label=f"{depth} hidden layers of {width}",
        )
        times.append(history)
        found = evaluated(make_learner(width, depth)(0.0), state, parts)
        arrays |= {f"{part}_error/{of}": 100 * (1 - found[part]["accuracy"]) for part in ("validation", "test")}
        arrays |= {f"train_loss/{of}": found["train"]["loss"], f"diverged_at/{of}": history.diverged_at}
        arrays |= {f"width/{of}": np.array(width), f"weights/{of}": np.array(weights(width, depth))}
    at = chosen(arrays, budget, depth)
    params = [jax.tree.map(lambda leaf, seed=seed: np.asarray(leaf[seed, at]), state.variables["params"]) for seed in range(config.seeds)]
    return arrays | {"probe_error": np.array([probe_errors(one, train, test) for one in params])}, times


def evaluated(learner: Learner, state: Any, parts: Mapping[str, Batch]) -> dict[str, dict[str, np.ndarray]]:
    """The mean metrics (seeds, rates) of states with these leading axes over each part of the data, all parts in one program."""
    ends = np.cumsum([len(part["label"]) for part in parts.values()])
    every = {name: np.concatenate([part[name] for part in parts.values()]) for name in ("image", "label")}
    over = jax.vmap(jax.vmap(learner.evaluate, in_axes=(None, 0, None)), in_axes=(None, 0, None))
    metrics = jax.jit(over)(jax.random.key(0), state, every)
    found = {name: np.split(np.asarray(values), ends[:-1], -1) for name, values in metrics.items()}
    return {part: {name: values[i].mean(-1) for name, values in found.items()} for i, part in enumerate(parts)}


def layers(params: PyTree, images: np.ndarray) -> list[np.ndarray]:
    """The pixels, and what each hidden layer of ReLU units makes of them."""
    found = [images.reshape(len(images), -1) / 255]
    for number in range(1, len(params)):
        layer = params[f"hidden_{number}"]
        found.append(np.maximum(found[-1] @ layer["kernel"].astype(float) + layer["bias"], 0))
    return found


def probe_errors(params: PyTree, train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]) -> list[float]:
    """The test error, in per cent, of least squares on the 1-of-10 code of the classes, from every layer."""
    errors = []
    for seen, fresh in zip(layers(params, train["image"]), layers(params, test["image"]), strict=True):
        readout = np.linalg.lstsq(with_bias(seen), np.eye(10)[train["label"]], rcond=1e-6)[0]
        errors.append(100 * float(np.mean((with_bias(fresh) @ readout).argmax(1) != test["label"])))
    return errors


def pooled(images: Any) -> Any:
    """(N, 28, 28, 1) from 0 to 255 -> (N, 49) from 0 to 1: means over 4 × 4 pixels, which leave no direction without data."""
    return images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255


def one_of_ten(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The pooled pixels, and the 1-of-10 code of the labels."""
    return pooled(batch["image"].astype(jnp.float32)), jax.nn.one_hot(batch["label"], 10)


def batch_training(config: Config, data: Batch, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """The loss of all images above the least, of the full batch and of mini-batches, at η = 1/λ_max and a tenth of it."""
    x, y = with_bias(pooled(data["image"])), np.eye(10)[data["label"]]
    rate = 1 / float(moments(x)[0][0])
    model = functional(MLP((10,), kernel_init=initializers.zeros))
    every = max(1, config.batch_steps // 100)
    arrays: dict[str, Any] = {}
    times = []
    for name, size in (("full", None), ("mini", config.mini_batch)):
        history = sweep(
            lambda learning_rate: supervised(*model, losses.half_squared_error, sgd(learning_rate), preprocess=one_of_ten),
            jax.random.key(0),
            data,
            seeds=1 if size is None else config.seeds,
            axes={"learning_rate": [rate, rate / 10]},
            batch_size=size,
            num_steps=config.batch_steps,
            eval_every=every,
            eval_data=data,
            checkpoint=keep.checkpoint(f"linear {name}"),
            label=f"linear classifier, {name} batch",
        ).history
        exact, least = least_squares_descent(x, y, rate, history.evaluated_at)
        arrays |= {f"gap/{name}": history.evaluation["loss"] - least, "gap_exact": exact, "evaluated_at": history.evaluated_at}
        times.append(history)
    return arrays, times


def compare_all(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """Pieces, nets of equal weights, the layers, and batch training."""
    for depth, count, size, shallow in zip(
        sorted(set(config.saws)), history["pieces"], history["saw_weights"], history["pieces_of_one_layer"], strict=True
    ):
        what = f"saw, {depth} hidden layers, {size} weights (one layer: at most {shallow}): pieces, beside 2^{depth}"
        yield compare(what, [count], 2.0**depth)
    rates = sorted(set(config.learning_rates))
    for budget, depth in ((budget, depth) for budget in sorted(set(config.budgets)) for depth in sorted(set(config.depths))):
        of, at = key(budget, depth), chosen(history, budget, depth)
        name = f"{int(history[f'weights/{of}']):,} weights, {depth} × {int(history[f'width/{of}'])}, η = {rates[at]:g}"
        yield compare(f"{name}: test error, %", history[f"test_error/{of}"][:, at], diverged=history[f"diverged_at/{of}"][:, at] >= 0)
    for layer, errors in enumerate(history["probe_error"].T):
        yield compare(f"least squares from {f'hidden layer {layer}' if layer else 'the pixels'}: test error, %", errors)
    yield compare("linear classifier, full batch: largest rise of the loss between evaluations", [rise(history["gap/full"][0, 0])], 0.0)
    for name, column, words in (("full", 0, "1/λ_max"), ("mini", 0, "1/λ_max"), ("mini", 1, "1/(10 λ_max)")):
        yield compare(
            f"linear classifier, {name} batch, η = {words}: loss above the least at the end", middle(history[f"gap/{name}"][:, column])
        )


def rise(values: np.ndarray) -> float:
    return float(max(0.0, np.diff(values).max(initial=0)))


def plot(record: Record) -> Mapping[str, Any]:
    """What depth can draw, what it learns, and how batch training converges."""
    return {"power": draw_power(record, GRID), "digits": draw_digits(record), "batch": draw_batch(record)}


if __name__ == "__main__":
    command.main(Config, run, plot)
