"""The depth benchmark runs, records what it says, and reads the target off its evaluations."""

import jax
import numpy as np
import pytest

from benchmarks import depth
from experiments import command
from jaxnn import initializers
from jaxnn.record import load_run
from jaxnn.train import History

QUICK = ("--platform", "cpu", "--seeds", "2", "--steps", "4", "--eval-every", "2", "--batch-size", "10", "--depths", "2")


@pytest.fixture
def execute(digits, tmp_path):
    def run(*args):
        return command.execute(depth.Config, depth.run, depth.plot, [*QUICK, "--results", str(tmp_path), *args])

    return run


def test_a_run(execute, capsys):
    assert execute("--activations", "relu", "--initializers", "zeros", "he_normal", "--target", "0.05") == 0
    record = load_run(capsys.readouterr().out.splitlines()[-1])
    names = {"accuracy", "gradient_ratio", "seconds_to_target", "steps_per_second"}
    assert {path.stem for path in record.folder.glob("*.png")} == names
    history = record.history
    assert history["test_accuracy/relu/2"].shape == (2, 2, 3)
    assert history["evaluated_at/relu/2"].tolist() == [0, 2, 4]
    assert np.isnan(history["gradient_ratio/relu/2"][:, 0]).all()  # all weights 0: no gradient in the hidden layers
    assert (history["gradient_ratio/relu/2"][:, 1] > 0).all()
    speed = history["steps_per_second/relu/2"]
    np.testing.assert_allclose(history["seconds_to_target/relu/2"], history["steps_to_target/relu/2"] / speed)
    whats = [c.what for c in record.comparisons]
    assert "relu, 2 hidden, he_normal: test accuracy" in whats
    assert "relu, 2 hidden: model-steps/s" in whats
    assert record.meta["seconds"].keys() == {"compile", "run", "total"}


def test_a_rate_that_diverges_is_counted(execute, capsys):
    args = ("--activations", "linear", "--initializers", "he_normal", "--learning-rate", "1e30", "--depths", "1", "--seeds", "1")
    assert execute(*args) == 0
    record = load_run(capsys.readouterr().out.splitlines()[-1])
    assert (record.history["diverged_at/linear/1"] >= 0).all()
    accuracy = next(c for c in record.comparisons if c.what.endswith("he_normal: test accuracy"))
    assert (accuracy.seeds, accuracy.diverged) == (1, 1)


def test_quantities_of_one_hidden_layer():
    """2 seeds × 1 initializer, 4 steps in 2 s: 4 model-steps/s, a ratio of 1 with one hidden layer, and nothing for a dead one."""
    norms = np.ones((2, 1, 4, 2))
    norms[1] = 0
    accuracy = np.array([[[0.1, 0.9, 0.9]], [[0.1, 0.1, 0.1]]])
    history = History({"gradient_norm": norms}, {"accuracy": accuracy}, np.array([0, 2, 4]), np.full((2, 1), -1), 1.0, 2.0)
    found = depth.quantities(history, depth.Config(steps=4))
    assert found["steps_per_second"] == 4
    np.testing.assert_array_equal(found["gradient_ratio"], [[[1, 1]], [[np.nan, np.nan]]])
    np.testing.assert_array_equal(found["steps_to_target"], [[2], [np.nan]])
    np.testing.assert_array_equal(found["seconds_to_target"], [[0.5], [np.nan]])


def test_steps_to_target():
    accuracy = np.array([[0.1, 0.9, 0.95], [0.1, 0.2, 0.3], [0.9, 0.1, 0.1]])
    steps = depth.steps_to_target(accuracy, np.array([0, 50, 100]), 0.9)
    np.testing.assert_array_equal(steps, [50, np.nan, 0])


@pytest.mark.parametrize("number", [0, 1])
def test_a_numbered_initializer_is_the_named_one(number):
    names = ("fan_in_normal", "he_normal")
    key = jax.random.key(0)
    drawn = jax.jit(lambda number: depth.numbered(names, number)(key, (6, 4)))(number)
    wanted = initializers.by_name(names[number])(jax.random.clone(key), (6, 4))
    np.testing.assert_allclose(drawn, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--activations", "sigmod"), "did you mean 'sigmoid'?"),
        (("--initializers", "he_norm"), "did you mean 'he_normal'?"),
        (("--depths", "0"), "--depths must be at least 1, got 0"),
        (("--target", "90"), "--target must be an accuracy above 0 and up to 1, got 90.0"),
    ],
)
def test_a_bad_value_is_a_paragraph(execute, capsys, args, message):
    with pytest.raises(SystemExit, match="2"):
        execute(*args)
    assert message in " ".join(capsys.readouterr().err.split())
