from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.models import functional
from jaxnn.models.conv import Conv, tiles_pay
from jaxnn.optimizers import schedule_free_adamw
from jaxnn.types import InputError, Learner


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(1, use_bias=False, name="output")(x)


class Normalised(nn.Module):
    """Dropout and BatchNorm, the two layers that behave differently in training."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(2)(nn.Dropout(self.rate, deterministic=not train)(x))


def regression(batch):
    return batch["x"], batch["y"]


def jitted(*arguments, **settings):
    return Learner(*map(jax.jit, supervised(*arguments, **settings)))


@pytest.fixture
def line():
    x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    return {"x": x, "y": x @ jnp.array([[3.0], [-1.0]])}


def test_row_38_a_step_is_gradient_descent_on_the_mean_loss(line):
    learner = jitted(*functional(Linear()), losses.half_squared_error, optax.sgd(0.1), preprocess=regression)
    state = learner.init(jax.random.key(0), line)
    w = np.asarray(state.variables["params"]["output"]["kernel"])
    x, y = np.asarray(line["x"]), np.asarray(line["y"])

    state, metrics = learner.step(jax.random.key(1), state, line)

    np.testing.assert_allclose(metrics["loss"], 0.5 * ((x @ w - y) ** 2).sum(-1).mean(), rtol=1e-6)
    np.testing.assert_allclose(state.variables["params"]["output"]["kernel"], w - 0.1 * x.T @ (x @ w - y) / 3, rtol=1e-5)


def test_line_search_gets_value_gradient_and_function(line):
    learner = jitted(*functional(Linear()), losses.half_squared_error, optax.lbfgs(), preprocess=regression)
    state = learner.init(jax.random.key(0), line)
    for _ in range(15):
        state, _ = learner.step(jax.random.key(1), state, line)
    np.testing.assert_allclose(state.variables["params"]["output"]["kernel"], [[3.0], [-1.0]], atol=1e-4)


def test_batch_norm_carries_its_averages_and_evaluation_leaves_them_alone():
    learner = jitted(*functional(Normalised(0.0)), losses.half_squared_error, optax.sgd(0.0), preprocess=regression)
    x = jax.random.normal(jax.random.key(0), (64, 3)) * 2 + 5
    batch = {"x": x, "y": jnp.zeros((64, 2))}
    start = learner.init(jax.random.key(1), batch)
    state, _ = learner.step(jax.random.key(2), start, batch)
    averages = state.variables["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(averages["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * x.var(0), rtol=1e-4)
    assert jax.tree.structure(state) == jax.tree.structure(start)
    assert learner.evaluate(jax.random.key(3), state, batch)["loss"].shape == (64,)


def test_dropout_draws_from_the_key_of_the_step_and_rests_in_evaluation():
    learner = jitted(*functional(Normalised()), losses.half_squared_error, optax.sgd(0.1), preprocess=regression)
    batch = {"x": jnp.ones((16, 3)) * jnp.arange(16.0)[:, None], "y": jnp.zeros((16, 2))}
    state = learner.init(jax.random.key(0), batch)
    loss = lambda seed: learner.step(jax.random.key(seed), state, batch)[1]["loss"]  # noqa: E731
    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    values = [learner.evaluate(jax.random.key(seed), state, batch)["loss"] for seed in (1, 2)]
    np.testing.assert_array_equal(*values)


def test_metrics_and_measure_join_the_loss(line):
    learner = jitted(
        *functional(Linear()),
        losses.half_squared_error,
        optax.sgd(0.1),
        preprocess=regression,
        metrics={"error": losses.absolute_error},
        measure=lambda gradients: {"norm": optax.tree.norm(gradients)},
    )
    state = learner.init(jax.random.key(0), line)
    w, x, y = np.asarray(state.variables["params"]["output"]["kernel"]), np.asarray(line["x"]), np.asarray(line["y"])
    _, metrics = learner.step(jax.random.key(1), state, line)
    assert metrics.keys() == {"loss", "error", "norm"}
    np.testing.assert_allclose(metrics["error"], np.abs(x @ w - y).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["norm"], np.linalg.norm(x.T @ (x @ w - y) / 3), rtol=1e-5)
    evaluated = learner.evaluate(jax.random.key(1), state, line)
    np.testing.assert_allclose(evaluated["error"], np.abs(x @ w - y)[:, 0], rtol=1e-6)


def test_schedule_free_is_evaluated_at_its_average(line):
    """x = (y - (1 - β₁)z)/β₁, from the state's z and the parameters y."""
    learner = jitted(*functional(Linear()), losses.half_squared_error, schedule_free_adamw(0.1), preprocess=regression)
    state = learner.init(jax.random.key(0), line)
    for _ in range(5):
        state, _ = learner.step(jax.random.key(1), state, line)
    y = np.asarray(state.variables["params"]["output"]["kernel"])
    z = np.asarray(state.opt_state.z["output"]["kernel"])
    average = (y - 0.1 * z) / 0.9
    assert np.abs(average - y).max() > 1e-3
    by_hand = 0.5 * ((np.asarray(line["x"]) @ average - np.asarray(line["y"])) ** 2).sum(-1)
    np.testing.assert_allclose(learner.evaluate(jax.random.key(2), state, line)["loss"], by_hand, rtol=1e-4)


