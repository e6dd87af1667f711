"""Several `jax.distributed` processes on this machine, each with a few fake devices: for tests of what happens over many hosts.

job = processes.start("print(jax.process_index())", tmp_path)
first, second = job.wait()
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PREAMBLE = """import jax
from jaxnn import devices
devices.initialize("127.0.0.1:{port}", {count}, {number}, timeout_seconds=60, heartbeat_seconds={heartbeat})
"""


class Job(NamedTuple):
    processes: list[subprocess.Popen]
    logs: list[Path]

    def wait(self, seconds: float = 120) -> list[str]:
        """What each process printed. The test fails, showing all that was printed, if one takes too long or exits not with 0."""
        try:
            for process in self.processes:
                process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"not done after {seconds} seconds\n{self.output()}")
        finally:
            self.kill()
        if any(process.returncode for process in self.processes):
            pytest.fail(self.output())
        return [log.read_text() for log in self.logs]

    def kill(self) -> None:
        """End those that still run."""
        for process in self.processes:
            process.kill()
            process.wait()

    def output(self) -> str:
        pairs = zip(self.processes, self.logs, strict=True)
        return "\n".join(f"--- process {i}, exit code {p.poll()}\n{log.read_text()}" for i, (p, log) in enumerate(pairs))


def start(code: str, folder: Path, *, count: int = 2, devices: int = 2, heartbeat: int = 100) -> Job:
    """Run `code` in each of `count` processes, which have met; `jax` and `jaxnn.devices` are imported.

    What they compile, later jobs in folders beside this one find.
    """
    port, logs = free_port(), [folder / f"{number}.log" for number in range(count)]
    flags = f"{own_flags()} --xla_force_host_platform_device_count={devices}"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **cache, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    running = []
    for number, log in enumerate(logs):
        command = [sys.executable, "-u", "-c", PREAMBLE.format(port=port, count=count, number=number, heartbeat=heartbeat) + code]
        with log.open("w") as file:
            running.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=environment))
    return Job(running, logs)


def own_flags() -> str:
    """This process's XLA_FLAGS without its number of fake devices: what another needs to compile the same programs."""
    return " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
