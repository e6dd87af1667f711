"""GoogLeNet in both forms: published counts, one block by hand, heads; the logits are held by tests/peers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import GoogLeNet, GoogLeNetPaper, functional, layers
from jaxnn.models.googlenet import BatchNormConv, BiasConv, Inception
from jaxnn.types import InputError
from tests.nets import counts, drawn, filled, images, shapes


def test_row_108_googlenets_parameters():
    assert sum(counts(GoogLeNet()).values()) == 6_624_904
    assert sum(counts(GoogLeNet(auxiliary=True)).values()) == 13_004_888


def test_row_108_the_printed_googlenets_parameters():
    assert sum(counts(GoogLeNetPaper()).values()) == 6_998_552
    heads = counts(GoogLeNetPaper(auxiliary=True))
    for name, maps in (("aux1", 512), ("aux2", 528)):
        assert heads[name] == (maps + 1) * 128 + (4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 1000


def test_row_108_the_blocks_are_those_of_the_papers_table():
    net = GoogLeNetPaper()
    seen = jax.eval_shape(lambda variables, x: layers(net, variables, x), shapes(net), images(224))
    table = {"3a": (28, 256), "3b": (28, 480), "4a": (14, 512), "4b": (14, 512), "4c": (14, 512), "4d": (14, 528), "4e": (14, 832)}
    table |= {"5a": (7, 832), "5b": (7, 1024)}
    assert {name: seen[f"inception{name}"].shape for name in table} == {name: (1, n, n, maps) for name, (n, maps) in table.items()}
    assert [seen[name].shape[1:] for name in ("conv1", "conv2", "conv3")] == [(112, 112, 64), (56, 56, 64), (56, 56, 192)]
    assert {seen[f"inception{name}/conv5x5/conv"].shape[-1] for name in table} == {32, 96, 48, 64, 128}
    assert {shapes(net)["params"][f"inception{name}"]["conv5x5"]["conv"]["kernel"].shape[:2] for name in table} == {(5, 5)}


def unit_by_hand(layer, x):
    """max(0, w * x + b) in zeros that keep the size, window by window."""
    kernel, bias = (np.asarray(layer["conv"][name], float) for name in ("kernel", "bias"))
    k = len(kernel)
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    rows, columns = (n - k + 1 for n in x.shape[1:3])
    parts = [x[:, a : a + rows, b : b + columns] @ kernel[a, b] for a in range(k) for b in range(k)]
    return np.maximum(sum(parts) + bias, 0)


@pytest.mark.parametrize("widest", [3, 5])
def test_row_108_a_block_by_hand(widest):
    """Four branches, one behind the other."""
    block, x = Inception((2, 3, 4, 1, 2, 3), BiasConv, widest), drawn((4, 5))
    variables = filled(jax.eval_shape(block.init, jax.random.key(0), x))
    p, entries = variables["params"], np.asarray(x, float)
    around = np.pad(entries, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    pooled = np.max([around[:, a : a + 4, b : b + 5] for a in range(3) for b in range(3)], 0)
    branches = [
        unit_by_hand(p["conv1x1"], entries),
        unit_by_hand(p["conv3x3"], unit_by_hand(p["reduce3x3"], entries)),
        unit_by_hand(p["conv5x5"], unit_by_hand(p["reduce5x5"], entries)),
        unit_by_hand(p["project"], pooled),
    ]
    assert p["conv5x5"]["conv"]["kernel"].shape == (widest, widest, 1, 2)
    np.testing.assert_allclose(jax.jit(block.apply)(variables, x), np.concatenate(branches, -1), rtol=1e-4, atol=1e-5)


def test_row_108_batchnorm_by_hand():
    """(z − μ)/√(σ² + 1e-3): μ and σ² of the batch in training, which move the running ones by a tenth; the running ones later."""
    unit, x = BatchNormConv(4, 1), drawn((3, 4))
    variables = filled(jax.eval_shape(unit.init, jax.random.key(0), x))
    p, old = (jax.tree.map(np.asarray, part) for part in (variables["params"], variables["batch_stats"]["bn"]))
    z = np.asarray(x, float) @ np.asarray(p["conv"]["kernel"][0, 0], float)
    expected = lambda mean, var: np.maximum((z - mean) / np.sqrt(var + 1e-3) * p["bn"]["scale"] + p["bn"]["bias"], 0)  # noqa: E731
    mean, var = z.mean((0, 1, 2)), z.var((0, 1, 2))
    y, changed = jax.jit(partial(unit.apply, train=True, mutable=["batch_stats"]))(variables, x)
    np.testing.assert_allclose(y, expected(mean, var), rtol=1e-4, atol=1e-5)
    new = changed["batch_stats"]["bn"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(unit.apply)(variables, x), expected(old["mean"], old["var"]), rtol=1e-4, atol=1e-5)


def test_row_108_heads_are_sown_in_training_alone():
    """Variables hold nothing of them but their weights, and `apply` gives their logits beside what it was given."""
    net, x = GoogLeNet(classes=7, auxiliary=True), images(32, batch=2)
    variables, apply = shapes(net, 32), functional(net).apply
    assert variables.keys() == {"params", "batch_stats"}
    assert {"aux1", "aux2"} < variables["params"].keys()
    run = lambda variables, x, **how: net.apply(variables, x, rngs={"dropout": jax.random.key(0)}, **how)  # noqa: E731
    wanted = ["batch_stats", "auxiliary"]
    logits, changed = jax.eval_shape(partial(run, train=True, mutable=wanted), variables, x)
    assert jax.tree.map(jnp.shape, changed["auxiliary"]) == {"aux1": {"logits": (2, 7)}, "aux2": {"logits": (2, 7)}}
    assert logits.shape == (2, 7)
    assert "auxiliary" not in jax.eval_shape(partial(run, train=False, mutable=wanted), variables, x)[1]
    trained = lambda variables, x: apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)})[1]  # noqa: E731
    after = jax.eval_shape(trained, variables, x)
    assert jax.tree.map(jnp.shape, after.pop("auxiliary")) == jax.tree.map(jnp.shape, changed["auxiliary"])
    assert jax.tree.structure(after) == jax.tree.structure(variables)
    assert jax.tree.structure(jax.eval_shape(functional(net).init, jax.random.key(0), x)) == jax.tree.structure(variables)
    assert not {"aux1", "aux2"} & counts(GoogLeNet()).keys()


def test_row_108_googlenets_dropout():
    assert [GoogLeNet().dropout, GoogLeNetPaper().dropout, GoogLeNet().head_dropout, GoogLeNetPaper().head_dropout] == [0.2, 0.4, 0.7, 0.7]


def test_images_that_are_too_small_are_said_in_words():
    message = "GoogLeNet: pooling after inception3b, a window of 3, does not fit into 1 × 2 pixels; the least image is 15 × 15, got 14 × 15"
    with pytest.raises(InputError, match=message):
        shapes(GoogLeNet(), (14, 15))
    GoogLeNet().check((1, 15, 15, 3))
    GoogLeNetPaper().check((1, 31, 31, 3))
    message = (
        "GoogLeNet with its heads: pooling in aux1, a window of 5, does not fit into 2 × 2 pixels; the least image is 79 × 79, got 31 × 31"
    )
    with pytest.raises(InputError, match=message):
        shapes(GoogLeNetPaper(auxiliary=True), 31)
    GoogLeNetPaper(auxiliary=True).check((1, 79, 79, 3))
