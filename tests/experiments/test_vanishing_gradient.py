from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import command, vanishing_gradient
from experiments.vanishing_gradient import PUBLISHED, PUBLISHED_RATIO, Config, Net, compare_net, learner, recorded, run, train
from jaxnn import data, record
from jaxnn.types import InputError, Learner
from tests import oracles


@pytest.fixture(scope="module")
def digits():
    return jax.device_put(data.load("mnist_5k", "train[:1000]").arrays)


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setattr(command, "use_platform", lambda name: None)


@pytest.mark.parametrize("hidden_layers", [2, 4])
def test_row_69_norms_equal_a_numpy_computation_of_the_same_protocol(digits, hidden_layers):
    """Twenty epochs of one seed from the same weights: same initial state, everything after it by hand."""
    net, key = Net("nielsen", "sigmoid", hidden_layers), jax.random.key(0)
    config = Config(seeds=1, epochs=20)
    measured = train(net, config, digits, None).history.train["gradient_norm"][0, :, :-1]

    init_key = jax.random.split(jax.random.fold_in(key, 0), 4)[0]
    params = jax.jit(learner(net, 0.1, 1000).init)(init_key, digits).variables["params"]
    layers = [f"hidden_{i + 1}" for i in range(hidden_layers)] + ["output"]
    weights, biases = ([np.asarray(params[layer][name]) for layer in layers] for name in ("kernel", "bias"))
    pixels, targets = np.asarray(digits["image"]).reshape(1000, 784) / 256, np.eye(10)[np.asarray(digits["label"])]
    by_hand = oracles.nielsen_norms(weights, biases, pixels, targets, learning_rate=0.1, weight_decay=5.0, epochs=20)

    np.testing.assert_allclose(measured, by_hand, rtol=1e-3)


def test_starting_weights_follow_the_recipe(digits):
    """N(0, 1/n_in) with N(0, 1) biases against N(0, 0.2) in its two readings (row 67)."""
    spread = {}
    for recipe in ("nielsen", "lecture-std", "lecture-variance"):
        params = jax.jit(learner(Net(recipe, "sigmoid", 4), 0.1, 1000).init)(jax.random.key(0), digits).variables["params"]
        biases = np.concatenate([params[layer]["bias"] for layer in params])
        spread[recipe] = (params["hidden_1"]["kernel"].std(), params["hidden_2"]["kernel"].std(), biases.std())
    np.testing.assert_allclose(spread["nielsen"], (1 / 28, 30**-0.5, 1.0), rtol=0.15)
    np.testing.assert_allclose(spread["lecture-std"], (0.2, 0.2, 0.2), rtol=0.15)
    np.testing.assert_allclose(spread["lecture-variance"], (0.2**0.5,) * 3, rtol=0.15)


def test_weight_decay_shrinks_kernels_and_leaves_biases_and_the_norm_alone(digits):
    """w ← w(1 - ηλ/n) - η ∂C/∂w, with ∂C/∂w from a recipe without decay."""
    small = jax.tree.map(lambda x: x[:10], digits)
    with_decay = Learner(*map(jax.jit, learner(Net("nielsen", "relu", 2), 0.1, 10)))
    state = with_decay.init(jax.random.key(0), small)
    plain = Learner(*map(jax.jit, learner(Net("lecture-std", "relu", 2), 0.1, 10)))
    decayed, metrics = with_decay.step(jax.random.key(1), state, small)
    undecayed, same = plain.step(jax.random.key(2), plain.init(jax.random.key(0), small)._replace(variables=state.variables), small)
    before, after, free = (s.variables["params"]["hidden_1"] for s in (state, decayed, undecayed))
    np.testing.assert_allclose(after["kernel"], free["kernel"] - 0.1 * 5 / 10 * before["kernel"], atol=1e-6)
    np.testing.assert_array_equal(after["bias"], free["bias"])
    np.testing.assert_array_equal(metrics["gradient_norm"], same["gradient_norm"])


