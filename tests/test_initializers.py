"""jaxnn.initializers: the distribution that each recipe names, by moments, bounds and a Kolmogorov-Smirnov distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn.initializers import INITIALIZERS, by_name, fan_in_normal, lecun_normal, normal_std_0_2, normal_variance_0_2, uniform_of_fan_in
from jaxnn.types import InputError

N_IN, N_OUT = 200, 300
CUT = 2 / stats.truncnorm(-2, 2).std()
"""jax cuts a standard normal at 2 and divides it by its standard deviation of .8796, so 2.27."""
NORMAL, UNIFORM, TRUNCATED = stats.norm(), stats.uniform(-(3**0.5), 2 * 3**0.5), stats.truncnorm(-2, 2, scale=CUT / 2)
RECIPES = {
    "normal_std_0_2": (NORMAL, 0.2),
    "normal_variance_0_2": (NORMAL, 0.2**0.5),
    "standard_normal": (NORMAL, 1.0),
    "fan_in_normal": (NORMAL, N_IN**-0.5),
    "fan_in_uniform": (UNIFORM, 2.4 / N_IN / 3**0.5),
    "lecun_normal": (TRUNCATED, N_IN**-0.5),
    "lecun_uniform": (UNIFORM, N_IN**-0.5),
    "glorot_normal": (TRUNCATED, (2 / (N_IN + N_OUT)) ** 0.5),
    "glorot_uniform": (UNIFORM, (2 / (N_IN + N_OUT)) ** 0.5),
    "he_normal": (TRUNCATED, (2 / N_IN) ** 0.5),
    "he_normal_of_fan_out": (NORMAL, (2 / N_OUT) ** 0.5),
    "he_uniform": (UNIFORM, (2 / N_IN) ** 0.5),
}


def draw(name, seed=0):
    return by_name(name)(jax.random.key(seed), (N_IN, N_OUT))


def test_every_initializer_has_its_distribution_here():
    assert {*RECIPES, "zeros"} == set(INITIALIZERS)


@pytest.mark.parametrize("name", RECIPES)
def test_weights_follow_the_recipe(name):
    distribution, scale = RECIPES[name]
    weights = np.asarray(draw(name), float).ravel() / scale
    assert distribution.std() == pytest.approx(1, rel=1e-6)
    assert weights.mean() == pytest.approx(0, abs=0.02)  # 60,000 draws: five standard errors
    assert weights.std() == pytest.approx(1, rel=0.015)
    assert stats.kstest(weights, distribution.cdf).statistic < 0.01
    assert np.abs(weights).max() <= distribution.support()[1] * (1 + 1e-5)


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_and_dtype_are_the_ones_asked_for(name, dtype):
    weights = jax.eval_shape(lambda key: by_name(name)(key, (4, 3), dtype), jax.random.key(0))
    assert (weights.shape, weights.dtype) == ((4, 3), dtype)


@pytest.mark.parametrize("name", RECIPES)
def test_the_key_decides(name):
    np.testing.assert_array_equal(draw(name, seed=1), draw(name, seed=1))
    assert not np.allclose(draw(name, seed=1), draw(name, seed=2))


def test_float32_is_the_default():
    for init in INITIALIZERS.values():
        assert jax.eval_shape(lambda key, init=init: init(key, (2, 3)), jax.random.key(0)).dtype == jnp.float32


def test_zeros_are_0():
    assert not draw("zeros").any()


def test_row_67_both_readings_of_n_0_0_2():
    by_deviation = normal_std_0_2(jax.random.key(0), (784, 30))
    by_variance = normal_variance_0_2(jax.random.key(0), (784, 30))
    assert by_deviation.std() == pytest.approx(0.2, rel=0.02)
    assert by_variance.std() == pytest.approx(0.447, rel=0.02)
    assert by_variance.var() == pytest.approx(0.2, rel=0.04)


def test_row_69_nielsen_weights_are_not_cut_off_as_lecun_normal_is():
    largest = {init: float(jnp.abs(init(jax.random.key(0), (784, 300))).max()) * 784**0.5 for init in (fan_in_normal, lecun_normal)}
    assert largest[fan_in_normal] > 3
    assert largest[lecun_normal] <= CUT * (1 + 1e-5)


def test_fan_in_of_a_convolution_counts_the_receptive_field():
    kernel = fan_in_normal(jax.random.key(0), (5, 5, 8, 64))
    assert kernel.std() == pytest.approx((5 * 5 * 8) ** -0.5, rel=0.02)


def test_a_fan_in_that_the_shape_does_not_tell_may_differ_from_unit_to_unit():
    fan_in = np.array([4, 75, 150])
    biases = uniform_of_fan_in(fan_in)(jax.random.key(0), (500, 3))
    np.testing.assert_allclose(jnp.abs(biases).max(0), 2.4 / fan_in, rtol=0.02)
    np.testing.assert_allclose(biases.std(0), 2.4 / fan_in / 3**0.5, rtol=0.1)


def test_by_name_names_the_nearest():
    with pytest.raises(InputError, match="unknown initializer 'lecun_norml'; did you mean 'lecun_normal'"):
        by_name("lecun_norml")
