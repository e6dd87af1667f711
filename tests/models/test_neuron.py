"""Rows 1, 2, 16, 17: gates, their two codings, and every Boolean function of up to three inputs."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import neuron
from jaxnn.models.neuron import Neurons, apply, boolean_network, fire, fire_bipolar, to_bipolar, truth_table_inputs
from jaxnn.types import InputError

GATES = {
    "and": (neuron.and_neuron, all),
    "or": (neuron.or_neuron, any),
    "nand": (neuron.nand_neuron, lambda bits: not all(bits)),
}


def rows(inputs):
    return list(product((0, 1), repeat=inputs))


@pytest.mark.parametrize("sum_of_two", [0, 1, 2])
def test_row_1_a_neuron_fires_where_the_sum_reaches_its_threshold(sum_of_two):
    """y = f(Σ w_i x_i - θ) by hand for w = (2, -1, 3), θ = 4, just below it, at it and above it."""
    x = {0: (1, 0, 0), 1: (1, 1, 1), 2: (1, 0, 1)}[sum_of_two]
    total = 2 * x[0] - x[1] + 3 * x[2]
    assert total - 4 == (-2, 0, 1)[sum_of_two]
    found = fire(neuron.neuron([2.0, -1.0, 3.0], 4.0), jnp.array(x))
    np.testing.assert_array_equal(found, [float(total >= 4)])


def test_row_2_the_bipolar_neuron_takes_its_bias_as_w_0_and_sgn_of_0_is_1():
    weights = jnp.array([[-1.0, 0.5], [1.0, -2.0], [2.0, 0.0]])
    x = jnp.array([[1, 0], [-1, 1], [-1, -1]])
    sums = [[0.0, -1.5], [0.0, 2.5], [-4.0, 2.5]]
    assert np.asarray(x @ weights[1:] + weights[:1]).tolist() == sums
    np.testing.assert_array_equal(fire_bipolar(weights, x), [[1, -1], [1, 1], [-1, 1]])
    assert jnp.sign(0.0) == 0  # what the lecture's sgn is not


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
@pytest.mark.parametrize("name", GATES)
def test_row_17_gates(name, inputs):
    make, python = GATES[name]
    np.testing.assert_array_equal(fire(make(inputs), jnp.array(rows(inputs)))[:, 0], [float(python(bits)) for bits in rows(inputs)])


def test_row_17_not():
    np.testing.assert_array_equal(fire(neuron.not_neuron(), jnp.array([[0], [1]]))[:, 0], [1, 0])


def test_row_17_the_gates_weights():
    """θ half-way: AND of n at n - ½, OR at ½, NOT at -½, NAND at ½ - n."""
    gates = [neuron.and_neuron(3), neuron.or_neuron(3), neuron.not_neuron(), neuron.nand_neuron(3)]
    assert [gate.thresholds.tolist() for gate in gates] == [[2.5], [0.5], [-0.5], [-2.5]]
    assert [gate.weights.ravel().tolist() for gate in gates] == [[1] * 3, [1] * 3, [-1], [-1] * 3]


@pytest.mark.parametrize("name", GATES)
def test_row_2_both_codings_are_one_classifier(name):
    gate, bits = GATES[name][0](3), truth_table_inputs(3)
    np.testing.assert_array_equal(fire_bipolar(to_bipolar(gate), 2 * bits - 1), 2 * fire(gate, bits) - 1)


def test_row_16_xor_by_a_hidden_layer():
    """Hidden units OR and NAND, output AND: the weights, the hidden code and the lecture's truth table."""
    hidden, output = neuron.xor_network()
    np.testing.assert_array_equal(hidden.weights, [[1, -1], [1, -1]])
    np.testing.assert_array_equal(hidden.thresholds, [0.5, -1.5])
    np.testing.assert_array_equal(output.weights, [[1], [1]])
    np.testing.assert_array_equal(output.thresholds, [1.5])
    x = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(fire(hidden, x), [[0, 1], [1, 1], [1, 1], [1, 0]])
    np.testing.assert_array_equal(apply((hidden, output), x)[:, 0], [0, 1, 1, 0])


def test_the_inputs_are_in_counting_order():
    np.testing.assert_array_equal(truth_table_inputs(3), rows(3))


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_row_18_every_boolean_function_is_a_network_of_neurons(inputs):
    """All 2^(2^n) of them at once: 4, 16 and 256."""
    count = 2**inputs
    tables = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    assert len(np.unique(tables, axis=0)) == 2**count
    found = jax.jit(jax.vmap(lambda table: apply(boolean_network(table), jnp.array(rows(inputs)))[:, 0]))(jnp.array(tables))
    np.testing.assert_array_equal(found, tables)


def test_a_network_takes_one_example_or_a_batch_of_batches():
    network, x = boolean_network(jnp.array([0, 1, 1, 0])), jnp.array([[[0, 1], [1, 1]]])
    np.testing.assert_array_equal(apply(network, x), [[[1], [0]]])
    np.testing.assert_array_equal(apply(network, x[0, 0]), [1])


@pytest.mark.parametrize(("table", "message"), [([0, 1, 1], "2\\^D rows, got 3"), ([1], "got 1"), ([0, 2], "holds 0 and 1, got 2")])
def test_what_is_no_truth_table_is_refused(table, message):
    with pytest.raises(InputError, match=message):
        boolean_network(jnp.array(table))


def test_layers_join_side_by_side():
    both = neuron.side_by_side(neuron.or_neuron(2), Neurons(jnp.zeros((2, 2)), jnp.array([1.0, -1.0])))
    np.testing.assert_array_equal(fire(both, jnp.array([0, 1])), [1, 0, 1])
