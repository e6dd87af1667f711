import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses
from jaxnn.coding import binary, decode_one_of_c
from jaxnn.learners import backpropagation, one_vs_rest, perceptron_rule, supervised
from jaxnn.learners.backpropagation import SIGMOID_CROSS_ENTROPY
from jaxnn.models import MLP, functional
from jaxnn.train import Diverged, fit
from jaxnn.types import InputError, Learner, Trained


def points(batch):
    return batch["x"], binary(batch["label"])


@pytest.fixture
def corners():
    """Three groups of points, about three corners."""
    label = np.arange(30) % 3
    x = np.array([[2.0, 0.0], [-2.0, 1.0], [0.0, -3.0]])[label] + 0.3 * np.random.default_rng(0).normal(size=(30, 2))
    return {"x": jnp.asarray(x, jnp.float32), "label": jnp.asarray(label, jnp.int32)}


def jitted(learner):
    return Learner(*map(jax.jit, learner))


def net():
    return backpropagation((1,), 0.5, output=SIGMOID_CROSS_ENTROPY, preprocess=points)


def test_row_25_c_nets_are_c_nets_trained_one_by_one(corners):
    learner, one, keys = jitted(one_vs_rest(net(), 3)), jitted(net()), jax.random.split(jax.random.key(1), 3)
    state = learner.init(jax.random.key(1), corners)
    for _ in range(4):
        state, metrics = learner.step(jax.random.key(2), state, corners)
    together, losses_alone = learner.predict(state, corners), []
    for number in range(3):
        batch = {**corners, "label": jnp.where(corners["label"] == number, 1, 0)}
        alone = one.init(keys[number], batch)
        for _ in range(4):
            alone, its = one.step(jax.random.key(2), alone, batch)
        losses_alone.append(its["loss"])
        np.testing.assert_allclose(state.nets.layers[0].weights[number], alone.layers[0].weights, atol=1e-6)
        np.testing.assert_allclose(together[:, number], one.predict(alone, batch)[:, 0], atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses_alone), rtol=1e-5)


def test_row_25_the_largest_output_names_the_class(corners):
    learner = one_vs_rest(net(), 3)
    run = fit(learner, jax.random.key(0), corners, num_steps=100, label=None)
    outputs = Trained(learner, run.state).predict({"x": corners["x"]})
    np.testing.assert_array_equal(decode_one_of_c(outputs), corners["label"])


def test_any_binary_learner_will_do(corners):
    model = functional(MLP((1,)))
    learner = one_vs_rest(supervised(*model, losses.sigmoid_cross_entropy, optax.adam(0.3), preprocess=points), 3)
    run = fit(learner, jax.random.key(0), corners, num_steps=60, label=None)
    np.testing.assert_array_equal(decode_one_of_c(Trained(learner, run.state).predict(corners)), corners["label"])


def test_a_label_outside_the_classes_ends_the_run(corners):
    wrong = {**corners, "label": corners["label"].at[4].set(3)}
    learner = one_vs_rest(net(), 3)
    with pytest.raises(Diverged):
        fit(learner, jax.random.key(0), wrong, num_steps=2, label=None)
    learner = jitted(learner)
    state = learner.init(jax.random.key(0), wrong)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(learner.evaluate(jax.random.key(0), state, wrong)["loss"])), [4])


def test_it_refuses_less_than_two_classes():
    with pytest.raises(InputError, match="at least 2 classes, got 1"):
        one_vs_rest(net(), 1)


def test_it_predicts_where_its_binary_learner_does():
    assert one_vs_rest(net()._replace(predict=None), 3).predict is None


def test_a_binary_learner_that_predicts_classes_is_refused():
    learner = one_vs_rest(perceptron_rule(), 3)
    batch = {"image": jnp.ones((5, 2, 2, 1), jnp.uint8), "label": jnp.array([0, 1, 2, 0, 1])}
    state = learner.init(jax.random.key(0), batch)
    with pytest.raises(InputError, match=r"one output an example, \(B, 1\), got \(5,\)"):
        learner.predict(state, batch)
