"""Sweeps in groups: the same numbers in the same places, by one program, within the memory that there is."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnn import checkpoint, devices, loop, losses, memory, program
from jaxnn.checkpoint import Checkpoints
from jaxnn.groups import Shape, shape_of_groups
from jaxnn.learners import supervised
from jaxnn.members import Keys, Members, vmapped
from jaxnn.models import MLP, functional
from jaxnn.train import sweep
from jaxnn.types import InputError, Learner

ROWS = {"row": np.arange(23)}
AXES = {"rate": [1.0, 2.0, 3.0], "weight": np.array([0.1, 0.2])}
WHOLE = {"seeds": 3, "axes": AXES, "batch_size": 5, "num_steps": 6, "eval_every": 4, "eval_data": ROWS, "label": None}


class Seen(NamedTuple):
    steps: jax.Array
    key: jax.Array


def make(rate, weight) -> Learner:
    """Counts its steps, keeps a random key; its metrics are the rows of the batch, a random number and its own numbers."""

    def step(key, state, batch):
        seen = {"row": batch["row"], "random": jax.random.uniform(key), "point": 10 * rate + weight}
        return state._replace(steps=state.steps + 1), seen

    def evaluate(key, state, batch):
        return {"row": batch["row"] * rate, "steps": jnp.full(len(batch["row"]), state.steps)}

    return Learner(lambda key, batch: Seen(jnp.int32(0), key), step, evaluate)


@pytest.fixture(scope="module")
def whole():
    return results(sweep(make, jax.random.key(2), ROWS, **WHOLE))


def results(run):
    state = run.state._replace(key=jax.random.key_data(run.state.key))
    return state, run.history.train, run.history.evaluation, run.history.evaluated_at, run.history.diverged_at


def equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("at_once", "shared"), [(6, False), (4, False), (1, False), (8, True), (1, True)])
def test_groups_change_nothing_and_compile_once(whole, at_once, shared, caplog):
    with jax.log_compiles():
        run = sweep(make, jax.random.key(2), ROWS, at_once=at_once, mesh=devices.mesh(devices=4) if shared else None, **WHOLE)
    equal(results(run), whole)
    assert sum("Finished XLA compilation of jit(advance)" in message for message in caplog.messages) <= 1
    assert isinstance(run.state.steps, np.ndarray)


def test_groups_go_on_from_the_state_of_the_whole_sweep(whole):
    first = sweep(make, jax.random.key(2), ROWS, at_once=4, **WHOLE | {"num_steps": 4})
    rest = sweep(make, jax.random.key(2), ROWS, at_once=5, start=(4, first.state), **WHOLE)
    equal(results(rest)[0], whole[0])
    np.testing.assert_array_equal(rest.history.train["random"], whole[1]["random"][..., 4:])


def test_a_member_that_diverges_is_marked_at_its_place():
    def fragile(at):
        return Learner(
            lambda key, batch: jnp.int32(0), lambda key, s, batch: (s + 1, {"loss": jnp.where(s >= at, jnp.nan, 1.0)}), lambda *_: {}
        )

    run = sweep(fragile, jax.random.key(0), seeds=2, axes={"at": [5, 100, 17]}, num_steps=20, at_once=2, label=None)
    np.testing.assert_array_equal(run.history.diverged_at, [[5, -1, 17]] * 2)


def test_five_members_on_eight_devices_are_no_reason_for_groups():
    learner = Learner(lambda key, batch: jnp.int32(0), lambda key, state, batch: (state + 1, {}), lambda *_: {})
    run = sweep(lambda rate: learner, jax.random.key(0), seeds=1, axes={"rate": range(5)}, num_steps=2, mesh=devices.mesh(), label=None)
    assert isinstance(run.state, jax.Array)


def test_the_progress_bar_names_the_group(monkeypatch):
    labels, progress = [], loop.progress
    monkeypatch.setattr(loop, "progress", lambda label, *rest: labels.append(label) or progress(None, *rest))
    sweep(make, jax.random.key(2), ROWS, at_once=6, **WHOLE | {"label": "rates"})
    sweep(make, jax.random.key(2), ROWS, **WHOLE | {"label": "rates"})
    assert labels == ["rates, group 1 of 3", "rates, group 2 of 3", "rates, group 3 of 3", "rates"]


class Killed(Exception):
    pass


def test_groups_go_on_from_their_checkpoints_however_much_memory_is_free_then(whole, tmp_path, monkeypatch):
    """The second group dies; the call that goes on could hold all members, but takes the first group's work as it stands."""
    kept, labels, progress = Checkpoints(tmp_path, every=0), [], loop.progress

    def killed_in_the_second_group(label, *rest):
        labels.append(label)
        if len(labels) == 2:
            raise Killed
        return progress(None, *rest)

    monkeypatch.setattr(loop, "progress", killed_in_the_second_group)
    monkeypatch.setattr(memory, "members_that_fit", lambda *_: 6)
    with pytest.raises(Killed):
        sweep(make, jax.random.key(2), ROWS, checkpoint=kept, **WHOLE | {"label": "rates"})
    monkeypatch.setattr(memory, "members_that_fit", lambda *_: 18)
    steps_run = []
    advance = program.advance
    monkeypatch.setattr(program, "advance", lambda *args: steps_run.append(int(args[-1] - args[-2])) or advance(*args))
    equal(results(sweep(make, jax.random.key(2), ROWS, checkpoint=kept, **WHOLE | {"label": "rates"})), whole)
    assert sum(steps_run) == 2 * 6  # two groups of three
    assert list(tmp_path.glob("groups_of_*/*"))
    assert not checkpoint.steps(tmp_path)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2000), st.integers(1, 9))
