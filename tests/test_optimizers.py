"""jaxnn.optimizers: the lecture's rows 52-66, the errata, NumPy, optax and PyTorch in float64, and what every optimizer must do."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import optimizers
from jaxnn.optimizers import (
    OPTIMIZERS,
    SEVEN,
    adadelta,
    adagrad,
    adam,
    by_name,
    clip_by_element,
    clip_by_norm,
    evaluation_point,
    momentum,
    nesterov,
    nesterov_iterate,
    rmsprop,
    schedule_free_adamw,
    sgd,
)
from jaxnn.schedules import cosine, inverse_time
from jaxnn.types import InputError

RATES = {
    "sgd": 0.3,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 1.0,
    "rmsprop": 0.1,
    "adadelta": 10.0,
    "adam": 0.1,
    "nadam": 0.1,
    "adamw": 0.1,
    "lion": 0.05,
    "muon": 0.1,
    "schedule_free_adamw": 0.3,
    "prodigy": 1.0,
    "lbfgs": 1.0,
}
"""A peak at which cosine decay over 300 steps brings the loss of `regression` below a hundredth."""
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def trajectory(optimizer, gradient, start, steps):
    """Parameters and states after each step."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(gradient(params), state, params)
        carry = optax.apply_updates(params, updates), state
        return carry, carry

    return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]


def parabola(optimizer, steps=3):
    """The first w of f(w) = w²/2 from w_0 = 1, where ∇f(w) = w."""
    return trajectory(optimizer, lambda w: w, jnp.float64(1), steps)[0]


def of_samples(*batches, rate=0.1):
    """The w from 1 by SGD, one step a batch, on the mean over its samples x of (w - x)²/2."""
    w, optimizer = jnp.float64(1), sgd(rate)
    state, path = optimizer.init(w), []
    for batch in batches:
        gradient = jax.grad(lambda w, batch=batch: jnp.mean(jnp.square(w - jnp.array(batch)) / 2))(w)
        updates, state = optimizer.update(gradient, state)
        w = optax.apply_updates(w, updates)
        path.append(float(w))
    return path


def near(*values, abs=1e-6):
    return pytest.approx(values, abs=abs)


@pytest.mark.usefixtures("float64")
def test_row_52_sgd_on_one_sample_oscillates():
    assert parabola(sgd(0.1)) == near(0.9, 0.81, 0.729)
    assert of_samples([0.0], [0.0], [0.0]) == near(0.9, 0.81, 0.729)
    assert of_samples([-1.0], [1.0], [-1.0]) == near(0.8, 0.82, 0.638)


@pytest.mark.usefixtures("float64")
def test_row_53_the_batch_form_takes_the_mean_of_all_samples():
    assert of_samples(*[[-3.0, -1.0, 1.0, 3.0]] * 3) == near(0.9, 0.81, 0.729)


@pytest.mark.usefixtures("float64")
def test_row_54_mini_batches_lie_between_one_sample_and_all():
    assert of_samples([-3.0, 1.0], [-1.0, 3.0], [-3.0, 1.0]) == near(0.8, 0.82, 0.638)
    assert of_samples([-3.0, 3.0], [-1.0, 1.0], [-3.0, 3.0]) == near(0.9, 0.81, 0.729)


@pytest.mark.usefixtures("float64")
def test_row_55_sgd_stays_at_a_saddle_that_it_runs_into():
    saddle = jax.grad(lambda w: (w[0] ** 2 - w[1] ** 2) / 2)
    np.testing.assert_allclose(trajectory(sgd(0.1), saddle, jnp.array([1.0, 0.0]), 200)[0][-1], 0, atol=1e-9)
    assert trajectory(sgd(0.1), saddle, jnp.array([1.0, 1e-6]), 200)[0][-1, 1] > 100


