"""LeNet-5 against NumPy, and the lecture's counts of it, layer by layer."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import activations, initializers, losses
from jaxnn.learners import supervised
from jaxnn.models import LeNet5, LeNet5Original, LocallyConnectedLeNet5, functional
from jaxnn.models.arithmetic import connections, shared_parameters
from jaxnn.models.lenet import C3_LINKS, CODES, DIGITS, LinkedConv, SubSampling, as_printed, bitmaps, distances
from jaxnn.models.locally_connected import LocallyConnected, spread
from jaxnn.models.pooling import mean_pool
from jaxnn.types import InputError

TABLE = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""
"""S3:660-667, as the slide draws it: a row for each map of S2, a column for each of C3."""
LINKS = [(i, j) for i, maps in enumerate(C3_LINKS) for j in maps]
IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)


def shapes(model, size=28, maps=1):
    return jax.eval_shape(functional(model).init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, maps), jnp.float32))["params"]


def counts(params):
    return {name: sum(leaf.size for leaf in jax.tree.leaves(layer)) for name, layer in params.items()}


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def original():
    """(init, apply), variables and images of the printed net."""
    pair, x = functional(LeNet5Original()), as_printed(jnp.asarray(pixels(3, 28, 28, 1)))
    return pair, jax.jit(pair.init)(jax.random.key(0), x), x


def correlate(x, kernel):
    """y_pq = Σ_abc x_{p+a, q+b, c} w_abc, in float64."""
    k, (rows, columns) = len(kernel), (n - len(kernel) + 1 for n in x.shape[1:3])
    places = [(a, b) for a in range(k) for b in range(k)]
    return sum(np.einsum("bpqc,co->bpqo", x[:, a : a + rows, b : b + columns], kernel[a, b]) for a, b in places)


def blocks(x):
    """The four entries of every 2×2 window, on an axis of their own."""
    return np.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def original_by_hand(params, x):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    squash = lambda layer, x: 1.7159 * np.tanh(2 / 3 * (x + p[layer]["bias"]))  # noqa: E731
    x = squash("c1", correlate(np.asarray(x, float), p["c1"]["kernel"]))
    x = squash("s2", blocks(x).sum(0) * p["s2"]["coefficient"])
    maps = np.zeros((len(x), 10, 10, 16))
    for number, (i, j) in enumerate(LINKS):
        maps[..., j] += correlate(x[..., [i]], p["c3"]["kernel"][:, :, None, [number]])[..., 0]
    x = squash("c3", maps)
    x = squash("s4", blocks(x).sum(0) * p["s4"]["coefficient"])
    x = squash("c5", correlate(x, p["c5"]["kernel"])[:, 0, 0])
    x = squash("f6", x @ p["f6"]["kernel"])
    return np.array([[np.sum((features - code) ** 2) for code in CODES] for features in x])


def modern_by_hand(params, x):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    relu = lambda layer, x: np.maximum(x + p[layer]["bias"], 0)  # noqa: E731
    x = np.pad(np.asarray(x, float), ((0, 0), (2, 2), (2, 2), (0, 0)))
    x = blocks(relu("c1", correlate(x, p["c1"]["kernel"]))).max(0)
    x = blocks(relu("c3", correlate(x, p["c3"]["kernel"]))).max(0).reshape(len(x), -1)
    for layer in ("c5", "f6"):
        x = relu(layer, x @ p[layer]["kernel"])
    return x @ p["output"]["kernel"] + p["output"]["bias"]


def test_row_99_the_printed_net_is_numpys(original):
    (_, apply), variables, x = original
    y, unchanged = jax.jit(lambda variables, x: apply(variables, x, train=False))(variables, x)
    assert unchanged.keys() == {"params"}
    np.testing.assert_allclose(y, original_by_hand(variables["params"], x), rtol=1e-5)


def test_row_99_the_modern_net_is_numpys():
    init, apply = functional(LeNet5())
    x = jnp.asarray(pixels(3, 28, 28, 1))
    variables = jax.jit(init)(jax.random.key(0), x)
    biased = jax.tree.map(lambda leaf: leaf + 0.05, variables)  # biases start at 0
    y, _ = jax.jit(lambda variables, x: apply(variables, x, train=True))(biased, x)
    np.testing.assert_allclose(y, modern_by_hand(biased["params"], x), rtol=1e-5, atol=1e-5)


def test_row_99_erratum_28_the_net_of_1998_has_other_layers_than_that_of_1989():
    """That of 1989, for zip codes, has 12 maps in both hidden layers, and no sub-sampling."""
    params = shapes(LeNet5Original(), 32)
    assert {name: layer["bias"].size for name, layer in params.items()} == {"c1": 6, "s2": 6, "c3": 16, "s4": 16, "c5": 120, "f6": 84}


def test_row_100_to_105_parameters_of_the_printed_net():
    held = counts(shapes(LeNet5Original(), 32))
    assert held == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(held.values()) == 60_000
    assert held["c3"] == shared_parameters(5, len(LINKS), 16)


def test_row_100_to_105_connections_of_the_printed_net():
    """From the shapes of its weights and of its maps: a layer's windows, links, maps and positions."""
    model = LeNet5Original()
    params = shapes(model, 32)
    _, seen = jax.eval_shape(lambda p, x: model.apply({"params": p}, x, capture_intermediates=True), params, IMAGE)
    behind = {name: layer["__call__"][0].shape[1:] for name, layer in seen["intermediates"].items() if name != "__call__"}
    sides = {"c1": 28, "s2": 14, "c3": 10, "s4": 5, "c5": 1}
    assert {name: shape[:2] for name, shape in behind.items() if name != "f6"} == {name: (side, side) for name, side in sides.items()}
    links = {"c1": 6, "s2": 6, "c3": params["c3"]["kernel"].shape[-1], "s4": 16, "c5": 16 * 120, "f6": 120 * 84}
    windows = {"c1": 5, "s2": 2, "c3": 5, "s4": 2, "c5": 5, "f6": 1}
    lines = {name: connections(windows[name], links[name], shape[-1], int(np.prod(shape[:-1]))) for name, shape in behind.items()}
    assert lines == {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000, "c5": 48_120, "f6": 10_164}
    assert sum(lines.values()) + CODES.size == 340_908


