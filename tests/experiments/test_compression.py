"""Rows 50 and 159: what is pruned stays pruned while the rest learns, errors and bytes are those of the nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import compression
from experiments.compression import Config, compare_all, errors, prune, round_weights, shares, sizes
from jaxnn import data
from jaxnn.compress import prune_weights
from jaxnn.types import InputError

SMALL = (
    "--data mnist_5k --images 60 --hidden 8 --steps 12 --retrain-steps 6 --batch-size 20 --shares 0.5 0.9 --bits 8 2 --seeds 2 "
    "--quantized-share 0.9"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(compression, SMALL, "pruning")


def params(seeds=2):
    rng = np.random.default_rng(0)
    shapes = {"hidden_1": (784, 8), "output": (8, 10)}
    one = {n: {"kernel": rng.normal(size=(seeds, *shape)), "bias": rng.normal(size=(seeds, shape[1]))} for n, shape in shapes.items()}
    return jax.tree.map(np.float32, one)


def test_row_50_pruning_less_or_training_on_hurts_less(kept):
    history = kept.history
    assert history["loss"].shape == (2, 12)
    for kind in compression.KINDS:
        np.testing.assert_allclose(history[f"pruned/{kind}"][:, 0], history["float/dense"], atol=1e-3)  # a share of 0
        assert history[f"retrained/{kind}"].shape == (2, 3)
    assert np.median(history["pruned/weights"][:, 1]) <= np.median(history["pruned/random"][:, 1])
    assert (history["retrained/weights"].mean(0) <= history["pruned/weights"].mean(0)).all()


def test_row_50_what_is_pruned_stays_pruned_in_the_file_of_the_retrained_net(kept):
    """Its bytes are those of the net before it was trained on: a bitmap for each layer and the floats that are left."""
    for kind in ("weights", "random"):
        np.testing.assert_array_equal(kept.history[f"bytes_retrained/{kind}"], kept.history[f"bytes_pruned/{kind}"])
        assert (kept.history[f"bytes_pruned/{kind}"][:, 0] == 4 * (784 * 8 + 80 + 18)).all()
        left = 6352 - round(0.9 * 6352)
        assert (kept.history[f"bytes_pruned/{kind}"][:, 2] <= 784 + 10 + 4 * (left + 18)).all()
    for at, units in ((0, 8), (1, 4), (2, 1)):
        assert (kept.history["bytes_retrained/units"][:, at] == 4 * (784 * units + units + 10 * units + 10)).all()


def test_row_159_fewer_bits_take_fewer_bytes(kept):
    """Eight bits round the shipped net to the same answers within a few images; bytes by hand."""
    size = kept.history["bytes_quantized/dense/full"]
    assert (size[:, 0] == 784 * 8 + 80 + 2 * 4 + 4 * 18).all()
    assert (size[:, 1] <= (784 * 8 + 80) // 4 + 2 * 4 + 4 * 18).all()
    assert (kept.history["bytes_quantized/sparse/clipped"] < size).all()
    np.testing.assert_allclose(kept.history["quantized/dense/full"][:, 0], kept.history["float/dense"], atol=2)


def test_errors_by_hand():
    test = {name: values[:50] for name, values in data.load("mnist_5k", "test").arrays.items()}
    nets = params()
    found = errors(nets, jax.device_put(test))
    for seed in range(2):
        layers = [jax.tree.map(lambda leaf, seed=seed: np.asarray(leaf[seed], float), nets[name]) for name in ("hidden_1", "output")]
        x = np.maximum(test["image"].reshape(50, -1) / 255 @ layers[0]["kernel"] + layers[0]["bias"], 0)
        wrong = (x @ layers[1]["kernel"] + layers[1]["bias"]).argmax(-1) != test["label"]
        assert found[seed] == pytest.approx(100 * wrong.mean(), abs=1e-3)
    assert sizes(nets).tolist() == [4 * (784 * 8 + 80 + 18)] * 2


def test_each_kind_prunes_its_share():
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), params())
    count = lambda net: sum(int(np.count_nonzero(net[name]["kernel"])) for name in net)  # noqa: E731
    assert count(prune("weights", one, jnp.float32(0.75))) == count(prune("random", one, jnp.float32(0.75))) == 6352 - 4764
    assert count(prune("units", one, jnp.float32(0.75))) == 2 * (784 + 10)
    magnitudes = [np.abs(prune(kind, one, jnp.float32(0.75))["hidden_1"]["kernel"]).sum() for kind in ("weights", "random")]
    assert magnitudes[0] > 1.5 * magnitudes[1]


def test_rounding_leaves_biases_and_zeros_alone():
    one = jax.vmap(lambda net: prune_weights(net, 0.5))(jax.tree.map(jnp.asarray, params()))
    for rounding in compression.ROUNDINGS:
        after = round_weights(one, rounding, 4)
        for name in one:
            np.testing.assert_array_equal(after[name]["bias"], one[name]["bias"])
            assert not np.asarray(after[name]["kernel"])[np.asarray(one[name]["kernel"]) == 0].any()
            assert all(8 < len(np.unique(kernel)) <= 15 for kernel in after[name]["kernel"])


def test_the_table_and_the_figures_show_every_net(kept):
    config = Config(hidden=8, shares=(0.5, 0.9), bits=(8, 2))
    assert shares(config) == [0.0, 0.5, 0.9]
    rows = [row.what for row in compare_all(config, kept.history)]
    assert len(rows) == 1 + 3 * 2 * 2 + 2 * 2 * 2
    assert rows[0] == f"float32, {4 * 6370 / 1000:.1f} kB: test error, %"
    for figure in compression.plot(kept).values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.5, 1.0)}, "--shares must lie between 0 and 1, got 0.5 1.0"),
        ({"quantized_share": 0.6}, "--quantized-share must be one of --shares"),
        ({"bits": (8, 16)}, "--bits must be from 2 to 8, got 8 16"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