@pytest.mark.usefixtures("float64")
def test_row_58_adagrad():
    assert parabola(adagrad(0.1)) == near(0.900000, 0.833104, 0.780456)
    as_optax_has_it = parabola(optax.adagrad(0.1))
    assert as_optax_has_it == near(0.904654, 0.839339, 0.787513)


@pytest.mark.usefixtures("float64")
def test_row_59_rmsprop():
    assert parabola(rmsprop(0.1)) == near(0.683772, 0.498871, 0.369181)
    outside = parabola(optax.rmsprop(0.1, eps_in_sqrt=False))
    np.testing.assert_allclose(parabola(rmsprop(0.1)), outside, atol=3e-8)


@pytest.mark.usefixtures("float64")
def test_row_60_adadelta():
    assert parabola(adadelta()) == near(0.995528, 0.991009, 0.986465)


@pytest.mark.usefixtures("float64")
def test_row_61_momentum():
    assert parabola(momentum(0.1)) == near(0.9, 0.72, 0.486)


@pytest.mark.usefixtures("float64")
def test_row_62_nesterov_keeps_the_look_ahead_point_and_gives_the_iterate():
    params, states = trajectory(nesterov(0.1), lambda w: w, jnp.float64(1), 3)
    assert params == near(0.81, 0.5751, 0.327321)
    assert nesterov_iterate(params, states) == near(0.9, 0.729, 0.51759)


@pytest.mark.usefixtures("float64")
def test_row_63_adam():
    assert parabola(adam(0.1)) == near(0.900000, 0.800412, 0.701586)


def test_row_65_clipping_by_norm_and_by_element():
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(-4.0)}
    by_norm, _ = clip_by_norm(1.0).update(gradients, clip_by_norm(1.0).init(gradients))
    np.testing.assert_allclose([*by_norm["a"], by_norm["b"]], [0.6, 0, -0.8], rtol=1e-6)
    by_element, _ = clip_by_element(1.0).update(gradients, clip_by_element(1.0).init(gradients))
    np.testing.assert_allclose([*by_element["a"], by_element["b"]], [1, 0, -1], rtol=1e-6)
    for clip in (clip_by_norm(5.5), clip_by_element(4.0)):
        left, _ = clip.update(gradients, clip.init(gradients))
        np.testing.assert_allclose([*left["a"], left["b"]], [3, 0, -4], rtol=1e-6)


