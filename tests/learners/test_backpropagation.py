"""Backpropagation by hand against jax.grad, NumPy in float64 and finite differences: lecture rows 22, 23, 45-49, 51 and their errata."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from jaxnn import losses
from jaxnn.activations import ACTIVATIONS, linear, maxout, sigmoid, slope, softmax, tanh
from jaxnn.checkpoint import Goal
from jaxnn.coding import decode_binary, one_of_c
from jaxnn.learners import backpropagation, supervised
from jaxnn.learners.backpropagation import (
    SIGMOID_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY,
    Layer,
    backward,
    forward,
    mean_gradients,
    squared_error,
)
from jaxnn.models import MLP, functional
from jaxnn.train import EarlyStopping, Reached, fit, sweep
from jaxnn.types import InputError, Learner
from tests import oracles
from tests.test_activations import CLOSED_FORMS, DERIVATIVES

OUTPUTS = {
    "sigmoid, squared error": (squared_error(sigmoid), lambda z, y: losses.half_squared_error(sigmoid(z), y)),
    "tanh, squared error": (squared_error(tanh), lambda z, y: losses.half_squared_error(tanh(z), y)),
    "linear, squared error": (squared_error(linear), losses.half_squared_error),
    "sigmoid, cross-entropy": (SIGMOID_CROSS_ENTROPY, losses.sigmoid_cross_entropy),
    "softmax, cross-entropy": (SOFTMAX_CROSS_ENTROPY, losses.softmax_cross_entropy),
}
DELTAS = {
    "sigmoid, squared error": lambda z, y: special.expit(z) * special.expit(-z) * (special.expit(z) - y),
    "tanh, squared error": lambda z, y: (1 - np.tanh(z) ** 2) * (np.tanh(z) - y),
    "linear, squared error": lambda z, y: z - y,
    "sigmoid, cross-entropy": lambda z, y: special.expit(z) - y,
    "softmax, cross-entropy": lambda z, y: special.softmax(z) - y,
}
"""∂E/∂z once more, in NumPy."""
XOR = {"x": jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), "y": jnp.array([[0.0], [1.0], [1.0], [0.0]])}


def x_and_y(batch):
    return batch["x"], batch["y"]


def jitted(*arguments, **settings):
    return Learner(*map(jax.jit, backpropagation(*arguments, **settings)))


def net(sizes=(5, 7, 6, 4), examples=3, seed=0):
    """Layers with biases, and a batch with targets that are a distribution."""
    rng = np.random.default_rng(seed)
    layers = [Layer(rng.normal(size=(m, n)) / m**0.5, rng.normal(size=n) / 2) for m, n in itertools.pairwise(sizes)]
    x, y = rng.normal(size=(examples, sizes[0])), special.softmax(rng.normal(size=(examples, sizes[-1])), axis=-1)
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (tuple(layers), x, y))


def last_z(layers, x, f):
    """z^L of a batch, as one would write it for `jax.grad`."""
    for number, (weights, biases) in enumerate(layers):
        z = jnp.dot(x, weights) + biases[None]
        x = f(z) if number < len(layers) - 1 else z
    return x


def as_numpy(layers):
    return [np.asarray(layer.weights, float) for layer in layers], [np.asarray(layer.biases, float) for layer in layers]


def check_against_jax_and_numpy(activation, kind):
    layers, x, y = net()
    f, (output, loss) = ACTIVATIONS[activation], OUTPUTS[kind]

    @jax.jit
    def both(layers):
        by_jax = jax.grad(lambda layers: loss(last_z(layers, x, f), y).mean())(layers)
        return mean_gradients(layers, x, y, f, slope(f), output), (last_z(layers, x, f), by_jax)

    ours, by_jax = both(layers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, by_jax)
    delta = lambda z, number: DELTAS[kind](z, np.asarray(y, float)[number])  # noqa: E731
    expected = oracles.gradients_of_any(*as_numpy(layers), np.asarray(x, float), CLOSED_FORMS[activation], DERIVATIVES[activation], delta)
    for layer, weights, biases in zip(ours[1], *expected, strict=True):
        np.testing.assert_allclose(layer.weights, weights, atol=1e-6)
        np.testing.assert_allclose(layer.biases, biases, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_row_45_bp_by_hand_equals_jax_grad_and_numpy_for_any_activation(activation):
    """To 1e-6; the loops over units in NumPy have derivatives of their own."""
    check_against_jax_and_numpy(activation, "sigmoid, squared error")


@pytest.mark.parametrize("kind", OUTPUTS)
def test_row_45_and_for_any_output(kind):
    check_against_jax_and_numpy("tanh", kind)


def test_row_45_in_float64_to_the_last_digits():
    layers, x, y = net()
    with jax.enable_x64(True):
        layers, x, y = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, float)), (layers, x, y))
        ours = jax.jit(lambda layers: mean_gradients(layers, x, y, sigmoid, slope(sigmoid), squared_error(sigmoid))[1])(layers)
        assert ours[0].weights.dtype == jnp.float64
        expected = oracles.squared_error_gradients(*as_numpy(layers), np.asarray(x), np.asarray(y))
        for layer, weights, biases in zip(ours, *expected, strict=True):
            np.testing.assert_allclose(layer.weights, weights, rtol=1e-12)
            np.testing.assert_allclose(layer.biases, biases, rtol=1e-12)


def test_row_45_one_step_of_a_chain_of_two_neurons_by_hand():
    """x = 1, w¹ = w² = 1, no biases, y = 0, η = 1: ŷ = σ(σ(1)), every number from a pocket calculator."""
    one = Layer(jnp.ones((1, 1)), jnp.zeros(1))
    learner = jitted((1, 1), 1.0, output=squared_error(sigmoid), preprocess=x_and_y)
    batch = {"x": jnp.ones((1, 1)), "y": jnp.zeros((1, 1))}
    state = learner.init(jax.random.key(0), batch)._replace(layers=(one, one))
    after, metrics = learner.step(jax.random.key(0), state, batch)
    assert metrics["loss"] == pytest.approx(0.227838, abs=1e-6)  # ½ · 0.675038²
    delta_2 = 0.219362 * 0.675038  # f'(z²) ŷ
    delta_1 = 0.196612 * delta_2  # f'(z¹) w² δ²
    assert after.layers[1].weights == pytest.approx(1 - delta_2 * 0.731059, abs=1e-6)
    assert after.layers[1].biases == pytest.approx(-delta_2, abs=1e-6)
    assert after.layers[0].weights == pytest.approx(1 - delta_1, abs=1e-6)
    assert after.layers[0].biases == pytest.approx(-delta_1, abs=1e-6)


def test_row_46_delta_is_the_derivative_by_a_and_the_gradient_delta_times_z():
    """PRML's form, of one example: δ_j ≡ ∂E/∂a_j, ∂E/∂w_ji = δ_j z_i, δ_j = h'(a_j) Σ_k w_kj δ_k."""
    layers, x, y = net(examples=1)

    @jax.jit
    def ours(layers):
        a, z = forward(layers, x[0], tanh)
        deltas = backward(layers, a, softmax(a[-1]) - y[0], slope(tanh))
        return a, z, deltas, mean_gradients(layers, x, y, tanh, slope(tanh), SOFTMAX_CROSS_ENTROPY)[1]

    a, z, deltas, gradients = ours(layers)

    def error(nudges):
        activity = x
        for number, ((weights, biases), nudge) in enumerate(zip(layers, nudges, strict=True)):
            sums = activity @ weights + biases[None] + nudge[None]
            activity = tanh(sums) if number < 2 else sums
        return losses.softmax_cross_entropy(activity, y).mean()

    by_a = jax.jit(jax.grad(error))([jnp.zeros(len(sums)) for sums in a])
    for delta, expected, gradient, inputs in zip(deltas, by_a, gradients, z, strict=True):
        np.testing.assert_allclose(delta, expected, atol=1e-6)
        np.testing.assert_allclose(gradient.weights, np.outer(inputs, delta), atol=1e-6)
    for j, sums in enumerate(a[0]):
        assert deltas[0][j] == pytest.approx(float((1 - np.tanh(sums) ** 2) * (layers[1].weights[j] @ deltas[1])), abs=1e-6)


def test_erratum_6_with_a_sigmoid_and_the_squared_error_delta_keeps_its_slope():
    """δ = ŷ - y for the three matched pairs alone; the slide has it for all."""
    z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([0.0, 1.0, 0.0])
    matched = ("linear, squared error", "sigmoid, cross-entropy", "softmax, cross-entropy")
    for kind, (output, loss) in OUTPUTS.items():
        both = jax.jit(lambda z, y, output=output, loss=loss: (output.delta(z, y), output.activation(z) - y, jax.grad(loss)(z, y)))
        delta, bare, by_jax = both(z, y)
        np.testing.assert_allclose(delta, by_jax, atol=1e-6)
        assert np.allclose(delta, bare, atol=1e-6) == (kind in matched)
    np.testing.assert_allclose(OUTPUTS["sigmoid, squared error"][0].delta(z, y)[0], 0.104994 * 0.880797, atol=1e-6)


def test_erratum_15_targets_and_outputs_are_two_things_and_every_layer_is_adjusted():
    _, x, y = net()
    learner = jitted((7, 6, 4), 0.1, output=squared_error(sigmoid), preprocess=x_and_y)
    state = learner.init(jax.random.key(0), {"x": x, "y": y})
    after, _ = learner.step(jax.random.key(1), state, {"x": x, "y": y})
    for one, other in zip(state.layers, after.layers, strict=True):
        assert (one.weights != other.weights).any()
        assert (one.biases != other.biases).all()
    outputs = learner.predict(state, {"x": x, "y": y})
    still, _ = learner.step(jax.random.key(1), state, {"x": x, "y": outputs})  # nothing to learn where targets are outputs
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), state, still)


def test_row_22_a_net_is_nested_functions():
    """ŷ = f(W³ f(W² f(W¹ x)))."""
    layers, x, _ = net()
    layers = tuple(Layer(weights, jnp.zeros_like(biases)) for weights, biases in layers)
    w1, w2, w3 = as_numpy(layers)[0]
    learner = jitted((7, 6, 4), 0.1, output=squared_error(sigmoid), preprocess=x_and_y)
    state = learner.init(jax.random.key(0), {"x": x, "y": jnp.zeros((3, 4))})._replace(layers=layers)
    nested = [special.expit(w3.T @ special.expit(w2.T @ special.expit(w1.T @ row))) for row in np.asarray(x, float)]
    np.testing.assert_allclose(learner.predict(state, {"x": x, "y": jnp.zeros((3, 4))}), nested, atol=1e-6)


def with_bias_as_input(layers, x, h, drop_last=False):
    """y_k = Σ_j w_kj h(Σ_i w_ji x_i) with sums from 0, where x_0 = z_0 = 1 and w_j0 = b_j; or the second sum from 1."""
    first, second = (np.vstack([layer.biases, layer.weights]) for layer in layers)
    z = np.append(1.0, h(np.append(1.0, x) @ first))
    return (z[1:] @ second[1:]) if drop_last else z @ second


def test_row_23_the_bias_is_the_weight_of_a_constant_input():
    layers, x, _ = net((5, 7, 4))
    for row in x:
        np.testing.assert_allclose(
            sigmoid(forward(layers, row, tanh)[0][-1]), special.expit(with_bias_as_input(layers, row, np.tanh)), atol=1e-6
        )


def test_erratum_47_a_sum_from_1_drops_the_bias_of_the_outputs():
    layers, x, _ = net((5, 7, 4))
    missing = forward(layers, x[0], tanh)[0][-1] - with_bias_as_input(layers, x[0], np.tanh, drop_last=True)
    np.testing.assert_allclose(missing, layers[-1].biases, atol=1e-6)
    assert (np.abs(missing) > 1e-3).all()


def test_row_47_exercise_1_symbolically():
    """∂E/∂w_i = (y - t) h'(a) x_i for every h, and (y - t) x_i for the linear one; each output has weights of its own."""
    sympy = pytest.importorskip("sympy")
    h, a_value, t = sympy.Function("h"), sympy.Symbol("a"), sympy.Symbol("t")
    w, x = sympy.symbols("w:3"), sympy.symbols("x:3")
    a = sum(w[i] * x[i] for i in range(3))
    for function, slope_at_a in ((h, sympy.Subs(h(a_value).diff(a_value), a_value, a)), (lambda a: a, 1)):
        error = (function(a) - t) ** 2 / 2
        for i in range(3):
            assert sympy.expand(error.diff(w[i]) - (function(a) - t) * slope_at_a * x[i]) == 0


