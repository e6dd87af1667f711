"""Rows 14 and 15: the rule against NumPy and scikit-learn, the convergence theorem, and the pocket."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.learners import perceptron_rule, pocket_rule
from jaxnn.models.neuron import Neurons
from jaxnn.models.perceptron import mistake_bound, products
from jaxnn.types import InputError

XOR = {"x": jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), "label": jnp.array([0, 1, 1, 0])}


def key():
    return jax.random.key(0)


def x_and_label(batch):
    return batch["x"], batch["label"]


RULE = perceptron_rule(preprocess=x_and_label)
POCKET = pocket_rule(preprocess=x_and_label)


def by_hand(x, targets, orders, learning_rate=1.0):
    """Example by example in float64, (1, x) with -θ as the first weight: weights, mistakes, and the fewest errors of any weights."""
    x = np.c_[np.ones(len(x)), x]
    w, mistakes = np.zeros((x.shape[1], targets.shape[1])), np.zeros(targets.shape[1], int)
    trail = [((x @ w >= 0) != targets).sum(0)]
    for i in np.ravel(orders):
        y = (x[i] @ w >= 0).astype(float)
        w = w + learning_rate * np.outer(x[i], targets[i] - y)
        mistakes += targets[i] != y
        trail.append(((x @ w >= 0) != targets).sum(0))
    return w, mistakes, np.min(trail, axis=0)


def blobs(seed, count, classes, spread):
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, count)
    angles = 2 * np.pi * label / classes
    x = np.c_[np.cos(angles), np.sin(angles)] + spread * generator.normal(size=(count, 2))
    return {"x": jnp.array(x, jnp.float32), "label": jnp.array(label)}


def trained(learner, data, passes):
    state = learner.init(key(), data)
    step, history = jax.jit(learner.step), []
    for number in range(passes):
        state, metrics = step(jax.random.key(number), state, data)
        history.append(metrics)
    return state, history


@pytest.mark.parametrize("outputs", [1, 3])
def test_row_14_the_rule_is_numpys(outputs):
    data = blobs(1, 30, max(outputs, 2), 0.8)
    x, targets = np.asarray(data["x"], float), np.asarray(data["label"])[:, None] if outputs == 1 else np.eye(3)[np.asarray(data["label"])]
    drawn = [jax.random.randint(jax.random.key(number), (30,), 0, 30) for number in range(3)]
    for make, orders in ((perceptron_rule, [range(30)] * 3), (pocket_rule, drawn)):
        state, history = trained(make(outputs, 0.5, preprocess=x_and_label), data, 3)
        weights, mistakes, fewest = by_hand(x, targets, orders, 0.5)
        np.testing.assert_allclose(state.perceptron.weights, weights[1:], atol=1e-5)
        np.testing.assert_allclose(state.perceptron.thresholds, -weights[0], atol=1e-5)
        np.testing.assert_array_equal(state.mistakes, mistakes)
        assert history[-1]["mistakes"] == mistakes.sum()
    np.testing.assert_array_equal(state.best_errors, fewest)
    wrong = (x @ np.asarray(state.best.weights, float) - np.asarray(state.best.thresholds)[None] >= 0) != targets
    np.testing.assert_array_equal(wrong.sum(0), fewest)


def test_row_14_the_rule_is_scikit_learns():
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = blobs(2, 40, 2, 0.9)
    order = np.argsort(np.asarray(data["label"]), kind="stable")  # at zero, the first of class 0 is a mistake for both
    data = jax.tree.map(lambda values: values[order], data)
    peer = linear_model.Perceptron(eta0=1.0, shuffle=False, max_iter=4, tol=None).fit(np.asarray(data["x"]), np.asarray(data["label"]))
    state, _ = trained(RULE, data, 4)
    np.testing.assert_allclose(state.perceptron.weights[:, 0], peer.coef_[0], atol=1e-5)
    np.testing.assert_allclose(state.perceptron.thresholds, -peer.intercept_, atol=1e-5)


def test_the_metrics_of_a_step_are_those_of_each_example_before_it_is_learnt():
    """By hand from zero on two examples: (1) fires and should not, a = 0; then a = -1 - 2 = -3 and should fire."""
    data = {"x": jnp.array([[1.0], [2.0]]), "label": jnp.array([0, 1])}
    state, history = trained(RULE, data, 1)
    assert history[0] == {"loss": 1.5, "error": 1.0, "mistakes": 2}
    np.testing.assert_array_equal(state.perceptron.weights, [[1.0]])
    np.testing.assert_array_equal(state.perceptron.thresholds, [0.0])
    found = RULE.evaluate(key(), state, {"x": jnp.array([[-1.0], [5.0]]), "label": jnp.array([1, 1])})
    for name, values in {"loss": [1, 0], "error": [1, 0], "accuracy": [0, 1]}.items():
        np.testing.assert_array_equal(found[name], values)
    np.testing.assert_array_equal(RULE.predict(state, {"x": jnp.array([[-1.0], [5.0]])}), [0, 1])


@jax.jit
def rehearse(data):
    """1,000 passes, more than any of the mistakes bounds below: a pass without a mistake changes nothing."""
    state = RULE.init(key(), data)
    return jax.lax.while_loop(
        lambda carry: (carry[1] > 0) & (carry[2] < 1000),
        lambda carry: (lambda state, metrics: (state, metrics["error"], carry[2] + 1))(*RULE.step(key(), carry[0], data)),
        (state, jnp.array(1.0), 0),
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    angles=st.tuples(st.floats(0, np.pi), st.floats(0, 2 * np.pi)),
    offset=st.floats(-0.5, 0.5),
    margin=st.floats(0.15, 1.0),
)
def test_row_14_novikoff_mistakes_stay_within_the_bound_wherever_there_is_a_margin(seed, angles, offset, margin):
    """Points of [-1, 1]³ pushed away from a plane by the margin: a pass without mistakes comes, after (R/γ)² mistakes at most."""
    polar, azimuth = angles
    normal = np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    x = np.random.default_rng(seed).uniform(-1, 1, (12, 3))
    sign = np.where(x @ normal - offset >= 0, 1, -1)
    x = x + margin * sign[:, None] * normal
    data = {"x": jnp.array(x, jnp.float32), "label": jnp.array((sign + 1) // 2)}
    state, error, _ = rehearse(data)
    augmented = np.c_[np.ones(12), x] * sign[:, None]
    separating = np.r_[-offset, normal] / np.hypot(1, offset)
    bound = (np.linalg.norm(augmented, axis=1).max() / (augmented @ separating).min()) ** 2
    assert error == 0
    assert state.mistakes[0] <= bound
    ours = mistake_bound(Neurons(jnp.array(normal[:, None], jnp.float32), jnp.array([offset], jnp.float32)), *data.values())
    np.testing.assert_allclose(ours, bound, rtol=1e-4)


def test_row_15_on_xor_the_rule_cycles():
    """By hand: from the second pass on each pass ends where it began, at w = (-1, 0), θ = 0, so it will for ever."""
    for passes in (2, 3, 12):
        state, history = trained(RULE, XOR, passes)
        assert all(metrics["error"] > 0 for metrics in history)
        np.testing.assert_array_equal(state.perceptron.weights, [[-1], [0]])
        np.testing.assert_array_equal(state.perceptron.thresholds, [0])


def test_row_15_on_xor_the_pocket_keeps_the_three_of_four_that_a_line_can_do():
    pocket, history = trained(POCKET, XOR, 40)
    np.testing.assert_array_equal(pocket.best_errors, [1])
    assert history[-1]["pocket_errors"] == 1
    assert POCKET.evaluate(key(), pocket, XOR)["error"].sum() == 1


def test_erratum_13_with_products_of_two_inputs_the_rule_learns_xor():
    data = {"x": products(XOR["x"], 2), "label": XOR["label"]}
    assert rehearse(data)[1] == 0


def test_the_pocket_is_held_to_the_batch_at_hand():
    """What was perfect on one batch is counted anew on the next, and gives way there."""
    one, other = ({"x": jnp.array([[-1.0], [1.0]]), "label": jnp.array(label)} for label in ([0, 1], [1, 0]))
    state, _ = trained(POCKET, one, 3)
    assert state.best_errors.tolist() == [0]
    for number in range(3):
        state, _ = jax.jit(POCKET.step)(jax.random.key(number), state, other)
    np.testing.assert_array_equal(POCKET.predict(state, other), [1, 0])


def test_each_output_has_a_pocket_of_its_own():
    data = blobs(3, 40, 3, 0.7)
    state, _ = trained(pocket_rule(3, preprocess=x_and_label), data, 5)
    for output in range(3):
        alone = {"x": data["x"], "label": (data["label"] == output).astype(jnp.int32)}
        single, _ = trained(POCKET, alone, 5)
        np.testing.assert_allclose(state.best.weights[:, output], single.best.weights[:, 0], atol=1e-6)
        assert state.best_errors[output] == single.best_errors[0]


def test_a_label_outside_the_classes_makes_the_loss_nan_under_jit():
    _, history = trained(RULE, {"x": jnp.ones((2, 1)), "label": jnp.array([0, 7])}, 1)
    assert np.isnan(history[0]["loss"])


@pytest.mark.parametrize("make", [perceptron_rule, pocket_rule])
def test_a_perceptron_without_outputs_is_refused(make):
    with pytest.raises(InputError, match="at least one output, got 0"):
        make(0)