def test_row_65_clipping_as_optax_does_it_in_a_chain_and_with_a_traced_limit():
    gradients = {"a": jnp.arange(-3.0, 3.0), "b": jnp.full((2, 2), 0.5, jnp.bfloat16), "c": jnp.zeros(())}
    limits = jnp.array([0.1, 1.0, 100.0])
    for ours, theirs in ((clip_by_norm, optax.clip_by_global_norm), (clip_by_element, optax.clip)):
        clipped = jax.vmap(lambda limit, ours=ours: ours(limit).update(gradients, optax.EmptyState())[0])(limits)
        for member, limit in enumerate([0.1, 1.0, 100.0]):
            expected, _ = theirs(limit).update(gradients, optax.EmptyState())
            for x, y in zip(jax.tree.leaves(clipped), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(x[member].astype(float), y.astype(float), rtol=1e-2 if y.dtype == jnp.bfloat16 else 1e-6)
                assert x.dtype == y.dtype
    assert parabola_chain(0.5) == pytest.approx(0.95)


def parabola_chain(limit):
    optimizer = optax.chain(clip_by_norm(limit), sgd(0.1))
    return float(trajectory(optimizer, lambda w: w, jnp.float32(1), 1)[0][0])


def test_clipping_leaves_a_zero_gradient_alone():
    assert clip_by_norm(1.0).update(jnp.zeros(3), optax.EmptyState())[0].tolist() == [0, 0, 0]


@pytest.mark.usefixtures("float64")
def test_erratum_1_adadelta_divides_the_root_mean_squares_of_updates_and_gradients():
    def epsilon_outside(w, steps=3, rho=0.95, eps=1e-6):  # √u + ε as S3:303 writes it, with u for its w
        n, u, path = 0.0, 0.0, []
        for _ in range(steps):
            n = rho * n + (1 - rho) * w**2
            delta = -(np.sqrt(u) + eps) / (np.sqrt(n) + eps) * w
            u, w = rho * u + (1 - rho) * delta**2, w + delta
            path.append(w)
        return path

    assert epsilon_outside(1.0) == near(0.9999955, 0.9999891, 0.9999818, abs=1e-7)
    assert parabola(adadelta(rho=0.9)) == near(0.996838, 0.993598, 0.990309)
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.sqrt(-1.0))  # the slide's √w
    from_below = trajectory(adadelta(), lambda w: w, jnp.float64(-1), 3)[0]
    np.testing.assert_allclose(from_below, -parabola(adadelta()), rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_row_41_the_update_with_momentum():
    """w(t) = w(t-1) + Δw, Δw(t) = -α ∂J/∂w + μ Δw(t-1), on J = w²/2 from 1 with α = .1, μ = .5."""
    assert parabola(momentum(0.1, 0.5)) == near(0.9, 0.76, 0.614)


@pytest.mark.usefixtures("float64")
def test_erratum_2_the_momentum_term_is_the_last_step_and_no_constant():
    path = np.concatenate([[1.0], parabola(momentum(0.1, 0.9), steps=5)])
    steps = np.diff(path)
    np.testing.assert_allclose(steps[1:], -0.1 * path[1:-1] + 0.9 * steps[:-1], rtol=1e-12)
    at_rest = trajectory(momentum(0.1, 0.9), lambda w: w, jnp.float64(0), 3)[0]
    assert at_rest.tolist() == [0, 0, 0]  # with S2:145's μα = .09 it would climb from its minimum
    slide = lambda w: w - 0.1 * w + 0.9 * 0.1  # noqa: E731
    assert slide(0.0) == pytest.approx(0.09)
    assert slide(0.9) == pytest.approx(0.9)  # and settle at w = μ


@pytest.mark.usefixtures("float64")
def test_erratum_7_adam_without_its_rate_takes_steps_of_one():
    w, m, n, slide = 1.0, 0.0, 0.0, []
    for t in (1, 2, 3):
        m, n = 0.9 * m + 0.1 * w, 0.999 * n + 0.001 * w**2
        w -= m / (1 - 0.9**t) / (np.sqrt(n / (1 - 0.999**t)) + 1e-8)
        slide.append(w)
    np.testing.assert_allclose(parabola(adam(1.0)), slide, rtol=0, atol=1e-12)
    assert parabola(adam()) == near(0.999, 0.998, 0.997, abs=1e-5)  # the paper's η = .001


@pytest.mark.usefixtures("float64")
def test_erratum_17_the_gradient_is_a_mean_so_a_doubled_data_set_takes_the_same_step():
    assert of_samples([2.0, 4.0] * 2) == near(*of_samples([2.0, 4.0]))
    as_a_sum = 1 - 0.1 * ((1 - 2.0) + (1 - 4.0))
    assert of_samples([2.0, 4.0]) == near(1.2)
    assert as_a_sum == pytest.approx(1.4)


@pytest.mark.usefixtures("float64")
def test_erratum_19_the_first_velocity_is_the_rate_times_the_gradient():
    def slide(w, velocity):
        path = []
        for _ in range(3):
            w -= velocity
            velocity = 0.9 * velocity + 0.1 * w
            path.append(w)
        return path

    assert slide(1.0, velocity=1.0) == near(0, -0.9, -1.62)
    assert slide(1.0, velocity=0.1) == near(*parabola(momentum(0.1)).tolist())


CURVATURE, MINIMUM = np.array([[2.0, 0.3], [0.3, 0.5]]), np.array([0.7, -0.4])
START = {"a": np.array(1.0), "b": [np.array(1.5)]}


def valley(w):
    """∇ of ½(w - w*)ᵀA(w - w*), with w a tree of two scalars."""
    g = jnp.asarray(CURVATURE) @ (jnp.stack([w["a"], w["b"][0]]) - MINIMUM)
    return {"a": g[0], "b": [g[1]]}


def down_the_valley(optimizer, steps=30):
    """(steps, 2): the points, and the states."""
    params, states = trajectory(optimizer, valley, jax.tree.map(jnp.asarray, START), steps)
    return np.stack([params["a"], params["b"][0]], axis=-1), params, states


def numpy_textbook(name, rates):
    w, v, n, u = np.array([1.0, 1.5]), np.zeros(2), np.zeros(2), np.zeros(2)
    gradient, path = lambda w: CURVATURE @ (w - MINIMUM), []
    for t, rate in enumerate(rates, start=1):
        g = gradient(w - 0.9 * v if name == "nesterov" else w)
        if name in ("momentum", "nesterov"):
            v = 0.9 * v + rate * g
        n = {"adagrad": n + g * g, "rmsprop": 0.9 * n + 0.1 * g * g, "adadelta": 0.95 * n + 0.05 * g * g}.get(
            name, 0.999 * n + 0.001 * g * g
        )
        if name == "adam":
            v = 0.9 * v + 0.1 * g
        delta = {
            "sgd": -rate * g,
            "momentum": -v,
            "nesterov": -v,
            "adagrad": -rate * g / np.sqrt(n + 1e-8),
            "rmsprop": -rate * g / np.sqrt(n + 1e-8),
            "adadelta": -rate * g * np.sqrt(u + 1e-6) / np.sqrt(n + 1e-6),
            "adam": -rate * v / (1 - 0.9**t) / (np.sqrt(n / (1 - 0.999**t)) + 1e-8),
        }[name]
        u = 0.95 * u + 0.05 * (delta / rate) ** 2
        w = w + delta
        path.append(w)
    return np.array(path)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [factory.__name__ for factory in SEVEN])
