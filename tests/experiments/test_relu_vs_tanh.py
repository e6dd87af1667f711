"""Row 74: both nets start and train alike, the error is read off as by hand, and the paper's six stands beside its own task alone."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import command, relu_vs_tanh
from experiments.relu_vs_tanh import ACTIVATIONS, Config, Curves, compare_all, epochs_to, fastest, make_learner, train_until
from jaxnn import data
from jaxnn.data import Dataset, Source
from jaxnn.models import MLP, FourLayerCNN
from jaxnn.train import fit
from jaxnn.types import InputError

SMALL = (
    "--data mnist_5k --images 40 --batch-size 10 --measured-images 20 --inputs scaled --start lecun_normal --learning-rates 0.01 0.05 "
    "--seeds 2 --target 40 --most-epochs 20"
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    """A run of a net that compiles in less time than convolutions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relu_vs_tanh, "FourLayerCNN", partial(MLP, (16, 10)))
        return run_once(relu_vs_tanh, SMALL, "errors")


@pytest.fixture(scope="module")
def few():
    return jax.device_put(data.load("mnist_5k", "train[:24]").arrays)


def test_row_74_a_run_trains_both_to_the_target_and_draws_them(kept):
    for name in ACTIVATIONS:
        error, epochs = kept.history[f"error/{name}"], kept.history[f"epochs/{name}"]
        assert epochs[:3].tolist() == [0.0, 0.5, 1.0]
        assert error.shape == (2, len(epochs))
        assert (error.min(1) <= 40).all()
        assert (error[:, :-2].min(1) > 40).any()  # it ends with the epoch in which the last of them comes to the target
        grid = kept.history[f"grid_error/{name}"]
        assert (grid[:, :-2] > 40).all()  # and the grid with that of the first
        assert grid.min() <= 40
        np.testing.assert_allclose(error * 20 / 100, np.round(error * 20 / 100), atol=1e-4)  # of 20 images
    np.testing.assert_allclose(kept.history["ratio"], kept.history["reached/tanh"] / kept.history["reached/ReLU"])
    assert [row.published for row in kept.comparisons] == [None] * 3
    assert {path.name for path in kept.folder.glob("*.png")} == {"errors.png"}
    learning, _ = relu_vs_tanh.plot(kept)["errors"].axes
    styles = {line.get_label().split(",")[0]: line.get_linestyle() for line in learning.lines}
    assert (styles["ReLU"], styles["tanh"]) == ("-", "--")


def test_row_74_both_start_from_the_same_weights(few):
    centre, spread = relu_vs_tanh.centre_and_spread(np.asarray(few["image"]), "scaled")
    learners = [make_learner(FourLayerCNN(activation=f), centre, spread, 0.1) for f in ACTIVATIONS.values()]
    states = [jax.jit(learner.init)(jax.random.key(3), few) for learner in learners]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_row_74_epochs_one_by_one_are_one_run(few):
    """`fit` in one go with the sweep's key of the seed; and what is measured is 100 · wrong / all of the first 8 images."""
    config = Config(images=24, batch_size=8, measured_images=8, measurements=3, most_epochs=2, learning_rates=(0.05,))
    make = partial(make_learner, MLP((16, 10), jnp.tanh), *relu_vs_tanh.centre_and_spread(np.asarray(few["image"]), "scaled"))
    learner = make(0.05)
    curves = train_until(config, make, few, -1.0, jax.random.key(0), 1, (0.05,), enough=np.all, label="")
    watched = {name: values[:8] for name, values in few.items()}
    sizes = {"batch_size": 8, "num_steps": 6, "eval_every": 1, "eval_data": watched, "label": None}
    run = fit(learner, jax.random.fold_in(jax.random.key(0), 0), few, **sizes)
    np.testing.assert_allclose(curves.epochs, np.arange(7) / 3)
    np.testing.assert_allclose(curves.error[0, 0], run.history.evaluation["error"], atol=1e-4)
    wrong = np.asarray(learner.predict(run.state, watched)).argmax(-1) != watched["label"]
    assert curves.error[0, 0, -1] == pytest.approx(100 * wrong.mean())


def test_row_74_the_first_crossing_by_hand():
    """The line from (1, 60) to (2, 20) is at 25 where 7/8 of it are gone; a later rise does not count; never is no number."""
    epochs = np.array([0.0, 1.0, 2.0, 3.0])
    error = np.array([[90.0, 60.0, 20.0, 40.0], [90.0, 80.0, 70.0, 26.0], [20.0, 10.0, 5.0, 1.0], [90.0, 25.0, 25.0, 25.0]])
    np.testing.assert_allclose(epochs_to(25.0, epochs, error), [1.875, np.nan, 0.0, 1.0])


def test_row_74_each_net_learns_the_images_that_are_asked_for_at_the_rate_of_another_seed(monkeypatch, few):
    """The grid on a key that is not reported, with the activation, the inputs and the start of the config; then the seeds at its best."""
    asked = []

    def made_up(config, make, arrays, target, key, seeds, rates, *, enough, label):
        asked.append((make, key, seeds, rates, enough))
        return Curves(np.arange(2.0), np.array([[[90.0, 30.0], [90.0, 20.0]][: len(rates)]] * seeds), 0.0, 0.0)

    monkeypatch.setattr(relu_vs_tanh, "train_until", made_up)
    dataset = Dataset(jax.tree.map(np.asarray, few), Source("", "mnist", "", "", "", 24))
    for name, activation in ACTIVATIONS.items():
        for inputs, start in (("raw", "small"), ("scaled", "lecun_normal")):
            config = Config(images=24, batch_size=8, learning_rates=(0.1, 0.2), inputs=inputs, start=start)
            measured = relu_vs_tanh.measure(config, dataset, name, 25.0)
            (make, grid_key, one, grid, first), (again, key, all_seeds, best, last) = asked[-2:]
            net, centre, spread = make.args
            assert (make, net.activation) == (again, activation)
            assert net == FourLayerCNN(activation=activation, **relu_vs_tanh.kernels_of("lecun_normal")) or start == "small"
            assert float(spread) == pytest.approx(relu_vs_tanh.centre_and_spread(dataset.arrays["image"], inputs)[1])
            np.testing.assert_allclose(centre, dataset.arrays["image"].mean(0) / 255, atol=1e-6)
            assert (one, grid, first, all_seeds, best, last) == (1, (0.1, 0.2), np.any, 3, (0.2,), np.all)
            assert grid_key != key
            assert float(measured["rate"]) == 0.2


def test_row_74_the_learner_has_momentum(few):
    """Two steps on one batch: the second moves by -η(g₂ + .9 g₁)."""
    learner = make_learner(MLP((10,)), np.zeros((28, 28, 1), np.float32), 1.0, 0.1)
    states = [learner.init(jax.random.key(0), few)]
    for _ in range(2):
        states.append(jax.jit(learner.step)(jax.random.key(1), states[-1], few)[0])
    kernels = [np.asarray(state.variables["params"]["output"]["kernel"]) for state in states]
    x, hot = np.asarray(few["image"]).reshape(24, -1) / 255, np.eye(10)[np.asarray(few["label"])]
    first, second = (x.T @ (np.asarray(jax.nn.softmax(learner.predict(state, few))) - hot) / 24 for state in states[:2])
    np.testing.assert_allclose(kernels[1] - kernels[0], -0.1 * first, atol=1e-5)
    np.testing.assert_allclose(kernels[2] - kernels[1], -0.1 * (second + 0.9 * first), atol=1e-5)


def curves(*errors):
    return Curves(np.arange(3.0), np.array([errors]), 0.0, 0.0)


