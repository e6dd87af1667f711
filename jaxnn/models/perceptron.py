"""Rosenblatt's perceptron: a layer of threshold neurons whose weights are learnt, one neuron an output.

    y_j = f(Σ_i w_ij x_i - θ_j),   f(z) = 1 if z ≥ 0, else 0        lecture row 14; θ is its w_0

One output tells two classes apart, 0 (B) and 1 (A); c outputs stand for c classes in 1-of-C coding (row 25). The parameters
are `jaxnn.models.neuron.Neurons`, and the outputs `neuron.fire`; `jaxnn.learners.perceptron_rule` learns them.

What one layer cannot do is a matter of its inputs' order. S2:115 says that it can do first-order predicate logic alone
(erratum E13); what Minsky and Papert proved is about the order of a predicate: the least k such that it is a threshold of a
weighted sum of products of at most k inputs (`products`). AND and OR have order 1, XOR has order 2, parity of n inputs order n.

Source: Rosenblatt 1958, doi:10.1037/h0042519; Novikoff 1962, On convergence proofs for perceptrons; Minsky and Papert 1969,
Perceptrons; lecture rows 14, 15, 25.
"""

from itertools import combinations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray, Real

from jaxnn.activations import threshold
from jaxnn.coding import binary, one_of_c
from jaxnn.models.neuron import Neurons, excess
from jaxnn.types import InputError


def init(key: PRNGKeyArray, inputs: int, outputs: int, scale: float = 0.0) -> Neurons:
    """Weights and thresholds N(0, scale²); 0 is where Novikoff's bound begins.

    >>> init(jax.random.key(0), 2, 1).thresholds
    Array([0.], dtype=float32)
    """
    drawn = scale * jax.random.normal(key, (inputs + 1, outputs))
    return Neurons(drawn[1:], drawn[0])


def targets(labels: Integer[Array, "*batch"], outputs: int) -> Float[Array, "*batch K"]:
    """The labels as t: (label,) for one output, 1-of-C for more (t_label = 1, the others 0); lecture row 25.

    A label outside the classes is an `InputError` where it can be seen, and NaN where it is traced.

    >>> targets(jnp.array([0, 2]), 3)
    Array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    >>> targets(jnp.array([0, 2]), 1)
    Traceback (most recent call last):
    jaxnn.types.InputError: label 2 at [1] is outside the 2 classes, 0 to 1; 1 of 2 labels is
    """
    return binary(labels) if outputs == 1 else one_of_c(labels, outputs)


def classify(perceptron: Neurons, x: Real[Array, "*batch D"]) -> Int[Array, "*batch"]:
    """The class: whether it fires, for one output; of several, the one with the largest excess, for all or none may fire.

    >>> classify(Neurons(jnp.array([[1.0, 2.0, 0.0]]), jnp.zeros(3)), jnp.array([[1.0], [-1.0]]))
    Array([1, 2], dtype=int32)
    """
    a = excess(perceptron, x)
    return ((a[..., 0] >= 0) if a.shape[-1] == 1 else a.argmax(-1)).astype(jnp.int32)


def criterion(a: Float[Array, "*batch K"], t: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """Σ_j (y_j - t_j) a_j with y = f(a): how far the wrong outputs are from right, 0 where all are.

    The perceptron's rule is gradient descent on it, one example a step, with ∂/∂a_j = y_j - t_j.

    >>> criterion(jnp.array([2.0, -3.0, 1.0]), jnp.array([0.0, 1.0, 1.0]))
    Array(5., dtype=float32)
    """
    return jnp.sum((threshold(a) - t) * a, axis=-1)


def mistake_bound(perceptron: Neurons, x: Real[Array, "B D"], labels: Integer[Array, "B"]) -> Float[Array, "K"]:
    """(R/γ)², with R = max ‖(1, x)‖ and γ = min ±a/‖(θ, w)‖ of a perceptron that gets all labels right; infinite for another.

    From zero, in whatever order, the rule makes no more mistakes than that on each output (Novikoff 1962), for each
    perceptron that separates the classes, hence for the one of the widest margin γ.

    >>> mistake_bound(Neurons(jnp.array([[1.0]]), jnp.array([0.0])), jnp.array([[-1.0], [1.0]]), jnp.array([0, 1]))
    Array([2.], dtype=float32)
    """
    signs = 2 * targets(labels, perceptron.thresholds.size) - 1
    lengths = jnp.sqrt(jnp.square(perceptron.weights).sum(0) + jnp.square(perceptron.thresholds))
    margin = (signs * excess(perceptron, x)).min(0) / lengths
    radius_squared = 1 + jnp.square(x).sum(-1).max()
    return jnp.where(margin > 0, radius_squared / jnp.square(margin), jnp.inf)


def products(x: Real[Array, "*batch D"], order: int) -> Real[Array, "*batch M"]:
    """All products of 1 … `order` different inputs, Minsky and Papert's masks: inputs of a perceptron of that order (E13).

    >>> products(jnp.array([2, 3, 5]), 2)
    Array([ 2,  3,  5,  6, 10, 15], dtype=int32)
    """
    inputs = x.shape[-1]
    if not 1 <= order <= inputs:
        raise InputError(f"order must be from 1 to the number of inputs, {inputs}, got {order}")
    masks = [mask for size in range(1, order + 1) for mask in combinations(range(inputs), size)]
    return jnp.stack([x[..., jnp.array(mask)].prod(-1) for mask in masks], axis=-1)
