"""Row 19: the 2-4-1 net against its formula in NumPy."""

import jax
import numpy as np
import pytest

from experiments import sigmoid_bump
from experiments.sigmoid_bump import Config, weights
from jaxnn.types import InputError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(sigmoid_bump, "", "sigmoid_bump")


def sigma(z):
    return 1 / (1 + np.exp(-z))


def test_row_19_the_surfaces_are_those_of_the_formula(kept):
    line = np.linspace(-3, 3, sigmoid_bump.SIDE)
    x_1, x_2 = np.meshgrid(line, line)
    units = [sigma(5 * (1 + x_1)), sigma(5 * (1 - x_1)), sigma(5 * (1 + x_2)), sigma(5 * (1 - x_2))]
    np.testing.assert_allclose(kept.history["hidden"], units, atol=1e-5)
    np.testing.assert_allclose(kept.history["output"], sigma(10 * (sum(units) - 3.5)), atol=1e-4)


def test_row_19_a_pair_is_a_strip_and_both_are_a_bump(kept):
    """2 on a strip and 1 beside it, so 4, 3 and 2; the output is above ½ within about the half-width of 1 alone."""
    hidden, y, line = kept.history["hidden"], kept.history["output"], kept.history["line"]
    middle, edge = sigmoid_bump.SIDE // 2, 0
    pair = hidden[0] + hidden[1]
    np.testing.assert_allclose(pair[:, middle], 2, atol=0.02)
    np.testing.assert_allclose(pair[:, edge], 1, atol=0.001)
    total = hidden.sum(0)
    for (row, column), height in {(middle, middle): 4, (middle, edge): 3, (edge, middle): 3, (edge, edge): 2}.items():
        assert abs(total[row, column] - height) < 0.03
    distance = np.hypot(*np.meshgrid(line, line))
    assert y[middle, middle] > 0.98
    assert (y[distance < 0.7] > 0.5).all()
    assert (y[distance > 1.3] < 0.5).all()


def test_row_19_the_net_has_17_weights():
    params = weights(5.0, 1.0, 10.0)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 17
    np.testing.assert_array_equal(params["hidden_1"]["kernel"], [[5, -5, 0, 0], [0, 0, 5, -5]])
    np.testing.assert_array_equal(params["output"]["bias"], [-35])


@pytest.mark.parametrize("name", ["steepness", "half_width", "gain"])
def test_a_number_that_makes_no_bump_is_refused(name):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} must be above 0 and finite, got 0"):
        Config(**{name: 0.0})
