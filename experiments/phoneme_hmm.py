"""Hidden Markov models of the consonants, one a class, as hmmlearn fits them: what `experiments.tdnn_phonemes` compares its nets with.

A state emits a Gaussian over the channels and their slopes; from it a token goes on to the next state or stays, and it begins in the
first. Means and covariances start from the training tokens cut into equally long pieces, then Baum and Welch's algorithm takes over.
A token is of the class under whose model it is the likeliest: Rabiner 1989, doi:10.1109/5.18626.
"""

import importlib
import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer

ITERATIONS = 10
"""Of Baum and Welch; after 20 the errors of a seed were other by two points at most."""
LEAST_VARIANCE = 1e-3
"""Added to that of each coefficient, which lies in -1 … 1: few tokens leave no covariance without an inverse."""

Covariance = Literal["diag", "full"]


def library() -> Any:
    """`hmmlearn.hmm`, or None where it is not installed."""
    try:
        return importlib.import_module("hmmlearn.hmm")
    except ModuleNotFoundError:
        return None


def with_slopes(x: Float[np.ndarray, "N T C"]) -> Float[np.ndarray, "N T 2*C"]:
    """What the models see of a frame: the channels, and half the change from the frame before to the one behind."""
    x = np.asarray(x, float)
    return np.concatenate([x, np.gradient(x, axis=1)], axis=-1)


def fit(x: Float[np.ndarray, "N T C"], label: Integer[np.ndarray, "N"], classes: int, states: int, covariance: Covariance) -> list[Any]:
    """hmmlearn's `GaussianHMM` of each class."""
    return [fit_one(with_slopes(x[label == k]), states, covariance) for k in range(classes)]


def fit_one(x: Float[np.ndarray, "N T D"], states: int, covariance: Covariance) -> Any:
    """A model from left to right of the tokens of one class."""
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # it warns of the last steps, where its prior counts more than the likelihood
    how = {"params": "tmc", "init_params": "", "implementation": "scaling"}  # the same numbers as by logarithms, in a quarter of the time
    added = LEAST_VARIANCE * x[..., 0].size / states  # the prior is a sum over the frames of a state
    prior = added * (np.eye(x.shape[-1]) if covariance == "full" else 1.0)
    model = library().GaussianHMM(states, covariance, covars_prior=prior, n_iter=ITERATIONS, **how)
    pieces = [x[:, piece].reshape(-1, x.shape[-1]) for piece in np.array_split(np.arange(x.shape[1]), states)]
    model.startprob_ = np.eye(states)[0]
    model.transmat_ = (np.eye(states) + np.eye(states, k=1)) / 2 + np.diag(np.eye(states)[-1] / 2)
    model.means_ = np.stack([piece.mean(0) for piece in pieces])
    spread = [np.cov(piece.T, bias=True) + LEAST_VARIANCE * np.eye(x.shape[-1]) for piece in pieces]
    model.covars_ = np.stack(spread if covariance == "full" else [each.diagonal() for each in spread])
    return model.fit(x.reshape(-1, x.shape[-1]), [x.shape[1]] * len(x))


def log_likelihood(model: Any, x: Float[np.ndarray, "N T D"]) -> Float[np.ndarray, "N"]:
    """log p(x_1 … x_T), by α_t(j) = p(x_t | j) Σ_i α_{t-1}(i) a_ij; the library's `score` gives no more than the sum over tokens."""
    emitted = np.stack([log_normal(x, *of_state) for of_state in zip(model.means_, model.covars_, strict=True)], axis=-1)
    with np.errstate(divide="ignore"):  # log 0 is right: from left to right most moves are impossible
        start, moves = np.log(model.startprob_), np.log(model.transmat_)
    forward = start + emitted[:, 0]
    for now in range(1, x.shape[1]):
        forward = np.logaddexp.reduce(forward[:, :, None] + moves, axis=1) + emitted[:, now]
    return np.logaddexp.reduce(forward, axis=1)


def log_normal(
    x: Float[np.ndarray, "N T D"], mean: Float[np.ndarray, "D"], covariance: Float[np.ndarray, "D D"]
) -> Float[np.ndarray, "N T"]:
    """-½ [(x - μ)ᵀ Σ⁻¹ (x - μ) + log |2πΣ|]."""
    white = (x - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    return -0.5 * ((white**2).sum(-1) + np.linalg.slogdet(2 * np.pi * covariance)[1])


def classify(models: Sequence[Any], x: Float[np.ndarray, "N T C"]) -> Integer[np.ndarray, "N"]:
    seen = with_slopes(x)
    return np.stack([log_likelihood(model, seen) for model in models], axis=-1).argmax(-1)


def parameters(classes: int, states: int, channels: int, covariance: Covariance) -> int:
    """Of each state its mean and covariance over channels and slopes, and of each but the last the chance to go on.

    >>> parameters(3, 5, 16, "diag"), parameters(3, 5, 16, "full")
    (972, 8412)
    """
    seen = 2 * channels
    return classes * (states * (seen + (seen if covariance == "diag" else seen * (seen + 1) // 2)) + states - 1)
