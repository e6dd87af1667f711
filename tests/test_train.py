"""The loop, mostly with a learner that reports which rows it saw and which key it was given."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses, program
from jaxnn.learners import supervised
from jaxnn.members import Alone, Keys, Members, mapped, vmapped
from jaxnn.models import MLP, functional
from jaxnn.shuffle import permutation
from jaxnn.train import Diverged, fit, sweep
from jaxnn.types import InputError, Learner


class Seen(NamedTuple):
    start: jax.Array
    steps: jax.Array


def witness(rate=0.0) -> Learner:
    """Changes nothing but a counter; its metrics are the rows of the batch, a random number and its own rate."""

    def init(key, batch):
        return Seen(jax.random.uniform(key), jnp.int32(0))

    def step(key, state, batch):
        return state._replace(steps=state.steps + 1), {"row": batch["row"], "random": jax.random.uniform(key), "rate": jnp.float32(rate)}

    def evaluate(key, state, batch):
        return {"row": batch["row"].astype(float), "steps": jnp.full(len(batch["row"]), state.steps)}

    return Learner(init, step, evaluate)


WITNESS = witness()
ROWS = {"row": np.arange(23)}


def classifier(learning_rate=0.5):
    """A small net, for what needs one to learn."""
    model = functional(MLP((8, 3)))
    return supervised(*model, losses.softmax_cross_entropy_with_integer_labels, optax.sgd(learning_rate, momentum=0.9))


CLASSIFIER = classifier()  # one for all tests: the same learner compiles once


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, 60)
    image = generator.integers(0, 40, (60, 4, 4, 1)) + 80 * (label[:, None, None, None] == np.arange(4)[:, None, None])
    return {"image": image.astype(np.uint8), "label": label.astype(np.int32)}


def rows(run):
    return run.history.train["row"]


def test_row_39_every_epoch_is_another_permutation_and_the_partial_batch_is_dropped():
    seen = rows(fit(WITNESS, jax.random.key(0), ROWS, batch_size=5, num_steps=12, label=None)).reshape(3, 20)
    for epoch in seen:
        assert len(set(epoch)) == 20
    assert not np.array_equal(seen[0], seen[1])
    assert set(seen.ravel()) == set(range(23))  # another three are left out in each epoch


@pytest.mark.parametrize("gather_bytes", [1, 3 * 5 * 8, 2**25])
@pytest.mark.parametrize("chunk_steps", [1, 3, 4096])
def test_rows_do_not_depend_on_how_they_are_gathered_or_chunked(monkeypatch, gather_bytes, chunk_steps):
    expected = rows(fit(WITNESS, jax.random.key(3), ROWS, batch_size=5, num_steps=13, label=None))
    monkeypatch.setattr(program, "GATHER_BYTES", gather_bytes)
    monkeypatch.setattr(program, "CHUNK_STEPS", chunk_steps)
    np.testing.assert_array_equal(rows(fit(WITNESS, jax.random.key(3), ROWS, batch_size=5, num_steps=13, label=None)), expected)


def test_keys_are_those_that_the_contract_names():
    init_key, shuffle_key, step_key, _ = jax.random.split(jax.random.key(7), 4)
    run = fit(WITNESS, jax.random.key(7), ROWS, batch_size=5, num_steps=9, label=None)
    assert run.state.start == jax.random.uniform(init_key)
    np.testing.assert_array_equal(run.history.train["random"], [jax.random.uniform(jax.random.fold_in(step_key, t)) for t in range(9)])
    second_epoch = permutation(jax.random.fold_in(shuffle_key, 1), 23)[:20]
    np.testing.assert_array_equal(rows(run)[4:8].ravel(), second_epoch)


@pytest.mark.parametrize("batch_size", [None, 23])
def test_a_full_batch_is_the_data_as_it_stands(batch_size):
    run = fit(WITNESS, jax.random.key(0), ROWS, batch_size=batch_size, num_steps=3, label=None)
    np.testing.assert_array_equal(rows(run), np.tile(np.arange(23), (3, 1)))


def test_evaluation_covers_every_row_before_every_nth_step_and_at_the_end(monkeypatch):
    monkeypatch.setattr(program, "MEMBER_ROWS", 1)
    monkeypatch.setattr(program, "EVALUATION_ROWS", 10)  # 23 rows: two blocks and a rest of three
    run = fit(WITNESS, jax.random.key(0), ROWS, batch_size=5, num_steps=10, eval_every=4, eval_data=ROWS, label=None)
    np.testing.assert_array_equal(run.history.evaluated_at, [0, 4, 8, 10])
    np.testing.assert_array_equal(run.history.evaluation["row"], [11.0] * 4)
    np.testing.assert_array_equal(run.history.evaluation["steps"], [0, 4, 8, 10])
    assert rows(run).shape == (10, 5)


def test_the_last_steps_that_an_integer_counts_end():
    start = (2**31 - 4, Seen(jnp.zeros(()), jnp.int32(0)))
    assert len(rows(fit(WITNESS, jax.random.key(0), ROWS, batch_size=5, num_steps=2**31 - 1, start=start, label=None))) == 3


def test_an_evaluation_has_the_key_of_its_step_and_block(monkeypatch):
    monkeypatch.setattr(program, "MEMBER_ROWS", 1)
    monkeypatch.setattr(program, "EVALUATION_ROWS", 20)  # blocks of 20 and 3 rows
    learner = WITNESS._replace(evaluate=lambda key, state, batch: {"random": jnp.full(len(batch["row"]), jax.random.uniform(key))})
    run = fit(learner, jax.random.key(8), ROWS, batch_size=5, num_steps=4, eval_every=2, eval_data=ROWS, label=None)
    evaluate_key = jax.random.split(jax.random.key(8), 4)[3]
    for step, mean in zip(run.history.evaluated_at, run.history.evaluation["random"], strict=True):
        at_step = jax.random.fold_in(evaluate_key, step)
        blocks = [jax.random.uniform(jax.random.fold_in(at_step, block)) for block in (0, 1)]
        np.testing.assert_allclose(mean, (20 * blocks[0] + 3 * blocks[1]) / 23, rtol=1e-6)


@pytest.mark.parametrize(("over", "seeds"), [(None, 1), (vmapped, 4), (mapped, 4)])
def test_what_is_gathered_at_once_is_bounded_over_all_members(monkeypatch, over, seeds):
    monkeypatch.setattr(program, "GATHER_BYTES", 6 * 1000 * 8)
    data = {"row": jnp.arange(1000)}
    keys = Keys(*jax.random.split(jax.random.key(0), 4))
    if over is None:
        members = Alone(WITNESS)
    else:
        members = Members(witness, over, over, seeds, 1)
        keys = Keys(*jax.vmap(lambda key: jax.random.split(key, 4), out_axes=1)(jax.random.split(jax.random.key(0), seeds)))
    plan = program.plan(members, {}, keys, data, 10, 1000)
    own_batches = seeds if over is vmapped else 1
    bytes_a_step = 10 * data["row"].dtype.itemsize * own_batches
    assert plan.block * bytes_a_step <= 6 * 1000 * 8
    assert 100 <= 2 * plan.block * own_batches <= 6 * 1000 * 8  # and it is no single step


def test_a_learner_may_make_its_own_data():
    def init(key, batch):
        assert batch is None
        return jnp.zeros(())

    learner = Learner(init, lambda key, state, batch: (state + 1, {"noise": jax.random.normal(key)}), lambda *_: {})
    run = fit(learner, jax.random.key(0), num_steps=300, label=None)
    assert run.state == 300
    assert len(set(run.history.train["noise"])) == 300


def test_row_40_the_loss_falls(images):
    run = fit(CLASSIFIER, jax.random.key(0), images, batch_size=10, num_steps=200, label=None)
    assert run.history.train["loss"][:10].mean() > 0.9
    assert run.history.train["loss"][-10:].mean() < 0.1
    assert run.history.diverged_at == -1
    assert run.history.compile_seconds > 0 < run.history.run_seconds


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_going_on_from_a_step_is_bit_equal_to_never_stopping(images, stop):
    settings = {"batch_size": 7, "eval_every": 5, "eval_data": images, "label": None}

    def run(num_steps, start=None):
        return fit(CLASSIFIER, jax.random.key(5), images, num_steps=num_steps, start=start, **settings)

    whole, first = run(20), run(stop)
    rest = run(20, (stop, first.state))
    jax.tree.map(np.testing.assert_array_equal, rest.state, whole.state)
    np.testing.assert_array_equal(np.concatenate([first.history.train["loss"], rest.history.train["loss"]]), whole.history.train["loss"])
    assert rest.history.evaluated_at.tolist() == [at for at in (5, 10, 15, 20) if at >= stop]
    np.testing.assert_array_equal(rest.history.evaluation["loss"], whole.history.evaluation["loss"][-len(rest.history.evaluated_at) :])
    assert np.isfinite(jax.tree.leaves(first.state)[0]).all()  # the caller's state is not donated away


def test_a_sweep_over_seeds_matches_each_seed_alone(images):
    key = jax.random.key(2)
    run = sweep(classifier, key, images, seeds=3, batch_size=10, num_steps=30, eval_every=10, eval_data=images, label=None)
    assert run.history.train["loss"].shape == (3, 30)
    assert run.history.evaluation["loss"].shape == (3, 4)
    for seed in range(3):
        alone = fit(
            CLASSIFIER, jax.random.fold_in(key, seed), images, batch_size=10, num_steps=30, eval_every=10, eval_data=images, label=None
        )
        np.testing.assert_allclose(run.history.train["loss"][seed], alone.history.train["loss"], atol=1e-5)
        np.testing.assert_allclose(run.history.evaluation["loss"][seed], alone.history.evaluation["loss"], atol=1e-5)
        jax.tree.map(lambda many, one, s=seed: np.testing.assert_allclose(many[s], one, atol=1e-5), run.state, alone.state)


def test_seeds_one_after_the_other_are_seeds_at_once(images, monkeypatch):
    settings = {"seeds": 2, "axes": {"learning_rate": [0.1, 0.3]}, "batch_size": 10, "num_steps": 9, "eval_every": 4, "eval_data": images}
    runs = []
    for cache_bytes in (2**20, 0):
        monkeypatch.setattr(program, "CACHE_BYTES", cache_bytes)
        runs.append(sweep(lambda learning_rate: classifier(learning_rate), jax.random.key(5), images, label=None, **settings))
    for found, expected in zip(*map(jax.tree.leaves, ([r.state, r.history.train, r.history.evaluation] for r in runs)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_large_states_on_small_batches_run_one_seed_at_a_time_on_a_cpu(images, monkeypatch):
    members = Members(classifier, vmapped, vmapped, 2, 1)
    keys = Keys(*jax.vmap(lambda k: jax.random.split(k, 4), out_axes=1)(jax.random.split(jax.random.key(0), 2)))
    ask = lambda batch_size: program.prefers_one_seed_at_a_time(members, {"learning_rate": jnp.ones(1)}, keys, images, batch_size)  # noqa: E731
    assert not ask(10)  # a small net stays in the cache
    monkeypatch.setattr(program, "CACHE_BYTES", 0)
    assert ask(10)
    assert not ask(program.SMALL_BATCH + 1)
    assert not ask(None)


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_a_grid_has_its_axes_in_order_and_shares_batches_within_a_seed(how):
    def make(rate, weight):
        return witness(10 * rate + weight)

    axes = {"rate": [1.0, 2.0, 3.0], "weight": np.array([0.1, 0.2])}
    run = sweep(
        make, jax.random.key(0), ROWS, seeds=2, axes=axes, batch_size=5, num_steps=6, eval_every=2, eval_data=ROWS, how=how, label=None
    )
    assert rows(run).shape == (2, 3, 2, 6, 5)
    np.testing.assert_allclose(run.history.train["rate"][1, 2, :, 0], [30.1, 30.2], rtol=1e-6)
    assert (rows(run) == rows(run)[:, :1, :1]).all()
    assert (rows(run)[0] != rows(run)[1]).any()
    assert run.state.steps.shape == (2, 3, 2)
    assert run.history.evaluation["row"].shape == (2, 3, 2, 4)
    assert run.history.diverged_at.shape == (2, 3, 2)


def test_one_after_the_other_equals_alone(images):
    key = jax.random.key(4)
    run = sweep(classifier, key, images, seeds=2, axes={"learning_rate": [0.1, 0.5]}, batch_size=10, num_steps=12, how="map", label=None)
    for index, rate in enumerate([0.1, 0.5]):
        learner = classifier(jnp.float32(rate))
        for seed in range(2):
            alone = fit(learner, jax.random.fold_in(key, seed), images, batch_size=10, num_steps=12, label=None)
            np.testing.assert_array_equal(run.history.train["loss"][seed, index], alone.history.train["loss"])


def test_a_sweep_goes_on_from_a_step(images):
    key, axes = jax.random.key(1), {"learning_rate": np.array([0.1, 0.3])}
    settings = {"seeds": 2, "axes": axes, "batch_size": 10, "label": None}
    whole = sweep(classifier, key, images, num_steps=9, **settings)
    first = sweep(classifier, key, images, num_steps=4, **settings)
    rest = sweep(classifier, key, images, num_steps=9, start=(4, first.state), **settings)
    jax.tree.map(np.testing.assert_array_equal, rest.state, whole.state)


@pytest.mark.parametrize(("seeds", "rates", "how"), [(2, 5, "vmap"), (8, 1, "map")], ids=["5 of 8 points", "8 seeds"])
def test_devices_share_a_sweep_and_change_nothing(images, seeds, rates, how):
    key, mesh = jax.random.key(3), jax.sharding.Mesh(np.array(jax.devices()), "members")
    axes = {"learning_rate": np.geomspace(0.03, 0.3, rates)}
    settings = {"seeds": seeds, "axes": axes, "batch_size": 10, "eval_every": 4, "eval_data": images, "how": how, "label": None}
    shared = sweep(classifier, key, images, num_steps=7, mesh=mesh, **settings)
    alone = sweep(classifier, key, images, num_steps=7, **settings)
    assert len(jax.tree.leaves(shared.state)[0].sharding.device_set) > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), shared.state, alone.state)
    for name in ("train", "evaluation", "diverged_at"):
        found, expected = getattr(shared.history, name), getattr(alone.history, name)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    start = (4, sweep(classifier, key, images, num_steps=4, mesh=mesh, **settings).state)
    rest = sweep(classifier, key, images, num_steps=7, mesh=mesh, start=start, **settings)
    jax.tree.map(np.testing.assert_array_equal, rest.state, shared.state)


def test_devices_send_each_other_nothing(images, optimised):
    """No collective operation in the compiled program of a shared sweep."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "members")
    members = Members(classifier, vmapped, vmapped, 2, 8, mesh)
    by_seed = jax.vmap(lambda seed: jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 4), out_axes=1)(jnp.arange(2))
    keys, points, data = Keys(*by_seed), {"learning_rate": jnp.linspace(0.1, 0.8, 8)}, jax.tree.map(jnp.asarray, images)
    plan = program.plan(members, points, keys, data, 10, 5)
    state = program.init(members, points, keys, program.first_batch(data, 10))
    compiled = program.advance.jitted.lower(members, plan, points, keys, state, data, jnp.int32(0), jnp.int32(5)).compile().as_text()
    assert "while" in compiled
    for operation in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert operation not in compiled


