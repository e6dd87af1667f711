"""What we look at while a network learns."""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn.types import Batch, InputError, Metrics, PyTree


def layer_gradient_norms(gradients: PyTree) -> Metrics:
    """‖δ^l‖ = ‖∂C/∂b^l‖₂ of every layer l with a bias, from the input to the output, as `gradient_norm` (L,).

    For C the mean loss over a batch, δ^l is the mean over the batch of the layer's error ∂C/∂z^l: the speed at which the
    layer learns. Layers are ordered by their names with numbers read as numbers, so that `hidden_10` follows
    `hidden_9`; `output` comes after `hidden`.

    Source: Nielsen, Neural Networks and Deep Learning, ch. 5; lecture row 68.
    """
    biases = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(gradients) if getattr(path[-1], "key", None) == "bias"]
    if not biases:
        raise InputError("layer_gradient_norms needs gradients with leaves named 'bias'; this net has none")
    ordered = sorted(biases, key=lambda item: _natural(jax.tree_util.keystr(item[0])))
    return {"gradient_norm": _norms([leaf for _, leaf in ordered])}


def _norms(leaves: list[Float[Array, "..."]]) -> Float[Array, "L"]:
    return jnp.stack([jnp.linalg.norm(leaf.ravel()) for leaf in leaves])


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


class GradientNoise(NamedTuple):
    """How far the gradients g_i of single examples lie from their mean g, which is the full batch's gradient."""

    signal: Float[Array, ""]
    """‖g‖²."""
    variance: Float[Array, ""]
    """σ² = (1/N) Σ_i ‖g_i - g‖², the trace of their covariance. σ²/‖g‖² is McCandlish's simple noise scale, in examples."""


def gradient_noise(mean_loss: Callable[[PyTree, Batch], Array], params: PyTree, data: Batch, rows: int = 64) -> GradientNoise:
    """‖g‖² and σ² = (1/N) Σ_i ‖g_i - g‖² of `mean_loss(params, batch)` over all of `data`; per-example gradients, `rows` at a time.

    McCandlish et al. 2018, arXiv:1812.06162, eq. 2.9; `batch_gradient_noise` is what follows from σ² for a mini-batch.

    >>> half_square = lambda w, x: 0.5 * jnp.mean((w - x) ** 2)  # g_i = w - x_i
    >>> signal, variance = gradient_noise(half_square, jnp.array(0.0), jnp.array([1.0, 3.0]))
    >>> float(signal), float(variance)
    (4.0, 1.0)
    """
    full = jax.grad(mean_loss)(params, data)

    def squared_distance(example: Batch) -> Float[Array, ""]:
        gradient = jax.grad(mean_loss)(params, jax.tree.map(lambda x: x[None], example))
        return _squared_norm(jax.tree.map(jnp.subtract, gradient, full))

    return GradientNoise(_squared_norm(full), lax.map(squared_distance, data, batch_size=rows).mean())


def batch_gradient_noise(variance: float, batch_size: int, examples: int) -> float:
    """E‖g_B - g‖² = (σ²/m)(N - m)/(N - 1) for a batch B of m = `batch_size` among N = `examples`, drawn without replacement.

    The variance of a sample mean from a finite population: Cochran, Sampling Techniques, 3rd ed. 1977, theorem 2.2. It is σ²/m for
    m ≪ N and 0 for the full batch. Lecture rows 52-54.

    >>> [batch_gradient_noise(1.0, m, 5) for m in (1, 2, 5)]
    [1.0, 0.375, 0.0]
    """
    return variance / batch_size * ((examples - batch_size) / (examples - 1) if examples > 1 else 0.0)


def sharpness(key: PRNGKeyArray, loss: Callable[[PyTree], Array], params: PyTree, iterations: int = 50) -> Float[Array, ""]:
    """vᵀHv after v ← Hv/‖Hv‖, `iterations` times from a random v: the eigenvalue of largest magnitude of the Hessian H of `loss`.

    Gradient descent on a quadratic converges where its rate is below 2/λ_max; lecture row 37. Each iteration is a Hessian-vector
    product, ∂/∂ε ∇loss(w + εv), the cost of about two gradients: Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147. The result never
    exceeds λ_max, and falls short of it by about (λ_2/λ_1)^(2·iterations), λ_1 and λ_2 being the two largest in magnitude.

    >>> bowl = lambda w: 2.0 * w[0] ** 2 + 0.5 * w[1] ** 2  # H = diag(4, 1)
    >>> round(float(sharpness(jax.random.key(0), bowl, jnp.array([3.0, 1.0]))), 4)
    4.0
    """
    start = optax.tree.random_like(key, params)

    def product(v: PyTree) -> PyTree:
        return jax.jvp(jax.grad(loss), (params,), (v,))[1]

    v = lax.fori_loop(0, iterations, lambda _, v: _unit(product(v)), _unit(start))
    return optax.tree.vdot(v, product(v))


def _squared_norm(tree: PyTree) -> Float[Array, ""]:
    return optax.tree.norm(tree, squared=True)


def _unit(tree: PyTree) -> PyTree:
    """The tree over its norm; zeros stay zeros."""
    norm = optax.tree.norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1), tree)