def test_equal_to_numpy_with_a_rate_that_changes(name):
    schedule = inverse_time(0.1, 0.1)
    points, params, states = down_the_valley(by_name(name)(schedule))
    if name == "nesterov":
        iterate = nesterov_iterate(params, states)
        points = np.stack([iterate["a"], iterate["b"][0]], axis=-1)
    np.testing.assert_allclose(points, numpy_textbook(name, [0.1 / (1 + 0.1 * t) for t in range(30)]), rtol=0, atol=1e-12)


OPTAX = {
    "sgd": (sgd(0.1), optax.sgd(0.1)),
    "momentum": (momentum(0.1), optax.sgd(0.1, momentum=0.9)),
    "nesterov": (nesterov(0.1), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "adagrad": (adagrad(0.1), optax.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-8)),
    "rmsprop": (rmsprop(0.1), optax.rmsprop(0.1)),
    "adadelta": (adadelta(), optax.adadelta(1.0, rho=0.95)),
    "adam": (adam(0.1), optax.adam(0.1)),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OPTAX)
def test_equal_to_optax_with_the_settings_that_the_docstring_names(name):
    ours, theirs = OPTAX[name]
    np.testing.assert_allclose(down_the_valley(ours)[0], down_the_valley(theirs)[0], rtol=0, atol=1e-13)