def test_row_105_parameters_of_the_modern_net():
    held = counts(shapes(LeNet5()))
    assert held == {"c1": 156, "c3": 2_416, "c5": 48_120, "f6": 10_164, "output": 850}
    assert sum(held.values()) == 61_706


def test_row_105_the_output_has_840_fixed_links():
    assert (CODES.shape, CODES.size, set(CODES.ravel().tolist())) == ((10, 84), 840, {-1.0, 1.0})
    np.testing.assert_array_equal(bitmaps(DIGITS), CODES)
    seven = ["".join("#" if mark > 0 else "." for mark in row) for row in CODES[7].reshape(12, 7)]
    assert seven[:2] == ["#######", "##...##"]
    assert [line.split()[7] for line in DIGITS.split("\n") if line] == seven


def test_row_105_the_codes_lie_far_apart_and_each_is_nearest_to_itself():
    differing = {pair: int((CODES[pair[0]] != CODES[pair[1]]).sum()) for pair in combinations(range(10), 2)}
    assert min(differing.values()) >= 18, min(differing, key=differing.get)
    y = np.asarray(distances(jnp.asarray(CODES)))
    assert (y.diagonal() == 0).all()
    for (one, other), places in differing.items():
        assert y[one, other] == y[other, one] == 4 * places


def test_row_102_the_table_is_that_of_the_slide():
    drawn = tuple(tuple(j for j, mark in enumerate(row) if mark == "X") for row in TABLE.split())
    assert drawn == C3_LINKS


@pytest.fixture(scope="module", params=[losses.distance_of_label, losses.discriminative_distance], ids=lambda loss: loss.__name__)
def learnt(request):
    """The printed net's states before and after one step on its own ten glyphs, and its accuracy on them after twenty more."""
    init, apply = functional(LeNet5Original())
    images = np.pad(np.kron(CODES.reshape(10, 12, 7) > 0, np.ones((2, 3))), ((0, 0), (2, 2), (3, 4)))[..., None]
    batch = {"x": jnp.asarray(images, jnp.float32), "label": jnp.arange(10)}
    metrics = {"accuracy": lambda y, label: losses.accuracy(-y, label)}
    scaled = lambda batch: (as_printed(batch["x"]), batch["label"])  # noqa: E731
    learner = supervised(init, apply, request.param, optax.adam(0.01), preprocess=scaled, metrics=metrics)
    states, step = [jax.jit(learner.init)(jax.random.key(0), batch)], jax.jit(learner.step)
    for key in jax.random.split(jax.random.key(1), 22):
        state, last = step(key, states[-1], batch)
        states.append(state)
    return states[0].variables["params"], states[1].variables["params"], last["accuracy"]


def test_row_99_the_printed_net_learns_by_both_of_its_losses(learnt):
    *_, accuracy = learnt
    assert accuracy == 1


