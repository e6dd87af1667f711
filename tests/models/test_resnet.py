"""The residual nets: published counts, blocks by hand, both strides, the plain twins; the logits are held by tests/peers."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn.initializers import zeros

from jaxnn import models
from jaxnn.initializers import he_normal_of_fan_out
from jaxnn.models import CifarPlain20, CifarResNet, CifarResNet20, ResNet18, ResNet34, ResNet50, layers
from jaxnn.models.resnet import BasicBlock, Bottleneck, PaperBottleneck, ResNet, no_shortcut, padded
from jaxnn.types import InputError
from tests.nets import counts, drawn, filled, images, shapes

IMAGENET = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


def total(net, size=224):
    return sum(counts(net, size).values())


@pytest.mark.parametrize("depth", IMAGENET)
def test_row_108_resnets_parameters(depth):
    assert total(getattr(models, f"ResNet{depth}")(), 32) == IMAGENET[depth]


@pytest.mark.parametrize("name", ["AlexNet", "CifarResNet20", "GoogLeNet", "ResNet18", "ResNet50", "VGG11", "ZFNet"])
def test_a_number_alone_is_that_of_the_classes(name):
    net = getattr(models, name)
    assert net(7) == net(classes=7)


def test_row_108_the_stride_costs_no_parameter_wherever_it_is():
    assert total(ResNet50(block=PaperBottleneck), 32) == IMAGENET[50]


@pytest.mark.parametrize("depth", CIFAR)
def test_row_108_cifar_resnets_parameters_and_their_plain_twins(depth):
    """By the formula too: of each stage one kernel from the maps below and 2n - 1 of its own, and γ and β behind each."""
    n = (depth - 2) // 6
    below, expected = 16, 27 * 16 + 2 * 16
    for maps in (16, 32, 64):
        expected += 9 * below * maps + (2 * n - 1) * 9 * maps**2 + 2 * n * 2 * maps
        below = maps
    expected += 64 * 10 + 10
    assert expected == CIFAR[depth]
    for kind in ("ResNet", "Plain"):
        net = getattr(models, f"Cifar{kind}{depth}")()
        assert total(net, 8) == expected
        assert 1 + sum(name.startswith("layer") for name in counts(net, 8)) * 2 + 1 == depth


def test_row_108_resnet_18_of_small_images():
    """All but the stem and the logits are the same; there is no pooling, so four stages of 32, 16, 8 and 4 pixels."""
    net = ResNet18(classes=10, small_images=True)
    assert total(net, 32) == IMAGENET[18] - 49 * 3 * 64 + 9 * 3 * 64 - 990 * 513
    seen = jax.eval_shape(lambda variables, x: layers(net, variables, x), shapes(net, 32), images(32))
    assert [seen[f"layer{stage}_1"].shape[1:] for stage in (1, 2, 3, 4)] == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]


def test_row_108_the_stages_are_those_of_the_papers_table():
    for net, maps in ((ResNet34(), (64, 128, 256, 512)), (ResNet50(), (256, 512, 1024, 2048))):
        seen = jax.eval_shape(lambda variables, x, net=net: layers(net, variables, x), shapes(net), images(224))
        behind = {name: seen[f"{name}_0"].shape[1:] for name in ("layer1", "layer2", "layer3", "layer4")}
        assert [*behind.values()] == [(n, n, m) for n, m in zip((56, 28, 14, 7), maps, strict=True)]
        assert seen["conv1"].shape == (1, 112, 112, 64)
        assert [sum(name.startswith(f"layer{stage}_") and "/" not in name for name in seen) for stage in (1, 2, 3, 4)] == [3, 4, 6, 3]
        projections = sorted(name for name in seen if name.endswith("conv_project"))
        assert projections == [f"layer{stage}_0/conv_project" for stage in ((2, 3, 4) if maps[0] == 64 else (1, 2, 3, 4))]


@pytest.mark.parametrize(("block", "halved"), [(Bottleneck, "conv2"), (PaperBottleneck, "conv1")])
def test_row_108_the_stride_is_in_the_3x3_or_as_printed_in_the_1x1(block, halved):
    net = ResNet50(block=block)
    seen = jax.eval_shape(lambda variables, x: layers(net, variables, x), shapes(net), images(224))
    sizes = {name: seen[f"layer2_0/{name}"].shape[1] for name in ("conv1", "conv2", "conv3", "conv_project")}
    assert sizes == {"conv1": 56 if halved == "conv2" else 28, "conv2": 28, "conv3": 28, "conv_project": 28}


def conv_by_hand(layer, x, stride):
    """w * x in zeros that keep the size, window by window."""
    kernel = np.asarray(layer["kernel"], float)
    k = len(kernel)
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    rows, columns = (n - k + 1 for n in x.shape[1:3])
    return sum(x[:, a : a + rows, b : b + columns] @ kernel[a, b] for a in range(k) for b in range(k))[:, ::stride, ::stride]


def unit_by_hand(variables, mark, x, stride, train):
    """γ (w * x − μ)/√(σ² + 1e-5) + β."""
    z = conv_by_hand(variables["params"][f"conv{mark}"], x, stride)
    bn, running = variables["params"][f"bn{mark}"], variables["batch_stats"][f"bn{mark}"]
    mean, var = (z.mean((0, 1, 2)), z.var((0, 1, 2))) if train else (np.asarray(running["mean"]), np.asarray(running["var"]))
    return (z - mean) / np.sqrt(var + 1e-5) * np.asarray(bn["scale"]) + np.asarray(bn["bias"])


def given(block, x):
    return filled(jax.eval_shape(block.init, jax.random.key(0), x))


def run(block, variables, x, train):
    if not train:
        return jax.jit(block.apply)(variables, x)
    return jax.jit(partial(block.apply, train=True, mutable=["batch_stats"]))(variables, x)[0]


@pytest.mark.parametrize("train", [False, True])
def test_row_108_a_block_with_a_projection_by_hand(train):
    block, x = BasicBlock(4, 2), drawn((5, 6))
    variables = given(block, x)
    unit = partial(unit_by_hand, variables, train=train)
    entries = np.asarray(x, float)
    inside = unit("2", np.maximum(unit("1", entries, 2), 0), 1)
    expected = np.maximum(inside + unit("_project", entries, 2), 0)
    np.testing.assert_allclose(run(block, variables, x, train), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "strides"), [(Bottleneck, (1, 2)), (PaperBottleneck, (2, 1))])
def test_row_108_a_bottleneck_by_hand(make, strides):
    block, x = make(2, 2), drawn((5, 6))
    variables, entries = given(block, x), np.asarray(x, float)
    unit = partial(unit_by_hand, variables, train=False)
    y = entries
    for mark, stride in zip("12", strides, strict=True):
        y = np.maximum(unit(mark, y, stride), 0)
    expected = np.maximum(unit("3", y, 1) + unit("_project", entries, 2), 0)
    assert expected.shape[-1] == 8
    np.testing.assert_allclose(run(block, variables, x, False), expected, rtol=1e-4, atol=1e-5)


def test_row_108_batchnorm_moves_its_running_averages_by_a_tenth():
    block, x = BasicBlock(3), drawn((3, 4))
    variables = given(block, x)
    changed = jax.jit(partial(block.apply, train=True, mutable=["batch_stats"]))(variables, x)[1]["batch_stats"]["bn1"]
    z, old = conv_by_hand(variables["params"]["conv1"], np.asarray(x, float), 1), variables["batch_stats"]["bn1"]
    np.testing.assert_allclose(changed["mean"], 0.9 * old["mean"] + 0.1 * z.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(changed["var"], 0.9 * old["var"] + 0.1 * z.var((0, 1, 2)), rtol=1e-4)


def test_row_108_an_identity_shortcut_takes_every_second_pixel_and_adds_maps_of_zeros():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4, 3)), jnp.float32)
    y = np.zeros((2, 3, 2, 5), np.float32)
    for i in range(3):
        for j in range(2):
            y[:, i, j, :3] = x[:, 2 * i, 2 * j]
    np.testing.assert_array_equal(padded(x, 5, 2), y)
    np.testing.assert_array_equal(padded(x, 3, 1), x)
    block = BasicBlock(5, 2, shortcut=padded)
    variables = given(block, x)
    assert not any("project" in name for name in variables["params"])
    unit = partial(unit_by_hand, variables, train=False)
    expected = np.maximum(unit("2", np.maximum(unit("1", np.asarray(x, float), 2), 0), 1) + y, 0)
    np.testing.assert_allclose(run(block, variables, x, False), expected, rtol=1e-4, atol=1e-5)


def test_row_108_a_block_whose_last_scale_is_0_is_its_shortcut_and_of_a_plain_net_nothing():
    x = drawn((4, 4))
    for shortcut, expected in ((padded, np.maximum(x, 0)), (no_shortcut, np.zeros(x.shape))):
        block = BasicBlock(3, 1, shortcut, last_scale=zeros)
        np.testing.assert_array_equal(run(block, block.init(jax.random.key(0), x), x, True), expected)


def test_row_108_a_plain_twin_has_the_same_variables_and_other_logits():
    plain, residual, x = CifarPlain20(), CifarResNet20(), drawn(8)
    assert jax.tree.map(lambda leaf: leaf.shape, shapes(plain, 8)) == jax.tree.map(lambda leaf: leaf.shape, shapes(residual, 8))
    tiny = [CifarResNet(1, maps=(2, 3), shortcut=shortcut) for shortcut in (padded, no_shortcut)]
    variables = filled(shapes(tiny[0], 8))
    nothing = jax.tree_util.tree_map_with_path(lambda path, leaf: 0 * leaf if path[1].key.startswith("layer") else leaf, variables)
    seen = [jax.jit(partial(layers, net))(nothing, x) for net in tiny]
    assert [np.any(logits["layer2_0"]) for logits in seen] == [True, False]  # without weights in the blocks nothing of x comes through


def test_row_108_kernels_start_by_he_and_the_last_scales_as_they_are_told():
    x = jnp.zeros((1, 4, 4, 3))
    variables = jax.jit(CifarResNet(1, maps=(64, 64)).init)(jax.random.key(0), x)["params"]
    assert ResNet18().kernel_init is he_normal_of_fan_out
    np.testing.assert_allclose(variables["layer2_0"]["conv2"]["kernel"].std(), (2 / (9 * 64)) ** 0.5, rtol=0.02)
    assert all((variables["layer1_0"][name]["scale"] == 1).all() for name in ("bn1", "bn2"))
    started = jax.jit(CifarResNet(1, maps=(4,), last_scale=zeros).init)(jax.random.key(0), x)["params"]["layer1_0"]
    assert [float(started[name]["scale"].max()) for name in ("bn1", "bn2")] == [1, 0]


@pytest.mark.parametrize(("net", "blocks"), [(CifarResNet(0), (0, 0, 0)), (ResNet((2, 0, 2, 2)), (2, 0, 2, 2)), (ResNet(()), ())])
def test_a_stage_without_a_block_is_said_in_words(net, blocks):
    with pytest.raises(InputError, match=re.escape(f"every stage of a residual net has at least one block, got {blocks}")):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_images_that_the_nets_cannot_take_are_said_in_words():
    message = "ResNet: conv1, a window of 7, does not fit into 0 × 9 pixels with 3 zeros on each side; the least image is 1 × 1, got 0 × 9"
    with pytest.raises(InputError, match=message):
        shapes(ResNet18(), (0, 9))
    message = "CifarResNet: conv1, a window of 3, does not fit into 4 × 0 pixels with 1 zeros on each side; the least image is 1 × 1"
    with pytest.raises(InputError, match=message):
        shapes(CifarResNet20(), (4, 0))
    assert shapes(CifarResNet20(), 1)["params"]["fc"]["kernel"].shape == (64, 10)
