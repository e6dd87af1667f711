"""Rows 38, 39, 52-54: the regimes train as NumPy does, the noise follows its law, and what diverges stays out of the figures."""

import itertools
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import batch_regimes, command
from experiments.batch_regime_figures import regimes, rising, title
from experiments.batch_regimes import Config, batches_of, change, exact_noise, law, noise_sizes
from experiments.descent import best, final_loss, learner
from jaxnn import data
from jaxnn.types import InputError
from tests import oracles

SMALL = "--data mnist_5k --images 8 --batch-sizes 1 --epochs 2 --seeds 2 --watch 3 --shuffles 2 --learning-rates 0.1 1e38"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(quick, run_once):
    """A run of one sample and the full batch, at a rate that learns and one that overflows."""
    quick.setattr(batch_regimes, "TIMED_RUNS", 1)
    return run_once(batch_regimes, SMALL, "gradient_noise")


@pytest.fixture(scope="module")
def few():
    return jax.device_put(data.load("mnist_5k", "train[:8]").arrays)


def by_hand(params, images, labels):
    """Mean loss, and the gradients of each example, of [784, 30, 10] with sigmoid units and softmax, in float64."""
    weights, biases = ([np.asarray(params[layer][name], float) for layer in ("hidden_1", "output")] for name in ("kernel", "bias"))
    x, targets = np.asarray(images).reshape(len(images), -1) / 255, np.eye(10)[np.asarray(labels)]
    each = [oracles.softmax_loss_and_gradients(weights, biases, x[[i]], targets[[i]]) for i in range(len(x))]
    losses, gradients = zip(*each, strict=True)
    return np.mean(losses), gradients


def flat(gradient):
    return np.concatenate([part.ravel() for side in gradient for part in side])


def of_seed(params, seed):
    return jax.tree.map(lambda x: np.asarray(x[seed], float), params)


def test_row_53_the_full_batch_descends_as_numpy_does(kept, few):
    params = of_seed(batch_regimes.starts(2, few), 1)
    for epoch in range(3):
        loss, gradients = by_hand(params, few["image"], few["label"])
        assert kept.history["loss/8"][1, 0, epoch] == pytest.approx(loss, rel=1e-5)
        for number, layer in enumerate(("hidden_1", "output")):
            for side, name in enumerate(("kernel", "bias")):
                params[layer][name] = params[layer][name] - 0.1 * np.mean([gradient[side][number] for gradient in gradients], axis=0)