def test_row_101_a_step_moves_every_parameter_those_of_sub_sampling_too(learnt):
    before, after, _ = learnt
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), before, after)
    assert moved["s2"] == moved["s4"] == {"coefficient": True, "bias": True}
    assert all(jax.tree.leaves(moved)), moved


def test_row_102_c3_has_no_weights_between_maps_that_are_not_joined(learnt):
    """After a step of training as before it: what each map of S2 alone makes of C3's maps is 0 where the table has no link."""
    single = np.eye(6)[:, None, None] * pixels(6, 5, 5, 1)
    for params in learnt[:2]:
        unbiased = {"params": {**params["c3"], "bias": jnp.zeros(16)}}
        y = LinkedConv(C3_LINKS, 16, 5).apply(unbiased, jnp.asarray(single, jnp.float32))
        assert [(i, j) for i, j in np.argwhere(np.asarray(y[:, 0, 0]))] == LINKS


def test_row_99_its_start_lies_within_two_point_four_over_the_inputs_of_a_unit(original):
    params = original[1]["params"]
    of_maps = np.array([3] * 6 + [4] * 9 + [6])
    fan_in = {"c1": 25, "s2": 4, "c3": 25 * of_maps, "s4": 4, "c5": 400, "f6": 120}
    inputs = {**fan_in, "c3": (25 * of_maps)[[j for _, j in LINKS]]}
    for name, layer in params.items():
        for part, bound in {part: fan_in[name] if part == "bias" else inputs[name] for part in layer}.items():
            within = np.abs(layer[part]) * bound
            assert within.max() <= 2.4 * (1 + 1e-6), (name, part)
            assert within.max() > (0.8 if layer[part].size < 50 else 2.2), (name, part)
            assert np.min(layer[part]) < 0 < np.max(layer[part])


def test_row_101_a_unit_of_s2_is_the_sum_of_four_inputs_times_a_weight_and_a_bias():
    x = jnp.asarray(pixels(2, 4, 6, 2))
    params = {"coefficient": jnp.array([0.5, -2.0]), "bias": jnp.array([1.0, 0.0])}
    y = SubSampling().apply({"params": params}, x)
    np.testing.assert_allclose(y, blocks(np.asarray(x, float)).sum(0) * [0.5, -2] + [1, 0], rtol=1e-5)


