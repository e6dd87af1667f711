"""The lectures' activation functions (S0:67, S1:123-151, S2:464-493, S3:44-49), elementwise unless the table says otherwise.

| function          | f(z)                                    | row  | here                       |
|-------------------|-----------------------------------------|------|----------------------------|
| threshold         | 1 if z ≥ 0, else 0                      | 1, 3 | f(0) = 1                   |
| bipolar_threshold | +1 if z ≥ 0, else -1                    | 2, 3 | sgn(0) = +1                |
| linear            | z                                       | 4    | jax.nn.identity            |
| ramp              | min(max(z, 0), 1)                       | 4    | 非线性斜面                 |
| sigmoid           | 1 / (1 + e^-z)                          | 5    | jax.nn.sigmoid; σ' ≤ 1/4   |
| tanh              | (e^z - e^-z) / (e^z + e^-z)             | 6    | jnp.tanh                   |
| scaled_tanh       | 1.7159 tanh(2z/3)                       | 99   | LeNet-5's; f(±1) = ±1      |
| gaussian          | e^(-z²)                                 | 3    | the slide gives no formula |
| relu              | max(0, z)                               | 7    | jax.nn.relu; f'(0) = 0     |
| leaky_relu        | z if z ≥ 0, else a·z                    | 8    | jax.nn.leaky_relu; a = .01 |
| elu               | z if z > 0, else a(e^z - 1)             | 9    | jax.nn.elu; a = 1          |
| maxout            | max_i (w_iᵀx + b_i)                     | 10   | over groups of the last axis |
| softmax           | e^(z_m) / Σ_k e^(z_k)                   | 11   | jax.nn.softmax, last axis  |
| logit             | log(z / (1 - z)), the inverse of σ      | 13   | jax.scipy.special.logit    |

At a kink the gradient is finite: 0 for relu, ½ for ramp, 1 for leaky_relu, whose value at 0 is 0 (the slide leaves it undefined).
threshold and bipolar_threshold have gradient 0 everywhere, so nothing below them learns by gradient descent.

Against S3:579 (erratum E21) relu cures neither exploding gradients, since it does not bound |w|, nor vanishing ones: a unit that
never fires passes on 0. He et al. 2015, arXiv:1502.01852.

>>> sigmoid(jnp.array([0.0]))
Array([0.5], dtype=float32)
>>> softmax(jnp.array([1000.0, 1000.0]))
Array([0.5, 0.5], dtype=float32)
>>> f"{logit(0.9):.4f}"
'2.1972'
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jaxtyping import Array, Float, Real

from jaxnn.types import InputError, unknown

__all__ = [
    "ACTIVATIONS",
    "bipolar_threshold",
    "by_name",
    "elu",
    "gaussian",
    "leaky_relu",
    "linear",
    "logit",
    "maxout",
    "ramp",
    "relu",
    "scaled_tanh",
    "sigmoid",
    "slope",
    "softmax",
    "tanh",
    "threshold",
]

linear = jax.nn.identity
sigmoid = jax.nn.sigmoid
tanh = jnp.tanh
relu = jax.nn.relu
leaky_relu = jax.nn.leaky_relu
elu = jax.nn.elu
softmax = jax.nn.softmax


def threshold(z: Real[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f(z) = 1 if z ≥ 0, else 0: the unit of McCulloch and Pitts (1943); lecture rows 1 and 3.

    >>> threshold(jnp.array([-1.0, 0.0, 2.0]))
    Array([0., 1., 1.], dtype=float32)
    """
    return jnp.heaviside(z, 1.0)  # keeps a NaN, which z >= 0 would turn into a 0


