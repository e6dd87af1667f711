"""Digits small enough for a smoke test, and JAX's settings as they were."""

import jax
import numpy as np
import pytest

from experiments import command
from jaxnn.data import Dataset, Source

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_default_matmul_precision",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_platforms",
)


@pytest.fixture
def digits(monkeypatch):
    """60 random images of 8 × 8 in place of every split of every data set."""
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8),
        "label": rng.integers(0, 10, 60).astype(np.int32),
    }
    source = Source("test", "random", "train", "memory", "0", 60)
    monkeypatch.setattr(command, "load_digits", lambda digits, split: Dataset(arrays, source))
    return arrays


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """`command.use_platform` sets JAX up for a whole process; here it is one of many tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = {name: jax.config._read(name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
