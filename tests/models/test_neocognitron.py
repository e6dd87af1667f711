"""The neocognitron's cells beside NumPy loops, and its sizes beside the paper's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models.neocognitron import PAPER, Stage, Weights, bell, check, complex_cells, initial, respond, shares, simple_cells, windows
from jaxnn.types import InputError
from tests import neocognitron_by_hand as by_hand

TINY = (
    Stage(planes=4, size=6, pooled=4, selectivity=4.0, area=3, pool=3, stride=2, column=3),
    Stage(planes=3, size=2, pooled=1, selectivity=1.5, area=3, pool=2, stride=1, column=2, saturation=0.7),
)


def weights_of(stages, planes=1, seed=0):
    """As large as learning makes them, so that inhibition counts."""
    rng, found = np.random.default_rng(seed), []
    for stage in stages:
        a = rng.uniform(0, 1.5, (stage.area**2, planes, stage.planes)) / planes
        found.append(Weights(jnp.asarray(a, jnp.float32), jnp.asarray(rng.uniform(0, 3, stage.planes), jnp.float32)))
        planes = stage.planes
    return tuple(found)


def image_of(side, planes=1, seed=1):
    return np.random.default_rng(seed).uniform(0, 1, (side, side, planes)).astype(np.float32) ** 3


@pytest.mark.parametrize("planes", [1, 2])
def test_row_97_every_cell_is_the_one_written_out(planes):
    weights, image = weights_of(TINY, planes), image_of(6, planes)
    responses = jax.jit(lambda image: respond(TINY, weights, image))(jnp.asarray(image))
    expected = by_hand.layers(TINY, [[np.asarray(x, float) for x in own] for own in weights], image.astype(float))
    for response, (simple, complex_) in zip(responses, expected, strict=True):
        assert 0.1 < (simple > 0).mean() <= 1  # the oracle has something to say
        np.testing.assert_allclose(response.simple, simple, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(response.complex, complex_, rtol=1e-4, atol=1e-6)
    level = [[by_hand.inhibitory_cell(TINY[0], image, i, j) for j in range(6)] for i in range(6)]
    np.testing.assert_allclose(responses[0].level, level, rtol=1e-5)


def test_row_97_the_layers_have_the_paper_s_sizes():
    responses = jax.eval_shape(lambda: respond(PAPER, initial(jax.random.key(0), PAPER), jnp.zeros((16, 16, 1))))
    assert [(r.simple.shape, r.complex.shape) for r in responses] == [
        ((16, 16, 24), (10, 10, 24)),
        ((8, 8, 24), (6, 6, 24)),
        ((2, 2, 24), (1, 1, 24)),
    ]
    assert [(stage.selectivity, stage.saturation) for stage in PAPER] == [(4.0, 0.5), (1.5, 0.5), (1.5, 0.5)]
    synapses = [r.seen.shape[2] * r.seen.shape[3] for r in responses]
    assert synapses == [25, 25 * 24, 25 * 24]


def test_s_cell_by_hand():
    """One pixel of ½, a = 3, b = 2, r = 4: v = ½, (1 + 1.5) / (1 + 1.6 · 2 · ½) - 1 < 0; with b = ½ 4(2.5 / 1.4 - 1)."""
    stage = Stage(planes=2, size=1, pooled=1, selectivity=4.0, area=1, pool=1, stride=1, column=1)
    level, simple = simple_cells(stage, Weights(jnp.full((1, 1, 2), 3.0), jnp.array([2.0, 0.5])), jnp.full((1, 1, 1, 1), 0.5))
    assert level.item() == pytest.approx(0.5)
    np.testing.assert_allclose(simple.ravel(), [0, 4 * (2.5 / 1.4 - 1)], rtol=1e-6)


def test_c_cell_by_hand():
    """u_S = 2 and 0 on two planes: v_S = 1, x = 3/2 - 1 = ½ = α, so ψ is one half; the silent plane is below its neighbour's inhibition."""
    stage = Stage(planes=2, size=1, pooled=1, selectivity=4.0, area=1, pool=1, stride=1, column=1)
    np.testing.assert_allclose(complex_cells(stage, jnp.array([[[2.0, 0.0]]])).ravel(), [0.5, 0.0], rtol=1e-6)


@pytest.mark.parametrize("r", [1.5, 4.0])
def test_row_97_a_learnt_cell_measures_an_angle(r):
    """a = q c u, b = q/2 v with a large q: u_S = r φ[(1 + r)/r cos - 1], 1 for what was learnt and 0 from cos = r/(1 + r) on."""
    stage = Stage(planes=1, size=1, pooled=1, selectivity=r, area=3, pool=1, stride=1, column=1)
    c, learnt, q = shares(3, 1), image_of(3).reshape(9), 1e5
    norm = lambda x: np.sqrt((c * x**2).sum())  # noqa: E731
    weights = Weights(jnp.asarray(q * c * learnt)[:, None, None], jnp.asarray([q / 2 * norm(learnt)], jnp.float32))
    other, answers = (1 - learnt / learnt.max()) * (learnt < 0.3), []
    for share in np.linspace(0, 1, 20):
        x = (0.6 * (1 - share) * learnt + share * other).astype(np.float32)
        _, simple = simple_cells(stage, weights, jnp.asarray(x).reshape(1, 1, 9, 1))
        cosine = (c * x * learnt).sum() / norm(x) / norm(learnt)
        answers.append((simple.item(), r * max((1 + r) / r * cosine - 1, 0)))
    got, expected = np.transpose(answers)
    assert got[0] == pytest.approx(1, rel=1e-3)
    assert (expected == 0).any()
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_fixed_weights_fall_with_the_distance_and_inhibition_s_add_up_to_one():
    around = bell(5).reshape(5, 5)
    assert around[2, 2] == 1
    assert around[2, 3] == pytest.approx(0.9)
    assert around[0, 0] == pytest.approx(0.9 ** np.sqrt(8))
    assert 24 * shares(5, 24).sum() == pytest.approx(1)
    np.testing.assert_allclose(shares(5, 24) / shares(5, 24)[12], bell(5), rtol=1e-6)


