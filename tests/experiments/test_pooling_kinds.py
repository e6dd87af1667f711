import numpy as np
import pytest

from experiments import pooling_kinds
from experiments.pooling_kinds import KINDS, SLICE, TIES, Config, backward_by_hand, forward_and_backward
from jaxnn.types import InputError

pytestmark = pytest.mark.usefixtures("quick")


def test_row_91_the_slice_under_max_pooling():
    pooled, _, _ = forward_and_backward(KINDS["max"], SLICE)
    np.testing.assert_array_equal(pooled, [[6, 8], [3, 4]])


@pytest.mark.parametrize("name", KINDS)
def test_row_92_the_error_by_hand_is_that_of_jax_grad(name):
    rng = np.random.default_rng(0)
    for x in (SLICE, TIES, rng.uniform(0.1, 1, (4, 4)).astype(np.float32)):
        _, deltas, errors = forward_and_backward(KINDS[name], x)
        np.testing.assert_allclose(errors, backward_by_hand(KINDS[name], x, deltas), rtol=1e-5, atol=1e-5)


def test_row_92_by_hand_max_gives_all_to_the_first_and_mean_a_quarter_to_each():
    deltas = np.array([[4.0, 8.0], [12.0, 16.0]])
    np.testing.assert_array_equal(backward_by_hand(KINDS["max"], TIES, deltas), [[4, 0, 8, 0], [0] * 4, [12, 0, 16, 0], [0] * 4])
    np.testing.assert_array_equal(backward_by_hand(KINDS["mean"], TIES, deltas), np.kron(deltas / 4, np.ones((2, 2))))


@pytest.mark.parametrize("name", KINDS)
def test_row_92_by_hand_is_a_finite_difference(name):
    """In float64, through NumPy's own pooling, away from ties."""
    of_a_window = {"max": np.max, "max, overlapping": np.max, "mean": np.mean, "mean square": lambda w: np.sqrt((w**2).mean())}
    pool = of_a_window.get(name, lambda w: (w**2).sum() / w.sum())
    x, deltas = np.random.default_rng(1).permutation(16).reshape(4, 4) / 4 + 0.1, np.arange(1.0, 10).reshape(3, 3)[:: KINDS[name].stride]
    deltas = deltas[:, : 3 if KINDS[name].stride == 1 else 2]

    def cost(x):
        s = KINDS[name].stride
        return sum(d * pool(x[i * s : i * s + 2, j * s : j * s + 2]) for (i, j), d in np.ndenumerate(deltas))

    steps = 1e-6 * np.eye(16).reshape(16, 4, 4)
    numeric = np.reshape([(cost(x + step) - cost(x - step)) / 2e-6 for step in steps], (4, 4))
    np.testing.assert_allclose(backward_by_hand(KINDS[name], x, deltas), numeric, rtol=1e-5, atol=1e-6)


def test_row_93_a_run_finds_no_gap_for_max_and_functions_that_never_fall(run_once):
    kept = run_once(pooling_kinds, "--windows 50", "order")
    assert (kept.history["gap"][0, :4] == 0).all()
    assert (kept.history["gap"][0, 4] > 0.1, (kept.history["gap"][1] > 0.01).all()) == (True, True)
    drawn = pooling_kinds.plot(kept)
    assert set(drawn) == {"backward", "ties", "order"}
    assert {"6", "8", "3", "4"} <= {text.get_text() for text in drawn["backward"].axes[1].texts}


def test_no_windows_are_said_in_words():
    with pytest.raises(InputError, match="--windows must be at least 1, got 0"):
        Config(windows=0)
