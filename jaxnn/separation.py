"""Train a perceptron until no mistake is left, or until a limit, where it says so and gives the best that it came by."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxnn.checkpoint import Goal
from jaxnn.learners.perceptron_rule import Pocket, Preprocess, pocket_rule
from jaxnn.learners.supervised import image_and_label
from jaxnn.models import perceptron
from jaxnn.models.neuron import Neurons
from jaxnn.train import History, Reached, fit
from jaxnn.types import Batch, Learner, num_examples


class NotSeparated(UserWarning):
    """The limit came before a pass without mistakes."""


class Separation(NamedTuple):
    """What `train_until_separated` returns."""

    perceptron: Neurons
    """That which gets every example right, else the pocket solution."""
    converged: bool
    passes: int
    mistakes: int
    """Updates, those of all outputs together."""
    errors: int
    """Examples that `perceptron` gets wrong."""
    message: str
    """The same in words."""
    history: History


def train_until_separated(
    key: jax.Array,
    data: Batch,
    *,
    outputs: int = 1,
    max_passes: int = 1000,
    preprocess: Callable[[Batch], tuple[Array, Array]] = image_and_label,
    label: str | None = "passes",
) -> Separation:
    """`pocket_rule` from zero until all examples are right; a pass is as many draws as there are examples.

    After `max_passes` without it warns `NotSeparated`: a hyperplane between the classes may not exist (XOR, lecture row 15), or its
    margin γ is so small that the (R/γ)² mistakes of the convergence theorem need more passes. Raises `InputError` for a
    label outside the classes.

    >>> data = {"x": jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), "label": jnp.array([0, 1, 1, 1])}
    >>> train_until_separated(jax.random.key(0), data, preprocess=lambda batch: (batch["x"], batch["label"]), label=None).errors
    0
    """
    perceptron.targets(jnp.asarray(preprocess(data)[1]), outputs)  # a label outside the classes ends it here, named
    rule = Reached(Goal("error", higher_is_better=False), 0.0)
    learner = _learner(outputs, preprocess)
    run = fit(learner, key, data, num_steps=max_passes, eval_every=1, eval_data=data, stop=rule, label=label)
    return _told(run.state, run.history, num_examples(data))


@cache
def _learner(outputs: int, preprocess: Preprocess) -> Learner:
    """One and the same for a second call, so that it does not compile again."""
    return pocket_rule(outputs, preprocess=preprocess)


def _told(state: Pocket, history: History, count: int) -> Separation:
    errors = round(float(history.evaluation["error"][-1]) * count)
    passes, mistakes = int(history.evaluated_at[-1]), int(state.mistakes.sum())
    done = f"after {passes} passes of {count} examples and {mistakes} mistakes"
    if errors == 0:
        return Separation(state.best, True, passes, mistakes, 0, f"separated {done}", history)
    message = (
        f"not separated {done}: either no hyperplane separates the classes, or it takes more passes. "
        f"Returned is the pocket solution, which gets {errors} of {count} wrong."
    )
    warnings.warn(message, NotSeparated, stacklevel=3)
    return Separation(state.best, False, passes, mistakes, errors, message, history)
