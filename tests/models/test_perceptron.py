"""Rows 14, 15, 25 and erratum 13: what a perceptron gives, what it is taught, and the order of what it can tell apart."""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import perceptron
from jaxnn.models.neuron import Neurons, fire
from jaxnn.models.perceptron import classify, criterion, mistake_bound, products, targets
from jaxnn.types import InputError


def test_row_14_one_and_many_outputs():
    """y_j = f(Σ_i w_ij x_i - w_0j) by hand: 1 is class A and 0 class B."""
    w, w_0, x = np.array([[1.0, -1.0, 0.5], [2.0, 1.0, -1.0]]), np.array([2.0, 0.0, 0.0]), np.array([[1.0, 1.0], [0.0, 0.0], [3.0, -1.0]])
    by_hand = [[float(x[n] @ w[:, j] - w_0[j] >= 0) for j in range(3)] for n in range(3)]
    assert by_hand == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    np.testing.assert_array_equal(fire(Neurons(jnp.array(w), jnp.array(w_0)), jnp.array(x)), by_hand)
    one = Neurons(jnp.array(w[:, :1]), jnp.array(w_0[:1]))
    np.testing.assert_array_equal(fire(one, jnp.array(x))[:, 0], [1, 0, 0])
    np.testing.assert_array_equal(classify(one, jnp.array(x)), [1, 0, 0])


def test_row_25_two_classes_take_one_output_and_more_take_one_of_c():
    np.testing.assert_array_equal(targets(jnp.array([0, 1, 1]), 1), [[0], [1], [1]])
    np.testing.assert_array_equal(targets(jnp.array([2, 0], jnp.uint8), 4), [[0, 0, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(targets(jnp.array([1]), 2), [[0, 1]])


@pytest.mark.parametrize(
    ("labels", "outputs", "message"), [([0, 2], 1, r"label 2 at \[1\] .* the 2 classes"), ([-1], 3, r"label -1 at \[0\]")]
)
def test_a_label_outside_the_classes_is_named_and_under_jit_nan(labels, outputs, message):
    with pytest.raises(InputError, match=message):
        targets(jnp.array(labels), outputs)
    coded = jax.jit(targets, static_argnums=1)(jnp.array(labels), outputs)
    assert np.isnan(coded[-1]).all()
    assert np.isfinite(coded[:-1]).all()


def test_the_criterion_has_the_rule_as_its_gradient():
    a, t = jnp.array([2.0, -3.0, 1.0, -1.0]), jnp.array([0.0, 1.0, 1.0, 0.0])
    assert criterion(a, t) == 5
    np.testing.assert_array_equal(jax.grad(criterion)(a, t), [1, -1, 0, 0])


def test_the_bound_is_radius_over_margin_squared():
    """x = ±3 and ±1 on a line through w = 2, θ = 2: the distances to x = 1 in (1, x) have the length √8 in common."""
    x, labels = jnp.array([[-3.0], [-1.0], [2.0], [4.0]]), jnp.array([0, 0, 1, 1])
    bound = mistake_bound(Neurons(jnp.array([[2.0, -2.0]]), jnp.array([2.0, -2.0])), x, jax.nn.one_hot(labels, 2).argmax(-1))
    margin = 2 / np.sqrt(8)
    np.testing.assert_allclose(bound[1], np.inf)
    np.testing.assert_allclose(mistake_bound(Neurons(jnp.array([[2.0]]), jnp.array([2.0])), x, labels), [(1 + 16) / margin**2], rtol=1e-6)


def test_the_start_is_zero_or_drawn():
    zero, drawn = (perceptron.init(jax.random.key(0), 400, 5, scale) for scale in (0.0, 2.0))
    assert not zero.weights.any()
    assert not zero.thresholds.any()
    assert drawn.weights.shape == (400, 5)
    assert abs(drawn.weights.std() - 2) < 0.1
    assert len(np.unique(drawn.thresholds)) == 5


@pytest.mark.parametrize("inputs", [2, 3, 4, 5])
def test_erratum_13_parity_of_n_inputs_has_order_n(inputs):
    """Below order n the signed rows cancel in every product, so no weights exist (Gordan); at n, Σ_S (-2)^(|S|-1) x_S is parity."""
    bits = np.array(list(product((0, 1), repeat=inputs)))
    parity = bits.sum(1) % 2
    low, full = (np.asarray(products(jnp.array(bits), order)) for order in (inputs - 1, inputs))
    assert not ((2 * parity - 1) @ low).any()
    assert (2 * parity - 1).sum() == 0  # the threshold's own product, of no input
    sizes = np.array([size for size in range(1, inputs + 1) for _ in combinations(range(inputs), size)])
    np.testing.assert_array_equal(full @ (-2.0) ** (sizes - 1), parity)


def test_erratum_13_xor_has_order_2():
    bits = jnp.array(list(product((0, 1), repeat=2)))
    unit = Neurons(jnp.array([[1.0], [1.0], [-2.0]]), jnp.array([0.5]))
    np.testing.assert_array_equal(fire(unit, products(bits, 2))[:, 0], [0, 1, 1, 0])


def test_row_15_no_neuron_computes_xor():
    """Of 14 of the 16 functions of two inputs there are weights among 9³ small ones; of XOR and its negation there are none."""
    grid = np.array(list(product(np.linspace(-2, 2, 9), repeat=3)))
    neurons = Neurons(jnp.array(grid[:, :2].T, jnp.float32), jnp.array(grid[:, 2], jnp.float32))
    tables = np.asarray(fire(neurons, jnp.array(list(product((0, 1), repeat=2))))).T.astype(int)
    found = {tuple(table) for table in tables.tolist()}
    assert set(product((0, 1), repeat=4)) - found == {(0, 1, 1, 0), (1, 0, 0, 1)}


@pytest.mark.parametrize("order", [0, 3])
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(InputError, match=f"from 1 to the number of inputs, 2, got {order}"):
        products(jnp.array([1, 0]), order)
