"""Row 108: what residual nets are given, both recipes by hand, and when a number may stand beside the paper's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import command, residual_training
from experiments.residual_training import (
    KINDS,
    LOSSES,
    Training,
    blocks_of,
    curves,
    inputs_of,
    is_the_papers,
    load,
    make_learner,
    train_all,
)
from jaxnn import data, losses
from jaxnn.data import Dataset, Source
from jaxnn.distortions import cropped, cropped_and_flipped
from jaxnn.learners import standardised
from jaxnn.models.resnet import no_shortcut, padded
from jaxnn.train import History, Run
from jaxnn.types import InputError, Learner

pytestmark = pytest.mark.usefixtures("shallow")


def photographs(name="cifar10", count=6):
    rng = np.random.default_rng(0)
    arrays = {"image": rng.integers(0, 256, (count, 5, 4, 3), np.uint8), "label": np.arange(count, dtype=np.int32)}
    return Dataset(arrays, Source("tfds", name, "train", "tfds", "", count))


def test_row_108_depths_are_6n_plus_2():
    assert [blocks_of(depth) for depth in (8, 20, 32, 44, 56, 110)] == [1, 3, 5, 7, 9, 18]
    for depth in (2, 18, 22):
        with pytest.raises(InputError, match=f"--depths must be 6n \\+ 2 .*; got {depth}"):
            blocks_of(depth)


def test_row_108_the_paper_takes_the_mean_image_off():
    dataset = photographs()
    inputs = inputs_of((dataset, dataset), Training("paper"))
    x, y = standardised(inputs.mean, inputs.scale)(jax.tree.map(jnp.asarray, dataset.arrays))
    pixels = dataset.arrays["image"] / 255
    np.testing.assert_allclose(x, pixels - pixels.mean(0), atol=1e-6)
    np.testing.assert_array_equal(y, np.arange(6))


def test_row_108_the_fast_recipe_standardises_each_colour():
    dataset = photographs()
    inputs = inputs_of((dataset, dataset), Training("fast"))
    x, _ = standardised(inputs.mean, inputs.scale)(jax.tree.map(jnp.asarray, dataset.arrays))
    pixels = dataset.arrays["image"] / 255
    np.testing.assert_allclose(x, (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2)), atol=1e-5)
    assert (inputs.mean.shape, inputs.classes) == ((5, 4, 3), 6)


def test_classes_are_those_of_what_is_trained_on_and_of_what_judges():
    dataset = photographs()
    first = Dataset(jax.tree.map(lambda x: x[:4], dataset.arrays), dataset.source)
    assert [inputs_of(both, Training()).classes for both in ((first, first), (first, dataset))] == [4, 6]


@pytest.mark.parametrize(("recipe", "kind"), [("paper", "residual"), ("fast", "residual"), ("paper", "plain")])
def test_row_108_a_learner_is_of_its_recipe_its_kind_and_its_maps(monkeypatch, inputs, recipe, kind):
    """Each recipe has its own optimizer and loss, and a plain net is one without shortcuts."""
    optimizers = {name: lambda *asked, name=name: (name, *asked) for name in ("paper", "fast")}
    monkeypatch.setattr(residual_training, "OPTIMIZERS", optimizers)
    monkeypatch.setattr(residual_training, "CifarResNet", lambda *blocks, **net: (*blocks, net))
    monkeypatch.setattr(residual_training, "functional", lambda net: (net, None))
    monkeypatch.setattr(residual_training, "supervised", lambda net, apply, loss, optimizer, **how: (net, loss, optimizer))
    net, loss, optimizer = make_learner(Training(recipe, maps=(2, 3, 4), learning_rate=0.3), inputs, 20, kind, 36)
    shortcut = {"plain": no_shortcut, "residual": padded}[kind]
    assert net == (3, {"classes": 6, "maps": (2, 3, 4), "shortcut": shortcut})
    assert optimizer == (recipe, 0.3, 36, 20)
    expected = {"paper": losses.softmax_cross_entropy_with_integer_labels, "fast": losses.smoothed_cross_entropy}
    assert loss is LOSSES[recipe] is expected[recipe]
    assert [*KINDS] == ["plain", "residual"]


def test_row_108_all_seeds_train_all_epochs_and_are_judged_by_the_others(monkeypatch, inputs):
    """6 images, 2 a step, 5 epochs: 15 steps, evaluated every 3 on what judges."""
    training, data = Training(epochs=5, batch_size=2, seeds=4), (photographs(), photographs("mnist"))
    monkeypatch.setattr(residual_training, "make_learner", lambda *asked: asked)
    monkeypatch.setattr(residual_training, "sweep", lambda make, key, train, **how: (make(), train, how))
    made, train, how = train_all(training, data, inputs, 20, "plain")
    assert made == (training, inputs, 20, "plain", 15)
    assert (train, how["eval_data"]) == (data[0].arrays, data[1].arrays)
    assert [how[name] for name in ("seeds", "batch_size", "num_steps", "eval_every")] == [4, 2, 15, 3]


@pytest.mark.parametrize(
    ("name", "flip", "augment"),
    [
        ("cifar10", None, cropped_and_flipped),
        ("mnist", None, cropped),
        ("mnist_5k", None, cropped),
        ("letters", False, cropped),
        ("mnist", True, cropped_and_flipped),
    ],
)
def test_row_108_digits_are_turned_over_on_demand_alone(name, flip, augment):
    assert inputs_of((photographs(name),) * 2, Training(flip=flip)).augment is augment


def updates_of(optimizer, gradients, params):
    """What each step adds to the parameters, which stand still."""
    state, updates = optimizer.init(params), []
    for gradient in gradients:
        update, state = optimizer.update(jax.tree.map(lambda w, g=gradient: g * jnp.ones_like(w), params), state, params)
        updates.append(update)
    return updates


PARAMS = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}


@pytest.mark.parametrize(("depth", "first"), [(56, 0.1), (110, 0.01)])
def test_row_108_the_papers_recipe_by_hand(depth, first):
    """Of eight steps one is slow in a net of 110 layers, two go by after the second drop; all weights are decayed."""
    updates = updates_of(residual_training.paper_optimizer(0.1, 8, depth), range(8), PARAMS)
    velocity = 0.0
    for rate, gradient, update in zip([first, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], range(8), updates, strict=True):
        velocity = 0.9 * velocity + rate * (gradient + 1e-4 * 3)
        np.testing.assert_allclose(update["kernel"], -velocity, rtol=1e-5)
        np.testing.assert_allclose(update["bias"], -velocity, rtol=1e-5)


def test_the_fast_recipe_by_hand():
    """Twenty steps: four on the line to .4, sixteen down the cosine; kernels alone are decayed."""
    updates = updates_of(residual_training.fast_optimizer(0.4, 20, 20), [0.0] * 20, PARAMS)
    rates = [0, 0.1, 0.2, 0.3] + [0.2 * (1 + np.cos(np.pi * t / 16)) for t in range(16)]
    ahead = 0.0
    for rate, update in zip(rates, updates, strict=True):
        velocity = ahead + rate * 5e-4 * 3
        ahead = 0.9 * velocity
        np.testing.assert_allclose(update["kernel"], -(ahead + rate * 5e-4 * 3), rtol=1e-4, atol=1e-9)
        assert not update["bias"].any()


def test_rates_at_their_highest():
    assert [Training(recipe="paper", batch_size=512).peak, Training(learning_rate=0.3).peak] == [0.1, 0.3]
    assert [(training.images_a_step, training.peak) for training in (Training(), Training(recipe="paper"))] == [(64, 0.1), (128, 0.1)]
    assert Training(batch_size=512).peak == pytest.approx(4 * Training(batch_size=128).peak) == pytest.approx(0.8)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, photographs().arrays)


@pytest.fixture(scope="module")
def inputs():
    return inputs_of((photographs(),) * 2, Training("paper"))


@pytest.fixture(scope="module")
def learner(shallow, inputs):
    return Learner(*map(jax.jit, make_learner(Training(), inputs, 8, "residual", 9)))


@pytest.fixture(scope="module")
def state(learner, batch):
    return learner.init(jax.random.key(0), batch)


@pytest.fixture(scope="module")
def stepped(learner, state, batch):
    """One step from there: the state, and its metrics."""
    return learner.step(jax.random.key(1), state, batch)


def test_row_108_images_are_cut_out_anew_in_training_alone(learner, state, batch, inputs, stepped):
    still = make_learner(Training(), inputs._replace(augment=lambda key, x: x), 8, "residual", 9)
    assert abs(jax.jit(still.step)(jax.random.key(1), state, batch)[1]["loss"] - stepped[1]["loss"]) > 1e-3
    one, other = (learner.evaluate(jax.random.key(seed), state, batch)["loss"] for seed in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_row_108_a_plain_net_has_the_same_weights_and_another_loss(state, batch, inputs, stepped):
    plain = make_learner(Training(), inputs, 8, "plain", 9)
    assert abs(jax.jit(plain.step)(jax.random.key(1), state, batch)[1]["loss"] - stepped[1]["loss"]) > 1e-3


def test_bfloat16_computes_close_to_float32_and_keeps_float32(state, batch, inputs, stepped):
    half = make_learner(Training(bfloat16=True), inputs, 8, "residual", 9)
    after, rounded = jax.jit(half.step)(jax.random.key(1), state, batch)
    assert stepped[1]["loss"] != rounded["loss"]
    np.testing.assert_allclose(stepped[1]["loss"], rounded["loss"], rtol=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.variables)} == {jnp.dtype("float32")}


def test_validation_images_are_the_last_tenth_and_no_test_image_is_read(monkeypatch):
    loaded = []
    monkeypatch.setattr(command, "load_digits", lambda digits, split: loaded.append(split) or data.load("mnist_5k", split))
    digits = command.Digits("mnist_5k")
    assert [part.source.count for part in load(Training(images=90, validation=True, batch_size=9), digits)] == [81, 9]
    assert [part.source.count for part in load(Training(validation=True), digits)] == [3600, 400]
    assert [part.source.count for part in load(Training(), digits)] == [4000, 1000]
    assert loaded == ["train[:81]", "train[81:90]", "train[:90%]", "train[90%:]", "train[:]", "test"]
    with pytest.raises(InputError, match="--batch-size must not exceed the 90 training images, got 91"):
        load(Training(images=90, batch_size=91), digits)


def test_curves_are_means_over_the_steps_of_an_epoch():
    train = {"loss": np.array([[4.0, 2.0, 1.0, 0.0]]), "accuracy": np.array([[0.0, 0.5, 0.75, 1.0]])}
    history = History(train, {"accuracy": np.array([[0.1, 0.5, 0.9]])}, np.array([0, 2, 4]), np.array([-1]), 0.0, 0.0, 0.0)
    given = curves(Run(None, history), Training(epochs=2))
    np.testing.assert_allclose(given["train_loss"], [[3, 0.5]])
    np.testing.assert_allclose(given["train_error"], [[75, 12.5]])
    np.testing.assert_allclose(given["test_error"], [[90, 50, 10]])
    judged = curves(Run(None, history), Training(epochs=2, validation=True))
    np.testing.assert_array_equal(judged["validation_error"], given["test_error"])
    assert "test_error" not in judged


def test_row_108_what_may_stand_beside_the_paper():
    whole = Dataset({}, Source("tfds", "cifar10", "train", "tfds", "", 50_000))
    papers = {"recipe": "paper", "epochs": 164}
    assert is_the_papers(Training(**papers), whole)
    others = [{"recipe": "fast"}, {"epochs": 160}, {"images": 50_000}, {"batch_size": 64}, {"learning_rate": 0.2}, {"validation": True}]
    for other in [*others, {"maps": (8, 16, 32)}, {"bfloat16": True}, {"flip": False}]:
        assert not is_the_papers(Training(**{**papers, **other}), whole), other
    assert not is_the_papers(Training(**papers), whole._replace(source=whole.source._replace(name="mnist")))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"maps": (4, 2, 8)}, "--maps must not become fewer, .* got 4 2 8"),
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"learning_rate": -0.1}, "--learning-rate must be above 0 and finite, got -0.1"),
    ],
)
def test_what_cannot_be_is_refused(fields, says):
    with pytest.raises(InputError, match=says):
        Training(**fields)