def test_published_ratios_are_those_of_the_published_norms():
    for depth, ratio in PUBLISHED_RATIO.items():
        first, *_, last = PUBLISHED[depth][0]
        assert last / first == pytest.approx(ratio, rel=0.01)


def test_row_69_sixteen_seeds_bracket_the_published_norms_at_epoch_0(digits):
    for hidden_layers, by_epoch in PUBLISHED.items():
        norms = train(Net("nielsen", "sigmoid", hidden_layers), Config(seeds=16, epochs=1), digits, None).history.train["gradient_norm"]
        norms = norms[:, 0, :-1]
        assert (np.diff(norms) > 0).all(), "the norms rise towards the output for every seed"
        assert (norms.min(0) < by_epoch[0]).all()
        assert (norms.max(0) > by_epoch[0]).all()


def test_a_run_records_every_series_and_draws_its_figures(tmp_path, capsys):
    args = "--recipes nielsen --hidden-layers 1 12 --seeds 2 --epochs 3 --images 20 --data mnist_5k --results".split()
    assert command.execute(Config, run, vanishing_gradient.plot, [*args, str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    kept = record.load_run(out[-1])
    drawn = [net for family in recorded(kept) for net in family]
    for net in drawn:
        assert kept.history[net.key("gradient_norm")].shape == (2, 3, net.hidden_layers)
        assert kept.history[net.key("loss")].shape == kept.history[net.key("accuracy")].shape == (2, 3)
    assert [(net.recipe, net.activation, net.hidden_layers) for net in drawn] == [
        ("nielsen", "sigmoid", 1),
        ("nielsen", "sigmoid", 12),
        ("nielsen", "relu", 1),
        ("nielsen", "relu", 12),
    ]
    assert (kept.meta["data"]["name"], kept.meta["data"]["count"]) == ("mnist_5k", 20)
    figures = {path.stem for path in kept.folder.glob("*.svg")}
    assert figures == {"gradient_norms", "sigmoid_beside_relu", "ratio_by_depth", "four_neuron_chain"}
    assert any(line.startswith("nielsen, relu, 12 hidden: ‖δ^12‖, epoch 0") for line in out)


def test_diverged_seeds_leave_the_band_and_are_counted():
    net = Net("lecture-variance", "relu", 2)
    norms = np.full((4, 3, 2), 2.0)
    norms[1, 2] = np.inf
    norms[1, 0] = 1e9
    rows = list(compare_net(net, {net.key("gradient_norm"): norms, net.key("diverged_at"): np.array([-1, 2, -1, -1])}))
    assert {(row.median, row.most, row.seeds, row.diverged) for row in rows if "‖" in row.what} == {(2.0, 2.0, 4, 1)}
    history = {net.key("gradient_norm"): norms, net.key("diverged_at"): np.array([-1, 2, -1, -1])}
    kept = record.Record(None, {}, history, {"nets": [net._asdict()]})
    for draw in (vanishing_gradient.draw_norms, vanishing_gradient.draw_ratio):
        assert "1 of 4 seeds diverged" in [text.get_text() for text in draw(kept).axes[0].texts]


def test_ratio_and_figures_show_the_numbers_of_the_record():
    net = Net("nielsen", "sigmoid", 2)
    norms = np.stack([np.full((3, 60), 0.5), np.full((3, 60), 2.0)], axis=-1) * np.array([1.0, 2.0, 4.0])[:, None, None]
    history = {net.key("gradient_norm"): norms, net.key("diverged_at"): np.full(3, -1)}
    *rows, last = compare_net(net, history)
    assert (last.what, last.median, last.published) == ("nielsen, sigmoid, 2 hidden: last / first, epoch 0", 4.0, 4.70)
    assert [(row.median, row.published) for row in rows[:4]] == [(1.0, 0.0657), (4.0, 0.3092), (1.0, 0.00102), (4.0, 0.00134)]
    kept = record.Record(None, {}, history, {"nets": [net._asdict()]})
    lines = {line.get_label(): line for line in vanishing_gradient.draw_norms(kept).axes[0].lines}
    np.testing.assert_array_equal(lines["hidden 1"].get_ydata(), np.full(60, 1.0))
    np.testing.assert_array_equal(lines["hidden 2"].get_ydata(), np.full(60, 4.0))
    dots = [line.get_ydata().tolist() for line in vanishing_gradient.draw_norms(kept).axes[0].lines if line.get_marker() == "o"]
    assert dots[:2] == [[0.0657, 0.00102], [0.3092, 0.00134]]


def test_units_without_gradient_have_no_ratio_and_did_not_diverge():
    net = Net("nielsen", "threshold", 2)
    history = {net.key("gradient_norm"): np.zeros((2, 1, 2)), net.key("diverged_at"): np.full(2, -1)}
    *_, last = compare_net(net, history)
    assert np.isnan(last.median)
    assert last.diverged == 0
    kept = record.Record(None, {}, history, {"nets": [net._asdict()]})
    vanishing_gradient.draw_norms(kept)
    vanishing_gradient.draw_ratio(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": ("nielson",)}, "unknown recipe 'nielson'; did you mean 'nielsen'"),
        ({"activations": ("sigmod",)}, "unknown activation 'sigmod'; did you mean 'sigmoid'"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"epochs": -1}, "--epochs must be at least 1, got -1"),
        ({"hidden_layers": (2, 0)}, "--hidden-layers must be at least 1, got 2 0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_targets_are_one_hot_and_pixels_end_below_one():
    x, y = vanishing_gradient.pixels_and_one_hot({"image": jnp.full((2, 1, 1, 1), 255, jnp.uint8), "label": jnp.array([3, 0])})
    np.testing.assert_allclose(x, 255 / 256)
    np.testing.assert_array_equal(y.argmax(-1), [3, 0])
    np.testing.assert_array_equal(y.sum(-1), [1, 1])


@pytest.mark.slow
def test_row_69_sixty_four_seeds_bracket_every_published_norm():
    """All of rows 67-69 within the seeds' range, on whichever 1,000 digits there are: 500 epochs of three nets, minutes."""
    digits = data.load(data.choose("auto"), "train[:1000]").arrays
    for hidden_layers, by_epoch in PUBLISHED.items():
        norms = train(Net("nielsen", "sigmoid", hidden_layers), Config(seeds=64), digits, None).history.train["gradient_norm"]
        for epoch, published in by_epoch.items():
            assert (norms[:, epoch, :-1].min(0) <= published).all(), (hidden_layers, epoch)
            assert (norms[:, epoch, :-1].max(0) >= published).all(), (hidden_layers, epoch)


def one_device(monkeypatch):
    monkeypatch.setattr(command.Sharing, "out", lambda self: {"mesh": None, "at_once": self.at_once})


def test_eight_devices_give_the_norms_of_one(digits, monkeypatch):
    net, config = Net("nielsen", "sigmoid", 3), Config(seeds=11, epochs=8)
    _, spread = train(net, config, digits, None)
    one_device(monkeypatch)
    _, alone = train(net, config, digits, None)
    np.testing.assert_allclose(spread.train["gradient_norm"], alone.train["gradient_norm"], rtol=1e-3)
    np.testing.assert_allclose(spread.train["loss"], alone.train["loss"], atol=1e-5)


def test_eight_devices_give_the_bits_of_one_that_trains_as_many_seeds_at_once(digits, monkeypatch):
    net, config = Net("nielsen", "relu", 3), Config(seeds=16, epochs=8)
    spread = train(net, config, digits, None)
    one_device(monkeypatch)
    alone = train(net, replace(config, sharing=command.Sharing(at_once=2)), digits, None)
    for name, values in spread.history.train.items():
        np.testing.assert_array_equal(values, alone.history.train[name], name)
