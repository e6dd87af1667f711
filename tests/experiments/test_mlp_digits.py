"""Row 157: the nets, the record that predicts again, and what is read off its answers."""

import numpy as np
import pytest

from experiments import command, mistakes, mlp_digits
from experiments.mlp_digits import SHOWN, Config, compare_all, key, make_learner, nets, title
from jaxnn import data
from jaxnn.types import InputError

SMALL = "--data mnist_5k --images 60 --epochs 3 --batch-size 20 --hidden 8 6 --seeds 2"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(mlp_digits, SMALL, "mistakes")


@pytest.fixture(scope="module")
def test_images():
    return data.load("mnist_5k", "test").arrays


def by_hand(params, images):
    """Logits of a ReLU net in float64."""
    x = images.reshape(len(images), -1) / 255
    for name in ("hidden_1", "hidden_2"):
        x = np.maximum(x @ np.asarray(params[name]["kernel"], float) + np.asarray(params[name]["bias"], float), 0)
    return x @ np.asarray(params["output"]["kernel"], float) + np.asarray(params["output"]["bias"], float)


def test_row_157_the_record_gives_back_a_net_that_predicts_the_same(kept, test_images):
    learner = make_learner(tuple(kept.config["hidden"]), kept.config["learning_rate"])
    batch = {"image": test_images["image"], "label": test_images["label"]}
    trained = kept.trained(learner, batch)
    logits = np.asarray(trained.predict({"image": test_images["image"]}))
    np.testing.assert_array_equal(logits.argmax(-1), kept.history["predicted"])
    np.testing.assert_allclose(logits, by_hand(trained.state.variables["params"], test_images["image"]), atol=1e-4)
    error = 100 * np.mean(logits.argmax(-1) != test_images["label"])
    assert kept.history["test_error/784-8-6-10"][0, -1] == pytest.approx(error, abs=1e-4)


def test_row_157_the_confusion_matrix_counts_every_image(kept, test_images):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.confusion_matrix(test_images["label"], kept.history["predicted"], labels=range(10))
    np.testing.assert_array_equal(kept.history["confusion"], expected)


def test_the_mistakes_shown_are_the_most_confident(test_images):
    """A net that answers with the pixel of the class: the second image is right, the third more confident than the first."""
    logits = np.zeros((3, 10))
    logits[[0, 1, 2], [4, 7, 1]] = [2.0, 9.0, 3.0]
    few = {"image": test_images["image"][:3], "label": np.array([9, 7, 2])}
    found = mistakes.found(logits, few, SHOWN)
    np.testing.assert_array_equal(found["mistaken"], [[2, 1], [9, 4]])
    np.testing.assert_allclose(found["confidence"], [np.exp(3) / (np.exp(3) + 9), np.exp(2) / (np.exp(2) + 9)], rtol=1e-5)
    np.testing.assert_array_equal(found["mistaken_image"][0], few["image"][2, :, :, 0])
    assert found["confusion"][9, 4] == found["confusion"][7, 7] == found["confusion"][2, 1] == 1
    assert found["confusion"].sum() == 3


def test_row_157_published_errors_stand_beside_the_full_set_alone(kept):
    assert [title(net) for net in nets((300, 100))] == ["784-10, softmax regression", "784-300-10", "784-300-100-10"]
    history = {f"test_error/{key(net)}": np.ones((1, 2)) for net in nets((300, 100))}
    history |= {f"diverged_at/{key(net)}": np.array([-1]) for net in nets((300, 100))} | {"confidence": np.ones(1)}
    published = lambda name: [row.published for row in compare_all(Config(), history, name)][:3]  # noqa: E731
    assert published("mnist") == [12.0, 4.7, 3.05]
    assert published("fashion_mnist") == [None] * 3
    assert kept.history["test_error/784-10"].shape == (2, 4)
    assert kept.history["test_error/784-10"][:, -1].max() < kept.history["test_error/784-10"][:, 0].min()


def test_a_net_without_mistakes_and_one_that_diverged_are_drawn(kept):
    history = dict(kept.history) | {"diverged_at/784-8-10": np.array([0, 0])}
    history |= {"confusion": 3 * np.eye(10, dtype=int), "mistaken": np.zeros((0, 2), int), "confidence": np.zeros(0)}
    history |= {"mistaken_image": np.zeros((0, 28, 28))}
    meta = {**kept.meta, "data": {**kept.meta["data"], "name": "fashion_mnist"}}
    drawn = mlp_digits.plot(kept._replace(history=history, meta=meta))
    for figure in drawn.values():
        figure.draw_without_rendering()
    assert len(drawn["test_error"].axes[0].lines) == 2
    assert "ankle boot" in [text.get_text() for text in drawn["confusion"].axes[0].get_xticklabels()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": (30, 0)}, "--hidden must be at least 1, got 30 0"),
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"learning_rate": 2.0}, "--learning-rate of Adam must be above 0 and below 1, got 2.0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_a_set_that_is_not_there_is_a_paragraph(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path / "nothing"))
    args = ["--data", "fashion_mist", "--results", str(tmp_path)]
    assert command.execute(Config, mlp_digits.run, mlp_digits.plot, args) == 2
    assert "did you mean 'fashion_mnist'?" in capsys.readouterr().err
