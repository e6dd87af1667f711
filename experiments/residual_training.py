"""What the experiments with residual nets share: their inputs, the two recipes, the training of all seeds, errors by the epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses, schedules
from jaxnn.data import Dataset, Source
from jaxnn.distortions import cropped, cropped_and_flipped
from jaxnn.learners import standardised, supervised
from jaxnn.models import CifarResNet, functional
from jaxnn.models.resnet import Shortcut, no_shortcut, padded
from jaxnn.optimizers import Optimizer, momentum, nesterov
from jaxnn.record import Record
from jaxnn.train import Run, sweep
from jaxnn.types import InputError, Learner, PyTree

DIGITS = ("mnist", "mnist_5k")
"""Data sets whose images are turned over on demand alone."""
PAPER_STEPS = 64_000
"""Of the paper, 164 epochs of all 50,000 images and 182 of the 45,000 that it chose its numbers by."""
WARM_UP_STEPS = 400
"""Of the paper's 110-layer net, whose training error is then below 80 %."""
VALIDATION = 10
"""One tenth of the training images, the last: the paper's 5,000 of 50,000."""
KINDS: dict[str, Shortcut] = {"plain": no_shortcut, "residual": padded}


@dataclass(frozen=True)
class Training:
    """The fields of a `Config` that trains residual nets."""

    recipe: Literal["paper", "fast"] = "fast"
    """paper: momentum, a rate divided by 10 after a half and three quarters. fast: Nesterov, a cosine, smoothed labels."""
    epochs: int = 3
    """Passes over the training images; the paper's are 164."""
    batch_size: int | None = None
    """Images a step; None takes the paper's 128, and 64 of the fast recipe."""
    learning_rate: float | None = None
    """At its highest; None takes .1 of the paper, and of the fast recipe .2 for 128 images a step, in proportion for more or fewer."""
    images: int | None = None
    """The first so many training images; None takes all."""
    validation: bool = False
    """Leave the last tenth of the training images out and judge by it; the test images are not read."""
    maps: tuple[int, int, int] = (16, 32, 64)
    """Of each stage."""
    flip: bool | None = None
    """Turn images over half the time; None does so with all but MNIST's digits, which would be others, or none."""
    seeds: int = 1
    """Seeds 0 … n-1 of each net."""
    bfloat16: bool = False
    """Compute the nets in bfloat16, with parameters, losses and updates in float32."""

    def __post_init__(self) -> None:
        command.at_least(1, epochs=self.epochs, batch_size=self.batch_size, images=self.images, maps=self.maps, seeds=self.seeds)
        if list(self.maps) != sorted(self.maps):
            raise InputError(
                f"--maps must not become fewer, as an identity shortcut can only add maps, got {' '.join(map(str, self.maps))}"
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < np.inf:
            raise InputError(f"--learning-rate must be above 0 and finite, got {self.learning_rate}")

    @property
    def judged(self) -> str:
        """Which images judge."""
        return "validation" if self.validation else "test"

    @property
    def images_a_step(self) -> int:
        """Images a step."""
        return self.batch_size or {"paper": 128, "fast": 64}[self.recipe]

    @property
    def peak(self) -> float:
        """The learning rate at its highest."""
        return self.learning_rate or {"paper": 0.1, "fast": 0.2 * self.images_a_step / 128}[self.recipe]


TrainingFields = tyro.conf.OmitArgPrefixes[Training]


def blocks_of(depth: int) -> int:
    """n of the depth 6n + 2. Raises `InputError` for a depth that is none.

    >>> blocks_of(20), blocks_of(110)
    (3, 18)
    """
    if depth < 8 or depth % 6 != 2:
        raise InputError(f"--depths must be 6n + 2 for some n from 1, as 8, 20, 32, 44, 56 and 110 are; got {depth}")
    return (depth - 2) // 6


class Inputs(NamedTuple):
    """How images become a net's inputs: (x/255 - mean)/scale."""

    mean: Float[np.ndarray, "H W C"]
    scale: Float[np.ndarray, "1 1 C"]
    classes: int
    augment: Callable[[PRNGKeyArray, Array], Array]


def inputs_of(data: tuple[Dataset, Dataset], training: Training) -> Inputs:
    """The paper takes the mean image off; the fast recipe each colour's mean, and divides by its standard deviation: of what is trained on.

    Windows with a border of 4 pixels of what is then 0, and photographs turned over half the time, digits where it is asked for.
    """
    train, _ = data
    pixels = train.arrays["image"]
    mean = pixels.mean(0, dtype=np.float64) / 255
    scale = np.ones(pixels.shape[3])
    if training.recipe == "fast":
        squares = np.einsum("nhwc,nhwc->c", pixels, pixels, dtype=np.float64) / 255**2 / pixels[..., 0].size  # no copy in another dtype
        mean = np.broadcast_to(mean.mean((0, 1)), mean.shape)
        scale = np.sqrt(squares - mean[0, 0] ** 2)
    flip = train.source.name not in DIGITS if training.flip is None else training.flip
    classes = 1 + max(int(part.arrays["label"].max()) for part in data)
    return Inputs(mean.astype(np.float32), scale[None, None].astype(np.float32), classes, cropped_and_flipped if flip else cropped)


def paper_optimizer(peak: float, num_steps: int, depth: int) -> Optimizer:
    """Momentum .9 with 1e-4 w added to every gradient; η divided by 10 at 1/2 and 3/4 of the steps.

    Of 110 layers and more the first 400 of 64,000 steps, or as many of fewer, go at a tenth of the rate. He et al. 2016, section 4.2.
    """
    later = schedules.drops(peak, 0.1, (num_steps // 2, 3 * num_steps // 4))
    slow = -(-num_steps * WARM_UP_STEPS // PAPER_STEPS) if depth >= 110 else 0
    rate = lambda step: jnp.where(jnp.less(step, slow), 0.1 * peak, later(step))  # noqa: E731
    return optax.chain(optax.add_decayed_weights(1e-4), momentum(rate, 0.9))


def fast_optimizer(peak: float, num_steps: int, depth: int) -> Optimizer:
    """Nesterov's momentum .9 with 5e-4 w added to the gradients of kernels alone; η on a line for a fifth of the steps, then a cosine to 0.

    Goyal et al. 2017, arXiv:1706.02677 (the line, and rates in proportion to batches); Loshchilov and Hutter 2017, arXiv:1608.03983.
    """
    line = max(1, num_steps // 5)
    rate = schedules.warm_up(schedules.cosine(peak, max(1, num_steps - line)), line)
    return optax.chain(optax.add_decayed_weights(5e-4, mask=kernels), nesterov(rate, 0.9))


def kernels(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


OPTIMIZERS: dict[str, Callable[[float, int, int], Optimizer]] = {"paper": paper_optimizer, "fast": fast_optimizer}
LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "paper": losses.softmax_cross_entropy_with_integer_labels,
    "fast": losses.smoothed_cross_entropy,
}


def make_learner(training: Training, inputs: Inputs, depth: int, kind: str, num_steps: int) -> Learner:
    """The net of that depth, with shortcuts or without, under its recipe over so many steps."""
    return supervised(
        *functional(CifarResNet(blocks_of(depth), classes=inputs.classes, maps=training.maps, shortcut=KINDS[kind])),
        LOSSES[training.recipe],
        OPTIMIZERS[training.recipe](training.peak, num_steps, depth),
        preprocess=standardised(inputs.mean, inputs.scale),
        metrics={"accuracy": losses.accuracy},
        augment=inputs.augment,
        compute_dtype=jnp.bfloat16 if training.bfloat16 else None,
    )


def load(training: Training, digits: command.Digits) -> tuple[Dataset, Dataset]:
    """What is trained on and what is judged by."""
    last = "" if training.images is None else str(training.images)
    split = str(training.images - training.images // VALIDATION) if training.images else f"{100 - 100 // VALIDATION}%"
    train = command.load_digits(digits, f"train[:{split if training.validation else last}]")
    if training.images_a_step > train.source.count:
        raise InputError(f"--batch-size must not exceed the {train.source.count} training images, got {training.images_a_step}")
    return train, command.load_digits(digits, f"train[{split}:{last}]" if training.validation else "test")


def sources(training: Training, data: tuple[Dataset, Dataset]) -> dict[str, Source]:
    """Where what is trained on and what judges came from, for a record."""
    return {"data": data[0].source, "validation" if training.validation else "test_data": data[1].source}


def train_all(training: Training, data: tuple[Dataset, Dataset], inputs: Inputs, depth: int, kind: str, keep: Keep = NOTHING) -> Run:
    """All seeds of a net, one after the other, evaluated before the first epoch and behind each: a convolution gains nothing from vmap."""
    train, judged = data
    epoch = train.source.count // training.images_a_step
    return sweep(
        partial(make_learner, training, inputs, depth, kind, training.epochs * epoch),
        jax.random.key(0),
        train.arrays,
        seeds=training.seeds,
        batch_size=training.images_a_step,
        num_steps=training.epochs * epoch,
        eval_every=epoch,
        eval_data=judged.arrays,
        how="map",
        at_once=training.seeds,  # small nets: to ask how many fit would compile each once more
        checkpoint=keep.checkpoint(f"{kind} {depth}"),
        label=f"{kind}, {depth} layers",
    )


AXES = {
    "train_loss": ("seed", "epoch"),
    "train_error": ("seed", "epoch"),
    "test_error": ("seed", "evaluation"),
    "validation_error": ("seed", "evaluation"),
    "diverged_at": ("seed",),
}


def curves(run: Run, training: Training) -> dict[str, np.ndarray]:
    """By the epoch: the mean loss and error, %, of its steps, on images as they were trained on; and the error on those that judge."""
    by_epoch = lambda values: values.reshape(len(values), training.epochs, -1).mean(-1)  # noqa: E731
    measured = run.history
    return {
        "train_loss": by_epoch(measured.train["loss"]),
        "train_error": 100 * (1 - by_epoch(measured.train["accuracy"])),
        f"{training.judged}_error": 100 * (1 - measured.evaluation["accuracy"]),
        "diverged_at": measured.diverged_at,
    }


def is_the_papers(training: Training, train: Dataset) -> bool:
    """Whether what comes out may be held beside the paper's numbers: its recipe and steps, on all of CIFAR-10's training images."""
    steps = training.epochs * (train.source.count // training.images_a_step)
    whole = train.source.name == "cifar10" and training.images is None and not training.validation and training.flip is not False
    as_printed = training.recipe == "paper" and training.images_a_step == 128 and training.peak == 0.1 and training.maps == (16, 32, 64)
    return whole and as_printed and not training.bfloat16 and steps >= 0.99 * PAPER_STEPS


def judged_by(record: Record) -> str:
    """Which images the record's curves were judged by."""
    return "validation" if record.config["training"]["validation"] else "test"


def title(record: Record) -> str:
    """What was trained on what, and whether it may be held beside the paper."""
    training, source = record.config["training"], record.meta["data"]
    trained = f"{source['name']}, {source['count']:,} training images, {training['epochs']} epochs of the {training['recipe']} recipe"
    return trained + ("" if record.meta["comparable"] else "; curve only, no claim")


def draw_curves(ax: Axes, record: Record, key: str, colour: str, label: str) -> None:
    """Of one net the error in training, dashed, and on the images that judge, by the epoch."""
    wrong, judged = (record.history[f"{what}_error/{key}"] for what in ("train", judged_by(record)))
    epochs = np.arange(1, wrong.shape[1] + 1)
    ax.plot(epochs - 0.5, np.median(wrong, 0), "--", color=colour, linewidth=1.1, marker="." if len(epochs) < 10 else None)
    figures.band(ax, epochs, judged[:, 1:], colour, label)
    ax.set(xlabel="epoch")
    ax.locator_params(axis="x", integer=True)
