import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.four_neuron_chain import CHAINS, Chain, bias_gradients, bias_gradients_by_autodiff, forward, terms


def by_finite_differences(chain, x, target):
    """∂C/∂b_i in float64, central differences, without jaxnn's sigmoid."""
    weights, biases = (np.asarray(part, float) for part in chain)

    def cost(biases):
        y = x
        for w, b in zip(weights, biases, strict=True):
            y = 1 / (1 + np.exp(-(w * y + b)))
        return 0.5 * (y - target) ** 2

    eye = 1e-6 * np.eye(len(biases))
    return np.array([(cost(biases + step) - cost(biases - step)) / 2e-6 for step in eye])


@pytest.mark.parametrize("seed", range(3))
def test_row_70_the_product_equals_jax_grad_and_finite_differences(seed):
    weights, biases = jax.random.normal(jax.random.key(seed), (2, 4)) * 2
    chain = Chain(weights, biases)
    analytic = bias_gradients(chain, 0.5, 1.0)
    np.testing.assert_allclose(analytic, bias_gradients_by_autodiff(chain, 0.5, 1.0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(analytic, by_finite_differences(chain, 0.5, 1.0), rtol=1e-4, atol=1e-9)


def test_row_71_the_first_bias_learns_sixteen_times_slower_than_the_third():
    """|∂C/∂b_1| < |∂C/∂b_3| / 16 for |w| ≤ 1, in absolute values (E20)."""
    weights, biases = jax.random.uniform(jax.random.key(0), (2, 500, 4), minval=-1, maxval=1)
    gradients = np.abs(jax.vmap(lambda w, b: bias_gradients(Chain(w, b), 0.5, 1.0))(weights, biases))
    assert (gradients[:, 0] < gradients[:, 2] / 16).all()
    assert (np.abs(jax.vmap(lambda w, b: terms(Chain(w, b), 0.5))(weights, biases)) <= 0.25).all()


def test_row_72_it_explodes_above_four_at_zero_and_saturates_elsewhere():
    chains = {name: make(0.5) for name, make in CHAINS.items()}
    np.testing.assert_allclose(forward(chains["w = 8, z = 0"], 0.5)[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(terms(chains["w = 4, z = 0"], 0.5), 1.0, rtol=1e-6)
    np.testing.assert_allclose(terms(chains["w = 8, z = 0"], 0.5), 2.0, rtol=1e-6)
    grown = jnp.abs(bias_gradients(chains["w = 8, z = 0"], 0.5, 1.0))
    np.testing.assert_allclose(grown[0] / grown[3], 8.0, rtol=1e-5)
    assert (terms(chains["w = 8, b = 0"], 0.5) < 0.25).all()
