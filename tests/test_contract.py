"""The contract, for every learner there is. A factory in `jaxnn.learners` that has no row here fails a test."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import initializers, learners, losses, measure, penalties
from jaxnn.activations import tanh
from jaxnn.learners import (
    backpropagation,
    batch_competitive,
    competitive,
    neocognitron_rule,
    one_vs_rest,
    perceptron_rule,
    pocket_rule,
    supervised,
)
from jaxnn.learners.backpropagation import SIGMOID_CROSS_ENTROPY, image_and_binary
from jaxnn.models import MLP, CifarResNet, functional
from jaxnn.models.classifier import classifier
from jaxnn.models.neocognitron import Stage
from jaxnn.models.rbf import functional_rbf
from jaxnn.models.som import hexagonal, rectangular
from jaxnn.record import load_run, save_run
from jaxnn.schedules import exponential
from jaxnn.types import Learner


def images_and_labels():
    image_key, label_key = jax.random.split(jax.random.key(100))
    image = jax.random.randint(image_key, (8, 4, 4, 1), 0, 256).astype(jnp.uint8)
    return {"image": image, "label": jax.random.randint(label_key, (8,), 0, 3)}


def supervised_mlp(**changes):
    settings = {"optimizer": optax.adam(0.03), "metrics": {"accuracy": losses.accuracy}, "measure": measure.layer_gradient_norms} | changes
    return supervised(*functional(MLP((8, 3))), losses.softmax_cross_entropy_with_integer_labels, **settings)


def online_map():
    return competitive(rectangular(4, 4), learning_rate=exponential(0.5, 0.002), radius=exponential(2.0, 0.01))


def batch_map():
    return batch_competitive(hexagonal(4, 4), radius=exponential(2.0, 0.05))


def tiny_neocognitron():
    first = Stage(planes=8, size=4, pooled=3, selectivity=4.0, area=3, pool=3, column=3)
    last = Stage(planes=16, size=1, pooled=1, selectivity=20.0, area=3, pool=1, stride=1, column=1)
    return neocognitron_rule((first, last), rates=(1.0, 16.0))


def binary_net():
    return backpropagation((4, 1), 1.0, activation=tanh, output=SIGMOID_CROSS_ENTROPY, preprocess=image_and_binary)


def supervised_rbf():
    return supervised(*functional_rbf(8, 3, width=1.0), losses.softmax_cross_entropy_with_integer_labels, optax.adam(0.1))


def supervised_batch_norm():
    net = CifarResNet(1, classes=3, maps=(4, 8))
    return supervised(*functional(net), losses.softmax_cross_entropy_with_integer_labels, optax.adam(0.03))


class Dropping(nn.Module):
    """The dense layers of the nets of 2012, few units each."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return classifier(x, 3, dropout=0.5, train=train, kernel_init=initializers.he_normal, units=(32, 32))


def supervised_dropout():
    return supervised(*functional(Dropping()), losses.softmax_cross_entropy_with_integer_labels, optax.adam(0.03))


LEARNERS = {
    "batch_competitive": (batch_map, images_and_labels),
    "competitive": (online_map, images_and_labels),
    "supervised": (supervised_mlp, images_and_labels),
    "supervised, RBF": (supervised_rbf, images_and_labels),
    "supervised, L-BFGS": (lambda: supervised_mlp(optimizer=optax.lbfgs()), images_and_labels),
    "supervised, BatchNorm": (supervised_batch_norm, images_and_labels),
    "supervised, dropout": (supervised_dropout, images_and_labels),
    "backpropagation": (lambda: backpropagation((8, 3), 1.0, activation=tanh), images_and_labels),
    "one_vs_rest": (lambda: one_vs_rest(binary_net(), 3), images_and_labels),
    "neocognitron_rule": (tiny_neocognitron, images_and_labels),
    "perceptron_rule": (lambda: perceptron_rule(3, scale=1.0), images_and_labels),
    "pocket_rule": (lambda: pocket_rule(3, scale=1.0), images_and_labels),
    "supervised, with a penalty": (lambda: supervised_mlp(penalty=lambda params: 1e-3 * penalties.l2(params)), images_and_labels),
}
"""Name (factory, then what is special) -> (make the learner, make a batch that it can learn by heart)."""


