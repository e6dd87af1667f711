"""Checkpoints give back the bits that were saved or say why not, and a run that goes on from one is the run that never stopped."""

import itertools
import json
import os
import shutil
import signal
import threading
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import checkpoint, interrupt, loop, manifest
from jaxnn.checkpoint import Checkpoints, CheckpointWarning, Goal, Store, restore, steps
from jaxnn.interrupt import Interrupted, asked_to_stop
from jaxnn.manifest import CheckpointError
from jaxnn.train import Diverged, EarlyStopping, fit, fit_stream, sweep
from jaxnn.types import InputError, Learner


class Odd(NamedTuple):
    """Leaves of every kind that a state may have."""

    weights: dict
    key: jax.Array
    empty: jax.Array
    flag: jax.Array
    count: jax.Array


def odd():
    weights = {"half": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), "list": [jnp.float32(1.5), jnp.arange(5, dtype=jnp.int8)]}
    return Odd(weights, jax.random.split(jax.random.key(3), 2), jnp.zeros((0, 3)), jnp.array(True), jnp.uint32(7))


HISTORY = {"train/loss": np.arange(3.0), "evaluated_at": np.zeros(0, int)}


def same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        bits = [np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x) for x in (a, b)]
        np.testing.assert_array_equal(*(x.reshape(-1).view(np.uint8) for x in bits))


@pytest.fixture
def store(tmp_path):
    stores = []

    def make(run=None, **settings):
        for old in stores:
            old.close()
        stores[:] = [Store(Checkpoints(tmp_path / "kept", **{"every": 0, **settings}), run or {"batch_size": 10})]
        return stores[0]

    yield make
    stores[0].close()


def test_a_state_comes_back_bit_by_bit_with_its_history_and_position(store):
    store().save(4, odd(), HISTORY, position={"epoch": 2})
    saved = store().newest(jax.eval_shape(odd))
    same(saved.state, odd())
    assert (saved.step, saved.position) == (4, {"epoch": 2})
    assert saved.history.keys() == HISTORY.keys()
    for name, values in HISTORY.items():
        np.testing.assert_array_equal(saved.history[name], values)
        assert saved.history[name].dtype == values.dtype


def test_a_manifest_has_the_sha256_that_sha256sum_prints(store, tmp_path):
    """The four bytes 00 00 80 3f are float32 1."""
    store().save(0, {"one": jnp.float32(1)}, {})
    content = json.loads((tmp_path / "kept" / "0" / "manifest" / "metadata").read_bytes())["content"]
    expected = "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c"
    assert content["state"]["['one']"] == {"shape": [], "dtype": "float32", "blocks": [{"at": [], "sha256": expected}]}


def test_blocks_of_eight_devices_verify_on_one_and_the_other_way_round(store, tmp_path):
    over = NamedSharding(Mesh(jax.devices(), "x"), P("x"))
    whole = np.arange(48, dtype=np.float32).reshape(16, 3)
    store().save(1, {"w": jax.device_put(whole, over)}, {})
    content = json.loads((tmp_path / "kept" / "1" / "manifest" / "metadata").read_bytes())["content"]
    assert [block["at"] for block in content["state"]["['w']"]["blocks"]] == [[[2 * i, 2 * i + 2], [0, 3]] for i in range(8)]
    np.testing.assert_array_equal(store().newest({"w": jnp.asarray(whole)}).state["w"], whole)
    store().save(2, {"w": jnp.asarray(whole)}, {})
    spread = restore(tmp_path / "kept", {"w": jax.ShapeDtypeStruct(whole.shape, whole.dtype, sharding=over)}).state["w"]
    assert spread.sharding == over
    np.testing.assert_array_equal(spread, whole)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda step: shutil.rmtree(step / "state"), "is missing"),
        (lambda step: (step / "manifest" / "metadata").unlink(), "is missing"),
        (lambda step: (step / "manifest" / "metadata").write_text("{"), "is broken"),
        (lambda step: edit(step, lambda content: content["state"]["['w']"]["blocks"][0].update(sha256="0" * 64)), "saved was 000000000000"),
        (
            lambda step: edit(step, lambda content: content["state"]["['w']"].update(shape=[2, 2])),
            r"is float32\(4,\), saved was float32\(2, 2\)",
        ),
        (lambda step: edit(step, lambda content: content.update(finite=False), sealed=False), "its sha256 is"),
        (lambda step: step.rename(step.with_name("9")), "holds step 2: it was renamed"),
    ],
)
def test_what_does_not_verify_is_set_aside_and_the_one_before_it_is_taken(store, tmp_path, damage, why):
    kept, states = store(), [{"w": jnp.full(4, float(step))} for step in (1, 2)]
    for step, state in zip((1, 2), states, strict=True):
        kept.save(step, state, HISTORY)
    damage(tmp_path / "kept" / "2")
    kept = store()
    with pytest.warns(CheckpointWarning, match=rf"{why}.*the run goes on from step 1"):
        saved = kept.newest(states[0])
    assert saved.step == 1
    same(saved.state, jax.tree.map(np.asarray, states[0]))
    assert [path.name[1:] for path in (tmp_path / "kept" / "set_aside").iterdir()] == ["-1"]
    assert kept.save(2, states[1], HISTORY)
    assert store().newest(states[0]).step == 2


