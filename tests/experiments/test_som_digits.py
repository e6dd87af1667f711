"""The four maps of the digits: hits and labels by hand, and a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import som_digits
from experiments.som_digits import Config, accuracy_of_labels, hits, learner_of
from experiments.som_figures import outline
from jaxnn import data
from jaxnn.models.som import hexagonal, plane, quantization_error, rectangular
from jaxnn.types import InputError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def few():
    """120 digits in place of the 4,000."""
    return data.load("mnist_5k", "train[:120]")


@pytest.fixture(scope="module")
def kept(quick, run_once, few):
    quick.setattr(som_digits.command, "load_digits", lambda digits, split: few)
    return run_once(som_digits, "--rows 4 --columns 5 --passes 2", "labels")


def test_units_take_the_label_they_won_most_of():
    counts = hits(np.array([0, 0, 0, 2]), np.array([7, 7, 1, 3]), 3)
    assert (counts[0, 7], counts[0, 1], counts[2, 3], counts.sum()) == (2, 1, 1, 4)
    assert accuracy_of_labels(counts, np.array([0, 0, 2, 1]), np.array([7, 1, 3, 0])) == 0.5  # unit 1 won nothing and names nothing


@pytest.mark.parametrize("rule", ["online", "batch"])
def test_the_radius_falls_from_a_third_of_the_grid_to_the_last(rule, monkeypatch):
    schedules = {}
    monkeypatch.setattr(som_digits, "competitive", lambda grid, **given: schedules.update(given))
    monkeypatch.setattr(som_digits, "batch_competitive", lambda grid, **given: schedules.update(given))
    learner_of(rule, rectangular(12, 6), Config(rows=12, columns=6, passes=20), samples=5000)
    last = {"online": 5000, "batch": 20}[rule]
    np.testing.assert_allclose([schedules["radius"](t) for t in (0, last / 2, last)], [4, np.sqrt(4 * 0.5), 0.5], rtol=1e-5)
    if rule == "online":
        np.testing.assert_allclose([schedules["learning_rate"](t) for t in (0, 5000)], [0.5, 0.005], rtol=1e-5)


def test_outlines_tile_the_plane():
    """The area of a unit is that which the grid gives it."""
    for name, area in {"square, online": 1.0, "hexagonal, batch": np.sqrt(0.75)}.items():
        x, y = outline(name).T
        assert abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 == pytest.approx(area)


def test_row_27_a_run_records_and_draws_four_maps(kept, few):
    names = [f"{shape}, {rule}" for shape in ("square", "hexagonal") for rule in ("online", "batch")]
    for name in names:
        assert kept.history[f"quantization_error/{name}"].shape == (3,)
        assert kept.history[f"hits/{name}"].sum() == 120
        assert kept.history[f"u_matrix/{name}"].shape == (4, 5)
        x = jnp.asarray(few.arrays["image"].reshape(120, -1) / 255, jnp.float32)
        error = quantization_error(jnp.asarray(kept.history[f"codebook/{name}"]), x).mean()
        assert kept.history[f"quantization_error/{name}"][-1] == pytest.approx(float(error), rel=1e-5)
        start = quantization_error(plane((rectangular if name.startswith("square") else hexagonal)(4, 5), x), x).mean()
        assert kept.history[f"quantization_error/{name}"][0] == pytest.approx(float(start), rel=1e-3)
        assert error < start
    assert set(som_digits.plot(kept)) == {"codebooks", "labels", "u_matrices", "components", "training"}
    assert [row.what for row in kept.comparisons][:3] == [
        "square, online: quantization error",
        "square, online: topographic error",
        "square, online: accuracy of the units' labels on test images",
    ]


def test_the_kept_map_predicts(kept, few):
    batch = jax.tree.map(jnp.asarray, few.arrays)
    learner = learner_of("batch", hexagonal(4, 5), Config(rows=4, columns=5), 1)
    won = np.asarray(kept.trained(learner, batch).predict(batch))
    np.testing.assert_array_equal(hits(won, few.arrays["label"], 20), kept.history["hits/hexagonal, batch"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "--rows must be at least 1, got 0"),
        ({"passes": 0}, "--passes must be at least 1, got 0"),
        ({"last_radius": 0.0}, "--last-radius must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be above 0, got nan"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