def test_groups_cover_the_sweep_and_hold_no_more_than_allowed(seeds, size, at_once, count):
    whole = Shape(seeds, size)
    shape = shape_of_groups(whole, at_once, count)
    groups = shape.groups(whole)
    members = [(seed, point) for group in groups for seed in group.seeds for point in group.points]
    assert sorted(members) == [(seed, point) for seed in range(seeds) for point in range(size)]
    idle = min(math.ceil(n / count) * count * other for n, other in (shape, shape[::-1]))
    assert idle <= max(at_once, count)


def classifier(learning_rate=0.1):
    return supervised(*functional(MLP((30, 3))), losses.softmax_cross_entropy_with_integer_labels, optax.adam(learning_rate))


def images(count=64):
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, count).astype(np.int32)
    return {"image": generator.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8), "label": label}


def needed(rates, mesh=None):
    members = Members(classifier, vmapped, vmapped, 2, rates, mesh)
    keys = Keys(*jax.vmap(lambda k: jax.random.split(k, 4), out_axes=1)(jax.random.split(jax.random.key(0), 2)))
    arguments = {"learning_rate": jnp.linspace(0.1, 0.8, rates)}, keys, images()
    return members, arguments, memory.bytes_needed(members, *arguments, 16, images(300))


def test_the_bytes_that_a_sweep_needs_are_no_fewer_than_the_compiler_finds(optimised):
    members, (points, keys, data), bound = needed(8)
    state, plan = program.init(members, points, keys, program.first_batch(data, 16)), program.plan(members, points, keys, data, 16, 100)
    step = program.advance.jitted.lower(members, plan, points, keys, state, data, np.int32(0), np.int32(1)).compile().memory_analysis()
    evaluation = program.evaluate.jitted.lower(members, points, keys, state, images(300), np.int32(0)).compile().memory_analysis()
    at_least = step.alias_size_in_bytes + max(step.temp_size_in_bytes, evaluation.temp_size_in_bytes)
    assert at_least <= bound + memory.FIXED_BYTES
    assert evaluation.temp_size_in_bytes <= bound <= 20 * at_least


def test_devices_that_share_a_sweep_need_their_share():
    assert 0.1 < needed(8, devices.mesh())[2] / needed(8)[2] < 0.2
    assert 3.5 < needed(32)[2] / needed(8)[2] < 4.5


@pytest.mark.parametrize(("share", "expected"), [(1.1, 1), (0.6, 2), (0.3, 4)])
def test_the_sweep_is_split_where_memory_is_short(monkeypatch, share, expected):
    labels, progress = [], loop.progress
    needed = memory.FIXED_BYTES + int(share * 1e6)
    monkeypatch.setattr(memory, "bytes_needed", lambda *_: 1_000_000)
    monkeypatch.setattr(memory, "free_bytes", lambda mesh: float(needed))
    monkeypatch.setattr(loop, "progress", lambda label, *rest: labels.append(label) or progress(None, *rest))
    sweep(make, jax.random.key(2), ROWS, **WHOLE | {"seeds": 4, "axes": {"rate": [1.0, 2.0], "weight": [0.1]}, "label": "rates"})
    assert len(labels) == expected


def test_free_memory_is_what_the_system_tells(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_bytes(None) == math.inf
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    assert memory.free_bytes(None) == 1000 * 1024
    assert memory.free_bytes(devices.mesh()) == 125 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("24000\n")
    assert memory.free_bytes(None) == 1000 * 1024
    (tmp_path / "memory.max").write_text("124000\n")
    assert memory.free_bytes(None) == 100_000


def test_at_once_is_at_least_one():
    with pytest.raises(InputError, match="at_once must be at least 1, got 0"):
        sweep(make, jax.random.key(2), ROWS, at_once=0, **WHOLE)
