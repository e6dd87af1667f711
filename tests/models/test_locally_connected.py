"""Shared and unshared layers against NumPy's loops, lax's convolution, flax's unshared layer and a matrix built by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.models.arithmetic import local_weights, shared_weights
from jaxnn.models.locally_connected import LocallyConnected, as_matrix, shared, spread, unshared, windows
from jaxnn.types import InputError


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


unshared_at_once = jax.jit(unshared, static_argnums=2)
shared_at_once = jax.jit(shared, static_argnums=2)
matrix_of = jax.jit(as_matrix, static_argnums=(1, 2))


def by_hand(x, kernels, stride):
    """y_pq = Σ_abc x_{ps+a, qs+b, c} w_{pq,abc}, one image, in loops and float64."""
    rows, columns, size, _, _, maps = kernels.shape
    y = np.zeros((rows, columns, maps))
    for p, q, a, b in np.ndindex(rows, columns, size, size):
        y[p, q] += x[p * stride + a, q * stride + b].astype(float) @ kernels[p, q, a, b].astype(float)
    return y


@pytest.mark.parametrize(("stride", "positions"), [(1, (5, 4)), (2, (3, 2)), (3, (2, 2))])
def test_row_162_the_unshared_layer_is_numpys_and_flaxs(stride, positions):
    x, kernels = normal(2, 7, 6, 3), normal(*positions, 3, 3, 3, 4)
    y = unshared_at_once(x, kernels, stride)
    np.testing.assert_allclose(y, [by_hand(image, kernels, stride) for image in x], rtol=1e-4, atol=1e-4)
    by_maps = np.moveaxis(kernels, 4, 2).reshape(*positions, 27, 4)  # flax has the maps before the places of a window
    layer = nn.ConvLocal(4, (3, 3), strides=stride, padding="VALID", use_bias=False)
    np.testing.assert_allclose(layer.apply({"params": {"kernel": by_maps}}, x), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_row_162_with_one_kernel_everywhere_it_is_the_convolution(stride):
    x, kernel = normal(2, 6, 7, 3), normal(3, 3, 3, 5)
    convolved = lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    kernels = spread(jnp.asarray(kernel), convolved.shape[1:3])
    np.testing.assert_allclose(unshared_at_once(x, kernels, stride), convolved, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(shared_at_once(x, kernel, stride), convolved, rtol=1e-4, atol=1e-4)


def test_row_162_weights_of_its_5x5_windows_on_200x200():
    layer = nn.ConvLocal(1, (5, 5), padding="VALID", use_bias=False)
    kernel = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 200, 200, 1)))["params"]["kernel"]
    count = lambda shape: sum(part.size for part in jax.tree.leaves(shape))  # noqa: E731
    assert count(kernel) == local_weights(5, 1, (196, 196)) == 960_400
    kernels = jax.eval_shape(lambda kernel: spread(kernel, (196, 196)), jnp.zeros((5, 5, 1, 1)))
    assert kernels.size == 960_400
    assert jax.eval_shape(unshared, jnp.zeros((200, 200, 1)), kernels).shape == (196, 196, 1)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_row_162_the_layer_with_weights_and_biases_of_its_own_everywhere(stride, padding):
    x, layer = normal(2, 6, 5, 3), LocallyConnected(4, 3, stride=stride, padding=padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    positions = [(n - 3) // stride + 1 for n in padded.shape[1:3]]
    params = {"kernel": normal(*positions, 3, 3, 3, 4), "bias": normal(*positions, 4)}
    expected = np.array([by_hand(image, params["kernel"], stride) for image in padded]) + params["bias"]
    np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


def toeplitz(kernel, size):
    """The matrix of a correlation on a square image, by Kronecker products: Σ_ab w_ab (S_a ⊗ S_b), S_a with ones on its a-th diagonal."""
    k = len(kernel)
    shifted = [np.eye(size - k + 1, size, a) for a in range(k)]
    return sum(kernel[a, b] * np.kron(shifted[a], shifted[b]) for a in range(k) for b in range(k))


@pytest.mark.parametrize(("size", "k"), [(5, 3), (6, 2), (4, 4)])
def test_row_161_a_convolution_is_a_sparse_matrix_with_shared_entries(size, k):
    kernel, count = normal(k, k, 1, 1), size - k + 1
    matrix = np.asarray(matrix_of(np.broadcast_to(kernel, (count, count, *kernel.shape)), (size, size)))
    np.testing.assert_array_equal(matrix, toeplitz(kernel[:, :, 0, 0], size).astype(np.float32))
    assert np.count_nonzero(matrix) == local_weights(k, 1, (count, count))
    assert len(np.unique(matrix[matrix != 0])) == shared_weights(k, 1)
    x = normal(size, size, 1)
    np.testing.assert_allclose(matrix @ x.ravel(), np.ravel(shared_at_once(x, kernel)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_row_161_an_unshared_layer_is_the_same_matrix_with_free_entries(stride):
    x, rows = normal(6, 5, 2), [(6 - 3) // stride + 1, (5 - 3) // stride + 1]
    kernels = normal(*rows, 3, 3, 2, 4)
    matrix = np.asarray(matrix_of(kernels, (6, 5), stride))
    assert (matrix != 0).sum(1).tolist() == [3 * 3 * 2] * len(matrix)
    np.testing.assert_allclose(matrix @ x.ravel(), by_hand(x, kernels, stride).ravel(), rtol=1e-4, atol=1e-4)


def test_row_78_a_window_by_the_formula():
    """r = Σ p_{i+a, j+b} w over a, b ∈ {-1, 0, 1}, around the pixel (2, 3)."""
    x, kernel = normal(5, 6, 1), normal(3, 3, 1, 1)
    r = sum(x[2 + a, 3 + b, 0] * kernel[1 + a, 1 + b, 0, 0] for a in (-1, 0, 1) for b in (-1, 0, 1))
    assert shared_at_once(x, kernel)[1, 2, 0] == pytest.approx(r, rel=1e-5)


def test_row_82_a_kernel_in_three_dimensions_sums_over_the_maps():
    """Seven filters of 3×3×4 are 28 of 3×3, whose results are added up: y_j = Σ_i x_i * K_ij."""
    x, kernel = normal(6, 6, 4), normal(3, 3, 4, 7)
    flat = [sum(shared_at_once(x[:, :, i : i + 1], kernel[:, :, i : i + 1, j : j + 1]) for i in range(4)) for j in range(7)]
    np.testing.assert_allclose(shared_at_once(x, kernel), np.concatenate(flat, -1), rtol=1e-4, atol=1e-4)
    assert kernel.size == shared_weights(3, links=28) == 252


def test_windows_keep_their_dtype_and_order():
    x = jnp.arange(32, dtype=jnp.uint8).reshape(4, 4, 2)
    cut = windows(x, 2, 2)
    assert (cut.dtype, cut.shape) == (jnp.uint8, (2, 2, 8))
    assert cut[1, 0].tolist() == [16, 17, 18, 19, 24, 25, 26, 27]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: windows(jnp.zeros((3, 5, 1)), 4), "a window of 4 does not fit into 3 pixels"),
        (lambda: shared(jnp.zeros((3, 3, 2)), jnp.zeros((3, 3, 1, 1))), "the kernel is for 1 maps"),
        (lambda: unshared(jnp.zeros((3, 3, 2)), jnp.zeros((1, 1, 3, 3, 1, 1))), "the kernel is for 1 maps"),
        (lambda: unshared(jnp.zeros((4, 4, 1)), jnp.zeros((1, 2, 3, 3, 1, 1))), r"kernels for \(1, 2\) positions, .* have \(2, 2\)"),
        (lambda: as_matrix(jnp.zeros((1, 2, 3, 3, 1, 1)), (4, 4)), r"kernels for \(1, 2\) positions"),
        (lambda: as_matrix(jnp.zeros((2, 4, 3, 3, 1, 1)), (6, 4)), r"kernels for \(2, 4\) positions"),
    ],
)
def test_what_does_not_fit_is_said_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()
