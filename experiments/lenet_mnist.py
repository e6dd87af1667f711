"""LeNet-5 comes to its published error on handwritten digits: as printed in 1998 and in the usual modern form, and lower with distortions.

`LeNet5Original` is the net of the paper: the table of connections, trainable sub-sampling, scaled tanh, distances to fixed codes, and of
its two losses the discriminative one (eq. 9). `LeNet5` is what the name stands for today: ReLU, max pooling, softmax. With `distorted`
every image of every step is shifted, scaled, squeezed and sheared by amounts drawn anew, on the device; the paper made 540,000 such
images beforehand.

The paper's stochastic diagonal Levenberg-Marquardt method gives each weight a rate of its own, from an estimate of the second derivative
made anew in each pass. Here Adam stands in for it, which has a rate a weight from the gradients' squares, with batches of 64 in place
of single images and a cosine in place of the paper's five rates by hand.

Epochs were fixed beforehand with `--validation`, which trains on five sixths of the training images and reports the errors on the last
sixth after every epoch: of one seed .89 % and .97 % plain, of LeNet5 .61 % after 25 epochs of distorted digits, the last five of which
gained nothing, and of LeNet5Original .68 % after 20. Rate and batch size are first guesses. Without the flag the test images are read
once, at the end (and before the first step, where nothing is learnt yet). The record keeps the state of the last net, seed 0, and the
mistakes of each.

Source: lecture rows 99-106 (S2:619-654, S3:616-705), erratum E32: .95 % and .8 % are errors on the 10,000 test images. LeCun, Bottou,
Bengio, Haffner 1998, doi:10.1109/5.726791, section III and fig. 9.

Command: python -m experiments.lenet_mnist        (the shipped digits; JAXNN_DATA=… with --data mnist for the numbers)
Expected, with `--data mnist --nets LeNet5` (50 minutes on one busy CPU core): a median test error of .82 % plain and .59 % distorted,
over 5 seeds. With `--nets LeNet5Original` (an hour): .94 % and .61 %.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures, mistakes
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses, schedules
from jaxnn.data import Dataset
from jaxnn.distortions import RANGES, Ranges, distorted
from jaxnn.learners import image_and_label, supervised
from jaxnn.models import LeNet5, LeNet5Original, functional
from jaxnn.models.lenet import as_printed
from jaxnn.optimizers import adam
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, sweep
from jaxnn.types import Batch, InputError, Learner, Trained, unknown

PUBLISHED = {"plain": 0.95, "distorted": 0.8}
"""Test error of LeNet-5 on MNIST, %."""
SHOWN = 40
VALIDATION = 6
"""One sixth of the training images, the last."""


class Net(NamedTuple):
    """A net, its loss, and what its answers are as logits."""

    model: Any
    loss: Callable[[Array, Array], Array]
    sign: int
    """-1 where the least output names the class."""
    preprocess: Callable[[Batch], tuple[Array, Array]]
    background: float
    learning_rate: float
    """Of Adam, at its peak."""


def printed(batch: Batch) -> tuple[Float[Array, "B 32 32 1"], Array]:
    x, y = image_and_label(batch)
    return as_printed(x), y


NETS = {
    "LeNet5": Net(LeNet5(), losses.softmax_cross_entropy_with_integer_labels, 1, image_and_label, 0.0, 2e-3),
    "LeNet5Original": Net(LeNet5Original(), losses.discriminative_distance, -1, printed, -0.1, 2e-3),
}


@dataclass(frozen=True)
class Config:
    nets: tuple[str, ...] = ("LeNet5", "LeNet5Original")
    """Which nets."""
    trained_on: tuple[str, ...] = ("plain", "distorted")
    """The images as they are, or distorted anew in every step."""
    images: int | None = None
    """The first so many training images; None takes all."""
    plain_epochs: int = 12
    """Passes over the plain images."""
    distorted_epochs: int = 20
    """Passes with distortions."""
    batch_size: int = 64
    """Images a step."""
    seeds: int = 5
    """Seeds 0 … n-1 of each."""
    shift: float = RANGES.shift
    """Largest shift right and up, in pixels."""
    scale: float = RANGES.scale
    """Largest logarithm of the scale."""
    squeeze: float = RANGES.squeeze
    """Largest logarithm of the squeeze."""
    shear: float = RANGES.shear
    """Largest shear, in pixels a row."""
    validation: bool = False
    """Leave the last sixth of the training images out, and report the error on it after every epoch; the test images are not read."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        epochs = {"plain_epochs": self.plain_epochs, "distorted_epochs": self.distorted_epochs}
        command.at_least(1, **epochs, images=self.images, batch_size=self.batch_size, seeds=self.seeds)
        for flag, names, known in (("--nets", self.nets, NETS), ("--trained-on", self.trained_on, PUBLISHED)):
            for name in names:
                if name not in known:
                    raise unknown(flag, name, known)
        for name, reach in self.ranges._asdict().items():
            if not 0 <= reach < np.inf:
                raise InputError(f"--{name} must be from 0, got {reach}")

    @property
    def ranges(self) -> Ranges:
        return Ranges(self.shift, self.scale, self.squeeze, self.shear)

    @property
    def judged(self) -> str:
        """What the images are called that no step sees."""
        return "validation" if self.validation else "test"

    def epochs(self, images: str) -> int:
        return self.plain_epochs if images == "plain" else self.distorted_epochs


