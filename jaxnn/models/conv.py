"""The one convolution that all nets use: y = x * w over NHWC maps, quick on a CPU too, inside `lax.scan` as well.

y_pqo = Σ_abc x_{ps+ad, qs+bd, c} w_abco for stride s and dilation d: the correlation that all of deep learning calls a convolution; a
true one turns the kernel by 180° first. With g groups, the n-th g-th of the maps above sees the n-th g-th of the maps below.

On XLA:CPU `lax.conv_general_dilated` is slow where maps are few, and its gradients are 3 to 30 times slower again inside a loop (jax
issue 12868). Here the same numbers come another way, chosen by the kernel's shape (`tiles_pay`):

- `tiled`: two by two outputs at a time. The (k+1)² pixels that they see are one row of a matrix, and one product with the kernel in its
  four places, zeros between, gives all four: 1.44 times the operations of 5×5 windows, 4/9 of the copies, and rows as wide as the
  processor's vectors want them.
- `direct`: lax's own convolution, whose derivatives are written in the transposed layouts. Their transposes, which reverse mode runs,
  are then plain NHWC with HWIO, the one layout that is fast in a loop:
  ∂E/∂x = (δ spread by s, in enough zeros) * (w turned by 180°, its maps exchanged),
  ∂E/∂w = x * δ with examples as maps and maps as examples, δ spread by s, moving by d.

Both can be differentiated again, forwards and backwards. On accelerators it is lax's convolution as it stands.

Source: lecture rows 76-82 and 89 (S4:380, 395, 614). LeCun et al. 1998, doi:10.1109/5.726791; Dumoulin & Visin 2016, arXiv:1603.07285.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

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

FEW_MAPS = 8
"""Between 6, where tiles pay, and 16, where they do not."""


class Conv(nn.Module):
    """y = x * w + b of `features` maps with windows of `window` × `window`; the parameters `kernel` (k, k, C/groups, O) and `bias` (O,).

    Raises `InputError`, naming the layer, where no window fits or the maps cannot be grouped. Lecture rows 78, 80, 82 and 89.
    """

    features: int
    window: int
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
        try:
            _at_least_1(window=self.window, features=self.features, groups=self.groups)
            shape = (self.window, self.window, x.shape[-1] // self.groups, self.features)
            _check(x.shape, shape, **how)
        except InputError as error:
            raise InputError(f"{self.name or 'Conv'}: {error}") from error
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        y = conv(x, kernel, **how)
        return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


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
    _check(x.shape, kernel.shape, stride, padding, dilation, groups)
    zeros = _zeros(x.shape[-3:-1], kernel.shape[:2], stride, padding, dilation)
    images = x.reshape(-1, *x.shape[-3:])
    if groups == 1 and not np.any(zeros) and x.shape[-3:-1] == kernel.shape[:2] and dilation == 1:
        y = covering(images, kernel)
    elif jax.default_backend() != "cpu":
        y = plain(images, kernel, stride, zeros, dilation, groups)
    elif stride == dilation == groups == 1 and tiles_pay(kernel.shape):
        y = tiled(images, kernel, zeros)
    else:
        y = direct(images, kernel, stride, zeros, dilation, groups)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def tiles_pay(kernel: Sequence[int]) -> bool:
    """Whether `tiled` is quicker than `direct` for a kernel of this shape: where the maps below are few.

    Two CPU cores, 128 images, forward and both gradients inside a scan, ms (`python -m benchmarks.convolution`):

    | layer | direct | tiled | PyTorch |
    |---|---|---|---|
    | LeNet-5's C1, 5×5, 1 → 6 maps of 28×28 | 32.2 | 6.6 | 8.93 |
    | LeNet-5's C3, 5×5, 6 → 16 maps of 10×10 | 8.58 | 4.17 | 3.47 |
    | 3×3, 3 → 16 maps of 32×32 | 42.2 | 19.9 | 10.5 |
    | 3×3, 16 → 16 maps of 32×32 | 79 | 89.3 | 22.9 |
    | 3×3, 64 → 64 maps of 8×8 | 33.6 | 40.6 | 17.7 |
    """
    return kernel[2] <= FEW_MAPS and min(kernel[:2]) > 1


def plain(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k w D O"], stride: int, zeros: Zeros, dilation: int, groups: int
) -> Float[Array, "B P Q O"]:
    """`lax.conv_general_dilated` with all its own derivatives."""
    return _lax(x, kernel, ("NHWC", "HWIO", "NHWC"), stride, zeros, dilation, groups)


def covering(x: Float[Array, "B k w C"], kernel: Float[Array, "k w C O"]) -> Float[Array, "B 1 1 O"]:
    """A window as large as the image, as in LeNet-5's C5: a dense layer. As a convolution its gradient would be 25 times the work."""
    return (x.reshape(len(x), -1) @ kernel.reshape(-1, kernel.shape[3]))[:, None, None]


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
    y = jnp.concatenate(under, -1) @ _in_four_places(kernel, seen)
    y = y.reshape(batch, *tiles, 2, 2, features).swapaxes(2, 3).reshape(batch, 2 * tiles[0], 2 * tiles[1], features)
    return y[:, :rows, :columns]


