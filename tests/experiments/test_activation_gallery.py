import math
from itertools import pairwise

import numpy as np
import pytest

from experiments import activation_gallery
from experiments.activation_gallery import Config, kinks
from jaxnn.types import InputError
from tests.test_activations import CLOSED_FORMS, DERIVATIVES


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(activation_gallery, "--points 161 --leak 0.01", "activation_gallery")


def row(kept, what, name):
    return kept.history[what][kept.meta["functions"].index(name)]


def test_rows_3_to_9_every_curve_is_its_closed_form(kept):
    assert set(kept.meta["functions"]) == {*CLOSED_FORMS, "maxout"} - {"scaled_tanh"}
    z = kept.history["z"].astype(float)
    off_kinks = (np.abs(z) > 1e-3) & (np.abs(z - 1) > 1e-3)
    for name, closed in ((name, CLOSED_FORMS[name]) for name in kept.meta["functions"] if name != "maxout"):
        np.testing.assert_allclose(row(kept, "value", name)[off_kinks], closed(z)[off_kinks], atol=2e-6)
        np.testing.assert_allclose(row(kept, "slope", name)[off_kinks], DERIVATIVES[name](z)[off_kinks], atol=2e-6)


def test_row_5_the_slope_of_sigmoid_is_marked_at_a_quarter(kept):
    assert row(kept, "slope", "sigmoid").max() == 0.25
    assert kept.history["z"][row(kept, "slope", "sigmoid").argmax()] == pytest.approx(0, abs=1e-6)
    figure = activation_gallery.plot(kept)["activation_gallery"]
    ax = figure.axes[kept.meta["functions"].index("sigmoid")]
    assert "¼" in [text.get_text() for text in ax.texts]
    (bound,) = (line for line in ax.lines if line.get_linestyle() == ":")
    np.testing.assert_array_equal(bound.get_ydata(), 0.25)


def test_row_10_maxout_of_two_pieces(kept):
    z = kept.history["z"]
    np.testing.assert_allclose(row(kept, "value", "maxout"), np.maximum(-0.5 * z, z - 1.5), atol=1e-6)
    assert kinks(Config())[-1] == ("maxout", 1.0)  # where -z/2 = z - 3/2


def test_the_slopes_drawn_at_kinks_are_those_of_the_table(kept):
    drawn = dict(zip(zip(kept.meta["kinks"], kept.history["kink"].tolist(), strict=True), kept.history["kink_slope"].tolist(), strict=True))
    assert drawn == {
        ("threshold", 0): 0,
        ("bipolar_threshold", 0): 0,
        ("ramp", 0): 0.5,
        ("ramp", 1): 0.5,
        ("relu", 0): 0,
        ("leaky_relu", 0): 1,
        ("maxout", 1): 0.25,
    }


def test_no_line_is_drawn_across_a_kink_of_its_slope(kept):
    figure = activation_gallery.plot(kept)["activation_gallery"]
    ax = figure.axes[kept.meta["functions"].index("ramp")]
    dashed = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "--"]
    assert [len(piece) > 0 for piece in dashed] == [True] * 3
    assert all(piece.max() < later.min() for piece, later in pairwise(dashed))


def test_the_largest_slopes(kept):
    largest = {c.what: (c.median, c.published) for c in kept.comparisons}
    assert largest["sigmoid: largest slope"] == (0.25, 0.25)
    assert largest["gaussian: largest slope"] == pytest.approx((math.sqrt(2 / math.e),) * 2, rel=1e-3)
    assert largest["threshold: largest slope"] == (0, None)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="--reach must be above 1"):
        Config(reach=0.5)
    with pytest.raises(InputError, match=r"--maxout-weights must differ, got 1\.0 twice"):
        Config(maxout_weights=(1.0, 1.0))
