"""The perceptron's rule: nothing is learnt from an example that is right, and w ← w + η(t - y)x from one that is not.

It finds a hyperplane between two classes wherever there is one, after at most (R/γ)² mistakes (Novikoff 1962,
`jaxnn.models.perceptron.mistake_bound`); where there is none it never comes to rest, and the weights stay bounded. Then Gallant's pocket
keeps the best that it came by.

Source: Rosenblatt 1958, doi:10.1037/h0042519; Gallant 1990, doi:10.1109/72.80230 (the pocket, with ratchet); lecture rows 14, 15, where
the rule itself stood in a figure that is lost.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxnn.activations import threshold
from jaxnn.learners.supervised import image_and_label, labelled
from jaxnn.models import perceptron as model
from jaxnn.models.neuron import Neurons, excess, fire
from jaxnn.types import Batch, InputError, Learner, Metrics

Preprocess = Callable[[Batch], tuple[Array, Array]]


class PerceptronRule(NamedTuple):
    """The state of `perceptron_rule`."""

    perceptron: Neurons
    mistakes: Int[Array, "K"]
    """Updates so far, those of each output."""


class Pocket(NamedTuple):
    """The state of `pocket_rule`."""

    perceptron: Neurons
    mistakes: Int[Array, "K"]
    best: Neurons
    """In the pocket: of every output the weights with the fewest errors so far."""
    best_errors: Int[Array, "K"]
    """How many rows of the last batch they get wrong."""


def perceptron_rule(
    outputs: int = 1, learning_rate: float | Array = 1.0, *, scale: float = 0.0, preprocess: Preprocess = image_and_label
) -> Learner:
    """w_j ← w_j + η(t_j - y_j)x and θ_j ← θ_j - η(t_j - y_j), one example of the batch after the other; lecture row 14.

    `preprocess(batch) -> (x, label)`; inputs of more than two axes are flattened. The state counts the mistakes. A step reports
    `loss` (`perceptron.criterion`) and `error` (1 where any output is wrong), both of each example as it comes, before it is
    learnt, as means over the batch, and `mistakes` so far; `evaluate` gives loss, error and accuracy, `predict` the classes.
    From zero weights (`scale=0`) η changes nothing but their length. A label outside the classes makes the loss NaN, so that
    `fit` stops; `jaxnn.separation.train_until_separated` names it.
    """
    _check(outputs)

    def init(key: PRNGKeyArray, batch: Batch) -> PerceptronRule:
        inputs = _flat(preprocess(batch)[0]).shape[-1]
        return PerceptronRule(model.init(key, inputs, outputs, scale), jnp.zeros(outputs, jnp.int32))

    def step(key: PRNGKeyArray, state: PerceptronRule, batch: Batch) -> tuple[PerceptronRule, Metrics]:
        def see(state: PerceptronRule, example: tuple[Array, Array]) -> tuple[PerceptronRule, Metrics]:
            neurons, missed, metrics = _learn(state.perceptron, *example, learning_rate)
            return PerceptronRule(neurons, state.mistakes + missed), metrics

        state, metrics = lax.scan(see, state, _examples(batch, preprocess, outputs))
        return state, {**_means(metrics), "mistakes": state.mistakes.sum()}

    return Learner(
        init,
        step,
        lambda key, state, batch: _evaluated(state.perceptron, batch, preprocess, outputs),
        lambda state, batch: _classes(state.perceptron, batch, preprocess),
    )


def pocket_rule(
    outputs: int = 1, learning_rate: float | Array = 1.0, *, scale: float = 0.0, preprocess: Preprocess = image_and_label
) -> Learner:
    """`perceptron_rule` on B examples drawn from the batch, with the weights that get the fewest rows wrong kept in a pocket.

    They are drawn with replacement, as Gallant has it: then, given time, the pocket holds the best weights there are with a
    probability as near to 1 as one likes. The same order in every pass can miss them for ever, as it does on XOR. Every output
    has a pocket of its own. After each update the new weights are held to the whole batch, and so is the pocket at the
    beginning of a step: hand it all data (`batch_size=None`). A step reports the pocket's errors too, and `evaluate` and
    `predict` are the pocket's.
    """
    _check(outputs)

    def init(key: PRNGKeyArray, batch: Batch) -> Pocket:
        x, t = _examples(batch, preprocess, outputs)
        neurons = model.init(key, x.shape[-1], outputs, scale)
        return Pocket(neurons, jnp.zeros(outputs, jnp.int32), jax.tree.map(jnp.copy, neurons), _errors(neurons, x, t))

    def step(key: PRNGKeyArray, state: Pocket, batch: Batch) -> tuple[Pocket, Metrics]:
        x, t = _examples(batch, preprocess, outputs)

        def see(state: Pocket, example: tuple[Array, Array]) -> tuple[Pocket, Metrics]:
            neurons, missed, metrics = _learn(state.perceptron, *example, learning_rate)
            state = state._replace(perceptron=neurons, mistakes=state.mistakes + missed)
            return lax.cond(missed.any(), lambda: _pocketed(state, x, t), lambda: state), metrics

        state = state._replace(best_errors=_errors(state.best, x, t))
        drawn = jax.random.randint(key, (len(x),), 0, len(x))
        state, metrics = lax.scan(see, state, (x[drawn], t[drawn]))
        return state, {**_means(metrics), "mistakes": state.mistakes.sum(), "pocket_errors": state.best_errors.sum()}

    return Learner(
        init,
        step,
        lambda key, state, batch: _evaluated(state.best, batch, preprocess, outputs),
        lambda state, batch: _classes(state.best, batch, preprocess),
    )


def _learn(neurons: Neurons, x: Float[Array, "D"], t: Float[Array, "K"], learning_rate: float | Array) -> tuple[Neurons, Array, Metrics]:
    """The neurons after one example; which outputs were wrong, as (K,) of 0 and 1; the metrics of before."""
    a = excess(neurons, x)
    error = t - threshold(a)
    missed = error != 0
    learnt = Neurons(neurons.weights + learning_rate * jnp.outer(x, error), neurons.thresholds - learning_rate * error)
    return learnt, missed.astype(jnp.int32), {"loss": model.criterion(a, t), "error": missed.any().astype(jnp.float32)}


def _pocketed(state: Pocket, x: Float[Array, "B D"], t: Float[Array, "B K"]) -> Pocket:
    """The state with its present weights in the pocket, on the outputs where they are better."""
    errors = _errors(state.perceptron, x, t)
    better = errors < state.best_errors
    (weights, thresholds), (old_weights, old_thresholds) = state.perceptron, state.best
    best = Neurons(jnp.where(better[None], weights, old_weights), jnp.where(better, thresholds, old_thresholds))
    return state._replace(best=best, best_errors=jnp.minimum(errors, state.best_errors))


def _errors(neurons: Neurons, x: Float[Array, "B D"], t: Float[Array, "B K"]) -> Int[Array, "K"]:
    """How many rows each output gets wrong."""
    return (fire(neurons, x) != t).sum(0, dtype=jnp.int32)


def _examples(batch: Batch, preprocess: Preprocess, outputs: int) -> tuple[Float[Array, "B D"], Float[Array, "B K"]]:
    x, labels = preprocess(batch)
    return _flat(x), model.targets(labels, outputs)


def _flat(x: Array) -> Float[Array, "B D"]:
    return x.reshape(len(x), -1).astype(jnp.float32)


def _means(metrics: Metrics) -> Metrics:
    return {name: values.mean() for name, values in metrics.items()}


def _evaluated(neurons: Neurons, batch: Batch, preprocess: Preprocess, outputs: int) -> Metrics:
    x, t = _examples(batch, preprocess, outputs)
    error = (fire(neurons, x) != t).any(-1).astype(jnp.float32)
    right = model.classify(neurons, x) == preprocess(batch)[1]
    return {"loss": model.criterion(excess(neurons, x), t), "error": error, "accuracy": right.astype(jnp.float32)}


def _classes(neurons: Neurons, batch: Batch, preprocess: Preprocess) -> Int[Array, "B"]:
    return model.classify(neurons, _flat(preprocess(labelled(batch))[0]))


def _check(outputs: int) -> None:
    if outputs < 1:
        raise InputError(f"a perceptron has at least one output, got {outputs}")
