"""A fast sample of every fault; `make faults` runs the long form."""

import os
import signal

import numpy as np
import pytest

from jaxnn.checkpoint import Saved
from tests.faults import harness, inputs

# A read of tensorstore that is under way when another one fails finds its event loop closed, and says so nowhere in particular.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def holds(tally):
    assert tally.survived == tally.tried > 0, "\n".join(tally.bad)


def test_killed_while_it_trains_and_saves(rng, tmp_path, optimised):
    holds(harness.kills(1, rng, tmp_path))


def test_a_victim_that_does_not_start_is_no_survivor(rng, tmp_path, monkeypatch):
    python = harness.python
    monkeypatch.setattr(harness, "python", lambda *arguments, **more: python("-c", "raise SystemExit('no victim')"))
    with pytest.raises(AssertionError, match="the victim ended by itself, exit code 1: no victim"):
        harness.kill_once(tmp_path / "kept", rng)


def test_bits_of_a_checkpoint_flipped(rng, tmp_path):
    holds(harness.bit_flips(2, rng, tmp_path))


def test_files_of_a_checkpoint_cut(tmp_path):
    holds(harness.truncations(tmp_path))


def test_files_of_a_checkpoint_deleted(tmp_path):
    holds(harness.deletions(tmp_path))


def test_disk_full(tmp_path):
    holds(harness.disk_full([3000], tmp_path))


def test_a_state_becomes_nan(tmp_path):
    holds(harness.nans([7], tmp_path))


def test_an_experiment_is_told_to_end(tmp_path, optimised):
    holds(harness.signals([signal.SIGTERM], tmp_path))


def test_malformed_data_files(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA", "")
    for tally in inputs.data_files(12, rng, tmp_path, os.environ):
        holds(tally)


def test_malformed_prepared_sets(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA", "")
    for tally in inputs.prepared_files(9, rng, tmp_path / "prepared", os.environ):
        holds(tally)


def test_malformed_records(rng, tmp_path):
    for tally in inputs.record_files(12, rng, tmp_path):
        holds(tally)


def test_malformed_configs(rng, tmp_path):
    holds(inputs.configs(20, rng, tmp_path))


def test_command_lines_that_cannot_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness.command.jax.config, "update", lambda *_: None)  # the platform and the precision of the other tests stay
    holds(harness.command_lines(inputs.FLAGS, tmp_path, lambda: capsys.readouterr().err))


def test_the_harness_sees_what_is_lost(tmp_path, monkeypatch):
    """A reader that verifies nothing lets flipped bits through, and the tally says so."""
    states = harness.pair(tmp_path / "pair")
    assert harness.outcome(tmp_path / "pair", *states) == "harmless"
    changed = {name: np.asarray(values) + 1 for name, values in states[1].items()}
    monkeypatch.setattr(harness.Store, "newest", lambda self, like: Saved(2, changed, {}, None, None))
    assert harness.outcome(tmp_path / "pair", *states) == "other bits, silently"
