"""ZF Net: its published count and maps, layer by layer."""

import jax
import numpy as np
import pytest

from jaxnn.models import ZFNet, layers
from jaxnn.types import InputError
from tests.models.test_alexnet import convolved, normalised
from tests.nets import counts, drawn, filled, images, shapes


def test_row_108_zf_net_has_62_357_608_parameters():
    assert sum(counts(ZFNet()).values()) == 62_357_608
    assert counts(ZFNet())["conv1"] == 7 * 7 * 3 * 96 + 96
    assert counts(ZFNet())["fc6"] == 6 * 6 * 256 * 4096 + 4096


def test_row_108_zf_nets_maps_have_the_papers_sizes():
    net = ZFNet()
    seen = jax.eval_shape(lambda variables, x: layers(net, variables, x), shapes(net), images(224))
    assert [seen[f"conv{n}"].shape[1:] for n in range(1, 6)] == [(110, 110, 96), (26, 26, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256)]


def pooled(x):
    """Windows of 3, 2 apart, the last one over the border where that leaves one pixel over."""
    rows, columns = (range(0, n - 1, 2) for n in x.shape[1:3])
    return np.stack([np.stack([x[:, p : p + 3, q : q + 3].max((1, 2)) for q in columns], 1) for p in rows], 1)


def test_row_108_zf_net_by_hand():
    """Every layer from what the one below it gave: ReLU, then pooling, then normalisation."""
    net, x = ZFNet(classes=5), 100 * drawn((47, 64))
    variables = filled(shapes(net, (47, 64)))
    seen = jax.jit(lambda variables, x: {"x": x, "logits": net.apply(variables, x), **layers(net, variables, x)})(variables, x)
    p, y, relu = (
        jax.tree.map(np.asarray, variables["params"]),
        {name: np.asarray(maps) for name, maps in seen.items()},
        lambda z: np.maximum(z, 0),
    )
    below = {
        "conv1": convolved(y["x"], p["conv1"], 2, 1),
        "conv2": convolved(normalised(pooled(relu(y["conv1"]))), p["conv2"], 2, 0),
        "conv3": convolved(normalised(pooled(relu(y["conv2"]))), p["conv3"]),
        "conv4": convolved(relu(y["conv3"]), p["conv4"]),
        "conv5": convolved(relu(y["conv4"]), p["conv5"]),
        "fc6": pooled(relu(y["conv5"])).reshape(2, -1) @ p["fc6"]["kernel"] + p["fc6"]["bias"],
        "fc7": relu(y["fc6"]) @ p["fc7"]["kernel"] + p["fc7"]["bias"],
        "logits": relu(y["fc7"]) @ p["fc8"]["kernel"] + p["fc8"]["bias"],
    }
    for name, expected in below.items():
        np.testing.assert_allclose(y[name], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_images_that_are_too_small_are_said_in_words():
    message = r"ZFNet: pooling after conv5, a window of 3, does not fit into 1 × 2 pixels; the least image is 47 × 47, got 46 × 47"
    with pytest.raises(InputError, match=message):
        shapes(ZFNet(), (46, 47))
    shapes(ZFNet(), 47)
