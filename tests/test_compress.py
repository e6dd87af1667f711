"""Rows 50 and 159: pruning and quantisation against NumPy by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.activations import relu
from jaxnn.compress import (
    hold_zeros,
    least_squares_limit,
    pack,
    prune_units,
    prune_weights,
    quantize,
    size_in_bytes,
    unit_strength,
    unpack,
    without_dead_units,
)
from jaxnn.models import MLP
from jaxnn.types import InputError


@pytest.fixture(scope="module")
def net():
    """[6, 8, 3] with ReLU, biases that are not zero."""
    model, rng = MLP((8, 3), relu), np.random.default_rng(0)
    shapes = {"hidden_1": (6, 8), "output": (8, 3)}
    params = {name: {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[1])} for name, shape in shapes.items()}
    return model, jax.tree.map(np.float32, params)


def flat(params):
    return np.concatenate([np.asarray(params[name]["kernel"]).ravel() for name in sorted(params)])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_row_50_the_smallest_weights_of_the_whole_net_go(net, share):
    _, params = net
    pruned = jax.jit(prune_weights)(params, share)
    before, after = flat(params), flat(pruned)
    gone = np.argsort(np.abs(before))[: round(share * before.size)]
    expected = before.copy()
    expected[gone] = 0
    np.testing.assert_array_equal(after, expected)
    for name in params:
        np.testing.assert_array_equal(pruned[name]["bias"], params[name]["bias"])


def test_equal_weights_are_pruned_to_the_exact_share():
    pruned = prune_weights({"kernel": jnp.ones((4, 5))}, 0.35)
    assert np.count_nonzero(pruned["kernel"]) == 13


def test_row_50_the_weakest_units_go_with_their_bias(net):
    model, params = net
    strength = [np.linalg.norm(params["hidden_1"]["kernel"][:, j]) * np.linalg.norm(params["output"]["kernel"][j]) for j in range(8)]
    np.testing.assert_allclose(unit_strength(params, "hidden_1", "output"), strength, rtol=1e-5)
    pruned = prune_units(params, "hidden_1", "output", 0.5)
    gone = np.argsort(strength)[:4]
    kept = np.setdiff1d(np.arange(8), gone)
    for array in (pruned["hidden_1"]["kernel"].T, pruned["hidden_1"]["bias"], pruned["output"]["kernel"]):
        assert not np.asarray(array)[gone].any()
        assert np.asarray(array)[kept].all()
    np.testing.assert_array_equal(pruned["hidden_1"]["kernel"][:, kept], params["hidden_1"]["kernel"][:, kept])

    smaller = without_dead_units(pruned, "hidden_1", "output")
    assert smaller["hidden_1"]["kernel"].shape == (6, 4)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 6)), jnp.float32)
    apply = lambda model, params: model.apply({"params": params}, x)  # noqa: E731
    np.testing.assert_allclose(apply(MLP((4, 3), relu), smaller), apply(model, pruned), rtol=1e-5, atol=1e-6)


def test_the_strength_of_a_relu_unit_does_not_see_a_rescaling(net):
    _, params = net
    factors = np.linspace(0.1, 5, 8, dtype=np.float32)
    scaled = {
        "hidden_1": {"kernel": params["hidden_1"]["kernel"] * factors[None], "bias": params["hidden_1"]["bias"] * factors},
        "output": {**params["output"], "kernel": params["output"]["kernel"] / factors[:, None]},
    }
    np.testing.assert_allclose(unit_strength(scaled, "hidden_1", "output"), unit_strength(params, "hidden_1", "output"), rtol=1e-5)


def test_what_is_pruned_stays_pruned_and_the_rest_moves_as_before(net):
    _, params = net
    pruned = prune_weights(params, 0.5)
    gradients, optimizer = jax.tree.map(jnp.ones_like, pruned), optax.adam(0.1)
    held, plain = hold_zeros(optimizer), optimizer
    after = optax.apply_updates(pruned, held.update(gradients, held.init(pruned), pruned)[0])
    free = optax.apply_updates(pruned, plain.update(gradients, plain.init(pruned), pruned)[0])
    for name in pruned:
        zero = np.asarray(pruned[name]["kernel"]) == 0
        assert zero.any()
        assert not zero.all()
        np.testing.assert_array_equal(after[name]["kernel"], np.where(zero, 0, free[name]["kernel"]))
        np.testing.assert_array_equal(after[name]["bias"], free[name]["bias"])
    with pytest.raises(InputError, match="hold_zeros needs the parameters"):
        held.update(gradients, held.init(pruned))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_row_159_uniform_codes_by_hand(bits):
    w = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    codes, scale = quantize(jnp.asarray(w), bits)
    levels = {2: 1, 3: 3, 4: 7, 8: 127}[bits]
    step = np.abs(w).max() / levels
    assert float(scale) == pytest.approx(step, rel=1e-6)
    np.testing.assert_array_equal(codes, np.rint(w / step).astype(np.int8))
    assert np.abs(np.asarray(quantize(jnp.asarray(w), bits).values) - w).max() <= step / 2 * (1 + 1e-5)
    np.testing.assert_array_equal(quantize(jnp.zeros(3), bits).values, np.zeros(3))


def test_row_159_a_limit_cuts_off_and_the_least_squares_one_is_the_best_of_its_grid():
    w = jnp.asarray(np.append(np.random.default_rng(0).normal(size=200), 8.0), jnp.float32)
    np.testing.assert_array_equal(quantize(jnp.array([5.0, -0.2, 0.8]), 2, 1.0).values, [1.0, 0.0, 1.0])
    error = lambda limit: float(np.mean((np.clip(np.rint(w / limit), -1, 1) * limit - np.asarray(w)) ** 2))  # noqa: E731
    limit = float(least_squares_limit(w, 2))
    grid = 8.0 * np.arange(1, 101) / 100
    assert limit == pytest.approx(grid[np.argmin([error(one) for one in grid])], rel=1e-6)
    assert error(limit) < 0.7 * error(8.0)


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_come_back_from_their_bytes(bits):
    """Of every length from 0 to 20, with the smallest and the largest code."""
    levels, rng = 2 ** (bits - 1) - 1, np.random.default_rng(bits)
    for count in range(21):
        codes = rng.integers(-levels, levels + 1, count).astype(np.int8)
        codes[:2] = [-levels, levels][:count]
        packed = pack(codes, bits)
        assert len(packed) == -(-count * bits // 8)
        np.testing.assert_array_equal(unpack(packed, bits, count), codes)


def test_row_159_bytes_are_those_of_the_packed_codes():
    """Two tensors of 48 and 24 weights, 11 biases; the second tensor is sparse."""
    first, second = np.ones((6, 8), np.float32), np.zeros((8, 3), np.float32)
    second[0, :2] = [1, -1]
    params = {"hidden_1": {"kernel": first, "bias": np.ones(8, np.float32)}, "output": {"kernel": second, "bias": np.ones(3, np.float32)}}
    assert size_in_bytes(params) == 4 * 11 + 4 * 48 + (24 // 8 + 2 * 4)
    dense = len(pack(first.astype(np.int8).ravel(), 4))
    mask = len(np.packbits(second.ravel() != 0))
    values = len(pack(second[second != 0].astype(np.int8), 4))
    assert size_in_bytes(params, 4) == 4 * 11 + (dense + 4) + (mask + values + 4)
    assert size_in_bytes(params, 2) == 4 * 11 + (12 + 4) + (3 + 1 + 4)


def test_bad_input_is_said_in_words():
    for share in (-0.1, 1.5):
        with pytest.raises(InputError, match=f"the share to prune must be from 0 to 1, got {share}"):
            prune_weights({"kernel": jnp.ones((2, 2))}, share)
    for bits in (1, 9):
        with pytest.raises(InputError, match=f"bits must be from 2 to 8, got {bits}"):
            quantize(jnp.ones(3), bits)
