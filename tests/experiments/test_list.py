"""`python -m experiments` names every experiment, without JAX."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as lister

ROOT = Path(lister.__file__).parents[1]

SOURCE = '''"""A claim.

Source: a paper.

Command: python -m experiments.small --seeds 3        (2 s)
Expected, on two cores: 95 % of the test images, with a spread
of 1 % over seeds.
More of the same.
"""

from experiments import command

if __name__ == "__main__":
    command.main(Config, run, plot)
'''


@pytest.fixture(scope="module")
def printed() -> str:
    """What it prints into a pipe; -S takes the installed packages away, JAX among them."""
    command = [sys.executable, "-S", "-m", "experiments"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True, timeout=30).stdout


def test_every_experiment_is_listed_with_its_command(printed):
    runnable = [
        path for folder in lister.FOLDERS for path in (ROOT / folder).glob("*.py") if "\n    command.main(" in path.read_text("utf-8")
    ]
    assert len(runnable) >= 2
    for path in runnable:
        assert f"    python -m {path.parent.name}.{path.stem}" in printed
    assert "experiments.command" not in printed
    assert "experiments.figures" not in printed


def test_lines_fit_the_terminal(printed):
    for text, width in ((lister.listing(80), 80), (printed, 120)):
        lines = [line for line in text.splitlines() if not line.startswith("    python -m ")]  # a command stays whole
        assert max(map(len, lines)) <= width


def test_an_entry_is_read_from_the_docstring(tmp_path):
    (tmp_path / "small.py").write_text(SOURCE)
    (tmp_path / "helper.py").write_text('"""Not an experiment."""\n')
    name = tmp_path.name
    assert list(lister.entries(tmp_path)) == [
        lister.Entry(
            f"{name}.small",
            "A claim.",
            "python -m experiments.small --seeds 3",
            "2 s",
            "on two cores: 95 % of the test images, with a spread of 1 % over seeds.",
        )
    ]


def test_a_file_without_a_docstring_and_one_that_is_not_python_are_listed_too(tmp_path):
    (tmp_path / "bare.py").write_text("from experiments import command\ncommand.main(1, 2, 3)\n")
    (tmp_path / "torn.py").write_text("def (\n")
    bare, torn = lister.entries(tmp_path)
    assert bare == lister.Entry(f"{tmp_path.name}.bare", command=f"python -m {tmp_path.name}.bare")
    assert torn.claim.startswith("not to be read: line 1")
