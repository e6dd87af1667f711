import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.measure import layer_gradient_norms
from jaxnn.types import InputError


def test_row_068_norms_of_bias_gradients_from_input_to_output():
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
