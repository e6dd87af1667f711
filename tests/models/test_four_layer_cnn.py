"""Row 74: the net of the figure, its parameters and its logits."""

import jax
import numpy as np
import pytest

from jaxnn.activations import tanh
from jaxnn.models import FourLayerCNN
from jaxnn.types import InputError
from tests import nets


def test_row_74_the_layers_of_the_net():
    assert nets.counts(FourLayerCNN(), 32) == {"conv1": 2_432, "conv2": 25_632, "conv3": 51_264, "fc4": 10_250}


def pooled(maps, pool):
    """Windows of 3, 2 apart, the last over the border: what lies beyond is no entry."""
    whole = np.pad(maps, ((0, 0), (0, 3), (0, 3), (0, 0)), constant_values=np.nan)
    rows, columns = (-(-(n - 3) // 2) + 1 if n > 3 else 1 for n in maps.shape[1:3])
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return pool(windows[:, :rows, :columns], axis=(-2, -1))


@pytest.mark.parametrize(("activation", "f"), [(None, lambda a: np.maximum(a, 0)), (tanh, np.tanh)])
def test_row_74_its_logits_are_numpys(activation, f):
    net = FourLayerCNN(classes=4) if activation is None else FourLayerCNN(classes=4, activation=activation)
    variables = nets.filled(nets.shapes(net, (9, 12)))
    x = nets.drawn((9, 12))
    y = np.asarray(x, float)
    for name, pool in (("conv1", np.nanmax), ("conv2", np.nanmean), ("conv3", np.nanmean)):
        kernel, bias = (np.asarray(variables["params"][name][part], float) for part in ("kernel", "bias"))
        seen = np.lib.stride_tricks.sliding_window_view(np.pad(y, ((0, 0), (2, 2), (2, 2), (0, 0))), (5, 5), axis=(1, 2))
        y = pooled(f(np.einsum("bpqcij,ijco->bpqo", seen, kernel) + bias), pool)
    output = {part: np.asarray(leaf, float) for part, leaf in variables["params"]["fc4"].items()}
    logits = jax.jit(net.apply)(variables, x)
    np.testing.assert_allclose(logits, y.reshape(2, -1) @ output["kernel"] + output["bias"], rtol=1e-4, atol=1e-4)


def test_an_image_that_is_too_small_is_named():
    assert nets.counts(FourLayerCNN(), (8, 40))["fc4"] == 5 * 64 * 10 + 10
    with pytest.raises(InputError, match=r"FourLayerCNN: pooling after conv3, a window of 3, .*; the least image is 8 × 8, got 6 × 40"):
        jax.eval_shape(FourLayerCNN().init, jax.random.key(0), nets.images((6, 40)))
