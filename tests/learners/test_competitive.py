"""Kohonen's two rules beside NumPy in float64, sample by sample, and beside MiniSom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.learners import batch_competitive, competitive
from jaxnn.learners.competitive import BLOCK, Competitive, flat_image, present, weighted_means
from jaxnn.models.som import hexagonal, quantization_error, rectangular, topographic_error
from jaxnn.schedules import constant, exponential, inverse_time
from jaxnn.train import fit
from tests import oracles


def vectors(batch):
    return batch["x"]


def samples(count, features=12, seed=0):
    """Three clouds."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(3, features))[rng.integers(0, 3, count)] + 0.5 * rng.normal(size=(count, features))).astype(np.float32)


@pytest.fixture(params=[rectangular, hexagonal])
def grid(request):
    return request.param(5, 4)


@pytest.mark.parametrize("count", [BLOCK, 2 * BLOCK + 7])
def test_row_27_the_online_rule_is_the_one_written_out(grid, count):
    """Whole blocks and a rest; an η of 1 puts the winner onto the sample."""
    x, codebook = samples(count), samples(20, seed=1)
    rates = np.linspace(1.0, 0.1, count, dtype=np.float32)
    radii = np.linspace(2.0, 0.3, count, dtype=np.float32)
    expected, distances = oracles.online_map(grid.positions, codebook, x, rates, radii)
    after, measured = jax.jit(lambda *args: present(grid, *args))(*map(jnp.asarray, (codebook, x, rates, radii)))
    np.testing.assert_allclose(after, expected, atol=1e-5)
    np.testing.assert_allclose(measured, distances, atol=1e-5)


def test_rounding_does_not_grow_with_the_number_of_samples():
    grid, x, codebook = rectangular(5, 4), samples(3000), samples(20, seed=1)
    rates, radii = np.full(3000, 0.2, np.float32), np.full(3000, 1.0, np.float32)
    expected, _ = oracles.online_map(grid.positions, codebook, x, rates, radii)
    after, _ = jax.jit(lambda *args: present(grid, *args))(*map(jnp.asarray, (codebook, x, rates, radii)))
    np.testing.assert_allclose(after, expected, atol=2e-6)


def test_schedules_count_samples_from_step_to_step():
    grid, x = rectangular(3, 3), samples(24)
    learner = competitive(grid, learning_rate=inverse_time(0.5, 0.1), radius=exponential(2.0, 0.05), preprocess=vectors)
    state = Competitive(jnp.asarray(samples(9, seed=1)), jnp.array(0))
    t = np.arange(24)
    expected, distances = oracles.online_map(grid.positions, state.codebook, x, 0.5 / (1 + 0.1 * t), 2 * np.exp(-0.05 * t))
    measured = []
    for rows in np.split(x, 3):
        state, metrics = jax.jit(learner.step)(jax.random.key(0), state, {"x": jnp.asarray(rows)})
        measured.append(metrics["quantization_error"])
    assert state.time == 24
    np.testing.assert_allclose(state.codebook, expected, atol=1e-5)
    np.testing.assert_allclose(measured, distances.reshape(3, 8).mean(1), rtol=1e-5)


def test_row_27_the_batch_rule_is_the_one_written_out(grid):
    x, codebook = samples(70), samples(20, seed=1)
    expected = oracles.batch_map(grid.positions, codebook, x, 0.8)
    after, distances = jax.jit(lambda *args: weighted_means(grid, *args))(jnp.asarray(codebook), jnp.asarray(x), 0.8)
    np.testing.assert_allclose(distances, np.linalg.norm(x[:, None].astype(float) - codebook, axis=-1).min(-1), rtol=1e-5)
    np.testing.assert_allclose(after, expected, atol=1e-5)


def test_a_unit_that_no_sample_reaches_stays():
    grid, codebook = rectangular(1, 3), jnp.array([[0.0], [1.0], [50.0]])
    after, _ = jax.jit(lambda *args: weighted_means(grid, *args))(codebook, jnp.array([[0.1], [0.3]]), 0.01)
    np.testing.assert_allclose(after, [[0.2], [1.0], [50.0]], rtol=1e-6)


