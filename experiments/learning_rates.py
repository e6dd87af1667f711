"""Too small a learning rate crawls, too large a one oscillates and then fails; a decay forgives a peak that is too large.

On ½λw² gradient descent multiplies w by 1 - ηλ in every step, w_t = (1 - ηλ)^t w_0: it crawls for ηλ near 0, arrives in one step at 1,
oscillates above 1, for ever at 2, and diverges beyond. A net is no quadratic. Full-batch descent on digits never raises the loss while
η is below 2/λ_max, λ_max being the largest eigenvalue of the Hessian at its start; somewhat above, it comes to weights of smaller λ_max
and learns fastest; far above, the loss stays higher than it began. It does not become NaN, as softmax bounds the gradient of the logits.

The decays train on mini-batches, from the same weights on the same batches, each over the same peaks: constant; step_0.5, step_0.2 and
step_0.1, which multiply η by the lecture's α after each of four blocks but the last; exponential, inverse_time and cosine, which all end
at a tenth of the peak; and cosine after a warm-up over a tenth of the steps. Validation images choose the peak of each, test images do not.

Source: lecture rows 37, 56, 57 (S1:291-335, S3:246-267), where the step goes along the gradient in words and against it in the formula
(erratum E12), and the linear decay is geometric (E18). 2/λ_max: LeCun et al. 1998, doi:10.1007/3-540-49430-8_2; descent above it: Cohen
et al. 2021, arXiv:2103.00065. Decays: Robbins & Monro 1951, doi:10.1214/aoms/1177729586; Bottou, Curtis, Nocedal 2018, arXiv:1606.04838.

Command: python -m experiments.learning_rates        (a minute on two CPU cores)
Expected: w as (1 - ηλ)^t; on digits 2/λ_max is .95, no step raises the loss up to η = 1.5, some do from 2 or 3 on, and 3 is the best; every
schedule reaches 90 to 91 % of the test images at its best peak; at a peak of 3 the validation loss is .40 constant, .25 to .36 decaying.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.figure import Figure

from experiments import command
from experiments.descent import LOSS, NET, best, learner, mean_loss, rises
from experiments.learning_rate_figures import PRODUCTS, STYLES, chosen, closed_form, draw_constant_rates, draw_decays, draw_quadratic
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses, schedules
from jaxnn.learners import supervised
from jaxnn.measure import sharpness
from jaxnn.optimizers import sgd
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, PyTree, unknown

BLOCKS = 4
"""Of the step decays, each with a rate of its own."""
FLOOR = 0.1
"""Where the smooth decays end, as a share of the peak."""
WARM_UP = 0.1
"""Its share of the steps."""
SCHEDULES = tuple(STYLES)


@dataclass(frozen=True)
class Config:
    products: tuple[float, ...] = (0.1, 0.5, 1.0, 1.5, 1.9, 2.0, 2.1)
    """ηλ of the descents on ½λw²."""
    curvature: float = 4.0
    """λ."""
    quadratic_steps: int = 20
    """Steps of each."""
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 0.7, 1.0, 1.5, 2.0, 3.0, 10.0, 30.0, 100.0)
    """Constant η of the full-batch descents on digits."""
    images: int = 1000
    """The first so many training images, for these."""
    steps: int = 150
    """Steps of each."""
    schedules: tuple[str, ...] = SCHEDULES
    """The decays to compare."""
    peaks: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """The largest η of each decay."""
    high_peak: float = 3.0
    """One of them, too large for most decays, at which all are compared beside each one's best."""
    batch_size: int = 10
    """Images a step, for the decays."""
    decay_steps: int = 2000
    """Steps of each decay."""
    decay_images: int = 3000
    """The first so many training images, which the decays train on."""
    validation_images: int = 1000
    """The next so many, which choose the peak of each decay."""
    seeds: int = 4
    """Seeds 0 … n-1 of each rate, and of each decay and peak."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, quadratic_steps=self.quadratic_steps, images=self.images, steps=self.steps, batch_size=self.batch_size)
        command.at_least(1, decay_images=self.decay_images, validation_images=self.validation_images, seeds=self.seeds)
        command.at_least(2, decay_steps=self.decay_steps)
        above_zero(products=self.products, curvature=(self.curvature,), learning_rates=self.learning_rates, peaks=self.peaks)
        if self.high_peak not in self.peaks:
            raise InputError(f"--high-peak must be one of --peaks {self.peaks}, got {self.high_peak}")
        if self.batch_size > self.decay_images:
            raise InputError(f"--batch-size must not exceed --decay-images {self.decay_images}, got {self.batch_size}")
        if not self.schedules:
            raise InputError(f"--schedules needs at least one of {', '.join(SCHEDULES)}")
        for name in self.schedules:
            if name not in SCHEDULES:
                raise unknown("schedule", name, SCHEDULES)


def above_zero(**values: tuple[float, ...]) -> None:
    """Raise `InputError`, under the flag's name, for a number that is not above 0 and finite, and for none at all."""
    for name, numbers in values.items():
        if not numbers or not all(0 < number < math.inf for number in numbers):
            raise InputError(f"--{name.replace('_', '-')} must be above 0 and finite, got {' '.join(map(str, numbers)) or 'none'}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    end = config.decay_images + config.validation_images
    load = partial(command.load_digits, config.digits)
    few, test = load(f"train[:{config.images}]"), load("test")
    train, validation = load(f"train[:{config.decay_images}]"), load(f"train[{config.decay_images}:{end}]")
    descents, first = constant_rates(config, few.arrays, keep)
    decayed, second = decays(config, train.arrays, validation.arrays, test.arrays, keep)
    history = {**quadratic(config), **descents, **decayed}
    about = {"data": train.source, "validation": validation.source, "test_data": test.source, "seconds": command.seconds([*first, *second])}
    return command.Outcome(history, {name: AXES[name] for name in history}, list(compare_all(config, history)), about)


AXES = {
    "quadratic": ("product", "step"),
    "convergence": ("fine_product",),
    "loss": ("seed", "learning_rate", "step"),
    "diverged_at": ("seed", "learning_rate"),
    "sharpness": ("seed", "learning_rate"),
    "sharpness_at_start": ("seed",),
    "rate": ("schedule", "step"),
    "evaluated_at": ("evaluation",),
    "validation_loss": ("seed", "schedule", "peak", "evaluation"),
    "test_accuracy": ("seed", "schedule", "peak"),
    "decay_diverged_at": ("seed", "schedule", "peak"),
}


def quadratic(config: Config) -> dict[str, np.ndarray]:
    """w_t of the products asked for, (products, steps + 1); and |w_T|^(1/T) of many, the factor that a step takes on average."""
    descents, fine = (descend(np.array(products), config.curvature, config.quadratic_steps) for products in (config.products, PRODUCTS))
    return {"quadratic": np.asarray(descents), "convergence": np.abs(fine[:, -1]) ** (1 / config.quadratic_steps)}


@partial(jax.jit, static_argnames="steps")
def descend(products: Float[Array, "products"], curvature: float, steps: int) -> Float[Array, "products steps+1"]:
    """w_0 … w_steps of gradient descent on ½λw² from w_0 = 1 with η = product/λ."""

    def one(product: Float[Array, ""]) -> Float[Array, "steps+1"]:
        optimizer, start = sgd(product / curvature), jnp.ones(())

        def step(carry: tuple, _: None) -> tuple[tuple, Array]:
            w, state = carry
            updates, state = optimizer.update(jax.grad(lambda w: 0.5 * curvature * w**2)(w), state)
            return (w + updates, state), w

        (last, _), before = lax.scan(step, (start, optimizer.init(start)), length=steps)
        return jnp.append(before, last)

    return jax.vmap(one)(products)


def constant_rates(config: Config, data: Batch, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """The training loss before every step of full-batch descent and after the last, and λ_max before and after."""
    rates = [0.0, *sorted(set(config.learning_rates))]  # a rate of 0 keeps the weights that all start from
    label = f"{len(rates) - 1} constant rates"
    axes = {"learning_rate": rates}
    loop = partial(
        sweep, learner, jax.random.key(0), data, seeds=config.seeds, axes=axes, num_steps=config.steps + 1, **config.sharing.out()
    )
    state, history = loop(checkpoint=keep.checkpoint("constant rates"), label=label)
    eigenvalues = largest_eigenvalues(jax.random.key(1), state.variables["params"], data)
    arrays = {"loss": history.train["loss"], "diverged_at": history.diverged_at, "sharpness": np.asarray(eigenvalues)}
    return {name: values[:, 1:] for name, values in arrays.items()} | {"sharpness_at_start": arrays["sharpness"][:, 0]}, [history]


@jax.jit
def largest_eigenvalues(key: PRNGKeyArray, params: PyTree, data: Batch) -> Float[Array, "seeds rates"]:
    """λ_max of the Hessian of the loss of all data at weights that have the leading axes (seeds, rates)."""

    def one(params: PyTree) -> Float[Array, ""]:
        return sharpness(jax.random.clone(key), lambda w: mean_loss(w, data), params, iterations=30)

    return lax.map(partial(lax.map, one), params)


def schedule(name: str, peak: schedules.Number, steps: int) -> optax.Schedule:
    """One of SCHEDULES over so many steps."""
    warm = max(1, round(WARM_UP * steps))
    if name.startswith("step_"):
        return schedules.step_decay(peak, float(name.removeprefix("step_")), every=math.ceil(steps / BLOCKS))
    makers: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: schedules.constant(peak),
        "exponential": lambda: schedules.exponential(peak, -math.log(FLOOR) / steps),
        "inverse_time": lambda: schedules.inverse_time(peak, (1 / FLOOR - 1) / steps),
        "cosine": lambda: schedules.cosine(peak, steps, FLOOR),
        "warm_up_cosine": lambda: schedules.warm_up(schedules.cosine(peak, steps - warm, FLOOR), warm),
    }
    return makers[name]()


def decays(
    config: Config, train: Batch, validation: Batch, test: Batch, keep: Keep = NOTHING
) -> tuple[dict[str, np.ndarray], list[History]]:
    """Every schedule, peak and seed as one sweep, looked at on the validation images ten times, and on the test images at the end."""
    names, peaks = chosen(config.schedules, config.peaks)
    loop = partial(
        sweep,
        decaying(names, config.decay_steps),
        jax.random.key(0),
        train,
        seeds=config.seeds,
        axes={"number": range(len(names)), "peak": peaks},
        batch_size=config.batch_size,
        num_steps=config.decay_steps,
        eval_every=math.ceil(config.decay_steps / 10),
        how="map" if jax.default_backend() == "cpu" else "vmap",  # a CPU's cache holds one such net
    )
    state, history = loop(eval_data=validation, checkpoint=keep.checkpoint("decays"), label=f"{len(names)} schedules, {len(peaks)} peaks")
    tested = loop(eval_data=test, start=(config.decay_steps, state), label=None).history
    steps = jnp.arange(config.decay_steps)
    arrays = {
        "rate": np.stack([np.broadcast_to(schedule(name, 1.0, config.decay_steps)(steps), steps.shape) for name in names]),
        "evaluated_at": history.evaluated_at,
        "validation_loss": history.evaluation["loss"],
        "test_accuracy": tested.evaluation["accuracy"][..., -1],
        "decay_diverged_at": history.diverged_at,
    }
    return arrays, [history, tested]


def decaying(names: Sequence[str], steps: int) -> Callable[..., Learner]:
    """Descent with the schedule of that number, which may be traced: an axis of a sweep. All rates of a step cost next to nothing."""

    def numbered(number: Array, peak: Array) -> Learner:
        every = [schedule(name, peak, steps) for name in names]
        rate = lambda step: jnp.stack([jnp.asarray(one(step), jnp.float32) for one in every])[number]  # noqa: E731
        return supervised(*NET, LOSS, sgd(rate), metrics={"accuracy": losses.accuracy})

    return numbered


def first_rise(rates: Sequence[float], loss: np.ndarray) -> np.ndarray:
    """The lowest rate at which any step raises the loss, (seeds, rates, steps) -> (seeds,); NaN where none does."""
    raised = rises(loss) > 0
    return np.where(raised.any(1), np.array(rates)[raised.argmax(1)], np.nan)


def compare_all(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """The quadratic beside its closed form; the rates on digits; each decay at its best peak."""
    for product, descent in zip(config.products, history["quadratic"], strict=True):
        what = f"½λw², ηλ = {product:g}: w after {config.quadratic_steps} steps, beside (1 - ηλ)^{config.quadratic_steps}"
        yield compare(what, descent[-1:], float(closed_form(product, config.quadratic_steps)[-1]))
    rates, loss, diverged = sorted(set(config.learning_rates)), history["loss"], history["diverged_at"] >= 0
    yield compare("digits, full batch: 2/λ_max at the start", 2 / history["sharpness_at_start"])
    lowest = first_rise(rates, loss)
    yield compare("digits, full batch: lowest η of the grid that raises the loss", lowest, diverged=np.full(lowest.shape, False))
    for i, rate in enumerate(rates):
        name = f"digits, full batch, η = {rate:g}"
        yield compare(f"{name}: loss after {config.steps} steps", loss[:, i, -1], diverged=diverged[:, i])
        if rate > np.median(2 / history["sharpness_at_start"]):
            yield compare(f"{name}: ηλ_max there", rate * history["sharpness"][:, i], diverged=diverged[:, i])
    names, peaks = chosen(config.schedules, config.peaks)
    for i, name in enumerate(names):
        validation, lost = history["validation_loss"][:, i], history["decay_diverged_at"][:, i]
        at = best(validation, lost)
        yield compare(f"{name}, best peak {peaks[at]:g}: validation loss", validation[:, at, -1], diverged=lost[:, at] >= 0)
        yield compare(f"{name}, best peak {peaks[at]:g}: test accuracy", history["test_accuracy"][:, i, at], diverged=lost[:, at] >= 0)
        high = peaks.index(config.high_peak)
        if high != at:
            yield compare(f"{name}, peak {peaks[high]:g}: validation loss", validation[:, high, -1], diverged=lost[:, high] >= 0)


def plot(record: Record) -> Mapping[str, Figure]:
    """The quadratic, the constant rates, the decays."""
    return {"quadratic": draw_quadratic(record), "constant_rates": draw_constant_rates(record), "decays": draw_decays(record)}


if __name__ == "__main__":
    command.main(Config, run, plot)