@pytest.mark.parametrize("name", ["linear", "sigmoid", "gaussian"])
def test_row_47_exercise_1_in_numbers(name):
    (layer,), x, t = net((3, 4), examples=1)
    h, derivative = CLOSED_FORMS[name], DERIVATIVES[name]
    error = lambda w: losses.half_squared_error(ACTIVATIONS[name](x[0] @ w), t[0])  # noqa: E731
    a = np.asarray(x[0], float) @ np.asarray(layer.weights, float)
    closed = np.outer(x[0], (h(a) - np.asarray(t[0])) * derivative(a))
    np.testing.assert_allclose(jax.jit(jax.grad(error))(layer.weights), closed, atol=1e-6)


def test_row_48_exercise_2_symbolically():
    """δ_j = h'(a_j) Σ_k δ_k w_kj, for any h and any E of the a_k."""
    sympy = pytest.importorskip("sympy")
    h, error = sympy.Function("h"), sympy.Function("E")
    a, w = sympy.symbols("a:2"), sympy.symbols("w:3:2")
    upper = sympy.symbols("u:3")
    sums = [sum(w[2 * k + j] * h(a[j]) for j in range(2)) for k in range(3)]
    deltas = [error(*upper).diff(u).subs(dict(zip(upper, sums, strict=True))) for u in upper]
    for j in range(2):
        found = error(*sums).diff(a[j])
        derived = h(a[j]).diff(a[j]) * sum(deltas[k] * w[2 * k + j] for k in range(3))
        assert sympy.expand(found - derived) == 0


