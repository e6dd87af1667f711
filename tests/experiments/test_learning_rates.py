"""Rows 37, 56, 57: the quadratic in closed form, descent beside NumPy's, schedules by hand; what diverges stays out of the figures."""

import math

import jax
import numpy as np
import pytest

from experiments import command, learning_rates
from experiments.descent import learner, rises
from experiments.learning_rate_figures import chosen, closed_form
from experiments.learning_rates import SCHEDULES, Config, compare_all, descend, first_rise, schedule
from jaxnn import data
from jaxnn.types import InputError
from tests import oracles

SMALL = (
    "--data mnist_5k --images 8 --steps 3 --learning-rates 0.1 1e38 --schedules cosine step_0.5 --peaks 0.3 1e38 --high-peak 1e38 "
    "--batch-size 4 --decay-steps 8 --decay-images 8 --validation-images 6 --seeds 2 --quadratic-steps 5 --products 0.5 2.1"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    """A run of two rates, two schedules and two peaks, of which the higher overflow."""
    return run_once(learning_rates, SMALL, "decays")


@pytest.mark.parametrize("curvature", [0.25, 10.0])
def test_row_37_descent_on_a_quadratic_is_its_closed_form(curvature):
    """(1 - ηλ)^t: it crawls, arrives in one step, oscillates, oscillates for ever, diverges."""
    products = np.array([0.01, 0.5, 1.0, 1.5, 1.9, 2.0, 2.1])
    w = np.asarray(descend(products, curvature, 30))
    exact = (1 - products[:, None]) ** np.arange(31)
    np.testing.assert_allclose(w, exact, rtol=1e-3, atol=1e-6)
    signs, sizes = np.sign(w[:, :4]).tolist(), np.abs(w)
    assert signs[0] == signs[1] == [1, 1, 1, 1], "below 1/λ it does not change sides"
    assert signs[3] == signs[4] == signs[6] == [1, -1, 1, -1], "above 1/λ it does in every step"
    assert (np.diff(sizes[[0, 1, 3, 4], :10]) < 0).all(), "below 2/λ it comes nearer"
    assert (np.diff(sizes[6]) > 0).all(), "above 2/λ it goes away"
    np.testing.assert_allclose(sizes[5], 1, rtol=1e-5)


def test_the_closed_form_ends_in_infinity_and_not_in_an_error():
    np.testing.assert_allclose(closed_form(2.5, 3), [1, -1.5, 2.25, -3.375])
    assert np.isinf(closed_form(1e6, 100)[-1])


def test_row_37_full_batch_descent_on_digits_is_numpy_s(kept):
    """From the same weights, for the loss before each step; all of them are the record's."""
    few = data.load("mnist_5k", "train[:8]").arrays
    init_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 1), 4)[0]
    params = jax.jit(learner(0.1).init)(init_key, few).variables["params"]
    weights, biases = ([np.asarray(params[layer][name], float) for layer in ("hidden_1", "output")] for name in ("kernel", "bias"))
    x, targets = few["image"].reshape(8, -1) / 255, np.eye(10)[few["label"]]
    for step in range(4):
        loss, (by_weight, by_bias) = oracles.softmax_loss_and_gradients(weights, biases, x, targets)
        assert kept.history["loss"][1, 0, step] == pytest.approx(loss, rel=1e-5)
        weights = [w - 0.1 * g for w, g in zip(weights, by_weight, strict=True)]
        biases = [b - 0.1 * g for b, g in zip(biases, by_bias, strict=True)]


