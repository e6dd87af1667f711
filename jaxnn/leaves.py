"""The leaves of a state as named NumPy arrays and back: what is kept of a state in a file. And which of them are weights."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.types import InputError, PyTree


def named(tree: PyTree) -> dict[str, Any]:
    """Every leaf by its path in the tree; of a random key, its bits.

    >>> import numpy as np
    >>> named({"w": [np.ones(2), np.zeros(3)]}).keys()
    dict_keys(["['w'][0]", "['w'][1]"])
    """
    return {jax.tree_util.keystr(path): bits(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def bits(leaf: Any) -> Any:
    """A leaf as NumPy can keep it: of a random key, its bits."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def rebuilt(like: PyTree, kept: Mapping[str, np.ndarray], where: Any) -> PyTree:
    """The tree of `like` (arrays, or what `jax.eval_shape` gives) with the leaves that `named` gave.

    A leaf of `like` that names a sharding is placed by it. Raises `InputError`, which begins with `where`, for a leaf that
    is not there, one too many, and one of another shape or dtype.
    """
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    for name in wanted:
        if name not in kept:
            raise InputError(f"{where} holds no {name}; it holds {', '.join(sorted(kept)) or 'nothing'}")
    for name in kept:
        if name not in wanted:
            raise InputError(
                f"{where} holds {name}, which the state wanted here has not; that has {', '.join(sorted(wanted)) or 'nothing'}"
            )
    leaves = [_leaf(name, kept[name], template, where) for name, template in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _leaf(name: str, array: np.ndarray, template: Any, where: Any) -> np.ndarray | jax.Array:
    wanted = jax.eval_shape(bits, template) if is_key(template) else template
    wanted = wanted if hasattr(wanted, "dtype") else np.asarray(wanted)  # eval_shape would make float64 of NumPy a float32
    if array.shape != wanted.shape or array.dtype != wanted.dtype:
        raise InputError(f"{where}: {name} is {array.dtype}{array.shape}, wanted {wanted.dtype}{wanted.shape}")
    if is_key(template):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(jnp.empty((), template.dtype)))
    sharding = template.sharding if isinstance(template, jax.ShapeDtypeStruct) else None
    return array if sharding is None else jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


NO_WEIGHTS = ("bias", "biases", "thresholds", "scale", "log_widths", "centres")
"""Leaves that no penalty shrinks and no pruning takes: they shift, scale or place a unit."""


def is_weight(path: tuple) -> bool:
    """Whether the leaf at this path is a weight between units, and not one of NO_WEIGHTS: a bias, a scale of BatchNorm, a centre."""
    last = path[-1] if path else None
    return getattr(last, "key", getattr(last, "name", None)) not in NO_WEIGHTS


def weights(params: PyTree) -> dict[str, Any]:
    """The leaves that are weights, by their paths.

    >>> import numpy as np
    >>> weights({"output": {"kernel": np.ones((2, 3)), "bias": np.zeros(3)}}).keys()
    dict_keys(["['output']['kernel']"])
    """
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if is_weight(path)}


def map_weights(function: Callable, params: PyTree, *others: PyTree) -> PyTree:
    """`function(weight, *others)` in place of every weight; the other leaves of `params` stay."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf, *more: function(leaf, *more) if is_weight(path) else leaf, params, *others)


def is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
