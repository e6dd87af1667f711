"""Representatives and their learning beside NumPy loops, and what the net learns of small patterns."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.learners import neocognitron_rule
from jaxnn.learners.neocognitron_rule import Neocognitron, representatives
from jaxnn.models.neocognitron import PAPER, Stage, Weights, initial, respond, shares
from jaxnn.train import fit
from jaxnn.types import InputError
from tests import neocognitron_by_hand as by_hand
from tests.models.test_neocognitron import TINY, image_of, weights_of

ONE = Stage(planes=3, size=4, pooled=1, selectivity=2.0, area=3, pool=4, stride=1, column=4)


def arrays(weights):
    return [np.asarray(x, float) for x in weights]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("column", [1, 2, 3, 5])
def test_row_97_representatives_are_those_of_brute_force(seed, column):
    """Coarse values give ties, and silent columns."""
    simple = np.random.default_rng(seed).integers(0, 6 if seed % 2 else 40, (5, 5, 4)).astype(np.float32)
    simple[:3, :3] *= seed > 2
    places, chosen = jax.jit(representatives, static_argnums=1)(jnp.asarray(simple), column)
    found = {k: divmod(int(places[k]), 5) for k in range(4) if chosen[k]}
    assert found == by_hand.representatives(simple, column)


def test_a_silent_layer_has_no_representative():
    assert not representatives(jnp.zeros((4, 4, 2)), 2)[1].any()


def test_at_most_one_representative_a_plane_and_one_plane_a_column():
    simple = jnp.zeros((4, 4, 3)).at[0, 0, 1].set(3.0).at[3, 3, 1].set(2.0).at[0, 1, 2].set(1.0).at[3, 0, 0].set(0.5)
    places, chosen = representatives(simple, 2)
    assert chosen.tolist() == [True, True, True]
    assert places[jnp.array([0, 1])].tolist() == [12, 0]  # plane 1 has two candidates, and the stronger stands
    assert representatives(simple, 4)[1].tolist() == [False, True, False]  # one column, one candidate


def test_row_97_one_presentation_teaches_what_is_written_out():
    """All stages from what they said before it; two images one after the other."""
    learner = neocognitron_rule(TINY, rates=(1.0, 16.0))
    images = np.stack([image_of(6, seed=seed) for seed in (3, 4)])
    batch = {"image": jnp.asarray(images)}
    state = Neocognitron(weights_of(TINY))
    after, metrics = jax.jit(learner.step)(jax.random.key(0), state, batch)
    expected, mismatches = [arrays(own) for own in state.weights], []
    for image in images.astype(float):
        layers = by_hand.layers(TINY, expected, image)
        seen = [image, layers[0][1]]
        mismatches.append(max(1 - layers[-1][0].max(), 0))
        expected = [
            by_hand.taught(stage, *own, u, simple, q)
            for stage, own, u, (simple, _), q in zip(TINY, expected, seen, layers, (1.0, 16.0), strict=True)
        ]
    assert any((own.excitatory != new.excitatory).any() for own, new in zip(state.weights, after.weights, strict=True))
    for own, (a, b) in zip(after.weights, expected, strict=True):
        np.testing.assert_allclose(own.excitatory, a, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(own.inhibitory, b, rtol=1e-4, atol=1e-6)
    assert metrics["mismatch"] == pytest.approx(np.mean(mismatches), rel=1e-4)


def test_one_step_by_hand():
    """One pixel of ½ in the middle of 3 × 3 that one cell sees, q = 2: there Δa = c, the others' a stay, and Δb = v = √c / 2."""
    stage = Stage(planes=1, size=1, pooled=1, selectivity=4.0, area=3, pool=1, stride=1, column=1)
    learner = neocognitron_rule((stage,), rates=(2.0,), preprocess=lambda batch: batch["image"])
    batch = {"image": jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(0.5)}
    before = Weights(jnp.full((9, 1, 1), 0.1), jnp.zeros(1))
    (after,) = learner.step(jax.random.key(0), Neocognitron((before,)), batch)[0].weights
    c = 1 / (1 + 4 * 0.9 + 4 * 0.9 ** np.sqrt(2))
    np.testing.assert_allclose(after.excitatory.ravel(), 0.1 + np.array([0, 0, 0, 0, c, 0, 0, 0, 0]), rtol=1e-6)
    assert after.inhibitory.item() == pytest.approx(np.sqrt(c) / 2, rel=1e-6)


def test_a_plane_without_a_representative_stays():
    learner = neocognitron_rule((ONE,), rates=(1.0,))
    state = Neocognitron(weights_of((ONE,)))
    batch = {"image": jnp.asarray(image_of(4)[None])}
    after = learner.step(jax.random.key(0), state, batch)[0]
    changed = (after.weights[0].excitatory != state.weights[0].excitatory).any((0, 1))
    assert changed.sum() == 1  # one column
    np.testing.assert_array_equal(changed, after.weights[0].inhibitory != state.weights[0].inhibitory)


