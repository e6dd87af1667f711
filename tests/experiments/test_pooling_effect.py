"""Rows 162 and 164: the nets are what they are called, distortions are those of NumPy, and a run measures what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import command, pooling_effect
from experiments.pooling_effect import NETS, Config, apply, at, distorted, init, measured, parameters
from jaxnn import data
from jaxnn.types import InputError

SMALL = "--data mnist_5k --images 40 --test-images 6 --batch-size 20 --epochs 1 --seeds 2 --nets strided max"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(pooling_effect, SMALL, "distortion")


@pytest.fixture(scope="module")
def few():
    arrays = data.load("mnist_5k", "test[:4]").arrays
    return jnp.asarray(arrays["image"], jnp.float32) / 255, jnp.asarray(arrays["label"])


OUTPUT = 10 * 864 + 10


def test_row_162_sharing_divides_the_weights_of_the_hidden_layer_by_its_positions():
    counts = {name: parameters(NETS[name]) - OUTPUT for name in ("full", "unshared", "strided")}
    assert counts == {"full": 785 * 864, "unshared": 26 * 864, "strided": 26 * 6}


def test_row_164_pooling_leaves_a_quarter_of_the_output_weights():
    assert parameters(NETS["plain"]) == 156 + 10 * 3456 + 10
    assert parameters(NETS["max"]) == parameters(NETS["mean"]) == parameters(NETS["strided"]) == 156 + OUTPUT


@pytest.mark.parametrize("name", ["unshared", "strided", "plain", "max", "mean"])
def test_hidden_layers_are_those_of_numpy(name, few):
    x = np.asarray(few[0][:2], float)[..., 0]
    params = init(NETS[name], jax.random.key(0), few[0])["params"]["hidden"]
    params = params | {"bias": 0.1 * jax.random.normal(jax.random.key(1), params["bias"].shape)}
    kernel, bias = np.asarray(params["kernel"], float), np.asarray(params["bias"], float)
    cut = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
    cut = cut[:, ::2, ::2] if name in ("unshared", "strided") else cut
    formula = "bpqij,pqijco->bpqo" if name == "unshared" else "bpqij,ijco->bpqo"
    expected = np.maximum(np.einsum(formula, cut, kernel) + bias, 0)
    if name in ("max", "mean"):
        blocks = expected.reshape(2, 12, 2, 12, 2, 6)
        expected = blocks.max((2, 4)) if name == "max" else blocks.mean((2, 4))
    np.testing.assert_allclose(NETS[name].answer(params, few[0][:2]), expected, atol=1e-4)


def test_distortions_of_whole_pixels_are_those_of_numpy(few):
    x, image = few[0], np.asarray(few[0])
    shifted = np.zeros_like(image)
    shifted[:, :, 3:] = image[:, :, :-3]
    np.testing.assert_allclose(distorted(x, "shift", jnp.float32(3)), shifted, atol=1e-5)
    np.testing.assert_allclose(distorted(x, "rotation", jnp.float32(90)), np.rot90(image, 1, (1, 2)), atol=1e-4)
    halved = np.zeros_like(image)
    halved[:, 7:21, 7:21] = image.reshape(4, 14, 2, 14, 2, 1).mean((2, 4))
    np.testing.assert_allclose(distorted(x, "scale", jnp.float32(0.5)), halved, atol=1e-4)
    for kind, amount in pooling_effect.NOTHING_DONE.items():
        np.testing.assert_allclose(distorted(x, kind, jnp.float32(amount)), image, atol=1e-6)


def test_errors_and_moves_are_those_of_the_distorted_digits(few):
    x, label = few
    net = NETS["strided"]
    keys = jax.random.split(jax.random.key(0))
    variables = jax.vmap(lambda key: init(net, key, x))(keys)
    results = measured(net, variables, x, label)
    column = pooling_effect.DISTORTIONS["rotation"].index(20.0)
    other = distorted(x, "rotation", jnp.float32(20))
    for seed in range(2):
        one = jax.tree.map(lambda part, seed=seed: part[seed], variables)
        wrong = np.argmax(apply(net, one, other, train=False)[0], -1) != np.asarray(label)
        assert results["error/rotation"][seed, column] == pytest.approx(wrong.mean())
        here, there = (np.asarray(net.answer(one["params"]["hidden"], images)).reshape(4, -1) for images in (x, other))
        moved = np.linalg.norm(there - here, axis=1) / np.linalg.norm(here, axis=1)
        assert results["moved/rotation"][seed, column] == pytest.approx(moved.mean(), rel=1e-4)
    assert (results["moved/shift"][:, pooling_effect.DISTORTIONS["shift"].index(0.0)] == 0).all()


def test_erratum_49_pooling_steadies_the_answer_under_a_small_shift_more_than_under_a_large_one_or_a_turn(few):
    """Random kernels: the move of pooled maps over that of the maps themselves."""
    x, label = few
    variables = jax.vmap(lambda key: init(NETS["plain"], key, x))(jax.random.split(jax.random.key(0), 4))
    plain, pooled = (measured(NETS[name], _with_output(variables, NETS[name].units), x, label) for name in ("plain", "mean"))

    def ratio(kind, amount):
        column = pooling_effect.DISTORTIONS[kind].index(amount)
        return (pooled[f"moved/{kind}"][:, column] / plain[f"moved/{kind}"][:, column]).mean()

    assert ratio("shift", 1.0) < 0.9
    assert ratio("shift", 1.0) < min(ratio("shift", 6.0), ratio("rotation", 45.0), ratio("scale", 0.7)) - 0.03


def _with_output(variables, units):
    output = {name: values[:, :units] if name == "kernel" else values for name, values in variables["params"]["output"].items()}
    return {"params": {**variables["params"], "output": output}}


def test_a_run_records_every_net_and_draws_its_figures(kept):
    for name in ("strided", "max"):
        for kind, amounts in pooling_effect.DISTORTIONS.items():
            assert kept.history[f"error/{kind}/{name}"].shape == (2, len(amounts))
        assert kept.history[f"train_error/{name}"].shape == (2,)
    both = kept.history["error/shift/max"]
    np.testing.assert_allclose(at(kept.history, "error", "max", "shift", -1.0, 1.0), both[:, [4, 6]].mean(1))
    whats = [row.what for row in kept.comparisons]
    assert len(whats) == len(set(whats)) == 2 * 13
    assert set(pooling_effect.plot(kept)) == {"parameters", "distortion"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"batch_size": 2000}, "--batch-size must not exceed --images 1000, got 2000"),
        ({"nets": ("max", "men")}, "unknown net 'men'; did you mean 'mean'"),
        ({"learning_rate": 0.0}, "--learning-rate must be above 0 and finite, got 0.0"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_more_test_images_than_there_are_is_a_paragraph(tmp_path, capsys):
    args = ["--data", "mnist_5k", "--test-images", "5000", "--results", str(tmp_path)]
    assert command.execute(Config, pooling_effect.run, pooling_effect.plot, args) == 2
    assert "reaches beyond the 1000 examples of test" in capsys.readouterr().err
