"""The one loop: `fit` runs a learner, `sweep` runs it for every seed and hyper-parameter at once.

The data lie on the device, and steps run in compiled chunks (`jaxnn.program`). Between two chunks, about twice a second,
the host evaluates, looks for what is not finite and shows progress.

Randomness depends on the key and the step number alone: step t uses `fold_in(step_key, t)`, epoch e is shuffled by
`fold_in(shuffle_key, e)`, the evaluation before step t uses `fold_in(evaluate_key, t)`. So the state and t are all
that is needed to go on from a run, bit for bit (`start`).
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn import program
from jaxnn.program import Alone, Keys, Members, num_examples
from jaxnn.progress import progress
from jaxnn.types import Batch, InputError, Learner, Metrics, PyTree

CHUNK_SECONDS = 0.5


class History(NamedTuple):
    """What a run measured. In a sweep every array but `evaluated_at` starts with the axes (seeds, *lengths of `axes`)."""

    train: dict[str, np.ndarray]
    """The metrics of each step, (steps, ...)."""
    evaluation: dict[str, np.ndarray]
    """Means over `eval_data`, (evaluations, ...)."""
    evaluated_at: np.ndarray
    """The step before which each evaluation was made, (evaluations,)."""
    diverged_at: np.ndarray
    """The first step whose metrics, or the evaluation before it, are NaN or infinite; -1 where there is none."""
    compile_seconds: float
    run_seconds: float


class Run(NamedTuple):
    """What `fit` and `sweep` return."""

    state: Any
    history: History


class Diverged(ArithmeticError):
    """A metric became NaN or infinite. `run` holds state and history up to the end of the chunk in which it did."""

    def __init__(self, message: str, run: Run):
        super().__init__(message)
        self.run = run


def fit(
    learner: Learner,
    key: jax.Array,
    data: Batch = None,
    *,
    batch_size: int | None = None,
    num_steps: int,
    eval_every: int | None = None,
    eval_data: Batch = None,
    start: tuple[int, Any] | None = None,
    label: str | None = "fit",
) -> Run:
    """Run a learner up to step `num_steps`; return its final state and its history.

    `data` is a dict of arrays with one leading axis. An epoch is a permutation of it, cut into batches, the last partial
    batch dropped; `batch_size=None` takes all of it, as it stands, in every step. `data=None` serves a learner that makes
    its own. `eval_data` is evaluated before every `eval_every`-th step (None: the first) and at the end.
    `start=(t, state)` goes on before step t: with the same key the result is bit-equal to an unbroken run.
    `label` names the progress bar; None shows none.

    Raises `InputError` for sizes that do not fit and `Diverged` when a metric is no longer finite.
    """
    keys = Keys(*jax.random.split(key, 4))
    task = _task(Alone(learner), {}, keys, data, batch_size, num_steps, eval_every, eval_data)
    run = _drive(task, start, label)
    if run.history.diverged_at >= 0:
        raise Diverged(_describe_divergence(run.history, start[0] if start else 0), run)
    return run


def sweep(
    make_learner: Callable[..., Learner],
    key: jax.Array,
    data: Batch = None,
    *,
    seeds: int,
    axes: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    num_steps: int,
    eval_every: int | None = None,
    eval_data: Batch = None,
    how: Literal["vmap", "map"] = "vmap",
    mesh: Mesh | None = None,
    start: tuple[int, Any] | None = None,
    label: str | None = "sweep",
) -> Run:
    """`fit` for the seeds 0 … n-1 and the full grid of numeric `axes`, as one compiled program.

    `axes={"learning_rate": rates, "momentum": momenta}` calls `make_learner(learning_rate=..., momentum=...)` with traced
    scalars. State and history come back with the leading axes (seeds, *lengths of the axes in order). Seed s is `fit`
    with the key `fold_in(key, s)`. The grid points of one seed share its initial key and its batches: their first layers
    become one matrix product, and every learning rate sees the same data in the same order.
    A member that diverges is marked in `history.diverged_at` while the others go on.
    `how="map"` runs the members one after the other, for nets that gain nothing from vmap. On a CPU the seeds of large
    states that train on small batches run so anyway, the points of each at once: all together would fall out of its cache.
    `mesh` shares the members out over its devices, which need nothing of each other: `Mesh(jax.devices(), "members")`.
    """
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, got {seeds}")
    over = {"vmap": program.vmapped, "map": program.mapped}.get(how)
    if over is None:
        raise InputError(f"how must be 'vmap' or 'map', got {how!r}")
    points, lengths = _grid(axes or {})
    by_seed = jax.vmap(lambda seed: jax.random.split(jax.random.fold_in(key, seed), 4), out_axes=1)
    size = math.prod(lengths)
    members = _shared_out(Members(make_learner, over, over, seeds, size), mesh)
    points = {name: values[_padded(len(values), members.size)] for name, values in points.items()}
    keys = Keys(*by_seed(jnp.arange(members.seeds)))
    if program.prefers_one_seed_at_a_time(members, points, keys, data, batch_size):
        members = replace(members, over_seeds=program.mapped)
    task = _task(members, points, keys, data, batch_size, num_steps, eval_every, eval_data)
    if start is not None:
        leads = {np.shape(leaf)[: 1 + len(lengths)] for leaf in jax.tree.leaves(start[1])}
        if leads - {(seeds, *lengths)}:
            raise InputError(f"start has a state with the leading axes {leads}, this sweep's are (seeds, *axes) = {(seeds, *lengths)}")
        flat = _reshape(start[1], 1 + len(lengths), (seeds, size))
        start = (start[0], jax.tree.map(lambda x: x[_padded(seeds, members.seeds)][:, _padded(size, members.size)], flat))
    state, history = _drive(task, start, label)

    def shaped(tree: PyTree) -> PyTree:
        if mesh is not None:
            tree = jax.tree.map(lambda x: x[:seeds, :size], tree)
        return _reshape(tree, 2, (seeds, *lengths))

    train, evaluation, diverged_at = shaped((history.train, history.evaluation, history.diverged_at))
    return Run(shaped(state), history._replace(train=train, evaluation=evaluation, diverged_at=diverged_at))


def _shared_out(members: Members, mesh: Mesh | None) -> Members:
    """The members over the mesh's devices, by points or by seeds, whichever needs fewer idle copies to come out even."""
    if mesh is None:
        return members
    seeds, size = (math.ceil(count / mesh.size) * mesh.size for count in members.lead)
    split_seeds = seeds * members.size < members.seeds * size
    lead = (seeds, members.size) if split_seeds else (members.seeds, size)
    one_axis = Mesh(mesh.devices.ravel(), "members")
    return replace(members, seeds=lead[0], size=lead[1], mesh=one_axis, split_seeds=split_seeds)


