"""The neocognitron's experiment: its patterns and judges by hand, the lecture's claim on a small run, and a whole run."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import neocognitron_digits as experiment
from experiments import neocognitron_patterns as patterns
from experiments.neocognitron_digits import RATES, Config, own_planes, right
from experiments.neocognitron_figures import mosaic
from jaxnn import data
from jaxnn.models.neocognitron import PAPER
from jaxnn.types import InputError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(quick, run_once):
    """60 digits in place of the 4,000, 30 in place of the 1,000."""
    quick.setattr(
        experiment.command, "load_digits", lambda digits, split: data.load("mnist_5k", f"{split}[:{60 if split == 'train' else 30}]")
    )
    quick.setattr(experiment, "CHUNK", 64)
    quick.setattr(experiment, "DRAWS", 4)
    return run_once(experiment, "--seeds 2 --images 50 --tested 12 --planes 24 24 24 --shifts 0 4 --strengths 0 0.5", "tolerance")


def test_row_97_the_constants_are_the_paper_s():
    assert RATES == (1.0, 16.0, 16.0)
    assert Config().presentations == 20
    assert (patterns.SIDE, len(patterns.DRAWN)) == (PAPER[0].size, 5)


def test_row_97_sub_patterns_in_the_first_layer_one_plane_in_the_last(kept):
    """A digit is many planes' business in U_S1, which digits share, and one plane's in U_C3, which is its own."""
    planes, digits = (kept.history[name] for name in ("planes that answer a digit", "digits that a plane answers"))
    assert planes.shape == digits.shape == (2, 6)
    assert (planes[:, 0] > 4).all()
    assert (digits[:, 0] > 1.4).all()
    assert (planes[:, 5] < 2).all()
    assert (digits[:, 5] < 1.5).all()


def test_row_97_shifts_are_tolerated(kept):
    """Also of digits that were shown in the middle alone, where templates fall to chance."""
    middle = kept.history["by distance/the middle alone"]
    assert (middle[:, 3] > 0.7 * middle[:, 0]).all()
    assert middle[:, 3].min() > 0.5
    assert kept.history["templates by distance/the middle alone"][0] == 1
    assert kept.history["templates by distance/the middle alone"][3] < 0.3
    assert kept.history["everywhere/random places"].min() > 0.75
    assert kept.history["own planes/random places"].min() >= 3


def test_row_97_slight_deformations_are_tolerated(kept):
    still, slightly = np.median(kept.history["by strength/random places"], 0)
    assert still > 0.7
    assert slightly > 0.8 * still


def test_every_curve_begins_with_what_is_still(kept):
    for name in ("pixels, templates", "paper, named planes", "paper, templates", "wider, named planes", "wider, templates"):
        for way in ("shift", "strength"):
            assert kept.history[f"kept by {way}/{name}"][0] > 0.99 or name == "pixels, templates"
            assert kept.history[f"right by {way}/{name}"].shape == (2,)
        assert 0 <= kept.history[f"accuracy/{name}"] <= 1
    assert set(experiment.plot(kept)) == {"responses", "weights", "answers", "tolerance", "digits"}


def test_the_record_keeps_the_wider_net(kept):
    batch = {"image": jnp.asarray(data.load("mnist_5k", "train[:50]").arrays["image"])}
    answers = np.asarray(kept.trained(experiment.learner_of(PAPER), batch).predict(batch))
    assert answers.shape == (50, 24)
    assert answers.max() > 0


def test_row_97_the_wider_net_learns_stage_by_stage(monkeypatch):
    """Each stage's weights move while it learns and stand still while the others do; the paper's net moves them all at once."""
    shown = jax.tree.map(lambda a: jnp.asarray(a[:4]), data.load("mnist_5k", "train[:4]").arrays)
    nets, runs = experiment.real_nets(Config(planes=(6, 6, 6)), shown, experiment.NOTHING)
    (_, paper), (stages, wider) = nets.values()
    assert [stage.planes for stage in stages] == [6, 6, 6]
    assert all((own.inhibitory > 0).any() for own in paper.weights[:2])
    start = experiment.neocognitron_rule(stages, preprocess=patterns.reduced).init(jax.random.split(jax.random.key(2), 2)[0], shown)
    states = [start.weights, *(run.state.weights for run in runs[1:])]
    assert states[-1] is wider.weights
    bs = [[np.asarray(own.inhibitory) for own in weights] for weights in states]
    moved = [[bool((one != other).any()) for one, other in zip(*pair, strict=True)] for pair in itertools.pairwise(bs)]
    assert moved == [[True, False, False], [False, True, False], [False, False, True]]


def test_drawn_digits_stand_where_they_are_put():
    shown = patterns.placed(np.array([1, 1]), np.array([[0, 0], [3, -2]]))
    rows, columns = np.nonzero(shown.image[0, :, :, 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 11, 5, 9)
    np.testing.assert_array_equal(np.roll(shown.image[0], (3, -2), (0, 1)), shown.image[1])
    everywhere = patterns.everywhere()
    assert everywhere.image.shape == (5 * 49, 16, 16, 1)
    ink = everywhere.image.reshape(5, 49, -1).astype(int).sum(-1)
    assert (ink == ink[:, :1]).all()  # nothing is cut off
    assert len(np.unique(everywhere.image.reshape(245, -1), axis=0)) == 245


def test_presentations_are_as_many_of_each_and_within_reach():
    shown = patterns.presented(jax.random.key(0), 40, 2)
    assert np.bincount(shown.label).tolist() == [40] * 5
    assert (shown.shift.min(), shown.shift.max()) == (-2, 2)


def test_shifts_go_four_ways():
    image = jnp.zeros((4, 16, 16, 1)).at[:, 8, 8].set(200)
    moved = np.asarray(patterns.shifted(image, 3))[..., 0]
    assert [tuple(int(n[0]) for n in np.nonzero(one)) for one in moved] == [(8, 11), (5, 8), (8, 5), (11, 8)]


def test_a_strength_of_0_deforms_nothing_and_a_larger_one_more():
    shown = jnp.asarray(patterns.everywhere().image[20:60])
    still, slightly, much = (patterns.deformed(jax.random.key(1), shown, strength) for strength in (0.0, 0.5, 2.0))
    np.testing.assert_allclose(still, shown, atol=1e-3)
    more = patterns.deformed(jax.random.key(1), shown, 1.0)
    change = [np.abs(images - shown).mean() for images in (slightly, more, much)]
    assert 0 < change[0] < change[1] < change[2]


def test_planes_take_the_class_they_answer_most():
    answers = np.array([[0.5, 0.1, 0], [0.5, 0.0, 0], [0.4, 0.1, 0], [0.0, 0.2, 0], [0.0, 0.0, 0]])
    names = patterns.names_of_planes(answers, np.array([1, 1, 0, 2, 2]), 3)
    assert names.tolist() == [1, 2, patterns.SILENT]
    assert patterns.named(names, answers).tolist() == [1, 1, 1, 2, patterns.SILENT]
    assert right(np.array([1, 2, -1]), np.array([1, 2, 2])) == pytest.approx(2 / 3)


def test_planes_of_their_own():
    """Digits 0 and 1 share plane 0, for most of their places; digit 2 has plane 2."""
    answers = np.eye(3)[[0, 0, 1, 0, 0, 2, 2]]
    assert own_planes(answers, np.array([0, 0, 0, 1, 1, 2, 2])) == 1


def test_templates_are_means_of_unit_vectors_and_match_by_angle():
    x = np.array([[2.0, 0.0], [0.0, 5.0], [0.0, 1.0], [0.0, 0.0]])
    templates = patterns.class_means(x[:3], np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(templates, [[0.5, 0.5], [0.0, 1.0]])
    assert patterns.matched(templates, np.array([[3.0, 1.0], [0.1, 9.0], [0.0, 0.0]])).tolist() == [0, 1, patterns.SILENT]


def test_a_plane_answers_with_half_the_strongest_cell():
    responses = np.zeros((1, 2, 2, 3))
    responses[0, 0, 1] = [0.9, 0.5, 0.4]
    assert patterns.answering(responses).tolist() == [[True, True, False]]


def test_mosaics_stand_row_by_row():
    sheet = mosaic(np.arange(12.0).reshape(2, 2, 3), columns=2)
    assert sheet.shape == (5, 5)
    np.testing.assert_array_equal(sheet[:2, :2], [[0, 3], [6, 9]])
    np.testing.assert_array_equal(sheet[3:, :2], [[2, 5], [8, 11]])
    assert np.isnan(sheet[2]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"presentations": 0}, "--presentations must be at least 1, got 0"),
        ({"planes": (24, 24)}, "--planes must be 3 numbers, one a stage, got 2"),
        ({"shifts": (0, -1)}, "--shifts must be at least 0, got 0 -1"),
        ({"strengths": (float("nan"),)}, "--strengths must be numbers from 0, got nan"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