def make_learner(name: str, num_steps: int, ranges: Ranges | None = None) -> Learner:
    """The net of that name under Adam with a cosine over so many steps; with `ranges` on distorted images."""
    net = NETS[name]
    metrics = {"accuracy": lambda outputs, label: losses.accuracy(net.sign * outputs, label)}
    augment = ranges and partial(distorted, ranges=ranges, background=net.background)
    optimizer = adam(schedules.cosine(net.learning_rate, num_steps))
    return supervised(*functional(net.model), net.loss, optimizer, preprocess=net.preprocess, metrics=metrics, augment=augment)


def load(config: Config) -> tuple[Dataset, Dataset]:
    """What is trained on and what is judged by. Raises `InputError` where there are too few images for a batch, or for a sixth of them."""
    count = config.images or command.load_digits(config.digits, "train").source.count
    split = count - count // VALIDATION if config.validation else count
    if config.validation and split == count:
        raise InputError(
            f"--validation leaves out one image in {VALIDATION}, and there are {count}: it needs --images of {VALIDATION} or more"
        )
    if config.batch_size > split:
        raise InputError(f"--batch-size must be at most the {split:,} images that are trained on, got {config.batch_size}")
    judged = f"train[{split}:{count}]" if config.validation else "test"
    return command.load_digits(config.digits, f"train[:{split}]"), command.load_digits(config.digits, judged)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train, judged = load(config)
    history: dict[str, np.ndarray] = {}
    runs: list[Run] = []
    first = None
    for net in config.nets:
        for images in config.trained_on:
            trained = train_one(config, net, images, train, judged, keep)
            runs.append(trained)
            measured = trained.history
            history |= {f"{config.judged}_error/{net}/{images}": 100 * (1 - measured.evaluation["accuracy"])}
            history |= {f"{what}/{net}/{images}": by_epoch(config, measured.train[what], train) for what in ("loss", "accuracy")}
            history |= {f"diverged_at/{net}/{images}": measured.diverged_at}
            first = jax.tree.map(lambda x: x[0], trained.state)
            found = mistakes.found(answers(net, first, judged.arrays["image"]), judged.arrays, SHOWN)
            history |= {f"{what}/{net}/{images}": values for what, values in found.items()}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    source = {"validation" if config.validation else "test_data": judged.source}
    about = {"data": train.source, **source, "seconds": command.seconds(run.history for run in runs)}
    full = train.source.name == "mnist" and not config.validation and config.images is None
    return command.Outcome(history, axes, list(compare_all(config, history, full)), about, first)


AXES = {
    "test_error": ("seed", "evaluation"),
    "validation_error": ("seed", "evaluation"),
    "loss": ("seed", "epoch"),
    "accuracy": ("seed", "epoch"),
    "diverged_at": ("seed",),
    **mistakes.AXES,
}


def train_one(config: Config, net: str, images: str, train: Dataset, judged: Dataset, keep: Keep) -> Run:
    """All seeds of a net on one kind of images, one after the other: a convolution gains nothing from vmap on a CPU."""
    epoch = train.source.count // config.batch_size
    num_steps = config.epochs(images) * epoch
    return sweep(
        partial(make_learner, net, num_steps, config.ranges if images == "distorted" else None),
        jax.random.key(0),
        train.arrays,
        seeds=config.seeds,
        batch_size=config.batch_size,
        num_steps=num_steps,
        eval_every=epoch if config.validation else num_steps,
        eval_data=judged.arrays,
        how="map",
        checkpoint=keep.checkpoint(f"{net} {images}"),
        label=f"{net}, {images}",
    )


def by_epoch(config: Config, values: Float[np.ndarray, "S N"], train: Dataset) -> Float[np.ndarray, "S E"]:
    """The mean over the steps of each epoch: of a loss, of an accuracy in training."""
    epoch = train.source.count // config.batch_size
    return values.reshape(len(values), -1, epoch).mean(-1)