def edit(step, change, sealed=True):
    """Change the manifest; sealed anew, so that the rest of the checkpoint must show it, or not."""
    path = step / "manifest" / "metadata"
    old = json.loads(path.read_bytes())
    change(old["content"])
    path.write_text(json.dumps(manifest.sealed(old["content"]) if sealed else old))


def test_where_none_verifies_each_is_named(store, tmp_path):
    kept = store()
    for step in (1, 2):
        kept.save(step, {"w": jnp.ones(2)}, {})
        (tmp_path / "kept" / str(step) / "manifest" / "metadata").write_text("")
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint in .* verifies:.*kept/2/manifest.*kept/1/manifest.*Move the folder away"):
        store().newest({"w": jnp.ones(2)})


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(store):
    store({"batch_size": 10, "key": "a"}).save(1, {"w": jnp.ones(2)}, {})
    with pytest.raises(
        CheckpointError, match=r"(?s)of another run:.*batch_size: saved 10, now 20\n  config.rate: saved nothing, now 0.1\n"
    ):
        store({"batch_size": 20, "key": "a"}, config={"rate": 0.1}).newest({"w": jnp.ones(2)})


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"v": jnp.ones(2)}, r"kept/1 holds no \['v'\]; it holds \['w'\]"),
        ({"w": jnp.ones(3)}, r"\['w'\] is float32\(2,\), wanted float32\(3,\)"),
        ({"w": jnp.ones(2, jnp.int32)}, r"\['w'\] is float32\(2,\), wanted int32\(2,\)"),
        ({}, r"holds \['w'\], which the state wanted here has not"),
    ],
)
def test_a_state_of_another_learner_is_an_error_and_no_older_one_is_taken(store, like, message):
    store().save(1, {"w": jnp.ones(2)}, {})
    with pytest.raises(InputError, match=message):
        store().newest(like)


def test_a_newer_format_is_said_so(store, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 2)
    store().save(1, {"w": jnp.ones(2)}, {})
    monkeypatch.setattr(manifest, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="newer jaxnn: its format is 2, this one reads up to 1"):
        store().newest({"w": jnp.ones(2)})


def test_the_newest_the_last_finite_and_the_best_are_kept(store, tmp_path):
    kept = store(keep=2)
    for step, (value, score) in enumerate([(0, 0.1), (1, 0.9), (2, 0.3), (3, None), (np.nan, None), (np.inf, None), (np.nan, None)]):
        kept.save(step, {"w": jnp.full(2, float(value))}, {}, score=score)
    assert steps(tmp_path / "kept") == [1, 3, 5, 6]
    like = {"w": jnp.ones(2)}
    assert restore(tmp_path / "kept", like, "best").score == 0.9
    assert restore(tmp_path / "kept", like, 3).state["w"].tolist() == [3, 3]
    kept = store(keep=1)  # a new process knows which are which
    kept.save(7, {"w": jnp.full(2, np.nan)}, {})
    assert steps(tmp_path / "kept") == [1, 3, 7]
    with pytest.raises(CheckpointError, match="holds no checkpoint 2; it holds steps 1, 3, 7"):
        restore(tmp_path / "kept", like, 2)


