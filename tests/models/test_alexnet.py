"""Both forms of AlexNet: their published counts, and the printed one layer by layer; the other one's values are held by tests/peers."""

import jax
import numpy as np
import pytest
from jax import lax

from jaxnn.initializers import zeros
from jaxnn.models import AlexNet, AlexNetTwoTower, layers
from jaxnn.types import InputError
from tests.nets import counts, drawn, filled, images, shapes


def kernels(net):
    return {name: layer["kernel"].shape for name, layer in shapes(net)["params"].items()}


def test_row_107_one_tower_has_61_100_840_parameters():
    assert sum(counts(AlexNet()).values()) == 61_100_840


def test_row_107_two_towers_have_60_965_224_parameters():
    assert counts(AlexNetTwoTower()) == {
        "conv1": 34_944,
        "conv2": 307_456,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }
    assert sum(counts(AlexNetTwoTower()).values()) == 60_965_224


def test_row_107_ninety_six_kernels_of_11_by_11_by_3():
    printed = kernels(AlexNetTwoTower())
    assert printed["conv1"] == (11, 11, 3, 96)
    assert [printed[f"conv{n}"] for n in (2, 3, 4, 5)] == [(5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256)]
    assert kernels(AlexNet())["conv1"] == (11, 11, 3, 64)


def test_row_107_the_maps_have_the_papers_sizes():
    net = AlexNetTwoTower()
    seen = jax.eval_shape(lambda variables, x: layers(net, variables, x), shapes(net), images(224))
    assert [seen[f"conv{n}"].shape[1:] for n in range(1, 6)] == [(55, 55, 96), (27, 27, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256)]


def normalised(x):
    """By the formula, one map after the other."""
    squares = np.square(np.asarray(x, float))
    energy = [squares[..., max(0, i - 2) : i + 3].sum(-1) for i in range(x.shape[-1])]
    return x / (2 + 1e-4 * np.stack(energy, -1)) ** 0.75


def pooled(x):
    """Windows of 3, 2 apart, that lie inside."""
    rows, columns = (range(0, n - 2, 2) for n in x.shape[1:3])
    return np.stack([np.stack([x[:, p : p + 3, q : q + 3].max((1, 2)) for q in columns], 1) for p in rows], 1)


def convolved(x, layer, stride=1, padding=1):
    """One tower at a time, where the kernel sees half of the maps."""
    kernel, bias = (np.asarray(layer[name]) for name in ("kernel", "bias"))
    groups = x.shape[-1] // kernel.shape[2]
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    how = {"window_strides": (stride, stride), "padding": [(padding, padding)] * 2, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return np.concatenate([lax.conv_general_dilated(np.float32(part), weights, **how) for part, weights in parts], -1) + bias


def test_row_107_two_towers_by_hand():
    """Every layer from what the one below it gave: ReLU, then normalisation, then pooling that overlaps; towers apart but in conv3."""
    net, x = AlexNetTwoTower(classes=5), 100 * drawn((63, 79))
    variables = filled(shapes(net, (63, 79)))
    seen = jax.jit(lambda variables, x: {"x": x, "logits": net.apply(variables, x), **layers(net, variables, x)})(variables, x)
    p, y, relu = (
        jax.tree.map(np.asarray, variables["params"]),
        {name: np.asarray(maps) for name, maps in seen.items()},
        lambda z: np.maximum(z, 0),
    )
    below = {
        "conv1": convolved(y["x"], p["conv1"], 4, 2),
        "conv2": convolved(pooled(normalised(relu(y["conv1"]))), p["conv2"], 1, 2),
        "conv3": convolved(pooled(normalised(relu(y["conv2"]))), p["conv3"]),
        "conv4": convolved(relu(y["conv3"]), p["conv4"]),
        "conv5": convolved(relu(y["conv4"]), p["conv5"]),
        "fc6": pooled(relu(y["conv5"])).reshape(2, -1) @ p["fc6"]["kernel"] + p["fc6"]["bias"],
        "fc7": relu(y["fc6"]) @ p["fc7"]["kernel"] + p["fc7"]["bias"],
        "logits": relu(y["fc7"]) @ p["fc8"]["kernel"] + p["fc8"]["bias"],
    }
    for name, expected in below.items():
        np.testing.assert_allclose(y[name], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_row_107_weights_and_biases_start_as_the_paper_says():
    key, net = jax.random.key(0), AlexNetTwoTower(classes=3, kernel_init=zeros)
    params = jax.jit(lambda key, x: net.init(key, x)["params"])(key, drawn(63, batch=1))
    assert {name for name, layer in params.items() if (np.asarray(layer["bias"]) == 1).all()} == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert {name for name, layer in params.items() if not layer["bias"].any()} == {"conv1", "conv3", "fc8"}
    assert not any(layer["kernel"].any() for layer in params.values())  # all of them are drawn by `kernel_init`
    assert AlexNetTwoTower().kernel_init(key, (200, 200)).std() == pytest.approx(0.01, rel=0.02)


def test_row_107_dropout_stands_behind_both_hidden_dense_layers():
    """Where all is dropped, their biases are too: the logits are the last bias."""
    assert AlexNetTwoTower().dropout == AlexNet().dropout == 0.5
    net = AlexNetTwoTower(classes=3, dropout=1.0)
    variables = filled(shapes(net, 63))
    y = jax.jit(lambda variables, x: net.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)}))(variables, drawn(63))
    np.testing.assert_array_equal(y, np.broadcast_to(variables["params"]["fc8"]["bias"], (2, 3)))


def test_row_107_in_one_tower_dropout_stands_before_them():
    """Where all is dropped, the second hidden layer has its biases alone: b₈ + W₈ max(0, b₇)."""
    net = AlexNet(classes=3, dropout=1.0)
    variables = filled(shapes(net, 63))
    y = jax.jit(lambda variables, x: net.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)}))(variables, drawn(63))
    hidden, last = (jax.tree.map(np.asarray, variables["params"][name]) for name in ("fc7", "fc8"))
    expected = last["bias"] + np.maximum(hidden["bias"], 0) @ last["kernel"]
    assert np.abs(expected - last["bias"]).max() > 1e-3
    np.testing.assert_allclose(y, np.broadcast_to(expected, (2, 3)), rtol=1e-4)


@pytest.mark.parametrize("net", [AlexNet(), AlexNetTwoTower()], ids=["one tower", "two towers"])
def test_images_that_are_too_small_are_said_in_words(net):
    message = r"pooling after conv5, a window of 3, does not fit into 2 × 3 pixels; the least image is 63 × 63, got 62 × 63"
    with pytest.raises(InputError, match=message):
        shapes(net, (62, 63))
    with pytest.raises(InputError, match="conv1, a window of 11, does not fit into 6 × 6 pixels"):
        shapes(net, 6)
    shapes(net, 63)