def bipolar_threshold(z: Real[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f(z) = +1 if z ≥ 0, else -1, with sgn(0) = +1 where jnp.sign has 0; lecture rows 2 and 3.

    >>> bipolar_threshold(jnp.array([-1.0, 0.0, 2.0]))
    Array([-1.,  1.,  1.], dtype=float32)
    """
    return 2 * threshold(z) - 1


def ramp(z: Real[Array, "*shape"]) -> Real[Array, "*shape"]:
    """f(z) = min(max(z, 0), 1), the lecture's 非线性斜面; row 4.

    >>> ramp(jnp.array([-1.0, 0.25, 2.0]))
    Array([0.  , 0.25, 1.  ], dtype=float32)
    """
    return jnp.clip(z, 0, 1)


def gaussian(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f(z) = e^(-z²), peak 1 at z = 0; lecture row 3, which names it without a formula.

    It is the bell e^(-z²/2σ²) of width σ = 1/√2.

    >>> f"{gaussian(jnp.array(1.0)):.4f}"
    '0.3679'
    """
    return jnp.exp(-jnp.square(z))


def scaled_tanh(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f(z) = A tanh(Sz), A = 1.7159, S = 2/3: LeNet-5's squashing function; lecture rows 99-105.

    f(±1) = ±1, so that targets of ±1 lie where the curve bends most and no unit must saturate to reach them.
    LeCun et al. 1998, doi:10.1109/5.726791, eq. 6 and appendix A. The slide (S3:646) has a sigmoid there.

    >>> scaled_tanh(jnp.array([-1.0, 0.0, 1.0])).round(4)
    Array([-1.,  0.,  1.], dtype=float32)
    """
    return 1.7159 * jnp.tanh(2 / 3 * z)


def maxout(z: Real[Array, "*batch N"], pieces: int = 2) -> Real[Array, "*batch K"]:
    """f(z)_k = max_i z_(k·pieces + i), so that maxout(Dense(pieces·K)(x)) is max_i(w_iᵀx + b_i) for each of K units.

    The last axis shrinks from N = pieces·K to K. Goodfellow et al. 2013, arXiv:1302.4389; lecture row 10 (two pieces).

    >>> maxout(jnp.array([1.0, 5.0, -2.0, -3.0]))
    Array([ 5., -2.], dtype=float32)
    """
    units = z.shape[-1]
    if pieces < 1 or units % pieces:
        raise InputError(
            f"maxout: the last axis of {z.shape} does not split into groups of pieces={pieces}; "
            "give the layer before it pieces * K units, with pieces at least 1"
        )
    return z.reshape(*z.shape[:-1], units // pieces, pieces).max(axis=-1)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "threshold": threshold,
    "bipolar_threshold": bipolar_threshold,
    "linear": linear,
    "ramp": ramp,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "scaled_tanh": scaled_tanh,
    "gaussian": gaussian,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
}
"""The elementwise functions, which fit any hidden layer. Not in it: maxout and softmax, which mix units, and logit, defined on (0, 1)."""


def by_name(name: str) -> Callable[[jax.Array], jax.Array]:
    """The elementwise activation of that name; an InputError names the nearest where there is none.

    >>> by_name("ramp")(jnp.array([3.0]))
    Array([1.], dtype=float32)
    """
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def slope(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """f' of an elementwise activation f, to rounding: forward-mode differentiation along (1, …, 1), as f's Jacobian is diagonal.

    At a kink it is what the table above says. σ' = σ(1 - σ) ≤ ¼, tanh' = 1 - tanh² ≤ 1; lecture rows 3-10.
    Raises `InputError` for a function that mixes units: maxout and softmax have no f'(z) of one unit.

    >>> slope(sigmoid)(jnp.array([0.0])), slope(leaky_relu)(jnp.array([-1.0, 1.0]))
    (Array([0.25], dtype=float32), Array([0.01, 1.  ], dtype=float32))
    """
    if not _is_elementwise(f):
        raise InputError(f"{getattr(f, '__name__', f)} mixes units, so it has no slope f'(z); take one of {', '.join(ACTIVATIONS)}")

    def derivative(z: Array) -> Array:
        return jax.jvp(f, (z,), (jnp.ones_like(z),))[1]

    return derivative


def _is_elementwise(f: Callable[[Array], Array]) -> bool:
    """Whether two numbers come out of f as each of them does alone."""
    with jax.ensure_compile_time_eval():  # a learner may be made while its learning rate is traced
        z = jnp.array([1.5, -0.5])
        return f(z).shape == z.shape and bool(jnp.allclose(f(z), jnp.concatenate([f(z[:1]), f(z[1:])])))
