"""Class labels as targets of a net, and its outputs as labels again: 1-of-C, and one output for two classes (lecture row 25, S2:521-527).

A third way, c nets for c classes, is a learner: `jaxnn.learners.one_vs_rest`.

A label outside the classes is an `InputError` where the labels are numbers. Inside jit nobody can look at them: their code is NaN, so
that a run on them ends with `Diverged`, where `jax.nn.one_hot` would train on zeros.

>>> one_of_c(jnp.array([2, 0]), 3)
Array([[0., 0., 1.],
       [1., 0., 0.]], dtype=float32)
>>> decode_binary(binary(jnp.array([1, 0])))
Array([1, 0], dtype=int32)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from jaxnn.types import InputError

Labels = Integer[Array | np.ndarray, "*batch"]


def one_of_c(labels: Labels, classes: int) -> Float[Array, "*batch C"]:
    """t_i = 1 for class i and 0 for all others, of C = `classes`."""
    return jnp.where(are_classes(labels, classes)[..., None], jax.nn.one_hot(labels, classes), jnp.nan)


def binary(labels: Labels) -> Float[Array, "*batch 1"]:
    """t = 0 or 1 at one output, for two classes."""
    return jnp.where(are_classes(labels, 2), jnp.asarray(labels, jnp.float32), jnp.nan)[..., None]


def decode_one_of_c(outputs: Float[Array, "*batch C"]) -> Int[Array, "*batch"]:
    """The class of the largest output, be they probabilities or logits, of one net or of c; of equal ones the first."""
    return jnp.argmax(outputs, axis=-1).astype(jnp.int32)


def decode_binary(outputs: Float[Array, "*batch 1"], threshold: float = 0.5) -> Int[Array, "*batch"]:
    """1 where the output is at least `threshold`, which is ½ for a sigmoid and 0 for its logit."""
    return (outputs[..., 0] >= threshold).astype(jnp.int32)


def check_labels(labels: Labels, classes: int) -> None:
    """Raise `InputError` for the first label outside 0 ≤ label < `classes`.

    >>> check_labels(np.array([0, 12, 3]), 10)
    Traceback (most recent call last):
    jaxnn.types.InputError: label 12 at [1] is outside the 10 classes, 0 to 9; 1 of 3 labels is
    """
    outside = np.argwhere((np.asarray(labels) < 0) | (np.asarray(labels) >= classes))
    if len(outside):
        where, count = tuple(outside[0]), len(outside)
        at = f" at [{', '.join(map(str, where))}]" if where else ""
        amount = f"{count} of {np.size(labels)} labels {'is' if count == 1 else 'are'}"
        raise InputError(f"label {np.asarray(labels)[where]}{at} is outside the {classes} classes, 0 to {classes - 1}; {amount}")


def are_classes(labels: Labels, classes: int) -> Array:
    """Which labels are classes; checked at once where they are numbers."""
    if not isinstance(labels, jax.core.Tracer):
        check_labels(labels, classes)
    return jnp.asarray((labels >= 0) & (labels < classes))