def test_scores_of_two_goals_do_not_compare(store, tmp_path):
    kept = store(keep=1, best=Goal("accuracy"))
    kept.save(1, {"w": jnp.ones(2)}, {}, score=0.9)
    kept = store(keep=1, best=Goal("loss", higher_is_better=False))
    assert kept.is_best(-3.0)
    for step, score in ((2, -3.0), (3, -4.0)):
        kept.save(step, {"w": jnp.ones(2)}, {}, score=score)
    assert steps(tmp_path / "kept") == [2, 3]
    assert restore(tmp_path / "kept", {"w": jnp.ones(2)}, "best").step == 2


def test_a_member_that_diverged_is_the_worst_and_hides_no_other():
    assert Goal("loss", higher_is_better=False).score({"loss": np.array([1.0, np.nan, 3.0])}) == -3
    assert Goal("accuracy").score({"accuracy": np.array([0.5, np.inf, 0.25])}) == 0.25
    assert Goal("loss").score({"loss": np.array([np.nan, np.nan, 1.0])}) == -np.inf


def test_folders_that_are_no_steps_are_left_alone(store, tmp_path):
    store().save(1, {"w": jnp.ones(2)}, {})
    for name in ("007", "notes", "²"):
        (tmp_path / "kept" / name).mkdir()
    assert store().newest({"w": jnp.ones(2)}).step == 1
    assert (tmp_path / "kept" / "007").is_dir()


def test_a_position_may_have_numbers_for_names(store):
    kept = store()
    kept.save(1, {"w": jnp.ones(2)}, {}, position={2: "b", 10: "a"})
    assert kept.newest({"w": jnp.ones(2)}).position == {"2": "b", "10": "a"}


def test_an_old_checkpoint_that_cannot_be_removed_ends_no_run(store, tmp_path, monkeypatch):
    def refuse(step):
        raise PermissionError(13, "Permission denied")

    kept = store(keep=1)
    kept.save(1, {"w": jnp.ones(2)}, {})
    monkeypatch.setattr(kept.manager, "delete", refuse)
    with pytest.warns(CheckpointWarning, match="of step 1 in .* cannot be removed: .*Permission denied; it stays"):
        assert kept.save(2, {"w": jnp.ones(2)}, {})
    assert steps(tmp_path / "kept") == [1, 2]


def test_a_full_disk_costs_no_checkpoint_and_no_run(store, tmp_path, monkeypatch):
    kept, state = store(), {"w": jnp.ones(2)}
    kept.save(1, state, {})

    def full(step, **_):
        (tmp_path / "kept" / f"{step}.orbax-checkpoint-tmp").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept.manager, "save", full)
    with pytest.warns(CheckpointWarning, match=r"of step 2 could not be written .*No space left on device; that of step 1 stays"):
        assert not kept.save(2, state, {})
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [".lock", "1"]
    assert kept.save(3, state, {})  # when there is room again
    assert steps(tmp_path / "kept") == [1, 3]


def test_two_processes_cannot_write_to_one_folder(store):
    store()
    with pytest.raises(CheckpointError, match="another process is writing to"):
        Store(Checkpoints(store().folder), {})


