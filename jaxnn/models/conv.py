"""The one convolution that all nets use: y = x * w over NHWC maps, quick on a CPU too, inside `lax.scan` as well.

y_pqo = Σ_abc x_{ps+ad, qs+bd, c} w_abco for stride s and dilation d: the correlation that all of deep learning calls a convolution; a
true one turns the kernel by 180° first. With g groups, the n-th g-th of the maps above sees the n-th g-th of the maps below.

On XLA:CPU `lax.conv_general_dilated` is slow where maps are few, and its gradients are 3 to 30 times slower again inside a loop (jax
issue 12868). Here the same numbers come another way, chosen by the kernel's shape (`tiles_pay`):

- `tiled`: two by two outputs at a time. The (k+1)² pixels that they see are one row of a matrix, and one product with the kernel in its
  four places, zeros between, gives all four: (k+1)²/k² of the operations and (k+1)²/4k² of the copies of windows one by one, 1.44 and
  .36 for 5×5, and rows as wide as the processor's vectors want them.
- `direct`: lax's own convolution, whose derivatives are written for their transposes, which reverse mode runs:
  ∂E/∂x = (δ spread by s, in enough zeros) * (w turned by 180°, its maps exchanged), NHWC with HWIO, the one layout that is fast in a loop;
  ∂E/∂w = δ * x turned by 180°, the same layout with images in the place of maps (`over_images`), where maps and images are many; else
  Σ over blocks of images of (what each output sees)ᵀ δ, matrix products whose left sides never leave the cache (`in_blocks`).
- Groups one by one, and where a group is a single map, as the sum of the moved maps, each times a weight.

Both can be differentiated again, forwards and backwards. On accelerators it is lax's convolution as it stands. What else was measured on
two CPU cores (jax 0.10.2): from 17 maps on XLA compiles YNNPACK's convolution in place of Eigen's, which is as quick alone and slower in
a large program, so `jaxnn.train` compiles without it; flags for oneDNN and XNNPACK change nothing; in bfloat16 a convolution takes as
long as in float32, and matrix products take 1.7 to 5 times as long; ∂E/∂w with the rows of the window on δ and its columns on x,
(3C × 3O) in place of (9C × O), copies a third as much and gains nothing in a whole step.

Source: lecture rows 76-82 and 89 (S4:380, 395, 614). LeCun et al. 1998, doi:10.1109/5.726791; Dumoulin & Visin 2016, arXiv:1603.07285.
"""

import math
from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import initializers
from jaxnn.models.arithmetic import output_size
from jaxnn.types import InputError

Padding = int | Literal["SAME", "VALID"]
"""Zeros on each side; VALID is none, SAME as many as give ⌈n/s⌉ outputs, an odd one behind."""
Zeros = tuple[tuple[int, int], tuple[int, int]]
"""Before and behind, of rows and of columns."""

FEW_MAPS = 6
"""Tiles pay up to 6; with 8 they do no longer, or not for windows of 3×3."""
BLOCK = 2**20
"""Numbers in the matrix of a block of images: 4 MiB of float32, of caches of 2 MiB a core behind which there are 32."""
MANY_MAPS, MANY_IMAGES = 32, 8
"""From here on `over_images` pays, .4 to 1.3 of the time of `in_blocks`; with 16 maps, or one image, it takes up to 2.5 times as long."""


class Conv(nn.Module):
    """y = x * w + b of `features` maps by windows of `window` × `window`, or of (rows, columns); `kernel` (k, w, C/groups, O), `bias` (O,).

    Raises `InputError`, naming the layer, for what `conv` cannot take. Lecture rows 78, 80, 82 and 89.
    """

    features: int
    window: int | tuple[int, int]
    stride: int = 1
    padding: Padding = "VALID"
    dilation: int = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = initializers.lecun_normal
    bias_init: Initializer = initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "*batch H W C"]) -> Float[Array, "*batch P Q O"]:
        how: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        rows, columns = self.window if isinstance(self.window, tuple) else (self.window, self.window)
        try:
            _at_least_1(window=rows, features=self.features, groups=self.groups)
            _at_least_1(window=columns)
            shape = (rows, columns, x.shape[-1] // self.groups, self.features)
            _check_shapes(x.shape, shape, **how)
            y = conv(x, self.param("kernel", self.kernel_init, shape), **how)
        except InputError as error:
            raise InputError(f"{self.name or 'Conv'}: {error}") from error
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,)).astype(jnp.float32)
        # Spread out in float32, and with it its gradient summed up: in bfloat16 a sum over all places stands still when it is large.
        return y + jnp.broadcast_to(bias, y.shape).astype(y.dtype)


