"""A real training run that is there to be broken: [784,30,30,10] by Adam on shuffled mini-batches of the 5,000 digits.

Its chunks are short, and with `--checkpoint-every 0` it saves after each of them.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from experiments import command
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, data, loop, losses, optimizers
from jaxnn.checkpoint import Checkpoints
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.record import Record
from jaxnn.train import Run, fit

STEPS = 4000
CHUNK_SECONDS = 0.02
"""Far below the default, so that there is much to break."""


def learner() -> Any:
    model = functional(MLP((30, 30, 10), activations.sigmoid))
    return supervised(*model, losses.softmax_cross_entropy_with_integer_labels, optimizers.adam(0.003))


def train(checkpoint: Checkpoints | None, num_steps: int = STEPS, mesh: Mesh | None = None) -> Run:
    """The same run every time, from wherever its checkpoints are."""
    digits = data.load("mnist_5k", "train").arrays
    few = {name: rows[:100] for name, rows in digits.items()}
    settings: dict[str, Any] = {"batch_size": 20, "eval_every": 500, "eval_data": few, "label": None}
    return fit(learner(), jax.random.key(7), digits, num_steps=num_steps, checkpoint=checkpoint, mesh=mesh, **settings)


def digest(run: Run) -> str:
    """sha256 over the bits of state and history, without the measured times."""
    history = run.history
    parts = [run.state, history.train, history.evaluation, history.evaluated_at, history.diverged_at]
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class Config:
    folder: str | None = None
    """Its checkpoints; None takes the run's own."""
    common: command.CommonFields = field(default_factory=command.Common)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    loop.CHUNK_SECONDS = CHUNK_SECONDS
    found = train(Checkpoints(config.folder, every=0.0) if config.folder else keep.checkpoint("digits"))
    return command.Outcome(found.history.train, {name: ("step",) for name in found.history.train})


def plot(kept: Record) -> dict:
    return {}


if __name__ == "__main__":
    command.main(Config, run, plot)
