"""Layers whose units see a k×k window each: every unit with weights of its own (unshared), or all with the same (shared).

y_pq = Σ_{a,b,c} x_{ps+a, qs+b, c} w_{pq,abc}; a convolution is the special case in which w_pq is the same w at every (p, q). Both are a
product of windows and weights, and both are one product y = Mx with a matrix M whose rows hold k²C entries that are not 0:
in a convolution all rows hold the same k²C numbers.

Like all of deep learning, it is the correlation that is computed: a true convolution turns the kernel by 180° first.

Source: lecture rows 78, 86, 161 and 162 (S4:384-393, 446-531). Gregor & LeCun 2010, arXiv:1006.0448; Taigman et al. 2014 (DeepFace),
doi:10.1109/CVPR.2014.220.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxnn import initializers
from jaxnn.models.arithmetic import output_size
from jaxnn.types import InputError


def windows(x: Shaped[Array, "*batch H W C"], size: int, stride: int = 1) -> Shaped[Array, "*batch P Q F"]:
    """The F = size²·C entries under each window, by rows, then columns, then maps.

    Raises `InputError` where no window fits.

    >>> windows(jnp.arange(9.0).reshape(3, 3, 1), 2)[0, 1]
    Array([1., 2., 4., 5.], dtype=float32)
    """
    rows, columns = (output_size(length, size, stride) for length in x.shape[-3:-1])
    down, right = ((count - 1) * stride + 1 for count in (rows, columns))
    parts = [x[..., i : i + down : stride, j : j + right : stride, :] for i in range(size) for j in range(size)]
    return jnp.concatenate(parts, axis=-1)


def shared(x: Float[Array, "*batch H W C"], kernel: Float[Array, "k k D O"], stride: int = 1) -> Float[Array, "*batch P Q O"]:
    """y_pq = Σ_abc x_{ps+a, qs+b, c} w_abc: k²·C·O weights, whatever the size of the image; lecture rows 78, 82 and 86.

    The same numbers as `lax.conv_general_dilated` in a form whose gradients are matrix products too.
    Raises `InputError` where the kernel's maps D are not the image's C.
    """
    _check_maps(x, kernel.shape[2])
    return windows(x, len(kernel), stride) @ kernel.reshape(-1, kernel.shape[-1])


def unshared(x: Float[Array, "*batch H W C"], kernels: Float[Array, "P Q k k D O"], stride: int = 1) -> Float[Array, "*batch P Q O"]:
    """y_pq = Σ_abc x_{ps+a, qs+b, c} w_{pq,abc}: 25·196·196 weights for one map of 5×5 windows on 200×200; lecture rows 86 and 162.

    Raises `InputError` where there are more or fewer kernels than windows, and where their maps D are not the image's C.
    """
    positions, size = kernels.shape[:2], kernels.shape[2]
    _check_maps(x, kernels.shape[4])
    there = tuple(output_size(length, size, stride) for length in x.shape[-3:-1])
    if positions != there:
        raise InputError(f"kernels for {positions} positions, but windows of {size} with stride {stride} have {there} on {x.shape[-3:-1]}")
    return jnp.einsum("...pqf,pqfo->...pqo", windows(x, size, stride), kernels.reshape(*positions, -1, kernels.shape[-1]))


def spread(kernel: Float[Array, "k k C O"], positions: tuple[int, int]) -> Float[Array, "P Q k k C O"]:
    """The weights of an unshared layer that does what the shared one does: the same kernel at each of P×Q positions."""
    return jnp.broadcast_to(kernel, (*positions, *kernel.shape))


def as_matrix(kernels: Float[Array, "P Q k k C O"], image: tuple[int, int], stride: int = 1) -> Float[Array, "PQO HWC"]:
    """M of y = Mx for x and y as columns: k²C entries a row that are not 0, of its own unit; lecture row 161.

    `as_matrix(spread(kernel, …), …)` is the matrix of a convolution: at stride 1 and with one map each of its diagonals holds one
    number or zeros, k×k different numbers in all (a block Toeplitz matrix of Toeplitz blocks).
    """
    inputs = math.prod(image) * kernels.shape[4]
    each = jnp.eye(inputs).reshape(inputs, *image, -1)  # what the layer makes of every pixel alone is a column of M
    return unshared(each, kernels, stride).reshape(inputs, -1).T


class LocallyConnected(nn.Module):
    """y_pq = b_pq + Σ_abc x_{ps+a, qs+b, c} w_{pq,abc}: a layer that shares neither weights nor biases; lecture rows 86 and 162.

    `kernel` (P, Q, k, k, C, O) starts at each position as a convolution's (k, k, C, O) would, `bias` is (P, Q, O): (k²C + 1)·O·P·Q
    parameters, as many as a convolution of that size has connections. `padding` zeros on each side. The fields are those of
    `jaxnn.models.conv.Conv`, in whose place it may stand.
    """

    features: int
    window: int
    stride: int = 1
    padding: int = 0
    kernel_init: Initializer = initializers.lecun_normal
    bias_init: Initializer = initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B P Q O"]:
        around = (self.padding, self.padding)
        x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
        positions = [output_size(size, self.window, self.stride) for size in x.shape[1:3]]
        of_one = (self.window, self.window, x.shape[-1], self.features)

        def at_every_position(key: PRNGKeyArray) -> Float[Array, "P Q k k C O"]:
            kernels = jax.vmap(lambda key: self.kernel_init(key, of_one))(jax.random.split(key, math.prod(positions)))
            return kernels.reshape(*positions, *of_one)

        kernels = self.param("kernel", at_every_position)
        return unshared(x, kernels, self.stride) + self.param("bias", self.bias_init, (*positions, self.features))[None]


def _check_maps(x: Array, maps: int) -> None:
    if x.shape[-1] != maps:
        raise InputError(f"the kernel is for {maps} maps, the input {x.shape} has {x.shape[-1]}")
