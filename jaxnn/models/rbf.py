"""Radial basis functions: a hidden layer of units that answer to the distance from a centre, and a linear output.

    y(x) = Σ_m w_m φ_m(x) + b,    φ_m(x) = exp(-‖x - c_m‖² / 2σ_m²)

M units on D inputs with K outputs have M(D + 1 + K) + K parameters, as many as an MLP with one hidden layer of M units.
Two ways to train one: `two_stages` places the centres, sets the widths and solves for the output, without a step of descent;
`functional_rbf` is for `jaxnn.learners.supervised`, which learns all of them by gradient.

Source: Broomhead and Lowe 1988, Multivariable functional interpolation and adaptive networks, Complex Systems 2:321-355; Moody and
Darken 1989, doi:10.1162/neco.1989.1.2.281; lecture row 28 (S4:25), which lists it among the basic models.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import lecun_normal, uniform
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn.models.functional import Functional, Variables
from jaxnn.types import InputError


class RBF(NamedTuple):
    centres: Float[Array, "M D"]
    log_widths: Float[Array, "M"]
    """log σ, so that descent keeps σ above 0."""
    weights: Float[Array, "M K"]
    bias: Float[Array, "K"]


def squared_distances(x: Float[Array, "*batch D"], centres: Float[Array, "M D"]) -> Float[Array, "*batch M"]:
    """‖x - c_m‖² = ‖x‖² - 2x·c_m + ‖c_m‖², as one matrix product; never below 0."""
    norms = jnp.expand_dims(jnp.sum(centres**2, -1), tuple(range(x.ndim - 1)))
    return jnp.maximum(jnp.sum(x**2, -1, keepdims=True) - 2 * (x @ centres.T) + norms, 0)


def activations(rbf: RBF, x: Float[Array, "*batch D"]) -> Float[Array, "*batch M"]:
    """φ_m(x) = exp(-‖x - c_m‖² / 2σ_m²)."""
    precisions = jnp.expand_dims(jnp.exp(-2 * rbf.log_widths), tuple(range(x.ndim - 1)))
    return jnp.exp(-0.5 * squared_distances(x, rbf.centres) * precisions)


def outputs(rbf: RBF, x: Float[Array, "*batch D"]) -> Float[Array, "*batch K"]:
    """y(x) = Σ_m w_m φ_m(x) + b.

    >>> rbf = RBF(jnp.array([[0.0], [3.0]]), jnp.zeros(2), jnp.array([[2.0], [1.0]]), jnp.array([0.5]))
    >>> f"{outputs(rbf, jnp.array([0.0])).item():.4f}"  # 2 + e^(-9/2) + 0.5
    '2.5111'
    """
    return activations(rbf, x) @ rbf.weights + jnp.expand_dims(rbf.bias, tuple(range(x.ndim - 1)))


def functional_rbf(
    units: int,
    features: int,
    *,
    width: float,
    centres_init: Callable[..., Array] = uniform(1.0),  # noqa: B008
) -> Functional:
    """`init(key, x)` and `apply(variables, x, train=, rngs=)` of a net of so many `units` and output `features`, for `supervised`.

    Centres by the initializer `centres_init`, all widths σ = `width`, weights by LeCun's recipe. An input of more than two axes is
    flattened to (B, D).
    """

    if units < 1 or features < 1:
        raise InputError(f"an RBF network has at least one unit and one output, got {units} and {features}")
    if not width > 0:
        raise InputError(f"width must be above 0, got {width}")

    def init(key: PRNGKeyArray, x: Float[Array, "B ..."]) -> Variables:
        centres_key, weights_key = jax.random.split(key)
        centres = centres_init(centres_key, (units, math.prod(x.shape[1:])), jnp.float32)
        weights = lecun_normal()(weights_key, (units, features), jnp.float32)
        log_widths = jnp.full(units, math.log(width), jnp.float32)  # without a dtype of its own a step would change it
        return {"params": RBF(centres, log_widths, weights, jnp.zeros(features))}

    def apply(variables: Variables, x: Float[Array, "B ..."], *, train: bool, rngs: Any = None) -> tuple[Array, Variables]:
        return outputs(variables["params"], x.reshape(len(x), -1)), variables

    return Functional(init, apply)


def two_stages(
    key: PRNGKeyArray, x: Float[Array, "N D"], targets: Float[Array, "N K"], *, units: int, nearest: int = 2, ridge: float = 0.0
) -> RBF:
    """Moody and Darken's training: centres by k-means, widths from the nearest centres, the output by least squares.

    Raises `InputError` for more units than points, and for fewer other units than `nearest`.
    """
    centres = k_means(key, x, units)
    return least_squares(centres, nearest_widths(centres, nearest), x, targets, ridge)


def k_means(key: PRNGKeyArray, x: Float[Array, "N D"], units: int, iterations: int = 20) -> Float[Array, "M D"]:
    """The centres after so many of Lloyd's iterations from a start by k-means++; they lower Σ_x min_m ‖x - c_m‖².

    Raises `InputError` for more units than points.

    Source: Lloyd 1982, doi:10.1109/TIT.1982.1056489; Arthur and Vassilvitskii 2007, k-means++, SODA, 1027-1035.
    """
    if not 1 <= units <= len(x):
        raise InputError(f"{units} centres cannot be placed on {len(x)} points: there must be at least 1 and at most as many as points")
    return lloyd(spread_out(key, x, units), x, iterations)


def spread_out(key: PRNGKeyArray, x: Float[Array, "N D"], units: int) -> Float[Array, "M D"]:
    """Points of x, drawn one after the other, each with probability ∝ its squared distance to the nearest one before: k-means++."""
    first_key, others_key = jax.random.split(key)
    first = x[jax.random.randint(first_key, (), 0, len(x))]

    def another(nearest: Float[Array, "N"], key: PRNGKeyArray) -> tuple[Float[Array, "N"], Float[Array, "D"]]:
        chosen = x[jax.random.categorical(key, jnp.log(nearest))]
        return jnp.minimum(nearest, squared_distances(x, chosen[None])[:, 0]), chosen

    _, others = lax.scan(another, squared_distances(x, first[None])[:, 0], jax.random.split(others_key, units - 1))
    return jnp.concatenate([first[None], others])


def lloyd(centres: Float[Array, "M D"], x: Float[Array, "N D"], iterations: int) -> Float[Array, "M D"]:
    """So many times: every point goes to its nearest centre, every centre to the mean of its points; one without points stays."""

    def iterate(centres: Float[Array, "M D"], _: None) -> tuple[Float[Array, "M D"], None]:
        nearest = jnp.argmin(squared_distances(x, centres), -1)
        sums = jax.ops.segment_sum(x, nearest, len(centres))
        counts = jax.ops.segment_sum(jnp.ones(len(x)), nearest, len(centres))[:, None]
        return jnp.where(counts > 0, sums / jnp.maximum(counts, 1), centres), None

    return lax.scan(iterate, centres, None, iterations)[0]


def nearest_widths(centres: Float[Array, "M D"], nearest: int = 2) -> Float[Array, "M"]:
    """σ_m, the root mean square distance to the `nearest` nearest other centres: wide where centres are rare. Moody and Darken 1989.

    Centres that coincide would have a width of 0; they get 1e-3 of the largest one. Raises `InputError` for fewer other centres than that.
    """
    if not 1 <= nearest < len(centres):
        raise InputError(f"the {nearest} nearest of {len(centres) - 1} other centres do not exist: nearest must be from 1 to that number")
    squares = jax.vmap(lambda c: jnp.sort(jnp.sum((centres - c[None]) ** 2, -1)))(centres)[:, 1 : nearest + 1]
    widths = jnp.sqrt(squares.mean(-1))
    return jnp.maximum(widths, 1e-3 * widths.max())


def common_width(centres: Float[Array, "M D"]) -> Float[Array, "M"]:
    """σ = d_max / √(2M) for all units, d_max the largest distance between two centres: Haykin, Neural Networks (1999), section 5.13."""
    if len(centres) < 2:
        raise InputError(f"a width from the distance of centres takes at least 2 of them, got {len(centres)}")
    farthest = jax.vmap(lambda c: jnp.max(jnp.sum((centres - c[None]) ** 2, -1)))(centres)
    return jnp.full(len(centres), jnp.sqrt(farthest.max() / (2 * len(centres))))


def least_squares(
    centres: Float[Array, "M D"], widths: Float[Array, "M"], x: Float[Array, "N D"], targets: Float[Array, "N K"], ridge: float = 0.0
) -> RBF:
    """The weights and the bias that minimise Σ_n ‖y(x_n) - t_n‖² + λ‖w‖², λ = `ridge`; the bias is not held back.

    Solved on the activations with √λ·I below them, by their singular values: with the products φᵀφ half of float32's digits would go.
    """
    if not ridge >= 0:
        raise InputError(f"ridge must be at least 0, got {ridge}")
    if not isinstance(widths, jax.core.Tracer) and not (widths > 0).all():
        raise InputError(f"widths must be above 0, got {float(widths.min())}: do centres coincide?")
    units, features = len(centres), targets.shape[1]
    rbf = RBF(centres, jnp.log(widths), jnp.zeros((units, features)), jnp.zeros(features))
    design = jnp.concatenate([activations(rbf, x), jnp.ones((len(x), 1))], 1)
    penalty = jnp.eye(units, units + 1) * math.sqrt(ridge)
    solution, *_ = jnp.linalg.lstsq(jnp.concatenate([design, penalty]), jnp.concatenate([targets, jnp.zeros((units, features))]))
    return rbf._replace(weights=solution[:-1], bias=solution[-1])
