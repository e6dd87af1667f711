"""Row 26: the series and its closed forms, PCA, the polynomials; the nets beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mlp_uses
from experiments.mlp_uses import Config, bottleneck, compare_all, hat, mackey_glass, monomials, principal_components, windows
from jaxnn.types import InputError

SMALL = (
    "--data mnist_5k --images 40 --samples 150 --noise 0 --hidden 10 --steps 80 --horizons 6 --codes 2 "
    "--bottleneck-hidden 8 --epochs 1 --batch-size 20 --seeds 1"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(mlp_uses, SMALL, "forecast")


def test_row_26_the_series_follows_its_closed_form_while_the_past_is_constant():
    """dx/dt = c - .1 x for t < 17: x = 10c + (x0 - 10c) e^(-.1 t), with c = .2 p/(1 + p^10)."""
    c = 0.2 * 0.7 / (1 + 0.7**10)
    np.testing.assert_allclose(mackey_glass(18, 1.2, 0.7), 10 * c + (1.2 - 10 * c) * np.exp(-0.1 * np.arange(18)), atol=1e-7)
    np.testing.assert_allclose(mackey_glass(18), 1.2 * np.exp(-0.1 * np.arange(18)), atol=1e-7)
    u = np.linspace(0, 1, 1001)  # from t = 17 to 18 it sees x(u) = 1.2 e^(-.1 u)
    seen = 1.2 * np.exp(-0.1 * u)
    driven = np.trapezoid(0.2 * seen / (1 + seen**10) * np.exp(-0.1 * (1 - u)), u)
    assert mackey_glass(19)[18] == pytest.approx(1.2 * np.exp(-1.8) + driven, abs=1e-5)


def test_row_26_the_series_rests_where_it_should_and_converges_with_the_step():
    np.testing.assert_allclose(mackey_glass(60, 1.0, 1.0), 1.0, atol=1e-12)  # .2/2 = .1
    coarse, fine = mackey_glass(150, per_unit=10), mackey_glass(150, per_unit=20)
    finest = mackey_glass(150, per_unit=40)
    assert np.abs(coarse - fine).max() < 5e-4
    assert np.abs(fine - finest).max() < 0.3 * np.abs(coarse - fine).max()  # of second order: ¼
    assert 0.2 < mackey_glass(600)[118:].min() < mackey_glass(600)[118:].max() < 1.4


def test_row_26_a_forecast_sees_the_past_alone():
    x, y = windows(np.arange(2000.0), 6)
    np.testing.assert_array_equal(x[0], [100, 106, 112, 118])
    np.testing.assert_array_equal(x[-1], [1099, 1105, 1111, 1117])
    np.testing.assert_array_equal(y[[0, -1]], [124, 1123])


def test_pca_loses_the_eigenvalues_that_it_leaves_out():
    x = np.random.default_rng(0).normal(size=(30, 5)) * [3, 2, 1, 0.5, 0.1]
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))
    for code in (1, 3, 5):
        error = ((principal_components(x, x, code) - x) ** 2).sum(-1).mean()
        assert error == pytest.approx(eigenvalues[: 5 - code].sum(), abs=1e-10)


def test_pca_agrees_with_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    train, test = np.random.default_rng(0).normal(size=(2, 20, 6))
    peer = decomposition.PCA(3).fit(train)
    np.testing.assert_allclose(principal_components(train, test, 3), peer.inverse_transform(peer.transform(test)), atol=1e-10)


def test_polynomials_and_the_function():
    assert monomials(np.ones((2, 2)), 11).shape == (2, 78)
    np.testing.assert_allclose(hat(np.array([[0.0, 0.0], [np.pi / 8, 0.0], [0.0, np.pi / 16]])), [1, 0, 2 / np.pi], atol=1e-12)


def test_row_26_the_bottleneck_is_its_two_halves_by_hand():
    net, x = bottleneck(2, 3), np.random.default_rng(0).random((4, 784))
    variables = jax.jit(net.init)(jax.random.key(0), jnp.asarray(x, jnp.float32))
    assert variables["params"]["encoder"]["output"]["kernel"].shape == (3, 2)
    outputs, _ = net.apply(variables, jnp.asarray(x, jnp.float32), train=True)
    for half in ("encoder", "decoder"):
        layers = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"][half])
        x = np.maximum(x @ layers["hidden_1"]["kernel"] + layers["hidden_1"]["bias"], 0)
        x = x @ layers["output"]["kernel"] + layers["output"]["bias"]
    np.testing.assert_allclose(outputs, x, atol=1e-5)


def test_row_26_a_run_of_all_three_beats_the_plane_and_the_persistence(kept):
    history = kept.history
    assert history["fit_error/mlp"] < history["fit_error/plane"]
    assert history["forecast_error/mlp/6"] < history["forecast_error/autoregression/6"] < history["forecast_error/persistence/6"]
    target, said = history["target/6"], history["forecast/mlp/6"]
    assert history["forecast_error/mlp/6"][0] == pytest.approx(np.sqrt(((said - target) ** 2).mean()) / target.std())
    assert history["rebuilt/pca/2"].shape == (10, 28, 28)
    shown = ((history["rebuilt/pca/2"] - history["shown"]) ** 2).sum((1, 2)).mean()
    assert 0.3 * shown < history["code_error/pca/2"][0] < 3 * shown
    for figure in mlp_uses.plot(kept).values():
        figure.draw_without_rendering()


def test_row_26_the_published_error_of_pca_stands_beside_full_mnist_alone(kept):
    config = Config(codes=(30,), horizons=(6,))
    history = dict(kept.history) | {"code_error/pca/30": np.ones(1), "code_error/mlp/30": np.ones(1)}
    published = lambda data: [row.published for row in compare_all(config, history, data)][-2:]  # noqa: E731
    assert published("mnist") == [13.87, None]
    assert published("mnist_5k") == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 2}, "--samples must be at least 3, got 2"),
        ({"codes": (2, 1000)}, "--codes must not exceed the 784 pixels, got 1000"),
        ({"noise": -1.0}, "--noise is a standard deviation, at least 0, got -1.0"),
        ({"horizons": (0,)}, "--horizons must be at least 1, got 0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
