"""Gradient descent on one net for many rates and batch sizes, and what is read off its losses."""

import numpy as np
from jaxtyping import Array, Float

from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.learners.supervised import image_and_label
from jaxnn.models import MLP, functional
from jaxnn.optimizers import sgd
from jaxnn.types import Batch, Learner, PyTree

NET = functional(MLP((30, 10)))
LOSS = losses.softmax_cross_entropy_with_integer_labels


def learner(learning_rate: float) -> Learner:
    """Gradient descent on the net, whatever the batch."""
    return supervised(*NET, LOSS, sgd(learning_rate))


def mean_loss(params: PyTree, batch: Batch) -> Float[Array, ""]:
    """(1/m) Σ E, whose gradient the learner follows."""
    x, y = image_and_label(batch)
    return LOSS(NET.apply({"params": params}, x, train=False, rngs=None)[0], y).mean()


def final_loss(loss: np.ndarray, diverged_at: np.ndarray) -> np.ndarray:
    """The median over seeds of the last loss, (seeds, rates, evaluations) -> (rates,); infinite at a rate at which a seed diverged."""
    finite = np.where(diverged_at < 0, loss[..., -1], np.inf)
    return np.where((diverged_at < 0).all(0), np.median(finite, 0), np.inf)


def best(loss: np.ndarray, diverged_at: np.ndarray) -> int:
    """The rate of the lowest final loss, by its place in the grid; the lowest rate where all diverge."""
    return int(np.argmin(final_loss(loss, diverged_at)))


def rises(loss: np.ndarray) -> np.ndarray:
    """The share of steps that raise the loss, (..., steps) -> (...); one that makes it NaN does."""
    return (~(loss[..., 1:] <= loss[..., :-1])).mean(-1)