def answers(net: str, state: Any, images: np.ndarray) -> Float[np.ndarray, "B 10"]:
    """As logits."""
    return NETS[net].sign * mistakes.logits(Trained(make_learner(net, 1), state), images)


def compare_all(config: Config, history: Mapping[str, np.ndarray], full: bool) -> Iterator[Comparison]:
    for net in config.nets:
        for images in config.trained_on:
            error, lost = history[f"{config.judged}_error/{net}/{images}"][:, -1], history[f"diverged_at/{net}/{images}"] >= 0
            published = PUBLISHED[images] if full else None
            yield compare(f"{net}, {images}, {config.epochs(images)} epochs: {config.judged} error, %", error, published, diverged=lost)
    for net in config.nets:
        for images in config.trained_on:
            wrong = 100 * (1 - history[f"accuracy/{net}/{images}"][:, -1])
            yield compare(f"{net}, {images}: error in the last epoch of training, %", wrong)


def plot(record: Record) -> Mapping[str, Figure]:
    """Training by the epoch, what it comes to, and for each net its mistakes, where it makes any."""
    drawn = {"errors": draw_errors(record)}
    for net, images in pairs(record):
        history = {what: record.history[f"{what}/{net}/{images}"] for what in mistakes.AXES}
        wrong = mistakes.wrong_of(history["confusion"], judged_by(record))
        heading = f"{net}, {images}, seed 0: {wrong}; what it is → what it says"
        if len(history["mistaken"]):
            drawn[f"mistakes_{net}_{images}"] = mistakes.draw_mistakes(history, "0123456789", heading, columns=10)
    return drawn


def pairs(record: Record) -> list[tuple[str, str]]:
    return [(net, images) for net in record.config["nets"] for images in record.config["trained_on"]]


def judged_by(record: Record) -> str:
    return "validation" if record.config["validation"] else "test"


def draw_errors(record: Record) -> Figure:
    """Left the error while training, an epoch a point; right that on images that no step saw."""
    source = record.meta["data"]
    figure, axes = figures.panels(1, 2, f"LeNet-5 on {source['name']}, {source['count']:,} training images", size=(5.2, 4.0))
    learning, final = axes[0]
    for (net, images), colour in zip(pairs(record), figures.COLOURS, strict=False):
        wrong = 100 * (1 - record.history[f"accuracy/{net}/{images}"])
        figures.band(learning, np.arange(1, wrong.shape[1] + 1), wrong, colour, f"{net}, {images}")
    by_epochs(learning, record, "error while training, %")
    learning.legend(frameon=False, fontsize=8)
    (draw_validation if record.config["validation"] else draw_test)(final, record)
    return figure


def draw_validation(ax: Axes, record: Record) -> None:
    """After every epoch, the median over seeds."""
    for (net, images), colour in zip(pairs(record), figures.COLOURS, strict=False):
        error = record.history[f"validation_error/{net}/{images}"][:, 1:]
        ax.plot(np.arange(1, error.shape[1] + 1), np.median(error, 0), color=colour, marker=".")
    by_epochs(ax, record, "validation error, %")


def by_epochs(ax: Axes, record: Record, title: str) -> None:
    """Whole epochs below, also where there are one or two."""
    last = max(record.history[f"loss/{net}/{images}"].shape[1] for net, images in pairs(record))
    ax.set(xlabel="epoch", ylabel=title, yscale="log", xlim=(0.5, last + 0.5))
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)


def draw_test(ax: Axes, record: Record) -> None:
    """At the end, a seed a mark; dotted the published error, where ours is compared with it."""
    for place, ((net, images), colour, row) in enumerate(zip(pairs(record), figures.COLOURS, record.comparisons, strict=False)):
        error = record.history[f"test_error/{net}/{images}"][:, -1]
        ax.plot(np.full(len(error), place), error, "o", color=colour, alpha=0.6)
        ax.plot([place - 0.3, place + 0.3], [np.median(error)] * 2, color=colour, linewidth=2)
        if row.published is not None:
            ax.plot([place - 0.4, place + 0.4], [row.published] * 2, color="black", linestyle=":", linewidth=1.2)
    published = ", published dotted" if record.comparisons[0].published is not None else ""
    ax.set(ylabel=f"test error, %, median as a bar{published}", ylim=(0, None))
    ax.set_xticks(range(len(pairs(record))), [f"{net}\n{images}" for net, images in pairs(record)], fontsize=8)


if __name__ == "__main__":
    command.main(Config, run, plot)
