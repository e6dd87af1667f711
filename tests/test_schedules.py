"""jaxnn.schedules by hand, against optax, and the lecture's rows 56 and 57."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.schedules import check_range, constant, cosine, drops, exponential, inverse_time, step_decay, warm_up
from jaxnn.types import InputError

SCHEDULES = {
    "constant": constant,
    "step_decay": lambda peak: step_decay(peak, 0.5, every=4),
    "drops": lambda peak: drops(peak, 0.1, (3, 6)),
    "exponential": lambda peak: exponential(peak, 0.1),
    "inverse_time": lambda peak: inverse_time(peak, 0.1),
    "cosine": lambda peak: cosine(peak, 10, floor=0.1),
}
SCHEDULES |= {f"warm_up to {name}": lambda peak, make=make: warm_up(make(peak), 5) for name, make in SCHEDULES.items()}
each_schedule = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)


def values(schedule, steps):
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize("ratio", [0.5, 0.2, 0.1])
def test_row_56_erratum_18_the_linear_decay_is_geometric(ratio):
    rates = values(step_decay(0.3, ratio), range(4))
    np.testing.assert_allclose(rates, [0.3, 0.3 * ratio, 0.3 * ratio**2, 0.3 * ratio**3], rtol=1e-6)
    differences = np.diff(rates)
    assert differences[1] == pytest.approx(ratio * differences[0])  # a line would have equal ones


def test_row_56_a_block_of_steps_has_one_rate():
    assert values(step_decay(0.8, 0.5, every=3), range(8)) == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.2] * 2)


def test_row_57_erratum_18_exponential_decay_with_k_the_rate_and_t_the_index():
    np.testing.assert_allclose(values(exponential(0.1, 0.5), range(4)), [0.1, 0.0606531, 0.0367879, 0.0223130], rtol=1e-5)
    np.testing.assert_allclose(values(exponential(0.1, 0.5), range(9)), values(step_decay(0.1, math.exp(-0.5)), range(9)), rtol=1e-5)


def test_drops_by_hand_and_against_optax():
    assert values(drops(0.4, 0.1, (2, 5)), range(7)) == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.04, 0.004, 0.004])
    assert values(drops(0.4, 0.5, (0, 0)), range(2)) == pytest.approx([0.1, 0.1])
    assert values(drops(0.4, 0.5, ()), range(2)) == pytest.approx([0.4, 0.4])
    theirs = optax.piecewise_constant_schedule(0.3, {4: 0.1, 7: 0.1})
    np.testing.assert_allclose(drops(0.3, 0.1, (4, 7))(jnp.arange(10)), theirs(jnp.arange(10)), rtol=1e-6)
    with pytest.raises(InputError, match="at must be steps from 0, got 4 -1"):
        drops(0.3, 0.1, (4, -1))


def test_inverse_time_by_hand():
    assert values(inverse_time(0.6, 0.5), range(5)) == pytest.approx([0.6, 0.4, 0.3, 0.24, 0.2])


def test_cosine_by_hand():
    assert values(cosine(0.4, 4), range(6)) == pytest.approx([0.4, 0.2 + 0.2 * 0.5**0.5, 0.2, 0.2 - 0.2 * 0.5**0.5, 0, 0], abs=1e-7)
    assert values(cosine(0.4, 4, floor=0.25), [0, 2, 4, 99]) == pytest.approx([0.4, 0.25, 0.1, 0.1])


def test_warm_up_by_hand():
    assert values(warm_up(step_decay(0.8, 0.5), 4), range(8)) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.4, 0.2, 0.1])
    assert values(warm_up(constant(0.5), 2, start=0.1), range(4)) == pytest.approx([0.1, 0.3, 0.5, 0.5])


def test_equal_to_optax_where_optax_has_the_function():
    steps = jnp.arange(30)
    peers = {
        step_decay(0.3, 0.5, every=7): optax.exponential_decay(0.3, 7, 0.5, staircase=True),
        exponential(0.3, 0.1): optax.exponential_decay(0.3, 1, math.exp(-0.1)),
        cosine(0.3, 20, floor=0.1): optax.cosine_decay_schedule(0.3, 20, alpha=0.1),
        warm_up(cosine(0.3, 15), 5): optax.warmup_cosine_decay_schedule(0.0, 0.3, 5, 20),
        warm_up(constant(0.3), 5): optax.warmup_constant_schedule(0.0, 0.3, 5),
    }
    for ours, theirs in peers.items():
        np.testing.assert_allclose(jax.vmap(ours)(steps), jax.vmap(theirs)(steps), rtol=2e-6, atol=1e-8)


@each_schedule
def test_the_peak_may_be_traced_and_vmapped(make):
    peaks, steps = jnp.array([0.1, 0.4]), jnp.arange(20)
    rates = jax.jit(jax.vmap(lambda peak: jax.vmap(make(peak))(steps)))(peaks)
    assert rates.shape == (2, 20)
    np.testing.assert_allclose(rates, [values(make(0.1), range(20)), values(make(0.4), range(20))], rtol=1e-5, atol=1e-8)


@each_schedule
def test_an_array_of_steps_gives_the_rate_of_each(make):
    rates = jnp.broadcast_to(make(0.3)(jnp.arange(20)), 20)
    np.testing.assert_allclose(rates, values(make(0.3), range(20)), rtol=1e-5, atol=1e-8)


def test_the_other_numbers_may_be_traced_too():
    def rates(factor, decay, floor, start):
        schedules = (step_decay(0.1, factor), exponential(0.1, decay), inverse_time(0.1, decay), warm_up(cosine(0.1, 9, floor), 2, start))
        return jnp.stack([schedule(3) for schedule in schedules])

    several = [jnp.array([0.5, 0.1]), jnp.array([0.1, 1.0]), jnp.array([0.0, 0.2]), jnp.array([0.0, 0.05])]
    by_hand = [rates(*(float(x[member]) for x in several)) for member in (0, 1)]
    np.testing.assert_allclose(jax.jit(jax.vmap(rates))(*several), jnp.stack(by_hand), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constant(-0.1), r"peak must lie in \[0, inf\), got -0.1"),
        (lambda: exponential(float("nan"), 0.1), "got nan"),
        (lambda: exponential(0.1, -1.0), r"decay must lie in \[0, inf\), got -1.0"),
        (lambda: step_decay(0.1, 0.5, every=0), "every must be at least 1 step, got 0"),
        (lambda: cosine(0.1, 0), "steps must be at least 1 step, got 0"),
        (lambda: warm_up(constant(0.1), -3), "steps must be at least 1 step, got -3"),
        (
            lambda: inverse_time(jnp.ones(3), 0.1),
            r"peak must be one number, got an array of shape \(3,\); for several at once use jax.vmap",
        ),
    ],
)
def test_bad_numbers_are_refused_in_words(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_what_is_traced_or_a_schedule_passes():
    jax.jit(lambda x: check_range(0, 1, momentum=x) or x)(3.0)
    check_range(0, 1, learning_rate=constant(7.0))
