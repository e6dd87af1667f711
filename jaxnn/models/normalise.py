"""Local response normalisation: a strong answer turns down its neighbours among the maps."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.types import InputError


def local_response_normalisation(
    x: Float[Array, "*batch C"], *, k: float = 2.0, n: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> Float[Array, "*batch C"]:
    """y_i = x_i / (k + α Σ_j x_j²)^β, j over the n maps around i, i itself among them, as far as there are maps.

    At each place of the image for itself; maps are neighbours by their numbers, the last axis. α is not divided by n, as it is in the
    layers of some libraries, whose α = 5e-4 is this one's 1e-4. Raises `InputError` for an n that has no middle.

    Source: Krizhevsky, Sutskever, Hinton 2012, Advances in Neural Information Processing Systems 25, section 3.3; lecture row 107.

    >>> local_response_normalisation(jnp.array([1.0, 2.0, 0.0]), k=0.0, n=3, alpha=1.0, beta=1.0)
    Array([0.2, 0.4, 0. ], dtype=float32)
    """
    if n < 1 or n % 2 == 0:
        raise InputError(f"n must be odd, a map and as many on each side, got {n}")
    maps, around = x.shape[-1], n // 2
    squares = jnp.pad(jnp.square(x), ((0, 0),) * (x.ndim - 1) + ((around, around),))
    energy = sum(squares[..., j : j + maps] for j in range(n))
    return x * (k + alpha * energy) ** -beta
