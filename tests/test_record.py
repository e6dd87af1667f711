import csv
import dataclasses
import json
import os
import re
import subprocess
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

from jaxnn import losses, record
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.record import check_writable, compare, load_run, save_figures, save_run
from jaxnn.train import fit
from jaxnn.types import InputError, Trained


@dataclasses.dataclass(frozen=True)
class Config:
    rates: tuple[float, ...] = (0.1, 0.2)
    name: str = "ß ≤ 1"


class State(NamedTuple):
    params: dict
    step: jax.Array


LOSS = np.arange(12.0).reshape(3, 4)


def save(results, **changes):
    settings = {"config": Config(), "history": {"loss": LOSS}, "axes": {"loss": ("seed", "step")}} | changes
    return save_run(results, "trial", settings.pop("config"), settings.pop("history"), **settings)


def test_a_run_comes_back_as_it_was(tmp_path):
    comparisons = [compare("a norm", [1.0, 2.0, 3.0], published=2.5), compare("no number", [1.0])]
    folder = save(tmp_path, comparisons=comparisons, about={"claim": "it falls", "seconds": {"run": 1.5}})
    run = load_run(folder)
    assert run.config == {"rates": [0.1, 0.2], "name": "ß ≤ 1"}
    np.testing.assert_array_equal(run.history["loss"], LOSS)
    assert run.comparisons == comparisons
    assert run.meta["axes"] == {"loss": ["seed", "step"]}
    assert run.meta["claim"] == "it falls"
    assert run.meta["backend"] == "cpu"
    assert run.meta["versions"]["jax"] == jax.__version__
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(\+changes)?", run.meta["commit"])


def test_the_folder_is_named_after_time_and_config(tmp_path):
    one, same, other = save(tmp_path), save(tmp_path), save(tmp_path, config=Config(rates=(0.3,)))
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", one.name)
    assert one.parent == tmp_path / "trial"
    assert len({one, same, other}) == 3  # a second run in the same second keeps both
    assert one.name[17:25] == same.name[17:25] != other.name[17:25]


def test_a_record_holds_no_absolute_path(tmp_path):
    folder = save(tmp_path)
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert os.getcwd().encode() not in file.read_bytes()


def test_csv_has_a_row_a_step_and_medians_over_seeds(tmp_path):
    history = {"loss": LOSS, "norm": np.arange(24.0).reshape(3, 4, 2), "alone": np.arange(3), "final": np.arange(3.0)}
    axes = {"loss": ("seed", "step"), "norm": ("seed", "step", "layer"), "alone": ("step",), "final": ("seed",)}
    with open(save(tmp_path, history=history, axes=axes) / "history.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == ["0", "1", "2", "3"]
    assert [float(row["loss"]) for row in table] == [4, 5, 6, 7]
    assert [float(row["norm[1]"]) for row in table] == [9, 11, 13, 15]
    assert [row["alone"] for row in table] == ["0", "1", "2", ""]
    assert "final" not in table[0]


def test_axes_must_name_every_axis(tmp_path):
    with pytest.raises(InputError, match=r"history 'loss' has the shape \(3, 4\), but axes names \('step',\)"):
        save(tmp_path, axes={"loss": ("step",)})


def test_what_json_does_not_know_becomes_null(tmp_path):
    folder = save(tmp_path, about={"value": np.float32("nan"), "number": np.int64(3), "array": jnp.ones(2)})
    meta = json.loads((folder / "meta.json").read_text(), parse_constant=pytest.fail)
    assert (meta["value"], meta["number"], meta["array"]) == (None, 3, [1.0, 1.0])


def test_nothing_is_left_of_a_run_that_cannot_be_written(tmp_path, monkeypatch):
    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record.os, "rename", full_disk)
    with pytest.raises(InputError, match=r"cannot be written to .*: No space left on device"):
        save(tmp_path)
    assert list((tmp_path / "trial").iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "not json"])
def test_a_broken_record_is_named(tmp_path, damage):
    folder = save(tmp_path)
    if damage == "missing":
        (folder / "meta.json").unlink()
    elif damage == "truncated":
        (folder / "history.npz").write_bytes((folder / "history.npz").read_bytes()[:100])
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=re.escape(f"{folder} is not the whole record of a run")):
        load_run(folder)


