"""How far a residual net of 20 layers comes on small photographs, with a quarter of a million weights.

`CifarResNet20` … `110` under one of two recipes, every image of every step cut out anew with a border of 4 pixels, and photographs
turned over half the time, on the device. `--recipe paper` is that of the paper: momentum .9, weights decayed by 1e-4, batches of 128,
a rate of .1 divided by 10 after a half and three quarters of the steps, 64,000 of them or 164 epochs; the mean image taken off. It was
found with `--validation` by the paper itself. `--recipe fast` is what one would do today in a fifth of the epochs: Nesterov's momentum,
a rate that rises and falls once, smoothed labels, kernels alone decayed.

Test images are read after every epoch, for the curve; what is reported is the error after the last one, and not the lowest. A published
error stands beside ours where all of CIFAR-10 was trained on by the paper's recipe for its steps. Anything else, as the default on the
digits that ship, is a curve and makes no claim. Images that come from JPEG files are not quite those of the paper. The record keeps the
last net's state, seed 0, and what its inputs are divided by.

Source: lecture row 108 (S3:726-735). He, Zhang, Ren and Sun 2016, arXiv:1512.03385, section 4.2, table 6 and figure 6; 6.61 % of the
110-layer net is the mean of five runs.

Command: python -m experiments.cifar_resnet        (2 minutes on one CPU core; --data cifar10 --recipe paper --epochs 164 for the numbers)
Expected: 1.8 to 2.2 % of the 1,000 test digits wrong after 3 epochs, over 3 seeds: a curve and no claim.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.residual_training import (
    AXES,
    Inputs,
    Training,
    TrainingFields,
    blocks_of,
    curves,
    draw_curves,
    inputs_of,
    is_the_papers,
    judged_by,
    load,
    make_learner,
    sources,
    title,
    train_all,
)
from experiments.unfinished import NOTHING, Keep, from_plain
from jaxnn.record import Comparison, Record, compare
from jaxnn.types import Learner

PUBLISHED = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.61}
"""Test error on CIFAR-10, %."""


@dataclass(frozen=True)
class Config:
    depths: tuple[int, ...] = (20,)
    """Layers with weights, 6n + 2."""
    training: TrainingFields = field(default_factory=Training)
    digits: command.DigitsFields = field(default_factory=lambda: command.Digits("mnist_5k"))
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        for depth in self.depths:
            blocks_of(depth)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    data = load(config.training, config.digits)
    inputs = inputs_of(data, config.training)
    runs = {depth: train_all(config.training, data, inputs, depth, "residual", keep) for depth in config.depths}
    measured = {depth: curves(trained, config.training) for depth, trained in runs.items()}
    history = {f"{name}/{depth}": values for depth, arrays in measured.items() for name, values in arrays.items()}
    axes = {name: AXES[name.split("/")[0]] for name in history} | INPUT_AXES
    comparable = is_the_papers(config.training, data[0])
    about = {**sources(config.training, data), "comparable": comparable}
    about |= {"classes": inputs.classes, "seconds": command.seconds(trained.history for trained in runs.values())}
    history |= {"input_mean": inputs.mean, "input_scale": inputs.scale}
    state = jax.tree.map(lambda x: x[0], runs[config.depths[-1]].state)
    return command.Outcome(history, axes, list(compare_all(config, history, comparable)), about, state)


INPUT_AXES = {"input_mean": ("row", "column", "colour"), "input_scale": ("one", "another", "colour")}


def learner_of(record: Record) -> Learner:
    """That of the state in the record."""
    training = from_plain(Training, record.config["training"])
    inputs = Inputs(record.history["input_mean"], record.history["input_scale"], record.meta["classes"], lambda key, x: x)
    return make_learner(training, inputs, record.config["depths"][-1], "residual", 1)


def compare_all(config: Config, history: Mapping[str, Any], comparable: bool) -> Iterator[Comparison]:
    judged = config.training.judged
    how = f"{config.training.recipe} recipe, {config.training.epochs} epochs"
    note = "" if comparable else " (curve only, no claim)"
    for depth in config.depths:
        error, lost = history[f"{judged}_error/{depth}"][:, -1], history[f"diverged_at/{depth}"] >= 0
        published = PUBLISHED.get(depth) if comparable else None
        yield compare(f"CifarResNet{depth}, {how}: {judged} error, %{note}", error, published, diverged=lost)
    for depth in config.depths:
        yield compare(f"CifarResNet{depth}: error in the last epoch of training, %{note}", history[f"train_error/{depth}"][:, -1])


def plot(record: Record) -> Mapping[str, Figure]:
    """Left errors by the epoch, right what they come to, a seed a mark."""
    judged = judged_by(record)
    figure, axes = figures.panels(1, 2, title(record), size=(5.2, 4.0))
    learning, final = axes[0]
    depths = record.config["depths"]
    for place, (depth, colour) in enumerate(zip(depths, figures.ordered(len(depths)), strict=True)):
        draw_curves(learning, record, str(depth), colour, f"{depth} layers")
        error = record.history[f"{judged}_error/{depth}"][:, -1]
        final.plot(np.full(len(error), place), error, "o", color=colour, alpha=0.6)
        final.plot([place - 0.3, place + 0.3], [np.median(error)] * 2, color=colour, linewidth=2)
        if record.meta["comparable"] and depth in PUBLISHED:
            final.plot([place - 0.4, place + 0.4], [PUBLISHED[depth]] * 2, color="black", linestyle=":", linewidth=1.2)
    learning.set(ylabel=f"error, %: dashed training, solid {judged}")
    learning.legend(frameon=False, fontsize=8)
    published = ", published dotted" if record.meta["comparable"] else ""
    final.set(xlabel="layers", ylabel=f"{judged} error at the end, %, median as a bar{published}", xlim=(-0.7, len(depths) - 0.3))
    for ax, heading in zip(axes[0], ("epoch by epoch", "after the last epoch, drawn larger"), strict=True):
        ax.set_title(heading, fontsize=9)
        ax.set_ylim(0, 1.1 * max(1.0, ax.dataLim.y1))
    final.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    return {"errors": figure}


if __name__ == "__main__":
    command.main(Config, run, plot)
