"""Row 160: the descent is NumPy's, its speed that of the quadric, and it ends at the kernels."""

import jax
import numpy as np
import pytest

from experiments import learnt_filters
from experiments.convolution_arithmetic import LAPLACIAN, SOBEL
from experiments.learnt_filters import Config, before_and_after, curvatures, filter_learner, images, there
from jaxnn.types import InputError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(learnt_filters, "--width 12 --steps 1000 --every 10 --seeds 2 --momenta 0 0.9", "errors")


def windows_of(image):
    return np.lib.stride_tricks.sliding_window_view(image.astype(float), (3, 3)).reshape(-1, 9)


def test_row_160_sobel_and_laplacian_are_recovered_to_a_hundredth(kept):
    learnt = kept.history["kernel/noise"]
    assert learnt.shape == (2, 2, 3, 3, 1, 2)
    np.testing.assert_allclose(learnt[..., 0, 0], np.broadcast_to(SOBEL, (2, 2, 3, 3)), atol=1e-2)
    np.testing.assert_allclose(learnt[..., 0, 1], np.broadcast_to(LAPLACIAN, (2, 2, 3, 3)), atol=1e-2)
    assert (kept.history["there/noise"] < 1000).all()
    assert (kept.history["there/noise"][:, 1] < kept.history["there/noise"][:, 0]).all()  # momentum is there sooner


def test_row_160_a_photograph_takes_longer_than_noise(kept):
    ratio = {name: kept.history[f"curvature/{name}"][-1] / kept.history[f"curvature/{name}"][0] for name in ("noise", "photograph")}
    assert ratio["photograph"] > 5 * ratio["noise"]
    assert (kept.history["error/photograph"][:, 0, -1] > kept.history["error/noise"][:, 0, -1]).all()


def test_row_160_the_descent_is_that_of_numpy():
    image = images(12)["photograph"]
    p = windows_of(image)
    targets = p @ np.stack([SOBEL.ravel(), LAPLACIAN.ravel()], -1)
    rate = 1 / curvatures(image)[-1]
    learner, batch = filter_learner(float(rate), 0.5), before_and_after(image)
    init_key, step_key = jax.random.split(jax.random.key(0))
    state = learner.init(init_key, batch)
    w, v = np.asarray(state.variables["params"]["kernel"], float).reshape(9, 2), 0.0
    step = jax.jit(learner.step)
    for number in range(3):
        state, metrics = step(jax.random.fold_in(step_key, number), state, batch)
        v = 0.5 * v + p.T @ (p @ w - targets) / len(p)
        w = w - rate * v
        np.testing.assert_allclose(state.variables["params"]["kernel"].reshape(9, 2), w, atol=1e-4)
        errors = np.abs(w - np.stack([SOBEL.ravel(), LAPLACIAN.ravel()], -1)).max(0)
        np.testing.assert_allclose(metrics["error"], errors, atol=1e-4)


def test_curvatures_are_the_squared_singular_values_of_the_windows():
    image = images(12)["noise"]
    p = windows_of(image)
    np.testing.assert_allclose(curvatures(image), np.linalg.svd(p, compute_uv=False)[::-1] ** 2 / len(p), rtol=1e-5)


def test_it_is_there_from_the_step_after_which_no_error_is_too_large():
    error = np.array([1.0, 0.001, 0.5, 0.01, 0.001])[None, None, :, None]
    assert there(error).item() == 3
    assert there(error[:, :, 1:2]).item() == 0
    assert np.isnan(there(error[:, :, :3])).all()


def test_a_run_draws_what_it_recorded(kept):
    drawn = learnt_filters.plot(kept)
    assert set(drawn) == {"errors", "kernels"}
    assert len(drawn["errors"].axes[0].lines) == 2 * 2 + 1
    whats = [row.what for row in kept.comparisons]
    assert len(whats) == len(set(whats)) == 2 * (1 + 2 * 2 * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momenta": (0.9, 1.0)}, "--momenta must be from 0 to below 1, got 1.0"),
        ({"width": 2}, "--width must be at least 3, got 2"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
