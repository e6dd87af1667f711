"""The neuron of McCulloch and Pitts, the gates made of it, and any Boolean function as a network of such neurons.

    y = f(Σ_i w_i x_i - θ),   f(z) = 1 if z ≥ 0, else 0             lecture row 1, inputs and outputs 0 or 1
    y = sgn(w_0 x_0 + Σ_i w_i x_i),   x_0 = 1, sgn(0) = +1          lecture row 2, inputs and outputs -1 or +1

Both are one linear classifier, w·x = θ being its boundary; w_0 = -θ takes the threshold in among the weights.

| gate       | weights           | θ         | fires when                     |
|------------|-------------------|-----------|--------------------------------|
| AND        | 1, 1, …           | n - ½     | all n inputs are 1             |
| OR         | 1, 1, …           | ½         | one is                         |
| NOT        | -1                | -½        | its input is 0                 |
| NAND       | -1, -1, …         | ½ - n     | not all are 1                  |

θ stands half-way between the two sums that it tells apart, so rounding changes nothing.

Source: McCulloch and Pitts 1943, doi:10.1007/BF02478259; lecture rows 1, 2, 16, 17, 18.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from jaxnn.activations import bipolar_threshold, threshold
from jaxnn.types import InputError


class Neurons(NamedTuple):
    """K neurons that see the same D inputs: one neuron is K = 1."""

    weights: Float[Array, "D K"]
    thresholds: Float[Array, "K"]


Network = Sequence[Neurons]
"""Layers, the first one next to the inputs."""


def excess(neurons: Neurons, x: Real[Array, "*batch D"]) -> Float[Array, "*batch K"]:
    """Σ_i w_i x_i - θ of every neuron: at 0 it just fires."""
    sums = x @ neurons.weights
    return sums - jnp.broadcast_to(neurons.thresholds, sums.shape)


def fire(neurons: Neurons, x: Real[Array, "*batch D"]) -> Float[Array, "*batch K"]:
    """y = f(Σ_i w_i x_i - θ), 1 where the sum reaches the threshold, else 0; lecture row 1.

    >>> fire(Neurons(jnp.ones((2, 1)), jnp.array([2.0])), jnp.array([[1, 0], [1, 1]]))
    Array([[0.],
           [1.]], dtype=float32)
    """
    return threshold(excess(neurons, x))


def fire_bipolar(weights: Float[Array, "N K"], x: Real[Array, "*batch D"]) -> Float[Array, "*batch K"]:
    """y = sgn(Σ_{i=0}^D w_i x_i) with x_0 = 1 and sgn(0) = +1; row w_0 of the N = D + 1 is the bias. Lecture row 2.

    >>> fire_bipolar(jnp.array([[-1.0], [1.0], [1.0]]), jnp.array([[-1, 1], [1, 1]]))
    Array([[-1.],
           [ 1.]], dtype=float32)
    """
    return bipolar_threshold(excess(Neurons(weights[1:], -weights[0]), x))


def to_bipolar(neurons: Neurons) -> Float[Array, "N K"]:
    """The weights, w_0 first, with which `fire_bipolar` says of 2x - 1 what `fire` says of x: +1 for 1, and -1 for 0.

    Σ w_i x_i - θ = Σ (w_i / 2)(2 x_i - 1) + (Σ w_i / 2 - θ).

    >>> to_bipolar(and_neuron(2)).ravel()
    Array([-0.5,  0.5,  0.5], dtype=float32)
    """
    halves = neurons.weights / 2
    return jnp.concatenate([(halves.sum(0) - neurons.thresholds)[None], halves])


def apply(network: Network, x: Real[Array, "*batch D"]) -> Float[Array, "*batch K"]:
    """The last layer's outputs: each layer's are the next one's inputs."""
    for neurons in network:
        x = fire(neurons, x)
    return jnp.asarray(x, jnp.float32)


def neuron(weights: Sequence[float], threshold: float) -> Neurons:
    """One neuron of these numbers."""
    return Neurons(jnp.array(weights, float)[:, None], jnp.array([threshold], float))


def and_neuron(inputs: int = 2) -> Neurons:
    """1 where all inputs are 1; lecture row 17."""
    return neuron([1.0] * inputs, inputs - 0.5)


def or_neuron(inputs: int = 2) -> Neurons:
    """1 where at least one input is 1; lecture row 17."""
    return neuron([1.0] * inputs, 0.5)


def not_neuron() -> Neurons:
    """1 where its one input is 0; lecture row 17."""
    return nand_neuron(1)


def nand_neuron(inputs: int = 2) -> Neurons:
    """1 where not all inputs are 1; lecture row 17."""
    return neuron([-1.0] * inputs, 0.5 - inputs)


def side_by_side(*neurons: Neurons) -> Neurons:
    """One layer of several neurons, or layers, over the same inputs."""
    weights, thresholds = zip(*neurons, strict=True)
    return Neurons(jnp.concatenate(weights, axis=1), jnp.concatenate(thresholds))


def xor_network() -> Network:
    """XOR(x_1, x_2) = AND(OR(x_1, x_2), NAND(x_1, x_2)): hidden weights (1, 1) and (-1, -1), θ = ½ and -1½; lecture row 16.

    >>> apply(xor_network(), truth_table_inputs(2)).ravel()
    Array([0., 1., 1., 0.], dtype=float32)
    """
    return side_by_side(or_neuron(2), nand_neuron(2)), and_neuron(2)


def truth_table_inputs(inputs: int) -> Float[Array, "R D"]:
    """All R = 2^D rows of 0 and 1 in the order in which one counts: x_1 changes last.

    >>> truth_table_inputs(2)
    Array([[0., 0.],
           [0., 1.],
           [1., 0.],
           [1., 1.]], dtype=float32)
    """
    rows = jnp.arange(2**inputs)
    return jnp.stack([(rows >> bit) & 1 for bit in range(inputs - 1, -1, -1)], axis=1).astype(jnp.float32)


def boolean_network(table: Real[Array, "R"]) -> Network:
    """Any function of D inputs as two layers: a neuron for each row of its truth table, which fires for that row alone, and an OR.

    The neuron of a row has the weight +1 where its input is 1 and -1 where it is 0, and θ = (number of ones) - ½. The OR's
    weights are the table itself: rows of 0 do not count. `table` is in the order of `truth_table_inputs` and may be traced.
    Raises `InputError` for a length that is no power of 2 from 2 on, and, where it can look, for values other than 0 and 1.

    >>> parity = boolean_network(jnp.array([0, 1, 1, 0, 1, 0, 0, 1]))
    >>> apply(parity, jnp.array([1, 1, 1]))
    Array([1.], dtype=float32)
    """
    rows = len(table)
    if rows < 2 or rows & (rows - 1):
        raise InputError(f"a truth table of D inputs has 2^D rows, got {rows}")
    if not isinstance(table, jax.core.Tracer):
        wrong = [value for value in table.tolist() if value not in (0, 1)]
        if wrong:
            raise InputError(f"a truth table holds 0 and 1, got {wrong[0]}")
    inputs = truth_table_inputs(rows.bit_length() - 1)
    minterms = Neurons(2 * inputs.T - 1, inputs.sum(1) - 0.5)
    return minterms, Neurons(table.astype(jnp.float32)[:, None], jnp.array([0.5]))