def test_inhibition_grows_by_half_the_rate():
    """With Δb = q v a cell of r ≥ 1 would be silent to what it learnt, as 2r/(1 + r) q v² ≥ q v². With the half it says up to 1."""
    stage = Stage(planes=1, size=1, pooled=1, selectivity=4.0, area=3, pool=1, stride=1, column=1)
    image = jnp.asarray(image_of(3))
    learner = neocognitron_rule((stage,), rates=(1e4,), preprocess=lambda batch: batch["image"])
    state = learner.init(jax.random.key(0), {"image": image[None]})
    state, _ = learner.step(jax.random.key(0), state, {"image": image[None]})
    (own,) = state.weights
    assert respond((stage,), (own,), image)[0].simple.item() == pytest.approx(1, abs=0.01)
    assert respond((stage,), (own._replace(inhibitory=2 * own.inhibitory),), image)[0].simple.item() == 0
    np.testing.assert_allclose(own.excitatory[:, 0, 0], 1e4 * shares(3, 1) * image.ravel(), rtol=1e-3, atol=0.01)


def test_row_97_planes_share_out_the_patterns():
    """Three bars that have nothing in common: after some presentations each has a plane of its own, whichever pixel it stands on."""
    image = np.zeros((3, 4, 4, 1), np.uint8)
    image[0, 1], image[1, :, 2], image[2, [0, 1, 2, 3], [0, 1, 2, 3]] = 255, 255, 255
    learner = neocognitron_rule((ONE,), rates=(4.0,), scale=1e-2)
    data = {"image": image}
    run = fit(learner, jax.random.key(0), data, batch_size=3, num_steps=20, eval_data=data, label=None)
    answers = np.asarray(learner.predict(run.state, jax.tree.map(jnp.asarray, data)))
    assert sorted(answers.argmax(1)) == [0, 1, 2]
    assert np.count_nonzero(answers > 0.5 * answers.max(1, keepdims=True)) == 3
    before, after = run.history.evaluation["mismatch"]
    assert before > 0.9
    assert after < 0.2
    np.testing.assert_array_equal(run.history.train["learnt"][-1], [1.0])


def test_planes_that_have_learnt_are_those_with_inhibition():
    """2 of 4 in the first stage and 1 of 3 in the second, where nothing is taught; the weights start at the `scale` asked for."""
    learner = neocognitron_rule(TINY, rates=(0.0, 0.0), scale=0.03, jitter=0.0)
    batch = {"image": jnp.asarray(image_of(6)[None])}
    state = learner.init(jax.random.key(0), batch)
    jax.tree.map(np.testing.assert_array_equal, state.weights, initial(jax.random.key(0), TINY, scale=0.03, jitter=0.0))
    bs = jnp.array([0.0, 1.0, 0.2, 0.0]), jnp.array([0.0, 0.0, 3.0])
    inhibited = tuple(own._replace(inhibitory=b) for own, b in zip(state.weights, bs, strict=True))
    _, metrics = learner.step(jax.random.key(0), Neocognitron(inhibited), batch)
    np.testing.assert_allclose(metrics["learnt"], [1 / 2, 1 / 3])


def test_a_rate_of_0_leaves_its_stage():
    learner = neocognitron_rule(TINY, rates=(1.0, 0.0))
    state = Neocognitron(weights_of(TINY))
    after, _ = learner.step(jax.random.key(0), state, {"image": jnp.asarray(image_of(6)[None])})
    assert (after.weights[0].excitatory != state.weights[0].excitatory).any()
    np.testing.assert_array_equal(after.weights[1].excitatory, state.weights[1].excitatory)


def test_answers_do_not_depend_on_how_many_are_asked_for(monkeypatch):
    monkeypatch.setattr(sys.modules["jaxnn.learners.neocognitron_rule"], "AT_ONCE", 2)
    learner, state = neocognitron_rule(TINY, rates=(1.0, 1.0)), Neocognitron(weights_of(TINY))
    images = jnp.asarray(np.stack([image_of(6, seed=seed) for seed in range(5)]))
    answers = jax.jit(learner.predict)(state, {"image": images})
    assert answers.shape == (5, 3)
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_allclose(answer, respond(TINY, state.weights, image)[-1].complex.mean((0, 1)), rtol=1e-5)


def test_bad_input_is_said_in_words():
    with pytest.raises(InputError, match="rates must have one of each stage, 3, got 2"):
        neocognitron_rule(PAPER, rates=(1.0, 16.0))
    with pytest.raises(InputError, match="images must be square, got 16 × 12 pixels"):
        neocognitron_rule(PAPER, preprocess=lambda batch: batch["image"][:, :, :12]).init(
            jax.random.key(0), {"image": jnp.zeros((1, 16, 16, 1))}
        )
    with pytest.raises(InputError, match="do not lie on 28 × 28"):
        neocognitron_rule(PAPER).init(jax.random.key(0), {"image": jnp.zeros((1, 28, 28, 1))})