def _in_four_places(kernel: Float[Array, "k w C O"], seen: Sequence[int]) -> Float[Array, "F 4*O"]:
    """The kernel at the four outputs of a tile, zeros elsewhere in what the tile sees: a row a pixel and map, in `tiled`'s order."""
    *window, maps, features = kernel.shape
    more = [2 * s - w for s, w in zip(seen, window, strict=True)]
    places = [jnp.pad(kernel, ((a, more[0] - a), (b, more[1] - b), (0, 0), (0, 0))) for a in (0, 1) for b in (0, 1)]
    rows = jnp.stack(places, -2).reshape(seen[0], 2, seen[1], 2, maps, 4 * features)
    return rows.swapaxes(1, 2).reshape(-1, 4 * features)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def direct(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k w D O"], stride: int, zeros: Zeros, dilation: int, groups: int
) -> Float[Array, "B P Q O"]:
    """`plain`, whose gradients are convolutions of the same layout."""
    return plain(x, kernel, stride, zeros, dilation, groups)


@direct.defjvp
def _tangent(
    stride: int, zeros: Zeros, dilation: int, groups: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = direct(x, kernel, stride, zeros, dilation, groups)
    how = (stride, zeros, dilation, groups)
    # These layouts are chosen for their transposes. The barriers keep XLA from turning them back.
    exchanged = lax.optimization_barrier(kernel.swapaxes(2, 3)) if groups == 1 else None
    of_x = _lax(dx, kernel if exchanged is None else exchanged, ("NHWC", "HWIO" if exchanged is None else "HWOI", "NHWC"), *how)
    if groups > 1:
        return y, of_x + _lax(x, dkernel, ("NHWC", "HWIO", "NHWC"), *how)
    maps_first = lax.optimization_barrier(x.transpose(3, 1, 2, 0))
    of_kernel = _lax(maps_first, dkernel.transpose(2, 0, 1, 3), ("CHWN", "IHWO", "HWNC"), *how)
    return y, of_x + of_kernel.transpose(2, 0, 1, 3)


def _lax(x: Array, kernel: Array, layout: tuple[str, str, str], stride: int, zeros: Zeros, dilation: int, groups: int) -> Array:
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


def _check(x: Sequence[int], kernel: Sequence[int], stride: int, padding: Padding, dilation: int, groups: int) -> None:
    """Raise an `InputError` unless images of shape `x` can be convolved with such a kernel, in such a way."""
    if len(x) < 3 or len(kernel) != 4:
        raise InputError(f"images (..., H, W, C) and a kernel (k, k, C/groups, O) are wanted, got shapes {tuple(x)} and {tuple(kernel)}")
    _at_least_1(stride=stride, dilation=dilation, groups=groups)
    maps, features = x[-1], kernel[3]
    if maps % groups or features % groups:
        raise InputError(f"{groups} groups do not divide {maps} maps below and {features} above")
    if kernel[2] * groups != maps:
        raise InputError(f"the kernel is for {kernel[2] * groups} maps, the input {tuple(x)} has {maps}")
    if isinstance(padding, str) and padding not in ("SAME", "VALID"):
        raise InputError(f"padding must be 'SAME', 'VALID' or a number of zeros on each side, got {padding!r}")
    if padding != "SAME":
        for n, reach in zip(x[-3:-1], _reach(kernel[:2], dilation), strict=True):
            output_size(n, reach, stride, 0 if padding == "VALID" else padding)


def _at_least_1(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