def conv(
    x: Float[Array, "*batch H W C"],
    kernel: Float[Array, "k w D O"],
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    dilation: int = 1,
    groups: int = 1,
) -> Float[Array, "*batch P Q O"]:
    """y_pqo = Σ_abc x_{ps+ad, qs+bd, c} w_abco, one image or any batch of them; D = C/groups. Lecture rows 78, 82 and 89.

    Raises `InputError` where no window fits, where the kernel's maps are not the image's, and for numbers that cannot be.

    >>> image = jnp.arange(9.0).reshape(3, 3, 1)
    >>> conv(image, jnp.ones((2, 2, 1, 1)))[..., 0]
    Array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    _check(x, kernel, stride, padding, dilation, groups)
    zeros = _zeros(x.shape[-3:-1], kernel.shape[:2], stride, padding, dilation)
    images = x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
    if groups > 1 and jax.default_backend() != "cpu":
        y = plain(images, kernel, stride, zeros, dilation, groups)
    elif groups > 1 and kernel.shape[2] == 1:
        y = shifted(images, kernel, stride, zeros, dilation)
    else:
        parts = zip(jnp.split(images, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        y = jnp.concatenate([_ungrouped(*part, stride, zeros, dilation) for part in parts], -1)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def _ungrouped(x: Array, kernel: Array, stride: int, zeros: Zeros, dilation: int) -> Array:
    if not np.any(zeros) and x.shape[1:3] == kernel.shape[:2] and dilation == 1:
        return covering(x, kernel)
    if jax.default_backend() != "cpu":
        return plain(x, kernel, stride, zeros, dilation)
    if stride == dilation == 1 and tiles_pay(kernel.shape):
        return tiled(x, kernel, zeros)
    return direct(x, kernel, stride, zeros, dilation)


def tiles_pay(kernel: Sequence[int]) -> bool:
    """Whether `tiled` is quicker than `direct` for a kernel of this shape: where the maps below are few.

    Two CPU cores, 128 images, forward and both gradients inside a scan, ms (`python -m benchmarks.convolution`):

    | layer | direct | tiled | PyTorch |
    |---|---|---|---|
    | LeNet-5's C1, 5×5, 1 → 6 maps of 28×28 | 14.9 | 1.83 | 7.64 |
    | LeNet-5's C3, 5×5, 6 → 16 maps of 10×10 | 5.78 | 2.14 | 1.87 |
    | 3×3, 3 → 16 maps of 32×32 | 16.1 | 7.61 | 6.47 |
    | 3×3, 16 → 16 maps of 32×32 | 20.0 | 51.9 | 14.4 |
    | 3×3, 64 → 64 maps of 8×8 | 10.5 | 21.8 | 8.24 |
    """
    return kernel[2] <= FEW_MAPS and min(kernel[:2]) > 1


def plain(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k w D O"], stride: int, zeros: Zeros, dilation: int, groups: int = 1
) -> Float[Array, "B P Q O"]:
    """`lax.conv_general_dilated` with all its own derivatives."""
    return _lax(x, kernel, ("NHWC", "HWIO", "NHWC"), stride, zeros, dilation, groups)


def covering(x: Float[Array, "B k w C"], kernel: Float[Array, "k w C O"]) -> Float[Array, "B 1 1 O"]:
    """A window as large as the image, as in LeNet-5's C5: a dense layer. As a convolution its gradient would be 25 times the work."""
    pixels = math.prod(kernel.shape[:3])
    return (x.reshape(len(x), pixels) @ kernel.reshape(pixels, kernel.shape[3]))[:, None, None]


