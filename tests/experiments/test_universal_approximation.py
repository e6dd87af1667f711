import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from experiments import universal_approximation
from experiments.universal_approximation import Config, error, g, staircase
from jaxnn.types import InputError


@pytest.fixture(scope="module")
def kept(run_once):
    args = "--widths 1 12 --drawn 12 --steps 600 --points 65 --seeds 2 --learning-rate 0.05"
    return run_once(universal_approximation, args, "error_against_width")


def test_row_18_more_hidden_units_come_nearer(kept):
    few, many = np.moveaxis(kept.history["error"][:, 0], 1, 0)
    assert (many < 0.6 * few).all()
    assert (many[:, 1] < 0.2).all()


def test_row_18_a_net_built_by_hand_comes_as_near_as_one_likes():
    """In NumPy: a staircase of n + 1 treads is nowhere further from g than g varies over a part, and the error falls as 1/n."""
    x = np.linspace(-3, 3, 2001)
    errors = []
    for width in (10, 40, 160):
        part = 6 / (width + 1)
        middles = -3 + part * (np.arange(width + 1) + 0.5)
        values = np.sin(2 * middles) + np.abs(middles) / 2
        steep = special.expit(20 / part * (x[:, None] - (middles[:-1] + part / 2)))
        built = values[0] + steep @ np.diff(values)
        np.testing.assert_allclose(staircase(width, 3.0, jnp.asarray(x, jnp.float32)), built, atol=2e-4)
        errors.append(np.abs(built - (np.sin(2 * x) + np.abs(x) / 2)).max())
        assert errors[-1] < 2.5 * part  # |g'| ≤ 2.5
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


def test_erratum_14_it_takes_a_linear_output(kept):
    """A sigmoid stays in (0, 1), however many units feed it."""
    x = np.linspace(-3, 3, 65)
    values = np.sin(2 * x) + np.abs(x) / 2
    clipped = np.abs(np.clip(values, 0, 1) - values)
    np.testing.assert_allclose(kept.history["clipped_error"], [clipped.max(), np.sqrt((clipped**2).mean())], rtol=1e-5)
    assert (kept.history["error"][:, 1] >= kept.history["clipped_error"] * (1 - 1e-5)).all()
    assert (kept.history["error"][:, 0, -1] < 0.5 * kept.history["clipped_error"]).all()
    assert (kept.history["curve"][:, 1] > 0).all()
    assert (kept.history["curve"][:, 1] < 1).all()


def test_erratum_14_and_holds_on_a_compact_set_alone(kept):
    x, curves = kept.history["x"], kept.history["curve"][:, 0, -1]
    distance = np.abs(curves - np.asarray(g(jnp.asarray(x))))
    assert (distance[:, np.abs(x) > 3].max(-1) > 2 * distance[:, np.abs(x) <= 3].max(-1)).all()


def test_the_errors_are_the_largest_and_the_root_mean_square():
    np.testing.assert_allclose(error(jnp.array([[1.0, 3.0], [0.0, 0.0]]), jnp.array([1.0, 0.0])), [[3, 4.5**0.5], [1, 0.5**0.5]], rtol=1e-6)


def test_the_curves_of_the_record_are_drawn(kept):
    (ax,) = universal_approximation.plot(kept)["curves"].axes
    assert [line.get_label() for line in ax.lines] == ["g(x)", "built", "trained", "squashed"]


def test_what_cannot_be_run_is_refused():
    with pytest.raises(InputError, match=r"--drawn must be among --widths \(2, 4\), got 8"):
        Config(widths=(2, 4), drawn=(8,))
    with pytest.raises(InputError, match="--reach must be above 0"):
        Config(reach=-1.0)
