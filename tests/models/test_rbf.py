"""An RBF network beside NumPy and scikit-learn; more centres than points are named."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional, rbf
from jaxnn.types import InputError

outputs = jax.jit(rbf.outputs)
least_squares = jax.jit(rbf.least_squares, static_argnums=4)


@pytest.fixture(scope="module")
def clouds():
    """90 points around three corners, and what a net should say of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4))[rng.integers(0, 3, 90)] * 3 + rng.normal(size=(90, 4))
    return jnp.asarray(x, jnp.float32), jnp.asarray(np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], 1), jnp.float32)


def by_hand(net, x):
    """Σ_m w_m exp(-‖x - c_m‖² / 2σ_m²) + b in float64, one point and one unit after the other."""
    centres, log_widths, weights, bias = (np.asarray(part, float) for part in net)
    rows = []
    for point in np.asarray(x, float):
        row = bias.copy()
        for c, log_width, w in zip(centres, log_widths, weights, strict=True):
            row += w * np.exp(-((point - c) ** 2).sum() / (2 * np.exp(log_width) ** 2))
        rows.append(row)
    return np.array(rows)


def random_net(units=5, inputs=4, features=2):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (units, inputs), (units,), (units, features), (features,)
    return rbf.RBF(*(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)))


def test_row_28_outputs_by_hand(clouds):
    x, _ = clouds
    net = random_net()
    np.testing.assert_allclose(outputs(net, x), by_hand(net, x), atol=1e-5)
    np.testing.assert_allclose(outputs(net, x[7]), by_hand(net, x[7:8])[0], atol=1e-5)


def test_row_28_as_many_parameters_as_an_mlp_of_as_many_hidden_units():
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    nets = rbf.functional_rbf(30, 10, width=1.0), functional(MLP((30, 10)))
    counts = [sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), x))) for net in nets]
    assert counts == [30 * (784 + 1 + 10) + 10] * 2


def test_row_28_with_a_centre_at_every_point_it_interpolates():
    """Broomhead and Lowe's strict interpolation."""
    x = jnp.linspace(-1, 1, 9)[:, None]
    targets = jnp.sin(4 * x)
    net = least_squares(x, jnp.full(9, 0.25), x, targets)
    np.testing.assert_allclose(outputs(net, x), targets, atol=2e-4)


