"""Every kind of pooling against NumPy's loops over windows, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxnn import activations
from jaxnn.models.pooling import adaptive_mean_pool, max_pool, mean_pool, mean_square_pool, normalised_pool
from jaxnn.types import InputError

KINDS = {
    max_pool: np.max,
    mean_pool: np.mean,
    mean_square_pool: lambda window: np.sqrt(np.mean(np.square(window))),
    normalised_pool: lambda window: np.sum(window / window.sum() * window),
}
"""Each function of one window in NumPy."""

SLICE = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
"""The lecture's single depth slice."""


def by_hand(x, window, stride, padding, of_a_window, over=0):
    """The windows of every example and map, cut off at the border, up to `over` pixels beyond it: padding has no entries."""
    batch, height, width, maps = x.shape
    rows, columns = ([*range(-padding, min(n + padding - window + over + 1, n), stride)] for n in (height, width))
    y = np.empty((batch, len(rows), len(columns), maps))
    for b, p, q, c in np.ndindex(*y.shape):
        top, left = max(rows[p], 0), max(columns[q], 0)
        y[b, p, q, c] = of_a_window(x[b, top : rows[p] + window, left : columns[q] + window, c])
    return y


def one_map(values):
    return jnp.asarray(values, jnp.float32)[..., None]


@pytest.mark.parametrize("pool", KINDS, ids=lambda pool: pool.__name__)
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, None, 0), (3, 2, 0), (3, 2, 1), (2, 1, 0), (3, 1, 2), (2, 3, 0)])
def test_row_91_every_kind_is_numpys(pool, window, stride, padding):
    """Windows beside each other, overlapping ones, with padding, and with gaps."""
    x = np.random.default_rng(0).uniform(0.1, 2, (2, 7, 6, 3)).astype(np.float32)
    expected = by_hand(x, window, stride or window, padding, KINDS[pool])
    both = jax.jit(lambda x: (pool(x, window, stride=stride, padding=padding), pool(x[0], window, stride=stride, padding=padding)))(x)
    np.testing.assert_allclose(both[0], expected, rtol=1e-5)
    np.testing.assert_allclose(both[1], expected[0], rtol=1e-5)


@pytest.mark.parametrize("pool", KINDS, ids=lambda pool: pool.__name__)
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 0), (4, 3, 2)])
def test_row_91_a_last_window_may_reach_over_the_border(pool, window, stride, padding):
    """By less than a step: one of 7 rows and 8 columns, or both, has a rest."""
    x = np.random.default_rng(1).uniform(0.1, 2, (1, 7, 8, 2)).astype(np.float32)
    expected = by_hand(x, window, stride, padding, KINDS[pool], over=stride - 1)
    y = jax.jit(lambda x: pool(x, window, stride=stride, padding=padding, ceil=True))(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 9])
