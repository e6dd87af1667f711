"""What the convolution benchmark times computes what it should, and all that it measured is recorded. No test looks at a speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import convolution, convolution_figures, convolution_layers
from benchmarks.convolution_layers import LAYERS, Layer
from experiments import command
from jaxnn.models import conv
from jaxnn.record import load_run

TINY = {"even": Layer(6, 2, 3, 3, padding=1), "strided": Layer(7, 2, 3, 3, 2, 1)}


@pytest.fixture
def execute(tmp_path):
    def run(*args):
        quick = ["--batch-size", "2", "--repeats", "1", "--seconds", "0.001", "--platform", "cpu", "--results", str(tmp_path)]
        return command.execute(convolution.Config, convolution.run, convolution.plot, [*quick, *args])

    return run


def by_hand(layer, x, kernel, delta):
    """y, ∂E/∂x and ∂E/∂w by loops over the windows, in NumPy."""
    padded = np.pad(x, ((0, 0), (layer.padding,) * 2, (layer.padding,) * 2, (0, 0)))
    y, dx, dkernel = np.zeros(delta.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for p, q in np.ndindex(delta.shape[1:3]):
        place = np.s_[:, p * layer.stride : p * layer.stride + layer.window, q * layer.stride : q * layer.stride + layer.window]
        y[:, p, q] = np.tensordot(padded[place], kernel, 3)
        dx[place] += np.einsum("bo,klco->bklc", delta[:, p, q], kernel)
        dkernel += np.einsum("bklc,bo->klco", padded[place], delta[:, p, q])
    inside = slice(layer.padding, layer.padding + layer.size)
    return y, dx[:, inside, inside], dkernel


@pytest.mark.parametrize("layer", TINY.values(), ids=TINY)
def test_every_way_computes_the_convolution_and_its_gradients(layer):
    arrays = convolution_layers.drawn(layer, 2)
    y, dx, dkernel = by_hand(layer, *arrays)
    expected = {"forward": (y,), "kernel": (y, dkernel), "both": (y, dx, dkernel)}
    for function in convolution_layers.ways(layer).values():
        for kind, wanted in expected.items():
            found = convolution_layers.computed(function, kind, *map(jnp.asarray, arrays))
            for values, correct in zip(found, wanted, strict=True):
                np.testing.assert_allclose(values, correct, atol=1e-4)
    assert list(convolution_layers.ways(layer)) == ["plain", "direct"] + ["tiled"] * (layer.stride == 1)


@pytest.mark.parametrize("layer", TINY.values(), ids=TINY)
def test_torch_computes_the_same(layer):
    pytest.importorskip("torch")
    arrays = convolution_layers.drawn(layer, 2)
    y, dx, dkernel = by_hand(layer, *arrays)
    found = convolution_layers.torch_pass(layer, "both", arrays, "cpu")()
    for tensor, correct, layout in zip(found, (y, dx, dkernel), ((0, 3, 1, 2), (0, 3, 1, 2), (3, 2, 0, 1)), strict=True):
        np.testing.assert_allclose(tensor.detach().numpy(), correct.transpose(layout), atol=1e-4)
    assert [len(convolution_layers.torch_pass(layer, kind, arrays, "cpu")()) for kind in ("forward", "kernel")] == [1, 2]


def test_a_loop_computes_anew_each_time():
    """x moves by 1e-9 (x + 1e9), about 1, a time, in its first number alone; the results are those of the last time."""
    advance = convolution_layers.looped(lambda x: (x + 1e9,), np.array([[4.0, 7.0]], np.float32))
    (x,), (y,) = advance(3)
    np.testing.assert_allclose(x, [[7.0, 7.0]], rtol=1e-5)
    np.testing.assert_allclose(y, [[1e9, 1e9]], rtol=1e-6)
    ((x,), _) = advance(5)
    np.testing.assert_allclose(x, [[9.0, 7.0]], rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_way_taken_is_that_of_conv(monkeypatch, name):
    layer, taken = LAYERS[name], []
    for way in ("plain", "direct", "tiled"):
        monkeypatch.setattr(conv, way, lambda *args, way=way: taken.append(way) or jnp.zeros(layer.output(1)))
    arrays = convolution_layers.drawn(layer, 1)
    y = jax.eval_shape(lambda x, kernel: conv.conv(x, kernel, stride=layer.stride, padding=layer.padding), arrays.x, arrays.kernel)
    assert taken == [convolution_layers.way_taken(layer)]
    assert y.shape == layer.output(1)


def test_operations_of_c3_by_hand():
    assert LAYERS["lenet_c3"].flops(128) == 2 * 128 * 10 * 10 * 16 * 5 * 5 * 6


def test_a_run_records_each_layer_and_way_and_the_profile(execute, capsys):
    assert execute("--layers", "lenet_c1", "lenet_c3") == 0
    printed = capsys.readouterr().out
    record = load_run(printed.splitlines()[-1])
    measured = {key.removeprefix("ms/") for key in record.history if key.startswith("ms/") and not key.endswith("torch")}
    ways = ["forward/plain"] + [f"{kind}/{way}" for way in ("direct", "tiled") for kind in convolution_layers.PASSES]
    assert measured == {f"{layer}/{way}" for layer in ("lenet_c1", "lenet_c3") for way in ways}
    assert all((record.history[f"ms/{key}"] > 0).all() for key in measured)
    assert record.meta["taken"] == {"lenet_c1": "tiled", "lenet_c3": "tiled"}
    assert {path.name for path in record.folder.glob("*.png")} == {"layers.png", "profile.png"}
    profile = {key.removeprefix("profile/"): np.median(v) for key, v in record.history.items() if key.startswith("profile/")}
    assert list(profile) == ["c1", "c3", "ReLU and pooling", "dense layers and loss", "rest", "whole step"]
    assert sum(profile.values()) == pytest.approx(2 * profile["whole step"])
    assert profile["c1"] == np.median(record.history["ms/lenet_c1/kernel/tiled"])
    assert profile["c3"] == np.median(record.history["ms/lenet_c3/both/tiled"])
    assert any(line.startswith("rate lenet_c3 both tiled") and line.endswith(" *") for line in printed.splitlines())


def test_the_gradients_of_plain_on_demand():
    def works(**more):
        return convolution.match(TINY["strided"], convolution.Config(**more)).works

    assert "both/plain" in works(plain_gradients=True)
    assert [name for name in works() if name.endswith("plain")] == ["forward/plain"]


def test_parts_that_overlap_have_no_bar():
    ax = Figure().subplots()
    convolution_figures.draw_stack(ax, {"c1": 2.0, "rest": -0.5})
    assert [bar.get_width() for bar in ax.patches] == [2.0, 0.0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--layers", "lenet_c2"), "did you mean 'lenet_c"),
        (("--batch-size", "0"), "--batch-size must be at least 1, got 0"),
        (("--seconds", "-1"), "--seconds must be a number above 0, got -1"),
        (("--seconds", "inf"), "--seconds must be a number above 0, got inf"),
    ],
)
def test_bad_input_is_a_paragraph(execute, capsys, args, message):
    with pytest.raises(SystemExit, match="2"):
        execute(*args)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
