"""Smaller nets: weights and units taken out by their magnitude, what is left in few bits, and the bytes that this takes.

A trained net is pruned, trained on with `hold_zeros` around its optimizer, and quantised: Han, Mao, Dally 2016, arXiv:1510.00149.
Lecture rows 50 (S2:459, nodes can be cut) and 159 (S4:1196-1201). Biases are left as they are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int8, Shaped, UInt8

from jaxnn.leaves import is_weight, map_weights, weights
from jaxnn.types import InputError, PyTree

SCALE_BYTES = 4
"""A float32 for every quantised tensor."""


def prune_weights(params: PyTree, share: Float[Array, ""] | float) -> PyTree:
    """Set the round(share · n) smallest |w| of all n weights to zero, whatever their layers. `share` may be traced.

    Han, Pool, Tran, Dally 2015, arXiv:1506.02626. Of equal weights the first ones go.

    >>> prune_weights({"kernel": jnp.array([[1.0, -3.0], [-0.5, 2.0]]), "bias": jnp.array([0.1, 0.1])}, 0.5)["kernel"]
    Array([[ 0., -3.],
           [ 0.,  2.]], dtype=float32)
    """
    _check_share(share)
    leaves = weights(params)
    every = jnp.concatenate([jnp.abs(w).ravel() for w in leaves.values()])
    rank = jnp.zeros(every.size, jnp.int32).at[jnp.argsort(every)].set(jnp.arange(every.size, dtype=jnp.int32))
    kept, ends = rank >= jnp.round(share * every.size), np.cumsum([w.size for w in leaves.values()])
    parts = dict(zip(leaves, jnp.split(kept, ends[:-1]), strict=True))

    def prune(path: tuple, w: Any) -> Any:
        return jnp.where(parts[jax.tree_util.keystr(path)].reshape(w.shape), w, 0) if is_weight(path) else w

    return jax.tree_util.tree_map_with_path(prune, params)


def unit_strength(params: PyTree, layer: str, following: str) -> Float[Array, "units"]:
    """‖incoming weights‖ · ‖outgoing weights‖ of each unit of a dense layer; for ReLU units no rescaling of the net changes it."""
    incoming, outgoing = params[layer]["kernel"], params[following]["kernel"]
    return jnp.linalg.norm(incoming, axis=0) * jnp.linalg.norm(outgoing, axis=1)


def prune_units(params: PyTree, layer: str, following: str, share: Float[Array, ""] | float) -> PyTree:
    """Set all weights to and from the round(share · units) weakest units of `layer`, and their biases, to zero.

    `following` is the layer that they feed. `without_dead_units` then takes them out. A survey of such rules: Reed 1993,
    doi:10.1109/72.248452.
    """
    _check_share(share)
    strength = unit_strength(params, layer, following)
    rank = jnp.zeros(strength.size, jnp.int32).at[jnp.argsort(strength)].set(jnp.arange(strength.size, dtype=jnp.int32))
    kept = (rank >= jnp.round(share * strength.size)).astype(strength.dtype)
    own, after = params[layer], params[following]
    own = {**own, "kernel": own["kernel"] * kept[None], "bias": own["bias"] * kept}
    return {**params, layer: own, following: {**after, "kernel": after["kernel"] * kept[:, None]}}


def without_dead_units(params: PyTree, layer: str, following: str) -> PyTree:
    """The smaller net without the units of `layer` that `following` does not listen to; not for traced arrays, as shapes depend on them.

    Its outputs are those of the net that was given.
    """
    own, after = params[layer], params[following]
    alive = np.flatnonzero(np.any(np.asarray(after["kernel"]) != 0, axis=1))
    own = {**own, "kernel": own["kernel"][:, alive], "bias": own["bias"][alive]}
    return {**params, layer: own, following: {**after, "kernel": after["kernel"][alive]}}


def hold_zeros(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`optimizer`, which leaves weights that are exactly zero where they are: what is pruned stays pruned."""
    inner = optax.with_extra_args_support(optimizer)

    def update(gradients: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, Any]:
        if params is None:
            raise InputError("hold_zeros needs the parameters: optimizer.update(gradients, state, params)")
        updates, state = inner.update(gradients, state, params, **extra)
        return map_weights(lambda u, w: jnp.where(w == 0, 0, u), updates, params), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