def _padded(count: int, to: int) -> np.ndarray:
    """The indices 0 … count-1, the last one repeated up to `to` of them."""
    return np.minimum(np.arange(to), count - 1)


class Task(NamedTuple):
    """A run as the host sees it: three functions of concrete states and step numbers."""

    init: Callable[[], Any]
    shapes: Callable[[], Any]
    """What `init` gives, as shapes and dtypes."""
    advance: Callable[[Any, int, int], tuple[Any, Metrics]]
    evaluate: Callable[[Any, int], Metrics] | None
    num_steps: int
    eval_every: int
    capacity: int
    """Steps that one call of `advance` may take."""
    lead: tuple[int, ...]
    """The leading axes of state and metrics: none for one learner, (seeds, size) for a sweep."""


def _task(
    members: Alone | Members,
    points: dict,
    keys: Keys,
    data: Batch,
    batch_size: int | None,
    num_steps: int,
    eval_every: int | None,
    eval_data: Batch,
) -> Task:
    eval_every = num_steps if eval_every is None else eval_every
    _check(data, batch_size, num_steps, eval_every)
    if eval_data is not None:
        _check_rows("eval_data", eval_data)
    data, eval_data = jax.device_put((data, eval_data))
    plan = program.plan(members, points, keys, data, batch_size, min(eval_every, num_steps))
    example = program.first_batch(data, batch_size)

    def advance(state: Any, begin: int, end: int) -> tuple[Any, Metrics]:
        return program.advance(members, plan, points, keys, state, data, jnp.int32(begin), jnp.int32(end))

    def evaluate(state: Any, step: int) -> Metrics:
        return program.evaluate(members, points, keys, state, eval_data, jnp.int32(step))

    init, shapes = (partial(function, members, points, keys, example) for function in (program.init, program.init_shapes))
    return Task(init, shapes, advance, None if eval_data is None else evaluate, num_steps, eval_every, plan.capacity, members.lead)


