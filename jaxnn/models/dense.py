"""The dense layer, y = xW + b, quick on a CPU too where its units are few."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnn.types import InputError

NARROW = 64
"""Up to so many units, XLA:CPU computes δᵀx, whose rows are long, in less time than xᵀδ, whose rows are short."""


def dense(units: int, name: str, **options: Any) -> nn.Dense:
    """`flax.linen.Dense` with the same parameters, outputs and, to rounding, derivatives; a narrow layer trains faster on a CPU.

    On two cores, a training step of [784,30,30,10] takes a fifth less time so at batch 10 and a tenth less at 100; one of
    [784,256,256,10] would take a fifth more, hence `NARROW`. On other devices, and in wide layers, this is flax's own layer.
    Raises `InputError` for less than one unit: a net's number of classes, say.
    """
    if units < 1:
        raise InputError(f"the layer {name} must have at least 1 unit, got {units}")
    if units <= NARROW and jax.default_backend() == "cpu":
        options.setdefault("dot_general", product)
    return nn.Dense(units, name=name, **options)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def product(
    x: Float[Array, "*batch m"], kernel: Float[Array, "m n"], dimension_numbers: tuple, precision: Any = None
) -> Float[Array, "*batch n"]:
    """xW as `lax.dot_general` gives it; reverse mode gives the gradient of W as (δᵀx)ᵀ in place of xᵀδ."""
    return lax.dot_general(x, kernel, dimension_numbers, precision)


@product.defjvp
def _tangent(dimension_numbers: tuple, precision: Any, primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    contract_last = (((1,), (x.ndim - 1,)), ((), ()))
    # Transposed, this line is the gradient of W. Without the barriers XLA would turn it back into xᵀδ.
    turned = lax.optimization_barrier(lax.dot_general(lax.optimization_barrier(dkernel.T), x, contract_last, precision))
    y = product(x, kernel, dimension_numbers, precision)
    return y, product(dx, kernel, dimension_numbers, precision) + jnp.moveaxis(turned, 0, -1)
