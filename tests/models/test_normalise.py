"""Local response normalisation against NumPy's loops."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models.normalise import local_response_normalisation
from jaxnn.types import InputError


def by_hand(x, k, n, alpha, beta):
    """The paper's formula, map by map, in float64."""
    y, maps = np.empty(x.shape), x.shape[-1]
    for place in np.ndindex(*x.shape[:-1]):
        for i in range(maps):
            around = range(max(0, i - n // 2), min(maps - 1, i + n // 2) + 1)
            y[place][i] = x[place][i] / (k + alpha * sum(float(x[place][j]) ** 2 for j in around)) ** beta
    return y


@pytest.mark.parametrize(
    ("maps", "numbers"), [(9, (2.0, 5, 0.3, 0.75)), (9, (1.0, 3, 1.0, 0.5)), (3, (2.0, 5, 1.0, 2.0)), (4, (1.0, 1, 2.0, 1.0))]
)
def test_row_107_the_normalisation_is_numpys(maps, numbers):
    """Also where a map has fewer neighbours than n, and at every place of the image for itself."""
    x = np.random.default_rng(0).normal(size=(2, 3, 2, maps)).astype(np.float32)
    k, n, alpha, beta = numbers
    how = {"k": k, "n": n, "alpha": alpha, "beta": beta}
    y = jax.jit(lambda x: local_response_normalisation(x, **how))(x)
    np.testing.assert_allclose(y, by_hand(x, *numbers), rtol=1e-5)
    np.testing.assert_allclose(local_response_normalisation(jnp.asarray(x[0, 0]), **how), by_hand(x, *numbers)[0, 0], rtol=1e-5)


def test_row_107_the_papers_numbers():
    """Answers of a hundred and more, as of pixels to 255, feel it: α is not divided by n."""
    defaults = {name: p.default for name, p in inspect.signature(local_response_normalisation).parameters.items() if name != "x"}
    assert defaults == {"k": 2, "n": 5, "alpha": 1e-4, "beta": 0.75}
    x = np.full((1, 7), 200, np.float32)
    middle = local_response_normalisation(jnp.asarray(x))[0, 3]
    assert middle == pytest.approx(200 / (2 + 1e-4 * 5 * 200**2) ** 0.75, rel=1e-5)


def test_n_without_a_middle_is_said_in_words():
    for n in (0, 4):
        with pytest.raises(InputError, match=f"n must be odd, a map and as many on each side, got {n}"):
            local_response_normalisation(jnp.ones((1, 3)), n=n)
