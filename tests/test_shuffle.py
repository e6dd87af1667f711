"""The order of an epoch holds every row once, and all orders are alike."""

import functools
import itertools
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.shuffle import permutation


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, 5000), seed=st.integers(0, 2**31))
def test_it_is_a_permutation(count, seed):
    order = permutation(jax.random.key(seed), count)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


@functools.cache
def drawn(count, times):
    return np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, count)))(jax.random.split(jax.random.key(0), times)))


def test_every_row_comes_to_every_place_as_often():
    """32 × 32 blocks of rows and places; χ² has (32 - 1)² degrees of freedom, and five standard deviations are allowed."""
    count, times, blocks = 1600, 500, 32
    orders = drawn(count, times) * blocks // count
    table = np.stack([np.bincount(part.ravel(), minlength=blocks) for part in np.array_split(orders, blocks, axis=1)])
    expected = times * count / blocks**2
    freedom = (blocks - 1) ** 2
    assert abs(((table - expected) ** 2 / expected).sum() - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 41, 82), (7, 800, 1599)], ids=["neighbours", "one column of the square", "far apart"])
def test_three_rows_come_in_each_of_their_six_orders_as_often(rows):
    times = 6000
    places = np.argsort(drawn(1600, times), axis=1)[:, rows]
    counts = Counter(map(tuple, np.argsort(places, axis=1).tolist()))
    chi2 = sum((counts[order] - times / 6) ** 2 / (times / 6) for order in itertools.permutations(range(3)))
    assert chi2 < 25.7  # of 5 degrees of freedom: once in 10,000


def test_neighbours_part_and_epochs_differ():
    """In a random order of n the mean distance of two given rows is (n + 1)/3, and two orders agree in one place on average."""
    count, times = 1100, 400
    places = np.argsort(drawn(count, times), axis=1)
    distance = np.abs(np.diff(places, axis=1)).mean()
    assert distance == pytest.approx((count + 1) / 3, rel=0.01)
    agreements = (places[:-1] == places[1:]).sum(1).mean()
    assert agreements == pytest.approx(1.0, abs=0.25)


def test_a_large_set_is_whole():
    order = np.asarray(permutation(jax.random.key(1), 1_000_003))
    assert np.bincount(order, minlength=1_000_003).max() == 1
