"""What the loop compiles: chunks of steps, of one learner alone or of all members of a sweep.

The length of a chunk is a traced number, so one program serves chunks of every length. A chunk gathers the rows of many
steps at once and slices them step by step: a small net's step takes half the time of one that gathers its own rows.
"""

import math
import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.members import Alone, Keys, Members
from jaxnn.shuffle import permutation
from jaxnn.types import Batch, InputError, Learner, Metrics, PyTree, num_examples

GATHER_BYTES = 32 * 2**20
"""The rows that are gathered at once, those of all members of a sweep together."""
METRICS_BYTES = 32 * 2**20
"""The metrics that a chunk keeps on the device, those of all members of a sweep together."""
CHUNK_STEPS = 4096
SMALL_BATCH = 32
"""Up to so many rows a step, seeds run one after the other on a CPU, if the states of all members exceed CACHE_BYTES."""
CACHE_BYTES = 2**20
"""What a CPU core keeps close. 3 seeds × 16 rates of [784,30,30,10], 5 MB, take 55 µs a model-step so at batch 10, all at once 78."""
EVALUATION_ROWS = 4096
"""Rows that are evaluated at once, those of all members of a sweep together."""
MEMBER_ROWS = 256
"""But at least so many of each member: 48 nets of [784,30,30,10] evaluate in half the time that 85 rows of each take."""


class Plan(NamedTuple):
    """The static numbers of a chunk."""

    batch_size: int | None
    """None takes all data in every step."""
    capacity: int
    """Steps that its metrics have room for."""
    block: int
    """Steps whose rows are gathered at once."""


