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


def with_bias(x: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D + 1), the last column being 1: what a linear neuron with a bias multiplies its weights with."""
    return np.column_stack([x, np.ones(len(x))]).astype(float)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, from the largest, and eigenvectors of H = XᵀX/N, the Hessian of a linear neuron's mean of ½(Xw - y)²."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def least_squares_descent(x: np.ndarray, y: np.ndarray, learning_rate: float, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """E(w_t) - E* at these steps of gradient descent from w = 0 on the mean of ½‖Xw - y‖², y (N, K), in closed form; and E* itself.

    In the eigenvectors of H the distance to the solution, c_i, is multiplied by 1 - ηλ_i in every step, so that
    E(w_t) - E* = ½ Σ λ_i c_i² (1 - ηλ_i)^(2t): it falls for every η < 2/λ_max, slowest along the smallest λ.
    """
    values, vectors = moments(x)
    slope = vectors.T @ (x.T @ y) / len(x)  # λ_i c_i
    seen = values > 1e-12 * values[0]
    excess = (slope[seen] ** 2).sum(1) / values[seen] / 2
    least = 0.5 * (y**2).sum(1).mean() - excess.sum()
    return ((1 - learning_rate * values[seen]) ** (2 * np.asarray(steps)[:, None])) @ excess, float(least)