def shifted(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k w 1 O"], stride: int, zeros: Zeros, dilation: int
) -> Float[Array, "B P Q O"]:
    """Depthwise, a group for each map below: Σ_ab of the maps moved by (a, b), each times a weight of its own."""
    x = jnp.repeat(x, kernel.shape[3] // x.shape[3], axis=3)
    moved = zip(_seen(x, kernel.shape[:2], stride, zeros, dilation), kernel.reshape(-1, 1, 1, 1, kernel.shape[3]), strict=True)
    first, *others = (pixels * jnp.broadcast_to(weights, pixels.shape) for pixels, weights in moved)
    return sum(others, first)


def tiled(x: Float[Array, "B H W C"], kernel: Float[Array, "k w C O"], zeros: Zeros) -> Float[Array, "B P Q O"]:
    """Two by two outputs at a time, as one matrix product; stride 1."""
    (*window, maps, features), (batch, *size, _) = kernel.shape, x.shape
    rows, columns = (n + sum(z) - w + 1 for n, z, w in zip(size, zeros, window, strict=True))
    tiles, seen = (-(-rows // 2), -(-columns // 2)), [-(-(w + 1) // 2) for w in window]
    short = [2 * (t + s - 1) - n - sum(z) for t, s, n, z in zip(tiles, seen, size, zeros, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((z[0], z[1] + more, 0) for z, more in zip(zeros, short, strict=True)), (0, 0, 0)])
    blocks = x.reshape(batch, x.shape[1] // 2, 2, x.shape[2] // 2, 2, maps).swapaxes(2, 3)
    blocks = blocks.reshape(*blocks.shape[:3], 4 * maps)  # two by two pixels as one with four times the maps
    under = [blocks[:, a : a + tiles[0], b : b + tiles[1]] for a in range(seen[0]) for b in range(seen[1])]
    # Of two axes, here as in `in_blocks`: the gradient of a product over four would copy δ with its axes exchanged, in twice the time.
    y = jnp.concatenate(under, -1).reshape(-1, 4 * maps * math.prod(seen)) @ _in_four_places(kernel, seen)
    y = y.reshape(batch, *tiles, 2, 2, features).swapaxes(2, 3).reshape(batch, 2 * tiles[0], 2 * tiles[1], features)
    return y[:, :rows, :columns]


def _in_four_places(kernel: Float[Array, "k w C O"], seen: Sequence[int]) -> Float[Array, "F 4*O"]:
    """The kernel at the four outputs of a tile, zeros elsewhere in what the tile sees: a row a pixel and map, in `tiled`'s order."""
    *window, maps, features = kernel.shape
    more = [2 * s - w for s, w in zip(seen, window, strict=True)]
    places = [jnp.pad(kernel, ((a, more[0] - a), (b, more[1] - b), (0, 0), (0, 0))) for a in (0, 1) for b in (0, 1)]
    rows = jnp.stack(places, -2).reshape(seen[0], 2, seen[1], 2, maps, 4 * features)
    return rows.swapaxes(1, 2).reshape(-1, 4 * features)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def direct(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k w C O"], stride: int, zeros: Zeros, dilation: int
) -> Float[Array, "B P Q O"]:
    """`plain`, whose gradients are a convolution of the same layout and a matrix product a block of images."""
    return plain(x, kernel, stride, zeros, dilation)


@direct.defjvp
def _tangent(stride: int, zeros: Zeros, dilation: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel), how = primals, tangents, (stride, zeros, dilation)
    # A layout that is chosen for its transpose: NHWC with HWIO.
    of_x = _lax(dx, kernel.swapaxes(2, 3), ("NHWC", "HWOI", "NHWC"), *how)
    return direct(x, kernel, *how), of_x + _by_kernel(x, dkernel, *how)


def _by_kernel(x: Array, kernel: Array, stride: int, zeros: Zeros, dilation: int) -> Array:
    """The convolution in the form whose transpose by the kernel is quick."""
    if stride == 1 and min(kernel.shape[:2]) > 1 and kernel.shape[2] >= MANY_MAPS and len(x) >= MANY_IMAGES:
        return over_images(x, kernel, zeros, dilation)
    return in_blocks(x, kernel, stride, zeros, dilation)


def over_images(x: Float[Array, "B H W C"], kernel: Float[Array, "k w C O"], zeros: Zeros, dilation: int) -> Float[Array, "B P Q O"]:
    """The transpose of ∂E/∂w_ab = Σ_npq δ_npq x_n,p+ad,q+bd: of a convolution of δ, its maps taken for images, by the kernel x; stride 1.

    It is here for that gradient, which is one product of matrices to the processor, and nothing of it is copied out.
    """
    reach = [dilation * (n - 1) for n in kernel.shape[:2]]
    size = [n + sum(z) - r for n, z, r in zip(x.shape[1:3], zeros, reach, strict=True)]
    around = [(r - z[0], r - z[1]) for r, z in zip(reach, zeros, strict=True)]

    def gradient(delta: Float[Array, "B P Q O"]) -> Float[Array, "k w C O"]:
        pixels = x.transpose(1, 2, 0, 3)
        y = _lax(delta.transpose(3, 1, 2, 0), pixels, ("NHWC", "HWIO", "NHWC"), dilation, (around[0], around[1]), 1)
        return y.transpose(1, 2, 3, 0)[::-1, ::-1]

    return cast(Array, jax.linear_transpose(gradient, jax.ShapeDtypeStruct((len(x), *size, kernel.shape[3]), x.dtype))(kernel)[0])


def in_blocks(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k w C O"], stride: int, zeros: Zeros, dilation: int
) -> Float[Array, "B P Q O"]:
    """Some images at a time: what an output sees is one row of a matrix, whose product with the kernel gives all outputs of the block.

    It is here for its transpose by the kernel, the sum over blocks of (matrix)ᵀ δ. The matrices, k² times the images, are not kept for it
    but made anew, one in the place of the other.
    """
    *window, maps, features = kernel.shape
    # Its transpose, δᵀ (matrix), is the quicker way round, and two axes are: three would be exchanged in a copy of δ.
    weights = kernel.reshape(-1, features).T

    @partial(jax.checkpoint, prevent_cse=False)
    def outputs(images: Float[Array, "n H W C"]) -> Float[Array, "n P Q O"]:
        seen = jnp.concatenate(_seen(images, window, stride, zeros, dilation), -1)
        y = lax.dot_general(seen.reshape(-1, seen.shape[-1]), weights, (((1,), (1,)), ((), ())))
        return y.reshape(*seen.shape[:3], features)

    rows, columns = jax.eval_shape(outputs, x).shape[1:3]
    most = max(1, BLOCK // (rows * columns * math.prod(window) * maps))
    images = max(n for n in range(1, min(most, len(x)) + 1) if len(x) % n == 0)
    y = lax.map(outputs, x.reshape(-1, images, *x.shape[1:]))
    return y.reshape(len(x), *y.shape[2:])


def _seen(x: Array, window: Sequence[int], stride: int, zeros: Zeros, dilation: int) -> list[Float[Array, "B P Q C"]]:
    """The pixel at each place of the window, of all outputs."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*z, 0) for z in zeros), (0, 0, 0)])
    rows, columns = (stride * ((n - r) // stride) + 1 for n, r in zip(x.shape[1:3], _reach(window, dilation), strict=True))
    starts = [(a * dilation, b * dilation) for a in range(window[0]) for b in range(window[1])]
    return [x[:, a : a + rows : stride, b : b + columns : stride] for a, b in starts]


def _lax(x: Array, kernel: Array, layout: tuple[str, str, str], stride: int, zeros: Zeros, dilation: int, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), zeros, rhs_dilation=(dilation, dilation), dimension_numbers=layout, feature_group_count=groups
    )


def _zeros(size: Sequence[int], window: Sequence[int], stride: int, padding: Padding, dilation: int) -> Zeros:
    """The zeros before and behind."""
    if padding == "SAME":
        pairs = zip(size, _reach(window, dilation), strict=True)
        missing = [max(0, (-(-n // stride) - 1) * stride + reach - n) for n, reach in pairs]
        both = [(m // 2, m - m // 2) for m in missing]
    else:
        both = [(0, 0) if padding == "VALID" else (padding, padding)] * 2
    return both[0], both[1]


def _reach(window: Sequence[int], dilation: int) -> list[int]:
    """From a window's first pixel to its last one, both counted."""
    return [dilation * (w - 1) + 1 for w in window]


def _check(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> None:
    """Raise an `InputError` unless these images can be convolved with this kernel, in such a way."""
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"the images are {x.dtype}, the kernel {kernel.dtype}: both must be floats of one kind")
    _check_shapes(x.shape, kernel.shape, stride, padding, dilation, groups)


def _check_shapes(x: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: Any) -> None:
    if len(x) < 3 or len(kernel) != 4:
        raise InputError(f"images (..., H, W, C) and a kernel (k, k, C/groups, O) are wanted, got shapes {tuple(x)} and {tuple(kernel)}")
    if not all((*x, *kernel)):
        raise InputError(f"every size must be at least 1, got images {tuple(x)} and a kernel {tuple(kernel)}")
    _at_least_1(stride=stride, dilation=dilation, groups=groups)
    maps, features = x[-1], kernel[3]
    if maps % groups or features % groups:
        raise InputError(f"{groups} groups do not divide {maps} maps below and {features} above")
    if kernel[2] * groups != maps:
        times, taken = f", times {groups} groups," if groups > 1 else "", kernel[2] * groups
        raise InputError(
            f"a kernel (k, k, C, O) = {tuple(kernel)}{times} takes {taken} maps; images (..., H, W, C) = {tuple(x)} have {maps}"
        )
    if padding in ("SAME", "VALID"):
        zeros = 0
    elif isinstance(padding, bool) or not isinstance(padding, Integral):
        raise InputError(f"padding must be 'SAME', 'VALID' or a whole number of zeros on each side, got {padding!r}")
    else:
        zeros = int(padding)
    if padding != "SAME":
        for n, reach in zip(x[-3:-1], _reach(kernel[:2], dilation), strict=True):
            output_size(n, reach, stride, zeros)


def _at_least_1(**values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