def test_row_38_row_52_one_sample_a_step_follows_one_example_alone(few):
    """w - ηΔE(x_i; w), and the mini-batch's step is the mean of its examples' (row 54)."""
    descent, (init_key, step_key) = learner(0.5), jax.random.split(jax.random.key(0))
    state = jax.jit(descent.init)(init_key, few)
    before = jax.tree.map(lambda x: np.asarray(x, float), state.variables["params"])
    _, gradients = by_hand(before, few["image"], few["label"])
    for rows in ([3], [1, 4, 6]):
        batch = {name: np.asarray(values)[rows] for name, values in few.items()}
        after, _ = jax.jit(descent.step)(jax.random.clone(step_key), state, batch)
        kernel = np.mean([gradients[row][0][0] for row in rows], axis=0)
        expected = before["hidden_1"]["kernel"] - 0.5 * kernel
        np.testing.assert_allclose(after.variables["params"]["hidden_1"]["kernel"], expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_noise_of_all_batches_is_the_law_and_the_variance_numpy_s(few, size):
    """Every one of the C(8, m) batches, so that the mean over them is the expectation itself."""
    rng = np.random.default_rng(0)
    params = {
        "hidden_1": {"kernel": rng.normal(0, 0.05, (1, 784, 30)), "bias": rng.normal(0, 0.05, (1, 30))},
        "output": {"kernel": rng.normal(0, 0.2, (1, 30, 10)), "bias": rng.normal(0, 0.2, (1, 10))},
    }
    params = jax.tree.map(np.float32, params)
    _, gradients = by_hand(of_seed(params, 0), few["image"], few["label"])
    each = np.stack([flat(gradient) for gradient in gradients])
    variance = ((each - each.mean(0)) ** 2).sum(-1).mean()
    batches = np.array(list(itertools.combinations(range(8), size)))
    assert len(batches) == comb(8, size)
    exact, full = exact_noise(params, few)
    np.testing.assert_allclose(exact.variance, [variance], rtol=1e-4)
    np.testing.assert_allclose(exact.signal, [(each.mean(0) ** 2).sum()], rtol=1e-4)
    sampled = batch_regimes.sampled_noise(jnp.array(batches)[None], params, full, few)
    np.testing.assert_allclose(sampled, [variance / size * (8 - size) / 7], rtol=1e-4, atol=1e-9 * variance)


def test_batches_of_an_epoch_hold_every_image_once():
    orders = np.stack([np.random.default_rng(seed).permutation(7) for seed in range(4)]).reshape(2, 2, 7)
    batches = batches_of(orders, 3)
    assert batches.shape == (2, 4, 3)
    np.testing.assert_array_equal(batches[1, :2].ravel(), orders[1, 0, :6])
    np.testing.assert_array_equal(batches[1, 2:].ravel(), orders[1, 1, :6])


def test_row_39_the_regimes_of_a_run_end_with_the_full_batch():
    assert regimes((100, 1, 1), 1000) == [1, 100, 1000]
    assert regimes((), 5) == regimes((5,), 5) == [5]
    assert [title(m, 20) for m in (1, 10, 20)] == ["one sample", "mini-batch 10", "full batch 20"]
    assert noise_sizes((1, 10, 1000), 1000) == [1, 10, 900]
    assert noise_sizes((2,), 2) == [1]


def test_oscillation_by_hand():
    """Falls all the way; rises twice in four steps; diverges."""
    watched = np.array([[[4.0, 3.0, 2.0, 1.0, 0.5], [1.0, 2.0, 1.0, 2.0, 1.0], [1.0, 2.0, np.inf, np.nan, 1.0]]])
    np.testing.assert_array_equal(rising(watched), [[0.0, 0.5, np.nan]])
    np.testing.assert_allclose(change(watched), [[np.std([1, 1, 1, 0.5]) / 2.1, 1 / 1.4, np.nan]])


def test_the_best_rate_is_one_at_which_no_seed_diverged():
    loss = np.array([[[9.0, 3.0], [9.0, 2.0], [9.0, 0.1]], [[9.0, 5.0], [9.0, 1.0], [9.0, np.nan]]])
    diverged_at = np.array([[-1, -1, -1], [-1, -1, 4]])
    np.testing.assert_array_equal(final_loss(loss, diverged_at), [4.0, 1.5, np.inf])
    assert best(loss, diverged_at) == 1
    assert best(loss, np.zeros_like(diverged_at)) == 0


def test_a_run_records_every_regime_and_draws_its_figures(kept):
    assert {path.name for path in kept.folder.glob("*.?[nv]g")} == {"gradient_noise.png", "gradient_noise.svg"}
    assert set(batch_regimes.plot(kept)) == {"loss", "learning_rates", "gradient_noise", "oscillation"}
    for m in (1, 8):
        assert kept.history[f"loss/{m}"].shape == (2, 2, 3)
        assert kept.history[f"watched_start/{m}"].shape == kept.history[f"watched_end/{m}"].shape == (2, 2, 4)
        np.testing.assert_allclose(kept.history[f"watched_start/{m}"][..., 0], kept.history["loss/8"][:, :1, 0].repeat(2, 1), rtol=1e-6)
        np.testing.assert_allclose(kept.history[f"watched_end/{m}"][:, 0, 0], kept.history[f"loss/{m}"][:, 0, -1], rtol=1e-6)
        assert (kept.history[f"epoch_seconds/{m}"] > 0).all()
    assert kept.history["noise_batch_size"].tolist() == [1, 7]
    ratio = kept.history["noise/start"][:, 0] / law(kept.history, "start", 8)[:, 0]
    np.testing.assert_allclose(ratio, 1, rtol=1e-4)  # whole epochs of single images: no chance is left
    assert (kept.meta["data"]["count"], kept.meta["seconds"].keys()) == (8, {"compile", "run", "total"})
    whats = [row.what for row in kept.comparisons]
    assert len(whats) == len(set(whats))
    assert "one sample, η = 0.1: training loss, epoch 2" in whats


def test_a_rate_that_overflows_is_marked_and_counted_and_not_drawn(kept):
    assert (kept.history["diverged_at/1"] >= 0).tolist() == [[False, True]] * 2
    drawn = batch_regimes.plot(kept)
    for figure in drawn.values():
        for ax in figure.axes:
            for line in ax.lines:
                assert np.isfinite(np.asarray(line.get_ydata(), float)).all()
    assert "4 of 8 diverged" in [text.get_text() for text in drawn["learning_rates"].axes[0].texts]


def test_a_run_in_which_all_diverge_is_recorded_without_its_lines(kept):
    history = dict(kept.history)
    for m in (1, 8):
        history |= {f"loss/{m}": np.full((2, 2, 3), np.nan), f"diverged_at/{m}": np.zeros((2, 2), int)}
        history |= {f"watched_{when}/{m}": np.full((2, 2, 4), np.nan) for when in ("start", "end")}
    for when in ("start", "end"):
        history |= {f"{name}/{when}": np.full(history[f"{name}/{when}"].shape, np.nan) for name in ("noise", "signal", "variance")}
    for figure in batch_regimes.plot(kept._replace(history=history)).values():
        figure.draw_without_rendering()
        assert not any(len(line.get_xdata()) for ax in figure.axes for line in ax.lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"epochs": -1}, "--epochs must be at least 1, got -1"),
        ({"images": 1, "batch_sizes": (1,)}, "--images must be at least 2, got 1"),
        ({"batch_sizes": (1, 0)}, "--batch-sizes must be at least 1, got 1 0"),
        ({"batch_sizes": (1, 2000)}, "--batch-sizes must not exceed --images 1000, got 2000"),
        ({"learning_rates": (0.1, -1.0)}, "--learning-rates must be above 0 and finite, got -1.0"),
        ({"learning_rates": (0.1, float("nan"))}, "--learning-rates must be above 0 and finite, got nan"),
        ({"learning_rates": ()}, "--same-rate must be one of --learning-rates"),
        ({"same_rate": 0.2}, "--same-rate must be one of --learning-rates"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_more_images_than_there_are_is_a_paragraph(tmp_path, capsys):
    args = ["--data", "mnist_5k", "--images", "5000", "--results", str(tmp_path)]
    assert command.execute(Config, batch_regimes.run, batch_regimes.plot, args) == 2
    assert "reaches beyond the 4000 examples of train" in capsys.readouterr().err
