"""The one loop: `fit` runs a learner, `sweep` runs it for every seed and hyper-parameter at once.

The data lie on the device, and steps run in compiled chunks (`jaxnn.program`). Between two chunks, about twice a second,
the host evaluates, looks for what is not finite and shows progress.

Randomness depends on the key and the step number alone: step t uses `fold_in(step_key, t)`, epoch e is shuffled by
`fold_in(shuffle_key, e)`, the evaluation before step t uses `fold_in(evaluate_key, t)`. So the state and t are all
that is needed to go on from a run, bit for bit (`start`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn import devices, groups, memory, program, suspects, tasks
from jaxnn.checkpoint import Checkpoints
from jaxnn.groups import Group, Shape
from jaxnn.loop import Diverged, EarlyStopping, History, Reached, Run, Task, describe_divergence, drive
from jaxnn.members import Alone, Keys, Members, mapped, vmapped
from jaxnn.types import Batch, InputError, Learner, PyTree

__all__ = ["Checkpoints", "Diverged", "EarlyStopping", "History", "Reached", "Run", "fit", "fit_stream", "sweep"]


def fit(
    learner: Learner,
    key: jax.Array,
    data: Batch = None,
    *,
    batch_size: int | None = None,
    num_steps: int,
    eval_every: int | None = None,
    eval_data: Batch = None,
    mesh: Mesh | None = None,
    start: tuple[int, Any] | None = None,
    checkpoint: Checkpoints | None = None,
    stop: EarlyStopping | Reached | None = None,
    label: str | None = "fit",
) -> Run:
    """Run a learner up to step `num_steps`; return its final state and its history.

    `data` is a dict of arrays with one leading axis. An epoch is a permutation of it, cut into batches, the last partial
    batch dropped; `batch_size=None` takes all of it, as it stands, in every step. `data=None` serves a learner that makes
    its own. `eval_data` is evaluated before every `eval_every`-th step (None: the first) and at the end.
    `start=(t, state)` goes on before step t: with the same key the result is bit-equal to an unbroken run.
    `mesh` shares the rows of each batch out over its devices (`jaxnn.devices.mesh()`), which add their gradients up.
    `checkpoint` saves the run as it goes, and goes on from what an earlier, broken call with the same arguments saved, bit for
    bit; SIGINT and SIGTERM then finish the chunk and save before they end the run with `jaxnn.interrupt.Interrupted`.
    A larger `num_steps` than that call's goes further. `stop` ends a run whose evaluations no longer improve (`EarlyStopping`) or are
    good enough (`Reached`).
    `label` names the progress bar; None shows none.

    Raises `InputError` for sizes that do not fit, `Diverged` when a metric is no longer finite, and
    `jaxnn.checkpoint.CheckpointError` for checkpoints of another run and for those of which none verifies.
    """
    tasks.check_shares(mesh, data, batch_size)
    keys = Keys(*jax.random.split(key, 4))
    task = tasks.of_data(Alone(learner, tasks.one_axis(mesh)), {}, keys, data, batch_size, num_steps, eval_every, eval_data)
    identity = partial(tasks.identity, "fit", key, data, eval_data, start, batch_size=batch_size, eval_every=eval_every)
    return _alone(task._replace(identity=identity), start, label, checkpoint, stop, learner, {"data": data, "eval_data": eval_data})


def fit_stream(
    learner: Learner,
    key: jax.Array,
    batches: Iterable[Batch],
    *,
    num_steps: int,
    eval_every: int | None = None,
    eval_data: Batch = None,
    mesh: Mesh | None = None,
    checkpoint: Checkpoints | None = None,
    stop: EarlyStopping | Reached | None = None,
    label: str | None = "fit_stream",
) -> Run:
    """`fit` for data that do not fit on the device: step t takes the t-th batch of `batches`, as `jaxnn.data.stream` gives them.

    While the device computes a step the host fetches the next batch. `history.waited_seconds` says for how long it waited.
    For a `checkpoint`, `batches` must have `position()` and `seek(position)`: then a resumed run sees the batches that an
    unbroken one would have seen. `mesh` shares each batch out over its devices.

    Raises as `fit` does, and `InputError` where the stream ends before step `num_steps`.
    """
    tasks.check(None, None, num_steps, num_steps if eval_every is None else eval_every)
    if checkpoint is not None and not (hasattr(batches, "position") and hasattr(batches, "seek")):
        raise InputError("checkpoint needs batches that have position() and seek(position), as those of jaxnn.data.stream")
    task = tasks.of_stream(learner, Keys(*jax.random.split(key, 4)), batches, num_steps, eval_every, eval_data, mesh)
    identity = partial(tasks.identity, "fit_stream", key, None, eval_data, None, batch_size=task.batch_size, eval_every=eval_every)
    return _alone(task._replace(identity=identity), None, label, checkpoint, stop, learner, {"eval_data": eval_data})


def _alone(
    task: Task,
    start: tuple[int, Any] | None,
    label: str | None,
    checkpoint: Checkpoints | None,
    stop: EarlyStopping | Reached | None,
    learner: Learner,
    data: Mapping[str, Batch],
) -> Run:
    """Drive a task of one learner. Raises `Diverged`."""
    if stop is not None and task.evaluate is None:
        raise InputError("stop needs eval_data: it judges the evaluations")
    run = drive(task, start, label, checkpoint, stop)
    if run.history.diverged_at >= 0:
        raise Diverged(describe_divergence(run.history, suspects.in_words(learner, run.state, data)), run)
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
    at_once: int | None = None,
    mesh: Mesh | None = None,
    start: tuple[int, Any] | None = None,
    checkpoint: Checkpoints | None = None,
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
    `mesh` shares the members out over its devices, which need nothing of each other (`jaxnn.devices.mesh()`).
    `at_once` members at most are on the devices at the same time, one a device at least, and groups of them run one after the
    other; None chooses as many as the devices' memory holds. The state of a sweep in groups comes back as NumPy arrays.
    `checkpoint` is as in `fit`; a sweep may go on with another number of devices than it was saved with.
    """
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, got {seeds}")
    over = {"vmap": vmapped, "map": mapped}.get(how)
    if over is None:
        raise InputError(f"how must be 'vmap' or 'map', got {how!r}")
    if at_once is not None and at_once < 1:
        raise InputError(f"at_once must be at least 1, got {at_once}")
    points, lengths = _grid(axes or {})
    whole = Shape(seeds, math.prod(lengths))
    if start is not None:
        start = (start[0], _flat(start[1], whole, lengths))
    over_what = {"seeds": seeds, "axes": {name: np.asarray(values).tolist() for name, values in (axes or {}).items()}}
    identity = partial(tasks.identity, "sweep", key, data, eval_data, start, batch_size=batch_size, eval_every=eval_every, **over_what)
    tasks.check(data, batch_size, num_steps, num_steps if eval_every is None else eval_every, eval_data)
    data, eval_data = tasks.on_devices((data, eval_data), mesh)
    job = _Sweep(make_learner, over, key, points, whole, mesh, data, batch_size, num_steps, eval_every, eval_data, identity)
    state, history = job.run(job.shape(at_once, checkpoint), start, label, checkpoint)
    by_member = (state, history.train, history.evaluation, history.diverged_at)
    state, train, evaluation, diverged_at = _reshape(by_member, 2, (seeds, *lengths))
    return Run(state, history._replace(train=train, evaluation=evaluation, diverged_at=diverged_at))


