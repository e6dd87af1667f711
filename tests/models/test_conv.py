"""The convolution against loops in NumPy, and its derivatives against those of the plain one, in every way that it is computed."""

import inspect
import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxnn.models import conv as module
from jaxnn.models.conv import Conv, conv, covering, direct, in_blocks, over_images, plain, shifted, tiled
from jaxnn.types import InputError

CASES = [  # kernel, stride, padding, dilation, groups, maps below, maps above
    (5, 1, "VALID", 1, 1, 1, 6),
    (5, 1, 2, 1, 1, 3, 4),
    (4, 1, "SAME", 1, 1, 2, 4),
    (3, 1, 1, 1, 1, 12, 4),
    (3, 2, "VALID", 1, 1, 2, 4),
    (3, 2, "SAME", 1, 1, 2, 4),
    (3, 3, 1, 1, 1, 2, 4),
    (1, 2, 0, 1, 1, 4, 2),
    (3, 1, "VALID", 2, 1, 2, 4),
    (3, 2, "SAME", 2, 1, 2, 4),
    (3, 1, 3, 1, 1, 2, 4),
    (3, 1, 1, 1, 2, 4, 6),
    (3, 2, 1, 2, 4, 4, 8),
    (3, 1, 1, 1, 3, 3, 3),
    (3, 1, "SAME", 2, 1, 32, 5),
]
SIZES = [(8, 9), (7, 7)]
COVERING = (7, 2, "VALID", 1, 1, 3, 4)
"""A window as large as the image of 7×7."""