def test_batch_steps_read_the_radius_of_their_own_step():
    grid, x = rectangular(3, 3), samples(30)
    learner = batch_competitive(grid, radius=exponential(2.0, 0.5), preprocess=vectors)
    state = w = Competitive(jnp.asarray(samples(9, seed=1)), jnp.array(0))
    w = w.codebook
    for t in range(3):
        state, metrics = jax.jit(learner.step)(jax.random.key(0), state, {"x": jnp.asarray(x)})
        np.testing.assert_allclose(metrics["quantization_error"], quantization_error(jnp.asarray(w), jnp.asarray(x)).mean(), rtol=1e-5)
        w = oracles.batch_map(grid.positions, w, x, 2 * np.exp(-0.5 * t)).astype(np.float32)
    np.testing.assert_allclose(state.codebook, w, atol=1e-5)


def test_pixels_and_winners():
    image = np.array([[[[0], [255]]], [[[255], [0]]]], np.uint8)
    learner = competitive(rectangular(1, 2), learning_rate=constant(0.1), radius=constant(1.0))
    assert flat_image({"image": jnp.asarray(image)}).tolist() == [[0, 1], [1, 0]]
    state = Competitive(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array(0))
    assert learner.predict(state, {"image": jnp.asarray(image)}).tolist() == [1, 0]


def test_row_27_a_map_of_the_square_unfolds():
    """Uniform points: neighbours on the grid become neighbours in the plane, whatever the start."""
    x = jax.random.uniform(jax.random.key(1), (500, 2))
    grid = rectangular(6, 6)
    learner = competitive(grid, learning_rate=exponential(0.5, 1e-3), radius=exponential(3.0, 5e-4), preprocess=vectors)
    settings = {"batch_size": 50, "num_steps": 100, "eval_data": {"x": x}, "label": None}
    before, after = fit(learner, jax.random.key(0), {"x": x}, **settings).history.evaluation["topographic_error"]
    assert before > 0.5
    assert after < 0.1


@pytest.mark.parametrize("make", [rectangular, hexagonal])
def test_minisom_learns_the_same_map(make):
    """Same data, start, order and schedule: 600 samples, 5 × 6 units. Theirs is float64, ours float32."""
    pytest.importorskip("minisom")
    grid, x, codebook = make(5, 6), samples(600), samples(30, seed=1)
    theirs = oracles.minisom_of(grid, codebook, sigma=2.0, learning_rate=0.5)
    theirs.train(x.astype(float), 600)
    learner = competitive(grid, learning_rate=inverse_time(0.5, 2 / 600), radius=inverse_time(2.0, 2 / 600), preprocess=vectors)
    state, _ = jax.jit(learner.step)(jax.random.key(0), Competitive(jnp.asarray(codebook), jnp.array(0)), {"x": jnp.asarray(x)})
    np.testing.assert_allclose(state.codebook, oracles.minisom_codebook(theirs), atol=1e-5)
    assert quantization_error(state.codebook, jnp.asarray(x)).mean() == pytest.approx(theirs.quantization_error(x), rel=0.05)
    assert topographic_error(grid, state.codebook, jnp.asarray(x)).mean() == pytest.approx(theirs.topographic_error(x), rel=0.05)


def test_minisom_takes_the_same_batch_steps():
    pytest.importorskip("minisom")
    grid, x, codebook = rectangular(4, 4), samples(100), samples(16, seed=1)
    constantly = lambda value, t, steps: value  # noqa: E731
    theirs = oracles.minisom_of(grid, codebook, sigma=1.0, learning_rate=1.0, decay_function=constantly)
    theirs.train_batch_offline(x.astype(float), 5)
    learner = batch_competitive(grid, radius=inverse_time(1.0, 2 / 5), preprocess=vectors)
    state, _ = fit(
        learner, jax.random.key(0), {"x": x}, num_steps=5, start=(0, Competitive(jnp.asarray(codebook), jnp.array(0))), label=None
    )
    np.testing.assert_allclose(state.codebook, oracles.minisom_codebook(theirs), atol=1e-4)
