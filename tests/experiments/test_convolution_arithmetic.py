"""Rows 76-94 and 100-105: the lecture's own numbers, its errata, and that a shifted image gives the shifted map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from experiments import convolution_arithmetic
from experiments.convolution_arithmetic import (
    BINARY_IMAGE,
    FILTERS,
    IMAGE,
    LAPLACIAN,
    SMOOTHING,
    SOBEL,
    WINDOWS,
    Config,
    convolve,
    correlate,
    lenet_counts,
    lenet_total,
    weight_counts,
)
from experiments.photograph import photograph
from jaxnn.models import arithmetic
from jaxnn.models.lenet import C3_LINKS
from jaxnn.types import InputError

VALID = """
 0  8  8  5  2  0 -2
-1  7 10 11  3 -4  0
 2 -6 -2  9 12  5  3
 4  1  1 -3 -1  3  2
 0  2 -2 -2 -1 -3 -2
-5 -7 -7  0  1 -7 -6
 1  2  2 -1 -1  2  6
"""
PADDED_FIRST, PADDED_LAST = "-1 -6 -12 -15 -14 -8 -3 -6 -10", "3 8 11 11 6 5 11 10 3"

pytestmark = pytest.mark.usefixtures("quick")


def table(text):
    return np.array([[int(number) for number in row.split()] for row in text.strip().splitlines()])


def weights():
    return {(count.row, count.of, count.kind): count for count in weight_counts()}


def lenet(kind):
    return {count.of.removeprefix("LeNet-5 "): count.value for count in lenet_counts() if count.kind == kind}


def of_row(row):
    return {count.kind: count.value for count in weight_counts() if count.row == row}


def test_row_76_the_worked_example():
    result = np.asarray(correlate(IMAGE, SOBEL))
    np.testing.assert_array_equal(result, table(VALID))
    assert (result[0, :3].tolist(), result[-1, -1]) == ([0, 8, 8], 6)


def test_row_76_true_convolution_is_its_negative():
    """The kernel is odd under a turn by 180°; scipy's convolution turns it."""
    np.testing.assert_array_equal(convolve(IMAGE, SOBEL), -table(VALID))
    np.testing.assert_array_equal(convolve(IMAGE, SOBEL), signal.convolve2d(IMAGE, SOBEL, "valid"))
    np.testing.assert_array_equal(correlate(IMAGE, SOBEL), signal.correlate2d(IMAGE, SOBEL, "valid"))


def test_row_77_the_same_in_zeros():
    padded = np.asarray(correlate(IMAGE, SOBEL, padding=arithmetic.padding_to_keep(3)))
    assert padded.shape == IMAGE.shape
    np.testing.assert_array_equal(padded[[0, -1]], table(f"{PADDED_FIRST}\n{PADDED_LAST}"))
    np.testing.assert_array_equal(padded[1:-1, 1:-1], table(VALID))


def test_row_79_two_filters_on_six_by_six_pixels():
    expected = ("3 0 0 1\n1 1 1 0\n1 1 0 1\n1 0 2 1", "0 0 1 2\n1 0 2 2\n1 0 2 3\n2 0 3 3")
    for kernel, map_ in zip(FILTERS, expected, strict=True):
        np.testing.assert_array_equal(correlate(BINARY_IMAGE, kernel), table(map_))


def test_row_80_strides_and_zeros():
    image = np.arange(25.0, dtype=np.float32).reshape(5, 5)
    sizes = [correlate(image, SOBEL, stride=stride, padding=padding).shape for stride, padding in WINDOWS]
    assert sizes == [(3, 3), (2, 2), (5, 5), (3, 3)]
    np.testing.assert_array_equal(correlate(image, SOBEL, stride=2, padding=1), correlate(image, SOBEL, padding=1)[::2, ::2])


def test_row_81_smoothing_keeps_a_flat_image_and_the_laplacian_makes_it_zero():
    assert (SMOOTHING.sum(), LAPLACIAN.sum()) == (pytest.approx(1), 0)
    flat = np.full((6, 6), 0.7, np.float32)
    np.testing.assert_allclose(correlate(flat, SMOOTHING), 0.7, rtol=1e-6)
    np.testing.assert_allclose(correlate(flat, LAPLACIAN), 0, atol=1e-6)
    image = photograph(24)
    expected = np.lib.stride_tricks.sliding_window_view(image, (3, 3)).mean((-2, -1))
    np.testing.assert_allclose(correlate(image, SMOOTHING), expected, rtol=1e-5)
    assert np.std(correlate(image, SMOOTHING)) < np.std(image)


def test_row_83_a_thousand_by_a_thousand_pixels():
    assert of_row(83) == {"full": 10**12, "local": 100_000_000, "shared": 10_000}


def test_row_84_a_thousand_hidden_units_on_200x200():
    assert of_row(84) == {"full": 40_000_000}


def test_row_85_four_thousand_hidden_units():
    assert of_row(85) == {"full": 160_000_000}


def test_row_86_local_and_shared():
    assert of_row(86) == {"full": 1_536_640_000, "local": 960_400, "shared": 25}


def test_row_87_four_filters_then_pooling():
    assert [count.value for count in weight_counts() if count.row == 87] == [153_664, 38_416]


def test_row_88_sizes_of_the_net_with_two_hidden_layers():
    first = arithmetic.output_size(200, 5)
    pooled = arithmetic.output_size(first, 2, 2, exact=True)
    second = arithmetic.output_size(pooled, 3)
    assert (first, pooled, second, arithmetic.output_size(second, 2, 2, exact=True)) == (196, 98, 96, 48)