def test_row_48_exercise_2_in_numbers():
    layers, x, y = net((5, 7, 4), examples=1)
    zs, _ = forward(layers, x[0], sigmoid)
    delta = np.asarray(softmax(zs[-1]) - y[0], float)
    above = lambda a: losses.softmax_cross_entropy(sigmoid(a) @ layers[1].weights + layers[1].biases, y[0])  # noqa: E731
    weights = np.asarray(layers[1].weights, float)
    closed = [DERIVATIVES["sigmoid"](float(zs[0][j])) * sum(delta[k] * weights[j, k] for k in range(4)) for j in range(7)]
    np.testing.assert_allclose(jax.jit(jax.grad(above))(zs[0]), closed, atol=1e-6)
    np.testing.assert_allclose(backward(layers, zs, jnp.asarray(delta, jnp.float32), slope(sigmoid))[0], closed, atol=1e-6)


def up(layer, v):
    """h_i of the layer below, the weights inside."""
    return tanh(v @ layer.weights + layer.biases)


def test_row_49_the_reverse_chain_of_layers_is_the_gradient():
    """∂l/∂x = ∂l/∂h_n · ∂h_n/∂h_{n-1} ⋯ ∂h_1/∂x, and ∂l/∂w_i = ∂l/∂h_i · ∂h_i/∂w_i at each layer."""
    layers, x, y = net((3, 4, 5, 2), examples=1)

    def loss(layers, v):
        for layer in layers:
            v = up(layer, v)
        return losses.half_squared_error(v, y[0])

    @jax.jit
    def pieces(layers, v):
        by_layer = []
        for layer in layers:
            by_layer.append(jax.jacobian(up, argnums=(0, 1))(layer, v))
            v = up(layer, v)
        return v - y[0], by_layer, jax.grad(loss, argnums=(0, 1))(layers, x[0])

    flowing, jacobians, (by_weights, by_x) = pieces(layers, x[0])
    flowing = np.asarray(flowing, float)  # ∂l/∂h_n
    for (of_layer, by_below), expected in zip(jacobians[::-1], by_weights[::-1], strict=True):
        np.testing.assert_allclose(np.tensordot(flowing, of_layer.weights, 1), expected.weights, atol=1e-6)
        np.testing.assert_allclose(np.tensordot(flowing, of_layer.biases, 1), expected.biases, atol=1e-6)
        flowing = flowing @ np.asarray(by_below, float)
    np.testing.assert_allclose(flowing, by_x, atol=1e-6)


