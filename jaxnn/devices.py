"""Many devices: how processes find each other, meshes, and the ways of arrays between host and devices.

On one machine `mesh()` is all that is needed. Where a job runs on several, each machine runs the same program as a process
of its own: `initialize()` comes first, `mesh()` then has the devices of all of them, and each process computes its share.
"""

import importlib.util
import os
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from jaxnn import rollcall
from jaxnn.leaves import bits, is_key
from jaxnn.types import InputError, PyTree

LAUNCHERS = {
    "SLURM": ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri"),
    "MPI": ("PMI_SIZE", "PMI_RANK", "no variable"),
}
"""What tells a process how many there are, which of them it is, and (to JAX) where process 0 is to be found."""


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout_seconds: int = 300,
    heartbeat_seconds: int = 100,
) -> None:
    """Join the other processes of this job, before the first computation. Nothing happens where it is a single process.

    `coordinator`, "host:port" on the machine of process 0, needs to be given where neither SLURM, MPI nor a TPU pod tells it;
    number and id of the process where none of them started it. After `timeout_seconds` it is an `InputError` that processes
    are missing, or that the coordinator is; JAX ends all processes when one of them gives no sign of life for `heartbeat_seconds`.
    """
    if jax.distributed.is_initialized():
        return
    launcher = next((name for name, (count, *_) in LAUNCHERS.items() if int(os.environ.get(count, "1")) > 1), None)
    explicit = _explicit(coordinator, num_processes, process_id, launcher)
    settings: dict[str, Any] = {"initialization_timeout": timeout_seconds, "heartbeat_timeout_seconds": heartbeat_seconds}
    if explicit is None:
        settings |= _how_to_detect(launcher)
    elif explicit[1] == 1:
        return
    else:
        rollcall.meet(*explicit, timeout_seconds)
        settings |= dict(zip(("coordinator_address", "num_processes", "process_id"), explicit, strict=True))
    try:
        jax.distributed.initialize(**settings)
    except ValueError as error:
        if explicit or launcher or "coordinator_address" not in str(error):
            raise InputError(f"the processes of this job cannot meet: {error}") from error  # else: JAX finds no cluster
    except RuntimeError as error:
        late: object = "initialize() must come before the first computation" if "before any JAX calls" in str(error) else error
        if late is not error and not explicit and not launcher and jax.default_backend() != "tpu":
            return  # nobody started several processes
        raise InputError(f"the processes of this job cannot meet: {late}") from error


def _explicit(
    coordinator: str | None, num_processes: int | None, process_id: int | None, launcher: str | None
) -> tuple[str, int, int] | None:
    """The three values, number and id from the launcher where only the coordinator is given; None where none is."""
    if launcher and coordinator is not None:
        count, rank, _ = LAUNCHERS[launcher]
        num_processes = int(os.environ[count]) if num_processes is None else num_processes
        process_id = int(os.environ[rank]) if process_id is None and rank in os.environ else process_id
    if coordinator is not None and num_processes is not None and process_id is not None:
        return coordinator, num_processes, process_id
    values = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    given, missing = ([name for name, value in values.items() if (value is None) == absent] for absent in (False, True))
    if given:
        raise InputError(f"{' and '.join(given)} without {' and '.join(missing)}: give all three, or none under SLURM, MPI or on a TPU pod")
    return None


def _how_to_detect(launcher: str | None) -> dict[str, Any]:
    """How JAX is to find the coordinator by itself; an `InputError` where it cannot."""
    if launcher is None or LAUNCHERS[launcher][2] in os.environ:
        return {}
    count, rank, _ = LAUNCHERS[launcher]
    if launcher == "SLURM":
        raise InputError(f"SLURM gave this job {os.environ[count]} tasks, but did not start this process as one of them: run it by srun")
    if importlib.util.find_spec("mpi4py"):
        return {"cluster_detection_method": "mpi4py"}
    started = f"{launcher} started {os.environ[count]} processes, this is number {os.environ.get(rank)}"
    raise InputError(
        f"{started}, but not where they are to meet: give a coordinator, host:port on the machine of process 0, or install mpi4py"
    )