def fragile(at):
    """Its loss is not finite from step `at` on."""

    def step(key, state, batch):
        return state + 1, {"loss": jnp.where(state >= at, jnp.nan, 1.0), "fine": jnp.zeros(3)}

    return Learner(lambda key, batch: jnp.int32(0), step, lambda *_: {})


def test_fit_stops_where_a_metric_is_not_finite_and_says_which():
    with pytest.raises(Diverged, match=r"diverged at step 37: loss is nan") as caught:
        fit(fragile(37), jax.random.key(0), num_steps=10_000, label=None)
    losses = caught.value.run.history.train["loss"]
    assert np.isfinite(losses[:37]).all()
    assert np.isnan(losses[37])
    assert len(losses) < 10_000


def test_fit_names_the_step_when_it_went_on_from_another():
    with pytest.raises(Diverged, match=r"diverged at step 37: loss is nan"):
        fit(fragile(37), jax.random.key(0), num_steps=50, start=(30, jnp.int32(30)), label=None)


def test_a_sweep_marks_the_diverged_members_and_goes_on():
    run = sweep(fragile, jax.random.key(0), seeds=2, axes={"at": [5, 100, 17]}, num_steps=20, label=None)
    np.testing.assert_array_equal(run.history.diverged_at, [[5, -1, 17]] * 2)
    assert run.history.train["loss"].shape == (2, 3, 20)
    assert np.isfinite(run.history.train["loss"][:, 1]).all()


def test_the_same_learner_compiles_once():
    calls = []

    def step(key, state, batch):
        calls.append(1)
        return state, {}

    learner = Learner(lambda key, batch: jnp.zeros(()), step, lambda *_: {})
    fit(learner, jax.random.key(0), num_steps=3, label=None)
    traced = len(calls)
    fit(learner, jax.random.key(1), num_steps=3, label=None)
    assert len(calls) - traced <= 1  # the plan looks at the shapes; nothing is compiled anew


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 24}, "batch_size must be from 1 to the number of examples, 23, got 24"),
        ({"batch_size": 0}, "batch_size must be from 1"),
        ({"num_steps": 0}, "eval_every at least 1, got"),
        ({"eval_every": 0}, "eval_every at least 1, got"),
        ({"data": None}, "batch_size 5 without data"),
        ({"data": {"row": np.arange(23), "label": np.arange(22)}}, "must share one leading axis"),
        ({"data": {"row": np.zeros((0, 2))}}, "must share one leading axis"),
        ({"eval_data": {"row": np.arange(23), "label": np.arange(22)}}, "eval_data must share one leading axis"),
        ({"eval_data": {"row": np.zeros((0, 2))}}, "eval_data must share one leading axis"),
        ({"eval_data": {"rows": np.arange(23)}}, r"eval_data has no array \['row'\] as data has, it has \['rows'\]"),
        ({"eval_data": {"row": np.zeros((9, 2), int)}}, r"eval_data\['row'\] has the shape \(9, 2\), that of data \(23,\)"),
        ({"eval_data": {"row": np.arange(9.0)}}, r"eval_data\['row'\] is float32, that of data int32; they must both be integers"),
        ({"start": (3, Seen(jnp.zeros(2), jnp.int32(0)))}, r"leaf \.start is float32\(2,\), this learner's is float32\(\)"),
        ({"start": (3, jnp.zeros(()))}, "start has a state of the tree"),
        ({"start": (31, Seen(jnp.zeros(()), jnp.int32(0)))}, "start is at step 31"),
    ],
)
def test_sizes_that_do_not_fit_are_an_error_in_words(change, message):
    arguments = {"data": ROWS, "batch_size": 5, "num_steps": 30, "eval_every": 10, "label": None} | change
    with pytest.raises(InputError, match=message):
        fit(WITNESS, jax.random.key(0), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"step": lambda key, state, batch: (state + 1.5, {})},
            r"state was int32\(\) and became float32\(\)",
        ),
        ({"step": lambda key, state, batch: ((state,), {})}, "step must keep the tree of the state"),
        ({"step": lambda key, state, batch: (state, {"a": {"b": state}})}, "must be a flat dict of arrays"),
        ({"evaluate": lambda key, state, batch: {"mean": jnp.float32(0)}}, r"one value an example, \(23,\), got {'mean': \(\)}"),
    ],
)
def test_a_learner_that_breaks_the_contract_is_told_how(change, message):
    learner = Learner(lambda key, batch: jnp.int32(0), lambda key, state, batch: (state, {}), lambda *_: {})._replace(**change)
    with pytest.raises(InputError, match=message):
        fit(learner, jax.random.key(0), ROWS, batch_size=5, num_steps=3, eval_data=ROWS, label=None)