class Quantized(NamedTuple):
    """w ≈ scale · codes."""

    codes: Int8[Array, "*shape"]
    scale: Float[Array, ""]

    @property
    def values(self) -> Float[Array, "*shape"]:
        return self.scale * self.codes.astype(self.scale.dtype)


def quantize(w: Float[Array, "*shape"], bits: int, limit: Float[Array, ""] | float | None = None) -> Quantized:
    """codes = round(w/s) from -L to L with L = 2^(bits-1) - 1 and s = limit/L: 2 to 8 bits, uniform, zero is exact.

    `limit` is the largest |w| that there is a code for, max|w| where left out: then no weight moves by more than s/2. Weights beyond a
    smaller limit are cut off there (`least_squares_limit`). Jacob et al. 2018, arXiv:1712.05877.

    >>> quantize(jnp.array([1.0, -0.4, 0.1]), 3).values
    Array([ 1.        , -0.33333334,  0.        ], dtype=float32)
    """
    if not 2 <= bits <= 8:
        raise InputError(f"bits must be from 2 to 8, got {bits}")
    levels = 2 ** (bits - 1) - 1
    scale = (jnp.max(jnp.abs(w)) if limit is None else jnp.asarray(limit, w.dtype)) / levels
    codes = jnp.clip(jnp.round(w / jnp.where(scale > 0, scale, 1)), -levels, levels)
    return Quantized(codes.astype(jnp.int8), scale)


def least_squares_limit(w: Float[Array, "*shape"], bits: int, candidates: int = 100) -> Float[Array, ""]:
    """Of the limits max|w| · k/candidates the one whose codes come closest to w in the mean square.

    With few bits a few large weights would else take all the codes: in 2 bits most of the others would become zero.
    """
    limits = jnp.max(jnp.abs(w)) * jnp.arange(1, candidates + 1) / candidates
    errors = jax.lax.map(lambda limit: jnp.mean(jnp.square(quantize(w, bits, limit).values - w)), limits)
    return limits[jnp.argmin(errors)]


def pack(codes: Shaped[np.ndarray, "N"], bits: int) -> UInt8[np.ndarray, "bytes"]:
    """N codes from -L to L, `bits` bits each, without gaps: ⌈N · bits/8⌉ bytes.

    >>> pack(np.array([1, -1, 0, 1]), 2)
    array([134], dtype=uint8)
    """
    unsigned = (np.asarray(codes, np.int16) + 2 ** (bits - 1) - 1).astype(np.uint8)
    return np.packbits(np.unpackbits(unsigned[:, None], axis=1)[:, 8 - bits :])


def unpack(packed: UInt8[np.ndarray, "bytes"], bits: int, count: int) -> Int8[np.ndarray, "N"]:
    """The `count` codes that `pack` packed."""
    by_code = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    padded = np.pad(by_code, ((0, 0), (8 - bits, 0)))
    return (np.packbits(padded, axis=1)[:, 0].astype(np.int16) - 2 ** (bits - 1) + 1).astype(np.int8)


def size_in_bytes(params: PyTree, bits: int = 32) -> int:
    """What a file of the net needs: of each weight tensor the shorter of all its codes and, one bit each, which are not zero, then those.

    `bits` are those of one weight, 32 for floats as they are; each quantised tensor has a scale. All other leaves are kept in full.
    """
    kept = weights(params)
    rest = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(params)) - sum(np.asarray(w).nbytes for w in kept.values())
    return rest + sum(_bytes_of_weights(np.asarray(w), bits) for w in kept.values())


def _bytes_of_weights(w: np.ndarray, bits: int) -> int:
    dense, sparse = _bytes(w.size * bits), _bytes(w.size) + _bytes(int(np.count_nonzero(w)) * bits)
    return min(dense, sparse) + (SCALE_BYTES if bits < 32 else 0)


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _check_share(share: Any) -> None:
    if not isinstance(share, jax.core.Tracer) and not 0 <= float(share) <= 1:
        raise InputError(f"the share to prune must be from 0 to 1, got {share}")