class _Sweep(NamedTuple):
    """What all groups of a sweep have in common. Data lie on the devices."""

    make_learner: Callable[..., Learner]
    over: Callable
    key: jax.Array
    points: dict[str, jax.Array]
    whole: Shape
    mesh: Mesh | None
    data: Batch
    batch_size: int | None
    num_steps: int
    eval_every: int | None
    eval_data: Batch
    identity: Callable[[], dict[str, Any]]

    def members(self, shape: Shape) -> Members:
        """A group of this shape, shared out over the devices."""
        members = _shared_out(Members(self.make_learner, self.over, self.over, *shape), self.mesh)
        drawn = self.drawn(shape.groups(self.whole)[0].padded(members.lead))
        alone = program.prefers_one_seed_at_a_time(members, *drawn, self.data, self.batch_size)
        return replace(members, over_seeds=mapped) if alone else members

    def drawn(self, group: Group) -> tuple[dict[str, jax.Array], Keys]:
        """The points and the keys of a group."""
        by_seed = jax.vmap(lambda seed: jax.random.split(jax.random.fold_in(self.key, seed), 4), out_axes=1)
        return {name: values[group.points] for name, values in self.points.items()}, Keys(*by_seed(group.seeds))

    def shape(self, at_once: int | None, checkpoint: Checkpoints | None) -> Shape:
        """That of a group of `at_once` members; left open, as before in a sweep that goes on, else as the devices' memory allows."""
        if at_once is None and (kept := groups.shape_kept(checkpoint, self.whole)):
            return kept
        members = self.members(self.whole)
        if at_once is None:
            drawn = self.drawn(self.whole.groups(self.whole)[0].padded(members.lead))
            at_once = memory.members_that_fit(members, *drawn, self.data, self.batch_size, self.eval_data)
        if at_once >= math.prod(members.lead):
            return self.whole
        return groups.shape_of_groups(self.whole, at_once, self.mesh.size if self.mesh else 1)

    def run(self, shape: Shape, start: tuple[int, Any] | None, label: str | None, checkpoint: Checkpoints | None) -> Run:
        """State and history with the leading axes (seeds, points)."""
        members, parts, runs = self.members(shape), shape.groups(self.whole), []
        for number, group in enumerate(parts):
            task = self.task(members, group)
            its_start = start and (start[0], task.pad(group.of(start[1], self.whole)))
            if len(parts) == 1:
                run = drive(task, its_start, label, checkpoint)
                return Run(task.trim(run.state), _trimmed(run.history, task.trim))
            its_label = label and f"{label}, group {number + 1} of {len(parts)}"
            run = drive(task, its_start, its_label, groups.checkpoint_of_group(checkpoint, shape, number))
            runs.append(Run(devices.to_host(task.trim(run.state)), _trimmed(run.history, task.trim)))
        return _joined(parts, runs)

    def task(self, members: Members, group: Group) -> Task:
        drawn = self.drawn(group.padded(members.lead))
        task = tasks.of_data(members, *drawn, self.data, self.batch_size, self.num_steps, self.eval_every, self.eval_data)
        pad, trim = partial(groups.pad, members.lead), partial(groups.trim, group.lead)
        return task._replace(pad=pad, trim=trim, identity=self.identity)


