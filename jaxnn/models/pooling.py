"""Pooling: one number for each k×k window of each map, NHWC; windows overlap where the stride is less than k.

| function         | y of the entries x of a window | lecture's name (S0:261) |
|------------------|--------------------------------|-------------------------|
| max_pool         | max x                          | 最大化池化              |
| mean_pool        | (1/n) Σ x                      | 均值池化                |
| mean_square_pool | √((1/n) Σ x²)                  | 均方采样                |
| normalised_pool  | Σ (x / Σx) x                   | 归一化采样              |

重叠采样, overlapping, is any of them with `stride` < `window` (Krizhevsky et al. 2012: windows of 3, stride 2). The slide gives names
alone; the formulas of the last two are the literature's. `stride` is `window` unless given. `padding` is what is added on each side;
it takes no part: no maximum, and not counted in n. A border that no window reaches is left out; with `ceil` one more window, which
reaches over the border, takes it in.

Pooling makes a net indifferent to small shifts alone, not to scale or rotation as S3:613 has it (erratum E49).

Source: lecture row 91. LeCun et al. 1998, doi:10.1109/5.726791 (mean); Boureau, Ponce, LeCun 2010 (mean against max).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxnn.models.arithmetic import output_size
from jaxnn.types import InputError

__all__ = ["adaptive_mean_pool", "max_pool", "mean_pool", "mean_square_pool", "normalised_pool"]

Maps = Float[Array, "*batch H W C"]
Pooled = Float[Array, "*batch P Q C"]


def max_pool(x: Maps, window: int = 2, *, stride: int | None = None, padding: int = 0, ceil: bool = False) -> Pooled:
    """y = max x. Its gradient goes to the arg max alone, of equal entries to the first by rows; lecture rows 91 and 92.

    >>> max_pool(jnp.array([[1.0, 2.0], [5.0, 6.0]])[..., None]).ravel()
    Array([6.], dtype=float32)
    """
    if _beside(x, window, stride, padding, ceil):
        return _max_of_blocks(_blocks(x, window))
    return _reduce(x, lax.max, -np.inf, window, stride, padding, ceil)


def mean_pool(x: Maps, window: int = 2, *, stride: int | None = None, padding: int = 0, ceil: bool = False) -> Pooled:
    """y = (1/n) Σ x. Its gradient is 1/n for every entry; lecture rows 91 and 92.

    >>> mean_pool(jnp.array([[1.0, 2.0], [5.0, 6.0]])[..., None]).ravel()
    Array([3.5], dtype=float32)
    """
    if _beside(x, window, stride, padding, ceil):
        return _blocks(x, window).mean((-4, -2))
    counted = jnp.ones((1,) * (x.ndim - 3) + (*x.shape[-3:-1], 1), x.dtype)
    return _sum(x, window, stride, padding, ceil) / _sum(counted, window, stride, padding, ceil)


def mean_square_pool(x: Maps, window: int = 2, *, stride: int | None = None, padding: int = 0, ceil: bool = False) -> Pooled:
    """y = √((1/n) Σ x²), the Euclidean norm of the window up to √n, with gradient 0 where all x are 0; lecture row 91.

    Hyvärinen & Köster 2007, doi:10.1080/09548980701418942; L_p pooling of Sermanet et al. 2012, arXiv:1204.3968, with p = 2.

    >>> mean_square_pool(jnp.array([[1.0, 1.0], [1.0, 5.0]])[..., None]).ravel()
    Array([2.6457512], dtype=float32)
    """
    mean = mean_pool(jnp.square(x), window, stride=stride, padding=padding, ceil=ceil)
    return jnp.where(mean > 0, jnp.sqrt(jnp.where(mean > 0, mean, 1)), mean)  # the slope of √ at 0 is infinite; a NaN stays one


def normalised_pool(x: Maps, window: int = 2, *, stride: int | None = None, padding: int = 0, ceil: bool = False) -> Pooled:
    """y = Σ p x with p = x / Σx, the window's entries as probabilities, for x ≥ 0 as a ReLU gives it; 0 where all x are 0.

    The mean of stochastic pooling, which draws one x by these p: Zeiler & Fergus 2013, arXiv:1301.3557; lecture row 91.

    >>> normalised_pool(jnp.array([[1.0, 1.0], [0.0, 2.0]])[..., None]).ravel()
    Array([1.5], dtype=float32)
    """
    total, squares = (_sum(values, window, stride, padding, ceil) for values in (x, jnp.square(x)))
    return squares / jnp.where(total == 0, 1, total)


def adaptive_mean_pool(x: Maps, size: int) -> Float[Array, "*batch size size C"]:
    """size × size means whatever the size of the maps: the i-th of n pixels is that of the pixels from ⌊i n/size⌋ to ⌈(i+1) n/size⌉ - 1.

    Windows overlap by a pixel where `size` does not divide n, and repeat where n is less. It lets a net with dense layers, AlexNet or
    VGG, take images of any size; maps of `size` × `size` stay as they are.

    >>> adaptive_mean_pool(jnp.arange(9.0).reshape(3, 3, 1), 2)[..., 0]
    Array([[2., 3.],
           [5., 6.]], dtype=float32)
    """
    if size < 1:
        raise InputError(f"size must be at least 1, got {size}")
    if x.shape[-3:-1] == (size, size):
        return x
    rows, columns = (_averages(length, size).astype(x.dtype) for length in x.shape[-3:-1])
    return jnp.einsum("...hwc,ph,qw->...pqc", x, rows, columns, precision=lax.Precision.HIGHEST)


def _averages(length: int, size: int) -> Float[np.ndarray, "size length"]:
    """The matrix whose rows take the means."""
    taken = np.zeros((size, length))
    for i in range(size):
        taken[i, i * length // size : -(-(i + 1) * length // size)] = 1
    return taken / taken.sum(1, keepdims=True)


def _beside(x: Maps, window: int, stride: int | None, padding: int, ceil: bool) -> bool:
    """Whether windows lie beside each other: then they are blocks of a reshape, in half the time of `lax.reduce_window` on a CPU."""
    over = ceil and any(size % max(window, 1) for size in x.shape[-3:-1])
    return stride in (None, window) and padding == 0 and not over


def _blocks(x: Maps, window: int) -> Float[Array, "*batch P k Q k C"]:
    """Each window as axes of its own, without the border that none reaches."""
    rows, columns = (output_size(size, window, window) for size in x.shape[-3:-1])
    x = x[..., : rows * window, : columns * window, :]
    return x.reshape(*x.shape[:-3], rows, window, columns, window, x.shape[-1])


@jax.custom_jvp
def _max_of_blocks(blocks: Float[Array, "*batch P k Q k C"]) -> Pooled:
    return blocks.max((-4, -2))


@_max_of_blocks.defjvp
def _tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (blocks,), (tangent,) = primals, tangents
    y = blocks.max((-4, -2))
    return y, jnp.where(_first(blocks == jnp.expand_dims(y, (-4, -2))), tangent, 0).sum((-4, -2))


def _first(equal: Bool[Array, "*batch P k Q k C"]) -> Bool[Array, "*batch P k Q k C"]:
    """Of the entries of a window that are True the first by rows."""
    window, taken, rows = equal.shape[-2], jnp.zeros((), bool), []
    for i in range(window):
        row = []
        for j in range(window):
            here = equal[..., i, :, j, :]
            row.append(here & ~jnp.broadcast_to(taken, here.shape))
            taken = jnp.broadcast_to(taken, here.shape) | here
        rows.append(jnp.stack(row, -2))
    return jnp.stack(rows, -4)


def _sum(x: Array, window: int, stride: int | None, padding: int, ceil: bool) -> Array:
    return _reduce(x, lax.add, 0.0, window, stride, padding, ceil)


def _reduce(x: Array, join: Callable, empty: float, window: int, stride: int | None, padding: int, ceil: bool) -> Array:
    """`join` of the entries of every window, with `empty` around the maps."""
    stride = window if stride is None else stride
    if not 0 <= padding < max(window, 1):
        raise InputError(f"padding must be from 0 to window - 1 = {window - 1}, got {padding}: a window of padding alone has no entry")
    ends = [(output_size(size, window, stride, padding, ceil=ceil) - 1) * stride + window - size - padding for size in x.shape[-3:-1]]
    alone = (1,) * (x.ndim - 3)
    around = ((0, 0),) * (x.ndim - 3) + tuple((padding, max(0, behind)) for behind in ends) + ((0, 0),)
    return lax.reduce_window(x, empty, join, (*alone, window, window, 1), (*alone, stride, stride, 1), around)
