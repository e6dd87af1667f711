"""jaxnn.losses against NumPy and SciPy in float64, and the lecture's rows 32-36."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from jaxnn.activations import sigmoid, softmax
from jaxnn.losses import (
    absolute_error,
    accuracy,
    cross_entropy,
    discriminative_distance,
    distance_of_label,
    half_squared_error,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_cross_entropy,
    smoothed_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    top_accuracy,
)
from jaxnn.types import InputError

CLOSED_FORMS = {
    half_squared_error: lambda y, t: ((y - t) ** 2).sum(-1) / 2,
    mean_squared_error: lambda y, t: ((y - t) ** 2).mean(-1),
    absolute_error: lambda y, t: np.abs(y - t).sum(-1),
    mean_absolute_error: lambda y, t: np.abs(y - t).mean(-1),
    cross_entropy: lambda y, t: -special.xlogy(t, y).sum(-1),
    softmax_cross_entropy: lambda y, t: -(t * special.log_softmax(y, axis=-1)).sum(-1),
    sigmoid_cross_entropy: lambda y, t: -(t * special.log_expit(y) + (1 - t) * special.log_expit(-y)).sum(-1),
}
each_loss = pytest.mark.parametrize("loss", CLOSED_FORMS, ids=lambda loss: loss.__name__)
few = settings(max_examples=25, deadline=None, database=None)


def example(shape=(3, 4), seed=0):
    """Outputs in (0, 1) and targets that sum to 1, in float64: valid input of every loss."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.95, size=shape), special.softmax(rng.normal(size=shape), axis=-1)


def as_float32(*arrays):
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


@each_loss
def test_values_are_the_closed_form(loss):
    outputs, targets = example()
    np.testing.assert_allclose(loss(*as_float32(outputs, targets)), CLOSED_FORMS[loss](outputs, targets), rtol=1e-5)


@each_loss
def test_gradients_are_the_finite_difference(loss):
    (outputs, targets), h = example(shape=(4,)), 1e-6
    steps = h * np.eye(4)
    difference = (CLOSED_FORMS[loss](outputs + steps, targets) - CLOSED_FORMS[loss](outputs - steps, targets)) / (2 * h)
    np.testing.assert_allclose(jax.grad(loss)(*as_float32(outputs, targets)), difference, rtol=1e-4, atol=1e-6)


@each_loss
def test_jit_and_vmap_agree_with_broadcasting(loss):
    outputs, targets = as_float32(*example(shape=(2, 3, 4)))
    expected = loss(outputs, targets)
    assert expected.shape == (2, 3)
    np.testing.assert_allclose(jax.jit(loss)(outputs, targets), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.vmap(loss))(outputs, targets), expected, rtol=1e-6)


@each_loss
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtype_is_kept(loss, dtype):
    outputs, one_hot = jax.ShapeDtypeStruct((3, 4), dtype), jax.ShapeDtypeStruct((3, 4), jnp.int32)
    assert jax.eval_shape(loss, outputs, outputs).dtype == dtype
    assert jax.eval_shape(loss, outputs, one_hot).dtype == dtype


def test_row_32_the_three_losses_of_the_slide():
    outputs, targets = jnp.array([0.7, 0.2, 0.1]), jnp.array([1.0, 0.0, 0.0])
    assert absolute_error(outputs, targets) == pytest.approx(0.6, rel=1e-6)
    assert mean_squared_error(outputs, targets) == pytest.approx(0.14 / 3, rel=1e-6)
    assert cross_entropy(outputs, targets) == pytest.approx(-np.log(0.7), rel=1e-6)


def test_row_33_erratum_16_half_the_sum_over_the_index_k():
    assert half_squared_error(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 0.0, 1.0])) == 4.5


def test_row_34_erratum_10_erratum_46_the_mean_squared_error_is_no_standard_deviation():
    data = jnp.array([72.0, 94, 79, 83, 65, 81, 73, 67, 85, 82])
    around_the_mean = mean_squared_error(jnp.full(10, data.mean()), data)
    assert data.mean() == pytest.approx(78.1, rel=1e-6)
    assert around_the_mean == pytest.approx(70.69, rel=1e-5)  # under the slide's 标准差 stands this variance
    assert around_the_mean**0.5 == pytest.approx(8.4077345, rel=1e-5)
    assert around_the_mean * 10 / 9 == pytest.approx(78.5444, rel=1e-5)
    assert mean_squared_error(jnp.full(10, 80.0), data) == pytest.approx(70.69 + 1.9**2, rel=1e-5)


