"""Row 18 and erratum 14: regions by hand against plane geometry, and what one hidden layer can do."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.path import Path

from experiments import decision_regions, planes
from experiments.decision_regions import DIAMOND, SQUARE, TRIANGLE, Config, at_least, convex, pentagram, sides, union
from jaxnn.models.neuron import Neurons, apply
from jaxnn.types import InputError

SMALL = "--units 4 --widths 4 --points 60 --batch-size 30 --steps 60 --learning-rate 0.2 --seeds 2"
X = np.random.default_rng(0).uniform(-1, 1, (4000, 2)).astype(np.float32)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(decision_regions, SMALL, "decision_regions")


def fires(network, x):
    return np.asarray(apply(network, jnp.asarray(x)))[:, 0] == 1


def star():
    """The pentagram's outline: its tips where the pentagon's sides meet again, φ² as far out as the pentagon's corners."""
    golden = (1 + 5**0.5) / 2
    turns = np.pi * (0.3 + 0.2 * np.arange(10))
    radii = np.where(np.arange(10) % 2 == 0, 0.35, 0.35 * golden**2)
    return Path(np.c_[radii * np.cos(turns), radii * np.sin(turns)])


def test_row_18_one_hidden_layer_under_an_and_is_a_polygon():
    for corners in (SQUARE, TRIANGLE, DIAMOND):
        np.testing.assert_array_equal(fires(convex(corners), X), Path(corners).contains_points(X))


def test_row_18_two_hidden_layers_are_a_union_of_polygons():
    expected = np.any([Path(corners).contains_points(X) for corners in (SQUARE, TRIANGLE, DIAMOND)], axis=0)
    network = union(SQUARE, TRIANGLE, DIAMOND)
    assert [neurons.weights.shape for neurons in network] == [(2, 11), (11, 3), (3, 1)]
    np.testing.assert_array_equal(fires(network, X), expected)


@pytest.mark.parametrize("seed", range(3))
def test_row_18_under_an_and_every_region_is_convex(seed):
    """Whatever the half-planes: the middle of any two points inside is inside."""
    generator = np.random.default_rng(seed)
    hidden = Neurons(jnp.array(generator.normal(size=(2, 6)), jnp.float32), jnp.array(generator.uniform(-1, -0.2, 6), jnp.float32))
    inside = X[fires((hidden, at_least(6, 6)), X)]
    assert len(inside) > 50
    middles = (generator.permutation(inside) + inside) / 2
    assert fires((hidden, at_least(6, 6)), middles).all()


def test_erratum_14_one_hidden_layer_of_threshold_units_makes_a_star():
    """Five units and an output at 3½: a pentagram, and the middle between two tips lies outside it."""
    network = pentagram()
    assert [neurons.weights.shape for neurons in network] == [(2, 5), (5, 1)]
    assert network[1].thresholds == 3.5
    np.testing.assert_array_equal(fires(network, X), star().contains_points(X))
    tips = 0.97 * star().vertices[1::2]
    assert fires(network, tips).all()
    assert not fires(network, (tips + np.roll(tips, 1, axis=0)) / 2).any()


def test_erratum_14_sigmoid_units_under_a_linear_output_make_the_same_star():
    """σ(400 z) = (1 + tanh(200 z))/2 is a threshold but within 0.02 of the sides; the output is the sum less 3½."""
    hidden, _ = pentagram()
    z = X @ np.asarray(hidden.weights) - np.asarray(hidden.thresholds)
    clear = np.abs(z).min(1) > 0.02
    sums = ((1 + np.tanh(200 * z)) / 2).sum(1) - 3.5
    assert clear.mean() > 0.5
    np.testing.assert_array_equal((sums >= 0)[clear], star().contains_points(X)[clear])


def test_a_side_is_on_its_polygons_side():
    square = sides(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    np.testing.assert_array_equal(square.weights.T, [[0, 1], [-1, 0], [0, -1], [1, 0]])
    np.testing.assert_array_equal(square.thresholds, [0, -1, -1, 0])


def test_the_record_holds_all_regions_and_nets(kept):
    regions = decision_regions.regions()
    h = kept.history
    assert h["logits"].shape == (len(regions), 3, planes.SIDE**2)
    assert h["accuracy"].shape == (len(regions), 3, 2)
    np.testing.assert_array_equal(h["width"], [4])
    assert h["accuracy"][0].min() > 0.9  # a half-plane is learnt by every net
    answers = np.stack([fires(network, planes.grid(-1, 1)) for _, network in regions.values()])
    right = ((h["logits"] >= 0) == answers[:, None]).mean(-1)
    np.testing.assert_allclose(right, h["accuracy"][..., 0], atol=2e-3)  # logits are kept in half precision
    assert (h["accuracy"][1:, 0] < 0.9).all()  # no line is any other region
    by_hand = np.stack([fires(network, planes.grid(-1, 1, decision_regions.FINE)) for _, network in regions.values()])
    np.testing.assert_array_equal(h["by_hand"], by_hand)


def test_fewer_points_than_a_batch_are_refused():
    with pytest.raises(InputError, match="--points must be at least 200, got 10"):
        Config(points=10)


def test_the_same_net_is_made_once():
    """Else each of a dozen sweeps would compile."""
    assert decision_regions.sigmoid_net((3,), 0.1).make() is decision_regions.sigmoid_net((3,), 0.1).make()