def test_saving_takes_a_bounded_share_of_the_time(store, monkeypatch):
    clock = itertools.count(0.0, 8.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    kept = store(every=None)
    due = [kept.due() for _ in range(6)]
    assert due == [False, False, False, True, True, True]  # at 8, 16, 24, 32 s …
    kept.save(1, {}, {})  # takes 8 s: nothing for 160 s
    assert [kept.due() for _ in range(21)] == [False] * 19 + [True] * 2


@pytest.mark.parametrize("settings", [{"every": -1.0}, {"every": float("nan")}, {"keep": 0}, {"config": {"rate": np.float32(0.1)}}])
def test_settings_that_cannot_be(settings, tmp_path):
    with pytest.raises(InputError, match=f"{next(iter(settings))} must (be|hold)"):
        Checkpoints(tmp_path, **settings)


# Runs


class Walk(NamedTuple):
    at: jax.Array
    key: jax.Array


def walker(rate=0.5) -> Learner:
    """A random walk, each step by the batch, the key and a key of its own: nothing of a run can be lost without a trace."""

    def init(key, batch):
        return Walk(jax.random.normal(key, (3,)), jax.random.fold_in(key, 1))

    def step(key, state, batch):
        noise = jax.random.normal(key, (3,)) + jax.random.normal(jax.random.fold_in(state.key, 0), (3,))
        at = state.at + rate * (noise + batch["row"].mean())
        return Walk(at, jax.random.fold_in(state.key, 1)), {"at": at, "loss": jnp.square(at).sum()}

    def evaluate(key, state, batch):
        return {"score": batch["row"] + jax.random.normal(key) + state.at.sum()}

    return Learner(init, step, evaluate)


WALKER = walker()
ROWS = {"row": np.random.default_rng(0).normal(size=23).astype(np.float32)}


def key():
    """The same for all runs; of JAX's key checker a new one for each."""
    return jax.random.key(1)


SETTINGS = {"eval_every": 4, "eval_data": {"row": ROWS["row"][:7]}, "label": None}


class Rows:
    """A stream of batches that knows where it is."""

    def __init__(self, end=100):
        self.at, self.end = 0, end

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == self.end:
            raise StopIteration
        self.at += 1
        return {"row": np.random.default_rng(self.at).normal(size=5).astype(np.float32)}

    def position(self):
        return {"at": self.at}

    def seek(self, position):
        self.at = position["at"]


CALLS = {
    "fit": lambda **more: fit(WALKER, key(), ROWS, batch_size=5, **{**SETTINGS, **more}),
    "full batch": lambda **more: fit(WALKER, key(), ROWS, **{**SETTINGS, **more}),
    "sweep": lambda **more: sweep(walker, key(), ROWS, seeds=3, axes={"rate": [0.1, 0.2]}, batch_size=5, **{**SETTINGS, **more}),
    "fit_stream": lambda **more: fit_stream(WALKER, key(), Rows(), **{**SETTINGS, **more}),
}


@pytest.fixture
def stopping(monkeypatch):
    """Chunks of one step, and a signal after so many of them."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0)

    def after(chunks, number=signal.SIGINT):
        counts = itertools.count()

        @contextmanager
        def asked():
            yield lambda: number if next(counts) >= chunks else 0

        monkeypatch.setattr(loop, "asked_to_stop", asked)

    return after


def equal_runs(left, right):
    same(left.state, right.state)
    for name in ("train", "evaluation"):
        found, expected = getattr(left.history, name), getattr(right.history, name)
        assert found.keys() == expected.keys()
        for key in found:
            np.testing.assert_array_equal(found[key], expected[key])
    np.testing.assert_array_equal(left.history.evaluated_at, right.history.evaluated_at)
    np.testing.assert_array_equal(left.history.diverged_at, right.history.diverged_at)


@pytest.mark.parametrize("call", CALLS)
def test_a_run_broken_twice_is_bit_equal_to_an_unbroken_one(call, stopping, tmp_path):
    whole = CALLS[call](num_steps=11)
    kept = Checkpoints(tmp_path / "kept")
    for chunks, number, code in ((3, signal.SIGINT, 130), (4, signal.SIGTERM, 143)):
        stopping(chunks, number)
        with pytest.raises(Interrupted, match=rf"stopped after step \d of 11, which is saved in {kept.folder}") as caught:
            CALLS[call](num_steps=11, checkpoint=kept)
        assert caught.value.exit_code == code
    assert steps(kept.folder) == [3, 7]
    stopping(100)
    equal_runs(CALLS[call](num_steps=11, checkpoint=kept), whole)
    equal_runs(CALLS[call](num_steps=11, checkpoint=kept), whole)  # and once it is finished


def test_a_longer_run_goes_on_where_a_shorter_one_ended(tmp_path):
    kept = Checkpoints(tmp_path / "kept")
    CALLS["fit"](num_steps=6, checkpoint=kept)
    equal_runs(CALLS["fit"](num_steps=11, checkpoint=kept), CALLS["fit"](num_steps=11))
    with pytest.raises(InputError, match="holds a checkpoint of step 11, beyond num_steps = 6"):
        CALLS["fit"](num_steps=6, checkpoint=kept)


def test_a_sweep_moves_between_numbers_of_devices(stopping, tmp_path, optimised):
    """Five points fill neither four devices nor two: what fills the last one up is not kept."""

    def run(devices, **more):
        mesh = Mesh(jax.devices()[:devices], "members") if devices > 1 else None
        rates = {"rate": np.linspace(0.1, 0.5, 5)}
        return sweep(walker, key(), ROWS, seeds=3, axes=rates, batch_size=5, num_steps=9, mesh=mesh, **SETTINGS, **more)

    whole, kept = run(1), Checkpoints(tmp_path / "kept")
    for devices in (4, 1, 2):
        stopping(2)
        with pytest.raises(Interrupted):
            run(devices, checkpoint=kept)
    stopping(100)
    equal_runs(run(8, checkpoint=kept), whole)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"batch_size": 4}, "batch_size: saved 5, now 4"),
        ({"key": lambda: jax.random.key(2)}, "key.: saved"),
        ({"data": {"row": ROWS["row"] + 1}}, r"data.\['row'\]: saved"),
        ({"eval_every": 5}, "eval_every: saved 4, now 5"),
        ({"checkpoint": {"config": {"rate": 0.5}}}, r"config.rate: saved nothing, now 0.5"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(change, difference, tmp_path):
    def run(key=key, data=ROWS, batch_size=5, eval_every=4, checkpoint=None):
        kept = Checkpoints(tmp_path / "kept", **(checkpoint or {}))
        return fit(WALKER, key(), data, batch_size=batch_size, num_steps=3, eval_every=eval_every, checkpoint=kept, label=None)

    run()
    with pytest.raises(CheckpointError, match=rf"(?s)is of another run:\n  {difference}"):
        run(**change)


def test_a_stream_of_other_batches_is_another_run(tmp_path):
    class Three(Rows):
        def __next__(self):
            return {"row": super().__next__()["row"][:3]}

    kept = Checkpoints(tmp_path / "kept")
    fit_stream(WALKER, key(), Rows(), num_steps=2, checkpoint=kept, label=None)
    with pytest.raises(CheckpointError, match=r"(?s)is of another run:\n  batch_size: saved 5, now 3"):
        fit_stream(WALKER, key(), Three(), num_steps=4, checkpoint=kept, label=None)


def test_another_start_is_another_run(tmp_path):
    kept, states = Checkpoints(tmp_path / "kept"), [Walk(jnp.full(3, at), jax.random.key(5)) for at in (0.0, 1.0)]
    run = partial(fit, WALKER, data=ROWS, batch_size=5, num_steps=4, checkpoint=kept, label=None)
    whole = run(key(), start=(2, states[0]))
    equal_runs(run(key(), start=(2, states[0])), whole)
    with pytest.raises(CheckpointError, match=r"(?s)is of another run:\n  start.state..at: saved"):
        run(key(), start=(2, states[1]))


def test_the_best_checkpoint_is_that_of_the_best_evaluation(stopping, tmp_path):
    stopping(100)
    run = CALLS["fit"](num_steps=40, checkpoint=Checkpoints(tmp_path / "kept", best=Goal("score", higher_is_better=False)))
    at = int(run.history.evaluation["score"].argmin())
    saved = restore(tmp_path / "kept", jax.eval_shape(WALKER.init, key(), ROWS), "best")
    assert saved.step == run.history.evaluated_at[at]
    same(
        saved.state,
        fit(WALKER, key(), ROWS, batch_size=5, num_steps=saved.step, label=None).state if saved.step else WALKER.init(key(), ROWS),
    )


def test_an_unknown_metric_of_a_goal_names_the_near_one(tmp_path):
    with pytest.raises(InputError, match="did you mean 'score'"):
        CALLS["fit"](num_steps=3, checkpoint=Checkpoints(tmp_path, best=Goal("scroe")))


def test_early_stopping_ends_a_run_and_a_broken_one_at_the_same_step(stopping, tmp_path):
    rule, kept = EarlyStopping(Goal("score"), patience=2), Checkpoints(tmp_path / "kept")
    whole = fit(WALKER, key(), ROWS, batch_size=5, num_steps=400, stop=rule, **SETTINGS)
    scores = whole.history.evaluation["score"]
    assert len(scores) - 1 - scores.argmax() == 2
    assert len(whole.history.train["loss"]) == whole.history.evaluated_at[-1] < 400
    stopping(3)
    with pytest.raises(Interrupted):
        fit(WALKER, key(), ROWS, batch_size=5, num_steps=400, stop=rule, checkpoint=kept, **SETTINGS)
    stopping(1000)
    for _ in range(2):
        equal_runs(fit(WALKER, key(), ROWS, batch_size=5, num_steps=400, stop=rule, checkpoint=kept, **SETTINGS), whole)
    with pytest.raises(InputError, match="stop needs eval_data"):
        fit(WALKER, key(), ROWS, num_steps=4, stop=rule, label=None)


def test_a_run_that_diverges_leaves_its_last_finite_checkpoint(stopping, tmp_path):
    def step(key, state, batch):
        return state + jnp.where(state < 5, 1.0, jnp.nan), {"loss": state}

    doomed = Learner(lambda key, batch: jnp.zeros(()), step, lambda *_: {})
    stopping(100)
    kept = Checkpoints(tmp_path / "kept", every=0)
    for _ in range(2):
        with pytest.raises(Diverged, match="diverged at step 6: loss is nan") as caught:
            fit(doomed, key(), num_steps=20, checkpoint=kept, label=None)
        assert caught.value.run.history.train["loss"][:6].tolist() == [0, 1, 2, 3, 4, 5]
    found = {step: float(restore(kept.folder, jnp.zeros(()), step).state) for step in steps(kept.folder)}
    assert found[5] == 5


def test_a_stream_without_positions_cannot_be_kept_and_one_that_ends_is_said(tmp_path):
    with pytest.raises(InputError, match=r"position\(\) and seek\(position\)"):
        fit_stream(WALKER, key(), iter([ROWS]), num_steps=1, checkpoint=Checkpoints(tmp_path))
    with pytest.raises(InputError, match="ended before step 3"):
        fit_stream(WALKER, key(), Rows(end=3), num_steps=4, label=None)


def test_a_stream_over_a_mesh_changes_nothing():
    class Sixteen(Rows):
        def __next__(self):
            return {"row": np.resize(super().__next__()["row"], 16)}

    spread = fit_stream(WALKER, key(), Sixteen(), num_steps=5, mesh=Mesh(jax.devices(), "data"), label=None)
    np.testing.assert_allclose(spread.state.at, fit_stream(WALKER, key(), Sixteen(), num_steps=5, label=None).state.at, atol=1e-5)
    with pytest.raises(InputError, match="5 rows cannot be shared out over 8 devices"):
        fit_stream(WALKER, key(), Rows(), num_steps=5, mesh=Mesh(jax.devices(), "data"), label=None)


def test_the_first_signal_is_a_request_and_a_second_ctrl_c_is_not():
    found = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without one
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with asked_to_stop() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt, match="at once"):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    signal.signal(signal.SIGINT, found)


def test_a_signal_is_answered_at_once_and_not_by_the_thread_that_waits(monkeypatch):
    """The main thread may be inside a chunk, where no handler of Python's runs."""
    said, heard = [], threading.Event()

    def say(line):
        said.append((line, threading.current_thread() is threading.main_thread()))
        heard.set()

    monkeypatch.setattr(interrupt, "say", say)

    def asked_twice():
        with asked_to_stop():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            assert heard.wait(10)
            raise Interrupted("acted on", signal.SIGTERM)

    with pytest.raises(Interrupted):
        asked_twice()
    assert signal.set_wakeup_fd(-1) == -1
    assert said == [(interrupt.HEARD, False)]
    assert "saved first" in interrupt.HEARD


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_too_late_is_not_lost(number, monkeypatch, tmp_path):
    """While the last checkpoint is written, say: the run is whole, and its caller must learn that it was asked to end."""
    caught, save = [], Store.save

    def interrupted_save(self, *arguments, **more):
        os.kill(os.getpid(), number)
        return save(self, *arguments, **more)

    before = signal.signal(number, lambda number, frame: caught.append(number))
    monkeypatch.setattr(Store, "save", interrupted_save)
    try:
        CALLS["fit"](num_steps=3, checkpoint=Checkpoints(tmp_path / "kept", every=1000.0))
    finally:
        signal.signal(number, before)
    assert caught == [number]
    assert steps(tmp_path / "kept") == [3]
