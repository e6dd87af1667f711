"""One sample, a mini-batch or all samples a step: by the epoch the full batch learns slowest, by the clock a mini-batch fastest.

The net is [784, 30, 10] with sigmoid units and softmax's cross-entropy, under plain gradient descent w ← w - η(1/m)Σ∇E for the same
number of epochs. No single η is fair to all batch sizes m: every regime runs over one grid of rates and is shown at its own best, that
of the lowest training loss at the end. The whole grid is drawn too; the loss depends on η/m alone, the linear scaling of Goyal et
al. 2017, until η is too large. The loss is that of all training images at fixed weights: what a step reports of its own batch
would oscillate even if the weights stood still. Seconds are those of one net trained alone, without evaluations and compilation.

The gradient noise is E‖g_B - g‖²/‖g‖² over the batches B of shuffled epochs, where the weights start and where the regime of the lowest
loss ends, beside the law of sampling without replacement, (σ²/m)(N - m)/(N - 1)/‖g‖². The oscillation is the share of steps that raise
the loss, of the first steps and of those after the last epoch: at one small η it is the smaller batches' alone, but at its best η every
regime has it, the full batch too.

Source: lecture rows 38, 39, 52-54 (S1:344-374, S3:206-244), where SGD oscillates and is redundant on similar samples; S3 says epoch for
iteration and sum for mean (erratum E17). Robbins & Monro 1951, doi:10.1214/aoms/1177729586; Bottou, Curtis, Nocedal 2018, arXiv:1606.04838;
Goyal et al. 2017, arXiv:1706.02677; the noise scale σ²/‖g‖² of McCandlish et al. 2018, arXiv:1812.06162.

Command: python -m experiments.batch_regimes        (1.5 minutes on two CPU cores, half of it compilation)
Expected: a training loss after 20 epochs of .0034, .0064, .047 and .68 for batches of 1, 10, 100 and 1000, at η = .3, 1, 3 and 3; noise
within 2 % of the law; σ²/‖g‖² is 36 at the start and 2,000 after training.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Integer, PRNGKeyArray
from matplotlib.figure import Figure

from experiments import command
from experiments.batch_regime_figures import WEIGHTS, draw_loss, draw_noise, draw_oscillation, draw_rates, regimes, rising, title
from experiments.descent import best, final_loss, learner, mean_loss
from experiments.unfinished import NOTHING, Keep
from jaxnn.measure import GradientNoise, batch_gradient_noise, gradient_noise
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, PyTree

TIMED_RUNS = 5


@dataclass(frozen=True)
class Config:
    batch_sizes: tuple[int, ...] = (1, 10, 100)
    """Images a step, m; the full batch is always run beside them."""
    images: int = 1000
    """The first so many training images, N, which are all that is trained on."""
    epochs: int = 20
    """Passes over the images, for every regime; an epoch's last partial batch is dropped."""
    learning_rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    """The grid of η, for every regime."""
    same_rate: float = 0.1
    """One of them, at which the oscillation of all regimes is watched beside that at each one's best."""
    seeds: int = 4
    """Seeds 0 … n-1 of each regime and rate."""
    watch: int = 50
    """Steps watched one by one, at the start and after the last epoch."""
    shuffles: int = 50
    """Shuffled epochs, whose batches measure the gradient noise: at each size all of them, but at most as many as there are images."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, batch_sizes=self.batch_sizes, epochs=self.epochs, seeds=self.seeds, watch=self.watch, shuffles=self.shuffles)
        command.at_least(2, images=self.images)
        for rate in self.learning_rates:
            if not 0 < rate < math.inf:
                raise InputError(f"--learning-rates must be above 0 and finite, got {rate}")
        if self.same_rate not in self.learning_rates:
            raise InputError(f"--same-rate must be one of --learning-rates {self.learning_rates}, got {self.same_rate}")
        if max(self.batch_sizes, default=1) > self.images:
            raise InputError(f"--batch-sizes must not exceed --images {self.images}, got {max(self.batch_sizes)}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    dataset = command.load_digits(config.digits, f"train[:{config.images}]")
    data = jax.device_put(dataset.arrays)
    measured = {m: measure(m, config, data, keep) for m in regimes(config.batch_sizes, config.images)}
    history = {f"{name}/{m}": values for m, regime in measured.items() for name, values in regime.arrays.items()}
    trained = min(measured.values(), key=lambda regime: regime.lowest)
    history |= noise({"start": starts(config.seeds, data), "end": trained.params}, data, config)
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"data": dataset.source, "seconds": command.seconds(time for regime in measured.values() for time in regime.times)}
    return command.Outcome(history, axes, list(compare_all(config, history)), about)


AXES = {
    "loss": ("seed", "learning_rate", "epoch"),
    "diverged_at": ("seed", "learning_rate"),
    "epoch_seconds": ("repeat",),
    "watched_start": ("seed", "same_and_best_rate", "step"),
    "watched_end": ("seed", "same_and_best_rate", "step"),
    "noise_batch_size": ("size",),
    "noise": ("seed", "size"),
    "signal": ("seed",),
    "variance": ("seed",),
}


class Measured(NamedTuple):
    """What is kept of one regime."""

    arrays: dict[str, np.ndarray]
    lowest: float
    """The loss after the last epoch at the best rate, the median over seeds."""
    params: PyTree
    """The weights then, with the leading axis (seeds,)."""
    times: list[History]


def measure(batch_size: int, config: Config, data: Batch, keep: Keep = NOTHING) -> Measured:
    """Train one regime over the whole grid, time it alone at its best rate, and watch it step by step at that and at the same rate."""
    # A CPU's cache holds one such net: at batch 1 a member of 28 takes 12 µs a step after the others, and 46 µs beside them.
    how: Literal["map", "vmap"] = "map" if jax.default_backend() == "cpu" else "vmap"
    train = partial(sweep, learner, jax.random.key(0), data, batch_size=batch_size, how=how)
    rates, epoch, name = list(config.learning_rates), config.images // batch_size, title(batch_size, config.images)
    last = config.epochs * epoch
    whole = train(
        seeds=config.seeds,
        axes={"learning_rate": rates},
        num_steps=last,
        eval_every=epoch,
        eval_data=data,
        checkpoint=keep.checkpoint(name),
        label=f"{name}, {len(rates)} rates",
    )
    loss, diverged_at = whole.history.evaluation["loss"], whole.history.diverged_at
    at = best(loss, diverged_at)
    alone = [train(seeds=1, axes={"learning_rate": rates[at : at + 1]}, num_steps=last, label=None).history for _ in range(TIMED_RUNS)]

    pair = [rates.index(config.same_rate), at]
    watch = partial(train, seeds=config.seeds, axes={"learning_rate": [rates[i] for i in pair]}, eval_every=1, eval_data=data)
    first = watch(num_steps=config.watch, label=f"{name}, the first steps").history
    reached = jax.device_get(whole.state)
    state = jax.tree.map(lambda x: x[:, pair], reached)
    more = watch(start=(last, state), num_steps=last + config.watch, label=f"{name}, the last steps").history
    arrays = {
        "loss": loss,
        "diverged_at": diverged_at,
        "epoch_seconds": np.array([history.run_seconds for history in alone]) / config.epochs,
        "watched_start": first.evaluation["loss"],
        "watched_end": more.evaluation["loss"],
    }
    params = jax.tree.map(lambda x: x[:, at], reached.variables["params"])
    return Measured(arrays, float(final_loss(loss, diverged_at)[at]), params, [whole.history, *alone, first, more])


def starts(seeds: int, data: Batch) -> PyTree:
    """The weights that all regimes start from, with the leading axis (seeds,): a step with a rate of 0 leaves them as they are."""
    still = sweep(learner, jax.random.key(0), data, seeds=seeds, axes={"learning_rate": [0.0]}, num_steps=1, label=None)
    return jax.tree.map(lambda x: x[:, 0], jax.device_get(still.state.variables["params"]))


def noise(points: Mapping[str, PyTree], data: Batch, config: Config) -> dict[str, np.ndarray]:
    """E‖g_B - g‖² of sampled batches at each of the weights, and what the law needs: ‖g‖² and σ²."""
    keys = jax.random.split(jax.random.key(1), config.seeds * config.shuffles)
    orders = np.asarray(shuffled(keys, config.images)).reshape(config.seeds, config.shuffles, config.images)
    sizes = noise_sizes(config.batch_sizes, config.images)
    arrays: dict[str, Any] = {"noise_batch_size": sizes}
    for when, params in points.items():
        exact, full = exact_noise(params, data)
        sampled = [sampled_noise(batches_of(orders, size)[:, : config.images], params, full, data) for size in sizes]
        arrays |= {f"noise/{when}": np.stack(sampled, 1), f"signal/{when}": exact.signal, f"variance/{when}": exact.variance}
    return {name: np.asarray(values) for name, values in arrays.items()}


@partial(jax.jit, static_argnums=1)
def shuffled(keys: PRNGKeyArray, images: int) -> Integer[Array, "keys images"]:
    """A permutation a key."""
    return lax.map(lambda key: jax.random.permutation(key, images), keys)


def batches_of(orders: np.ndarray, size: int) -> np.ndarray:
    """The batches of all epochs, as training takes them, (seeds, epochs, N) -> (seeds, batches, m): each is drawn without replacement."""
    per_epoch = orders.shape[-1] // size
    return orders[..., : per_epoch * size].reshape(len(orders), -1, size)


@jax.jit
def exact_noise(params: PyTree, data: Batch) -> tuple[GradientNoise, PyTree]:
    """‖g‖² and σ², and g itself, at each of the weights (seeds,)."""
    return lax.map(lambda params: (gradient_noise(mean_loss, params, data), jax.grad(mean_loss)(params, data)), params)


def noise_sizes(batch_sizes: tuple[int, ...], images: int) -> list[int]:
    """The regimes' batch sizes, and nine tenths of the images, where the law bends; not the full batch, which has no noise."""
    return sorted({*batch_sizes, max(1, 9 * images // 10)} - {images})


@jax.jit
def sampled_noise(batches: Integer[Array, "seeds batches m"], params: PyTree, full: PyTree, data: Batch) -> Float[Array, "seeds"]:
    """The mean of ‖g_B - g‖² over batches of these rows of the data, at each of the weights with their full gradient g (seeds,)."""

    def of_a_seed(arguments: tuple[Array, PyTree, PyTree]) -> Float[Array, ""]:
        batches, params, full = arguments
        return lax.map(partial(squared_error, params, full, data), batches).mean()

    return lax.map(of_a_seed, (batches, params, full))


def squared_error(params: PyTree, full: PyTree, data: Batch, rows: Integer[Array, "m"]) -> Float[Array, ""]:
    """‖g_B - g‖² for the batch B of these rows."""
    gradient = jax.grad(mean_loss)(params, jax.tree.map(lambda x: x[rows], data))
    return optax.tree.norm(jax.tree.map(jnp.subtract, gradient, full), squared=True)


def change(watched: np.ndarray) -> np.ndarray:
    """The standard deviation of the loss's change in a step, over its mean; NaN for a member that diverged."""
    finite = np.where(np.isfinite(watched).all(-1, keepdims=True), watched, np.nan)
    return np.diff(finite).std(-1) / finite.mean(-1)


def law(history: Mapping[str, np.ndarray], when: str, images: int) -> np.ndarray:
    """(σ²/m)(N - m)/(N - 1) at the sampled batch sizes, (seeds, sizes)."""
    columns = [history[f"variance/{when}"] * batch_gradient_noise(1.0, int(m), images) for m in history["noise_batch_size"]]
    return np.stack(columns, -1)


def compare_all(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """Each regime's loss, time and oscillation at the same rate and at its best; then the noise."""
    rates, same = config.learning_rates, config.learning_rates.index(config.same_rate)
    for m in regimes(config.batch_sizes, config.images):
        name, loss, diverged = title(m, config.images), history[f"loss/{m}"], history[f"diverged_at/{m}"] >= 0
        pair = {same: 0, best(loss, history[f"diverged_at/{m}"]): 1}
        for i in pair:
            yield compare(f"{name}, η = {rates[i]:g}: training loss, epoch {config.epochs}", loss[:, i, -1], diverged=diverged[:, i])
        yield compare(f"{name}: ms an epoch, one net alone", 1e3 * history[f"epoch_seconds/{m}"])
        for when, words in {"start": "first", "end": "next"}.items():
            for i, column in pair.items():
                watched = history[f"watched_{when}/{m}"][:, column]
                yield compare(f"{name}, η = {rates[i]:g}: share of the {words} {config.watch} steps that raise the loss", rising(watched))
        watched = history[f"watched_start/{m}"][:, 0]
        yield compare(f"{name}, η = {rates[same]:g}: standard deviation of the first changes / loss", change(watched))
    for when, weights in WEIGHTS.items():
        ratio = history[f"noise/{when}"] / law(history, when, config.images)
        yield compare(f"{weights}: gradient noise / the law, mean over batch sizes", ratio.mean(-1))
        yield compare(f"{weights}: noise scale σ²/‖g‖²", history[f"variance/{when}"] / history[f"signal/{when}"])


def plot(record: Record) -> Mapping[str, Figure]:
    """The loss by the epoch and by the second; by the rate; the noise beside its law; the loss step by step."""
    return {
        "loss": draw_loss(record),
        "learning_rates": draw_rates(record),
        "gradient_noise": draw_noise(record),
        "oscillation": draw_oscillation(record),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