@pytest.fixture(params=LEARNERS, scope="module")
def case(request):
    make, batch = LEARNERS[request.param]
    learner = make()
    return learner, Learner(*map(jax.jit, learner)), batch()


def key(number):
    return jax.random.key(number)


def test_every_learner_stands_in_the_table():
    factories = {
        name
        for name, value in vars(learners).items()
        if inspect.isfunction(value) and inspect.signature(value).return_annotation in (Learner, "Learner")
    }
    assert factories
    assert factories == {name.split(",")[0] for name in LEARNERS}


def test_step_keeps_tree_shapes_and_dtypes(case):
    _, jitted, batch = case
    state = jitted.init(key(0), batch)
    after, _ = jitted.step(key(1), state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    assert hasattr(state, "_fields")  # a NamedTuple


def test_the_second_call_does_not_compile(case):
    learner, _, batch = case
    jitted = learner._replace(init=jax.jit(learner.init), step=jax.jit(learner.step), evaluate=jax.jit(learner.evaluate))
    state = jitted.init(key(0), batch)
    for number in range(3):
        state, _ = jitted.step(key(number), state, batch)
        jitted.evaluate(key(number), state, batch)
    assert [function._cache_size() for function in jitted[:3]] == [1, 1, 1]


def test_metrics_are_flat_finite_and_of_fixed_shape(case):
    _, jitted, batch = case
    state = jitted.init(key(0), batch)
    state, first = jitted.step(key(1), state, batch)
    _, second = jitted.step(key(2), state, batch)
    for name, value in first.items():
        assert value.shape == second[name].shape, name
        assert np.isfinite(value).all(), name
    for name, value in jitted.evaluate(key(3), state, batch).items():
        assert value.shape == (len(jax.tree.leaves(batch)[0]),), name


def error(metrics):
    """What learning lowers: a loss, or what a learner without one has in its place."""
    return next(metrics[name] for name in ("loss", "quantization_error", "mismatch") if name in metrics).mean()


def test_a_fixed_batch_is_learnt(case):
    _, jitted, batch = case
    state = jitted.init(key(0), batch)
    before = error(jitted.evaluate(key(1), state, batch))
    for number in range(100):
        state, _ = jitted.step(key(number), state, batch)
    assert error(jitted.evaluate(key(1), state, batch)) < 0.2 * before


def test_the_key_decides(case):
    _, jitted, batch = case
    same, again, other = (jitted.init(key(number), batch) for number in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, same, again)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(other), strict=True))
    one, two = (jitted.step(key(2), same, batch) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_vmap_over_seeds_is_close_to_a_loop(case):
    learner, _, batch = case

    def run(key):
        init_key, step_key = jax.random.split(key)
        return learner.step(step_key, learner.init(init_key, batch), batch)[1]

    together = jax.jit(jax.vmap(run))(jax.random.split(key(5), 2))
    for index, one in enumerate(jax.random.split(key(5), 2)):
        alone = jax.jit(run)(one)
        jax.tree.map(lambda many, single, i=index: np.testing.assert_allclose(many[i], single, atol=1e-5), together, alone)


def test_a_kept_state_comes_back_bit_for_bit(case, tmp_path):
    learner, jitted, batch = case
    state, _ = jitted.step(key(1), jitted.init(key(0), batch), batch)
    folder = save_run(tmp_path, "contract", {}, {}, axes={}, state=state)
    template = jax.eval_shape(learner.init, key(0), batch)
    back = load_run(folder).state(template)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, back, state)
    one, other = jitted.step(key(2), state, batch), jitted.step(key(2), back, batch)
    jax.tree.map(np.testing.assert_array_equal, one, other)