def test_row_56_row_57_the_schedules_by_hand():
    """Eight steps from a peak of 1, in blocks of two; a tenth is left where they end."""
    steps = np.arange(8)
    expected = {
        "constant": np.ones(8),
        "step_0.5": 0.5 ** (steps // 2),
        "step_0.2": 0.2 ** (steps // 2),
        "step_0.1": 0.1 ** (steps // 2),
        "exponential": 10 ** (-steps / 8),
        "inverse_time": 1 / (1 + 9 * steps / 8),
        "cosine": 0.1 + 0.9 * (1 + np.cos(math.pi * steps / 8)) / 2,
        "warm_up_cosine": [0, *(0.1 + 0.9 * (1 + np.cos(math.pi * np.arange(7) / 7)) / 2)],
    }
    assert set(expected) == set(SCHEDULES)
    for name, rates in expected.items():
        np.testing.assert_allclose([float(schedule(name, 1.0, 8)(step)) for step in steps], rates, rtol=1e-5)


def test_rises_by_hand():
    """Falls; rises once in three steps; becomes NaN in the last."""
    loss = np.array([[[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 1.0, 0.5], [4.0, 3.0, 2.0, np.nan]]])
    np.testing.assert_allclose(rises(loss), [[0, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(first_rise([0.1, 1.0, 10.0], loss), [1.0])
    np.testing.assert_array_equal(first_rise([0.1], loss[:, :1]), [np.nan])
    assert chosen(["cosine", "constant", "cosine"], [3.0, 0.1, 3.0]) == (["cosine", "constant"], [0.1, 3.0])


def test_a_run_records_everything_and_draws_its_figures(kept):
    history = kept.history
    assert {path.name for path in kept.folder.glob("*.?[nv]g")} == {"decays.png", "decays.svg"}
    assert set(learning_rates.plot(kept)) == {"quadratic", "constant_rates", "decays"}
    np.testing.assert_allclose(history["quadratic"], [0.5 ** np.arange(6), (-1.1) ** np.arange(6)], rtol=1e-5)
    np.testing.assert_allclose(history["convergence"], np.abs(1 - learning_rates.PRODUCTS), atol=1e-4)
    assert history["loss"].shape == (2, 2, 4)
    assert history["sharpness"].shape == (2, 2)
    assert (history["sharpness_at_start"] > 0).all()
    assert history["validation_loss"].shape == (2, 2, 2, len(history["evaluated_at"]))
    assert history["test_accuracy"].shape == (2, 2, 2)
    np.testing.assert_allclose(history["rate"][:, [0, 4]], [[1.0, 0.55], [1.0, 0.25]], rtol=1e-5)
    assert [kept.meta[name]["split"] for name in ("data", "validation", "test_data")] == ["train[:8]", "train[8:14]", "test"]
    rows = {row.what: row for row in kept.comparisons}
    assert rows["½λw², ηλ = 2.1: w after 5 steps, beside (1 - ηλ)^5"].published == pytest.approx((-1.1) ** 5)
    assert rows["cosine, best peak 0.3: test accuracy"].diverged == 0
    assert rows["cosine, peak 1e+38: validation loss"].diverged == 2


def test_what_overflows_is_marked_and_counted_and_not_drawn(kept):
    assert (kept.history["diverged_at"] >= 0).tolist() == [[False, True]] * 2
    assert (kept.history["decay_diverged_at"] >= 0).tolist() == [[[False, True]] * 2] * 2
    drawn = learning_rates.plot(kept)
    for figure in drawn.values():
        for ax in figure.axes:
            for line in ax.lines:
                assert np.isfinite(np.asarray(line.get_ydata(), float)).all()
    notes = [text.get_text() for name in ("constant_rates", "decays") for ax in drawn[name].axes for text in ax.texts]
    assert notes == ["2 of 4 diverged", "4 of 8 diverged"]


def test_a_run_in_which_all_diverge_is_drawn_without_its_lines(kept):
    history = dict(kept.history)
    for name in ("diverged_at", "decay_diverged_at"):
        history[name] = np.zeros_like(history[name])
    for name in ("loss", "validation_loss", "quadratic", "convergence"):
        history[name] = np.full_like(history[name], np.nan)
    for figure in learning_rates.plot(kept._replace(history=history)).values():
        figure.draw_without_rendering()
    rows = compare_all(
        Config(products=(0.5, 2.1), learning_rates=(0.1, 1e38), schedules=("cosine",), peaks=(0.3, 1e38), high_peak=0.3), history
    )
    assert {row.diverged for row in rows if "loss" in row.what and "raises" not in row.what} == {2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"decay_steps": 1}, "--decay-steps must be at least 2, got 1"),
        ({"curvature": 0.0}, "--curvature must be above 0 and finite, got 0.0"),
        ({"learning_rates": (0.1, float("nan"))}, "--learning-rates must be above 0 and finite, got 0.1 nan"),
        ({"peaks": (-1.0,)}, "--peaks must be above 0 and finite, got -1.0"),
        ({"high_peak": 2.0}, "--high-peak must be one of --peaks"),
        ({"products": ()}, "--products must be above 0 and finite, got none"),
        ({"batch_size": 4000}, "--batch-size must not exceed --decay-images 3000, got 4000"),
        ({"schedules": ("cosin",)}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"schedules": ()}, "--schedules needs at least one of constant"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_more_images_than_there_are_is_a_paragraph(tmp_path, capsys):
    args = ["--data", "mnist_5k", "--decay-images", "4000", "--results", str(tmp_path)]
    assert command.execute(Config, learning_rates.run, learning_rates.plot, args) == 2
    assert "reaches beyond the 4000 examples of train" in capsys.readouterr().err
