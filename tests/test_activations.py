"""jaxnn.activations against NumPy and SciPy in float64, and the lecture's rows 1-13, 21 and 70-72."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from jaxnn import activations
from jaxnn.activations import ACTIVATIONS, by_name, logit, maxout, relu, sigmoid, slope, softmax, tanh
from jaxnn.types import InputError

CLOSED_FORMS = {
    "threshold": lambda z: np.where(z >= 0, 1.0, 0.0),
    "bipolar_threshold": lambda z: np.where(z >= 0, 1.0, -1.0),
    "linear": lambda z: z,
    "ramp": lambda z: np.where(z < 0, 0.0, np.where(z > 1, 1.0, z)),
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "scaled_tanh": lambda z: 1.7159 * np.tanh(z / 1.5),
    "gaussian": lambda z: np.exp(-z * z),
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
}
DERIVATIVES = {
    "threshold": np.zeros_like,
    "bipolar_threshold": np.zeros_like,
    "linear": np.ones_like,
    "ramp": lambda z: ((z > 0) & (z < 1)).astype(float),
    "sigmoid": lambda z: special.expit(z) * special.expit(-z),
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "scaled_tanh": lambda z: 1.7159 / 1.5 / np.cosh(z / 1.5) ** 2,
    "gaussian": lambda z: -2 * z * np.exp(-z * z),
    "relu": lambda z: (z > 0).astype(float),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, 0.01),
    "elu": lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
}
GRADIENTS_AT_THE_KINK = {"threshold": 0.0, "bipolar_threshold": 0.0, "ramp": 0.5, "relu": 0.0, "leaky_relu": 1.0, "elu": 1.0}

few = settings(max_examples=25, deadline=None, database=None)
moderate = st.floats(-15, 15, width=32)


def vectors(elements):
    return hnp.arrays(np.float32, 5, elements=elements)


def off_the_kinks():
    z = np.linspace(-4.05, 4.05, 82)
    return z[np.abs(z) > 1e-3]


def test_every_activation_has_a_closed_form_here():
    assert set(CLOSED_FORMS) == set(DERIVATIVES) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_the_closed_form(name):
    z = np.append(np.linspace(-4, 4, 81), [-50.0, 50.0])
    np.testing.assert_allclose(by_name(name)(jnp.asarray(z, jnp.float32)), CLOSED_FORMS[name](z), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_the_closed_form_and_the_finite_difference(name):
    z, h = off_the_kinks(), 1e-6
    gradient = jax.vmap(jax.grad(by_name(name)))(jnp.asarray(z, jnp.float32))
    difference = (CLOSED_FORMS[name](z + h) - CLOSED_FORMS[name](z - h)) / (2 * h)
    np.testing.assert_allclose(gradient, DERIVATIVES[name](z), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(gradient, difference, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_finite_at_kinks_and_far_out(name):
    gradient = jax.grad(by_name(name))
    assert all(np.isfinite(gradient(z)) for z in (0.0, 1.0, -1e4, 1e4, -1e30, 1e30))
    if name in GRADIENTS_AT_THE_KINK:
        assert gradient(0.0) == GRADIENTS_AT_THE_KINK[name]


def test_slope_is_the_closed_form_for_a_whole_layer_also_while_traced():
    """A learner asks for it inside the function that is vmapped over learning rates."""
    z = off_the_kinks()[:80].reshape(10, 8)
    slopes = jax.jit(lambda z: {name: slope(f)(z) for name, f in ACTIVATIONS.items()})(jnp.asarray(z, jnp.float32))
    for name, closed in DERIVATIVES.items():
        np.testing.assert_allclose(slopes[name], closed(z), rtol=1e-5, atol=2e-6)
    kinks = {name: float(slope(by_name(name))(jnp.zeros(1))[0]) for name in GRADIENTS_AT_THE_KINK}
    assert kinks == GRADIENTS_AT_THE_KINK


@pytest.mark.parametrize("f", [softmax, maxout, jnp.cumsum, jnp.sort])
def test_what_mixes_units_has_no_slope(f):
    with pytest.raises(InputError, match=f"{f.__name__} mixes units"):
        slope(f)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_and_shape_are_kept(name, dtype):
    z = jax.ShapeDtypeStruct((2, 3), dtype)
    output = jax.eval_shape(by_name(name), z)
    assert (output.shape, output.dtype) == (z.shape, z.dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_jit_and_vmap_agree_with_the_plain_call(name):
    f, z = by_name(name), jnp.linspace(-3, 3, 12).reshape(3, 4)
    np.testing.assert_allclose(jax.jit(f)(z), f(z), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jax.vmap(f)(z), f(z), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_nan_stays_a_nan(name):
    assert np.isnan(by_name(name)(jnp.array(jnp.nan)))


def test_by_name_names_the_nearest():
    with pytest.raises(InputError, match="unknown activation 'sigmod'; did you mean 'sigmoid'"):
        by_name("sigmod")


def test_row_1_mcculloch_pitts_neuron_fires_at_its_threshold():
    inputs = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    weights, theta = jnp.array([1, 1]), 2
    np.testing.assert_array_equal(activations.threshold(inputs @ weights - theta), [0, 0, 0, 1])


def test_row_2_sgn_of_0_is_1():
    z = jnp.array([-2, 0, 3])
    np.testing.assert_array_equal(activations.bipolar_threshold(z), [-1, 1, 1])
    assert jnp.sign(0.0) == 0


def test_row_3_the_five_functions():
    z = jnp.array([0.0, 1.0])
    values = {name: np.asarray(by_name(name)(z)) for name in ("threshold", "bipolar_threshold", "sigmoid", "tanh", "gaussian")}
    np.testing.assert_allclose(values["threshold"], [1, 1])
    np.testing.assert_allclose(values["bipolar_threshold"], [1, 1])
    np.testing.assert_allclose(values["sigmoid"], [0.5, 0.7310586], rtol=1e-6)
    np.testing.assert_allclose(values["tanh"], [0, 0.7615942], rtol=1e-6)
    np.testing.assert_allclose(values["gaussian"], [1, 0.3678794], rtol=1e-6)


def test_row_4_ramp_is_linear_between_0_and_1():
    np.testing.assert_array_equal(activations.ramp(jnp.array([-3.0, 0.0, 0.25, 1.0, 3.0])), [0, 0, 0.25, 1, 1])


@few
@given(vectors(moderate))
def test_row_5_slope_of_sigmoid_is_at_most_a_quarter(z):
    slope = jax.vmap(jax.grad(sigmoid))(jnp.asarray(z))
    assert (slope >= 0).all()
    assert (slope <= 0.25).all()


def test_row_5_slope_of_sigmoid_peaks_at_0():
    z = jnp.linspace(-5, 5, 101)
    slope = jax.vmap(jax.grad(sigmoid))(z)
    assert jax.grad(sigmoid)(0.0) == 0.25
    assert z[jnp.argmax(slope)] == pytest.approx(0, abs=1e-6)


@few
@given(vectors(moderate))
def test_row_6_tanh_is_a_stretched_sigmoid(z):
    np.testing.assert_allclose(tanh(jnp.asarray(z)), 2 / (1 + np.exp(-2 * z.astype(float))) - 1, atol=2e-7)


def test_row_7_slope_of_relu_at_0_is_0():
    assert relu(0.0) == 0
    assert jax.grad(relu)(0.0) == 0


def test_row_8_leaky_relu_is_0_at_0():
    np.testing.assert_allclose(activations.leaky_relu(jnp.array([-2.0, 0.0, 2.0])), [-0.02, 0, 2], rtol=1e-6)
    assert activations.leaky_relu(jnp.array(-1.0), negative_slope=0.2) == pytest.approx(-0.2)


def test_row_9_elu_levels_off_at_minus_alpha():
    np.testing.assert_allclose(activations.elu(jnp.array([-40.0, 0.0, 2.0]), alpha=1.5), [-1.5, 0, 2])


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_row_10_maxout_is_the_largest_affine_piece(pieces):
    rng = np.random.default_rng(0)
    x, weights, biases = rng.normal(size=(5, 4)), rng.normal(size=(4, 3, pieces)), rng.normal(size=(3, pieces))
    by_piece = [x @ weights[:, :, i] + biases[:, i] for i in range(pieces)]
    dense = x @ weights.reshape(4, 3 * pieces) + biases.reshape(1, 3 * pieces)
    np.testing.assert_allclose(maxout(jnp.asarray(dense, jnp.float32), pieces), np.max(by_piece, axis=0), rtol=1e-5, atol=1e-6)


def test_row_10_maxout_sends_the_gradient_to_the_larger_piece():
    np.testing.assert_array_equal(jax.grad(lambda z: maxout(z).sum())(jnp.array([1.0, 2.0, 4.0, 3.0])), [0, 1, 1, 0])


@pytest.mark.parametrize("pieces", [2, 0, -1])
def test_row_10_maxout_refuses_an_axis_that_does_not_divide(pieces):
    with pytest.raises(InputError, match="does not split into groups"):
        maxout(jnp.zeros((2, 5)), pieces)


@few
@given(vectors(st.floats(-30, 30, width=32)), st.floats(-50, 50, width=32))
def test_row_11_softmax_is_a_distribution_that_a_shift_does_not_change(z, shift):
    probabilities = softmax(jnp.asarray(z))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(softmax(jnp.asarray(z + np.float32(shift))), probabilities, rtol=1e-4, atol=1e-6)


def test_erratum_22_each_entry_of_softmax_has_its_own_exponent():
    z = np.array([0.1, 0.7, -0.4])
    np.testing.assert_allclose(softmax(jnp.asarray(z, jnp.float32)), np.exp(z) / np.exp(z).sum(), rtol=1e-6)


def test_row_12_softmax_of_1_to_9():
    exact = [0.000212, 0.000576, 0.001567, 0.004260, 0.011579, 0.031475, 0.085559, 0.232573, 0.632199]
    slide = [0.0, 0.001, 0.002, 0.004, 0.012, 0.031, 0.086, 0.233, 0.632]
    probabilities = softmax(jnp.arange(1.0, 10.0))
    np.testing.assert_allclose(probabilities, exact, atol=5e-7)
    np.testing.assert_allclose(np.round(probabilities, 3), slide, atol=1e-6)


def test_row_13_logit_of_0_9():
    assert logit(jnp.array(0.9)) == pytest.approx(2.1972245773, rel=1e-6)
    assert logit(jnp.array(0.9)) == pytest.approx(np.log(9), rel=1e-6)


@few
@given(vectors(st.floats(-5, 5, width=32)))
def test_row_13_logit_is_the_inverse_of_sigmoid(z):
    np.testing.assert_allclose(logit(sigmoid(jnp.asarray(z))), z, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(logit(sigmoid(jnp.asarray(z))), special.logit(special.expit(z.astype(float))), rtol=1e-4, atol=2e-5)


def test_row_13_derivative_of_logit():
    x = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(jax.vmap(jax.grad(logit))(jnp.asarray(x, jnp.float32)), 1 / (x * (1 - x)), rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 10, 1000])
def test_row_21_softmax_of_logits_in_the_hundreds_and_more(scale):
    rng = np.random.default_rng(0)
    w1, w2, x = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), np.array([22.0, 35.0, 86.0])
    logits = (scale * (w2 @ (w1 @ x))).astype(np.float32)
    probabilities = softmax(jnp.asarray(logits))
    np.testing.assert_allclose(probabilities, special.softmax(logits.astype(float)), atol=1e-6)
    assert np.isfinite(jax.jacobian(softmax)(jnp.asarray(logits))).all()


def test_row_21_the_formula_as_written_overflows():
    logits = np.array([500, 400], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan((np.exp(logits) / np.exp(logits).sum())[0])
    np.testing.assert_array_equal(softmax(jnp.asarray(logits)), [1, 0])


def test_erratum_21_relu_neither_bounds_a_gradient_nor_keeps_it():
    def chain(x, weight, depth=20):
        for _ in range(depth):
            x = relu(weight * x)
        return x

    slope = jax.grad(chain)
    assert slope(1.0, 2.0) == 2.0**20
    assert slope(1.0, 0.5) == 2.0**-20
    assert slope(-1.0, 2.0) == 0


def chain_cost(biases, weights, x, target):
    """Half the squared error of four sigmoid neurons in a row, S3:421."""
    for bias, weight in zip(biases, weights, strict=True):
        x = sigmoid(weight * x + bias)
    return 0.5 * (x - target) ** 2


def bias_gradients_by_hand(biases, weights, x, target):
    """∂C/∂b_n = σ'(z_n) Π_{m>n} w_m σ'(z_m) · (y_4 - t), S3:428, in float64."""
    slopes = []
    for bias, weight in zip(biases, weights, strict=True):
        x = special.expit(weight * x + bias)
        slopes.append(x * (1 - x))
    return np.array([(x - target) * slopes[n] * np.prod([weights[m] * slopes[m] for m in range(n + 1, 4)]) for n in range(4)])


def random_chain(seed, largest_weight):
    rng = np.random.default_rng(seed)
    return rng.normal(size=4), rng.uniform(-largest_weight, largest_weight, size=4), 0.3, 1.5


@pytest.mark.parametrize("seed", range(3))
def test_row_70_gradients_of_the_four_neuron_chain(seed):
    chain = random_chain(seed, largest_weight=3)
    gradients = jax.grad(chain_cost)(jnp.asarray(chain[0], jnp.float32), jnp.asarray(chain[1], jnp.float32), *chain[2:])
    np.testing.assert_allclose(gradients, bias_gradients_by_hand(*chain), rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_row_71_erratum_20_two_layers_cost_a_factor_of_16_in_absolute_value(seed):
    biases, weights, x, target = random_chain(seed, largest_weight=1)
    gradients = jax.grad(chain_cost)(jnp.asarray(biases, jnp.float32), jnp.asarray(weights, jnp.float32), x, target)
    assert abs(gradients[0]) < abs(gradients[2]) / 16  # erratum E20: the slide leaves out the bars


@pytest.mark.parametrize(("weight", "factor"), [(3.0, 0.75), (4.0, 1.0), (5.0, 1.25)])
def test_row_72_a_sigmoid_chain_explodes_only_for_weights_above_4(weight, factor):
    biases = jnp.full(4, -weight / 2)  # holds every z at 0, where the slope is 1/4
    gradients = jax.grad(chain_cost)(biases, jnp.full(4, weight), 0.5, 1.0)
    np.testing.assert_allclose(gradients[:-1] / gradients[1:], factor, rtol=1e-6)
