"""Losses of one example: each reduces its last axis, (..., K) -> (...), and the learner takes the mean over the batch.

Lecture rows 32-36. The slides call the squared loss 均方差, standard deviation (erratum E46); it is 均方误差, mean squared error.

The gradient at the output is y - t, as S3:158 has it for every net, for matched pairs alone (erratum E6; Bishop, PRML, 5.2 and 5.3),
here three:
a linear output with half_squared_error, a sigmoid with sigmoid_cross_entropy, a softmax with softmax_cross_entropy.
Elsewhere a factor h'(a) stays: (y - t)h'(a) for a sigmoid output with half_squared_error.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer, Real

from jaxnn.types import InputError


def half_squared_error(outputs: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """E = ½ Σ_k (y_k - t_k)²; lecture row 33, with the index k that S2:421 writes as m (erratum E16).

    >>> half_squared_error(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 0.0, 0.0]))
    Array(6.5, dtype=float32)
    """
    return 0.5 * jnp.sum(jnp.square(outputs - targets), axis=-1)


def mean_squared_error(outputs: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """E = (1/K) Σ_k (y_k - t_k)²; lecture rows 32 and 34.

    Its root is the RMSE. With the targets' own mean as every output it is their population variance (erratum E10).

    >>> mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]))
    Array(2., dtype=float32)
    """
    return jnp.mean(jnp.square(outputs - targets), axis=-1)


def absolute_error(outputs: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """E = Σ_k |y_k - t_k|, with gradient 0 where y_k = t_k; lecture row 32.

    >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([4.0, 0.0]))
    Array(5., dtype=float32)
    """
    return jnp.sum(jnp.abs(outputs - targets), axis=-1)


def mean_absolute_error(outputs: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """E = (1/K) Σ_k |y_k - t_k|; lecture row 32.

    >>> mean_absolute_error(jnp.array([1.0, 2.0]), jnp.array([4.0, 0.0]))
    Array(2.5, dtype=float32)
    """
    return jnp.mean(jnp.abs(outputs - targets), axis=-1)


def cross_entropy(probabilities: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """H = -Σ_k t_k log p_k in nats, with 0·log 0 = 0; lecture rows 32, 35 and 36.

    Value and gradient are finite wherever p_k > 0 or t_k = 0; p_k = 0 under t_k > 0 is inf. A net that has logits should use
    softmax_cross_entropy, which does not lose small probabilities to rounding.

    >>> f"{cross_entropy(jnp.array([0.9, 0.1, 0.0]), jnp.array([1.0, 0.0, 0.0])):.6f}"
    '0.105361'
    """
    # The floor stands under t = 0 alone: there it changes no value, and 0/p and 0·log p are no longer NaN at p = 0.
    floored = jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny)
    return -jnp.sum(targets * jnp.log(jnp.where(targets == 0, floored, probabilities)), axis=-1)


def softmax_cross_entropy(logits: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """E = -Σ_k t_k log softmax(z)_k for a target distribution t; ∂E/∂z = softmax(z) - t. Lecture rows 11, 32 and 133.

    >>> softmax_cross_entropy(jnp.array([1000.0, 0.0]), jnp.array([0.0, 1.0]))
    Array(1000., dtype=float32)
    """
    return optax.softmax_cross_entropy(logits, targets)


def softmax_cross_entropy_with_integer_labels(logits: Float[Array, "*batch K"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """E = log Σ_k e^(z_k) - z_label; lecture row 133. NaN, in value and gradient, for a label outside 0 ≤ label < K.

    optax's function of this name reads label -1 as the last class.

    >>> softmax_cross_entropy_with_integer_labels(jnp.array([[0.0, 1000.0]] * 3), jnp.array([0, 2, -1]))
    Array([1000.,   nan,   nan], dtype=float32)
    """
    return -_at_label(jax.nn.log_softmax(logits, axis=-1), labels)


def smoothed_cross_entropy(
    logits: Float[Array, "*batch K"], labels: Integer[Array, "*batch"], smoothing: float = 0.1
) -> Float[Array, "*batch"]:
    """E = -(1 - ε) log p_label - (ε/K) Σ_k log p_k for p = softmax(z): the label, and with ε = `smoothing` a little of every class.

    The cross-entropy with targets that stay below 1, so that logits stop growing. NaN, in value and gradient, for a label outside
    0 ≤ label < K. Szegedy et al. 2016, Rethinking the Inception architecture, arXiv:1512.00567, section 7.

    >>> f"{smoothed_cross_entropy(jnp.log(jnp.array([0.8, 0.2])), jnp.array(0), 0.5):.6f}"  # -.75 log .8 - .25 log .2
    '0.569717'
    """
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    return -(1 - smoothing) * _at_label(log_probabilities, labels) - smoothing * log_probabilities.mean(-1)


def sigmoid_cross_entropy(logits: Float[Array, "*batch K"], targets: Real[Array, "*batch K"]) -> Float[Array, "*batch"]:
    """E = Σ_k [t_k log(1 + e^(-z_k)) + (1 - t_k) log(1 + e^(z_k))], K independent yes-or-no outputs; ∂E/∂z = σ(z) - t.

    Targets lie in [0, 1]. Lecture row 32, for the sigmoid outputs of rows 23 and 25.

    >>> sigmoid_cross_entropy(jnp.array([1000.0, -1000.0]), jnp.array([1.0, 1.0]))
    Array(1000., dtype=float32)
    """
    # max(z, 0) - tz + log(1 + e^-|z|) is the same sum with one exponential in place of two: three times faster in training.
    return jnp.sum(jnp.maximum(logits, 0) - targets * logits + jnp.log1p(jnp.exp(-jnp.abs(logits))), axis=-1)


def distance_of_label(distances: Float[Array, "*batch K"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """E = y_label, the distance to the right class alone; NaN, in value and gradient, for a label outside 0 ≤ label < K.

    With codes that learn too it has a trivial least value, all codes and features equal; LeNet-5's are fixed.
    LeCun et al. 1998, doi:10.1109/5.726791, eq. 8; lecture row 99.

    >>> distance_of_label(jnp.array([[3.0, 5.0]] * 2), jnp.array([1, 2]))
    Array([ 5., nan], dtype=float32)
    """
    return _at_label(distances, labels)


def discriminative_distance(
    distances: Float[Array, "*batch K"], labels: Integer[Array, "*batch"], j: float | Float[Array, ""] = 10.0
) -> Float[Array, "*batch"]:
    """E = y_label + log(e^(-j) + Σ_k e^(-y_k)) for distances y: the wrong classes are pushed away, those nearer than j most.

    ∂E/∂y_k = [k = label] - e^(-y_k) / (e^(-j) + Σ_i e^(-y_i)). -E is the log of a posterior probability in which j is the distance of
    one class more, of what is no class at all. So the right class is drawn nearer than j, and a wrong one beyond it is left alone;
    for j → ∞ it is the softmax's cross-entropy on -y. NaN, in value and gradient, for a label outside 0 ≤ label < K.
    LeCun et al. 1998, doi:10.1109/5.726791, eq. 9, which gives j no number; 10 is nearer than where two
    of LeNet-5's codes meet, at 18 from both. Lecture row 99.

    >>> f"{discriminative_distance(jnp.array([1.0, 1.0]), jnp.array(0), j=1.0):.6f}"  # log 3
    '1.098612'
    """
    with_none = jnp.concatenate([-distances, jnp.full_like(distances[..., :1], -j)], axis=-1)
    return _at_label(distances, labels) + jax.nn.logsumexp(with_none, axis=-1)


def _at_label(values: Float[Array, "*batch K"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """values_label; NaN, in value and gradient, for a label outside 0 ≤ label < K."""
    label = labels.astype(jnp.int32)[..., None]  # K may not fit into the labels' own dtype, say uint8
    valid = (label >= 0) & (label < values.shape[-1])
    return jnp.squeeze(jnp.take_along_axis(values, label, axis=-1, mode="clip") * jnp.where(valid, 1.0, jnp.nan), axis=-1)


def accuracy(outputs: Float[Array, "*batch K"], labels: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """1.0 where argmax_k y_k = label, else 0.0; of equal outputs the first counts. One-hot targets t: labels = t.argmax(-1).

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
    Array([1., 0.], dtype=float32)
    """
    return (jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32)


def top_accuracy(outputs: Float[Array, "*batch K"], labels: Integer[Array, "*batch"], k: int = 5) -> Float[Array, "*batch"]:
    """1.0 where y_label is among the k largest of y, else 0.0; of equal outputs the first counts. With k = 1 it is `accuracy`.

    1 - the mean of it is the top-k error, as ImageNet has it with k = 5: lecture rows 107 and 108. Russakovsky et al. 2015,
    arXiv:1409.0575. 0.0 for a label outside 0 ≤ label < K. Raises `InputError` for a k below 1.

    >>> top_accuracy(jnp.array([[0.5, 0.1, 0.4]] * 3), jnp.array([0, 1, 2]), k=2)
    Array([1., 0., 1.], dtype=float32)
    """
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    own = _at_label(outputs, labels)[..., None]
    number = jnp.broadcast_to(jnp.arange(outputs.shape[-1]), outputs.shape)
    before = ~(outputs <= own) | ((outputs == own) & (number < labels[..., None]))  # so written that a NaN is never among the best
    return (before.sum(-1) < k).astype(jnp.float32)


OF_LABELS = (
    softmax_cross_entropy_with_integer_labels,
    smoothed_cross_entropy,
    distance_of_label,
    discriminative_distance,
    accuracy,
    top_accuracy,
)


def takes_labels(function: Callable) -> bool:
    """Whether it is one of this file's functions of outputs (..., K) and integer labels (...), perhaps with its numbers filled in.

    >>> takes_labels(partial(smoothed_cross_entropy, smoothing=0.2)), takes_labels(softmax_cross_entropy)
    (True, False)
    """
    while isinstance(function, partial):
        function = function.func
    return function in OF_LABELS