def test_row_92_the_error_goes_back_through_trainable_sub_sampling():
    """w_c δ to every entry of a window; Σ δ Σ x to the coefficient and Σ δ to the bias, of its own map alone."""
    x, delta = pixels(2, 4, 6, 2), pixels(2, 2, 3, 2, seed=1) - 0.5
    params = {"coefficient": jnp.array([0.5, -2.0]), "bias": jnp.array([1.0, 0.0])}
    cost = lambda params, x: (SubSampling().apply({"params": params}, x) * delta).sum()  # noqa: E731
    by_params, by_x = jax.jit(jax.grad(cost, argnums=(0, 1)))(params, jnp.asarray(x))
    np.testing.assert_allclose(by_x, np.kron(delta * np.array([0.5, -2]), np.ones((1, 2, 2, 1))), rtol=1e-5)
    np.testing.assert_allclose(by_params["coefficient"], (delta * blocks(x).sum(0)).sum((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(by_params["bias"], delta.sum((0, 1, 2)), rtol=1e-4)


def test_row_99_images_as_printed():
    x = as_printed(jnp.stack([jnp.zeros((28, 28, 1)), jnp.ones((28, 28, 1))]))
    assert x.shape == (2, 32, 32, 1)
    np.testing.assert_allclose(x[0], -0.1, rtol=1e-6)
    np.testing.assert_allclose(x[1, 2:-2, 2:-2], 1.175, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(x[1]).sum(), 784 * 1.175 - (1024 - 784) * 0.1, rtol=1e-5)


def test_the_modern_net_takes_other_activations_poolings_sizes_and_colours():
    net = LeNet5(classes=3, activation=activations.tanh, pool=mean_pool)
    params = shapes(net, 40, maps=3)
    assert params["c1"]["kernel"].shape == (5, 5, 3, 6)
    assert params["c5"]["kernel"].shape == (8 * 8 * 16, 120)
    assert params["output"]["kernel"].shape == (84, 3)
    init, apply = functional(LeNet5(activation=activations.linear, pool=mean_pool))
    x = jnp.asarray(pixels(2, 12, 12, 1)).at[1].set(0)
    variables = jax.jit(init)(jax.random.key(0), x)
    y = jax.jit(lambda x: apply(variables, x, train=False)[0])(jnp.concatenate([x, 2 * x]))
    np.testing.assert_allclose(y[2], 2 * y[0], rtol=1e-5)  # all of it is linear, and its biases are 0
    assert (y[1] == 0).all()
    assert abs(y[0]).max() > 0.01


def test_row_162_parameters_of_the_locally_connected_twin_are_the_connections_of_the_net():
    held = counts(shapes(LocallyConnectedLeNet5()))
    assert held == {"c1": 122_304, "c3": 241_600, "c5": 48_120, "f6": 10_164, "output": 850}
    assert held["c1"] == connections(5, 6, 6, 28 * 28) == (25 + 1) * 6 * 28 * 28
    assert held["c3"] == connections(5, 6 * 16, 16, 10 * 10) == (25 * 6 + 1) * 16 * 10 * 10


def test_row_162_with_its_kernels_at_every_place_the_twin_is_the_net():
    x = jnp.asarray(pixels(2, 16, 14, 1))
    (init, apply), (_, apply_local) = functional(LeNet5()), functional(LocallyConnectedLeNet5())
    variables = jax.tree.map(lambda leaf: leaf + 0.03, jax.jit(init)(jax.random.key(0), x))
    everywhere = dict(variables["params"])
    for name, positions in (("c1", (16, 14)), ("c3", (4, 3))):
        layer = variables["params"][name]
        everywhere[name] = {
            "kernel": spread(layer["kernel"], positions),
            "bias": jnp.broadcast_to(layer["bias"], (*positions, layer["bias"].size)),
        }
    y, _ = jax.jit(lambda v, x: apply(v, x, train=False))(variables, x)
    local = jax.jit(lambda params, x: apply_local({"params": params}, x, train=False)[0])
    np.testing.assert_allclose(local(everywhere, x), y, rtol=1e-4, atol=1e-5)
    c1 = {**everywhere["c1"], "kernel": everywhere["c1"]["kernel"].at[0, 0].add(1.0)}
    assert not np.allclose(local({**everywhere, "c1": c1}, x), y, atol=1e-5)


def test_row_162_every_place_starts_with_a_kernel_of_its_own_as_large_as_a_convolutions():
    layer = LocallyConnected(16, 5, kernel_init=initializers.he_normal)
    kernels = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 8, 7, 6)))["params"]["kernel"]
    assert kernels.shape == (4, 3, 5, 5, 6, 16)
    assert kernels.std() == pytest.approx((2 / 150) ** 0.5, rel=0.01)
    assert not np.allclose(kernels[0, 0], kernels[0, 1])


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (LeNet5(), (8, 8, 1), "LeNet5: c3, a window of 5, does not fit into 4 × 4 pixels; the least image is 12 × 12, got 8 × 8"),
        (LeNet5(), (28, 10, 1), "LeNet5: pooling after c3, a window of 2, does not fit into 10 × 1 pixels; the least .* got 28 × 10"),
        (LocallyConnectedLeNet5(), (11, 11, 1), "pooling after c3, a window of 2, does not fit into 1 × 1 pixels"),
        (
            LeNet5Original(),
            (28, 28, 1),
            r"LeNet5Original takes images \(B, 32, 32, 1\) alone, got .* \(1, 28, 28, 1\); .*lenet.as_printed makes",
        ),
        (LeNet5Original(), (32, 32, 3), r"got an array of shape \(1, 32, 32, 3\)"),
    ],
)
def test_an_image_that_a_net_cannot_take_is_named_with_the_layer_and_the_least(net, shape, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))


def test_the_least_image_fits():
    assert shapes(LeNet5(), 12)["c5"]["kernel"].shape == (16, 120)


def test_digits_of_another_size_are_named():
    with pytest.raises(InputError, match=r"digits \(B, 28, 28, 1\) with two pixels around, got an array of shape \(2, 20, 20, 1\)"):
        as_printed(jnp.zeros((2, 20, 20, 1)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (jnp.zeros((1, 28, 28, 1), jnp.uint8), "are floats from 0 to 1, got uint8; of bytes, take images / 255"),
        (jnp.full((1, 28, 28, 1), 255.0), "are floats from 0 to 1, got some from 255 to 255"),
        (jnp.zeros((1, 28, 28, 1)).at[0, 3, 3].set(-0.1), "got some from -0.1 to 0"),
        (jnp.full((1, 28, 28, 1), jnp.nan), "got some from nan to nan"),
    ],
)
def test_digits_that_are_not_from_0_to_1_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        as_printed(images)
