"""Rows 50 and 167: the penalties against the closed forms of ridge regression and the lasso, and against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.learners.backpropagation import Layer
from jaxnn.models import MLP, functional
from jaxnn.models.neuron import Neurons
from jaxnn.models.rbf import RBF
from jaxnn.optimizers import sgd
from jaxnn.penalties import l1, l2, shrink, soft_threshold
from jaxnn.train import fit
from jaxnn.types import InputError

RATE = 0.3


@pytest.fixture(scope="module")
def regression():
    """24 examples of 5 features in float64; the truth has two zeros."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 5))
    return x, x @ np.array([2.0, -1.0, 0.0, 0.5, 0.0]) + 0.3 + 0.1 * rng.normal(size=24)


def orthogonal(x):
    """Centred features with XᵀX = N·I."""
    q = np.linalg.qr(x - x.mean(0))[0]
    return q * np.sqrt(len(x))


def fitted(x, y, **how):
    """(w, b) of a linear net after full-batch descent."""
    data = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y, jnp.float32)[:, None]}
    learner = supervised(
        *functional(MLP((1,))),
        losses.half_squared_error,
        how.pop("optimizer", sgd(RATE)),
        preprocess=lambda batch: (batch["x"], batch["y"]),
        **how,
    )
    layer = fit(learner, jax.random.key(0), data, num_steps=400, label=None).state.variables["params"]["output"]
    return np.asarray(layer["kernel"])[:, 0], float(layer["bias"][0])


def ridge(x, y, strength):
    """(XᵀX/N + λI)⁻¹ Xᵀy/N of centred data: the bias is free."""
    centred, target = x - x.mean(0), y - y.mean()
    w = np.linalg.solve(centred.T @ centred / len(x) + strength * np.eye(x.shape[1]), centred.T @ target / len(x))
    return w, y.mean() - x.mean(0) @ w


def test_row_167_l2_gives_the_ridge_solution_with_a_free_bias(regression):
    x, y = regression
    w, b = fitted(x, y, penalty=lambda params: 0.5 * l2(params))
    expected, bias = ridge(x, y, 0.5)
    np.testing.assert_allclose(w, expected, atol=1e-5)
    assert b == pytest.approx(bias, abs=1e-5)


def test_row_167_l2_agrees_with_scikit_learn(regression):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = regression
    w, b = fitted(x, y, penalty=lambda params: 0.5 * l2(params))
    peer = linear_model.Ridge(alpha=0.5 * len(x)).fit(x, y)  # scikit-learn sums over examples
    np.testing.assert_allclose(w, peer.coef_, atol=1e-5)
    assert b == pytest.approx(peer.intercept_, abs=1e-5)


def test_row_167_l1_on_an_orthogonal_design_is_the_soft_threshold_of_least_squares(regression):
    x, y = orthogonal(regression[0]), regression[1]
    least_squares = x.T @ y / len(x)
    w, _ = fitted(x, y, optimizer=optax.chain(sgd(RATE), shrink(RATE * 0.4)))
    expected = np.sign(least_squares) * np.maximum(np.abs(least_squares) - 0.4, 0)
    assert 0 < np.count_nonzero(expected == 0) < 5
    np.testing.assert_allclose(w, expected, atol=1e-5)
    np.testing.assert_array_equal(w == 0, expected == 0)  # exact zeros


def test_row_167_l1_agrees_with_scikit_learn(regression):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = regression
    w, b = fitted(x, y, optimizer=optax.chain(sgd(RATE), shrink(RATE * 0.2)))
    peer = linear_model.Lasso(alpha=0.2, tol=1e-10).fit(x, y)
    np.testing.assert_allclose(w, peer.coef_, atol=1e-5)
    assert b == pytest.approx(peer.intercept_, abs=1e-5)
    np.testing.assert_array_equal(w == 0, peer.coef_ == 0)


def test_a_gradient_of_l1_finds_the_lasso_without_exact_zeros(regression):
    x, y = orthogonal(regression[0]), regression[1]
    w, _ = fitted(x, y, optimizer=sgd(0.01), penalty=lambda params: 0.4 * l1(params))
    least_squares = x.T @ y / len(x)
    lasso = np.sign(least_squares) * np.maximum(np.abs(least_squares) - 0.4, 0)
    np.testing.assert_allclose(w, lasso, atol=0.04)
    assert np.count_nonzero(w == 0) == 0 < np.count_nonzero(lasso == 0)


def test_row_50_biases_go_free():
    params = {"hidden_1": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([7.0, 7.0])}, "norm": {"scale": jnp.array([7.0])}}
    assert l2(params) == 2.5
    assert l1(params) == 3.0
    assert l2({}) == l1({}) == 0
    zeros = jax.tree.map(jnp.zeros_like, params)
    moved, _ = shrink(1.5).update(zeros, shrink(1.5).init(params), params)
    after = optax.apply_updates(params, moved)
    np.testing.assert_array_equal(after["hidden_1"]["kernel"], [[0.0, -0.5]])
    np.testing.assert_array_equal(after["hidden_1"]["bias"], [7.0, 7.0])
    np.testing.assert_array_equal(after["norm"]["scale"], [7.0])


def test_the_soft_threshold_minimises_what_it_says():
    """½(v - w)² + t|v| on a grid of v."""
    w, v = np.linspace(-2, 2, 9), np.linspace(-3, 3, 6001)
    best = v[np.argmin(0.5 * (v - w[:, None]) ** 2 + 0.7 * np.abs(v), axis=1)]
    np.testing.assert_allclose(soft_threshold(jnp.asarray(w, jnp.float32), 0.7), best, atol=1e-3)


def test_shrink_without_parameters_is_refused():
    with pytest.raises(InputError, match="shrink needs the parameters"):
        shrink(0.1).update({"kernel": jnp.ones((1, 1))}, optax.EmptyState())


def test_row_50_biases_thresholds_and_centres_go_free_in_every_kind_of_net():
    rbf = RBF(jnp.ones((2, 3)), jnp.ones(2), 2 * jnp.ones((2, 4)), jnp.ones(4))
    neurons, layer = Neurons(2 * jnp.ones((3, 1)), jnp.ones(1)), Layer(2 * jnp.ones((2, 2)), jnp.ones(2))
    assert [float(l1(params)) for params in (rbf, neurons, layer)] == [16, 6, 8]