def test_adaptive_means_are_numpys_whatever_the_size(size):
    """Fewer than the pixels, as many, and more."""
    x = np.random.default_rng(2).normal(size=(2, 7, 5, 3)).astype(np.float32)
    y = jax.jit(lambda x: adaptive_mean_pool(x, size))(x)
    for p, q in np.ndindex(size, size):
        rows, columns = (slice(int(np.floor(i * n / size)), int(np.ceil((i + 1) * n / size))) for i, n in ((p, 7), (q, 5)))
        np.testing.assert_allclose(y[:, p, q], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(adaptive_mean_pool(jnp.asarray(x[:, :5]), 5), x[:, :5])


def test_adaptive_means_of_no_size_are_said_in_words():
    with pytest.raises(InputError, match="size must be at least 1, got 0"):
        adaptive_mean_pool(one_map(SLICE), 0)


def test_row_91_the_single_depth_slice():
    np.testing.assert_array_equal(max_pool(one_map(SLICE))[..., 0], [[6, 8], [3, 4]])
    np.testing.assert_array_equal(mean_pool(one_map(SLICE))[..., 0], [[3.25, 5.25], [2, 2]])
    np.testing.assert_array_equal(max_pool(one_map(SLICE), 2, stride=1)[..., 0], [[6, 7, 8], [6, 7, 8], [3, 3, 4]])


def test_padding_is_no_maximum_and_is_not_counted():
    x = one_map(-np.ones((2, 2)))
    for pool in (max_pool, mean_pool):
        np.testing.assert_array_equal(pool(x, 3, stride=2, padding=1), -1)


def gradient(pool, x, deltas):
    return jax.jit(jax.grad(lambda x: (pool(x)[..., 0] * deltas).sum()))(one_map(x))[..., 0]


def test_row_92_max_passes_the_error_to_the_arg_max_and_mean_a_quarter_to_each():
    deltas = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    expected = [[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 4]]
    np.testing.assert_array_equal(gradient(max_pool, SLICE, deltas), expected)
    np.testing.assert_array_equal(gradient(mean_pool, SLICE, deltas), np.kron(deltas / 4, np.ones((2, 2))))


def test_row_92_of_equal_entries_the_first_by_rows_gets_the_error():
    equal = np.array([[0, 5, 3, 3], [5, 5, 3, 3]])
    np.testing.assert_array_equal(gradient(max_pool, equal, jnp.array([[1.0, 2.0]])), [[0, 1, 2, 0], [0, 0, 0, 0]])


def test_row_92_an_entry_that_wins_in_two_windows_gets_both_errors():
    overlapping = lambda x: max_pool(x, 2, stride=1)  # noqa: E731
    np.testing.assert_array_equal(gradient(overlapping, np.array([[0, 9, 1], [0, 2, 3]]), jnp.array([[10.0, 1.0]])), [[0, 11, 0], [0] * 3])


def backward_by_hand(x, deltas, window, stride, padding, share):
    """The δ of every window given to its entries, window by window; `share` says how much each entry gets."""
    errors = np.zeros(x.shape)
    for (p, q), delta in np.ndenumerate(deltas):
        rows, columns = (slice(max(n * stride - padding, 0), n * stride - padding + window) for n in (p, q))
        errors[rows, columns] += delta * share(x[rows, columns])
    return errors


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 1, 0), (3, 2, 1), (2, 3, 0)])
def test_row_92_errors_of_overlapping_windows_add_up_whatever_the_stride_and_padding(window, stride, padding):
    """Also where entries tie, where windows leave gaps, and where padding makes a window of the mean smaller."""
    x = np.random.default_rng(3).integers(0, 5, (8, 7)).astype(np.float32)
    first_of_the_largest = lambda part: (np.arange(part.size) == part.argmax()).reshape(part.shape)  # noqa: E731
    shares = {max_pool: first_of_the_largest, mean_pool: lambda part: 1 / part.size}
    for pool, share in shares.items():
        here = lambda x, pool=pool: pool(x, window, stride=stride, padding=padding)  # noqa: E731
        deltas = np.random.default_rng(4).normal(size=here(one_map(x)).shape[:2])
        expected = backward_by_hand(x, deltas, window, stride, padding, share)
        np.testing.assert_allclose(gradient(here, x, jnp.asarray(deltas, jnp.float32)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", KINDS, ids=lambda pool: pool.__name__)
def test_a_map_of_zeros_gives_zeros_with_finite_gradients(pool):
    value, slope = jax.jit(jax.value_and_grad(lambda x: pool(x).sum()))(jnp.zeros((4, 4, 1)))
    assert value == 0
    assert np.isfinite(slope).all()
    assert np.isnan(pool(jnp.full((2, 2, 1), jnp.nan))).all()


def test_slopes_of_the_last_two_kinds_are_finite_differences():
    x = np.array([[1.0, 2.0], [0.5, 3.0]])
    for pool in (mean_square_pool, normalised_pool):
        numeric = [(KINDS[pool](x + step) - KINDS[pool](x - step)) / 2e-6 for step in 1e-6 * np.eye(4).reshape(4, 2, 2)]
        np.testing.assert_allclose(np.ravel(gradient(pool, x, jnp.ones((1, 1)))), numeric, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (4, 6), elements=st.floats(-3, 3, width=32)))
def test_row_93_an_activation_that_never_falls_may_follow_max_pooling(z):
    for function in (activations.relu, activations.sigmoid, activations.tanh, activations.elu, activations.ramp):
        np.testing.assert_array_equal(function(max_pool(one_map(z))), max_pool(function(one_map(z))))


def test_row_93_it_may_not_follow_mean_pooling_nor_may_one_that_falls_follow_max_pooling():
    z = one_map([[-1.0, 3.0], [-1.0, -1.0]])
    assert mean_pool(activations.relu(z)).item() == 0.75
    assert activations.relu(mean_pool(z)).item() == 0
    assert max_pool(activations.gaussian(z)).item() == pytest.approx(np.exp(-1))
    assert activations.gaussian(max_pool(z)).item() == pytest.approx(np.exp(-9))


def test_erratum_49_pooling_is_indifferent_to_shifts_and_not_to_scale_or_rotation():
    """The strongest answer of a detector of upright bars: the same wherever the bar stands, another where it is turned or shrunk."""
    bar = np.zeros((12, 12), np.float32)
    bar[3:9, 4] = 1
    kernel = np.zeros((6, 3))
    kernel[:, 1], kernel[:, [0, 2]] = 1, -0.5

    def strongest(image):
        answers = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)
        answers = np.pad((answers * kernel).sum((-2, -1)), ((0, 5), (0, 2)))
        return max_pool(one_map(answers), 12).item()

    assert strongest(bar) == 6
    assert {strongest(np.roll(bar, (down, right), (0, 1))) for down in (-3, 0, 3) for right in (-3, 0, 6)} == {6}
    assert strongest(np.rot90(bar).copy()) <= 1
    half = np.zeros_like(bar)
    half[3:6, 4] = 1
    assert strongest(half) == 3


def test_erratum_49_a_shift_within_a_window_changes_nothing_and_one_beyond_it_does():
    spot = np.zeros((8, 8))
    spot[2, 2] = 1
    moved = [max_pool(one_map(np.roll(spot, right, 1)), 4) for right in range(-2, 3)]
    same = [bool((image == moved[2]).all()) for image in moved]
    assert same == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 5}, "a window of 5 does not fit into 4 pixels"),
        ({"window": 0}, "kernel must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"window": 6, "stride": 2, "ceil": True}, "a window of 6 does not fit into 4 pixels"),
        ({"padding": 2}, "padding must be from 0 to window - 1 = 1, got 2"),
        ({"padding": -1}, "got -1"),
    ],
)
def test_what_does_not_fit_is_said_in_words(settings, message):
    for pool in KINDS:
        with pytest.raises(InputError, match=message):
            pool(one_map(SLICE), **settings)
