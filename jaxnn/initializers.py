"""Starting weights by recipe: each is an initializer `(key, shape, dtype=float32) -> array`, as Flax's kernel_init and bias_init take it.

n_in and n_out are the fan-in and fan-out of a kernel shaped (..., in, out), receptive field included; the recipes that use them
need at least two axes, so a bias takes `zeros` or `standard_normal`.

jax.nn.initializers holds factories of the same names, `lecun_normal()`; here the initializer itself, `lecun_normal`, is meant.
Its three `*_normal` draw from a normal cut off at two standard deviations and widened back to the stated variance, so no weight
exceeds 2.27 of them. LeCun asks for the variance alone, Glorot for the uniform form, He for an uncut normal.

>>> f"{fan_in_normal(jax.random.key(0), (784, 300)).std():.3f}"  # 1/√784 = .0357
'0.036'
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as jax_initializers
from jax.nn.initializers import Initializer, zeros
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn.types import unknown

__all__ = [
    "INITIALIZERS",
    "by_name",
    "fan_in_normal",
    "fan_in_uniform",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_normal_of_fan_out",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal_std_0_2",
    "normal_variance_0_2",
    "standard_normal",
    "uniform_of_fan_in",
    "zeros",
]

normal_std_0_2 = jax_initializers.normal(stddev=0.2)
"""W ~ N(0, 0.2²): the lecture's N(0, 0.2) (S3:373-401, row 67) with 0.2 read as the standard deviation."""
normal_variance_0_2 = jax_initializers.normal(stddev=0.2**0.5)
"""W ~ N(0, 0.2), standard deviation √0.2 = 0.447: the same slide with 0.2 read as the variance."""
standard_normal = jax_initializers.normal(stddev=1.0)
"""b ~ N(0, 1): the biases of Nielsen, Neural Networks and Deep Learning, ch. 3 and 5; lecture row 69."""
fan_in_normal = jax_initializers.variance_scaling(1.0, "fan_in", "normal")
"""W ~ N(0, 1/n_in), uncut: the weights of Nielsen, ch. 3 and 5; lecture row 69. jax's lecun_normal has this variance, but is truncated."""

lecun_normal = jax_initializers.lecun_normal()
"""W ~ truncated normal of variance 1/n_in. LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, doi:10.1007/3-540-49430-8_2."""
lecun_uniform = jax_initializers.lecun_uniform()
"""W ~ U(-√(3/n_in), √(3/n_in)), variance 1/n_in. LeCun et al. 1998, as lecun_normal."""
glorot_normal = jax_initializers.glorot_normal()
"""W ~ truncated normal of variance 2/(n_in + n_out). Glorot and Bengio 2010, AISTATS, PMLR 9:249-256."""
glorot_uniform = jax_initializers.glorot_uniform()
"""W ~ U(-√(6/(n_in + n_out)), √(6/(n_in + n_out))), variance 2/(n_in + n_out). Glorot and Bengio 2010, eq. 16."""
he_normal = jax_initializers.he_normal()
"""W ~ truncated normal of variance 2/n_in, for ReLU. He, Zhang, Ren, Sun 2015, arXiv:1502.01852, eq. 10 (there uncut)."""
he_normal_of_fan_out = jax_initializers.variance_scaling(2.0, "fan_out", "normal")
"""W ~ N(0, 2/n_out), uncut: it keeps the size of gradients, he_normal that of outputs. He et al. 2015, eq. 14."""
he_uniform = jax_initializers.he_uniform()
"""W ~ U(-√(6/n_in), √(6/n_in)), variance 2/n_in. He et al. 2015, as he_normal."""


def uniform_of_fan_in(fan_in: int | np.ndarray) -> Initializer:
    """W ~ U(-2.4/F, 2.4/F), F the inputs of the unit: LeNet-5's start, for shapes that do not tell F, as a bias's.

    `fan_in` may differ along the last axis. LeCun et al. 1998, doi:10.1109/5.726791, appendix A; lecture row 99.
    """

    def init(key: PRNGKeyArray, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Float[Array, "..."]:
        bound = np.broadcast_to(2.4 / np.asarray(fan_in), shape)
        return jax.random.uniform(key, shape, dtype, -1) * bound.astype(dtype)

    return init


def fan_in_uniform(key: PRNGKeyArray, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Float[Array, "..."]:
    """W ~ U(-2.4/n_in, 2.4/n_in): `uniform_of_fan_in`, with n_in that of the shape.

    The bound falls by n_in and not by its root: small at the start for wide layers.
    """
    return uniform_of_fan_in(math.prod(shape[:-1]))(key, shape, dtype)


INITIALIZERS: dict[str, Initializer] = {
    "normal_std_0_2": normal_std_0_2,
    "normal_variance_0_2": normal_variance_0_2,
    "standard_normal": standard_normal,
    "fan_in_normal": fan_in_normal,
    "fan_in_uniform": fan_in_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_normal_of_fan_out": he_normal_of_fan_out,
    "he_uniform": he_uniform,
    "zeros": zeros,
}


def by_name(name: str) -> Initializer:
    """The initializer of that name; an InputError names the nearest where there is none.

    >>> by_name("zeros")(jax.random.key(0), (2,))
    Array([0., 0.], dtype=float32)
    """
    if name not in INITIALIZERS:
        raise unknown("initializer", name, INITIALIZERS)
    return INITIALIZERS[name]
