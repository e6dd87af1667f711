"""A real training run that is there to be broken: `python -m tests.faults.victim FOLDER`.

[784,30,30,10], Adam, shuffled mini-batches of the 5,000 digits, a checkpoint after every compiled chunk. It says when it begins to step.
"""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnn import activations, data, loop, losses, optimizers
from jaxnn.checkpoint import Checkpoints
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.train import Run, fit

STEPS = 4000
CHUNK_SECONDS = 0.02
"""Far below the default, so that there is much to break."""


def learner() -> Any:
    model = functional(MLP((30, 30, 10), activations.sigmoid))
    return supervised(*model, losses.softmax_cross_entropy_with_integer_labels, optimizers.adam(0.003))


def train(checkpoint: Checkpoints | None, num_steps: int = STEPS) -> Run:
    """The same run every time, from wherever its checkpoints are."""
    digits = data.load("mnist_5k", "train").arrays
    few = {name: rows[:100] for name, rows in digits.items()}
    settings: dict[str, Any] = {"batch_size": 20, "eval_every": 500, "eval_data": few, "label": None}
    return fit(learner(), jax.random.key(7), digits, num_steps=num_steps, checkpoint=checkpoint, **settings)


def digest(run: Run) -> str:
    """sha256 over the bits of state and history, without the measured times."""
    history = run.history
    parts = [run.state, history.train, history.evaluation, history.evaluated_at, history.diverged_at]
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


def main(arguments: Sequence[str]) -> None:
    loop.CHUNK_SECONDS = CHUNK_SECONDS
    jax.config.update("jax_platforms", "cpu")
    print("begins", flush=True)
    print(digest(train(Checkpoints(arguments[0], every=0))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