def test_row_35_cross_entropy_of_the_9_vector():
    targets, outputs = jnp.eye(9)[0], jnp.array([0.9, 0.05, 0.05, 0, 0, 0, 0, 0, 0])
    assert cross_entropy(outputs, targets) == pytest.approx(0.1053605157, rel=1e-6)
    assert cross_entropy(outputs, targets) / np.log(2) == pytest.approx(0.1520, abs=5e-5)
    np.testing.assert_allclose(jax.grad(cross_entropy)(outputs, targets), [-1 / 0.9, *[0] * 8], rtol=1e-6)


def test_row_35_the_formula_as_written_is_nan():
    targets, outputs = np.eye(9)[0], np.array([0.9, 0.05, 0.05, 0, 0, 0, 0, 0, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isnan(-(targets * np.log(outputs)).sum())


def test_erratum_11_the_tenth_class_changes_nothing():
    nine, ten = jnp.array([0.9, 0.05, 0.05, 0, 0, 0, 0, 0, 0]), jnp.array([0.9, 0.05, 0.05, 0, 0, 0, 0, 0, 0, 0])
    assert cross_entropy(ten, jnp.eye(10)[0]) == pytest.approx(float(cross_entropy(nine, jnp.eye(9)[0])), rel=1e-7)


def test_row_36_cross_entropy_of_two_samples():
    losses = cross_entropy(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([[1, 0], [0, 1]]))
    np.testing.assert_allclose(losses, [0.1053605, 0.2231436], atol=1e-7)
    assert losses.sum() == pytest.approx(0.3285041, abs=1e-6)
    assert losses.mean() == pytest.approx(0.1642520, abs=1e-6)


def test_cross_entropy_differentiates_by_the_targets_too():
    outputs, targets = jnp.array([0.5, 0.25, 0.25, 0.0]), jnp.array([0.5, 0.5, 0.0, 0.0])
    gradient = jax.grad(cross_entropy, argnums=1)(outputs, targets)
    np.testing.assert_allclose(gradient[:3], -np.log([0.5, 0.25, 0.25]), rtol=1e-6)
    assert np.isfinite(gradient[3])


def test_cross_entropy_of_an_impossible_target_is_infinite_and_a_nan_stays():
    assert cross_entropy(jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])) == np.inf
    assert np.isnan(cross_entropy(jnp.array([0.5, jnp.nan]), jnp.array([1.0, 0.0])))


def test_erratum_6_the_output_error_is_y_minus_t_for_the_three_matched_pairs_alone():
    a, t = jnp.array([0.3, -1.2, 0.8]), jnp.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(jax.grad(half_squared_error)(a, t), a - t, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(sigmoid_cross_entropy)(a, t), sigmoid(a) - t, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(softmax_cross_entropy)(a, t), softmax(a) - t, rtol=1e-6)
    unmatched = jax.grad(lambda a: half_squared_error(sigmoid(a), t))(a)
    np.testing.assert_allclose(unmatched, (sigmoid(a) - t) * sigmoid(a) * sigmoid(-a), rtol=1e-6)
    assert not np.allclose(unmatched, sigmoid(a) - t, rtol=0.1)


def test_the_cross_entropies_of_one_distribution_agree():
    logits, labels = jax.random.normal(jax.random.key(0), (6, 5)), jnp.array([0, 1, 2, 3, 4, 0])
    targets = jax.nn.one_hot(labels, 5)
    expected = cross_entropy(softmax(logits), targets)
    np.testing.assert_allclose(softmax_cross_entropy(logits, targets), expected, rtol=1e-5)
    np.testing.assert_allclose(softmax_cross_entropy_with_integer_labels(logits, labels), expected, rtol=1e-5)


def test_two_classes_by_sigmoid_or_by_softmax():
    z = jnp.linspace(-4, 4, 9)
    by_softmax = softmax_cross_entropy_with_integer_labels(jnp.stack([jnp.zeros(9), z], axis=-1), jnp.ones(9, jnp.int32))
    np.testing.assert_allclose(sigmoid_cross_entropy(z[:, None], jnp.ones((9, 1))), by_softmax, rtol=1e-5)


