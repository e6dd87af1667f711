"""How much a device has, and how much a sweep needs, without compiling it."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxnn import devices, program
from jaxnn.members import Keys, Members
from jaxnn.types import Batch

FIXED_BYTES = 2 * (program.METRICS_BYTES + program.GATHER_BYTES)
"""What a chunk may keep, however many members it has, and a copy."""
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_bytes(mesh: Mesh | None) -> float:
    """Of the device that has the least of it; infinite where none tells. Fake CPU devices share the machine's evenly."""
    mine = [d for d in mesh.devices.flat if d.process_index == jax.process_index()] if mesh is not None else jax.local_devices()[:1]
    told = [device.memory_stats() or {} for device in mine]
    free = min(stats.get("bytes_limit", math.inf) - stats.get("bytes_in_use", 0) for stats in told)
    if mine[0].platform == "cpu":
        free = _free_on_host() / len(mine)
    return -float(devices.agreed([-free], mesh)[0])


def _free_on_host() -> float:
    """What Linux calls available, within what a job may use; infinite on other systems."""
    try:
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        available = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return math.inf
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return available if limit == "max" else min(available, float(limit) - float(used))
    except (OSError, ValueError):
        return available


def members_that_fit(members: Members, points: dict, keys: Keys, data: Batch, batch_size: int | None, eval_data: Batch) -> int:
    """How many of these members the devices hold at once; all of them where no device tells what it has."""
    count, free = math.prod(members.lead), free_bytes(members.mesh)
    if count == 1 or math.isinf(free):
        return count
    needed = bytes_needed(members, points, keys, data, batch_size, eval_data)
    return count if FIXED_BYTES + needed <= free else max(1, int(count * max(0.0, free - FIXED_BYTES) / needed))


def bytes_needed(members: Members, points: dict, keys: Keys, data: Batch, batch_size: int | None, eval_data: Batch) -> int:
    """An upper bound, on each device: the states and a copy, and all that a step or an evaluation computes, as if nothing were freed."""
    example = program.first_batch(data, batch_size)
    states = program.init_shapes(members, points, keys, example)
    step = members.lift(lambda learner, keys, state, batch: learner.step(keys.step, state, batch))
    computed = _bytes_computed(jax.make_jaxpr(step)(points, keys, states, example).jaxpr)
    if eval_data is not None:
        traced = jax.make_jaxpr(lambda *args: program.evaluate.function(members, *args))(points, keys, states, eval_data, np.int32(0))
        computed = max(computed, _bytes_computed(traced.jaxpr))
    share = math.prod(members.here) / math.prod(members.lead)
    return int(2 * share * sum(_bytes(leaf) for leaf in jax.tree.leaves(states))) + computed


def _bytes_computed(jaxpr: Any) -> int:
    """The sizes of all values that a program computes; of a loop's body, those of one round."""
    total = 0
    for equation in jaxpr.eqns:
        parts = [part for value in equation.params.values() for part in (value if isinstance(value, tuple | list) else [value])]
        bodies = [body for body in (getattr(part, "jaxpr", part) for part in parts) if hasattr(body, "eqns")]
        total += sum(map(_bytes_computed, bodies))
        if not bodies or equation.primitive.name == "scan":  # which stacks what its rounds give
            total += sum(_bytes(variable.aval) for variable in equation.outvars)
    return total


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize
