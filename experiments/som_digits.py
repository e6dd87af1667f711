"""A self-organising map lays the ten digits out on a grid without seeing a label; by its units' labels it then names 4 of 5 test images.

Four maps learn the same digits: square and hexagonal grids, each by Kohonen's online rule, one sample after the other, and by his batch
rule, all samples at once. All start with the codebook that lies in the plane of the two principal components, and the radius shrinks
along the same exponential from a third of the grid to half a unit. A map's quantization error is the mean distance of an image to its
best-matching unit, its topographic error the share of images whose two best units are no neighbours: while the radius shrinks the one
falls and the other rises. Units take the label that most of the training images which they won have; the accuracy is that of these
labels on the test images. The U-matrix shows the mean distance of each unit's codebook vector to those of its neighbours: ridges
part the digits that differ.

Source: lecture row 27 (S2:85-90), which names the map for the class of self-organising nets; Kohonen 1982, doi:10.1007/BF00337288; 2013,
doi:10.1016/j.neunet.2012.09.018; Ultsch and Siemon 1990.

Command: python -m experiments.som_digits        (half a minute on two CPU cores)
Expected: a quantization error of 5.14 to 5.22, a topographic error of .07 online and .09 to .11 in batches, 80 to 82 % of the test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import command
from experiments.som_figures import draw_codebooks, draw_components, draw_labels, draw_training, draw_u_matrices
from experiments.unfinished import NOTHING, Keep
from jaxnn.learners import Competitive, batch_competitive, competitive
from jaxnn.learners.competitive import flat_image
from jaxnn.models.som import Grid, hexagonal, plane, rectangular, u_matrix
from jaxnn.record import Record, compare
from jaxnn.schedules import exponential
from jaxnn.train import Checkpoints, Run, fit
from jaxnn.types import Batch, InputError, Learner, Trained

GRIDS = {"square": rectangular, "hexagonal": hexagonal}
RULES = ("online", "batch")
CLASSES = 10


@dataclass(frozen=True)
class Config:
    rows: int = 12
    """Rows of the grids."""
    columns: int = 12
    """Units of a row."""
    passes: int = 20
    """Over the images, for both rules."""
    last_radius: float = 0.5
    """The neighbourhood's at the end, in units; it starts with a third of the longer side."""
    learning_rate: float = 0.5
    """The online rule's at the start; it ends with a hundredth of it."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, rows=self.rows, columns=self.columns, passes=self.passes)
        for name, value in {"last_radius": self.last_radius, "learning_rate": self.learning_rate}.items():
            if not value > 0:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, got {value}")


def learner_of(rule: str, grid: Grid, config: Config, samples: int) -> Learner:
    """σ falls to its last value along an exponential, in `samples` for the online rule and in `passes` for the batch rule."""
    first = max(config.last_radius, max(config.rows, config.columns) / 3)
    fall = np.log(first / config.last_radius)
    if rule == "batch":
        return batch_competitive(grid, radius=exponential(first, fall / config.passes))
    rate = exponential(config.learning_rate, np.log(100) / samples)
    return competitive(grid, learning_rate=rate, radius=exponential(first, fall / samples))


def train(rule: str, grid: Grid, config: Config, data: Batch, checkpoint: Checkpoints | None) -> Run:
    """All passes, evaluated on all images before each and at the end."""
    count = len(data["image"])
    batch_size = min(100, count) if rule == "online" else None
    steps = count // batch_size if batch_size else 1
    learner = learner_of(rule, grid, config, config.passes * steps * (batch_size or 1))
    begin = 0, Competitive(plane(grid, flat_image(data)), jnp.zeros((), jnp.int32))
    how: dict[str, Any] = {"batch_size": batch_size, "num_steps": config.passes * steps, "eval_every": steps, "eval_data": data}
    label = f"{rule}, {grid.rows} × {grid.columns}"
    return fit(learner, jax.random.key(0), data, start=begin, checkpoint=checkpoint, label=label, **how)


def hits(winners: np.ndarray, labels: np.ndarray, units: int) -> np.ndarray:
    """How many images of each label every unit won, (M, classes)."""
    counts = np.zeros((units, CLASSES), int)
    np.add.at(counts, (winners, labels), 1)
    return counts


def accuracy_of_labels(counts: np.ndarray, winners: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose unit has their label; a unit takes that of most images it won in training, one without any names none."""
    names = np.where(counts.sum(1) > 0, counts.argmax(1), -1)
    return float((names[winners] == labels).mean())


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train_set, test_set = (command.load_digits(config.digits, split) for split in ("train", "test"))
    data, test = (jax.tree.map(jnp.asarray, dataset.arrays) for dataset in (train_set, test_set))
    history: dict[str, Any] = {}
    comparisons, runs = [], []
    for shape, make in GRIDS.items():
        grid = make(config.rows, config.columns)
        history[f"positions/{shape}"] = grid.positions
        for rule in RULES:
            state, past = train(rule, grid, config, data, keep.checkpoint(f"{shape} {rule}"))
            runs.append(past)
            name, trained = f"{shape}, {rule}", Trained(learner_of(rule, grid, config, 1), state)
            won, won_test = (np.asarray(trained.predict(batch)) for batch in (data, test))
            counts = hits(won, np.asarray(data["label"]), len(grid.positions))
            accuracy = accuracy_of_labels(counts, won_test, np.asarray(test["label"]))
            history |= {f"{error}/{name}": values for error, values in past.evaluation.items()}
            history |= {f"codebook/{name}": np.asarray(state.codebook), f"hits/{name}": counts}
            history |= {f"u_matrix/{name}": np.asarray(u_matrix(grid, state.codebook))}
            comparisons += [compare(f"{name}: {error.replace('_', ' ')}", [values[-1]]) for error, values in past.evaluation.items()]
            comparisons += [compare(f"{name}: accuracy of the units' labels on test images", [accuracy])]
    axes = {key: AXES[key.split("/")[0]] for key in history}
    about = {"data": train_set.source, "seconds": command.seconds(runs), "image": list(data["image"].shape[1:3])}
    return command.Outcome(history, axes, comparisons, about, state)


AXES = {
    "positions": ("unit", "coordinate"),
    "quantization_error": ("epoch",),
    "topographic_error": ("epoch",),
    "codebook": ("unit", "pixel"),
    "hits": ("unit", "label"),
    "u_matrix": ("row", "column"),
}


def plot(record: Record) -> Mapping[str, Figure]:
    """The codebooks as pictures, the labels with the U-matrix, single pixels over the map, and the errors pass by pass."""
    return {
        "codebooks": draw_codebooks(record),
        "labels": draw_labels(record),
        "u_matrices": draw_u_matrices(record),
        "components": draw_components(record),
        "training": draw_training(record),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
