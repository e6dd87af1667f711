"""What the tests of large nets share: shapes without values, values without an initializer."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.initializers import zeros
from jaxnn.models import functional


def images(size, batch=1, maps=3):
    height, width = (size, size) if isinstance(size, int) else size
    return jax.ShapeDtypeStruct((batch, height, width, maps), jnp.float32)


@cache
def shapes(net, size=224):
    """Those of all variables. They do not hang on the weights' start, which takes longest to trace."""
    net = net.clone(kernel_init=zeros)
    return jax.eval_shape(functional(net).init, jax.random.key(0), images(size))


def counts(net, size=224):
    """Parameters by layer."""
    return {name: sum(leaf.size for leaf in jax.tree.leaves(layer)) for name, layer in shapes(net, size)["params"].items()}


def filled(shapes, seed=0):
    """Values of those shapes: kernels that keep the size of what goes through, biases and means about 0, scales and variances about 1."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            return jnp.asarray(rng.standard_normal(leaf.shape, np.float32) * np.sqrt(2 / np.prod(leaf.shape[:-1]), dtype=np.float32))
        centre = 1 if path[-1].key in ("scale", "var") else 0
        return jnp.asarray(centre + rng.uniform(-0.3, 0.3, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def drawn(size, batch=2, seed=1):
    """Images of normal pixels."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=images(size, batch).shape), jnp.float32)