def test_lloyd_s_iterations_are_scikit_learn_s(clouds):
    cluster = pytest.importorskip("sklearn.cluster")
    x, _ = clouds
    theirs = cluster.KMeans(6, init=np.asarray(x[:6]), n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(np.asarray(x))
    np.testing.assert_allclose(jax.jit(rbf.lloyd, static_argnums=2)(x[:6], x, theirs.n_iter_), theirs.cluster_centers_, atol=1e-5)
    assert theirs.n_iter_ > 2


def test_a_centre_without_points_stays():
    x = jnp.array([[0.0], [1.0]])
    np.testing.assert_allclose(jax.jit(rbf.lloyd, static_argnums=2)(jnp.array([[0.4], [9.0]]), x, 3), [[0.5], [9.0]])


def test_a_start_by_k_means_plus_plus_takes_each_distinct_point_once():
    """A point that is taken has distance 0, hence probability 0."""
    x = jnp.arange(5.0).repeat(20)[:, None]
    start = jax.jit(rbf.spread_out, static_argnums=2)(jax.random.key(0), x, 5)
    assert sorted(start[:, 0].tolist()) == [0, 1, 2, 3, 4]


def test_k_means_finds_the_clouds():
    corners = np.array([[0, 0], [10, 0], [0, 10]])
    x = jnp.asarray(np.repeat(corners, 30, 0) + np.random.default_rng(1).normal(size=(90, 2)), jnp.float32)
    centres = np.asarray(jax.jit(rbf.k_means, static_argnums=2)(jax.random.key(0), x, 3))
    np.testing.assert_allclose(centres[np.lexsort(centres.round().T)], corners[np.lexsort(corners.T)], atol=0.6)


def test_widths_by_hand():
    centres = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    np.testing.assert_allclose(rbf.nearest_widths(centres, 1), [1, np.sqrt(18), 1], rtol=1e-6)
    np.testing.assert_allclose(rbf.nearest_widths(centres), np.sqrt([(25 + 1) / 2, (25 + 18) / 2, (18 + 1) / 2]), rtol=1e-6)
    np.testing.assert_allclose(rbf.common_width(centres), [5 / np.sqrt(6)] * 3, rtol=1e-6)


def test_centres_that_coincide_have_a_width():
    widths = rbf.nearest_widths(jnp.array([[0.0], [0.0], [4.0]]), 1)
    np.testing.assert_allclose(widths, [0.004, 0.004, 4.0])


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_row_28_the_output_is_scikit_learn_s_regression(clouds, ridge):
    linear = pytest.importorskip("sklearn.linear_model")
    x, targets = clouds
    net = least_squares(x[:8], jnp.full(8, 2.0), x, targets, ridge)
    hidden = np.exp(-(np.linalg.norm(np.asarray(x, float)[:, None] - np.asarray(x[:8]), axis=-1) ** 2) / 8)
    theirs = (linear.Ridge(ridge) if ridge else linear.LinearRegression()).fit(hidden, np.asarray(targets, float))
    np.testing.assert_allclose(net.weights, theirs.coef_.T, atol=2e-3)
    np.testing.assert_allclose(net.bias, theirs.intercept_, atol=2e-3)


def test_two_stages_learn_without_a_step_of_descent(clouds):
    x, targets = clouds
    errors = []
    for units in (3, 30):
        net = jax.jit(partial(rbf.two_stages, units=units, nearest=2, ridge=1e-3))(jax.random.key(0), x, targets)
        errors.append(jnp.mean((outputs(net, x) - targets) ** 2))
    assert errors[1] < 0.5 * errors[0] < 0.5 * targets.var()


def test_row_28_all_of_it_learns_by_gradient(clouds):
    x, targets = clouds
    pair = rbf.functional_rbf(12, 2, width=2.0, centres_init=lambda key, shape, dtype: x[: shape[0]])
    learner = supervised(*pair, losses.mean_squared_error, optax.adam(0.05), preprocess=lambda batch: (batch["x"], batch["y"]))
    batch = {"x": x, "y": targets}
    start = state = jax.jit(learner.init)(jax.random.key(0), batch)
    step = jax.jit(learner.step)
    for _ in range(100):
        state, metrics = step(jax.random.key(1), state, batch)
    assert metrics["loss"] < 0.3 * targets.var()
    for before, after in zip(start.variables["params"], state.variables["params"], strict=True):
        assert (before != after).any()
    np.testing.assert_allclose(jax.jit(learner.predict)(state, {**batch, "label": None}), by_hand(state.variables["params"], x), atol=1e-4)


@pytest.mark.parametrize("units", [0, 11])
def test_more_centres_than_points_are_named(units):
    x = jnp.zeros((10, 2))
    with pytest.raises(InputError, match=f"{units} centres cannot be placed on 10 points"):
        rbf.two_stages(jax.random.key(0), x, x, units=units)


@pytest.mark.parametrize("nearest", [0, 3])
def test_more_neighbours_than_centres_are_named(nearest):
    with pytest.raises(InputError, match=f"the {nearest} nearest of 2 other centres do not exist"):
        rbf.nearest_widths(jnp.zeros((3, 2)), nearest)


def test_a_ridge_below_zero_is_named():
    with pytest.raises(InputError, match="ridge must be at least 0, got -1"):
        rbf.least_squares(jnp.zeros((1, 1)), jnp.ones(1), jnp.zeros((1, 1)), jnp.zeros((1, 1)), -1.0)


def test_widths_that_cannot_be_are_named():
    with pytest.raises(InputError, match=r"width must be above 0, got 0.0"):
        rbf.functional_rbf(2, 1, width=0.0)
    with pytest.raises(InputError, match=r"widths must be above 0, got 0.0: do centres coincide"):
        rbf.least_squares(jnp.ones((2, 1)), rbf.nearest_widths(jnp.ones((2, 1)), 1), jnp.ones((3, 1)), jnp.ones((3, 1)))
    with pytest.raises(InputError, match="takes at least 2 of them, got 1"):
        rbf.common_width(jnp.ones((1, 1)))
