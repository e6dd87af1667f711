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


def biasless(*weights):
    """The variables of an MLP of these kernels, all biases 0."""
    names = [*(f"hidden_{number}" for number in range(1, len(weights))), "output"]
    layers = {name: {"kernel": w, "bias": jnp.zeros(w.shape[1])} for name, w in zip(names, weights, strict=True)}
    return {"params": layers}


def test_row_20_a_3_3_2_net_without_hidden_activation_is_one_layer():
    """N = W2(W1 X), Y = softmax(N): two linear layers are the one of W2 W1."""
    rng = np.random.default_rng(0)
    x, w1, w2 = jnp.array([[0.22, 0.35, 0.86]]), *(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 3), (3, 2)))
    _, apply = functional(MLP((3, 2), activation=activations.linear))
    outputs = activations.softmax(apply(biasless(w1, w2), x, train=False)[0])
    n = np.asarray(x, float) @ (np.asarray(w1, float) @ np.asarray(w2, float))
    np.testing.assert_allclose(outputs, np.exp(n) / np.exp(n).sum(), atol=1e-6)


def test_erratum_9_the_five_neurons_are_those_of_the_hidden_and_the_output_layer():
    """Inputs are no neurons: they have no bias. With them there would be 8 units, and hidden and input layer together have 6."""
    init, _ = functional(MLP((3, 2), activation=activations.linear))
    params = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 3), jnp.float32))["params"]
    assert {name: layer["bias"].size for name, layer in params.items()} == {"hidden_1": 3, "output": 2}
    assert sum(layer["bias"].size for layer in params.values()) == 5


def test_row_22_three_layers_are_three_nested_functions():
    """W3 f(W2 f(W1 X)); the last f is the loss's, as the outputs are logits."""
    rng = np.random.default_rng(1)
    w1, w2, w3 = (rng.normal(size=shape) for shape in ((4, 5), (5, 3), (3, 2)))
    x = rng.normal(size=(6, 4))
    _, apply = functional(MLP((5, 3, 2), activation=activations.tanh))
    variables = biasless(*(jnp.asarray(w, jnp.float32) for w in (w1, w2, w3)))
    outputs, _ = apply(variables, jnp.asarray(x, jnp.float32), train=False)
    np.testing.assert_allclose(outputs, np.tanh(np.tanh(x @ w1) @ w2) @ w3, atol=1e-5)