def _drive(task: Task, start: tuple[int, Any] | None, label: str | None) -> Run:
    """The host's turn between chunks: evaluate, look for what is not finite, show progress.

    A caller of a Task with no members (`lead == ()`) gets the run back as soon as it diverged.
    """
    began = time.perf_counter()
    step, state = (0, task.init()) if start is None else (start[0], _copied(start[1], task.shapes()))
    if not 0 <= step <= task.num_steps:
        raise InputError(f"start is at step {step}, outside 0 … num_steps = {task.num_steps}")
    state, metrics = task.advance(state, step, step)  # no step at all: it compiles
    pieces = [_rows(metrics, task.lead, 0)]
    if task.evaluate:
        jax.block_until_ready(task.evaluate(state, step))
    compiled = time.perf_counter()
    diverged_at, evaluated_at, evaluations, length = np.full(task.lead, -1), [], [], 1
    with progress(label, task.num_steps, step) as show:
        while True:
            if task.evaluate and (step % task.eval_every == 0 or step == task.num_steps):
                evaluations.append(jax.device_get(task.evaluate(state, step)))
                evaluated_at.append(step)
                bad = np.any([~np.isfinite(value) for value in evaluations[-1].values()], axis=0)
                diverged_at = np.where((diverged_at < 0) & bad, step, diverged_at)
            if step == task.num_steps or (task.lead == () and diverged_at >= 0):
                break
            end = min(step + length, task.num_steps, (step // task.eval_every + 1) * task.eval_every)
            tick = time.perf_counter()
            state, metrics = task.advance(state, step, end)
            pieces.append(_rows(metrics, task.lead, end - step))
            length = max(1, min(task.capacity, int((end - step) * CHUNK_SECONDS / (time.perf_counter() - tick))))
            bad = _first_not_finite(pieces[-1], task.lead)
            diverged_at = np.where((diverged_at < 0) & (bad >= 0), step + bad, diverged_at)
            show(end, {name: np.median(rows[..., -1]) for name, rows in pieces[-1].items() if rows.ndim == len(task.lead) + 1})
            step = end
    train = {name: np.concatenate([piece[name] for piece in pieces], len(task.lead)) for name in pieces[0]}
    evaluation = jax.tree.map(lambda *values: np.stack(values, len(task.lead)), *evaluations) if evaluations else {}
    seconds = compiled - began, time.perf_counter() - compiled
    return Run(state, History(train, evaluation, np.array(evaluated_at, int), diverged_at, *seconds))


def _copied(state: Any, like: Any) -> Any:
    """The caller's state, so that his own is not donated. Raises `InputError` where it is not that of this learner."""
    trees = [str(jax.tree.structure(tree)) for tree in (state, like)]
    if trees[0] != trees[1]:
        raise InputError(f"start has a state of the tree {trees[0]}, this learner's is {trees[1]}")
    for (path, leaf), own in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(like), strict=True):
        if jnp.shape(leaf) != own.shape or jnp.result_type(leaf) != own.dtype:
            kinds = f"{jnp.result_type(leaf)}{jnp.shape(leaf)}, this learner's is {own.dtype}{own.shape}"
            raise InputError(f"start has a state whose leaf {jax.tree_util.keystr(path)} is {kinds}")
    return jax.tree.map(jnp.array, state)


def _rows(metrics: Metrics, lead: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(rows)[(slice(None),) * len(lead) + (slice(count),)].copy() for name, rows in metrics.items()}


def _first_not_finite(metrics: dict[str, np.ndarray], lead: tuple[int, ...]) -> np.ndarray:
    """The first step with a NaN or Inf in any metric, -1 if none, for every member."""
    bad = [~np.isfinite(rows).all(axis=tuple(range(len(lead) + 1, rows.ndim))) for rows in metrics.values()]
    any_bad = np.any(bad, axis=0)
    return np.where(any_bad.any(-1), any_bad.argmax(-1), -1)


def _describe_divergence(history: History, first: int) -> str:
    at = int(history.diverged_at)
    values = {name: rows[at - first] for name, rows in history.train.items() if at - first < len(rows)}
    if at in history.evaluated_at:
        values |= {f"evaluated {name}": rows[list(history.evaluated_at).index(at)] for name, rows in history.evaluation.items()}
    values = {name: value for name, value in values.items() if not np.isfinite(value).all()}
    found = ", ".join(f"{name} is {value}" for name, value in values.items())
    return f"diverged at step {at}: {found}. Try a lower learning rate or clipped gradients. The error's `run` holds the history."


def _check(data: Batch, batch_size: int | None, num_steps: int, eval_every: int) -> None:
    if not 1 <= num_steps < 2**31 or eval_every < 1:
        raise InputError(f"num_steps must be from 1 to 2³¹ - 1 and eval_every at least 1, got {num_steps} and {eval_every}")
    if data is None:
        if batch_size is not None:
            raise InputError(f"batch_size {batch_size} without data: a learner that makes its own data has no batch size")
        return
    _check_rows("data", data)
    if batch_size is not None and not 1 <= batch_size <= num_examples(data):
        raise InputError(f"batch_size must be from 1 to the number of examples, {num_examples(data)}, got {batch_size}")


def _grid(axes: Mapping[str, Any]) -> tuple[dict[str, jax.Array], tuple[int, ...]]:
    """The full product of the axes as one column a name, and their lengths."""
    columns = {name: np.asarray(values) for name, values in axes.items()}
    for name, values in columns.items():
        if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.number):
            raise InputError(f"axis {name!r} must be a non-empty list of numbers, got {axes[name]!r}")
    mesh = np.meshgrid(*columns.values(), indexing="ij")
    lengths = tuple(len(values) for values in columns.values())
    return {name: jnp.asarray(column.ravel()) for name, column in zip(columns, mesh, strict=True)}, lengths


def _check_rows(what: str, data: Batch) -> None:
    rows = {jax.tree_util.keystr(path): np.shape(leaf)[:1] for path, leaf in jax.tree_util.tree_leaves_with_path(data)}
    if len(set(rows.values())) != 1 or () in rows.values() or (0,) in rows.values():
        raise InputError(f"the arrays of {what} must share one leading axis with at least one example, got {rows}")


def _reshape(tree: PyTree, axes: int, lead: tuple[int, ...]) -> PyTree:
    """Give the first `axes` axes of every leaf the shape `lead`."""
    return jax.tree.map(lambda x: x.reshape(lead + x.shape[axes:]), tree)
