"""What keeps weights small: terms to be added to the mean loss, and the step that makes weights exactly zero.

`supervised(..., penalty=lambda params: 0.01 * l2(params))`. Biases, and the scales of BatchNorm, go free: they only shift and scale the
outputs of a unit, and to shrink them costs fit without any gain (Hinton 2012, doi:10.1007/978-3-642-35289-8_32, section 10).
Lecture rows 50 and 167: S0:125 has further constraints in the cost function.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxnn.leaves import map_weights, weights
from jaxnn.types import InputError, PyTree


def l2(params: PyTree) -> Float[Array, ""]:
    """½ Σ w², whose gradient is w: every step of gradient descent at rate η multiplies the weights by 1 - ηλ. Ridge regression.

    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634; Krogh & Hertz 1991, A simple weight decay can improve generalization.

    >>> l2({"kernel": jnp.array([[3.0], [4.0]]), "bias": jnp.array([100.0])})
    Array(12.5, dtype=float32)
    """
    return sum((0.5 * jnp.sum(jnp.square(w)) for w in weights(params).values()), jnp.zeros(()))


def l1(params: PyTree) -> Float[Array, ""]:
    """Σ |w|, whose gradient is sgn(w) and 0 at 0. The lasso: Tibshirani 1996, doi:10.1111/j.2517-6161.1996.tb02080.x.

    A gradient step of size ηλ jumps over zero, and the next one back: a weight that should be zero is only small. `shrink` stops there.

    >>> l1({"kernel": jnp.array([[3.0], [-4.0]]), "bias": jnp.array([100.0])})
    Array(7., dtype=float32)
    """
    return sum((jnp.sum(jnp.abs(w)) for w in weights(params).values()), jnp.zeros(()))


def soft_threshold(w: Float[Array, "*shape"], threshold: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """sgn(w) max(|w| - t, 0) = argmin_v ½(v - w)² + t|v|: towards zero by t, and no further.

    >>> soft_threshold(jnp.array([3.0, 0.5, -2.0]), 1.0)
    Array([ 2.,  0., -1.], dtype=float32)
    """
    return jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0)


def shrink(amount: Float[Array, ""] | float) -> optax.GradientTransformation:
    """The L1 penalty λΣ|w| by its proximal step: `optax.chain(sgd(η), shrink(η * λ))` is w ← soft_threshold(w - ηg, ηλ).

    It comes last in a chain, as it moves the updated weights, and takes the place of `l1` in the loss. Unlike a gradient's, its zeros
    are exact. Daubechies, Defrise, De Mol 2004, doi:10.1002/cpa.20042 (ISTA). Raises `InputError` where it is given no parameters.
    """

    def update(updates, state, params=None):
        if params is None:
            raise InputError("shrink needs the parameters: optimizer.update(updates, state, params)")
        moved = map_weights(lambda u, w: soft_threshold(w + u, amount).astype(w.dtype) - w, updates, params)
        return moved, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
