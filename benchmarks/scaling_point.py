"""One point of `benchmarks.scaling`, in a process of its own: its peak memory is no other point's, and it may have fake devices.

`python -m benchmarks.scaling_point '{"width": 4, ...}'` prints what it measured as JSON, on its last line.
"""

import ctypes
import dataclasses
import gc
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ONLY_WHAT_IS_NEEDED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Of a GPU's memory: two processes share it here."""
OPERATIONS_A_SECOND = 3e9
"""A guess, for how many steps to take at first."""


@dataclass(frozen=True)
class Point:
    """What to run: `width` nets of `depth` hidden layers, on batches of `batch` of `data` images, over `devices`."""

    width: int
    batch: int
    depth: int
    data: int
    devices: int
    share: str
    """`members`: each device trains some of the nets; `rows`: each works on some rows of every batch (of one net)."""
    units: int
    """A hidden layer."""
    seconds: float
    """That each timed run is to last, about."""
    repeats: int
    platform: str
    precision: str = "highest"

    @property
    def step_seconds(self) -> float:
        """A guess from the operations of forward and backward pass."""
        layers = 784 * self.units + (self.depth - 1) * self.units**2 + 10 * self.units
        return 5e-5 + 6 * layers * self.batch * self.width / OPERATIONS_A_SECOND


def in_own_process(point: Point) -> dict[str, Any]:
    """Measure a point; a TPU, which serves one process, in this one. Raises `subprocess.CalledProcessError` with what a process said."""
    if point.platform == "tpu":
        return measure(point)
    environment: dict[str, str] = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if point.platform == "cpu":
        flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
        environment["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={point.devices}"])
    environment |= ONLY_WHAT_IS_NEEDED
    command = [sys.executable, "-m", "benchmarks.scaling_point", json.dumps(dataclasses.asdict(point))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measure(point: Point) -> dict[str, Any]:
    """Seconds of a step (repeats,), seconds of compilation, and bytes: the device's peak, or the data and what training adds at most."""
    import jax

    from benchmarks.race import ours

    data = images(point)
    contestant = ours(prepared(point, data), 1, point.step_seconds)(point.seconds)
    before = resident_afresh()
    step_seconds = [1 / contestant.rate() for _ in range(point.repeats)]
    told = [device.memory_stats() or {} for device in jax.local_devices()[: point.devices]]
    of_device = all("peak_bytes_in_use" in stats for stats in told)
    memory = (
        max(stats["peak_bytes_in_use"] for stats in told)
        if of_device
        else resident("VmHWM") - before + sum(x.nbytes for x in jax.tree.leaves(data))
    )
    return {"step_seconds": step_seconds, "compile_seconds": contestant.compile_seconds, "bytes": memory, "of_device": of_device}


def images(point: Point) -> Any:
    """Random images as large as MNIST's, on the device: what is in them costs nothing."""
    import jax
    import numpy as np

    generator = np.random.default_rng(0)
    label = generator.integers(0, 10, point.data).astype(np.int32)
    return jax.device_put({"image": generator.integers(0, 256, (point.data, 28, 28, 1), dtype=np.uint8), "label": label})


def prepared(point: Point, data: Any) -> Any:
    """`run(num_steps)`, a `fit` or a `sweep`."""
    import jax
    import numpy as np
    import optax

    from jaxnn import devices, losses
    from jaxnn.learners import supervised
    from jaxnn.models import MLP, functional
    from jaxnn.train import fit, sweep

    model = functional(MLP((point.units,) * point.depth + (10,)))

    def learner(learning_rate: Any) -> Any:
        return supervised(*model, losses.softmax_cross_entropy_with_integer_labels, optax.sgd(learning_rate))

    mesh = devices.mesh(devices=point.devices) if point.devices > 1 else None
    shared: dict[str, Any] = {"batch_size": point.batch, "mesh": mesh, "label": None}
    if point.share == "rows":
        alone = learner(0.01)
        return lambda steps: fit(alone, jax.random.key(0), data, num_steps=steps, **shared)
    rates = {"learning_rate": np.geomspace(1e-3, 1e-1, point.width)}
    return lambda steps: sweep(learner, jax.random.key(0), data, seeds=1, axes=rates, num_steps=steps, at_once=10**9, **shared)


def resident(name: str) -> float:
    """VmRSS or VmHWM of this process in bytes; NaN where the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return 1024.0 * int(lines[name].split()[0])
    except (OSError, KeyError):
        return float("nan")


def resident_afresh() -> float:
    """What the process holds now that the compiler's leavings are returned; its peak is counted from here on."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only the GNU C library keeps them
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def main() -> None:
    import jax

    point = Point(**json.loads(sys.argv[1]))
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(point.platform, point.platform))
    jax.config.update("jax_default_matmul_precision", point.precision)
    print(json.dumps(measure(point)))


if __name__ == "__main__":
    main()
