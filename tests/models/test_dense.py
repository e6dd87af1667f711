"""The product of a narrow dense layer on a CPU, held to NumPy and to JAX's own derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import MLP, VGG11, AlexNet, LeNet5, TwoLayerCNN, functional
from jaxnn.models.dense import NARROW, dense, dropped, product
from jaxnn.types import InputError


@pytest.mark.parametrize("lead", [(), (5,), (3, 5)], ids=["one example", "a batch", "a batch of sequences"])
def test_a_narrow_layer_has_numpys_value_and_gradients(lead):
    x_key, w_key, ct_key = jax.random.split(jax.random.key(0), 3)
    x, delta = jax.random.normal(x_key, (*lead, 7)), jax.random.normal(ct_key, (*lead, 4))
    layer = dense(4, "layer")
    params = layer.init(w_key, x)["params"]

    @jax.jit
    def value_and_gradients(params, x):
        y, pull = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)
        return y, *pull(delta)

    y, by_params, by_x = value_and_gradients(params, x)

    kernel = np.asarray(params["kernel"])
    np.testing.assert_allclose(y, np.asarray(x) @ kernel, atol=1e-5)
    np.testing.assert_allclose(by_x, np.asarray(delta) @ kernel.T, atol=1e-5)
    rows, deltas = np.asarray(x).reshape(-1, 7), np.asarray(delta).reshape(-1, 4)
    np.testing.assert_allclose(by_params["kernel"], rows.T @ deltas, atol=1e-5)
    np.testing.assert_allclose(by_params["bias"], deltas.sum(0), atol=1e-5)


class Dropped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, *, train=False):
        return dropped(x, self.rate, train=train)


def test_dropout_keeps_the_mean_in_training_and_all_later():
    """A quarter is 0, the rest 4/3 of what it was: 40,000 numbers, the share's deviation .002."""
    x = jnp.full((200, 200), 3.0)
    y = np.asarray(Dropped(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(Dropped(0.25).apply({}, x), x)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_dropout_that_is_no_probability_is_refused(rate):
    for net, image in ((Dropped(rate), (1, 4)), (AlexNet(dropout=rate), (1, 64, 64, 3)), (VGG11(dropout=rate), (1, 32, 32, 3))):
        with pytest.raises(InputError, match=f"dropout must be a probability, from 0 to 1, got {rate}"):
            jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(image))


def test_it_can_be_differentiated_again_and_forwards_and_vmapped():
    """Against JAX's own derivatives of `x @ kernel`."""
    x_key, w_key = jax.random.split(jax.random.key(1))
    x, kernel = jax.random.normal(x_key, (3, 5)), jax.random.normal(w_key, (5, 2))
    ours = lambda x, kernel: jnp.sum(jnp.tanh(product(x, kernel, (((1,), (0,)), ((), ())))) ** 2)  # noqa: E731
    plain = lambda x, kernel: jnp.sum(jnp.tanh(x @ kernel) ** 2)  # noqa: E731
    for transform in (jax.jacfwd, jax.jacrev, jax.hessian):
        found, expected = (jax.jit(transform(energy, argnums=(0, 1)))(x, kernel) for energy in (ours, plain))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    many = jnp.stack([kernel, 2 * kernel])
    found, expected = (jax.jit(jax.vmap(jax.grad(energy, 1), (None, 0)))(x, many) for energy in (ours, plain))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_wide_layers_are_left_to_flax():
    assert dense(NARROW + 1, "layer") == nn.Dense(NARROW + 1, name="layer")
    assert dense(NARROW, "layer").dot_general is product


@pytest.mark.parametrize("net", [LeNet5(classes=0), TwoLayerCNN(classes=0), MLP((4, 0))])
def test_a_layer_without_units_is_refused(net):
    with pytest.raises(InputError, match=r"the layer \w+ must have at least 1 unit, got 0"):
        jax.eval_shape(functional(net).init, jax.random.key(0), jnp.zeros((1, 14, 14, 1)))