def test_an_evaluation_that_is_not_finite_stops_fit_too():
    learner = WITNESS._replace(evaluate=lambda key, state, batch: {"error": jnp.where(state.steps >= 4, jnp.inf, batch["row"] * 1.0)})
    with pytest.raises(Diverged, match="diverged at step 4: evaluated error is inf"):
        fit(learner, jax.random.key(0), ROWS, batch_size=5, num_steps=9, eval_every=2, eval_data=ROWS, label=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": (1, Seen(jnp.zeros(3), jnp.zeros(3, jnp.int32)))}, "start has a state with the leading axes"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"axes": {"rate": []}}, "axis 'rate' must be a non-empty list of numbers"),
        ({"axes": {"rate": ["fast"]}}, "axis 'rate' must be a non-empty list of numbers"),
    ],
)
def test_a_sweep_that_cannot_be_is_an_error_in_words(change, message):
    arguments = {"seeds": 2, "batch_size": 5, "num_steps": 3, "label": None} | change
    with pytest.raises(InputError, match=message):
        sweep(witness, jax.random.key(0), ROWS, **arguments)


@pytest.mark.parametrize("bad", ["data", "eval_data"])
def test_a_label_outside_the_classes_is_named_when_a_loss_is_nan(images, bad):
    """Before the first step, too: what is evaluated then has no history of steps yet."""
    wrong = {"data": images, "eval_data": images} | {bad: {**images, "label": np.append(images["label"][1:], np.int32(3))}}
    said = rf"loss is nan. In {bad}, label 3 at \[59\] is outside the 3 classes, 0 to 2; 1 of 60 .* If that is as it should be, try"
    with pytest.raises(Diverged, match=said):
        fit(CLASSIFIER, jax.random.key(0), **wrong, batch_size=None, num_steps=2, label=None)


def test_the_range_of_the_labels_is_said_where_the_classes_are_unknown(images):
    unseen = CLASSIFIER._replace(predict=None)
    wrong = {**images, "label": np.append(images["label"][1:], np.int32(12))}
    with pytest.raises(Diverged, match=r"The labels of eval_data run from 0 to 12: one outside the classes makes a loss NaN. If that"):
        fit(unseen, jax.random.key(0), images, eval_data=wrong, num_steps=2, label=None)


def test_an_array_that_is_not_finite_is_named(images):
    wrong = {"image": np.where(np.arange(60)[:, None, None, None] == 7, np.nan, images["image"] / 255), "label": images["label"]}
    as_it_is = lambda batch: (batch["image"], batch["label"])  # noqa: E731
    loss = losses.softmax_cross_entropy_with_integer_labels
    learner = supervised(*functional(MLP((3,))), loss, optax.sgd(0.1), preprocess=as_it_is)
    with pytest.raises(Diverged, match=r"data\['image'\] is not finite, first in example 7. If that is as it should be, try a lower"):
        fit(learner, jax.random.key(0), wrong, num_steps=2, label=None)
