"""Sizes and counts against windows that are counted one by one, and LeCun's own table of LeNet-5."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from jaxnn.models import arithmetic
from jaxnn.models.arithmetic import Window
from jaxnn.types import InputError

SIZES = st.integers(1, 30)


def windows_by_counting(size, kernel, stride, padding, ceil=False):
    """The first pixels of all windows that lie inside the padded line; with `ceil`, of one over its end too that starts in the image."""
    over, last = (stride - 1, size + padding) if ceil else (0, size + 2 * padding)
    return [first for first in range(0, last, stride) if first + kernel <= size + 2 * padding + over]


@settings(max_examples=300, deadline=None)
@given(SIZES, SIZES, st.integers(1, 6), st.integers(0, 4), st.booleans())
@example(1, 1, 3, 1, True)  # a window would start in the zeros behind
def test_row_80_output_size_counts_the_windows(size, kernel, stride, padding, ceil):
    there = windows_by_counting(size, kernel, stride, padding, ceil)
    if there:
        assert arithmetic.output_size(size, kernel, stride, padding, ceil=ceil) == len(there)
    else:
        with pytest.raises(InputError, match="does not fit into"):
            arithmetic.output_size(size, kernel, stride, padding, ceil=ceil)


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, st.integers(1, 6))
def test_row_80_zeros_make_a_stride_fit_and_fewer_do_not(size, kernel, stride):
    zeros = arithmetic.padding_to_fit(size, kernel, stride)
    there = windows_by_counting(size + zeros, kernel, stride, 0)
    assert there[-1] + kernel == size + zeros
    assert not any((size + fewer - kernel) % stride == 0 for fewer in range(zeros) if size + fewer >= kernel)
    assert arithmetic.output_size(size + zeros, kernel, stride, exact=True) == len(there)


def test_row_80_the_lectures_strides_and_paddings():
    """Dumoulin and Visin's images: 5 pixels, a kernel of 3; and a stride of 3, which leaves pixels over."""
    assert [arithmetic.output_size(5, 3, *case) for case in ((1, 0), (2, 0), (1, 1), (2, 1))] == [3, 2, 5, 3]
    assert [arithmetic.padding_to_keep(kernel) for kernel in (1, 3, 5, 11)] == [0, 1, 2, 5]
    with pytest.raises(InputError, match="stride 3 does not fit: windows of 3 leave 2 of 5 pixels over; 1 more zeros"):
        arithmetic.output_size(5, 3, 3, exact=True)


def test_sizes_are_those_of_jax():
    for case in ((7, 3, 2, 1), (11, 4, 3, 0), (224, 11, 4, 2)):
        size, kernel, stride, padding = case
        shape = jax.eval_shape(
            lambda x, w, s=stride, p=padding: lax.conv_general_dilated(x, w, (s, s), [(p, p)] * 2),
            jnp.zeros((1, 1, size, size)),
            jnp.zeros((1, 1, kernel, kernel)),
        ).shape
        assert shape[-1] == arithmetic.output_size(*case)


LAYERS = st.tuples(st.integers(1, 5), st.integers(1, 3), st.sampled_from([0, 0, 1, 2, "SAME", "VALID"]), st.booleans())
STACKS = st.lists(LAYERS, min_size=1, max_size=4)


def side_by_side(size, stack):
    """The windows of each layer counted one by one, up to the first layer without any."""
    behind = []
    for kernel, stride, padding, ceil in stack:
        if padding == "SAME":
            size = len(range(0, size, stride))  # a window for every s-th pixel
        else:
            size = len(windows_by_counting(size, kernel, stride, 0 if padding == "VALID" else padding, ceil))
        behind.append(size)
        if not size:
            break
    return behind


