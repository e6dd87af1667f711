"""Row 15: a perceptron trained until it separates, or until it says that it did not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import perceptron
from jaxnn.separation import NotSeparated, train_until_separated
from jaxnn.types import InputError

XOR = {"x": jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), "label": jnp.array([0, 1, 1, 0])}


def key():
    return jax.random.key(0)


def x_and_label(batch):
    return batch["x"], batch["label"]


def order_two(batch):
    return perceptron.products(batch["x"], 2), batch["label"]


def test_separable_data_end_at_the_first_pass_without_errors():
    data = XOR | {"label": jnp.array([0, 0, 0, 1])}
    found = train_until_separated(key(), data, preprocess=x_and_label, label=None)
    assert found.converged
    assert found.errors == 0
    assert 0 < found.passes < 50
    assert (found.history.evaluation["error"][:-1] > 0).all()
    assert found.history.evaluation["error"][-1] == 0
    assert found.message == f"separated after {found.passes} passes of 4 examples and {found.mistakes} mistakes"
    np.testing.assert_array_equal(perceptron.classify(found.perceptron, data["x"]), data["label"])


def test_row_15_xor_ends_at_the_limit_and_says_so():
    with pytest.warns(NotSeparated, match=r"not separated after 20 passes .* the pocket solution, which gets 1 of 4 wrong"):
        found = train_until_separated(key(), XOR, max_passes=20, preprocess=x_and_label, label=None)
    assert not found.converged
    assert (found.passes, found.errors) == (20, 1)
    assert found.mistakes >= 20
    assert (perceptron.classify(found.perceptron, XOR["x"]) != XOR["label"]).sum() == 1


def test_erratum_13_at_order_two_xor_is_separated():
    assert train_until_separated(key(), XOR, preprocess=order_two, label=None).converged


def test_three_classes_take_three_outputs():
    data = {"x": jnp.array([[0.0, 2.0], [2.0, 0.0], [-2.0, -2.0]]), "label": jnp.array([0, 1, 2])}
    found = train_until_separated(key(), data, outputs=3, preprocess=x_and_label, label=None)
    assert found.converged
    np.testing.assert_array_equal(perceptron.classify(found.perceptron, data["x"]), [0, 1, 2])


def test_a_label_outside_the_classes_is_named():
    with pytest.raises(InputError, match=r"label 12 at \[2\] is outside the 10 classes, 0 to 9"):
        train_until_separated(key(), {"x": jnp.ones((3, 2)), "label": jnp.array([0, 9, 12])}, outputs=10, preprocess=x_and_label)
