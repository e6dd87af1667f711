"""All tests run on eight fake CPU devices, with JAX's strictest checks, with the shapes in signatures checked, and compile quickly.

Nearly every program of the tests runs for milliseconds and would be optimised for seconds. Where a test is about what the optimiser makes
of a program, or computes for long, it asks for the fixture `optimised`.
"""

import os
import sys
import tempfile
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the processes that tests start, too
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if version("jaxlib").startswith("0.10."):  # fused operations without MLIR: compiled in half the time; later releases know no other way
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
if sys.dont_write_bytecode:  # each process that tests start would compile all modules anew; so those of this run share what they compile
    BYTECODE = tempfile.TemporaryDirectory(prefix="jaxnn-bytecode-")
    os.environ.update(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=BYTECODE.name)

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
install_import_hook("jaxnn", "beartype.beartype")


# Files that take longest, by their one run or their processes; they go first, so that no worker is left alone with one at the end.
LONGEST = (
    "tests/faults/",
    "tests/experiments/test_vanishing_gradient.py",
    "tests/test_train.py",
    "tests/benchmarks/",
    "tests/test_devices.py",
    "tests/test_docs.py",
    "tests/test_checkpoint.py",
    "tests/experiments/",
)


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of the most tests


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: next((at for at, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST)))


@pytest.fixture
def optimised():
    """Programs are compiled as those of users are. What is compiled already would be taken as it is, hence forgotten."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