@settings(max_examples=80, deadline=None)
@given(STACKS)
@example([(5, 3, 0, False)] * 4)  # the one that asks for most: 161 pixels, 242 for two windows
def test_row_80_an_image_goes_through_a_net_from_its_least_size_on(stack):
    layers = [Window(f"layer {number}", *layer) for number, layer in enumerate(stack)]
    sizes = {size: side_by_side(size, stack) for size in range(1, 330)}
    least = min(size for size, behind in sizes.items() if behind[-1])
    assert arithmetic.least_size(layers) == least
    assert arithmetic.least_size(layers, 2) == min(size for size, behind in sizes.items() if len(behind) == len(stack) and behind[-1] >= 2)
    for size in (least, least + 1, least + 5):
        assert arithmetic.sizes_through("net", layers, (1, size, 320, 3)) == [*zip(sizes[size], sizes[320], strict=True)]
    if least > 1:
        short = sizes[least - 1]
        message = f"net: layer {len(short) - 1}, a window of .*the least image is {least} × {least}, got 320 × {least - 1}"
        with pytest.raises(InputError, match=message):
            arithmetic.sizes_through("net", layers, (320, least - 1, 1))


def by_counting(below, kernel, maps_below, maps_above):
    """Every line of a local layer on a square image, one by one: (unit, weight of a shared kernel)."""
    above = range(below - kernel + 1)
    places = [(p, q, o) for p in above for q in above for o in range(maps_above)]
    return [(unit, (a, b, c, unit[2])) for unit in places for a in range(kernel) for b in range(kernel) for c in range(maps_below)]


@pytest.mark.parametrize(("below", "kernel", "maps_below", "maps_above"), [(5, 3, 1, 1), (4, 2, 3, 2), (6, 1, 2, 4)])
def test_weights_are_the_lines_counted_one_by_one(below, kernel, maps_below, maps_above):
    lines, above, links = by_counting(below, kernel, maps_below, maps_above), below - kernel + 1, maps_below * maps_above
    assert arithmetic.local_weights(kernel, maps_below, (above, above, maps_above)) == len(set(lines))
    assert arithmetic.shared_weights(kernel, links) == len({weight for _, weight in lines})
    assert arithmetic.full_weights((below, below, maps_below), (above, above, maps_above)) == below**2 * maps_below * above**2 * maps_above
    assert arithmetic.shared_parameters(kernel, links, maps_above) == len({weight for _, weight in lines}) + maps_above
    biases = {(unit, "bias") for unit, _ in lines}
    assert arithmetic.connections(kernel, links, maps_above, above**2) == len({*lines, *biases})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arithmetic.output_size(3, 5), "a window of 5 does not fit into 3 pixels with 0 zeros on each side"),
        (lambda: arithmetic.output_size(3, 5, padding=-1), "padding must be at least 0, got -1"),
        (lambda: arithmetic.output_size(3, 3, 0), "stride must be at least 1, got 0"),
        (lambda: arithmetic.output_size(3, 0), "kernel must be at least 1, got 0"),
        (lambda: arithmetic.output_size(0, 1), "size must be at least 1, got 0"),
        (lambda: arithmetic.sizes_through("net", [], (28, 28)), r"net takes images \(B, H, W, C\), got an array of shape \(28, 28\)"),
        (
            lambda: arithmetic.check_images("net", [], (28, 28, 1)),
            r"net takes images \(B, H, W, C\), got an array of shape \(28, 28, 1\)",
        ),
        (
            lambda: arithmetic.check_images("net", [], (8, 1, 28, 28)),
            r"got \(8, 1, 28, 28\), much like \(B, C, H, W\): transpose\(0, 2, 3, 1\) turns it",
        ),
        (
            lambda: arithmetic.check_images("net", [Window("c1", 7)], (1, 6, 8, 3)),
            "net: c1, a window of 7, does not fit into 6 × 8 pixels; the least image is 7 × 7, got 6 × 8",
        ),
        (
            lambda: arithmetic.sizes_through("net", [Window("c1", 7, padding=1)], (1, 4, 6, 3)),
            "net: c1, a window of 7, does not fit into 4 × 6 pixels with 1 zeros on each side; the least image is 5 × 5, got 4 × 6",
        ),
        (lambda: arithmetic.least_size([Window("c1", 3, padding="same")]), "c1: padding must be a number, 'SAME' or 'VALID', got 'same'"),
        (lambda: arithmetic.padding_to_keep(4), "for odd kernels alone, got 4"),
    ],
)
def test_what_does_not_fit_is_said_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()
