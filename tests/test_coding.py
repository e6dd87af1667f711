"""jaxnn.coding against plain loops, and lecture row 25."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.coding import binary, check_labels, decode_binary, decode_one_of_c, one_of_c
from jaxnn.types import InputError


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_row_25_one_of_c(dtype):
    """c outputs for c classes: y_i = 1 for class i, all others 0."""
    labels = np.array([[2, 0], [4, 2]], dtype)
    code = one_of_c(labels, 5)
    by_hand = [[[float(i == label) for i in range(5)] for label in row] for row in labels]
    np.testing.assert_array_equal(code, by_hand)
    np.testing.assert_array_equal(decode_one_of_c(code), labels)
    np.testing.assert_array_equal(decode_one_of_c(jnp.array([[0.2, 0.9, 0.9]])), [1])


def test_row_25_two_classes_by_one_output():
    labels = jnp.array([1, 0, 1])
    code = binary(labels)
    np.testing.assert_array_equal(code, [[1], [0], [1]])
    assert code.dtype == jnp.float32
    np.testing.assert_array_equal(decode_binary(code), labels)
    np.testing.assert_array_equal(decode_binary(jnp.array([[0.5], [0.49]])), [1, 0])
    np.testing.assert_array_equal(decode_binary(jnp.array([[-0.1], [0.0]]), threshold=0.0), [0, 1])


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([3, 10, 11], 10, r"label 10 at \[1\] is outside the 10 classes, 0 to 9; 2 of 3 labels are"),
        ([[3, 2], [0, -1]], 10, r"label -1 at \[1, 1\] .* 1 of 4 labels is"),
    ],
)
def test_a_label_outside_the_classes_is_named_with_its_place(labels, classes, message):
    for code in (lambda labels: one_of_c(labels, classes), lambda labels: check_labels(labels, classes)):
        for made in (np.array, jnp.array):
            with pytest.raises(InputError, match=message):
                code(made(labels))


def test_a_label_that_is_not_0_or_1_has_no_binary_code():
    with pytest.raises(InputError, match=r"label 2 at \[0\] is outside the 2 classes"):
        binary(np.array([2, 1]))


@pytest.mark.parametrize("code", [lambda labels: one_of_c(labels, 3), binary], ids=["one of c", "binary"])
def test_inside_jit_the_code_of_a_wrong_label_is_nan(code):
    rows = jax.jit(code)(jnp.array([1, 3, -1]))
    np.testing.assert_array_equal(np.isnan(rows).all(-1), [False, True, True])
    np.testing.assert_array_equal(rows[0], code(jnp.array([1]))[0])