def by_hand(x, kernel, stride, padding, dilation, groups):
    """y_pqo by loops over positions and maps; VALID or the same zeros on each side, or as many as keep ⌈n/s⌉ windows."""
    k, _, depth, features = kernel.shape
    reach = dilation * (k - 1) + 1
    pad = [(0, 0)]
    for n in x.shape[1:3]:
        if padding == "SAME":
            zeros = max((int(np.ceil(n / stride)) - 1) * stride + reach - n, 0)
            pad.append((zeros // 2, zeros - zeros // 2))
        else:
            pad.append((padding, padding) if padding != "VALID" else (0, 0))
    x = np.pad(x.astype(float), [*pad, (0, 0)])
    rows, columns = ((n - reach) // stride + 1 for n in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, features))
    for p, q, o in np.ndindex(rows, columns, features):
        below = o // (features // groups) * depth
        window = x[:, p * stride : p * stride + reach : dilation, q * stride : q * stride + reach : dilation, below : below + depth]
        y[:, p, q, o] = (window * kernel[..., o]).sum((1, 2, 3))
    return y


def drawn(case, size, batch=2):
    k, *_, groups, below, above = case
    rng = np.random.default_rng(k)
    x, kernel = rng.normal(size=(batch, *size, below)), rng.normal(size=(k, k, below // groups, above))
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


@pytest.mark.parametrize(("case", "size"), [*itertools.product(CASES, SIZES), (COVERING, (7, 7))], ids=str)
def test_rows_78_and_89_the_convolution_is_numpys(case, size):
    x, kernel = drawn(case, size)
    _, stride, padding, dilation, groups, *_ = case
    y = jax.jit(partial(conv, stride=stride, padding=padding, dilation=dilation, groups=groups))(x, kernel)
    np.testing.assert_allclose(y, by_hand(np.asarray(x), np.asarray(kernel), stride, padding, dilation, groups), atol=2e-5)


def ways(case, size):
    """Every way to compute a case: functions of (x, kernel)."""
    k, stride, padding, dilation, groups, *_ = case
    zeros = module._zeros(size, (k, k), stride, padding, dilation)
    found = {"plain": lambda x, w: plain(x, w, stride, zeros, dilation, groups)}
    found["taken"] = lambda x, w: conv(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if groups == 1:
        found["direct"] = lambda x, w: direct(x, w, stride, zeros, dilation)
        found["in blocks"] = lambda x, w: in_blocks(x, w, stride, zeros, dilation)
        if stride == 1:
            found["over images"] = lambda x, w: over_images(x, w, zeros, dilation)
    elif groups == case[-2]:
        found["shifted"] = lambda x, w: shifted(x, w, stride, zeros, dilation)
    if zeros == ((0, 0), (0, 0)) and dilation == groups == 1 and size == (k, k):
        found["covering"] = covering
    if stride == dilation == groups == 1:
        found["tiled"] = lambda x, w: tiled(x, w, zeros)
    return found


@pytest.mark.parametrize(("case", "size"), [*itertools.product(CASES, SIZES), (COVERING, (7, 7))], ids=str)
def test_gradients_are_those_of_the_plain_convolution(case, size):
    x, kernel = drawn(case, size)
    computed = ways(case, size)
    delta = jnp.asarray(np.random.default_rng(9).normal(size=computed["plain"](x, kernel).shape), jnp.float32)

    @jax.jit
    def all_of_them(x, kernel):
        return {name: jax.vjp(way, x, kernel)[1](delta) for name, way in computed.items()}

    expected, *others = all_of_them(x, kernel).values()
    assert len(others) >= 1
    for gradients in others:
        for ours, theirs in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=5e-5)


@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[11]], ids=str)
def test_derivatives_forwards_and_of_derivatives_are_those_of_the_plain_convolution(case):
    """A Hessian-vector product, forward over reverse, of a function that is not quadratic in either."""
    x, kernel = drawn(case, SIZES[0])
    directions = jnp.ones_like(x), jnp.ones_like(kernel)

    def hessian_times(way):
        energy = lambda x, w: jnp.sum(jnp.tanh(way(x, w)))  # noqa: E731
        return jax.jvp(jax.grad(energy, (0, 1)), (jnp.asarray(x), jnp.asarray(kernel)), directions)

    expected, *others = (jax.jit(lambda way=way: hessian_times(way))() for way in ways(case, SIZES[0]).values())
    for found in others:
        jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=1e-3), found, expected)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_shape_that_fits(data):
    k, w = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    size = data.draw(st.integers(max(k - 2, 1), 9)), data.draw(st.integers(max(w - 2, 1), 9))
    x = jnp.asarray(np.random.default_rng(k).normal(size=(2, *size, data.draw(st.integers(1, 9)))), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(w).normal(size=(k, w, x.shape[-1], 3)), jnp.float32)
    y, over = jax.jit(lambda x, kernel: (conv(x, kernel, padding=1), over_images(x, kernel, ((1, 1), (1, 1)), 1)))(x, kernel)
    expected = lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(y, expected, atol=3e-5)
    np.testing.assert_allclose(over, expected, atol=3e-5)


def test_one_image_is_a_batch_of_one_and_members_are_vmapped():
    x, kernel = drawn(CASES[0], (7, 7))
    kernels = jnp.stack([kernel, -2 * kernel])
    one = jax.jit(conv)(x[0], kernel)
    np.testing.assert_allclose(one, conv(x, kernel)[0], atol=1e-6)
    both = jax.jit(jax.vmap(jax.grad(lambda w: jnp.sum(conv(x, w) ** 2))))(kernels)
    np.testing.assert_allclose(both[1], -2 * both[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("case", "batch", "passes"),
    [
        ((3, 1, 1, 1, 1, 12, 4), 8, 2),
        ((3, 2, 1, 1, 1, 32, 4), 8, 2),
        ((1, 2, 0, 1, 1, 32, 4), 8, 2),
        ((3, 1, 2, 2, 2, 24, 8), 8, 2),
        ((3, 1, 1, 1, 1, 32, 4), 7, 2),
        ((3, 1, 1, 1, 1, 32, 4), 8, 3),
        ((3, 1, 2, 2, 2, 64, 8), 8, 3),
    ],
    ids=str,
)
def test_every_convolution_of_a_step_in_a_loop_is_of_the_fast_layout(case, batch, passes, optimised):
    """Compiled, forward and by the input are NHWC with HWIO and without groups: XLA:CPU has no fast code for another inside a loop.

    So is the one by the kernel of 32 maps a group of 8 images, stride 1; elsewhere that is a product of matrices.
    """
    (x, kernel), (_, stride, padding, dilation, groups, *_) = drawn(case, (8, 8), batch), case
    convolved = partial(conv, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def step(state, _):
        gradients = jax.grad(lambda x, w: jnp.sum(jnp.tanh(convolved(x, w))), (0, 1))(*state)
        return jax.tree.map(jnp.subtract, state, gradients), None

    text = jax.jit(lambda *state: lax.scan(step, state, None, length=3)).lower(x, kernel).compile().as_text()
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    assert len(convolutions) == passes * groups
    assert all("dim_labels=b01f_01io->b01f" in line and "feature_group_count" not in line for line in convolutions)


def test_a_block_holds_part_of_the_images(monkeypatch):
    """9 images in blocks of at most 4: the matrix is made for three of them at once, which leaves no rest, and not for all."""
    monkeypatch.setattr(module, "BLOCK", 4 * 6 * 7 * 9 * 12)
    x, kernel = drawn((3, 1, 0, 1, 1, 12, 4), (8, 9), batch=9)
    by_kernel = jax.grad(lambda w: jnp.sum(jnp.tanh(direct(x, w, 1, ((0, 0), (0, 0)), 1))))
    expected = jax.grad(lambda w: jnp.sum(jnp.tanh(plain(x, w, 1, ((0, 0), (0, 0)), 1))))(kernel)
    np.testing.assert_allclose(jax.jit(by_kernel)(kernel), expected, atol=5e-5)
    text = jax.jit(by_kernel).lower(kernel).as_text()
    assert "tensor<126x108xf32>" in text
    assert "tensor<378x108xf32>" not in text


def test_members_of_a_sweep_have_the_gradients_that_each_has_alone():
    x, kernel = drawn((3, 1, 1, 1, 1, 12, 4), (6, 7))
    gradient = jax.grad(lambda x, w: jnp.sum(jnp.tanh(direct(x, w, 1, ((1, 1), (1, 1)), 1))), (0, 1))
    xs, kernels = jnp.stack([x, x + 1]), jnp.stack([kernel, -2 * kernel])
    both = jax.jit(jax.vmap(gradient))(xs, kernels)
    for member in range(2):
        for ours, alone in zip(both, gradient(xs[member], kernels[member]), strict=True):
            np.testing.assert_allclose(ours[member], alone, atol=2e-5)


def test_half_precision_goes_through_and_comes_back():
    x, kernel = drawn((3, 1, 1, 1, 1, 12, 4), (6, 7))
    gradient = jax.jit(jax.grad(lambda x, w: jnp.sum(jnp.tanh(conv(x, w, padding=1)).astype(jnp.float32)), (0, 1)))
    halves, expected = gradient(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)), gradient(x, kernel)
    for ours, theirs in zip(halves, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert jnp.abs(ours - theirs).max() < 0.05 * jnp.abs(theirs).max()


class Two(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Conv(2, 5, name="second")(Conv(3, 3, padding="SAME", groups=1, name="first")(x))


def test_row_82_a_layer_has_a_kernel_a_map_and_a_bias():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), jnp.float32)
    net = Two()
    params = jax.jit(net.init)(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)
    assert jax.tree.map(jnp.shape, params) == {
        "first": {"kernel": (3, 3, 1, 3), "bias": (3,)},
        "second": {"kernel": (5, 5, 3, 2), "bias": (2,)},
    }
    first = by_hand(np.asarray(x), np.asarray(params["first"]["kernel"]), 1, "SAME", 1, 1) + 0.1
    second = by_hand(first, np.asarray(params["second"]["kernel"]), 1, "VALID", 1, 1) + 0.1
    np.testing.assert_allclose(net.apply({"params": params}, x), second, atol=2e-5)
    assert Conv(2, (1, 3)).init(jax.random.key(0), x)["params"]["kernel"].shape == (1, 3, 1, 2)
    assert "bias" not in Conv(2, 3, use_bias=False).init(jax.random.key(0), x)["params"]


def test_an_image_that_is_too_small_names_the_layer():
    with pytest.raises(InputError, match="second: a window of 5 does not fit into 4 pixels"):
        Two().init(jax.random.key(0), jnp.zeros((1, 4, 8, 1)))


@pytest.mark.parametrize(
    ("kernel", "how", "says"),
    [
        ((3, 3, 3, 2), {}, r"a kernel \(k, k, C, O\) = \(3, 3, 3, 2\) takes 3 maps; images \(..., H, W, C\) = \(1, 8, 8, 4\) have 4"),
        ((3, 3, 4, 4), {"groups": 2}, r"\(3, 3, 4, 4\), times 2 groups, takes 8 maps"),
        ((3, 3, 4, 0), {}, r"every size must be at least 1, got images \(1, 8, 8, 4\) and a kernel \(3, 3, 4, 0\)"),
        ((3, 3, 4, 6), {"stride": (2, 2)}, r"stride must be a whole number of at least 1, got \(2, 2\)"),
        ((3, 3, 4, 6), {"stride": 1.5}, "stride must be a whole number of at least 1, got 1.5"),
        ((3, 3, 4, 6), {"dilation": True}, "dilation must be a whole number of at least 1, got True"),
        ((3, 3, 4, 6), {"padding": (1, 1)}, r"a whole number of zeros on each side, got \(1, 1\)"),
        ((3, 3, 4, 6), {"padding": None}, "a whole number of zeros on each side, got None"),
        ((3, 3, 4, 6), {"padding": "same"}, "padding must be 'SAME', 'VALID' or a whole number"),
        ((3, 3, 1, 6), {"groups": 3}, "3 groups do not divide 4 maps below and 6 above"),
        ((3, 3, 4, 6), {"groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ((3, 3, 4, 6), {"stride": 0}, "stride must be a whole number of at least 1, got 0"),
        ((3, 3, 4, 6), {"stride": -1, "padding": "SAME"}, "stride must be a whole number of at least 1, got -1"),
        ((3, 3, 4, 6), {"dilation": 0}, "dilation must be a whole number of at least 1, got 0"),
        ((3, 3, 4, 6), {"padding": -1}, "padding must be at least 0, got -1"),
        ((3, 3, 4, 6), {"dilation": 4}, "a window of 9 does not fit into 8 pixels"),
    ],
    ids=str,
)
def test_what_cannot_be_convolved_is_named(kernel, how, says):
    with pytest.raises(InputError, match=says):
        inspect.unwrap(conv)(jnp.zeros((1, 8, 8, 4)), jnp.zeros(kernel), **how)  # past the types' own check


def test_a_biass_gradient_is_summed_up_in_single_precision():
    """Of 2,048 ones: in bfloat16 a sum goes no further than 256."""
    layer, x = Conv(2, 1), jnp.ones((8, 16, 16, 1))
    params = layer.init(jax.random.key(0), x)["params"]
    params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, x))
    gradient = jax.jit(jax.grad(lambda params: layer.apply({"params": params}, x).astype(jnp.float32).sum()))(params)["bias"]
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, [2048.0, 2048.0])


def test_kinds_of_numbers_are_not_mixed():
    images, kernel = np.zeros((1, 8, 8, 1), np.uint8), jnp.zeros((3, 3, 1, 2))
    for given_images, says in (
        (images, "uint8, the kernel float32"),
        (jnp.zeros(images.shape, jnp.bfloat16), "bfloat16, the kernel float32"),
    ):
        with pytest.raises(InputError, match=f"the images are {says}: both must be floats of one kind"):
            inspect.unwrap(conv)(given_images, kernel)
    with pytest.raises(InputError, match="layer: the images are bfloat16"):
        Conv(2, 3, name="layer").init(jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.bfloat16))


@pytest.mark.parametrize(
    ("numbers", "says"), [((4, 0), "layer: window must be a whole number of at least 1, got 0"), ((0, 3), "layer: features must be")]
)
def test_a_layer_that_cannot_be_names_itself(numbers, says):
    with pytest.raises(InputError, match=says):
        Conv(*numbers, name="layer").init(jax.random.key(0), jnp.zeros((1, 8, 8, 4)))
