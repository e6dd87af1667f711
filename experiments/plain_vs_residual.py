"""Do deeper nets train worse, and do shortcuts turn it round? 20 and 56 layers, with shortcuts and without.

The plain nets are `CifarPlain20` and `56`, of the same depths and as many weights as the residual ones, and trained alike. That the
deeper one has the higher error on its own training images is no overfitting: it could be the shallower net with layers on top that
change nothing, and training does not find it. The paper calls it degradation; BatchNorm stands behind every convolution, so it is not
the vanishing gradient either. The identity shortcuts, which cost nothing, turned it round in the paper.

Errors in training are those of the steps themselves, on images as they were trained on, a mean an epoch; the test images are read after
every epoch, for the curve. Recipes, images and what is comparable are as in `experiments.cifar_resnet`: on the digits that ship it is a
curve alone, whose order tells of the first steps and not of where the nets come to.

Source: lecture row 108 (S3:726-735). He, Zhang, Ren and Sun 2016, arXiv:1512.03385, figures 1 and 6 and table 6, which has numbers of
the residual nets alone.

Command: python -m experiments.plain_vs_residual        (1.5 minutes on one CPU core)
The claim: --depths 20 56 --data cifar10 --images None --batch-size 128 --recipe paper --epochs 164 --seeds 3
Expected: with 20 layers in place of 8 the plain net's training error is 4.8 points higher and the residual one's 12 points lower, of one
seed on 1,000 digits: a curve and no claim. With 56 in place of 20, on 5,000 photographs after 5 epochs, 26 and 12 points higher: there the
shortcuts narrow the gap and do not turn it round yet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from matplotlib.figure import Figure

from experiments import command, figures
from experiments.cifar_resnet import PUBLISHED
from experiments.residual_training import (
    AXES,
    KINDS,
    Training,
    TrainingFields,
    blocks_of,
    curves,
    draw_curves,
    inputs_of,
    is_the_papers,
    judged_by,
    load,
    sources,
    title,
    train_all,
)
from experiments.unfinished import NOTHING, Keep
from jaxnn.record import Comparison, Record, compare
from jaxnn.types import InputError


@dataclass(frozen=True)
class Config:
    depths: tuple[int, ...] = (8, 20)
    """Layers with weights, 6n + 2, from the fewest to the most: two or more."""
    training: TrainingFields = field(default_factory=lambda: Training(images=1000, batch_size=32, learning_rate=0.1))
    digits: command.DigitsFields = field(default_factory=lambda: command.Digits("mnist_5k"))
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        for depth in self.depths:
            blocks_of(depth)
        if len(self.depths) < 2 or list(self.depths) != sorted({*self.depths}):
            raise InputError(f"--depths must be two or more, from the fewest to the most, got {' '.join(map(str, self.depths))}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    data = load(config.training, config.digits)
    inputs = inputs_of(data, config.training)
    runs = {(kind, depth): train_all(config.training, data, inputs, depth, kind, keep) for kind, depth in product(KINDS, config.depths)}
    measured = {f"{kind}/{depth}": curves(trained, config.training) for (kind, depth), trained in runs.items()}
    history = {f"{name}/{net}": values for net, arrays in measured.items() for name, values in arrays.items()}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    comparable = is_the_papers(config.training, data[0])
    about = {**sources(config.training, data), "comparable": comparable}
    about |= {"seconds": command.seconds(trained.history for trained in runs.values())}
    return command.Outcome(history, axes, list(compare_all(config, history, comparable)), about)


def compare_all(config: Config, history: Mapping[str, Any], comparable: bool) -> Iterator[Comparison]:
    """What each net comes to, and how much worse the deepest of a kind is than the shallowest, seed by seed."""
    judged = config.training.judged
    note = "" if comparable else " (curve only, no claim)"
    for what, name in ((judged, f"{judged} error, %{note}"), ("train", f"error in the last epoch of training, %{note}")):
        for kind, depth in product(KINDS, config.depths):
            published = PUBLISHED.get(depth) if comparable and what == "test" and kind == "residual" else None
            lost = history[f"diverged_at/{kind}/{depth}"] >= 0
            yield compare(f"{kind}, {depth} layers: {name}", history[f"{what}_error/{kind}/{depth}"][:, -1], published, diverged=lost)
    first, last = config.depths[0], config.depths[-1]
    for kind in KINDS:
        worse = history[f"train_error/{kind}/{last}"][:, -1] - history[f"train_error/{kind}/{first}"][:, -1]
        yield compare(f"{kind}: training error of {last} layers above that of {first}, points{note}", worse)


def plot(record: Record) -> Mapping[str, Figure]:
    """Figure 6 of the paper: errors by the epoch, of the plain nets and of the residual ones."""
    figure, axes = figures.panels(1, 2, title(record), size=(4.8, 4.0), sharey=True)
    judged = judged_by(record)
    depths = record.config["depths"]
    for ax, kind in zip(axes[0], KINDS, strict=True):
        for depth, colour in zip(depths, figures.ordered(len(depths)), strict=True):
            draw_curves(ax, record, f"{kind}/{depth}", colour, f"{kind}, {depth} layers")
        ax.legend(frameon=False, fontsize=9)
    highest = 20.0 if record.meta["comparable"] else 1.05 * max(1.0, *(ax.dataLim.y1 for ax in axes[0]))
    axes[0, 0].set(ylabel=f"error, %: dashed training, solid {judged}", ylim=(0, highest))
    return {"degradation": figure}


if __name__ == "__main__":
    command.main(Config, run, plot)