def test_row_90_weights_between_the_hidden_layers():
    assert of_row(90) == {"full": 2_478_292_992, "local": 9 * 4 * 7 * 96 * 96, "shared": 252}


def test_erratum_24_the_second_layer_has_seven_maps():
    count = weights()[90, "4@98×98 → 7@96×96", "full"]
    assert (count.value, count.slide, count.erratum) == (2_478_292_992, 1_416_167_424, "E24")
    assert count.value * 4 == count.slide * 7


def test_row_94_a_shifted_image_gives_the_shifted_map():
    @settings(max_examples=40, deadline=None)
    @given(
        arrays(np.int8, (4, 4), elements=st.integers(-9, 9)), st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([SOBEL, LAPLACIAN])
    )
    def check(content, down, right, kernel):
        image = np.zeros((16, 16), np.float32)
        image[6:10, 6:10] = content
        shift = lambda values: np.roll(values, (down, right), (0, 1))  # noqa: E731
        np.testing.assert_array_equal(correlate(shift(image), kernel), shift(correlate(image, kernel)))
        if down % 2 == right % 2 == 0:
            half = np.roll(correlate(image, kernel, stride=2), (down // 2, right // 2), (0, 1))
            np.testing.assert_array_equal(correlate(shift(image), kernel, stride=2), half)

    check()


def test_row_94_with_a_stride_of_two_a_shift_of_one_gives_another_map():
    image = np.zeros((9, 9), np.float32)
    image[4, 4] = 1
    moved = correlate(np.roll(image, 1, 1), SOBEL, stride=2)
    here = np.asarray(correlate(image, SOBEL, stride=2))
    assert not any((np.roll(here, by, 1) == moved).all() for by in range(4))


def test_row_100_to_105_counts_of_lenet_5_layer_by_layer():
    assert lenet("parameters") == {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert lenet("connections") == {"C1": 122_304, "S2": 5_880, "C3": 151_600, "S4": 2_000, "C5": 48_120, "F6": 10_164}


def test_row_100_first_convolution():
    assert (lenet("side")["C1"], lenet("parameters")["C1"]) == (28, 156)


def test_erratum_29_lenet_c1_connections():
    count = next(count for count in lenet_counts() if (count.of, count.kind) == ("LeNet-5 C1", "connections"))
    assert (count.value, count.slide, count.erratum) == (122_304, 122_404, "E29")


def test_erratum_43_twenty_six_parameters_a_neuron_are_those_of_its_map():
    assert arithmetic.shared_parameters(5, links=1, maps=1) == 26
    assert lenet("parameters")["C1"] == 6 * 26 == 156


def test_row_101_first_sub_sampling():
    assert [lenet(kind)["S2"] for kind in ("side", "parameters", "connections")] == [14, 12, 5_880]


def test_erratum_30_s2_has_six_maps():
    count = next(count for count in lenet_counts() if (count.of, count.kind) == ("LeNet-5 S2", "maps"))
    assert (count.value, count.slide, count.erratum) == (6, 12, "E30")


def test_row_102_the_table_of_connections():
    assert [len(maps) for maps in C3_LINKS] == [10] * 6
    seen_by = [[below for below, maps in enumerate(C3_LINKS) if above in maps] for above in range(16)]
    assert list(map(len, seen_by)) == [3] * 6 + [4] * 9 + [6]
    assert [lenet(kind)["C3"] for kind in ("side", "parameters", "connections")] == [10, 1_516, 151_600]


def test_row_103_second_sub_sampling():
    assert [lenet(kind)["S4"] for kind in ("parameters", "connections")] == [32, 2_000]


def test_erratum_31_s4_has_maps_of_five_by_five():
    count = next(count for count in lenet_counts() if (count.of, count.kind) == ("LeNet-5 S4", "side"))
    assert (count.value, count.slide, count.erratum) == (5, 14, "E31")
    assert lenet("maps")["S4"] == 16


def test_row_104_c5_has_as_many_connections_as_parameters():
    assert [lenet(kind)["C5"] for kind in ("side", "parameters", "connections")] == [1, 48_120, 48_120]


def test_row_105_totals():
    assert (lenet_total("parameters"), lenet_total("connections")) == (60_000, 340_908)


def test_a_run_records_the_numbers_and_draws_them(run_once):
    kept = run_once(convolution_arithmetic, "--width 12", "weights")
    np.testing.assert_array_equal(kept.history["worked/valid"], table(VALID))
    np.testing.assert_array_equal(kept.history["windows/size"], [3, 2, 5, 3])
    whats = [row.what for row in kept.comparisons]
    assert len(whats) == len(set(whats))
    assert "row 100: LeNet-5 C1, connections: 122,304 (the slide has 122,404), E29" in whats
    assert "row 86: 200×200 → 196×196, shared: 25" in whats
    figures = convolution_arithmetic.plot(kept)
    assert set(figures) == {"worked_example", "two_filters", "windows", "photograph", "weights", "matrices"}
    drawn = {text.get_text() for text in figures["weights"].axes[0].texts}
    assert {"1,536,640,000", "960,400", "25"} <= drawn


def test_a_photograph_narrower_than_a_window_is_said_in_words():
    with pytest.raises(InputError, match="--width must be at least 3, got 2"):
        Config(width=2)