def test_a_penalty_joins_the_gradient_and_stands_beside_the_loss(line):
    """L2 by hand: one step, what is reported, and the line search that minimises both together."""
    penalty = lambda params: 0.7 * 0.5 * jnp.sum(params["output"]["kernel"] ** 2)  # noqa: E731
    make = lambda optimizer: jitted(  # noqa: E731
        *functional(Linear()), losses.half_squared_error, optimizer, preprocess=regression, penalty=penalty
    )
    learner = make(optax.sgd(0.1))
    start = learner.init(jax.random.key(0), line)
    w, x, y = np.asarray(start.variables["params"]["output"]["kernel"]), np.asarray(line["x"]), np.asarray(line["y"])
    state, metrics = learner.step(jax.random.key(1), start, line)
    error = 0.5 * ((x @ w - y) ** 2).sum(-1).mean()
    np.testing.assert_allclose(metrics["loss"], error, rtol=1e-6)
    np.testing.assert_allclose(metrics["penalty"], 0.35 * (w**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(state.variables["params"]["output"]["kernel"], w - 0.1 * (x.T @ (x @ w - y) / 3 + 0.7 * w), rtol=1e-5)
    np.testing.assert_allclose(learner.evaluate(jax.random.key(2), start, line)["loss"].mean(), error, rtol=1e-6)

    learner, state = make(optax.lbfgs()), make(optax.lbfgs()).init(jax.random.key(0), line)
    for _ in range(15):
        state, _ = learner.step(jax.random.key(1), state, line)
    ridge = np.linalg.solve(x.T @ x / 3 + 0.7 * np.eye(2), x.T @ y / 3)
    np.testing.assert_allclose(state.variables["params"]["output"]["kernel"], ridge, atol=1e-4)


class TwoHeads(nn.Module):
    """y = ux, and beside it vx and tx of two heads, whose weights start at the same place."""

    @nn.compact
    def __call__(self, x, *, train=False):
        output, *heads = (nn.Dense(1, use_bias=False, kernel_init=nn.initializers.ones, name=name)(x) for name in "uvt")
        for name, head in zip("vt", heads, strict=True):
            self.sow("auxiliary", f"of_{name}", head)
        return output


@pytest.mark.parametrize(("settings", "weight"), [({}, 0.3), ({"auxiliary_weight": 0.5}, 0.5), ({"compute_dtype": jnp.bfloat16}, 0.3)])
def test_row_108_what_a_net_sows_is_learnt_with_the_weight_of_the_paper(settings, weight):
    """By hand, w ← w - η·weight·mean (wx - y)x for each head; evaluation is of the net alone, and the state keeps no outputs."""
    batch = {"x": jnp.array([[1.0], [2.0]]), "y": jnp.array([[0.0], [1.0]])}
    init, apply = functional(TwoHeads())
    learner = jitted(init, apply, losses.half_squared_error, optax.sgd(0.5), preprocess=regression, **settings)
    state = learner.init(jax.random.key(0), batch)
    after, metrics = learner.step(jax.random.key(1), state, batch)
    assert {name: w["kernel"].item() for name, w in after.variables["params"].items()} == {
        "u": 1 - 0.5 * 1.5,
        **dict.fromkeys("vt", pytest.approx(1 - 0.5 * weight * 1.5, rel=1e-3)),
    }
    assert {name: float(value) for name, value in metrics.items()} == {"loss": 0.5, "auxiliary": pytest.approx(2 * weight * 0.5)}
    assert jax.tree.structure(after) == jax.tree.structure(state)
    np.testing.assert_array_equal(learner.evaluate(jax.random.key(1), state, batch)["loss"], [0.5, 0.5])


def test_a_batch_that_is_no_dict_is_refused_in_words_or_taken_by_a_preprocess_of_ones_own():
    learner = supervised(*functional(Linear()), losses.half_squared_error, optax.sgd(0.1))
    pairs = supervised(*functional(Linear()), losses.half_squared_error, optax.sgd(0.1), preprocess=lambda batch: batch)
    state = pairs.init(jax.random.key(0), (jnp.ones((2, 3)), jnp.ones((2, 1))))
    with pytest.raises(InputError, match="a batch must be a dict with image and label, got a tuple"):
        learner.predict(state, (jnp.ones((2, 3)), None))
    assert pairs.predict(state, (jnp.ones((2, 3)), None)).shape == (2, 1)


@pytest.mark.parametrize("name", ["loss", "penalty", "auxiliary"])
def test_a_metric_named_as_the_learner_s_is_refused(name):
    with pytest.raises(InputError, match=f"metrics already has a '{name}'"):
        supervised(*functional(Linear()), losses.half_squared_error, optax.sgd(0.1), metrics={name: losses.absolute_error})


def test_augment_draws_anew_in_every_step_and_rests_in_evaluation(line):
    seen = lambda key, x: x + jax.random.normal(key, x.shape)  # noqa: E731
    learner = supervised(
        *functional(Linear()), losses.half_squared_error, optax.sgd(0.0), preprocess=regression, augment=seen, metrics={"mean": first}
    )
    state = learner.init(jax.random.key(0), line)
    state = jax.tree.map(jnp.ones_like, state)
    answers = [float(learner.step(jax.random.key(seed), state, line)[1]["mean"]) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    noise = jax.random.normal(jax.random.split(jax.random.key(1))[1], line["x"].shape)
    np.testing.assert_allclose(answers[0], (line["x"] + noise).sum(-1).mean(), rtol=1e-5)
    np.testing.assert_allclose(learner.evaluate(jax.random.key(1), state, line)["mean"], line["x"].sum(-1), rtol=1e-6)
    np.testing.assert_allclose(learner.predict(state, line)[:, 0], line["x"].sum(-1), rtol=1e-6)


def first(outputs, targets):
    return outputs[..., 0]


def test_in_bfloat16_the_net_is_computed_and_float32_is_kept(line):
    """What a product of bfloat16 rounds to, by hand; the update itself is not rounded to it."""
    learner = supervised(
        *functional(Linear()),
        losses.half_squared_error,
        optax.sgd(1e-4),
        preprocess=regression,
        compute_dtype=jnp.bfloat16,
        metrics={"mean": first},
    )
    state = learner.init(jax.random.key(0), line)
    w = jnp.array([[1.0 + 2**-12], [0.5]])  # the first has more digits than a bfloat16
    state = state._replace(variables={"params": {"output": {"kernel": w}}})
    after, metrics = jax.jit(learner.step)(jax.random.key(1), state, line)
    rounded = np.asarray(w, jnp.bfloat16).astype(np.float32)
    outputs = np.asarray(line["x"]) @ rounded  # small whole numbers times these are exact
    np.testing.assert_allclose(metrics["mean"], outputs.mean(), rtol=1e-6)
    gradient = np.asarray(line["x"]).T @ (outputs - np.asarray(line["y"])) / 3
    moved = after.variables["params"]["output"]["kernel"]
    assert moved.dtype == metrics["loss"].dtype == jnp.float32
    np.testing.assert_allclose(moved - w, -1e-4 * gradient, rtol=2e-2)
    assert not np.array_equal(moved, w)
    assert learner.predict(state, line).dtype == jnp.float32


def test_batch_norm_keeps_float32_averages_in_bfloat16():
    x = jax.random.normal(jax.random.key(0), (8, 3))
    batch = {"x": x, "y": jnp.zeros((8, 2))}
    learner = supervised(
        *functional(Normalised()), losses.half_squared_error, optax.sgd(0.1), preprocess=regression, compute_dtype=jnp.bfloat16
    )
    state = learner.init(jax.random.key(0), batch)
    after, _ = jax.jit(learner.step)(jax.random.key(1), state, batch)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    mean = after.variables["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * x.mean(0), atol=2e-3)


@pytest.mark.parametrize(
    "function", [losses.softmax_cross_entropy_with_integer_labels, partial(losses.smoothed_cross_entropy, smoothing=0.2)]
)
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            jnp.eye(2)[jnp.array([0, 1, 1])],
            r"integers of the shape \(3,\).*got float32 of the shape \(3, 2\); these look one-hot: take the arg max",
        ),
        (jnp.array([[0], [1], [1]]), r"got int32 of the shape \(3, 1\)"),
        (jnp.array([0.0, 1.0, 1.0]), r"got float32 of the shape \(3,\)"),
    ],
)
def test_labels_of_another_kind_are_refused_by_a_loss_of_labels(function, label, message):
    batch = {"x": jnp.ones((3, 4)), "y": label}
    learner = supervised(*functional(Normalised(0.0)), function, optax.sgd(0.1), preprocess=regression)
    state = learner.init(jax.random.key(0), batch)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(learner.step, jax.random.key(1), state, batch)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(learner.evaluate, jax.random.key(1), state, batch)


def test_one_hot_targets_are_refused_by_the_accuracy_alone():
    """Which would compare (B,) with (B, K), and with B = K not even fail."""
    batch = {"x": jnp.ones((2, 4)), "y": jnp.eye(2)}
    make = lambda metrics: supervised(  # noqa: E731
        *functional(Normalised(0.0)), losses.softmax_cross_entropy, optax.sgd(0.1), preprocess=regression, metrics=metrics
    )
    state = make({}).init(jax.random.key(0), batch)
    jax.eval_shape(make({}).step, jax.random.key(1), state, batch)
    with pytest.raises(InputError, match="these look one-hot"):
        jax.eval_shape(make({"accuracy": losses.accuracy}).step, jax.random.key(1), state, batch)


def test_a_net_is_computed_in_floats():
    with pytest.raises(InputError, match="compute_dtype must be one of floats, bfloat16 say, got int32"):
        supervised(*functional(Linear()), losses.half_squared_error, optax.sgd(0.1), compute_dtype=jnp.int32)


class Convolved(nn.Module):
    """Two layers, the second of more maps below than tiles pay for.

    Without biases: the gradient of one is a sum over all places, which XLA adds up in bfloat16 on a CPU, .14 off here and .47 with 32
    images; that of flax's own layer is off by as much.
    """

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.relu(Conv(12, 3, padding=1, use_bias=False, name="below")(x))
        return Conv(5, 3, use_bias=False, name="above")(x).mean((1, 2))


def test_a_convolution_in_bfloat16_has_float32_outputs_and_gradients_near_those_of_float32():
    """By `direct`, whose derivatives are written by hand."""
    assert not tiles_pay((3, 3, 12, 5))
    image_key, label_key = jax.random.split(jax.random.key(0))
    batch = {"x": jax.random.normal(image_key, (6, 8, 7, 2)), "y": jax.random.randint(label_key, (6,), 0, 5)}

    def learnt(dtype):
        loss = losses.softmax_cross_entropy_with_integer_labels
        learner = supervised(*functional(Convolved()), loss, optax.sgd(1.0), preprocess=regression, compute_dtype=dtype)
        before = learner.init(jax.random.key(1), batch)
        after, metrics = jax.jit(learner.step)(jax.random.key(2), before, batch)
        gradients = jax.tree.map(jnp.subtract, before.variables["params"], after.variables["params"])
        return {**gradients, "loss": metrics["loss"], "outputs": jax.jit(learner.predict)(before, batch)}

    rounded, exact = learnt(jnp.bfloat16), learnt(None)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    for found, expected in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True):
        apart = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert 0 < apart < 0.05  # a bfloat16 has 8 digits of base 2; equal numbers would not have been rounded
