"""Rows 14 to 16: the boundary moves by one example at a time, mistakes stay within the bound, XOR does not, a hidden layer does."""

from itertools import pairwise

import jax
import numpy as np
import pytest

from experiments import perceptron, planes
from experiments.perceptron import Config, separable
from jaxnn.types import InputError

SMALL = "--points 12 --margins 0.1 0.3 --seeds 2 --passes 200 --xor-passes 40 --xor-steps 400"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(perceptron, SMALL, "perceptron_xor")


def test_row_14_every_update_adds_or_takes_away_one_example(kept):
    """Δ(w, θ) = ±(x, -1) of an example, with + where its label is 1; after the last none is wrong."""
    x, label = kept.history["boundary/x"], kept.history["boundary/label"]
    signs = 2 * label - 1
    steps = signs[:, None] * np.c_[x, -np.ones(len(x))]
    weights = np.r_[np.zeros((1, 3)), kept.history["boundary/weights"]]
    for before, after in pairwise(weights):
        distance = np.abs(after - before - steps).max(1)
        assert distance.min() < 1e-5
        *w, threshold = before
        assert signs[distance.argmin()] * (x[distance.argmin()] @ w - threshold) <= 1e-6  # it was wrong
    *w, threshold = weights[-1]
    assert (signs * (x @ w - threshold) >= 0).all()


def test_row_14_mistakes_stay_within_the_bound(kept):
    assert (kept.history["bound/error"] == 0).all()
    assert (kept.history["bound/mistakes"] > 0).all()
    assert (kept.history["bound/mistakes"] <= kept.history["bound/bound"]).all()


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_the_points_keep_their_margin(margin):
    data, line = separable(jax.random.key(0), 200, margin)
    distance = (2 * np.asarray(data["label"]) - 1) * (np.asarray(data["x"] @ line.weights)[:, 0] - np.asarray(line.thresholds))
    assert margin - 1e-5 <= distance.min() < margin + 0.05
    np.testing.assert_allclose(np.linalg.norm(line.weights), 1, rtol=1e-6)


def test_row_15_xor_ends_with_one_mistake_in_the_pocket_and_none_at_order_two(kept):
    *w, threshold = kept.history["xor/pocket"]
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert ((corners @ w - threshold >= 0) != [0, 1, 1, 0]).sum() == 1
    assert kept.history["xor/pocket_errors"][-1] == 1
    assert kept.history["xor/order_two_error"][-1] == 0


def test_row_16_by_hand_and_trained(kept):
    """Both pictures are right at the four corners; the trained one of a start that solved it."""
    grid = planes.grid(*perceptron.RANGE)
    assert kept.history["xor/right"].max() == 1
    for corner, t in zip([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], strict=True):
        nearest = np.abs(grid - corner).max(1).argmin()
        assert kept.history["xor/by_hand"][nearest] == t
        assert (kept.history["xor/trained"][nearest] >= 0) == t


@pytest.mark.parametrize(
    ("changes", "message"), [({"margins": (0.1, 0.0)}, "margin must be above 0"), ({"points": 1}, "--points .* got 1")]
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Config(**changes)
