"""A run that was broken off goes on where it stood, with its own config, and nothing of it is lost or mixed with another."""

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import command, unfinished
from experiments.__main__ import entries
from experiments.unfinished import NOTHING, Keep
from jaxnn import record
from jaxnn.interrupt import Interrupted
from jaxnn.manifest import sealed
from jaxnn.types import InputError

ROOT = Path(__file__).parents[2]
MADE = []
"""The parts that were made, not read."""


@dataclass(frozen=True)
class Config:
    parts: tuple[str, ...] = ("a", "b", "c")
    """Parts."""
    scale: float | None = None
    """Scale."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)


class Fault:
    """What breaks the run, before the part of that name."""

    part, error = "", KeyboardInterrupt()


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    history = {}
    for part in config.parts:
        if part == Fault.part:
            raise Fault.error

        def make(part=part):
            MADE.append(part)
            return {"value": np.array(ord(part) * (config.scale or 1.0))}

        history[part] = keep.part(part, make)["value"]
    return command.Outcome(history, {})


def plot(kept: record.Record) -> Mapping[str, Figure]:
    return {}


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command.jax.config, "update", lambda *_: None)
    monkeypatch.setattr(Fault, "part", "")
    MADE.clear()


def execute(tmp_path, *args):
    return command.execute(Config, run, plot, ["--results", str(tmp_path / "results"), *args])


@pytest.fixture
def broken(tmp_path, capsys, monkeypatch):
    """The folder of a run that was interrupted before its last part, at a scale of 2."""
    with monkeypatch.context() as patch:
        patch.setattr(Fault, "part", "c")
        assert execute(tmp_path, "--scale", "2") == 130
    said = capsys.readouterr().err
    assert said.startswith("interrupted\nWhat is finished is kept. Go on with: python -m experiments.test_unfinished --resume ")
    MADE.clear()
    return Path(said.split("--resume ")[1].strip())


def test_the_command_that_is_printed_goes_on_with_the_runs_own_config(tmp_path, broken, capsys):
    assert command.execute(Config, run, plot, ["--resume", str(broken)]) == 0
    kept = record.load_run(capsys.readouterr().out.splitlines()[-1])
    assert MADE == ["c"]
    assert {name: float(value) for name, value in kept.history.items()} == {"a": 194.0, "b": 196.0, "c": 198.0}
    assert kept.config["scale"] == 2
    assert kept.meta["command"] == "python -m experiments.test_unfinished --scale 2"
    assert kept.folder.parent == tmp_path / "results" / "test_unfinished"
    assert not broken.parent.exists()


def test_flags_that_differ_from_the_run_are_shown_and_refused(broken, capsys):
    assert command.execute(Config, run, plot, ["--resume", str(broken), "--scale", "3", "--data", "mnist"]) == 2
    said = capsys.readouterr().err
    assert "another config was asked for than the run's own" in said
    assert '  scale: saved 2.0, now 3.0\n  digits.data: saved "auto", now "mnist"' in said.replace("\n  digits.data", "\n  digits.data")
    assert broken.exists()
    assert MADE == []


def test_auto_goes_on_with_the_newest_of_this_config_or_begins(tmp_path, broken, capsys):
    assert execute(tmp_path, "--resume", "auto") == 0  # another scale: begins
    assert MADE == ["a", "b", "c"]
    assert broken.exists()
    MADE.clear()
    assert execute(tmp_path, "--resume", "auto", "--scale", "2") == 0
    assert MADE == ["c"]
    assert not broken.exists()


def test_a_new_run_of_the_same_config_mentions_the_old_one(tmp_path, broken, capsys):
    assert execute(tmp_path, "--scale", "2") == 0
    assert f"an unfinished run of this config stands in {broken}" in capsys.readouterr().err
    assert broken.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder / "nowhere", "not an unfinished run, it has no run.json"),
        (lambda folder: edited(folder, "{"), "its run.json is broken"),
        (lambda folder: edited(folder, json.dumps({"experiment": "x"})), "its run.json is broken"),
        (lambda folder: edited(folder, json.dumps(sealed({"experiment": "x"}))), "its run.json is broken"),
        (lambda folder: edited(folder, (folder / "run.json").read_text().replace('"scale": 2.0', '"scale": 3.0')), "its sha256 is"),
        (lambda folder: shutil.copytree(folder, folder.parents[3] / "elsewhere"), "it was moved. Move it back to results/test_unfinished/"),
        (lambda folder: with_run(folder, experiment="depth"), "is a run of depth, not of test_unfinished"),
        (
            lambda folder: with_run(folder, config={"parts": [], "rate": 1, "platform": "auto"}),
            "another version's: it differs in the fields",
        ),
    ],
)
def test_what_cannot_be_resumed_is_said_in_words(broken, capsys, change, message):
    assert command.execute(Config, run, plot, ["--resume", str(change(broken))]) == 2
    assert message in capsys.readouterr().err
    assert MADE == []


def edited(folder, text):
    (folder / "run.json").write_text(text)
    return folder


def with_run(folder, **fields):
    return edited(folder, json.dumps(sealed({**unfinished.read(folder), **fields})))


def test_the_record_of_a_finished_run_is_no_unfinished_run(tmp_path, capsys):
    assert execute(tmp_path) == 0
    assert command.execute(Config, run, plot, ["--resume", capsys.readouterr().out.splitlines()[-1]]) == 2
    assert "it is the record of a finished run" in capsys.readouterr().err


def test_a_broken_part_is_made_again_and_said(broken, capsys):
    (broken / "parts" / "a.npz").write_bytes(b"PK")
    assert command.execute(Config, run, plot, ["--resume", str(broken)]) == 0
    assert "warning: the part a of" in capsys.readouterr().err
    assert MADE == ["a", "c"]


def test_a_part_that_was_made_of_other_data_is_not_mixed_in(tmp_path):
    keep = Keep(tmp_path)

    def make():
        return {"value": np.ones(2)}

    made = [keep.part("a", make, {"train": "1234"}), keep.part("a", dict, {"train": "1234"})]
    assert [list(part) for part in made] == [["value"], ["value"]]
    with pytest.raises(InputError, match=r"(?s)the part a of .* was made of other data:\n  train: saved \"1234\", now \"abcd\"\n"):
        keep.part("a", make, {"train": "abcd"})


def test_other_circumstances_are_said_and_recorded(broken, capsys):
    run_before = unfinished.read(broken)
    run_before["environments"][0]["versions"]["numpy"] = "1.0"
    edited(broken, json.dumps(sealed(run_before)))
    assert command.execute(Config, run, plot, ["--resume", str(broken)]) == 0
    out, err = capsys.readouterr()
    assert 'begun under other circumstances; its numbers may differ from an unbroken run\'s:\n  versions.numpy: saved "1.0", now ' in err
    environments = record.load_run(out.splitlines()[-1]).meta["environments"]
    assert [e["versions"]["numpy"] for e in environments] == ["1.0", np.__version__]


def test_two_processes_cannot_go_on_with_one_run(broken, capsys):
    with unfinished.locked_for_this_process(Keep(broken)):
        assert command.execute(Config, run, plot, ["--resume", str(broken)]) == 2
    assert "another process is writing to" in capsys.readouterr().err
    assert broken.exists()


def test_a_run_that_has_kept_nothing_yet_is_not_removed_by_another(tmp_path, capsys):
    other = unfinished.begin(tmp_path / "results", "test_unfinished", command.plain(Config()), "", None)
    with unfinished.locked_for_this_process(other):
        assert execute(tmp_path, "--resume", "auto") == 2
    assert unfinished.read(other.folder)["experiment"] == "test_unfinished"


def test_two_runs_that_begin_in_the_same_second_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self, **_: False)  # as both see it before either has made it
    folders = {unfinished.begin(tmp_path, "test_unfinished", {}, "", None).folder for _ in range(3)}
    assert len(folders) == 3


def test_a_part_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch, capsys):
    write = record.write_bytes

    def full(path, content):
        if path.parent.name == "parts":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(record, "write_bytes", full)
    assert execute(tmp_path) == 0
    assert "the part a could not be written to" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(Interrupted("", signal.SIGTERM), 143), (KeyboardInterrupt(), 130)])
def test_the_exit_code_is_that_of_the_signal(tmp_path, monkeypatch, capsys, error, code):
    monkeypatch.setattr(Fault, "part", "b")
    monkeypatch.setattr(Fault, "error", error)
    assert execute(tmp_path) == code
    assert "--resume" in capsys.readouterr().err


def test_what_has_kept_nothing_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Fault, "part", "a")
    assert execute(tmp_path) == 130
    assert capsys.readouterr().err == "interrupted: nothing was recorded\n"
    assert not list((tmp_path / "results").rglob("*.*"))
    monkeypatch.setattr(Fault, "part", "c")
    assert execute(tmp_path, "--checkpoint-every", "never") == 130
    assert not list((tmp_path / "results").rglob("*.*"))


@pytest.mark.parametrize("every", ["-1", "nan"])
def test_seconds_that_cannot_be(tmp_path, capsys, every):
    with pytest.raises(SystemExit):
        execute(tmp_path, "--checkpoint-every", every)
    assert "must be seconds from 0, auto or never" in " ".join(capsys.readouterr().err.split())


MODULES = [entry.module for folder in ("experiments", "benchmarks") for entry in entries(ROOT / folder)]


@pytest.mark.parametrize("module", MODULES)
def test_every_config_comes_back_from_its_record(module):
    """And so `--resume` serves all experiments and benchmarks."""
    config = import_module(module).Config()
    plain = json.loads(json.dumps(command.plain(config)))
    platform = plain.pop("platform")
    assert unfinished.from_plain(type(config), plain, common=command.Common(platform=platform)) == config


@dataclass(frozen=True)
class Places:
    must: Path = Path("here")
    may: Path | None = None
    name: str | None = "word"


@pytest.mark.parametrize("may", [None, Path("/data/photos")])
def test_a_path_that_may_be_left_out_comes_back_as_a_path(may):
    config = Places(may=may)
    back = unfinished.from_plain(Places, json.loads(json.dumps(record.plain(config))))
    assert (back, type(back.name)) == (config, str)


def test_resume_and_never_exclude_each_other(tmp_path, broken, capsys):
    with pytest.raises(SystemExit):
        execute(tmp_path, "--resume", "auto", "--checkpoint-every", "never")
    assert "leave --checkpoint-every never out" in " ".join(capsys.readouterr().err.split())
    assert broken.exists()