TORCH = {
    "sgd": (sgd(0.1), "SGD", {"lr": 0.1}),
    "momentum": (momentum(0.1), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (nesterov(0.1), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": (adagrad(0.1, eps=0.0), "Adagrad", {"lr": 0.1, "eps": 0.0}),
    "rmsprop": (rmsprop(0.1, eps=0.0), "RMSprop", {"lr": 0.1, "alpha": 0.9, "eps": 0.0}),
    "adadelta": (adadelta(), "Adadelta", {"lr": 1.0, "rho": 0.95}),
    "adam": (adam(0.1), "Adam", {"lr": 0.1}),
    "adamw": (optimizers.adamw(0.1), "AdamW", {"lr": 0.1}),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", TORCH)
def test_equal_to_pytorch_with_the_settings_that_the_docstring_names(name):
    torch = pytest.importorskip("torch")
    ours, peer, settings = TORCH[name]
    w = torch.tensor([1.0, 1.5], dtype=torch.float64, requires_grad=True)
    optimizer, path = getattr(torch.optim, peer)([w], **settings), []
    for _ in range(30):
        w.grad = torch.tensor(CURVATURE) @ (w.detach() - torch.tensor(MINIMUM))
        optimizer.step()
        path.append(w.detach().numpy().copy())
    np.testing.assert_allclose(down_the_valley(ours)[0], path, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_momentum_keeps_the_rate_inside_the_velocity_as_the_lecture_has_it():
    drop = inverse_time(0.1, 1.0)
    assert parabola(momentum(drop))[:2] == near(0.9, 0.9 - (0.9 * 0.1 + 0.05 * 0.9))
    assert parabola(optax.sgd(drop, momentum=0.9))[:2] == near(0.9, 0.9 - 0.05 * (0.9 + 0.9))


def regression():
    """½ mean ‖xW + b - y‖² with a solution at 0 loss, its start, and that at 1/100 of the first loss."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
    y = x @ jnp.array([[1.0, -1.0], [0.5, 2.0], [-1.5, 0.3]]) + jnp.array([[0.5, -0.5]])
    loss = lambda params: jnp.mean(jnp.square(x @ params["kernel"] + params["bias"][None] - y))  # noqa: E731
    return loss, {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}


def train(optimizer, loss, params, steps):
    def step(carry, _):
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params, value=value, grad=gradients, value_fn=loss)
        return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)


@each_optimizer
def test_converges_on_a_convex_problem(name):
    loss, start = regression()
    (params, state), losses = jax.jit(lambda: train(by_name(name)(cosine(RATES[name], 300)), loss, start, 300))()
    assert loss(evaluation_point(params, state)) < losses[0] / 100


@each_optimizer
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_compiles_once_and_keeps_tree_shapes_and_dtypes(name, dtype):
    loss, start = regression()
    params = jax.tree.map(lambda x: x.astype(dtype), start)

    @jax.jit
    def step(learning_rate, params, state):
        optimizer = by_name(name)(learning_rate)
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params, value=value, grad=gradients, value_fn=loss)
        assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, gradients)
        return optax.apply_updates(params, updates), state

    state = by_name(name)(0.1).init(params)
    after = params, state
    for learning_rate in (0.1, 0.2, 0.3):
        after = step(learning_rate, *after)
    assert step._cache_size() == 1
    kind = lambda x: (x.shape, x.dtype, x.weak_type)  # noqa: E731
    assert jax.tree.map(kind, after) == jax.tree.map(kind, (params, state))
    assert all(x.dtype != jnp.bfloat16 for x in jax.tree.leaves(state))


@each_optimizer
def test_every_float_may_be_traced_and_vmapped(name):
    loss, start = regression()
    defaults = {key: p.default for key, p in inspect.signature(by_name(name)).parameters.items() if isinstance(p.default, float)}
    assert "learning_rate" in defaults
    points = [{key: default * shrink or 0.1 * shrink for key, default in defaults.items()} for shrink in (1.0, 0.5)]
    last = lambda settings: train(by_name(name)(**settings), loss, start, 3)[0][0]  # noqa: E731
    together = jax.jit(jax.vmap(last))(jax.tree.map(lambda *x: jnp.array(x), *points))
    alone = jax.jit(lambda: last(points[1]))()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, rtol=2e-4, atol=1e-6), together, alone)
    jax.tree.map(lambda x: np.testing.assert_raises(AssertionError, np.testing.assert_allclose, x[0], x[1], rtol=1e-3), together)


@each_optimizer
def test_an_optimizer_refuses_a_rate_that_cannot_be(name):
    for rate in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=rf"learning_rate must lie in \[0, inf\), got {rate}"):
            by_name(name)(rate)
    with pytest.raises(InputError, match=r"learning_rate must be one number, got an array of shape \(2,\)"):
        by_name(name)(jnp.ones(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: momentum(0.1, 1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: nesterov(0.1, -0.5), r"momentum must lie in \[0, 1\), got -0.5"),
        (lambda: rmsprop(rho=1.5), r"rho must lie in \[0, 1\), got 1.5"),
        (lambda: adadelta(rho=float("nan")), r"rho must lie in \[0, 1\), got nan"),
        (lambda: adam(b2=1.0), r"b2 must lie in \[0, 1\), got 1.0"),
        (lambda: adagrad(eps=-1e-8), r"eps must lie in \[0, 1\), got -1e-08"),
        (lambda: schedule_free_adamw(b1=0.0), r"b1 must lie in \[1e-09, 1\), got 0.0"),
        (lambda: clip_by_norm(-1.0), r"limit must lie in \[0, inf\), got -1.0"),
        (lambda: by_name("adelta"), "unknown optimizer 'adelta'; did you mean 'adadelta'"),
    ],
)
def test_bad_input_is_refused_in_words(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_traced_bad_number_is_not_seen():
    assert jnp.isfinite(jax.jit(lambda x: trajectory(momentum(0.1, x), lambda w: w, jnp.float32(1), 2)[0])(1.5)).all()


def test_every_factory_of_the_module_stands_in_the_table():
    returns_one = {
        name
        for name, value in vars(optimizers).items()
        if inspect.isfunction(value) and "learning_rate" in inspect.signature(value).parameters and not name.startswith("_")
    }
    assert returns_one == set(OPTIMIZERS) == set(RATES)


@pytest.mark.parametrize("name", [factory.__name__ for factory in SEVEN])
def test_any_tree_will_do(name):
    optimizer = by_name(name)(0.1)
    for params in ({}, (), None, jnp.ones(()), [(jnp.ones(2), None), {"x": jnp.ones((0, 3))}]):
        updates, state = optimizer.update(params, optimizer.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        assert state.step == 1


@pytest.mark.usefixtures("float64")
def test_a_step_counts_for_the_schedule_from_zero():
    assert parabola(sgd(lambda step: 0.1 * step)) == near(1.0, 0.9, 0.72)


def test_a_running_mean_forgets_in_bfloat16_too():
    gradients = jnp.where(jnp.arange(2001) == 0, 100.0, 1.0).astype(jnp.bfloat16)
    optimizer = adam()
    last = jax.lax.scan(lambda state, g: (optimizer.update(g, state)[1], None), optimizer.init(gradients[0]), gradients)[0]
    assert last.mean_square == pytest.approx(0.999**2000 * 0.001 * 100**2 + 1 - 0.999**2000, rel=1e-3)
    theirs = optax.adam(0.001)
    last = jax.lax.scan(lambda state, g: (theirs.update(g, state)[1], None), theirs.init(gradients[0]), gradients)[0]
    assert last[0].nu.astype(float) > 9  # β₂ = .999 is 1 there


def test_evaluation_point_is_the_mean_of_the_z_of_schedule_free_and_the_parameters_of_others():
    loss, start = regression()
    optimizer = optax.chain(clip_by_norm(10.0), schedule_free_adamw(0.1))
    params, states = jax.jit(lambda: trajectory(optimizer, jax.grad(loss), start, 20))()
    last = jax.tree.map(lambda x: x[-1], (params, states))
    mean = jax.tree.map(lambda z: z.mean(0), states[1].z)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), evaluation_point(*last), mean)
    assert evaluation_point(start, adam().init(start)) is start


def test_evaluation_point_keeps_the_dtype():
    params = jnp.ones(3, jnp.bfloat16)
    assert evaluation_point(params, schedule_free_adamw().init(params)).dtype == jnp.bfloat16
