"""Rows 109 and 110: what the record holds of the net, against NumPy on the kept parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cnn_features, command
from experiments.cnn_features import SYSTEMS, Config, as_float, decaying
from experiments.cnn_features_inside import SEEN, WAYS, projected
from jaxnn import data
from jaxnn.models import LeNet5
from jaxnn.types import InputError
from tests import lenet_by_hand as by_hand

SMALL = "--data mnist_5k --images 256 --fewer 64 --epochs 6 --batch-size 64 --seeds 1 --steps 15 --ascent 0.5 --best 3 --searched 30"

pytestmark = pytest.mark.usefixtures("quick")


JUDGED = "test[:200]"
"""In place of all test images."""


@pytest.fixture(scope="module")
def kept(quick, run_once):
    quick.setattr(command, "load_digits", lambda digits, split: data.load(digits.data, JUDGED if split == "test" else split))
    return run_once(cnn_features, SMALL, "by_hand")


@pytest.fixture(scope="module")
def test_set():
    return data.load("mnist_5k", JUDGED).arrays


@pytest.fixture(scope="module")
def trained(kept, test_set):
    return kept.trained(decaying(kept.config["decay"], 1), test_set)


@pytest.fixture(scope="module")
def params(trained):
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), trained.state.variables["params"])


def answer(params, image):
    return by_hand.scores(params, by_hand.forward(params, image)[3][0])[0]


def pixels(test_set, rows):
    return test_set["image"][rows] / 255.0


def test_row_110_the_error_is_that_of_the_kept_net(kept, trained, test_set):
    said = np.asarray(trained.predict({"image": test_set["image"]})).argmax(-1)
    assert kept.history["images"].tolist() == [64, 256]
    assert kept.history["error/distorted"][0] == pytest.approx(100 * np.mean(said != test_set["label"]), abs=1e-4)
    for name in SYSTEMS:  # all have learnt something, and more from more
        errors = kept.history[f"error/{name}"].reshape(2, -1)[:, 0]
        assert errors[1] < errors[0] < 80
    errors = [kept.history["error/distorted"][0], *kept.history["error/LeNet5"][:, 0]]
    assert [row.median for row in kept.comparisons[:3]] == pytest.approx(errors)
    assert kept.comparisons[3].what == "Gabor energies, linear: test error after 64 images, %"


def test_row_109_the_maps_of_the_digit_are_numpys(kept, params):
    history = kept.history
    z1, (pool1, _), z3, (pool3, _) = by_hand.forward(params, history["maps/image"].astype(float))
    for name, maps in {"c1": np.maximum(z1, 0), "pooled c1": pool1, "c3": np.maximum(z3, 0), "pooled c3": pool3}.items():
        np.testing.assert_allclose(history[f"maps/{name}"], maps, atol=1e-4)
    np.testing.assert_array_equal(history["filters/c3"], params["c3"]["kernel"].astype(np.float32))


def test_row_109_the_strongest_activations_and_what_their_units_see(kept, params, test_set):
    images = pixels(test_set, np.arange(30))
    maps = np.stack([np.maximum(by_hand.forward(params, image)[2], 0) for image in images])
    strongest = maps.max((1, 2))
    for number in np.flatnonzero((strongest > 0).sum(0) >= 3):
        rows = kept.history["strongest"][number]
        np.testing.assert_allclose(strongest[rows, number], np.sort(strongest[:, number])[::-1][:3], atol=1e-4)
        for rank, row in enumerate(rows):
            p, q = np.unravel_index(maps[row, ..., number].argmax(), (10, 10))
            seen = np.pad(images[row, ..., 0], 2)[2 * p : 2 * p + SEEN, 2 * q : 2 * q + SEEN]
            np.testing.assert_allclose(kept.history["patch/image"][number, rank], seen, atol=1e-6)


def test_row_109_all_that_is_sent_back_lies_in_what_the_unit_sees(kept, trained, test_set):
    """But for what falls on the zeros around the image, which was not kept."""
    images = as_float(test_set["image"][:30])[kept.history["strongest"]]
    variables = jax.tree.map(jnp.asarray, trained.state.variables)
    for way, activation in WAYS.items():
        whole = np.asarray(projected(LeNet5(activation=activation), variables, images))
        np.testing.assert_allclose(np.abs(kept.history[f"patch/{way}"]).sum((2, 3)), np.abs(whole).sum((2, 3, 4)), rtol=1e-3, atol=1e-3)
    assert np.abs(kept.history["patch/deconvnet"] - kept.history["patch/guided"]).max() > 1e-3


def test_row_109_saliency_is_the_finite_difference(kept, params):
    image, (said, _) = kept.history["asked_image"][0].astype(float)[..., None], kept.history["asked_class"][0]
    strongest = np.unravel_index(kept.history["saliency"][0].argmax(), (28, 28))
    for place in (strongest, (14, 14)):
        up, down = image.copy(), image.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        difference = (answer(params, up)[said] - answer(params, down)[said]) / 2e-6
        assert kept.history["saliency"][(0, *place)] == pytest.approx(abs(difference), rel=1e-3, abs=1e-4)


def test_row_109_grad_cam_is_numpys(kept, params):
    history = kept.history
    for n in (0, len(history["asked"]) - 1):
        for which in (0, 1):
            expected, _ = by_hand.cam(params, history["asked_image"][n][..., None].astype(float), history["asked_class"][n, which])
            np.testing.assert_allclose(history["cam"][n, which], expected, atol=1e-4)


def test_row_109_the_asked_are_right_ones_and_the_surest_wrong_ones(kept, trained, test_set):
    logits, label = np.asarray(trained.predict({"image": test_set["image"]})), test_set["label"]
    rows, (said, other) = kept.history["asked"], kept.history["asked_class"].T
    np.testing.assert_array_equal(said, logits[rows].argmax(-1))
    np.testing.assert_array_equal(kept.history["is"], label[rows])
    right = said == label[rows]
    assert right.tolist() == [True] * 6 + [False] * 6
    np.testing.assert_array_equal(other[~right], label[rows][~right])
    np.testing.assert_array_equal(other[right], [np.argsort(row)[-2] for row in logits[rows][right]])
    lead = np.sort(logits, -1)[:, -1] - np.sort(logits, -1)[:, -2]
    wrong = logits.argmax(-1) != label
    np.testing.assert_allclose(lead[rows[~right]], np.sort(lead[wrong])[::-1][:6], rtol=1e-5)


def test_row_109_ascent_makes_images_that_the_net_takes_for_their_class(kept, params):
    images, scores = kept.history["class_image"], kept.history["class_scores_end"]
    assert (kept.history["class_score"][:, -1] > kept.history["class_score"][:, 0] + 0.5).all()
    for k in (0, 7):
        np.testing.assert_allclose(scores[k], answer(params, images[k][..., None].astype(float)), atol=1e-3)
    share = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert kept.comparisons[-2].median == pytest.approx(share.diagonal().min(), rel=1e-4)
    assert (images.min(), kept.history["map_image"].shape) == (0, (16, SEEN, SEEN))


def test_row_109_the_plane_is_that_of_scikit_learns_components(kept, params, test_set):
    decomposition = pytest.importorskip("sklearn.decomposition")
    images = pixels(test_set, np.arange(30))
    f6 = np.stack([np.maximum(by_hand.scores(params, by_hand.forward(params, image)[3][0])[2], 0) for image in images])
    pca = decomposition.PCA(2).fit(f6)
    found = kept.history["plane/pca"]
    np.testing.assert_allclose(np.abs(found), np.abs(pca.transform(f6)), atol=1e-2)
    np.testing.assert_allclose(kept.history["variance"][:2], pca.explained_variance_ratio_, rtol=1e-3)
    assert kept.comparisons[-1].median == pytest.approx(100 * pca.explained_variance_ratio_.sum(), rel=1e-3)
    assert kept.history["plane/tsne"].shape == (30, 2)


def test_every_figure_can_be_drawn(kept):
    drawn = cnn_features.plot(kept)
    for figure in drawn.values():
        figure.draw_without_rendering()
    assert [text.get_text() for text in drawn["by_hand"].axes[0].get_xticklabels()] == ["64", "256"]
    assert len(drawn["asked"].axes) == 4 * 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fewer": (32,)}, "--fewer must be at least 64, got 32"),
        ({"searched": 3}, "--searched must be at least 10, got 3"),
        ({"digit": 10}, "--digit must be from 0 to 9, got 10"),
        ({"strength": 0.0}, "--strength must be a number above 0, got 0"),
        ({"ascent": float("inf")}, "--ascent must be a number above 0, got inf"),
        ({"decay": -1.0}, "--decay must be a number from 0, got -1"),
        ({"pull": -0.1}, "--pull must be a number from 0, got -0.1"),
        ({"pull": float("nan")}, "--pull must be a number from 0, got nan"),
        ({"jitter": -1}, "--jitter must be at least 0, got -1"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