def mesh(axis: str = "data", devices: int | None = None) -> Mesh:
    """All devices of all processes along one axis, or the first so many of a single process."""
    found = jax.devices()
    count = len(found) if devices is None else devices
    if not 1 <= count <= len(found):
        raise InputError(f"devices must be from 1 to {len(found)}, the number of {found[0].platform} devices here, got {devices}")
    if count < len(found) and jax.process_count() > 1:
        raise InputError(f"{devices} of {len(found)} devices: of several processes all devices take part")
    return jax.make_mesh((count,), (axis,), axis_types=(jax.sharding.AxisType.Auto,), devices=found[:count])


def several_processes(mesh: Mesh | None) -> bool:
    """Whether devices of more than one process are in the mesh."""
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def replicated(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays that every device of the mesh has whole. Raises `InputError` where processes bring different ones."""
    return placed(tree, NamedSharding(mesh, P()))


def placed(tree: PyTree, sharding: Sharding) -> PyTree:
    """Arrays with this sharding, from host arrays of the whole value (the same on every process), or from arrays on devices.

    They may share memory with those of `tree`: what is to be donated is copied first. Raises `InputError` where processes differ.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    _check_same(tree)
    return jax.tree.map(lambda leaf: _placed_by_all(leaf, sharding), tree)


def _placed_by_all(leaf: Any, sharding: Sharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if is_key(leaf):
        return jax.random.wrap_key_data(_placed_by_all(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _check_same(tree: PyTree) -> None:
    """JAX believes without a look that all processes bring the same values; data read twice, or a key made of the time, may differ."""
    local = [(path, x) for path, x in jax.tree_util.tree_leaves_with_path(tree) if getattr(x, "is_fully_addressable", True)]
    if not local:
        return
    sums = [zlib.crc32(np.asarray(bits(x)).tobytes()) for _, x in local]
    for (path, x), column in zip(local, _of_all(sums).T, strict=True):
        if (column != column[0]).any():
            other = int(np.argmax(column != column[0]))
            raise InputError(
                f"process {other} brings another {jax.tree_util.keystr(path)} {np.shape(x)} than process 0: they must be equal"
            )


def to_host(tree: PyTree) -> PyTree:
    """NumPy arrays of the whole value, random keys as they are, on every process. All that share the arrays must call it."""

    def leaf(x: Any) -> Any:
        if is_key(x):
            return jax.random.wrap_key_data(leaf(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(leaf, tree)


def of_first(values: Sequence[float | int], mesh: Mesh | None) -> Float[np.ndarray, "n"]:
    """The numbers as process 0 has them, on every process of the mesh: a clock, say, which each host reads otherwise."""
    return _of_all(values)[0] if several_processes(mesh) else np.asarray(values, float)


def agreed(values: Sequence[float | int], mesh: Mesh | None) -> Float[np.ndarray, "n"]:
    """The largest of each number over the processes of the mesh: a 1 for a request to stop, say, which reaches one of them."""
    return _of_all(values).max(0) if several_processes(mesh) else np.asarray(values, float)


def everywhere(here: bool) -> bool:
    """Whether it holds on every process there is. All of them must call it."""
    return here if jax.process_count() == 1 else bool(_of_all([here]).all())


def text_of_first(text: str) -> str:
    """What process 0 says, on every process."""
    if jax.process_count() == 1:
        return text
    said = np.frombuffer(text.encode().ljust(4096, b"\0"), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(said)).tobytes().rstrip(b"\0").decode()


def _of_all(values: Sequence[float | int]) -> Float[np.ndarray, "processes n"]:
    """Every process's numbers. They travel as bits: JAX by itself would round them to float32."""
    bits = np.asarray(values, np.float64).view(np.uint32)
    return np.ascontiguousarray(multihost_utils.process_allgather(bits)).view(np.float64)
