"""The RBF network against the MLP: the tasks by hand, and a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import rbf_against_mlp
from experiments.rbf_against_mlp import METHODS, Config, function_task
from jaxnn import data
from jaxnn.models.rbf import RBF, outputs
from jaxnn.types import InputError

pytestmark = pytest.mark.usefixtures("quick")

SMALL = "--digit-units 5 --function-units 6 --learning-rates 0.003 0.1 --epochs 2 --function-steps 40 --seeds 2"


@pytest.fixture(scope="module")
def few():
    """120 digits in place of the 4,000."""
    return data.load("mnist_5k", "train[:120]")


@pytest.fixture(scope="module")
def kept(quick, run_once, few):
    quick.setattr(rbf_against_mlp.command, "load_digits", lambda digits, split: few)
    return run_once(rbf_against_mlp, SMALL, "curves")


def test_the_function_and_its_noise():
    task = function_task(1)
    x, grid = np.asarray(task.train["x"]), np.asarray(task.test["x"])
    np.testing.assert_allclose(task.test["y"], np.sin(2 * np.pi * grid) + np.sin(6 * np.pi * grid) / 2, atol=1e-5)
    noise = np.asarray(task.train["y"]) - np.sin(2 * np.pi * x) - np.sin(6 * np.pi * x) / 2
    assert 0.07 < noise.std() < 0.13
    assert (len(x), np.abs(x).max() <= 1) == (60, True)


def test_row_28_a_run_records_every_method_on_both_tasks(kept):
    assert kept.history["parameters/digits"].tolist() == [5 * (784 + 1 + 10) + 10]
    assert kept.history["parameters/function"].tolist() == [6 * 3 + 1]
    for method in METHODS:
        assert kept.history[f"error/digits/{method}"].shape == (1, 2)
        assert kept.history[f"error/function/{method}"].shape == (1, 2)
        assert (kept.history[f"seconds/function/{method}"] > 0).all()
    grid = np.linspace(-1, 1, 201)
    exact = np.sin(2 * np.pi * grid) + np.sin(6 * np.pi * grid) / 2
    for method in METHODS:
        errors = ((kept.history[f"curve/{method}"] - exact) ** 2).mean(-1)
        np.testing.assert_allclose(kept.history[f"error/function/{method}"], errors, rtol=1e-3)
    assert set(rbf_against_mlp.plot(kept)) == {"error", "curves"}
    assert "digits, 5 units, MLP: test error" in [row.what for row in kept.comparisons]


def test_the_kept_net_is_that_of_seed_0(kept, few):
    shapes = RBF(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((5, 784), (5,), (5, 10), (10,))))
    net = jax.tree.map(jnp.asarray, kept.state(shapes))
    named = np.asarray(outputs(net, jnp.asarray(few.arrays["image"].reshape(120, -1) / 255, jnp.float32))).argmax(-1)
    assert (named != few.arrays["label"]).mean() == pytest.approx(kept.history[f"error/digits/{METHODS[0]}"][0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seeds": 0}, "--seeds must be at least 1, got 0"), ({"digit_units": (2,)}, "--digit-units must be at least 3, got 2")],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
