"""Row 166: the linear neuron against its closed form, the pixels by hand, the sharpness against a dense Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import input_normalisation
from experiments.descent import LOSS, NET, least_squares_descent, moments, with_bias
from experiments.input_normalisation import Config, best_rate, compare_all, digit_learner, features, largest_eigenvalues, normalised, pixels
from jaxnn import data
from jaxnn.types import InputError

SMALL = "--data mnist_5k --images 40 --batch-size 20 --epochs 2 --seeds 2 --learning-rates 0.001 1.0 1e38 --linear-steps 30 --examples 20"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(input_normalisation, SMALL, "digits")


def descend(x, y, rate, steps):
    """The loss of gradient descent from zero on the mean of ½‖Xw - y‖², step by step."""
    w, found = np.zeros((x.shape[1], y.shape[1])), []
    for _ in range(steps):
        found.append(0.5 * ((x @ w - y) ** 2).sum(1).mean())
        w -= rate * x.T @ (x @ w - y) / len(x)
    return np.array(found)


def test_the_closed_form_is_gradient_descent():
    """Two outputs, three features of which one says nothing."""
    rng = np.random.default_rng(0)
    x, y = rng.normal([1, 0, 0], [1, 3, 0], (9, 3)), rng.normal(size=(9, 2))
    gap, least = least_squares_descent(x, y, 0.05, np.arange(40))
    np.testing.assert_allclose(gap + least, descend(x, y, 0.05, 40), rtol=1e-9)
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    assert least == pytest.approx(0.5 * ((x @ solution - y) ** 2).sum(1).mean())


def test_row_166_a_linear_neuron_learns_as_its_condition_number_says(kept):
    config = Config(examples=20)
    x, y = features(config)
    conditions = {}
    for name, inputs in normalised(x).items():
        eigenvalues = moments(with_bias(inputs))[0]
        np.testing.assert_allclose(kept.history[f"linear_eigenvalues/{name}"], eigenvalues, rtol=1e-9)
        by_hand = descend(with_bias(inputs), y, best_rate(eigenvalues), 30)
        least = by_hand[0] - kept.history[f"linear_exact/{name}"][0]
        np.testing.assert_allclose(kept.history[f"linear_gap/{name}"] + least, by_hand, rtol=1e-3)
        conditions[name] = kappa = eigenvalues[0] / eigenvalues[-1]
        bound = ((kappa - 1) / (kappa + 1)) ** (2 * np.arange(30)) * kept.history[f"linear_exact/{name}"][0]
        assert (kept.history[f"linear_exact/{name}"] <= bound * (1 + 1e-9)).all()
    assert conditions["standardised"] < 15 < 100 < conditions["raw"]
    assert kept.history["linear_gap/standardised"][-1] < 1e-3 * kept.history["linear_gap/raw"][-1]


def test_row_166_standardised_features_are_uncorrelated_with_the_bias():
    x = normalised(features(Config())[0])["standardised"]
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(0), 1, rtol=1e-12)


def test_row_166_pixels_by_hand():
    arrays = data.load("mnist_5k", "train[:60]").arrays
    train = arrays["image"]
    flat = train.reshape(60, -1).astype(float)
    batch = {"image": jnp.asarray(train[:7]), "label": jnp.asarray(arrays["label"][:7])}
    made = {name: np.asarray(pixels(name, train)(batch)[0]).reshape(7, -1) for name in input_normalisation.INPUTS}
    np.testing.assert_allclose(made["raw"], flat[:7], rtol=1e-6)
    np.testing.assert_allclose(made["scaled"], flat[:7] / 255, rtol=1e-6)
    deviation = flat.std(0) / 255
    expected = (flat[:7] - flat.mean(0)) / 255 / np.where(deviation > 0.01, deviation, 1)
    np.testing.assert_allclose(made["standardised"], expected, rtol=1e-4, atol=1e-5)
    assert (deviation < 0.01).any()  # some are only centred


def test_row_166_dividing_the_pixels_is_another_rate_and_another_start_of_the_first_layer():
    """Raw pixels with weights and rate of the first layer 255 and 255² times smaller learn as the scaled ones do, to rounding."""
    arrays = data.load("mnist_5k", "train[:20]").arrays
    raw, scaled = (digit_learner(pixels(name, arrays["image"]))(0.5) for name in ("raw", "scaled"))
    params = scaled.init(jax.random.key(0), arrays).variables["params"]
    shrunk = {**params, "hidden_1": {**params["hidden_1"], "kernel": params["hidden_1"]["kernel"] / 255}}
    state = raw.init(jax.random.key(0), arrays)
    after = jax.jit(scaled.step)(jax.random.key(1), state._replace(variables={"params": params}), arrays)[0].variables["params"]
    gradient_step = jax.jit(raw.step)(jax.random.key(2), state._replace(variables={"params": shrunk}), arrays)[0].variables["params"]
    moved = shrunk["hidden_1"]["kernel"] + (gradient_step["hidden_1"]["kernel"] - shrunk["hidden_1"]["kernel"]) / 255**2
    np.testing.assert_allclose(255 * moved, after["hidden_1"]["kernel"], atol=2e-5)
    np.testing.assert_allclose(gradient_step["output"]["kernel"], after["output"]["kernel"], atol=2e-5)


def test_sharpness_is_that_of_the_hessian_of_the_net():
    """By the quadratic form: no direction of 20 random ones is sharper, and the value is reached by finite differences along its own."""
    arrays = data.load("mnist_5k", "train[:12]").arrays
    x, y = pixels("scaled", arrays["image"])(jax.device_put(arrays))
    params = digit_learner(pixels("scaled", arrays["image"]))(0.1).init(jax.random.key(0), arrays).variables["params"]
    found = float(largest_eigenvalues(jax.tree.map(lambda leaf: leaf[None], params), x, y)[0])
    output = {"kernel": params["output"]["kernel"], "bias": params["output"]["bias"]}

    def of_output(flat):  # of the output layer alone: its Hessian is a block, whose λ_max is below the whole one's
        layer = {"kernel": flat[:300].reshape(30, 10), "bias": flat[300:]}
        return LOSS(NET.apply({"params": {**params, "output": layer}}, x, train=False, rngs=None)[0], y).mean()

    block = np.asarray(jax.jit(jax.hessian(of_output))(jnp.concatenate([output["kernel"].ravel(), output["bias"]])))
    largest = np.linalg.eigvalsh(block)[-1]
    assert largest * (1 - 1e-3) <= found < 3 * largest


def test_a_rate_that_overflows_is_no_best_rate_and_stays_out_of_the_figures(kept):
    rows = {row.what: row for row in compare_all(Config(learning_rates=(1e-3, 1.0, 1e38), epochs=2), kept.history)}
    assert not any("1e+38" in what for what in rows)
    for figure in input_normalisation.plot(kept).values():
        figure.draw_without_rendering()
        for line in (line for ax in figure.axes for line in ax.lines):
            assert np.isfinite(np.asarray(line.get_ydata(), float)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": (0.1, 0.0)}, "--learning-rates must be above 0 and finite, got 0.1 0.0"),
        ({"batch_size": 5000}, "--batch-size must not exceed --images 4000, got 5000"),
        ({"examples": 3}, "--examples must be at least 4, got 3"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
