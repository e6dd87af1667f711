"""What the loop is given: the learners' programs bound to data, keys and devices, and what makes a run this one and no other."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn import devices, program
from jaxnn.feed import Feed
from jaxnn.leaves import named
from jaxnn.loop import Task
from jaxnn.manifest import sha256
from jaxnn.members import Alone, Keys, Members
from jaxnn.types import Batch, InputError, Learner, Metrics, PyTree, num_examples


def one_axis(mesh: Mesh | None) -> Mesh | None:
    """All devices of a mesh along one axis, which XLA may shard along as it sees fit (`AxisType.Auto`)."""
    return None if mesh is None else Mesh(mesh.devices.ravel(), "devices")


def on_devices(tree: PyTree, mesh: Mesh | None) -> PyTree:
    return jax.device_put(tree) if mesh is None else devices.replicated(tree, mesh)


def check_shares(mesh: Mesh | None, data: Batch, batch_size: int | None) -> None:
    if mesh is None:
        return
    if data is None:
        raise InputError("mesh shares the rows of a batch out, but there is no data; a learner that makes its own runs on one device")
    rows = num_examples(data) if batch_size is None else batch_size
    if rows % mesh.size:
        nearest = max(1, round(rows / mesh.size)) * mesh.size
        what = f"all {rows} examples at once are" if batch_size is None else f"batch_size {rows} is"
        raise InputError(f"{what} no multiple of the {mesh.size} devices that share them; the nearest is {nearest}")


def of_data(
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
    check(data, batch_size, num_steps, eval_every, eval_data)
    points, keys, data, eval_data = on_devices((points, keys, data, eval_data), members.mesh)
    plan = program.plan(members, points, keys, data, batch_size, min(eval_every, num_steps))
    example = program.first_batch(data, batch_size)

    def advance(state: Any, begin: int, end: int) -> tuple[Any, Metrics]:
        return program.advance(members, plan, points, keys, state, data, np.int32(begin), np.int32(end))

    return _made(members, points, keys, example, advance, num_steps, eval_every, eval_data)._replace(capacity=plan.capacity)


def of_stream(
    learner: Learner,
    keys: Keys,
    batches: Iterable[Batch],
    num_steps: int,
    eval_every: int | None,
    eval_data: Batch,
    mesh: Mesh | None,
) -> Task:
    """Steps that are started one by one: little beside the reading of their batches."""
    if eval_data is not None:
        _check_rows("eval_data", eval_data)
    alone, feed = Alone(learner, one_axis(mesh)), Feed(batches, one_axis(mesh))
    keys, eval_data = on_devices((keys, eval_data), alone.mesh)
    if eval_data is not None:
        _check_alike(feed.first, eval_data, "the stream's batch")
    program.check_step(alone, {}, keys, feed.first)

    def advance(state: Any, begin: int, end: int) -> tuple[Any, dict[str, np.ndarray]]:
        if begin == end:
            return state, _stacked([program.one_step(alone, keys, jax.tree.map(jnp.copy, state), feed.first, np.int32(begin))[1]])
        rows: list[Metrics] = []
        for t in range(begin, end):
            jax.block_until_ready(rows[-2:-1])  # two steps under way, no queue of batches on the device
            state, metrics = program.one_step(alone, keys, state, feed.next(t), np.int32(t))
            rows.append(metrics)
        return state, _stacked(rows)

    every = num_steps if eval_every is None else eval_every
    task = _made(alone, {}, keys, feed.first, advance, num_steps, every, eval_data)
    rows = num_examples(feed.first)
    return task._replace(position=feed.position, seek=feed.seek, waited=lambda: feed.waited, batch_size=rows)


def _made(
    members: Alone | Members,
    points: dict,
    keys: Keys,
    example: Batch,
    advance: Callable[[Any, int, int], tuple[Any, Mapping[str, Any]]],
    num_steps: int,
    eval_every: int,
    eval_data: Batch,
) -> Task:
    """What all tasks have in common: how a state begins, and how it is evaluated."""

    def evaluate(state: Any, step: int) -> Metrics:
        return program.evaluate(members, points, keys, state, eval_data, np.int32(step))

    init, shapes = (partial(function, members, points, keys, example) for function in (program.init, program.init_shapes))
    evaluate_or_not = None if eval_data is None else evaluate
    return Task(init, shapes, advance, evaluate_or_not, num_steps, eval_every, program.CHUNK_STEPS, members.lead, members.mesh)


def _stacked(rows: list[Metrics]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def identity(call: str, key: jax.Array, data: Batch, eval_data: Batch, start: tuple[int, Any] | None, **arguments: Any) -> dict[str, Any]:
    """What makes a run this one and no other, as JSON knows it: the call, its key, and the sha256 of its data and of its start."""
    begun = {} if start is None else {"start": {"step": start[0], "state": _digests(devices.to_host(start[1]))}}
    return {"call": call, "key": _digests(key), "data": _digests(data), "eval_data": _digests(eval_data), **begun, **arguments}


def _digests(tree: PyTree) -> dict[str, str]:
    return {name: f"{x.dtype}{np.shape(x)} sha256 {sha256(x).hex()[:16]}" for name, x in named(tree).items()}


def check(data: Batch, batch_size: int | None, num_steps: int, eval_every: int, eval_data: Batch = None) -> None:
    if not 1 <= num_steps < 2**31 or eval_every < 1:
        raise InputError(f"num_steps must be from 1 to 2³¹ - 1 and eval_every at least 1, got {num_steps} and {eval_every}")
    if eval_data is not None:
        _check_rows("eval_data", eval_data)
    if data is None:
        if batch_size is not None:
            raise InputError(f"batch_size {batch_size} without data: a learner that makes its own data has no batch size")
        return
    _check_rows("data", data)
    if eval_data is not None:
        _check_alike(data, eval_data)
    if batch_size is not None and not 1 <= batch_size <= num_examples(data):
        raise InputError(f"batch_size must be from 1 to the number of examples, {num_examples(data)}, got {batch_size}")


def _check_rows(what: str, data: Batch) -> None:
    rows = {jax.tree_util.keystr(path): np.shape(leaf)[:1] for path, leaf in jax.tree_util.tree_leaves_with_path(data)}
    if len(set(rows.values())) != 1 or () in rows.values() or (0,) in rows.values():
        raise InputError(f"the arrays of {what} must share one leading axis with at least one example, got {rows}")


def _check_alike(data: Batch, eval_data: Batch, what: str = "data") -> None:
    """Raise `InputError` unless `eval_data` has every array of `data`, alike but for the first axis; it may have more of them."""
    found = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(eval_data)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        name = jax.tree_util.keystr(path)
        if name not in found:
            raise InputError(f"eval_data has no array {name} as {what} has, it has {', '.join(found)}")
        shapes = [np.shape(array) for array in (found[name], leaf)]
        dtypes = [jnp.result_type(array) for array in (found[name], leaf)]
        if shapes[0][1:] != shapes[1][1:]:
            raise InputError(
                f"eval_data{name} has the shape {shapes[0]}, that of {what} {shapes[1]}; they must agree but for the first axis"
            )
        if _kind(dtypes[0]) != _kind(dtypes[1]):
            raise InputError(f"eval_data{name} is {dtypes[0]}, that of {what} {dtypes[1]}; they must both be integers, or both floats")


def _kind(dtype: Any) -> Any:
    """Integers of all sizes are one kind, floats another."""
    return next((kind for kind in (jnp.integer, jnp.floating) if jnp.issubdtype(dtype, kind)), dtype)
