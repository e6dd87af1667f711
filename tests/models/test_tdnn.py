"""Row 98: the net is NumPy's, frame by frame; a shift of its input shifts its layers and leaves its outputs alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses
from jaxnn.models import TDNN, layers
from jaxnn.models.conv import conv
from jaxnn.models.tdnn import delayed, frames_through, summed_squares
from jaxnn.types import InputError


def sequences(count=4, frames=15, channels=16):
    return jax.random.normal(jax.random.key(0), (count, frames, channels))


def variables(x=None):
    """Biases that are not 0, too."""
    drawn = jax.jit(TDNN().init)(jax.random.key(1), sequences(1) if x is None else x)
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), drawn)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_numpy(params, x):
    """One sequence: every unit of every frame summed up weight by weight, in float64; (hidden units, output units, outputs)."""
    hidden = np.asarray(x, float)
    given = []
    for name in ("delays_1", "delays_2"):
        kernel, bias = (np.asarray(params[name][part], float) for part in ("kernel", "bias"))
        frames, units = len(hidden) - len(kernel) + 1, kernel.shape[2]
        above = np.zeros((frames, units))
        for time in range(frames):
            for unit in range(units):
                seen = sum(hidden[time + delay] @ kernel[delay, :, unit] for delay in range(len(kernel)))
                above[time, unit] = sigmoid(seen + bias[unit])
        given.append(above)
        hidden = above
    outputs = [sum(value**2 for value in hidden[:, unit]) for unit in range(hidden.shape[1])]
    return *given, np.array(outputs)


def test_row_98_outputs_are_those_of_numpy_frame_by_frame():
    x, given = sequences(), variables()
    expected = [by_numpy(given["params"], one)[2] for one in x]
    np.testing.assert_allclose(jax.jit(TDNN().apply)(given, x), expected, rtol=1e-5)


def test_row_98_layers_over_time_are_those_of_numpy():
    x, given = sequences(1), variables()
    sums = layers(TDNN(), given, x)
    hidden, output, _ = by_numpy(given["params"], x[0])
    assert (hidden.shape, output.shape) == ((13, 8), (9, 3))
    np.testing.assert_allclose(jax.nn.sigmoid(sums["delays_1"][0]), hidden, atol=1e-5)
    np.testing.assert_allclose(jax.nn.sigmoid(sums["delays_2"][0]), output, atol=1e-5)


def test_row_98_the_papers_net_of_three_classes_has_515_parameters():
    shapes = jax.eval_shape(TDNN().init, jax.random.key(0), jnp.zeros((1, 15, 16)))["params"]
    assert {name: layer["kernel"].shape for name, layer in shapes.items()} == {"delays_1": (3, 16, 8), "delays_2": (5, 8, 3)}
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == (16 * 3 * 8 + 8) + (8 * 5 * 3 + 3) == 515


def test_row_98_a_delay_is_a_convolution_along_time():
    x, kernel = sequences(), jax.random.normal(jax.random.key(2), (3, 16, 8))
    by_conv = jax.jit(conv)(x[..., None, :], kernel[:, None])[..., 0, :]
    np.testing.assert_allclose(jax.jit(delayed)(x, kernel), by_conv, atol=1e-4)


def padded(token, before, frames):
    """A token amid frames that are all alike."""
    around = np.full((frames, token.shape[1]), 0.2, np.float32)
    around[before : before + len(token)] = token
    return jnp.asarray(around)[None]


def test_row_98_a_shift_shifts_every_layer_and_no_output_while_the_token_lies_inside():
    """Inside: six frames of nothing on each side, so that no unit of seven frames sees both the token and an end."""
    token, given = np.asarray(sequences(1, frames=5)[0]), variables()
    here, there = (padded(token, before, 24) for before in (6, 12))
    below, above = layers(TDNN(), given, here), layers(TDNN(), given, there)
    for name in ("delays_1", "delays_2"):
        np.testing.assert_allclose(above[name][:, 6:], below[name][:, :-6], atol=1e-5)
    outputs = TDNN().apply(given, here)
    np.testing.assert_allclose(TDNN().apply(given, there), outputs, rtol=1e-5)
    assert abs(TDNN().apply(given, padded(token, 0, 24)) - outputs).max() > 1e-2  # at the end it is another matter


def test_row_98_evidence_is_the_sum_of_squares_over_time():
    np.testing.assert_allclose(summed_squares(jnp.array([[[0.5, 1.0], [0.5, 0.0], [0.5, 0.0]]])), [[0.75, 1.0]])
    given, x = variables(), sequences()
    mean = TDNN(integrate=lambda y: y.mean(-2)).apply(given, x)
    np.testing.assert_allclose(mean, [by_numpy(given["params"], one)[1].mean(0) for one in x], rtol=1e-5)


def test_row_98_gradients_are_finite_differences():
    """Of one weight of each layer and of each bias's first, in float64's differences of NumPy's net."""
    x, given = sequences(1, frames=8, channels=3), variables(x=sequences(1, 8, 3))
    gradient = jax.jit(jax.grad(lambda params: TDNN().apply({"params": params}, x)[0, 1]))(given["params"])
    for name in ("delays_1", "delays_2"):
        for part, place in (("kernel", (2, 1, 1)), ("bias", (1,))):
            ends = []
            for step in (1e-6, -1e-6):
                moved = jax.tree.map(lambda leaf: np.array(leaf, float), given["params"])
                moved[name][part][place] += step
                ends.append(by_numpy(moved, x[0])[2][1])
            assert gradient[name][part][place] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-5)