def test_a_state_is_given_back_in_its_tree_or_not_at_all(tmp_path):
    state = State({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}, jnp.int32(7))
    run = load_run(save(tmp_path, state=state))
    back = run.state(jax.eval_shape(lambda: state))
    assert isinstance(back, State)
    jax.tree.map(np.testing.assert_array_equal, back, state)
    with pytest.raises(InputError, match=r"\.params\['w'\] is float32\(2, 3\), wanted float32\(3, 2\)"):
        run.state(State({"w": jnp.ones((3, 2)), "b": jnp.zeros(3)}, jnp.int32(0)))
    with pytest.raises(InputError, match=r"holds no \.params\['v'\]"):
        run.state(State({"v": jnp.ones(1)}, jnp.int32(0)))
    with pytest.raises(InputError, match="kept no state"):
        load_run(save(tmp_path)).state(state)


def test_a_random_key_in_a_state_comes_back(tmp_path):
    state = State({"key": jax.random.key(3)}, jnp.int32(7))
    back = load_run(save(tmp_path, state=state)).state(jax.eval_shape(lambda: state))
    assert jax.random.bits(back.params["key"]) == jax.random.bits(jax.random.key(3))


def test_a_scalar_needs_no_axes(tmp_path):
    assert load_run(save(tmp_path, history={"rate": 2.0}, axes={})).history["rate"] == 2.0


def test_the_commit_is_unknown_inside_a_checkout_that_is_not_ours(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@x.x"]
    subprocess.run(["git", "-C", str(tmp_path), *identity, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    assert record.environment()["commit"] == "unknown"


def test_figures_are_the_same_bytes_every_time(tmp_path):
    from matplotlib.figure import Figure

    def draw():
        figure = Figure()
        figure.subplots().plot([1, 2], [3, 4], label="line")
        return figure

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_figures(tmp_path / name, {"figure": draw()})
    for file in ("figure.png", "figure.svg"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["figure.png", "figure.svg"]


def test_an_animation_is_a_gif_with_all_its_frames_and_the_same_bytes_every_time(tmp_path):
    from PIL import Image

    frames = np.full((3, 20, 30, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        frame[5:10, 5 * i : 5 * i + 10] = (0, 114, 178)
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "meta.json").write_text("{}")
        assert save_figures(folder, {"moving": record.Animation(frames, milliseconds=50)}) == [folder / "moving.gif"]
    content = (tmp_path / "one" / "moving.gif").read_bytes()
    assert content == (tmp_path / "two" / "moving.gif").read_bytes()
    assert json.loads((tmp_path / "one" / "meta.json").read_text()) == {"figures": ["moving"]}
    with Image.open(tmp_path / "one" / "moving.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (3, (30, 20), 0)
        durations = []
        for i, frame in enumerate(frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
            np.testing.assert_allclose(np.asarray(gif.convert("RGB"), int), frame, atol=3)
    assert durations == [50, 50, 2000]


def test_compare_leaves_diverged_seeds_out_and_counts_them():
    row = compare("norm", [1.0, np.nan, 3.0, np.inf, 2.0], published=2.0)
    assert (row.median, row.least, row.most, row.seeds, row.diverged) == (2.0, 1.0, 3.0, 5, 2)
    np.testing.assert_allclose([row.p05, row.p95], [1.1, 2.9])
    assert np.isnan(compare("none", [np.nan]).median)
    told = compare("norm", [1.0, 9.0, np.nan, 3.0], diverged=[False, True, False, False])
    assert (told.median, told.most, told.seeds, told.diverged) == (2.0, 3.0, 4, 1)  # the NaN is undefined, its seed did not diverge


def test_results_that_cannot_be_written_are_an_error_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"results cannot be written to .*file/deeper"):
        check_writable(tmp_path / "file" / "deeper")
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_trained_net_predicts_from_its_record(tmp_path):
    """Without labels, and as the NumPy product has it."""
    learner = supervised(*functional(MLP((3,))), losses.softmax_cross_entropy_with_integer_labels, optax.sgd(0.1))
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 256, (5, 2, 2, 1), dtype=np.uint8), "label": np.arange(5, dtype=np.int32) % 3}
    state = fit(learner, jax.random.key(1), batch, num_steps=3, label=None).state
    trained = load_run(save(tmp_path, state=state)).trained(learner, batch)
    (layer,) = state.variables["params"].values()
    expected = (batch["image"].reshape(5, 4) / 255) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(trained.predict({"image": batch["image"]}), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="has no `predict`"):
        Trained(learner._replace(predict=None), state).predict(batch)


def test_figures_that_do_not_fit_on_the_disk_are_said(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_bytes", full)
    with pytest.raises(InputError, match=r"the figures cannot be written to .*No space left on device. The rest of the record is there"):
        record.save_figures(tmp_path, {"a": Figure()})