@pytest.mark.parametrize(("area", "stride", "size"), [(5, 1, 16), (5, 2, 10), (3, 1, 14), (2, 1, 15)])
def test_windows_are_the_places_a_cell_sees(area, stride, size):
    u = image_of(16, 2)
    corner = by_hand.first(16, area, stride, size)
    seen = np.asarray(windows(jnp.asarray(u), area, stride, size))
    for i, j in [(0, 0), (3, 7), (size - 1, size - 1)]:
        places = [(corner + stride * i + m, corner + stride * j + n) for m in range(area) for n in range(area)]
        np.testing.assert_array_equal(seen[i, j], [[by_hand.at(u, *place, k) for k in range(2)] for place in places])


def test_row_97_the_s_cells_of_a_plane_are_copies():
    """What the image moves by, the S-plane moves by."""
    weights, image = weights_of(PAPER[:1]), np.zeros((16, 16, 1), np.float32)
    image[4:9, 5:8] = image_of(5)[:, :3]
    answers = [respond(PAPER[:1], weights, jnp.asarray(x))[0].simple for x in (image, np.roll(image, (3, -2), (0, 1)))]
    assert answers[0].max() > 0.1
    np.testing.assert_allclose(answers[1], np.roll(answers[0], (3, -2), (0, 1)), atol=1e-5)


def test_first_weights_are_those_written_out():
    """ε c(v) cos²(θ_v - πk/K) cos²(π(k'/K' - k/K)) of 3 planes on 4; c falls by .9 a step and sums up to 1 over all 36."""
    found = np.asarray(initial(jax.random.key(0), TINY, scale=0.05, jitter=0.0)[1].excitatory).reshape(3, 3, 4, 3)
    places = np.indices((3, 3)).reshape(2, -1).T - 1
    fall = np.array([0.9 ** np.hypot(*place) for place in places])
    for (down, right), c in zip(places, fall / fall.sum() / 4, strict=True):
        for below, plane in np.ndindex(4, 3):
            along = np.cos(np.arctan2(down, right) - np.pi * plane / 3) ** 2 if down or right else 1
            expected = 0.05 * c * along * np.cos(np.pi * (below / 4 - plane / 3)) ** 2
            np.testing.assert_allclose(found[down + 1, right + 1, below, plane], expected, rtol=1e-4, atol=1e-9)


def test_first_weights_prefer_another_orientation_in_every_plane():
    weights = initial(jax.random.key(0), PAPER, jitter=0.0)
    a = np.asarray(weights[0].excitatory).reshape(5, 5, 24)
    assert a[2, 4, 0] > a[4, 2, 0]  # plane 0 along a row
    assert a[4, 2, 12] > a[2, 4, 12]  # plane 12, a right angle on, down a column
    assert len(np.unique(a[..., :24].reshape(25, 24).argsort(0), axis=1).T) > 12
    assert all((own.excitatory >= 0).all() and (own.inhibitory == 0).all() for own in weights)
    other = initial(jax.random.key(0), PAPER, jitter=0.5)[1].excitatory
    ratio = np.asarray(other)[weights[1].excitatory > 1e-9] / np.asarray(weights[1].excitatory)[weights[1].excitatory > 1e-9]
    assert 1 <= ratio.min() < 1.05
    assert 1.45 < ratio.max() <= 1.5001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": 0}, "stage 2: every size must be at least 1"),
        ({"selectivity": 0.0}, "stage 2: selectivity and saturation must be above 0, got 0.0 and 0.5"),
        ({"column": 9}, "stage 2: an S-column of 9 × 9 cells is larger than its plane's 8"),
        ({"size": 3}, "S-cells of stage 2: 3 × 3 cells with areas of 5 × 5, 1 apart, do not lie on 10 × 10: 6 to 14 do"),
        ({"pooled": 9}, "C-cells of stage 2: 9 × 9 cells with areas of 5 × 5, 2 apart, do not lie on 8 × 8: 3 to 6 do"),
    ],
)
def test_bad_stages_are_said_in_words(changes, message):
    stages = (PAPER[0], PAPER[1]._replace(**({"column": 3} if "size" in changes else {}) | changes), PAPER[2])
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        check(stages, 16)


def test_an_image_of_another_size_is_said_in_words():
    with pytest.raises(
        InputError, match="S-cells of stage 1: 16 × 16 cells with areas of 5 × 5, 1 apart, do not lie on 28 × 28: 24 to 32 do"
    ):
        respond(PAPER, initial(jax.random.key(0), PAPER), jnp.zeros((28, 28, 1)))
    with pytest.raises(InputError, match="at least one stage"):
        check((), 16)
