"""The command line that all experiments share, run in this process on an experiment of three lines."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import command
from experiments.unfinished import NOTHING, Keep
from jaxnn import record
from jaxnn.train import fit
from jaxnn.types import InputError, Learner


@dataclass(frozen=True)
class Config:
    steps: int = 3
    """Steps."""
    bad: str = ""
    """What goes wrong."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, steps=self.steps)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    """It goes wrong in one of the ways that runs do."""
    if config.bad == "input":
        raise InputError("the cause; the remedy")
    if config.bad == "interrupt":
        raise KeyboardInterrupt
    if config.bad == "diverge":
        import jax

        fit(Learner(lambda *_: jnp.zeros(()), lambda k, s, b: (s, {"loss": s / 0}), lambda *_: {}), jax.random.key(0), num_steps=1)
    if config.bad == "bug":
        raise RuntimeError("a bug")
    loss = np.arange(config.steps, dtype=float)
    return command.Outcome({"loss": loss}, {"loss": ("step",)}, [record.compare("the loss", [1.0, 2.0], 1.5)], {"seconds": {"run": 0.5}})


def plot(kept: record.Record) -> Mapping[str, Figure]:
    figure = Figure()
    figure.subplots().plot(kept.history["loss"])
    return {"loss": figure}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command.jax.config, "update", lambda *_: None)  # the platform and the precision of the other tests stay


def execute(tmp_path, *args):
    return command.execute(Config, run, plot, ["--results", str(tmp_path / "results"), *args])


def test_a_run_is_recorded_drawn_tabled_and_its_folder_printed_last(tmp_path, capsys):
    assert execute(tmp_path, "--steps", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    kept = record.load_run(lines[-1])
    assert kept.folder.parent == tmp_path / "results" / "test_command"
    assert sorted(path.name for path in kept.folder.iterdir()) == [
        "config.json",
        "history.csv",
        "history.npz",
        "loss.png",
        "loss.svg",
        "meta.json",
    ]
    assert kept.config == {"steps": 4, "bad": "", "platform": "auto"}
    assert kept.meta["claim"] == "The command line that all experiments share, run in this process on an experiment of three lines."
    assert kept.meta["command"] == "python -m experiments.test_command --steps 4"
    assert kept.meta["seconds"].keys() == {"run", "total"}
    assert lines[-2].split() == ["the", "loss", "1.5", "1.5", "1.05", "…", "1.95", "2"]
    assert str(tmp_path) not in json.dumps(kept.meta)


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        ("input", 2, "error: the cause; the remedy"),
        ("diverge", 1, "error: diverged at step 0: loss is nan"),
        ("interrupt", 130, "interrupted: nothing was recorded"),
    ],
)
def test_what_goes_wrong_is_one_paragraph(tmp_path, capsys, bad, code, message):
    assert execute(tmp_path, "--bad", bad) == code
    assert capsys.readouterr().err.startswith(message)
    assert not list((tmp_path / "results").glob("*/*"))


def test_a_bug_keeps_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        execute(tmp_path, "--bad", "bug")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--stesp", "1"], "--steps"),
        (["--platform", "gpuu"], "'gpu'"),
    ],
)
def test_a_wrong_flag_is_said_with_what_would_be_right(tmp_path, capsys, args, message):
    with pytest.raises(SystemExit) as caught:
        execute(tmp_path, *args)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_results_that_cannot_be_written_stop_the_run_before_it_starts(tmp_path, capsys):
    (tmp_path / "results").write_text("a file")
    assert execute(tmp_path, "--bad", "bug") == 2
    assert "results cannot be written to" in capsys.readouterr().err


def test_a_platform_that_is_not_there_is_an_error_with_a_remedy(monkeypatch):
    def no_backend():
        raise RuntimeError("Unable to initialize backend")

    monkeypatch.setattr(command.jax, "devices", no_backend)
    with pytest.raises(InputError, match=r"--platform gpu: JAX finds no GPU on this machine.*jaxnn\[cuda\].*--platform cpu"):
        command.use_platform("gpu")


@pytest.mark.parametrize("args", [["--results", "here", "--steps", "2"], ["--steps", "2", "--results=here"]])
def test_the_recorded_command_leaves_the_results_folder_out(args):
    assert command._command("experiments.x", args) == "python -m experiments.x --steps 2"
