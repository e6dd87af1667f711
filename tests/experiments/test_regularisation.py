"""Rows 50 and 167: the regression against the closed form of ridge, the conditions of the lasso and scikit-learn; the digits' penalties."""

import numpy as np
import pytest

from experiments import regularisation
from experiments.regularisation import EDGES, Config, chosen, compare_all, compared, examples, mislabelled, truth
from jaxnn.types import InputError

SMALL = (
    "--data mnist_5k --features 8 --relevant 3 --examples 30 --noise 1 --regression-strengths 0.1 0.4 --regression-steps 500 "
    "--images 20 --validation-images 20 --hidden 4 --strengths 0.01 3 --batch-size 10 --steps 15 --seeds 2"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(regularisation, SMALL, "digits")


@pytest.fixture(scope="module")
def config():
    return Config(features=8, relevant=3, examples=30, noise=1.0)


def centred(config, seed):
    data = {name: np.asarray(values, float) for name, values in examples(config, 30, [seed, 0]).items()}
    return data["x"] - data["x"].mean(0), (data["y"] - data["y"].mean())[:, 0]


def test_row_167_ridge_is_its_closed_form(kept, config):
    for seed in range(2):
        x, y = centred(config, seed)
        for number, strength in enumerate((0.0, 0.1, 0.4)):
            expected = np.linalg.solve(x.T @ x / 30 + strength * np.eye(8), x.T @ y / 30)
            np.testing.assert_allclose(kept.history["coefficients/l2"][seed, number], expected, atol=1e-4)


def test_row_167_the_lasso_meets_its_conditions(kept, config):
    """x_jᵀ(y - Xw)/N = λ sgn(w_j) where w_j ≠ 0, and at most λ in magnitude where it is 0."""
    zeros = 0
    for seed in range(2):
        x, y = centred(config, seed)
        for number, strength in ((1, 0.1), (2, 0.4)):
            w = kept.history["coefficients/l1"][seed, number]
            slope = x.T @ (y - x @ w) / 30
            np.testing.assert_allclose(slope[w != 0], strength * np.sign(w[w != 0]), atol=1e-4)
            assert (np.abs(slope[w == 0]) <= strength + 1e-4).all()
            zeros += np.count_nonzero(w == 0)
    assert zeros > 0


def test_row_167_the_errors_are_those_of_the_coefficients(kept, config):
    fresh = examples(config, 1000, [1, 1])
    x, y = examples(config, 30, [1, 0]).values()
    w = kept.history["coefficients/l1"][1, 2]
    bias = float(np.mean(y[:, 0] - x @ w))
    assert kept.history["regression_error/l1"][1, 2] == pytest.approx(np.mean((fresh["x"] @ w + bias - fresh["y"][:, 0]) ** 2), rel=1e-3)


def test_the_truth_has_small_and_large_coefficients_of_both_signs():
    np.testing.assert_array_equal(truth(Config(features=7, relevant=5)), [1, -1, 2, -2, 3, 0, 0])
    one, other = examples(Config(), 10, [0, 0]), examples(Config(), 10, [1, 0])
    assert (one["x"] != other["x"]).all()


def test_row_50_the_proximal_step_alone_makes_exact_zeros_on_digits(kept):
    zeros = {method: kept.history[f"zeros/{method}"] for method in ("l2", "l1", "l1_gradient")}
    assert zeros["l1"][:, 0].max() == zeros["l2"].max() == zeros["l1_gradient"].max() == 0
    assert (zeros["l1"][:, 2] > 0.9).all()
    for method in zeros:
        counts = kept.history[f"histogram/{method}"]
        assert counts.shape == (3, len(EDGES) - 1)
        np.testing.assert_array_equal(counts.sum(-1), 784 * 4 + 4 * 10)
    np.testing.assert_allclose(kept.history["train_loss/l1"][:, 0], kept.history["train_loss/l2"][:, 0], rtol=1e-5)


def test_a_share_of_the_labels_is_wrong():
    arrays = {"image": np.zeros((50, 1)), "label": np.arange(50, dtype=np.int32) % 10}
    wrong = mislabelled(arrays, 0.3)["label"]
    assert np.count_nonzero(wrong != arrays["label"]) == 15
    assert wrong.min() >= 0
    assert wrong.max() <= 9
    assert wrong.dtype == np.int32
    np.testing.assert_array_equal(mislabelled(arrays, 0.0)["label"], arrays["label"])
    np.testing.assert_array_equal(arrays["label"], np.arange(50) % 10)


def test_validation_images_choose_the_strength(kept):
    history = {"diverged_at/l2": np.array([[-1, -1, -1], [-1, -1, 3]]), "validation_error/l2": np.array([[9.0, 5.0, 1.0], [9.0, 7.0, 1.0]])}
    assert chosen(history, "l2") == 1
    rows = {row.what: row for row in compare_all(Config(strengths=(0.01, 3), regression_strengths=(0.1, 0.4), relevant=3), kept.history)}
    at = chosen(kept.history, "l2")
    (name,) = (what for what in rows if what.startswith("digits, L2,") and what.endswith("test error, %"))
    assert compared(kept.history)["l1_gradient"] == chosen(kept.history, "l1")
    assert rows[name].median == pytest.approx(np.median(kept.history["test_error/l2"][:, at]))


def test_all_figures_are_drawn_of_one_strength_too(kept):
    for figure in regularisation.plot(kept).values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevant": 50}, "--relevant must not exceed --features 40, got 50"),
        ({"strengths": (0.1, -1.0)}, "--strengths must be above 0 and finite, got 0.1 -1.0"),
        ({"batch_size": 600}, "--batch-size must not exceed --images 500, got 600"),
        ({"wrong_labels": 1.1}, "--wrong-labels is a share from 0 to 1, got 1.1"),
        ({"examples": 1}, "--examples must be at least 2, got 1"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
