"""Hidden layers read digits that softmax regression cannot: test error of 784-10, 784-300-10 and 784-300-100-10, and where they fail.

Softmax regression is the net without a hidden layer: a template for every class. The others have ReLU units, and their sizes are those of
LeCun et al. 1998, whose nets had sigmoid-like units and the squared error; Adam, one rate and a fixed number of epochs here, no choice by
the test images. `--data fashion_mnist` and `--data mnist` take the full sets. The record keeps the state of the deepest net, seed 0, whose
confusion matrix and most confident mistakes are drawn; it predicts again after

    learner = make_learner(net, 1e-3)
    record.load_run(folder).trained(learner, batch).predict(batch)

Source: lecture row 157 (S1:487-512): images as tensors, softmax outputs. LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791, fig. 9,
for 60,000 training images: 12.0, 4.7 and 3.05 %. Fashion-MNIST: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.

Command: python -m experiments.mlp_digits        (half a minute on two CPU cores)
Expected: 11.4, 7.6 and 6.8 % of the test images wrong with the 4,000 shipped training images, medians over 3 seeds, within .5.
With `--data mnist --epochs 2 --seeds 1` 8.5, 3.0 and 2.8 %.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import command, figures, mistakes
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, initializers, losses
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.optimizers import adam
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import sweep
from jaxnn.types import InputError, Learner, Trained

PUBLISHED = {(): 12.0, (300,): 4.7, (300, 100): 3.05}
"""Test error in per cent on MNIST, by hidden units."""
CLASSES = {
    "fashion_mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
}
"""Where the labels are not their own names."""
SHOWN = 24
"""Mistakes."""

Net = tuple[int, ...]
"""Units of the hidden layers."""


@dataclass(frozen=True)
class Config:
    hidden: tuple[int, ...] = (300, 100)
    """Units of the hidden layers of the deepest net; the others have fewer of these layers, down to none."""
    images: int | None = None
    """The first so many training images; None takes all."""
    epochs: int = 15
    """Passes over them."""
    batch_size: int = 100
    """Images a step."""
    learning_rate: float = 1e-3
    """Of Adam, for all nets."""
    seeds: int = 3
    """Seeds 0 … n-1 of each net."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, hidden=self.hidden, images=self.images, epochs=self.epochs, batch_size=self.batch_size, seeds=self.seeds)
        if not 0 < self.learning_rate < 1:
            raise InputError(f"--learning-rate of Adam must be above 0 and below 1, got {self.learning_rate}")


def nets(hidden: Net) -> list[Net]:
    """From softmax regression to the deepest."""
    return [hidden[:depth] for depth in range(len(hidden) + 1)]


def title(net: Net) -> str:
    return "-".join(map(str, (784, *net, 10))) + ("" if net else ", softmax regression")


def key(net: Net) -> str:
    return "-".join(map(str, (784, *net, 10)))


def make_learner(net: Net, learning_rate: float) -> Learner:
    """Softmax regression, or an MLP with ReLU units."""
    model = MLP((*net, 10), activations.relu, initializers.he_normal)
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*functional(model), loss, adam(learning_rate), metrics={"accuracy": losses.accuracy})


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train = command.load_digits(config.digits, "train" if config.images is None else f"train[:{config.images}]")
    test = command.load_digits(config.digits, "test")
    epoch = train.source.count // config.batch_size
    history: dict[str, np.ndarray] = {}
    times, state = [], None
    for net in nets(config.hidden):
        state, measured = sweep(
            lambda net=net: make_learner(net, config.learning_rate),
            jax.random.key(0),
            train.arrays,
            seeds=config.seeds,
            batch_size=config.batch_size,
            num_steps=config.epochs * epoch,
            eval_every=epoch,
            eval_data=test.arrays,
            **config.sharing.out(),
            checkpoint=keep.checkpoint(key(net)),
            label=title(net),
        )
        times.append(measured)
        history |= {f"test_error/{key(net)}": 100 * (1 - measured.evaluation["accuracy"]), f"loss/{key(net)}": measured.train["loss"]}
        history |= {f"diverged_at/{key(net)}": measured.diverged_at}
    first = jax.tree.map(lambda x: x[0], state)
    trained = Trained(make_learner(config.hidden, config.learning_rate), first)
    history |= mistakes.found(mistakes.logits(trained, test.arrays["image"]), test.arrays, SHOWN)
    axes = {name: AXES[name.split("/")[0]] for name in history}
    comparisons = list(compare_all(config, history, train.source.name if config.images is None else ""))
    about = {"data": train.source, "test_data": test.source, "seconds": command.seconds(times)}
    return command.Outcome(history, axes, comparisons, about, first)


AXES = {
    "test_error": ("seed", "epoch"),
    "loss": ("seed", "step"),
    "diverged_at": ("seed",),
    **mistakes.AXES,
}


def compare_all(config: Config, history: Mapping[str, np.ndarray], data: str) -> Iterator[Comparison]:
    """The test error of every net, beside the published one where the data are the same; and of the mistakes of the net that is kept."""
    for net in nets(config.hidden):
        error, lost = history[f"test_error/{key(net)}"][:, -1], history[f"diverged_at/{key(net)}"] >= 0
        yield compare(f"{title(net)}: test error, %", error, PUBLISHED.get(net) if data == "mnist" else None, diverged=lost)
    if len(history["confidence"]):
        yield compare(f"{title(config.hidden)}, seed 0: probability it gives its most confident mistake", history["confidence"][:1])


def plot(record: Record) -> Mapping[str, Figure]:
    """The error by the epoch, the confusion matrix, and the mistakes themselves."""
    labels, net = names(record), title(tuple(record.config["hidden"]))
    counts = record.history["confusion"]
    return {
        "test_error": draw_error(record),
        "confusion": mistakes.draw_confusion(counts, labels, f"{net}, seed 0: {mistakes.wrong_of(counts)}"),
        "mistakes": mistakes.draw_mistakes(record.history, labels, f"Most confident mistakes of {net}: what it is → what it says"),
    }


def draw_error(record: Record) -> Figure:
    source = record.meta["data"]
    heading = f"Test error on {source['name']}, {source['count']:,} training images, {record.config['seeds']} seeds"
    figure, axes = figures.panels(1, 1, heading, size=(6.4, 4.2))
    all_nets = nets(tuple(record.config["hidden"]))
    for net, colour in zip(all_nets, figures.ordered(len(all_nets)), strict=True):
        error = record.history[f"test_error/{key(net)}"][:, 1:]  # the first is chance
        error = error[record.history[f"diverged_at/{key(net)}"] < 0]
        if len(error):
            figures.band(axes[0, 0], np.arange(1, error.shape[1] + 1), error, colour, f"{title(net)}: {np.median(error[:, -1]):.2f} %")
    axes[0, 0].set(xlabel="epoch", ylabel="test error, %", ylim=(0, None))
    axes[0, 0].locator_params(axis="x", integer=True)
    if axes[0, 0].lines:
        axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def names(record: Record) -> tuple[str, ...]:
    return CLASSES.get(record.meta["data"]["name"], tuple("0123456789"))


if __name__ == "__main__":
    command.main(Config, run, plot)
