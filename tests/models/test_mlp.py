import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import activations, losses
from jaxnn.models import MLP, functional
from tests import oracles


@pytest.mark.parametrize(("hidden", "count"), [(2, 24_790), (3, 25_720), (4, 26_650)])
def test_row_67_erratum_8_parameters_with_784_inputs_and_not_728(hidden, count):
    init, _ = functional(MLP((30,) * hidden + (10,)))
    shapes = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    assert shapes["params"]["hidden_1"]["kernel"].shape == (784, 30)


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [(losses.sigmoid_cross_entropy, oracles.cross_entropy_gradients), (None, oracles.squared_error_gradients)],
    ids=["sigmoid outputs with cross-entropy", "sigmoid outputs with squared error"],
)
def test_row_45_backpropagation_by_hand_equals_jax_grad(loss, by_hand):
    """Rows 22, 23, 45-49. With squared error the output error keeps its factor f'(z), which S3:158 leaves out (E6)."""
    x_key, y_key, init_key = jax.random.split(jax.random.key(0), 3)
    x, targets = jax.random.normal(x_key, (7, 12)), jax.nn.one_hot(jax.random.randint(y_key, 7, 0, 4), 4)
    init, apply = functional(MLP((9, 8, 6, 4), bias_init=jax.nn.initializers.normal(1.0)))
    params = init(init_key, x)["params"]
    loss = loss or (lambda logits, targets: losses.half_squared_error(activations.sigmoid(logits), targets))

    gradients = jax.grad(lambda params: loss(apply({"params": params}, x, train=True)[0], targets).mean())(params)

    layers = ["hidden_1", "hidden_2", "hidden_3", "output"]
    weights, biases = ([np.asarray(params[layer][name], float) for layer in layers] for name in ("kernel", "bias"))
    by_weight, by_bias = by_hand(weights, biases, np.asarray(x, float), np.asarray(targets, float))
    for layer, weight, bias in zip(layers, by_weight, by_bias, strict=True):
        np.testing.assert_allclose(gradients[layer]["kernel"], weight, atol=1e-6)
        np.testing.assert_allclose(gradients[layer]["bias"], bias, atol=1e-6)


def test_images_are_flattened_row_by_row():
    init, apply = functional(MLP((3,)))
    image_key, init_key = jax.random.split(jax.random.key(1))
    images = jax.random.normal(image_key, (2, 4, 5, 1))
    variables = init(init_key, images)
    outputs, unchanged = apply(variables, images, train=False)
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    np.testing.assert_allclose(outputs, np.asarray(images).reshape(2, 20) @ kernel, atol=1e-5)
    assert unchanged is variables


def test_maxout_halves_the_units_and_is_the_largest_of_its_pieces():
    init, apply = functional(MLP((6, 2), activation=activations.maxout))
    x = jnp.arange(8.0).reshape(2, 4)
    variables = init(jax.random.key(0), x)
    params = jax.tree.map(np.asarray, variables["params"])
    hidden = (np.asarray(x) @ params["hidden_1"]["kernel"]).reshape(2, 3, 2).max(-1)
    np.testing.assert_allclose(apply(variables, x, train=False)[0], hidden @ params["output"]["kernel"], atol=1e-5)
