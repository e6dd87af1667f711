"""The weight maps without torchvision: names as its documentation has them, layouts entry by entry, and weights that do not fit."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import VGG11, VGG16, AlexNet, GoogLeNet, GoogLeNetPaper, ZFNet
from jaxnn.models.torchvision_weights import CONVOLUTION, DENSE, above_maps, from_torchvision, load_safetensors, weight_map
from jaxnn.types import InputError
from tests.nets import shapes

VGG_16 = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
"""The numbers of its convolutions among `features`."""


def modules(net):
    """Theirs, of our layers that have a kernel."""
    names = weight_map(net, shapes(net))
    return {"/".join(path[1:-1]): there.name.removesuffix(".weight") for path, there in names.items() if path[-1] == "kernel"}


def arrays(net, fill=None):
    """What a file of theirs would hold: zeros that take no memory, or what `fill` gives of a shape."""
    fill = fill or (lambda shape: np.broadcast_to(np.float32(0), shape))
    return {
        there.name: fill(there.layout.shape(leaf.shape))
        for there, leaf in zip(weight_map(net, shapes(net)).values(), jax.tree.leaves(shapes(net)), strict=True)
    }


def test_row_107_the_names_of_alexnet():
    expected = {f"conv{n}": f"features.{number}" for n, number in zip(range(1, 6), (0, 3, 6, 8, 10), strict=True)}
    assert modules(AlexNet()) == expected | {"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}


def test_row_108_the_names_of_vgg():
    names = modules(VGG16())
    assert [names[name] for name in sorted(names)] == [*(f"features.{n}" for n in VGG_16), "classifier.0", "classifier.3", "classifier.6"]
    assert modules(VGG11())["conv5_2"] == "features.18"


def test_row_108_the_names_of_googlenet():
    names = {there.name for there in weight_map(GoogLeNet(auxiliary=True), shapes(GoogLeNet(auxiliary=True))).values()}
    batch_norm = {f"inception4e.branch2.1.bn.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")}
    assert batch_norm | {"conv1.conv.weight", "inception3a.branch1.conv.weight", "inception5b.branch4.1.bn.bias"} < names
    assert {f"{head}.{layer}.{leaf}" for head in ("aux1", "aux2") for layer in ("fc1", "fc2") for leaf in ("weight", "bias")} < names
    assert {"aux1.conv.conv.weight", "fc.weight", "fc.bias"} < names


def entries(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_layouts_move_every_entry_to_its_place():
    """More rows than are copied at a time, too."""
    theirs = entries(70, 3, 2, 5)
    ours = CONVOLUTION.turn(theirs)
    assert ours.shape == (2, 5, 3, 70)
    assert CONVOLUTION.shape(ours.shape) == theirs.shape
    assert all(ours[a, b, i, o] == theirs[o, i, a, b] for o, i, a, b in np.ndindex(*theirs.shape))
    np.testing.assert_array_equal(DENSE.turn(entries(130, 7)), entries(130, 7).T)


def test_a_dense_layer_above_maps_takes_them_place_by_place():
    """The same sums from (C, H, W) as they flatten it and from (H, W, C) as we do."""
    weights, maps = entries(70, 3 * 4 * 4), entries(3, 4, 4)
    ours = above_maps(4).turn(weights)
    assert above_maps(4).shape(ours.shape) == weights.shape
    np.testing.assert_allclose(maps.transpose(1, 2, 0).ravel() @ ours, weights @ maps.ravel(), rtol=1e-4, atol=1e-5)


def test_row_108_variables_hold_what_the_names_held():
    net, rng = GoogLeNet(classes=3), np.random.default_rng(0)
    named = arrays(net, lambda shape: rng.standard_normal(shape, np.float32)) | {"conv1.bn.num_batches_tracked": np.int64(7)}
    named["fc.weight"] = named["fc.weight"].astype(np.float16)
    variables = from_torchvision(net, shapes(net), named)
    given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, given, dict(shapes(net))))
    block, averages = (variables[part]["inception4a"]["reduce5x5"] for part in ("params", "batch_stats"))
    theirs = "inception4a.branch3.0"
    np.testing.assert_array_equal(block["conv"]["kernel"][0, 0], named[f"{theirs}.conv.weight"][:, :, 0, 0].T)
    np.testing.assert_array_equal(block["bn"]["scale"], named[f"{theirs}.bn.weight"])
    np.testing.assert_array_equal(block["bn"]["bias"], named[f"{theirs}.bn.bias"])
    np.testing.assert_array_equal(averages["bn"]["mean"], named[f"{theirs}.bn.running_mean"])
    np.testing.assert_array_equal(averages["bn"]["var"], named[f"{theirs}.bn.running_var"])
    named["fc.bias"][:] = 0  # the caller's memory is not ours
    assert variables["params"]["fc"]["bias"].all()


def test_weights_that_do_not_fit_are_named():
    """All three kinds at once, with shapes."""
    named = arrays(AlexNet())
    missing = named.pop("features.3.bias")
    named |= {"features.1.weight": missing, "classifier.6.weight": np.zeros((10, 4096), np.float32), "features.0.bias": np.zeros(64, int)}
    with pytest.raises(InputError) as error:
        from_torchvision(AlexNet(), shapes(AlexNet()), named)
    assert str(error.value) == (
        "these weights are not those of torchvision's AlexNet: 1 missing: features.3.bias (192,); 1 of no use: features.1.weight (192,); "
        "1 of another shape: classifier.6.weight (10, 4096) for (1000, 4096); 1 not of floats: features.0.bias int64"
    )


def test_weights_of_another_net_are_counted():
    """Twenty names of each kind are enough."""
    printed, vgg = GoogLeNetPaper(), VGG11()
    with pytest.raises(InputError) as error:
        from_torchvision(printed, shapes(printed), arrays(vgg))
    missing, of_no_use = str(error.value).split("; ")
    assert "GoogLeNet: 116 missing: " in missing
    assert missing.endswith(") and 96 more")
    assert missing.count(" (") == 20
    assert of_no_use.startswith("22 of no use: ")
    assert of_no_use.endswith(") and 2 more")


def test_a_net_without_a_map_is_said_in_words():
    with pytest.raises(InputError, match=r"there is no weight map for ZFNet; there is one for AlexNet, GoogLeNet, .*VGG"):
        weight_map(ZFNet(), {})


def test_params_alone_are_said_in_words():
    with pytest.raises(InputError, match=r"shapes must be all that init gives, a dict with 'params', got one with conv1, conv2, conv3"):
        weight_map(AlexNet(), shapes(AlexNet())["params"])


def test_safetensors_files_come_back_and_broken_ones_are_said_in_words(tmp_path):
    save = pytest.importorskip("safetensors.numpy").save_file
    path, array = tmp_path / "weights.safetensors", entries(3, 2)
    save({"fc.weight": array}, path)
    assert load_safetensors(path).keys() == {"fc.weight"}
    np.testing.assert_array_equal(load_safetensors(str(path))["fc.weight"], array)
    save({"fc.weight": array.astype(jnp.bfloat16)}, path)
    assert load_safetensors(path)["fc.weight"].dtype == jnp.bfloat16
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"weights\.safetensors: not a whole safetensors file"):
        load_safetensors(path)
    for content in (b"", b"\x80\x02}q\x00.", b"PK" + bytes(100)):  # such as a pickle, or the archive around one
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"weights\.safetensors: not a whole safetensors file"):
            load_safetensors(path)
    for nothing in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(InputError, match=f"{nothing.name}: "):
            load_safetensors(nothing)


def test_without_the_package_its_name_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InputError, match=r"weights: the package safetensors reads such files; pip install 'jaxnn\[peers\]' brings it"):
        load_safetensors("weights")
