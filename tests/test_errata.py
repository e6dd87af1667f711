"""Errata of slides about nets that are not built here yet, each proved on the smallest case of it.

The other errata stand beside the code that holds them: `docs/lecture.md` lists all 56.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from jaxnn import losses
from jaxnn.optimizers import clip_by_norm, sgd


def test_erratum_12_the_loss_falls_against_the_gradient_and_rises_along_it():
    logits, label = jnp.array([0.2, -0.4, 0.1]), jnp.array(1)
    loss = lambda z: losses.softmax_cross_entropy_with_integer_labels(z, label)  # noqa: E731
    optimizer = sgd(0.1)
    step, _ = optimizer.update(jax.grad(loss)(logits), optimizer.init(logits))
    assert loss(logits + step) < loss(logits) < loss(logits - step)


def rnn_states(w, inputs, start):
    """a_t = W h_{t-1} + x_t, h_t = tanh(a_t): all a_t, and the last h."""

    def step(h, x):
        a = w @ h + x
        return jnp.tanh(a), a

    last, a = lax.scan(step, start, inputs)
    return a, last


def rnn(size=4, length=6, scale=1.5):
    w_key, x_key, h_key = jax.random.split(jax.random.key(0), 3)
    w = scale * jax.random.normal(w_key, (size, size)) / size**0.5
    return w, jax.random.normal(x_key, (length, size)), jax.random.normal(h_key, (size,))


def test_erratum_27_the_gradient_through_time_is_a_product_and_no_power():
    """∂L/∂h_0 = Π_i Wᵀ diag f'(a_i) ∂L/∂h_T, with f' at every pre-activation; with one f' for all it is another number."""
    w, inputs, start = rnn()
    by_jax = jax.grad(lambda h: rnn_states(w, inputs, h)[1].sum())(start)
    a = np.asarray(rnn_states(w, inputs, start)[0], float)
    product, power = np.ones(4), np.ones(4)
    for pre_activation in a[::-1]:
        product = np.asarray(w, float).T @ ((1 - np.tanh(pre_activation) ** 2) * product)
        power = np.asarray(w, float).T @ ((1 - np.tanh(a[-1]) ** 2) * power)
    np.testing.assert_allclose(by_jax, product, rtol=1e-4, atol=1e-7)
    assert np.linalg.norm(power - product) > 0.1 * np.linalg.norm(product)


def test_erratum_56_gradients_are_summed_over_time_before_one_update():
    """∂L/∂W of the unrolled net is the sum of what each time step's own copy of W gets."""
    w, inputs, start = rnn()

    def unrolled(copies):
        h = start
        for copy, x in zip(copies, inputs, strict=True):
            h = jnp.tanh(copy @ h + x)
        return h.sum()

    shared = jax.grad(lambda w: rnn_states(w, inputs, start)[1].sum())(w)
    each = jax.grad(unrolled)(jnp.broadcast_to(w, (len(inputs), *w.shape)))
    np.testing.assert_allclose(shared, each.sum(0), rtol=1e-5, atol=1e-6)
    assert jnp.linalg.norm(each[-1] - shared) > 0.1 * jnp.linalg.norm(shared)


def lstm(size=3, scale=1.0):
    """flax's cell, its variables times `scale`, and a start (s, h)."""
    init_key, x_key, s_key, h_key = jax.random.split(jax.random.key(1), 4)
    cell, x = nn.LSTMCell(size), jax.random.normal(x_key, (size,))
    start = jax.random.normal(s_key, (size,)), jax.random.normal(h_key, (size,))
    return cell, jax.tree.map(lambda w: scale * w, cell.init(init_key, start, x)), start, x


def test_erratum_36_the_new_cell_state_comes_from_the_one_before():
    """s_t = f_t s_{t-1} + i_t c_t, in NumPy on flax's weights, is flax's cell."""
    cell, variables, (s, h), x = lstm()
    by_flax = cell.apply(variables, (s, h), x)[0][0]
    weights = jax.tree.map(lambda w: np.asarray(w, float), variables["params"])
    a = {gate: x @ weights[f"i{gate}"]["kernel"] + h @ weights[f"h{gate}"]["kernel"] + weights[f"h{gate}"]["bias"] for gate in "ifg"}
    sigma = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    np.testing.assert_allclose(by_flax, sigma(a["f"]) * s + sigma(a["i"]) * np.tanh(a["g"]), rtol=1e-5, atol=1e-6)


