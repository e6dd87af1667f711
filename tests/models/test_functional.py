"""What the layers of a Linen module give, and what comes out where one of them gives something else."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import MLP, apply_changed, functional, layers
from jaxnn.types import InputError

MODEL = MLP((3, 2))
X = jnp.array([[1.0, -2.0, 0.5, 3.0]])


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(2, name="output")(MLP((3, 4), name="block")(x))


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        shared = nn.Dense(4, name="shared")
        return nn.Dense(2, name="output")(shared(shared(x)))


class Counting(nn.Module):
    """Keeps how often it was called, and sows what it gives, whatever for it is called."""

    @nn.compact
    def __call__(self, x, *, train=False):
        calls = self.variable("count", "calls", lambda: jnp.zeros((), jnp.int32))
        if self.is_mutable_collection("count"):
            calls.value += 1
        y = nn.Dense(2, name="output")(x)
        self.sow("auxiliary", "twice", 2 * y)
        return y


def test_whatever_a_net_carries_may_change_in_training_alone_and_what_it_sows_is_no_variable():
    init, apply = functional(Counting())
    start = init(jax.random.key(0), X)
    assert start.keys() == {"params", "count"}
    y, after = apply(start, X, train=True)
    assert int(after["count"]["calls"]) == int(start["count"]["calls"]) + 1
    np.testing.assert_allclose(after["auxiliary"]["twice"][0], 2 * y)
    again, still = apply(start, X, train=False)
    np.testing.assert_array_equal(again, y)
    assert still is start


@pytest.fixture(scope="module")
def variables():
    return functional(MODEL).init(jax.random.key(0), X)


def by_hand(variables):
    """Weighted sums of both layers."""
    p = variables["params"]
    hidden = np.asarray(X) @ np.asarray(p["hidden_1"]["kernel"]) + np.asarray(p["hidden_1"]["bias"])
    answer = 1 / (1 + np.exp(-hidden)) @ np.asarray(p["output"]["kernel"]) + np.asarray(p["output"]["bias"])
    return {"hidden_1": hidden, "output": answer}


def test_the_layers_give_their_weighted_sums(variables):
    given, expected = layers(MODEL, variables, X), by_hand(variables)
    assert given.keys() == expected.keys()
    for name in given:
        np.testing.assert_allclose(given[name], expected[name], rtol=1e-6)


def test_a_layer_inside_another_has_both_names():
    nested = Nested()
    given = layers(nested, functional(nested).init(jax.random.key(0), X), X)
    assert set(given) == {"block", "block/hidden_1", "block/output", "output"}
    np.testing.assert_array_equal(given["block"], given["block/output"])


def test_a_layer_that_gives_something_else_changes_what_is_above_it(variables):
    doubled = apply_changed(MODEL, variables, X, "output", lambda y: 2 * y)
    np.testing.assert_allclose(doubled, 2 * by_hand(variables)["output"], rtol=1e-6)
    silenced = apply_changed(MODEL, variables, X, "hidden_1", lambda y: jnp.full_like(y, -jnp.inf))
    np.testing.assert_allclose(silenced[0], variables["params"]["output"]["bias"])


def test_a_layer_that_there_is_none_of_is_said_in_words(variables):
    with pytest.raises(InputError, match=r"unknown layer 'hiden_1'; did you mean 'hidden_1'\? Known: hidden_1, output"):
        apply_changed(MODEL, variables, X, "hiden_1", jnp.negative)
    with pytest.raises(InputError, match="unknown layer ''"):
        apply_changed(MODEL, variables, X, "", jnp.negative)


def test_a_layer_that_is_called_twice_is_given_once_and_not_changed():
    """What is above both calls can be."""
    net = Twice()
    variables = functional(net).init(jax.random.key(0), X)
    kernel = np.asarray(variables["params"]["shared"]["kernel"])
    np.testing.assert_allclose(layers(net, variables, X)["shared"], np.asarray(X) @ kernel, rtol=1e-6)
    with pytest.raises(InputError, match="layer 'shared' is called 2 times, and which call is meant cannot be said"):
        apply_changed(net, variables, X, "shared", jnp.negative)
    np.testing.assert_array_equal(apply_changed(net, variables, X, "output", jnp.zeros_like), [[0, 0]])
