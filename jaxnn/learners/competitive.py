"""Competitive learning: the unit nearest to a sample wins, and it and its neighbours on the grid move towards the sample.

Kohonen's online rule moves them after every sample; his batch rule moves each unit to a weighted mean of all samples at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.nn.initializers import Initializer, uniform
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxnn.learners.pixels import pixels
from jaxnn.models.som import Grid, neighbourhood, quantization_error, scores, topographic_error, winners
from jaxnn.types import Batch, Learner, Metrics

BLOCK = 32
"""Samples that `present` takes at a time. More make its products larger and its loop slower: on a CPU 16 to 64 are about as fast."""


class Competitive(NamedTuple):
    """The state of `competitive` and of `batch_competitive`."""

    codebook: Float[Array, "M D"]
    time: Int[Array, ""]
    """What the schedules are asked for: samples seen by `competitive`, steps taken by `batch_competitive`."""


def flat_image(batch: Batch) -> Float[Array, "B D"]:
    """`pixels`, row by row."""
    return pixels(batch).reshape(len(batch["image"]), -1)


def competitive(
    grid: Grid,
    *,
    learning_rate: optax.Schedule,
    radius: optax.Schedule,
    initializer: Initializer = uniform(1.0),  # noqa: B008
    preprocess: Callable[[Batch], Float[Array, "B D"]] = flat_image,
) -> Learner:
    """w_i ← w_i + η_t h_ci (x - w_i) for one sample x after the other, h_ci = exp(-‖r_i - r_c‖² / 2σ_t²), c the unit nearest to x.

    A step presents the samples of its batch in their order. `learning_rate` η_t and `radius` σ_t are functions of t, the number of
    samples presented before; MiniSom's own decay over T samples is `schedules.inverse_time(peak, 2 / T)` for both. `initializer` draws the
    codebook (M, D); for another start hand `fit` a state. `step` reports the mean quantization error, each sample's measured before its
    update; `evaluate` that and the topographic error (0 or 1); `predict` gives the winners (B,).

    Source: Kohonen 1982, doi:10.1007/BF00337288, with the Gaussian neighbourhood of Kohonen 2013, doi:10.1016/j.neunet.2012.09.018;
    lecture row 27.
    """

    def step(key: PRNGKeyArray, state: Competitive, batch: Batch) -> tuple[Competitive, Metrics]:
        x = preprocess(batch)
        times = state.time + jnp.arange(len(x), dtype=jnp.int32)
        rates, radii = (jnp.broadcast_to(jnp.asarray(schedule(times), x.dtype), len(x)) for schedule in (learning_rate, radius))
        codebook, distances = present(grid, state.codebook, x, rates, radii)
        return Competitive(codebook, state.time + len(x)), {"quantization_error": distances.mean()}

    return _learner(grid, step, initializer, preprocess)


def batch_competitive(
    grid: Grid,
    *,
    radius: optax.Schedule,
    initializer: Initializer = uniform(1.0),  # noqa: B008
    preprocess: Callable[[Batch], Float[Array, "B D"]] = flat_image,
) -> Learner:
    """w_i ← Σ_x h_ci x / Σ_x h_ci over all samples x of the batch, h_ci = exp(-‖r_i - r_c‖² / 2σ_t²), c the unit nearest to x.

    Give it all data in every step (`batch_size=None`): it has no learning rate. `radius` σ_t is a function of the number t of steps
    before. A unit that no sample reaches stays where it is. All else is as in `competitive`.

    Source: Kohonen 2013, doi:10.1016/j.neunet.2012.09.018, section 4.
    """

    def step(key: PRNGKeyArray, state: Competitive, batch: Batch) -> tuple[Competitive, Metrics]:
        x = preprocess(batch)
        codebook, distances = weighted_means(grid, state.codebook, x, radius(state.time))
        return Competitive(codebook, state.time + 1), {"quantization_error": distances.mean()}

    return _learner(grid, step, initializer, preprocess)


def _learner(grid: Grid, step: Callable, initializer: Initializer, preprocess: Callable[[Batch], Any]) -> Learner:
    """What both have in common."""

    def init(key: PRNGKeyArray, batch: Batch) -> Competitive:
        return Competitive(initializer(key, (len(grid.positions), preprocess(batch).shape[-1]), jnp.float32), jnp.zeros((), jnp.int32))

    def evaluate(key: PRNGKeyArray, state: Competitive, batch: Batch) -> Metrics:
        x = preprocess(batch)
        errors = quantization_error(state.codebook, x), topographic_error(grid, state.codebook, x)
        return dict(zip(("quantization_error", "topographic_error"), errors, strict=True))

    def predict(state: Competitive, batch: Batch) -> Array:
        return winners(state.codebook, preprocess(batch))

    return Learner(init, step, evaluate, predict)


def weighted_means(
    grid: Grid, codebook: Float[Array, "M D"], x: Float[Array, "B D"], radius: Array | float
) -> tuple[Float[Array, "M D"], Float[Array, "B"]]:
    """The batch rule's codebook, and each sample's ‖x - w_c‖ before it.

    Σ_x h_ci x / Σ_x h_ci = Σ_c h_ci S_c / Σ_c h_ci n_c, with S_c and n_c the sum and the number of the samples that c won.
    """
    units, by_unit = jnp.arange(len(codebook)), scores(codebook, x)
    won = jnp.argmin(by_unit, -1)
    sums = jax.ops.segment_sum(x, won, len(codebook))
    counts = jax.ops.segment_sum(jnp.ones(len(x)), won, len(codebook))
    h = jax.vmap(lambda unit: neighbourhood(grid, unit, radius))(units)
    weights = (h @ counts)[:, None]
    means = jnp.where(weights > 0, h @ sums / jnp.where(weights > 0, weights, 1), codebook)
    return means, jnp.sqrt(jnp.maximum(by_unit.min(-1) + jnp.sum(x**2, -1), 0))


def present(
    grid: Grid, codebook: Float[Array, "M D"], x: Float[Array, "B D"], rates: Float[Array, "B"], radii: Float[Array, "B"]
) -> tuple[Float[Array, "M D"], Float[Array, "B"]]:
    """The codebook after all samples in their order, each with its own η and σ; and each one's ‖x - w_c‖ before its own update.

    To read and write the whole codebook for every sample is what the plain rule spends its time on. Here `BLOCK` samples at a time share
    three matrix products, see `_present_block`; the rule is the same to rounding.
    """
    full = len(x) // BLOCK * BLOCK
    samples = (x, rates, radii)
    blocks = jax.tree.map(lambda a: a[:full].reshape(-1, BLOCK, *a.shape[1:]), samples)
    codebook, distances = lax.scan(lambda codebook, block: _present_block(grid, codebook, *block), codebook, blocks)
    if full == len(x):
        return codebook, distances.ravel()
    codebook, last = _present_block(grid, codebook, *(a[full:] for a in samples))
    return codebook, jnp.append(distances.ravel(), last)


def _present_block(
    grid: Grid, codebook: Float[Array, "M D"], x: Float[Array, "N D"], rates: Float[Array, "N"], radii: Float[Array, "N"]
) -> tuple[Float[Array, "M D"], Float[Array, "N"]]:
    """The rule in what it needs of the codebook: every update keeps w_i = a_i w_i(0) + Σ_k b_ik x_k.

    So w_i·x_j follows from w_i(0)·x_j and x_k·x_j, which are two products for the whole block: an update with h = η h_ci changes
    w_i·x_j by h(x_k·x_j - w_i·x_j), for all samples j at once, and ‖w_i‖² to (1 - h)²‖w_i‖² + 2h(1 - h) w_i·x + h²‖x‖².
    The codebook itself is written once, as a third product, with b_ik = h_k Π_{l>k} (1 - h_l) and a_i = Π_l (1 - h_l).
    """
    among = x @ x.T

    def one(carry: tuple, sample: tuple) -> tuple[tuple, tuple]:
        products, norms = carry
        j, to_others, square, rate, radius = sample
        product = lax.dynamic_index_in_dim(products, j, keepdims=False)
        winner = jnp.argmin(norms - 2 * product)
        distance = norms[winner] - 2 * product[winner] + square
        h = rate * neighbourhood(grid, winner, radius)
        norms = (1 - h) ** 2 * norms + 2 * h * (1 - h) * product + h**2 * square
        products = products + h[None] * (to_others[:, None] - products)
        return (products, norms), (h, distance)

    start = x @ codebook.T, jnp.sum(codebook**2, -1)
    _, (h, squared) = lax.scan(one, start, (jnp.arange(len(x)), among, jnp.diagonal(among), rates, radii))
    kept = lax.cumprod(1 - h, 0, reverse=True)
    shares = h * jnp.append(kept[1:], jnp.ones((1, len(codebook)), kept.dtype), axis=0)
    return kept[0][:, None] * codebook + shares.T @ x, jnp.sqrt(jnp.maximum(squared, 0))
