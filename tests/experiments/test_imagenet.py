"""Rows 107 and 108: a folder of pictures is learnt through the stream, judged by the centre, and gone on with bit for bit."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import command, imagenet
from experiments.imagenet import Config, curves, judge, make_learner
from experiments.unfinished import NOTHING
from jaxnn.data.image_folder import centre_crops, first_centres, open_pair, random_crops
from jaxnn.learners import standardised
from jaxnn.models.torchvision_weights import DEVIATION, MEAN
from jaxnn.train import Checkpoints, fit_stream
from jaxnn.types import InputError

SMALL = (
    "--net TwoLayerCNN --image-size 32 --epochs 12 --batch-size 8 --warm-up-epochs 1 --learning-rate 0.05 --watched-images 6 --threads 1"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """3 classes × 12 and × 5 images of 40 to 80 pixels: a colour each, of uneven light and with noise."""
    root, rng = tmp_path_factory.mktemp("folder") / "colours", np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for label, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(40, 81, 2)
                pixels = rng.uniform(0, 90, (height, width, 3)) + rng.uniform(0, 40)
                pixels[..., label] += 80
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def kept(run_once, folder):
    return run_once(imagenet, f"--folder {folder} {SMALL}", "errors")


@pytest.fixture(scope="module")
def small(folder):
    config = Config(folder=folder, net="TwoLayerCNN", image_size=16, epochs=3, batch_size=8, warm_up_epochs=1, learning_rate=0.01)
    return config, make_learner(config, 3, 4), *open_pair(folder)


def test_row_107_a_folder_is_learnt_and_judged(kept):
    history = kept.history
    assert history["loss"].shape == history["train_error"].shape == (12,)
    assert history["watched_error"].shape == history["watched_error_5"].shape == (13,)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["error"] < 20  # two thirds would be chance
    assert history["error_5"] == 0  # of three classes
    assert history["patches"].shape == (12, 32, 32, 3)
    assert (kept.meta["classes"], kept.meta["data"]["count"], kept.meta["test_data"]["count"]) == (["blue", "green", "red"], 36, 15)
    assert [row.published for row in kept.comparisons] == [None] * 2
    assert not any("top-5" in row.what for row in kept.comparisons)  # it says nothing of three classes
    assert ["top-5" in row.what for row in imagenet.compare_all(Config(), {**history, "error_5": 1.0}, 6)] == [False, True, False]
    figures = imagenet.plot(kept)
    assert [*figures] == ["errors", "patches"]
    assert len(figures["errors"].axes[0].lines) == 2
    kept.meta["classes"] += ["cyan", "pink", "grey"]
    assert len(imagenet.plot(kept)["errors"].axes[0].lines) == 3
    kept.meta["classes"] = kept.meta["classes"][:3]
    for figure in figures.values():
        figure.draw_without_rendering()


def test_the_record_s_state_makes_the_errors_that_it_says(kept, folder):
    """By the logits of all that judge, one batch."""
    config = Config(folder=folder, net="TwoLayerCNN", image_size=32)
    batch = next(centre_crops(open_pair(folder)[1], size=32, batch_size=15, threads=0))
    logits = kept.trained(make_learner(config, 3, 1), batch).predict(batch)
    assert kept.history["error"] == pytest.approx(100 * np.mean(np.asarray(logits).argmax(-1) != batch["label"]))


def test_a_run_goes_on_bit_for_bit(small, tmp_path):
    """5 steps, broken off in the second epoch, then to the end of the third by a new stream; beside 12 in one go."""
    config, learner, train, _ = small

    def trained(steps, **how):
        batches = random_crops(train, size=16, batch_size=8, seed=1, threads=1)
        try:
            return fit_stream(learner, jax.random.key(1), batches, num_steps=steps, label=None, **how)
        finally:
            batches.close()

    checkpoint = Checkpoints(tmp_path / "training")
    trained(5, checkpoint=checkpoint)
    broken, whole = trained(12, checkpoint=checkpoint), trained(12)
    jax.tree.map(np.testing.assert_array_equal, broken.state, whole.state)
    np.testing.assert_array_equal(broken.history.train["loss"], whole.history.train["loss"])
    by_epoch = curves(config, whole._replace(history=whole.history._replace(evaluation={"error": 0, "error_5": 0})), 4)
    np.testing.assert_allclose(by_epoch["train_error"][1], whole.history.train["error"][4:8].mean(), rtol=1e-6)


def test_a_command_that_was_broken_off_goes_on_to_its_record(small, folder, tmp_path, monkeypatch, capsys):
    """Broken off before all that judge are read; `--resume` finds the folder again."""
    _, learner, *_ = small
    args = f"--folder {folder} --net TwoLayerCNN --image-size 16 --epochs 3 --batch-size 8 --warm-up-epochs 1 --threads 1"
    monkeypatch.setattr(imagenet, "make_learner", lambda *_: learner)
    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "judge", interrupted)
        assert command.execute(Config, imagenet.run, lambda kept: {}, [*args.split(), "--results", str(tmp_path)]) == 130
    unfinished = capsys.readouterr().err.split("--resume ")[1].strip()
    assert command.execute(Config, imagenet.run, lambda kept: {}, ["--resume", unfinished]) == 0
    assert not list(tmp_path.rglob("unfinished"))


def interrupted(*_):
    raise KeyboardInterrupt


def test_one_seed_makes_weights_order_and_patches(small, monkeypatch):
    config, learner, train, judged = small
    fitted = lambda learner, key, batches, **how: (key, next(batches))  # noqa: E731
    monkeypatch.setattr(imagenet, "fit_stream", fitted)
    key, batch = imagenet.train_net(replace(config, seed=4), learner, train, judged, NOTHING)
    assert key == jax.random.key(4)
    expected = next(random_crops(train, size=16, batch_size=8, seed=4, threads=0))
    jax.tree.map(np.testing.assert_array_equal, batch, expected)


def test_row_107_the_recipe_by_hand():
    """Two epochs of two steps up to .04 and down the cosine: momentum .9, and λw with λ = .01 on the kernels alone, not on biases."""
    numbers = {"epochs": 4, "warm_up_epochs": 2, "learning_rate": 0.04, "weight_decay": 0.01}
    learner = make_learner(Config(net="TwoLayerCNN", image_size=12, **numbers), 7, 2)
    rng = np.random.default_rng(0)
    batch = {"image": jnp.asarray(rng.integers(0, 256, (9, 12, 12, 3), np.uint8)), "label": jnp.asarray(rng.integers(0, 7, 9, np.int32))}
    state = learner.init(jax.random.key(0), batch)
    x, y = standardised(MEAN, DEVIATION)(batch)
    apply = imagenet.models.TwoLayerCNN(classes=7).apply
    gradient = jax.jit(jax.grad(lambda params: -jnp.mean(jax.nn.log_softmax(apply({"params": params}, x))[np.arange(9), y])))
    step, params = jax.jit(learner.step), jax.tree.map(np.asarray, state.variables["params"])
    velocity = jax.tree.map(np.zeros_like, params)
    for t, rate in enumerate([0, 0.01, 0.02, 0.03, 0.04, 0.02 * (1 + np.sqrt(0.5)), 0.02, 0.02 * (1 - np.sqrt(0.5))]):
        decayed = jax.tree.map(lambda g, w: np.asarray(g) + 0.01 * w * (w.ndim > 1), gradient(params), params)
        velocity = jax.tree.map(lambda v, g, rate=rate: 0.9 * v + rate * g, velocity, decayed)
        params = jax.tree.map(lambda w, v: (w - v).astype(np.float32), params, velocity)
        state, _ = step(jax.random.key(t), state, batch)
    jax.tree.map(lambda ours, w: np.testing.assert_allclose(ours, w, rtol=1e-4, atol=1e-5), state.variables["params"], params)


def test_row_107_top_1_and_top_5_errors_are_those_of_sorted_outputs():
    learner = make_learner(Config(net="TwoLayerCNN", image_size=12), 7, 2)
    rng = np.random.default_rng(0)
    batch = {"image": jnp.asarray(rng.integers(0, 256, (70, 12, 12, 3), np.uint8)), "label": jnp.asarray(np.arange(70) % 7)}
    state = learner.init(jax.random.key(0), batch)
    place = np.argsort(np.argsort(-np.asarray(learner.predict(state, batch)), -1), -1)[np.arange(70), batch["label"]]
    assert {0, 1, 4, 5} <= {*place}
    measured = learner.evaluate(jax.random.key(0), state, batch)
    np.testing.assert_array_equal(measured["error"], 100.0 * (place >= 1))
    np.testing.assert_array_equal(measured["error_5"], 100.0 * (place >= 5))


def test_row_107_the_numbers_of_the_recipe():
    """Goyal et al., section 5.1: at 256 images .1, reached in 5 of 90 epochs, λ of 1e-4; 224 pixels."""
    config = Config()
    assert (config.learning_rate, config.batch_size, config.epochs, config.warm_up_epochs) == (0.1, 256, 90, 5)
    assert (config.weight_decay, config.image_size, config.net, config.bfloat16) == (1e-4, 224, "ResNet50", False)


def test_row_108_googlenet_learns_with_its_heads():
    """Their logits' losses are in what is minimised: shapes alone, nothing computed."""
    config = Config(net="GoogLeNet", image_size=32)
    learner, batch = make_learner(config, 3, 4), {"image": jnp.zeros((2, 32, 32, 3), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
    state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    assert {"aux1", "aux2"} <= set(state.variables["params"])
    assert "auxiliary" in jax.eval_shape(learner.step, jax.random.key(0), state, batch)[1]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_net_is_computed_in_what_was_asked_for(small, bfloat16):
    """Weights stay float32."""
    config, _, train, _ = small
    learner = make_learner(replace(config, bfloat16=bfloat16), 3, 4)
    batch = jax.tree.map(jnp.asarray, first_centres(train, 2, size=16))
    state = learner.init(jax.random.key(0), batch)
    assert ("bf16" in str(jax.make_jaxpr(learner.step)(jax.random.key(1), state, batch))) == bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype("float32")}


def test_row_107_all_that_judge_count_once(small, monkeypatch):
    """In batches of 8 and 7: an evaluation that marks the classes 0 and 1 as wrong, of 5 images each."""
    config, learner, _, judged = small
    marks = lambda key, state, batch: {name: 100.0 * (batch["label"] < most) for name, most in (("error", 2), ("error_5", 1))}  # noqa: E731
    assert judge(config, learner._replace(evaluate=marks), None, judged) == pytest.approx({"error": 200 / 3, "error_5": 100 / 3})


def test_the_nets_are_those_of_the_library_and_take_the_classes():
    for name in imagenet.NETS:
        assert getattr(imagenet.models, name)(classes=7).classes == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--net AlexNet --image-size 40", "AlexNet: pooling after conv5, a window of 3, does not fit into .*; the least image is 63 × 63"),
        ("--net TwoLayerCNN --batch-size 48", "colours/train holds 36 images, fewer than a batch of 48; take smaller batches"),
    ],
)
def test_bad_input_is_a_paragraph(folder, tmp_path, capsys, arguments, message):
    args = [*f"--folder {folder} --results {tmp_path}".split(), *arguments.split()]
    assert command.execute(Config, imagenet.run, imagenet.plot, args) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": "ResNet51"}, "unknown --net 'ResNet51'; did you mean 'ResNet"),
        ({"warm_up_epochs": 90}, "--warm-up-epochs must be fewer than --epochs 90, got 90"),
        ({"learning_rate": 0.0}, "--learning-rate must be above 0 and --weight-decay from 0, both finite, got 0.0 and 0.0001"),
        ({"image_size": 0}, "--image-size must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_without_a_folder_the_error_says_what_would_be_right(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXNN_DATA", raising=False)
    with pytest.raises(InputError, match=r"--folder is needed: a folder that holds train/class/image and val/class/image"):
        imagenet.opened(Config())
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(InputError, match=r"imagenet holds no train/ and val/; train/class/image"):
        imagenet.opened(Config())
