"""Two processes train one net together; one of them is killed. The other ends, and both go on from what they had saved."""

import time

import jax
import numpy as np
import pytest

from jaxnn.checkpoint import restore, steps
from tests import processes
from tests.faults import victim

CODE = """
import sys
import numpy as np
from jaxnn import loop
from jaxnn.checkpoint import Checkpoints
from tests.faults import victim
loop.CHUNK_SECONDS = 0.05
mesh = devices.mesh()
run = victim.train(Checkpoints({folder!r}, every=0.3), num_steps={steps}, mesh=mesh)
print("digest", victim.digest(run))
"""
STEPS = 60


def start(folder, tmp_path, number_of_steps=STEPS):
    (tmp_path / f"logs-{folder}").mkdir(exist_ok=True)
    code = CODE.format(folder=str(tmp_path / folder), steps=number_of_steps)
    return processes.start(code, tmp_path / f"logs-{folder}", heartbeat=5)


def digests(job):
    return {line for output in job.wait() for line in output.splitlines() if line.startswith("digest")}


def test_one_of_two_processes_is_killed(tmp_path):
    whole = start("whole", tmp_path)
    (expected,) = digests(whole)

    kept, job = tmp_path / "kept", start("kept", tmp_path)
    began = time.monotonic()
    while not any(steps(kept)) and time.monotonic() - began < 60:
        time.sleep(0.01)
    job.processes[1].kill()
    job.processes[1].wait()
    try:
        assert job.processes[0].wait(60) != 0, job.output()  # it does not wait for the dead
    finally:
        job.kill()
    at = steps(kept)[-1]
    assert 0 < at < STEPS

    (found,) = digests(start("kept", tmp_path))
    assert found == expected

    digits = {"image": np.zeros((20, 28, 28, 1), np.uint8), "label": np.zeros(20, np.int32)}
    saved = restore(kept, jax.eval_shape(victim.learner().init, jax.random.key(0), digits))  # by one process: every block verifies
    assert saved.step == STEPS
    alone = victim.train(None, num_steps=STEPS)
    for ours, theirs in zip(jax.tree.leaves(saved.state), jax.tree.leaves(alone.state), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.fixture(autouse=True)
def _few_files(monkeypatch):
    monkeypatch.delenv("JAXNN_DATA", raising=False)