def plan(members: Alone | Members, points: dict, keys: Keys, data: Batch, batch_size: int | None, eval_every: int) -> Plan:
    """As many steps a chunk as METRICS_BYTES holds, as many a block as GATHER_BYTES, and an epoch in equal blocks."""
    example = first_batch(data, batch_size)

    bytes_a_step = _bytes(check_step(members, points, keys, example))
    capacity = max(1, min(eval_every, CHUNK_STEPS, METRICS_BYTES // max(1, bytes_a_step)))
    if batch_size is None or batch_size == num_examples(data):
        return Plan(None, capacity, 0)
    per_epoch = num_examples(data) // batch_size
    block = max(1, min(per_epoch, capacity, GATHER_BYTES // max(1, _bytes(example) * members.gathers)))
    return Plan(batch_size, capacity, math.ceil(per_epoch / math.ceil(per_epoch / block)))


def check_step(members: Alone | Members, points: dict, keys: Keys, example: Batch) -> PyTree:
    """The shapes of a step's metrics, nothing computed. Raises `InputError` for a step that breaks the learner's contract."""

    def metrics_of_a_step(learner: Learner, keys: Keys, _: None, example: Batch) -> Metrics:
        before = learner.init(keys.init, example)
        after, metrics = learner.step(keys.step, before, example)
        _check_contract(before, after, metrics)
        return metrics

    return jax.eval_shape(members.lift(metrics_of_a_step), points, keys, None, example)


def _check_contract(before: Any, after: Any, metrics: Any) -> None:
    """Raise `InputError` where a step does not keep its state's tree, shapes and dtypes, or its metrics are not flat."""
    trees = [str(jax.tree.structure(state)) for state in (before, after)]
    if trees[0] != trees[1]:
        raise InputError(f"step must keep the tree of the state: {trees[0]} became {trees[1]}")
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        kinds = [f"{jnp.result_type(x)}{jnp.shape(x)}" for x in (old, new)]
        if kinds[0] != kinds[1]:
            raise InputError(f"step must keep shapes and dtypes: state{jax.tree_util.keystr(path)} was {kinds[0]} and became {kinds[1]}")
    if not isinstance(metrics, dict) or not all(isinstance(value, jax.Array) for value in metrics.values()):
        raise InputError(f"the metrics of a step must be a flat dict of arrays, got {metrics}")


YNN = "xla_cpu_experimental_ynn_fusion_type"


class Compiled:
    """`jax.jit` with the options of the backend at hand, which is asked for at the first call: nothing is looked for at import."""

    def __init__(self, function: Callable, options: Callable[[str], dict[str, Any]], **how: Any) -> None:
        self.function = function
        self._on = cache(lambda backend: jax.jit(function, compiler_options=options(backend), **how))

    @property
    def jitted(self) -> Any:
        return self._on(jax.default_backend())

    def __call__(self, *args: Any) -> Any:
        return self.jitted(*args)


def unoptimised(backend: str) -> dict[str, Any]:
    """For what runs once: on XLA:CPU to optimise the random numbers' code takes seconds and saves milliseconds."""
    return {"xla_backend_optimization_level": 0} if backend == "cpu" else {}


def quick(backend: str) -> dict[str, Any]:
    """On a CPU, convolutions by Eigen. YNNPACK, XLA's choice from 17 maps on, is as quick alone, and slower inside a large program.

    `python -m benchmarks.throughput --only resnet20 --seconds 2`, two cores: 4.8 steps a second with it (INDIVIDUAL_CONVOLUTION in the list
    below, by XLA_FLAGS), 5.9 without. XLA_FLAGS that name the option have the last word, and an XLA that does not know it goes its own way.
    """
    if backend != "cpu" or YNN in os.environ.get("XLA_FLAGS", ""):
        return {}
    without = {YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
    try:
        jax.jit(lambda: 0, compiler_options=without).lower().compile()
    except (ValueError, jax.errors.JaxRuntimeError):
        return {}
    return without


# The compiled programs. Static arguments are compared by identity: the same learner compiles once in a process.


def prefers_one_seed_at_a_time(members: Members, points: dict, keys: Keys, data: Batch, batch_size: int | None) -> bool:
    """Whether these members, all at once, would fall out of a CPU's cache at every step. Seeds share no rows to make up for it."""
    if jax.default_backend() != "cpu" or batch_size is None or batch_size > SMALL_BATCH:
        return False
    return _bytes(init_shapes(members, points, keys, first_batch(data, batch_size))) > CACHE_BYTES


def init_shapes(members: Alone | Members, points: dict, keys: Keys, example: Batch) -> Any:
    """The shapes, dtypes and shardings of that state, without computing it."""
    shapes = jax.eval_shape(partial(init.function, members), points, keys, example)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=members.state_sharding), shapes)


@partial(Compiled, options=unoptimised, static_argnums=0)
def init(members: Alone | Members, points: dict, keys: Keys, example: Batch) -> Any:
    """The state of every member before step 0."""
    return members.keep_whole(members.lift(lambda learner, keys, _, example: learner.init(keys.init, example))(points, keys, None, example))


@partial(Compiled, options=quick, static_argnums=(0, 1), donate_argnums=4)
def advance(
    members: Alone | Members, plan: Plan, points: dict, keys: Keys, state: Any, data: Batch, begin: jax.Array, end: jax.Array
) -> tuple[Any, Metrics]:
    chunk = lambda learner, keys, state, shared: _chunk(members, learner, plan, keys, state, *shared)  # noqa: E731
    return members.lift(chunk)(points, keys, state, (data, begin, end))


@partial(Compiled, options=quick, static_argnums=0, donate_argnums=2)
def one_step(alone: Alone, keys: Keys, state: Any, batch: Batch, t: jax.Array) -> tuple[Any, Metrics]:
    """Step t alone, on a batch that the host brings."""
    return alone.keep_whole(alone.learner.step(jax.random.fold_in(keys.step, t), state, batch))


@partial(Compiled, options=quick, static_argnums=0)
def evaluate(members: Alone | Members, points: dict, keys: Keys, state: Any, data: Batch, step: jax.Array) -> Metrics:
    rows = max(MEMBER_ROWS, EVALUATION_ROWS // members.at_once)

    if isinstance(members, Alone) and members.mesh and rows > members.mesh.size:
        rows -= rows % members.mesh.size

    def means(learner: Learner, keys: Keys, state: Any, shared: tuple) -> Metrics:
        data, step = shared
        return members.keep_whole(_means(members, learner, jax.random.fold_in(keys.evaluate, step), state, data, rows))

    return members.lift(means)(points, keys, state, (data, step))


def _chunk(
    members: Alone | Members, learner: Learner, plan: Plan, keys: Keys, state: Any, data: Batch, begin: jax.Array, end: jax.Array
) -> tuple[Any, Metrics]:
    """Steps begin … end-1. Row i of the metrics (capacity, ...) is that of step begin + i; rows past the end are zero."""
    shapes = jax.eval_shape(learner.step, keys.step, state, first_batch(data, plan.batch_size))[1]
    metrics = jax.tree.map(lambda m: jnp.zeros((plan.capacity, *m.shape), m.dtype), shapes)

    def step(t: jax.Array, carry: tuple[Any, Metrics], batch: Batch) -> tuple[Any, Metrics]:
        state, metrics = carry
        state, new = members.keep_whole(learner.step(jax.random.fold_in(keys.step, t), state, members.share_rows(batch)))
        return state, jax.tree.map(lambda rows, m: lax.dynamic_update_index_in_dim(rows, m, t - begin, 0), metrics, new)

    if plan.batch_size is None:
        data = members.share_rows(data)
        return lax.fori_loop(begin, end, lambda t, carry: step(t, carry, data), (state, metrics))
    return _over_batches(members, step, plan.batch_size, plan.block, keys.shuffle, (state, metrics), data, begin, end)


def _over_batches(
    members: Alone | Members,
    step: Callable,
    batch_size: int,
    block: int,
    key: jax.Array,
    carry: Any,
    data: Batch,
    begin: jax.Array,
    end: jax.Array,
) -> Any:
    """step(t, carry, batch) for the shuffled batches of begin … end-1, with the rows of one block of steps gathered at a time.

    A block ends where its epoch ends, so that it needs one epoch's permutation, which is carried from block to block.
    """
    per_epoch = num_examples(data) // batch_size
    at = partial(lax.dynamic_index_in_dim, keepdims=False)

    def shuffled(epoch: jax.Array) -> jax.Array:
        order = permutation(jax.random.fold_in(key, epoch), num_examples(data))
        past_the_end = jnp.zeros(block * batch_size, order.dtype)  # rows that a block gathers there are never stepped on
        return jnp.concatenate([order[: per_epoch * batch_size], past_the_end])

    def a_block(loop: tuple) -> tuple:
        t, order, carry = loop
        epoch, offset = t // per_epoch, t % per_epoch
        order = lax.cond((offset == 0) & (t > begin), lambda: shuffled(epoch), lambda: order)
        rows = lax.dynamic_slice_in_dim(order, offset * batch_size, block * batch_size).reshape(block, batch_size)
        rows = members.share_rows(rows, axis=1)
        batches = jax.tree.map(lambda x: x.at[rows].get(mode="promise_in_bounds"), data)
        stop = t + jnp.minimum(jnp.minimum(block, per_epoch - offset), end - t)
        carry = lax.fori_loop(t, stop, lambda s, carry: step(s, carry, jax.tree.map(lambda x: at(x, s - t), batches)), carry)
        return stop, order, carry

    return lax.while_loop(lambda loop: loop[0] < end, a_block, (begin, shuffled(begin // per_epoch), carry))[2]


def _means(members: Alone | Members, learner: Learner, key: jax.Array, state: Any, data: Batch, rows: int) -> Metrics:
    """The mean of each per-example metric over all of `data`, `rows` examples at a time."""
    total = num_examples(data)
    size = min(total, rows)
    full, rest = divmod(total, size)

    def sums(index: jax.Array | int, size_here: int) -> Metrics:
        batch = members.share_rows(jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, index * size, size_here), data))
        values = learner.evaluate(jax.random.fold_in(key, index), state, batch)
        if any(jnp.shape(value) != (size_here,) for value in values.values()):
            shapes = {name: jnp.shape(value) for name, value in values.items()}
            raise InputError(f"evaluate must give one value an example, ({size_here},), got {shapes}")
        return jax.tree.map(lambda x: x.astype(float).sum(), values)

    parts = [jax.tree.map(lambda x: x.sum(0), lax.map(lambda i: sums(i, size), jnp.arange(full)))]
    if rest:
        parts.append(sums(full, rest))
    return jax.tree.map(lambda *values: sum(values) / total, *parts)


def first_batch(data: Batch, batch_size: int | None) -> Batch:
    """What a learner's `init` sees: the shapes and dtypes of a batch."""
    return jax.tree.map(lambda x: x[:batch_size], data)


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
