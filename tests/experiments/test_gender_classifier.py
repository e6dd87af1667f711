"""Row 24: the generated pupils, the weights by hand, and a record that predicts."""

import jax
import numpy as np
import pytest

from experiments import gender_classifier
from experiments.gender_classifier import BOYS, BY_HAND, GIRLS, Config, bayes_log_odds, learner, log_odds, pupils, scaled
from jaxnn.types import InputError

SMALL = "--classes 2 --steps 30"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(gender_classifier, SMALL, "gender_classifier")


def test_row_24_sixty_pupils_of_whom_forty_train(kept):
    assert (Config().pupils, Config().train) == (60, 40)
    assert kept.history["features"].shape == (60, 3)
    assert kept.history["boy"].sum() == 30


def test_the_pupils_have_the_distributions_that_are_stated():
    group = jax.tree.map(np.asarray, pupils(jax.random.key(0), 20000))
    for value, (mean, deviation) in ((0, GIRLS), (1, BOYS)):
        features = group["features"][group["boy"] == value]
        np.testing.assert_allclose(np.median(features, axis=0), mean, atol=0.4)
        np.testing.assert_allclose(features[:, 1:].std(0), deviation[1:], rtol=0.03)
        assert features[:, 0].min() == 0  # cut off
    stated = [[[30, 160, 52], [12, 6, 7]], [[8, 168, 59], [5, 8, 9]]]
    np.testing.assert_array_equal([GIRLS, BOYS], stated)
    said = " ".join(gender_classifier.__doc__.split())
    assert "girls 30 ± 12 160 ± 6 52 ± 7 boys 8 ± 5 168 ± 8 59 ± 9" in said


def test_row_24_the_weights_by_hand_follow_the_reasoning():
    """The sign is that of the difference of the means, and the more a feature tells apart the larger its weight."""
    apart = (BOYS[0] - GIRLS[0]) / np.sqrt((BOYS[1] ** 2 + GIRLS[1] ** 2) / 2)
    np.testing.assert_array_equal(BY_HAND, [-2, 1, 0.5, 0])
    np.testing.assert_array_equal(np.sign(BY_HAND[:3]), np.sign(apart))
    np.testing.assert_array_equal(np.argsort(np.abs(BY_HAND[:3])), np.argsort(np.abs(apart)))
    clear = {"features": np.array([[5, 180, 70], [40, 155, 45]], np.float32)}
    np.testing.assert_allclose(log_odds(BY_HAND, clear), [3 + 1.6 + 0.7, -4 - 0.9 - 0.55], rtol=1e-5)


def test_bayes_rule_is_the_ratio_of_the_densities():
    x = np.array([12.0, 171.0, 50.0])
    densities = [
        np.prod(np.exp(-0.5 * ((x - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))) for m, s in (BOYS.astype(float), GIRLS.astype(float))
    ]
    np.testing.assert_allclose(bayes_log_odds(x[None]), [np.log(densities[0] / densities[1])], rtol=1e-5)


def test_row_24_the_record_predicts(kept):
    """The state that it kept, through the learner's `predict`, gives w·x + b of the weights in its history, and its accuracy."""
    features, boy = kept.history["features"], kept.history["boy"]
    test = {"features": features[40:], "boy": boy[40:]}
    trained = kept.trained(learner(1.0), test)
    odds = np.asarray(trained.predict({"features": features[40:]}))[:, 0]
    w = kept.history["weights"][0].astype(float)
    middle, unit = np.array([20, 164, 56]), 10
    np.testing.assert_allclose(odds, (features[40:] - middle) / unit @ w[:3] + w[3], rtol=1e-3, atol=1e-4)
    assert ((odds >= 0) == boy[40:]).mean() == pytest.approx(kept.history["accuracy/trained"][0])


def test_training_lowers_the_loss_and_finds_the_signs(kept):
    weights = kept.history["weights"]
    assert (weights[:, 0] < -0.5).all()
    assert (kept.history["accuracy/trained"] >= 0.7).all()
    assert not np.allclose(weights[0], weights[1])
    group = pupils(jax.random.key(1), 60)
    net, state = kept.trained(learner(1.0), group)
    assert net.evaluate(jax.random.key(0), state, group)["loss"].mean() < np.log(2)


def test_features_are_in_units_of_ten_around_their_middles():
    x, t = scaled({"features": np.array([[30.0, 164.0, 46.0]], np.float32), "boy": np.array([1])})
    np.testing.assert_allclose(x, [[1, 0, -1]], atol=1e-6)
    np.testing.assert_array_equal(t, [[1]])


def test_a_class_without_pupils_to_test_is_refused():
    with pytest.raises(InputError, match="--pupils must be at least 41, got 40"):
        Config(pupils=40)