@few
@given(hnp.arrays(np.float32, (2, 5), elements=st.floats(-5000, 5000, width=32)), hnp.arrays(np.int32, 2, elements=st.integers(0, 4)))
def test_row_21_logits_in_the_thousands_overflow_nothing(logits, labels):
    targets, z = jax.nn.one_hot(labels, 5), jnp.asarray(logits)
    exact = special.logsumexp(logits.astype(float), axis=-1) - np.take_along_axis(logits.astype(float), labels[:, None], -1)[:, 0]
    np.testing.assert_allclose(softmax_cross_entropy(z, targets), exact, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(softmax_cross_entropy_with_integer_labels(z, jnp.asarray(labels)), exact, rtol=1e-6, atol=1e-6)
    bernoulli = CLOSED_FORMS[sigmoid_cross_entropy](logits.astype(float), np.asarray(targets))
    np.testing.assert_allclose(sigmoid_cross_entropy(z, targets), bernoulli, rtol=1e-6, atol=1e-6)
    for loss in (softmax_cross_entropy, sigmoid_cross_entropy):
        assert np.isfinite(jax.grad(lambda z, loss=loss: loss(z, targets).sum())(z)).all()


DISTANCES = np.array([[3.0, 84.0, 70.5, 120.0], [60.0, 4.5, 9.0, 300.0], [0.0, 2.0, 1.0, 0.5]])
"""Far from the codes, near to one, and on one of them: (B, K)."""


def test_row_99_the_distance_of_the_right_class_alone():
    labels = np.array([1, 2, 0])
    np.testing.assert_allclose(distance_of_label(*as_float32(DISTANCES), jnp.asarray(labels)), [84, 9, 0])
    slope = jax.grad(lambda y: distance_of_label(y, jnp.asarray(labels)).sum())(*as_float32(DISTANCES))
    np.testing.assert_array_equal(slope, np.eye(4)[labels])


@pytest.mark.parametrize("j", [0.1, 5.0, 10.0, 500.0])
def test_row_99_the_discriminative_distance_and_its_gradient_by_hand(j):
    """y_t + log(e^-j + Σ e^-y_i), and 1 at the label less e^-y_k over that sum."""
    labels = np.array([1, 2, 0])
    total = np.exp(-j) + np.exp(-DISTANCES).sum(-1)
    value = discriminative_distance(*as_float32(DISTANCES), jnp.asarray(labels), j)
    np.testing.assert_allclose(value, DISTANCES[range(3), labels] + np.log(total), rtol=1e-5)
    slope = jax.grad(lambda y: discriminative_distance(y, jnp.asarray(labels), j).sum())(*as_float32(DISTANCES))
    np.testing.assert_allclose(slope, np.eye(4)[labels] - np.exp(-DISTANCES) / total[:, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(lambda y, t: discriminative_distance(y, t, j))(*as_float32(DISTANCES), jnp.asarray(labels)), value, rtol=1e-6
    )


def test_row_99_a_wrong_class_beyond_j_is_left_alone_and_one_nearer_is_pushed_away():
    slope = jax.grad(lambda y, j: discriminative_distance(y, jnp.array(0), j))
    distances = jnp.array([20.0, 15.0, 60.0])
    assert slope(distances, 5.0)[1] > -1e-4
    assert slope(distances, 30.0)[1] < -0.9
    np.testing.assert_allclose(
        slope(distances, 1e9), jax.grad(softmax_cross_entropy_with_integer_labels)(-distances, jnp.array(0)) * -1, rtol=1e-5
    )


def test_distances_in_the_thousands_overflow_nothing_and_an_unknown_label_is_nan():
    far = jnp.array([[4000.0, 5000.0]] * 4)
    for loss, expected in ((distance_of_label, [4000, 5000]), (discriminative_distance, [3990, 4990])):
        value, slope = jax.vmap(jax.value_and_grad(loss))(far, jnp.array([0, 1, 2, -1]))
        np.testing.assert_allclose(value, [*expected, np.nan, np.nan])
        assert np.isfinite(slope[:2]).all()
        assert np.isnan(slope[2:]).any(-1).all()
        assert jax.eval_shape(loss, jax.ShapeDtypeStruct((3, 4), jnp.bfloat16), jax.ShapeDtypeStruct((3,), jnp.uint8)).dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.uint32])
