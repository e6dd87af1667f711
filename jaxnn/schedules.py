"""Learning rates that change with the step: each function here returns `rate(step)`, which any optimizer takes for its `learning_rate`.

| schedule     | η_t                                      | row | what S3:261-267 calls it                   |
|--------------|------------------------------------------|-----|--------------------------------------------|
| constant     | η_0                                      | 52  |                                            |
| step_decay   | η_0 α^⌊t/every⌋                          | 56  | 线性衰减, linear; it is geometric (E18)    |
| drops        | η_0 α^n, n of the given steps ≤ t        |     |                                            |
| exponential  | η_0 e^(-kt)                              | 57  | 指数衰减, with k for rate and index (E18)  |
| inverse_time | η_0 / (1 + kt)                           |     |                                            |
| cosine       | η_0 (φ + (1 - φ)(1 + cos(πt/T)) / 2)     |     |                                            |
| warm_up      | a straight line up to any of these       |     |                                            |

t counts updates from 0. It may be a number, traced, or an array of steps. So may every other number be traced except `every`, `steps`
and `at`: a sweep over η_0, called `peak`, is one vmapped program. Robbins and Monro's conditions Σ η_t = ∞ and Σ η_t² < ∞
(1951, doi:10.1214/aoms/1177729586) hold for inverse_time alone: step_decay and exponential have a finite Σ η_t, and stop wherever they are.

>>> [float(f"{step_decay(0.1, 0.5)(t):.4f}") for t in range(4)]
[0.1, 0.05, 0.025, 0.0125]
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxnn.types import InputError

Number = int | float | np.number | Array


def constant(peak: Number) -> optax.Schedule:
    """η_t = η_0: no decay, what warm_up(constant(peak), steps) goes over to. optax's function."""
    check_range(0, math.inf, peak=peak)
    return optax.constant_schedule(peak)


def step_decay(peak: Number, factor: Number, every: int = 1) -> optax.Schedule:
    """η_t = η_0 α^⌊t/every⌋: the lecture's η^k = α η^(k-1), where k counts blocks of `every` steps, say epochs; α = .5, .2 or .1.

    Lecture row 56 calls it linear decay; a constant ratio is geometric (erratum E18). Linear would be optax.linear_schedule.
    optax has it as exponential_decay(peak, every, factor, staircase=True), which takes no traced factor.
    """
    check_range(0, math.inf, peak=peak, factor=factor)
    _check_steps(every=every)
    return lambda step: peak * factor ** (step // every)


def drops(peak: Number, factor: Number, at: Sequence[int]) -> optax.Schedule:
    """η_t = η_0 α^n, n the number of steps in `at` that t has reached: by hand, where a loss lies still, say divided by 10 twice.

    He et al. 2016, arXiv:1512.03385, section 4.2. optax has it as piecewise_constant_schedule, which takes no traced factor.

    >>> [float(f"{drops(0.1, 0.1, (2, 3))(t):.4f}") for t in range(5)]
    [0.1, 0.1, 0.01, 0.001, 0.001]
    """
    check_range(0, math.inf, peak=peak, factor=factor)
    if min(at, default=0) < 0:
        raise InputError(f"at must be steps from 0, got {' '.join(map(str, at))}")
    return lambda step: peak * factor ** sum(jnp.greater_equal(step, start).astype(jnp.int32) for start in at)


def exponential(peak: Number, decay: Number) -> optax.Schedule:
    """η_t = η_0 e^(-kt), with k = `decay` for one step; it is step_decay with α = e^(-k).

    Lecture row 57, which writes η^k = η^0 e^(-kt) with k both index and rate (erratum E18).
    """
    check_range(0, math.inf, peak=peak, decay=decay)
    return lambda step: peak * jnp.exp(-decay * step)


def inverse_time(peak: Number, decay: Number) -> optax.Schedule:
    """η_t = η_0 / (1 + kt), with k = `decay`: half the rate after 1/k steps. Robbins and Monro 1951, doi:10.1214/aoms/1177729586."""
    check_range(0, math.inf, peak=peak, decay=decay)
    return lambda step: peak / (1 + decay * step)


def cosine(peak: Number, steps: int, floor: Number = 0.0) -> optax.Schedule:
    """η_t = η_0 (φ + (1 - φ)(1 + cos(πt/T)) / 2) for t ≤ T = `steps`, then η_0 φ: the share φ = `floor` of the peak stays.

    Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts. optax's cosine_decay_schedule, with φ for its alpha.
    """
    check_range(0, math.inf, peak=peak, floor=floor)
    _check_steps(steps=steps)
    return optax.cosine_decay_schedule(peak, steps, alpha=floor)


def warm_up(schedule: optax.Schedule, steps: int, start: Number = 0.0) -> optax.Schedule:
    """η_t = s + (η'_0 - s)t/T for t < T = `steps`, then η'_(t-T): a straight line from s = `start` to where `schedule` η' begins.

    Goyal et al. 2017, arXiv:1706.02677. With s = 0 the first update is zero. With cosine it is optax's
    warmup_cosine_decay_schedule, which counts its decay_steps from the start of the line and takes no traced peak.

    >>> [float(warm_up(constant(0.4), 4)(t)) for t in (0, 1, 2, 4, 9)]  # doctest: +ELLIPSIS
    [0.0, 0.1..., 0.2..., 0.4..., 0.4...]
    """
    check_range(0, math.inf, start=start)
    _check_steps(steps=steps)

    def rate(step: Number) -> jax.Array:
        line = start + (schedule(0) - start) * step / steps
        return jnp.where(jnp.less(step, steps), line, schedule(jnp.maximum(step - steps, 0)))

    return rate


def check_range(low: int | float, high: int | float, **values: Number | optax.Schedule) -> None:
    """Raise an InputError unless every value is one number in [low, high); schedules and traced numbers cannot be looked into.

    >>> check_range(0, 1, momentum=1.5)
    Traceback (most recent call last):
    jaxnn.types.InputError: momentum must lie in [0, 1), got 1.5
    """
    for name, value in values.items():
        if callable(value):
            continue
        if jnp.ndim(value):
            raise InputError(f"{name} must be one number, got an array of shape {jnp.shape(value)}; for several at once use jax.vmap")
        try:
            number = float(value)
        except jax.errors.ConcretizationTypeError:
            continue
        if not low <= number < high:  # so written that NaN is out of range
            raise InputError(f"{name} must lie in [{low}, {high}), got {number}")


def _check_steps(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1 step, got {value}")