def test_row_98_it_learns_a_rise_from_a_fall_wherever_it_is():
    """Single frames say nothing: both classes go through the same three, in the opposite order."""
    rng = np.random.default_rng(0)
    x, label = np.zeros((120, 15, 3), np.float32), np.arange(120) % 2
    for row, at in enumerate(rng.integers(0, 12, 120)):
        x[row, at : at + 3] = np.eye(3)[:: 1 - 2 * label[row]]
    net, optimizer = TDNN((4, 2), (3, 3)), optax.adam(0.1)
    x, label = jnp.asarray(x), jnp.asarray(label)
    params = net.init(jax.random.key(0), x)

    def step(carry, _):
        params, state = carry
        loss = lambda params: losses.softmax_cross_entropy_with_integer_labels(net.apply(params, x), label).mean()  # noqa: E731
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, length=200)
    assert losses.accuracy(net.apply(params, x), label).mean() > 0.95


def test_more_layers_take_more_frames():
    net = TDNN((6, 5, 4), (3, 4, 2))
    x = sequences(2, frames=9)
    assert frames_through(net.windows, x.shape) == [7, 4, 3]
    assert jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x)[0], x).shape == (2, 4)


def test_a_sequence_that_is_too_short_is_told_the_layer_and_the_least_number_of_frames():
    with pytest.raises(
        InputError, match=r"TDNN: delays_2, a window of 5 frames, does not fit into 4; the least sequence has 7 frames, got 6"
    ):
        TDNN().init(jax.random.key(0), sequences(1, frames=6))
    with pytest.raises(InputError, match=r"delays_1, a window of 3 frames, does not fit into 2; the least sequence has 7 frames, got 2"):
        TDNN().init(jax.random.key(0), sequences(1, frames=2))
    assert TDNN().init_with_output(jax.random.key(0), sequences(1, frames=7))[0].shape == (1, 3)


def test_an_array_that_is_no_sequence_is_named():
    with pytest.raises(InputError, match=r"TDNN takes sequences \(B, T, D\), got an array of shape \(1, 15, 16, 1\)"):
        frames_through((3, 5), (1, 15, 16, 1))


@pytest.mark.parametrize(("features", "windows"), [((8, 3), (3,)), ((8, 0), (3, 5)), ((), ())])
def test_layers_that_cannot_be_are_named(features, windows):
    with pytest.raises(InputError, match="a layer has units and a window of at least 1, got"):
        TDNN(features, windows).init(jax.random.key(0), sequences(1))