def test_labels_of_any_integer_dtype(dtype):
    logits = jnp.arange(12.0).reshape(3, 4) ** 0.5
    labels = jnp.array([0, 3, 1], dtype)
    expected = -special.log_softmax(np.asarray(logits, float), axis=-1)[np.arange(3), [0, 3, 1]]
    np.testing.assert_allclose(softmax_cross_entropy_with_integer_labels(logits, labels), expected, rtol=1e-5)


def test_a_byte_label_among_more_than_256_classes():
    assert softmax_cross_entropy_with_integer_labels(jnp.zeros(300), jnp.array(255, jnp.uint8)) == pytest.approx(np.log(300), rel=1e-6)


@pytest.mark.parametrize("label", [-1, 4, 100])
def test_a_label_out_of_range_is_nan_in_value_and_gradient(label):
    loss, gradient = jax.value_and_grad(softmax_cross_entropy_with_integer_labels)(jnp.zeros(4), jnp.array(label))
    assert np.isnan(loss)
    assert np.isnan(gradient).any()
    batch = softmax_cross_entropy_with_integer_labels(jnp.zeros((2, 4)), jnp.array([1, label]))
    np.testing.assert_array_equal(np.isnan(batch), [False, True])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_integer_labels_keep_the_dtype_of_the_logits(dtype):
    logits, labels = jnp.ones((2, 3), dtype), jnp.array([0, 2])
    assert softmax_cross_entropy_with_integer_labels(logits, labels).dtype == dtype
    np.testing.assert_allclose(jax.vmap(softmax_cross_entropy_with_integer_labels)(logits, labels).astype(float), np.log(3), rtol=1e-2)


def test_accuracy_is_1_where_the_largest_output_is_the_label():
    outputs = jnp.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [0.0, 1.0]], jnp.bfloat16)
    hits = accuracy(outputs, jnp.array([1, 1, 0, 7], jnp.uint8))
    np.testing.assert_array_equal(hits, [1, 0, 1, 0])
    assert hits.dtype == jnp.float32
    np.testing.assert_array_equal(jax.jit(jax.vmap(accuracy))(outputs, jnp.array([1, 1, 0, 7])), hits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_labels_are_targets_between_the_label_and_all_classes(smoothing):
    logits, labels = np.random.default_rng(0).normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])
    targets = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    expected = -(targets * special.log_softmax(logits, axis=-1)).sum(-1)
    given = jnp.asarray(logits, jnp.float32)
    np.testing.assert_allclose(smoothed_cross_entropy(given, jnp.asarray(labels), smoothing), expected, rtol=1e-5)
    slope = jax.grad(lambda z: smoothed_cross_entropy(z, jnp.asarray(labels), smoothing).sum())(given)
    np.testing.assert_allclose(slope, special.softmax(logits, axis=-1) - targets, atol=1e-6)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_smoothed_label_outside_the_classes_is_nan(label):
    assert np.isnan(smoothed_cross_entropy(jnp.zeros(4), jnp.array(label)))


def test_row_107_the_top_five_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    outputs, labels = rng.normal(size=(50, 7)).astype(np.float32), rng.integers(0, 7, 50)
    for k in (1, 2, 5):
        ours = np.asarray(top_accuracy(jnp.asarray(outputs), jnp.asarray(labels), k))
        assert ours.mean() == pytest.approx(metrics.top_k_accuracy_score(labels, outputs, k=k, labels=range(7)))
    outputs, labels = jnp.asarray(outputs), jnp.asarray(labels)
    np.testing.assert_array_equal(top_accuracy(outputs, labels, 1), accuracy(outputs, labels))


def test_the_top_five_where_outputs_are_equal_or_no_numbers():
    """By hand: of three equal the first two are the best two; a NaN is never among them, nor a label that there is none of."""
    equal, label = jnp.ones((3, 3)), jnp.arange(3)
    assert top_accuracy(equal, label, 2).tolist() == [1.0, 1.0, 0.0]
    assert top_accuracy(jnp.array([[np.nan, 2.0, 1.0]] * 3), label, 2).tolist() == [0.0, 1.0, 0.0]
    assert top_accuracy(equal[:2], jnp.array([-1, 3]), 3).tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        top_accuracy(equal, label, 0)
