"""Row 168: the saws are what they should be, weights are counted by hand, probes and batch training against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import depth_and_width
from experiments.depth_and_width import (
    GRID,
    Config,
    chosen,
    compare_all,
    evaluated,
    key,
    layers,
    pieces,
    probe_errors,
    saw,
    weights,
    width_for,
)
from experiments.depth_and_width_figures import middle
from jaxnn import data
from jaxnn.models import MLP
from jaxnn.types import InputError

SMALL = (
    "--data mnist_5k --saws 1 3 --depths 1 2 --budgets 4000 --learning-rates 0.1 1e30 --images 40 --validation-images 20 "
    "--batch-size 10 --steps 10 --seeds 2 --batch-images 30 --mini-batch 5 --batch-steps 40"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(depth_and_width, SMALL, "digits")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_row_168_depth_folds_the_interval(depth):
    """tent(tent(… x)) by hand, and 2^depth pieces of slope ±2^depth."""
    x = np.linspace(0, 1, GRID + 1)
    expected = x
    for _ in range(depth):
        expected = np.where(expected < 0.5, 2 * expected, 2 - 2 * expected)
    model, params = saw(depth)
    drawn = np.asarray(model.apply({"params": params}, jnp.asarray(x, jnp.float32)[:, None]))[:, 0]
    np.testing.assert_array_equal(drawn, expected.astype(np.float32))
    assert pieces(drawn) == 2**depth
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 7 + 6 * (depth - 1)


def test_row_168_one_hidden_layer_of_n_units_has_at_most_n_plus_1_pieces():
    rng, x = np.random.default_rng(0), jnp.linspace(0, 1, GRID + 1)[:, None]
    model = MLP((5, 1), jax.nn.relu)
    kinks = np.linspace(0.1, 0.9, 5)
    sizes = rng.choice([-1.0, 1.0], 5)
    params = {"hidden_1": {"kernel": sizes[None], "bias": -sizes * kinks}, "output": {"kernel": np.ones((5, 1)), "bias": np.zeros(1)}}
    values = np.asarray(model.apply({"params": jax.tree.map(jnp.float32, params)}, x))[:, 0]
    kink_slopes = np.abs(np.diff(np.diff(values.astype(float)) * GRID)) > 0.5  # a kink between two points of the grid is seen twice
    assert 1 + np.count_nonzero(kink_slopes & ~np.roll(kink_slopes, 1)) <= 6


def test_row_168_depth_adds_weights_at_a_width_and_takes_width_at_a_budget():
    shapes = lambda width, depth: jax.eval_shape(  # noqa: E731
        MLP((width,) * depth + (10,)).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 784), jnp.float32)
    )
    for width, depth in ((3, 1), (7, 4), (30, 8)):
        assert weights(width, depth) == sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(shapes(width, depth)))
    assert [weights(30, depth) for depth in (1, 2, 3)] == [23_860, 24_790, 25_720]
    widths = [width_for(40_000, depth) for depth in (1, 2, 4, 8)]
    assert widths == sorted(widths, reverse=True)
    for depth, width in zip((1, 2, 4, 8), widths, strict=True):
        assert weights(width, depth) <= 40_000 < weights(width + 1, depth)


def test_row_168_the_layers_are_those_of_the_net_and_the_probe_is_least_squares():
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, test = (data.load("mnist_5k", split).arrays for split in ("train[:60]", "test[:50]"))
    model, rng = MLP((6, 5, 10), jax.nn.relu), np.random.default_rng(0)
    shapes = {"hidden_1": (784, 6), "hidden_2": (6, 5), "output": (5, 10)}
    params = {name: {"kernel": np.float32(rng.normal(size=shape)), "bias": np.ones(shape[1], np.float32)} for name, shape in shapes.items()}
    found = layers(params, test["image"])
    logits = found[-1] @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(logits, model.apply({"params": params}, jnp.asarray(test["image"], jnp.float32) / 255), rtol=1e-3, atol=1e-3)
    errors = probe_errors(params, train, test)
    for number in (1, 2):
        peer = linear_model.LinearRegression().fit(layers(params, train["image"])[number], np.eye(10)[train["label"]])
        wrong = peer.predict(found[number]).argmax(1) != test["label"]
        assert errors[number] == pytest.approx(100 * wrong.mean())


def test_row_168_the_full_batch_descends_as_numpy_does_and_never_rises(kept):
    arrays = data.load("mnist_5k", "train[:30]").arrays
    pixels = [[image[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() / 255 for i in range(7) for j in range(7)] for image in arrays["image"]]
    x = np.column_stack([pixels, np.ones(30)])
    y, w, losses = np.eye(10)[arrays["label"]], np.zeros((50, 10)), []
    rate = 1 / np.linalg.eigvalsh(x.T @ x / 30)[-1]
    for _ in range(41):
        losses.append(0.5 * ((x @ w - y) ** 2).sum(1).mean())
        w -= rate * x.T @ (x @ w - y) / 30
    least = 0.5 * ((x @ np.linalg.lstsq(x, y, rcond=None)[0] - y) ** 2).sum(1).mean()
    at = kept.history["evaluated_at"]
    np.testing.assert_allclose(kept.history["gap/full"][0, 0], np.array(losses)[at] - least, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(kept.history["gap_exact"], np.array(losses)[at] - least, rtol=1e-6, atol=1e-9)
    assert (np.diff(kept.history["gap/full"], axis=-1) <= 1e-6).all()
    bound = np.linalg.norm(np.linalg.lstsq(x, y, rcond=None)[0]) ** 2 / (2 * rate * at[1:])  # ‖w_0 - w*‖²/(2ηt)
    assert (kept.history["gap_exact"][1:] <= bound).all()


def test_a_rate_that_overflows_is_not_chosen(kept):
    for depth in (1, 2):
        assert chosen(kept.history, 4000, depth) == 0
        assert kept.history[f"width/{key(4000, depth)}"] == width_for(4000, depth)
    rows = [row.what for row in compare_all(Config(saws=(1, 3), depths=(1, 2), budgets=(4000,), learning_rates=(0.1, 1e30)), kept.history)]
    assert rows[1] == "saw, 3 hidden layers, 19 weights (one layer: at most 7): pieces, beside 2^3"
    assert not any("1e+30" in what for what in rows)
    assert kept.history["probe_error"].shape == (2, 3)
    for figure in depth_and_width.plot(kept).values():
        figure.draw_without_rendering()


def test_every_part_is_evaluated_by_itself():
    """Softmax regression whose weights are zero: the loss is ln 10, and class 0 is what it says."""
    arrays = data.load("mnist_5k", "train[:50]").arrays
    parts = {name: {key: values[rows] for key, values in arrays.items()} for name, rows in (("a", slice(0, 10)), ("b", slice(10, 50)))}
    learner = depth_and_width.make_learner(3, 1)(0.1)
    state = jax.tree.map(lambda leaf: jnp.zeros((2, 1, *leaf.shape), leaf.dtype), jax.eval_shape(learner.init, jax.random.key(0), arrays))
    found = evaluated(learner, state, parts)
    for part in parts:
        np.testing.assert_allclose(found[part]["loss"], np.full((2, 1), np.log(10)), rtol=1e-5)
        np.testing.assert_allclose(found[part]["accuracy"], np.full((2, 1), np.mean(parts[part]["label"] == 0)), rtol=1e-5)
    assert found["a"]["accuracy"][0, 0] != found["b"]["accuracy"][0, 0]


def test_the_last_tenth_is_averaged():
    np.testing.assert_allclose(middle(np.arange(40.0).reshape(2, 20)), [18.5, 38.5])
    np.testing.assert_allclose(middle(np.array([[3.0, 2.0]])), [2.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": (100,)}, "--budgets must be at least 819, got 100"),
        ({"saws": (12,)}, "--saws must not exceed 11 layers, got 12"),
        ({"learning_rates": (0.0,)}, "--learning-rates must be above 0 and finite, got 0.0"),
        ({"images": 20}, "--batch-size must not exceed --images 20, got 50"),
        ({"mini_batch": 2000}, "--mini-batch must not exceed --batch-images 1000, got 2000"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
