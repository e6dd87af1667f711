import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import TwoLayerCNN, functional
from jaxnn.models.arithmetic import shared_weights
from jaxnn.types import InputError


def test_row_88_maps_and_filters_of_the_net_with_two_hidden_layers():
    x, model = jax.ShapeDtypeStruct((1, 200, 200, 1), jnp.float32), TwoLayerCNN()
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    _, seen = jax.eval_shape(lambda v, x: model.apply(v, x, capture_intermediates=True), variables, x)
    behind = {name: layer["__call__"][0].shape for name, layer in seen["intermediates"].items() if name != "__call__"}
    assert behind == {"hidden_1": (1, 196, 196, 4), "hidden_2": (1, 96, 96, 7), "output": (1, 10)}
    kernels = {name: layer["kernel"].shape for name, layer in variables["params"].items()}
    assert kernels == {"hidden_1": (5, 5, 1, 4), "hidden_2": (3, 3, 4, 7), "output": (7 * 48 * 48, 10)}
    assert np.prod(kernels["hidden_2"]) == shared_weights(3, links=28) == 252
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 104 + 259 + 161_290


def test_row_88_row_89_its_logits_are_numpys():
    """y_j = f(Σ_i y_i * K_ij + w_j), window by window."""
    init, apply = functional(TwoLayerCNN(classes=3))
    x = np.random.default_rng(0).uniform(size=(2, 14, 13, 1)).astype(np.float32)
    variables = jax.tree.map(lambda leaf: leaf + 0.05, jax.jit(init)(jax.random.key(0), jnp.asarray(x)))
    y = x.astype(float)
    for layer in (variables["params"]["hidden_1"], variables["params"]["hidden_2"]):
        kernel, bias = (np.asarray(layer[part], float) for part in ("kernel", "bias"))
        cut = np.lib.stride_tricks.sliding_window_view(y, kernel.shape[:2], axis=(1, 2))
        y = np.maximum(np.einsum("bpqcij,ijco->bpqo", cut, kernel) + bias, 0)
        rows, columns = (n // 2 * 2 for n in y.shape[1:3])
        y = np.max([y[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)], axis=0)
    output = {part: np.asarray(leaf, float) for part, leaf in variables["params"]["output"].items()}
    logits, _ = jax.jit(lambda v, x: apply(v, x, train=False))(variables, jnp.asarray(x))
    np.testing.assert_allclose(logits, y.reshape(2, -1) @ output["kernel"] + output["bias"], rtol=1e-4, atol=1e-5)


def test_an_image_that_is_too_small_is_named():
    message = "TwoLayerCNN: hidden_2, a window of 3, does not fit into 2 × 2 pixels; the least image is 12 × 12, got 8 × 9"
    with pytest.raises(InputError, match=message):
        jax.eval_shape(TwoLayerCNN().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 9, 1), jnp.float32))