def _flat(state: Any, whole: Shape, lengths: tuple[int, ...]) -> Any:
    """A state (seeds, *lengths, ...) as (seeds, points, ...)."""
    leads = {np.shape(leaf)[: 1 + len(lengths)] for leaf in jax.tree.leaves(state)}
    if leads - {(whole.seeds, *lengths)}:
        raise InputError(f"start has a state with the leading axes {leads}, this sweep's are (seeds, *axes) = {(whole.seeds, *lengths)}")
    return _reshape(state, 1 + len(lengths), whole)


def _trimmed(history: History, trim: Callable[[PyTree], PyTree]) -> History:
    train, evaluation, diverged_at = trim((history.train, history.evaluation, history.diverged_at))
    return history._replace(train=train, evaluation=evaluation, diverged_at=diverged_at)


def _joined(parts: list[Group], runs: list[Run]) -> Run:
    """The groups' results side by side, their seconds summed up."""
    by_member = [(state, history.train, history.evaluation, history.diverged_at) for state, history in runs]
    state, train, evaluation, diverged_at = groups.side_by_side(parts, by_member)
    seconds = [sum(column) for column in zip(*(run.history[4:] for run in runs), strict=True)]
    return Run(state, History(train, evaluation, runs[0].history.evaluated_at, diverged_at, *seconds))


def _shared_out(members: Members, mesh: Mesh | None) -> Members:
    """The members over the mesh's devices, by points or by seeds, whichever needs fewer idle copies to come out even."""
    if mesh is None:
        return members
    if not devices.several_processes(mesh):  # a device without a member would only repeat another's
        mesh = Mesh(mesh.devices.ravel()[: max(members.lead)], "members")
    seeds, size = (math.ceil(count / mesh.size) * mesh.size for count in members.lead)
    split_seeds = seeds * members.size < members.seeds * size
    lead = (seeds, members.size) if split_seeds else (members.seeds, size)
    return replace(members, seeds=lead[0], size=lead[1], mesh=tasks.one_axis(mesh), split_seeds=split_seeds)


def _grid(axes: Mapping[str, Any]) -> tuple[dict[str, jax.Array], tuple[int, ...]]:
    """The full product of the axes as one column a name, and their lengths."""
    columns = {name: np.asarray(values) for name, values in axes.items()}
    for name, values in columns.items():
        if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.number):
            raise InputError(f"axis {name!r} must be a non-empty list of numbers, got {axes[name]!r}")
    mesh = np.meshgrid(*columns.values(), indexing="ij")
    lengths = tuple(len(values) for values in columns.values())
    return {name: jnp.asarray(column.ravel()) for name, column in zip(columns, mesh, strict=True)}, lengths


def _reshape(tree: PyTree, axes: int, lead: tuple[int, ...]) -> PyTree:
    """Give the first `axes` axes of every leaf the shape `lead`."""
    return jax.tree.map(lambda x: x.reshape(lead + x.shape[axes:]), tree)
