"""An experiment over two processes leaves one record, and keeps its work in one folder."""

import pytest

from experiments import together
from jaxnn import devices
from jaxnn.record import load_run
from jaxnn.types import InputError
from tests import processes

EXPERIMENT = """'What several processes do.'
import jax
from tests.experiments import test_command


def run(config, keep):
    print("keeps in", keep.checkpoint("a part").folder)
    print("made", keep.part("b", lambda: {"x": 3 + jax.process_index()})["x"])
    return test_command.run(config, keep)
"""
CODE = """
import shared
from experiments import command
from tests.experiments import test_command
arguments = ["--results", "results", "--distributed", "auto"]
assert command.execute(test_command.Config, shared.run, test_command.plot, arguments) == 0
"""


def test_two_processes_leave_one_record(tmp_path):
    (tmp_path / "shared.py").write_text(EXPERIMENT)
    first, second = processes.start(CODE, tmp_path).wait()
    (folder,) = {line for line in (first + second).splitlines() if line.startswith("keeps in")}
    assert "made 3" in first
    assert "made 4" in second
    (recorded,) = (tmp_path / "results" / "shared").glob("*Z-*")
    said = f"results/shared/{recorded.name}"  # the folder that keeps may have the same name, within a second
    assert said in first.splitlines()
    assert said not in second.splitlines()
    assert load_run(recorded).meta["command"].endswith(".shared")
    assert not (tmp_path / "results" / "shared" / "unfinished").exists()
    assert "unfinished" in folder


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("no", None),
        ("auto", (None,)),
        ("node1:29500", ("node1:29500",)),
        ("node1:29500/8/3", ("node1:29500", 8, 3)),
    ],
)
def test_the_flag_says_where_to_meet(monkeypatch, flag, expected):
    calls = []
    monkeypatch.setattr(devices, "initialize", lambda *arguments: calls.append(arguments))
    together.join(flag)
    assert calls == ([] if expected is None else [expected])


@pytest.mark.parametrize("flag", ["node1:29500/8", "node1:29500/8/x", "node1:29500/8/1/2"])
def test_half_a_flag_is_an_error_in_words(flag):
    with pytest.raises(InputError, match=f"--distributed must be no, auto, HOST:PORT or HOST:PORT/PROCESSES/ID.*got '{flag}'"):
        together.join(flag)