def test_erratum_37_an_lstm_with_its_output_layer_has_14_arrays():
    """U, W and b of three gates and of the candidate, then V and c: the slide forgets the candidate's b."""
    _, variables, (_, h), _ = lstm()
    output = nn.Dense(2).init(jax.random.key(0), h)
    assert len(jax.tree.leaves((variables, output))) == 14


def lstm_gradient(forget_bias, recurrent_weight, steps=50):
    """∂(s_T)/∂s_0 at the state 0 of flax's cell, whose weights are 0 but for the forget gate's bias and those from h to the candidate."""
    cell, variables, start, x = lstm(scale=0.0)
    start, params = jax.tree.map(jnp.zeros_like, start), variables["params"]
    params |= {"hf": {**params["hf"], "bias": jnp.full(3, forget_bias)}, "hg": {**params["hg"], "kernel": recurrent_weight * jnp.eye(3)}}
    last = lambda s: lax.scan(lambda c, _: (cell.apply({"params": params}, c, x)[0], None), (s, start[1]), length=steps)[0][0]  # noqa: E731
    return jax.grad(lambda s: last(s).sum())(start[0])


def test_erratum_54_an_lstm_eases_vanishing_gradients_and_does_not_prevent_exploding_ones():
    """Along s the factor is f: ½ a step, or 1 with the gate open. On the way through h it is ½·½·w more; clipping is what bounds it."""
    np.testing.assert_allclose(lstm_gradient(0.0, 0.0), 0.5**50, rtol=1e-4)
    np.testing.assert_allclose(lstm_gradient(20.0, 0.0), 1.0, rtol=1e-5)
    exploded = lstm_gradient(0.0, 20.0, steps=20)
    np.testing.assert_allclose(exploded, 0.5 * 5.5**19, rtol=1e-4)  # h_0 is held, so the first factor is ½
    clipped, _ = clip_by_norm(1.0).update(exploded, optax.EmptyState())
    np.testing.assert_allclose(jnp.linalg.norm(clipped), 1.0, rtol=1e-5)


@pytest.mark.parametrize("logit", [-6.0, 0.0, 6.0])
def test_erratum_39_three_losses_of_the_generator_and_their_gradients(logit):
    """By the logit z of D(G(z)): the slide's mean D climbs by D(1 - D), log(1 - D) falls by D, log D climbs by 1 - D."""
    sigma = 1 / (1 + np.exp(-logit))
    climbs = {
        "mean of D": (lambda z: jax.nn.sigmoid(z), sigma * (1 - sigma)),
        "saturating": (lambda z: -jax.nn.log_sigmoid(-z), sigma),
        "non-saturating": (lambda z: jax.nn.log_sigmoid(z), 1 - sigma),
    }
    for objective, expected in climbs.values():
        np.testing.assert_allclose(jax.grad(objective)(logit), expected, rtol=1e-4)


def test_erratum_48_descent_stalls_at_a_saddle_and_oscillates_across_a_ravine():
    """f = x²/2 - y²/2 from (1, 0) ends at the saddle without a change of sign; f = x²/2 + 9.5 y² swings in y at a rate of 0.1."""

    def path(curvature, start):
        optimizer, w, points = sgd(0.1), jnp.asarray(start), []
        for _ in range(200):
            updates, _ = optimizer.update(jnp.asarray(curvature) * w, optimizer.init(w))
            w = optax.apply_updates(w, updates)
            points.append(w)
        return np.array(points)

    saddle, ravine = path([1.0, -1.0], [1.0, 0.0]), path([1.0, 19.0], [1.0, 1.0])
    assert (saddle[:, 0] >= 0).all()
    assert abs(saddle[-1]).max() < 1e-8
    assert (np.diff(np.sign(ravine[:20, 1])) != 0).all()