def test_row_74_each_takes_the_rate_that_is_there_first():
    assert fastest(25.0, curves([90.0, 50.0, 24.0], [90.0, 40.0, 10.0], [90.0, np.nan, np.nan]), "ReLU") == 1
    with pytest.raises(InputError, match=r"tanh does not come to a training error of 25 % at any of --learning-rates: 30 % is the lowest"):
        fastest(25.0, curves([90.0, 50.0, 30.0]), "tanh")


def test_it_is_measured_on_500_images_or_on_all_where_there_are_fewer():
    assert [Config(images=images).measured for images in (300, 500, 2000)] == [300, 500, 500]


def test_images_are_centred_and_scaled_by_their_own():
    images = np.array([0, 51, 102, 255], np.uint8).reshape(4, 1, 1, 1).repeat(2, 1)
    centre, spread = relu_vs_tanh.centre_and_spread(images, "scaled")
    np.testing.assert_allclose(centre, np.full((2, 1, 1), 0.4), rtol=1e-6)
    assert spread == pytest.approx(np.std([0, 0.2, 0.4, 1.0]))


def test_row_74_raw_images_go_from_0_to_255_less_their_mean(few):
    """And small weights are smallest where they see pixels."""
    images = np.asarray(few["image"])
    learner = make_learner(Seen(), *relu_vs_tanh.centre_and_spread(images, "raw"), 0.1)
    state = learner.init(jax.random.key(0), few)
    expected = (images - images.mean(0)).reshape(24, -1)
    np.testing.assert_allclose(learner.predict(state, few), expected, atol=1e-3)
    net = FourLayerCNN(**relu_vs_tanh.kernels_of("small"))
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    spreads = {name: float(layer["kernel"].std()) for name, layer in params.items()}
    assert spreads == pytest.approx({"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "fc4": 0.01}, rel=0.1)


class Seen(nn.Module):
    """Gives what it is given."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return x.reshape(len(x), -1) * self.param("one", nn.initializers.ones, ())


def history():
    """Of two seeds; the rate of tanh is the last of the grid."""
    found = {f"{what}/{name}": np.ones(2) for what in ("reached", "rate") for name in ACTIVATIONS}
    return found | {"rate/ReLU": np.array(0.002), "rate/tanh": np.array(0.064), "ratio": np.ones(2)}


def test_erratum_23_the_figure_is_that_of_nips_2012():
    """Advances in Neural Information Processing Systems 25, and not ICONIP; about six times."""
    assert "Advances in Neural Information Processing Systems 25, figure 1" in " ".join(relu_vs_tanh.__doc__.split())
    ratio, fast, slow = compare_all(Config(), history(), 25.0, relu_vs_tanh.PUBLISHED)
    assert (ratio.published, fast.published, slow.published) == (6.0, None, None)
    assert fast.what == "ReLU, η = 0.002: epochs to 25 % training error"
    assert "tanh, η = 0.064, at the end of its grid" in slow.what
    *_, low = compare_all(Config(), history() | {"rate/tanh": np.array(0.001)}, 25.0, None)
    assert "tanh, η = 0.001, at the end of its grid" in low.what


def test_row_74_a_seed_of_tanh_that_is_never_there_makes_the_ratio_a_lower_bound():
    """Two of three came after 8 epochs, ReLU after 2, and the last was given up after 60: 4, 4 and at least 30, and not 4 and 4."""
    reached = np.array([8.0, 8.0, np.nan])
    ratios = relu_vs_tanh.ratio(np.full(3, 2.0), reached, 60.0)
    np.testing.assert_allclose(ratios, [4, 4, 30])
    row, *_ = compare_all(Config(), history() | {"reached/tanh": reached, "ratio": ratios}, 25.0, None)
    assert row.what.endswith("to 25 % training error, at least; 1 of 3 seeds of tanh never got there (curve only, no claim)")
    assert (row.median, row.most, row.diverged) == (4, 30, 0)
    assert "at least" not in next(compare_all(Config(), history(), 25.0, None)).what


def test_row_74_a_seed_of_tanh_that_is_never_there_counts_until_its_last_epoch(monkeypatch):
    """ReLU is there after 2 epochs and at its end after 9; tanh is given up after 40: at least 20."""
    dataset = Dataset({}, Source("tfds", "mnist", "train", "", "", 4))
    monkeypatch.setattr(command, "load_digits", lambda digits, split: dataset)
    ends, there = {"ReLU": 9.0, "tanh": 40.0}, {"ReLU": 2.0, "tanh": np.nan}
    measured = {"compile_seconds": 0.0, "run_seconds": 0.0, "rate": 0.02} | dict.fromkeys(
        ("error", "grid_error", "grid_epochs"), np.ones(2)
    )
    given = lambda name: measured | {"epochs": np.array([0.0, ends[name]]), "reached": np.array([there[name]])}  # noqa: E731
    monkeypatch.setattr(relu_vs_tanh, "measure", lambda config, data, name, target: given(name))
    assert relu_vs_tanh.run(Config()).history["ratio"].tolist() == [20.0]


def test_row_74_seeds_that_never_get_there_are_counted_in_every_row_of_theirs():
    reached = {"reached/ReLU": np.array([2.0, np.nan, np.nan]), "reached/tanh": np.array([8.0, 9.0, np.nan])}
    ratios = relu_vs_tanh.ratio(reached["reached/ReLU"], reached["reached/tanh"], 60.0)
    both, relu, tanh = compare_all(Config(), history() | reached | {"ratio": ratios}, 25.0, None)
    assert "; 2 of 3 seeds of ReLU never got there; 1 of 3 seeds of tanh never got there" in both.what
    assert (relu.what.partition("; ")[2], relu.diverged) == ("2 of 3 seeds of ReLU never got there", 2)
    assert (tanh.what.partition("; ")[2], tanh.diverged) == ("1 of 3 seeds of tanh never got there", 1)


@pytest.mark.parametrize(
    ("name", "target", "count", "published"),
    [
        ("cifar10", None, 50_000, 6.0),
        ("cifar10", 25.0, 50_000, 6.0),
        ("cifar10", 25.0, 2_000, None),
        ("cifar10", 30.0, 50_000, None),
        ("mnist", None, 50_000, None),
        ("mnist", 25.0, 50_000, None),
    ],
)
def test_row_74_the_papers_six_stands_beside_its_own_task_alone(monkeypatch, name, target, count, published):
    arrays = {"image": np.zeros((4, 2, 2, 1), np.uint8), "label": np.zeros(4, np.int32)}
    dataset = Dataset(arrays, Source("tfds", name, "train", "", "", count))
    monkeypatch.setattr(command, "load_digits", lambda digits, split: dataset)
    asked = []
    measured = {"compile_seconds": 0.0, "run_seconds": 0.0, "rate": 0.02}
    measured |= {what: np.ones(2) for what in ("error", "epochs", "reached", "grid_error", "grid_epochs")}
    monkeypatch.setattr(relu_vs_tanh, "measure", lambda config, data, name, target: asked.append(target) or measured)
    outcome = relu_vs_tanh.run(Config(target=target))
    assert outcome.comparisons[0].published == published
    assert ("no claim" in outcome.comparisons[0].what) == (published is None)
    assert asked == [outcome.about["target"]] * 2 == [target or {"cifar10": 25.0, "mnist": 10.0}[name]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"learning_rates": (0.1, -1.0)}, "--learning-rates must be above 0 and finite, got -1.0"),
        ({"start": "lecun"}, "unknown initializer 'lecun'"),
        ({"target": 100.0}, "--target is a training error in %, from 0 and below 100, got 100.0"),
        ({"images": 100, "measured_images": 101}, "--batch-size and --measured-images must not exceed --images 100, got 32 and 101"),
        ({"measured_images": 0}, "--measured-images must be at least 1, got 0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
