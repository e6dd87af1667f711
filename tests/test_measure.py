import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.measure import batch_gradient_noise, gradient_noise, layer_gradient_norms, sharpness
from jaxnn.types import InputError


def test_row_68_norms_of_bias_gradients_from_input_to_output():
    """Twelve layers, whose names sort as numbers: hidden_10 is the tenth and not the second."""
    gradients = {f"hidden_{i}": {"kernel": jnp.ones((2, 2)), "bias": jnp.array([3.0 * i, 4.0 * i])} for i in range(1, 12)}
    gradients["output"] = {"kernel": jnp.ones((2, 1)), "bias": jnp.array([-7.0])}
    norms = layer_gradient_norms(gradients)["gradient_norm"]
    np.testing.assert_allclose(norms, [5.0 * i for i in range(1, 12)] + [7.0], rtol=1e-6)


def test_a_layer_without_bias_has_no_row():
    gradients = {"hidden_1": {"kernel": jnp.ones((2, 2))}, "output": {"kernel": jnp.ones((2, 1)), "bias": jnp.array([2.0])}}
    np.testing.assert_allclose(layer_gradient_norms(gradients)["gradient_norm"], [2.0])


def test_a_net_without_biases_is_an_error_in_words():
    with pytest.raises(InputError, match="leaves named 'bias'"):
        layer_gradient_norms({"output": {"kernel": jnp.ones((2, 1))}})


def half_squared_error(params, batch):
    """½(w·x + b - y)² of a linear model, the mean over a batch; its gradient for one example is (w·x + b - y)(x, 1)."""
    errors = batch["x"] @ params["w"] + params["b"] - batch["y"]
    return 0.5 * jnp.mean(errors**2)


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_gradient_noise_of_a_linear_model_by_hand(rows):
    rng = np.random.default_rng(0)
    x, y, w, b = rng.normal(size=(7, 3)), rng.normal(size=7), rng.normal(size=3), 0.5
    each = (x @ w + b - y)[:, None] * np.hstack([x, np.ones((7, 1))])
    params, batch = ({"w": w, "b": np.array(b)}, {"x": x, "y": y})
    params, batch = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), (params, batch))
    noise = gradient_noise(half_squared_error, params, batch, rows)
    np.testing.assert_allclose(noise.signal, (each.mean(0) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(noise.variance, each.var(0).sum(), rtol=1e-5)


@pytest.mark.parametrize("size", range(1, 7))
def test_batch_gradient_noise_is_the_mean_over_all_batches(size):
    """All C(6, m) batches of six gradients in the plane, one by one."""
    each = np.random.default_rng(1).normal(size=(6, 2))
    squares = [((each[list(batch)].mean(0) - each.mean(0)) ** 2).sum() for batch in itertools.combinations(range(6), size)]
    assert batch_gradient_noise(each.var(0).sum(), size, 6) == pytest.approx(np.mean(squares), abs=1e-12)


def test_a_single_example_has_no_noise():
    assert batch_gradient_noise(1.0, 1, 1) == 0


def quadratic(eigenvalues, seed):
    """½vᵀHv over a tree of two leaves, for an H with these eigenvalues."""
    vectors, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    hessian = jnp.asarray(vectors @ np.diag(eigenvalues) @ vectors.T, jnp.float32)

    def loss(params):
        v = jnp.concatenate([params["a"].ravel(), params["b"]])
        return 0.5 * v @ hessian @ v

    return loss, {"a": jnp.ones((2, 2)), "b": jnp.ones(len(eigenvalues) - 4)}


@pytest.mark.parametrize("eigenvalues", [(0.1, 0.5, 1.0, 2.0, 3.0, 5.0), (-4.0, -1.0, 0.0, 0.5, 1.0, 2.0), (0.0,) * 6])
def test_sharpness_is_the_eigenvalue_of_largest_magnitude(eigenvalues):
    loss, params = quadratic(eigenvalues, seed=0)
    found = jax.jit(lambda key: sharpness(key, loss, params))(jax.random.key(0))
    assert float(found) == pytest.approx(max(eigenvalues, key=abs), abs=1e-4)


def test_sharpness_never_exceeds_the_largest_eigenvalue():
    loss, params = quadratic((0.5, 1.0, 2.0, 2.9, 2.95, 3.0), seed=1)
    found = [float(sharpness(jax.random.key(0), loss, params, iterations)) for iterations in (1, 5, 20)]
    assert found == sorted(found)
    assert 2.5 < found[-1] <= 3.0 + 1e-5


def test_sharpness_of_a_curved_loss_is_that_where_it_stands():
    """Σ cosh(w_i) has the Hessian diag(cosh w)."""
    w = jnp.array([0.3, -2.0, 1.0])
    assert float(sharpness(jax.random.key(0), lambda w: jnp.cosh(w).sum(), w)) == pytest.approx(np.cosh(2.0), rel=1e-5)