def test_erratum_45_the_chain_is_of_a_layer_by_the_one_before_it():
    """∂h_n/∂h_{n-1} is (units of n, units of n-1), so that it follows ∂l/∂h_n; the slide's ∂h_{n-1}/∂h_n is the inverse map's."""
    (layer,), below, y = net((5, 2), examples=1)
    jacobian = jax.jit(jax.jacobian(up, argnums=1))(layer, below[0])
    assert jacobian.shape == (2, 5)
    assert ((up(layer, below[0]) - y[0]) @ jacobian).shape == below[0].shape
    h, w = 0.3, 2.0  # a single unit, tanh(wh), and l = ½ tanh²
    value, by_below = np.tanh(w * h), w / np.cosh(w * h) ** 2
    by_jax = jax.grad(lambda h: 0.5 * jnp.tanh(w * h) ** 2)(h)
    assert by_jax == pytest.approx(value * by_below, rel=1e-5)
    assert by_jax != pytest.approx(value / by_below, rel=0.1)


def test_row_51_partial_derivatives_by_finite_differences():
    """(f(w + h) - f(w - h)) / 2h for each weight in float64 NumPy, against jax.grad and the hand-written BP; its error falls as h²."""
    layers, x, y = net((4, 5, 3))
    weights, biases = as_numpy(layers)
    x64, y64 = np.asarray(x, float), np.asarray(y, float)

    def cost(first):
        hidden = np.tanh(x64 @ first + biases[0])
        return -(y64 * special.log_softmax(hidden @ weights[1] + biases[1], axis=-1)).sum(-1).mean()

    def differences(h):
        moves = np.eye(20).reshape(20, 4, 5) * h
        return np.array([(cost(weights[0] + move) - cost(weights[0] - move)) / (2 * h) for move in moves]).reshape(4, 5)

    ours = jax.jit(lambda layers: mean_gradients(layers, x, y, tanh, slope(tanh), SOFTMAX_CROSS_ENTROPY)[1])(layers)
    by_jax = jax.jit(jax.grad(lambda layers: losses.softmax_cross_entropy(last_z(layers, x, tanh), y).mean()))(layers)
    np.testing.assert_allclose(differences(1e-5), by_jax[0].weights, atol=1e-6)
    np.testing.assert_allclose(differences(1e-5), ours[0].weights, atol=1e-6)
    errors = [np.abs(differences(h) - differences(1e-5)).max() for h in (0.2, 0.1)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_a_run_is_that_of_supervised_with_gradient_descent():
    """The same weights, twenty steps of the loop: jax.grad and optax on the one side, the hand on the other."""
    data = {"x": jax.random.normal(jax.random.key(0), (12, 5)), "y": jax.nn.one_hot(jnp.arange(12) % 3, 3)}
    ours = backpropagation((6, 3), 0.7, activation=tanh, preprocess=x_and_y)
    model = functional(MLP((6, 3), activation=tanh))
    theirs = supervised(*model, losses.softmax_cross_entropy, optax.sgd(0.7), preprocess=x_and_y)
    state = ours.init(jax.random.key(1), data)
    names = ("hidden_1", "output")
    params = {name: {"kernel": layer.weights, "bias": layer.biases} for name, layer in zip(names, state.layers, strict=True)}
    other = theirs.init(jax.random.key(1), data)._replace(variables={"params": params})
    loop = {"batch_size": 4, "num_steps": 20, "label": None}
    mine, yours = (fit(which, jax.random.key(2), data, start=(0, start), **loop) for which, start in ((ours, state), (theirs, other)))
    np.testing.assert_allclose(mine.history.train["loss"], yours.history.train["loss"], atol=1e-5)
    for name, layer in zip(names, mine.state.layers, strict=True):
        np.testing.assert_allclose(layer.weights, yours.state.variables["params"][name]["kernel"], atol=1e-5)


def xor(learning_rate=2.0):
    return backpropagation((4, 1), learning_rate, activation=tanh, output=SIGMOID_CROSS_ENTROPY, preprocess=x_and_y)


def test_row_45_the_stop_test_ends_a_run_that_is_good_enough():
    """Step (5): the error is looked at again, and the run stops where it is small enough; XOR by a hidden layer."""
    stop = Reached(Goal("loss", higher_is_better=False), 0.05)
    run = fit(xor(), jax.random.key(0), XOR, num_steps=2000, eval_every=10, eval_data=XOR, stop=stop, label=None)
    losses_seen = run.history.evaluation["loss"]
    assert losses_seen[-1] <= 0.05 < losses_seen[-2]
    assert run.history.evaluated_at[-1] == len(run.history.train["loss"]) < 2000
    np.testing.assert_array_equal(decode_binary(xor().predict(run.state, XOR)), [0, 1, 1, 0])


def test_row_45_or_one_that_no_longer_improves():
    stop = EarlyStopping(Goal("loss", higher_is_better=False), patience=3, least=1e-3)
    linear_net = backpropagation((1,), 1.0, output=SIGMOID_CROSS_ENTROPY, preprocess=x_and_y)  # XOR is not for one layer
    run = fit(linear_net, jax.random.key(0), XOR, num_steps=2000, eval_every=20, eval_data=XOR, stop=stop, label=None)
    assert len(run.history.train["loss"]) < 2000
    assert run.history.evaluation["loss"][-1] == pytest.approx(np.log(2), abs=0.01)


def test_row_50_the_step_decides_and_so_does_the_start():
    """Learning rates side by side: they may be traced."""
    make = lambda learning_rate: xor(learning_rate)  # noqa: E731
    run = sweep(make, jax.random.key(0), XOR, seeds=2, axes={"learning_rate": [0.0, 2.0]}, num_steps=200, label=None)
    loss = run.history.train["loss"]
    assert (loss[:, 0, -1] == loss[:, 0, 0]).all()
    assert (loss[:, 1, -1] < 0.3 * loss[:, 1, 0]).all()
    assert loss[0, 0, 0] != loss[1, 0, 0]


def test_images_take_the_1_of_c_code_of_their_labels_and_metrics_see_outputs_and_targets():
    image = jax.random.randint(jax.random.key(0), (4, 3, 3, 1), 0, 256).astype(jnp.uint8)
    batch = {"image": image, "label": jnp.array([2, 0, 1, 2])}
    accuracy = lambda outputs, y: losses.accuracy(outputs, y.argmax(-1))  # noqa: E731
    learner = jitted((3,), 0.1, metrics={"accuracy": accuracy})
    state = learner.init(jax.random.key(1), batch)
    layer = state.layers[0]
    outputs = special.softmax(np.asarray(image).reshape(4, 9) / 255 @ np.asarray(layer.weights) + np.asarray(layer.biases), axis=-1)
    np.testing.assert_allclose(learner.predict(state, {"image": image}), outputs, atol=1e-6)
    measured = learner.evaluate(jax.random.key(0), state, batch)
    np.testing.assert_allclose(measured["loss"], -np.log(outputs[np.arange(4), [2, 0, 1, 2]]), rtol=1e-5)
    np.testing.assert_array_equal(measured["accuracy"], outputs.argmax(-1) == [2, 0, 1, 2])
    np.testing.assert_array_equal(one_of_c(batch["label"], 3).argmax(-1), batch["label"])


@pytest.mark.parametrize("activation", [softmax, maxout])
def test_an_activation_that_mixes_units_is_refused(activation):
    with pytest.raises(InputError, match=f"{activation.__name__} mixes units"):
        backpropagation((4, 2), 0.1, activation=activation)
    with pytest.raises(InputError, match="mixes units"):
        squared_error(activation)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InputError, match=r"at least one layer, each at least 1, got \(4, 0\)"):
        backpropagation((4, 0), 0.1)
    with pytest.raises(InputError, match="already has a 'loss'"):
        backpropagation((2,), 0.1, metrics={"loss": losses.accuracy})
    learner = backpropagation((4, 2), 0.1, preprocess=x_and_y)
    with pytest.raises(InputError, match=r"targets have the shape \(4, 1\), the outputs \(4, 2\)"):
        learner.init(jax.random.key(0), XOR)
