"""The page of the lectures holds every row and every erratum, and says truly what holds them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.lectures import PAGE, Row, rows, shown

ROOT = Path(__file__).parents[1]
ROWS = list(rows(PAGE.read_text("utf-8")))
BUILT = {*range(1, 52), 70, 71, 72, 74, *range(76, 111), 157, *range(159, 169)}
"""Rows whose part of the library is built: none of them is open."""


def test_every_row_and_every_erratum_is_there_once():
    assert sorted(int(row.number) for row in ROWS if not row.number.startswith("E")) == list(range(1, 173))
    assert [row.number for row in ROWS if row.number.startswith("E")] == [f"E{number}" for number in range(1, 57)]


def test_every_row_says_what_holds_it_or_that_it_is_open():
    for row in ROWS:
        assert row.says, row
        assert row.links or row.held_by in ("open", "cited") or row.held_by.startswith("cited: "), row


def test_no_row_of_what_is_built_is_open():
    assert not [row.number for row in ROWS if row.held_by == "open" and (row.number.startswith("E") or int(row.number) in BUILT)]


def test_every_link_leads_to_a_file_and_every_test_is_in_it():
    for row in ROWS:
        for label, path in row.links:
            assert (ROOT / path).is_file(), (row.number, path)
            if label.startswith("test_"):
                assert f"def {label}(" in (ROOT / path).read_text("utf-8"), (row.number, label)


def test_every_test_that_names_a_row_stands_at_that_row():
    held = {row.number: {label for label, _ in row.links} for row in ROWS}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for test in re.findall(r"^def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE):
            for kind, number in re.findall(r"_(row|erratum)_(\d+)(?=_|$)", test):
                assert test in held[f"E{number}" if kind == "erratum" else number], (test, path)


def test_a_row_comes_with_its_commands():
    text = shown("56")
    assert text.startswith("row 56: ")
    assert "\n    python -m experiments.learning_rates\n" in text
    assert "\n    python -m pytest tests/test_schedules.py::test_row_56_a_block_of_steps_has_one_rate" in text
    assert shown("e22").startswith("erratum E22: the second entry of softmax has exp(o_1). Right: exp(o_2)")
    assert Row("1", "says", "open").commands == []


def test_a_bar_inside_a_cell_is_no_column():
    assert list(rows(r"| 72 | where \|σ'(z)w\| > 1 | open |")) == [Row("72", "where |σ'(z)w| > 1", "open")]


@pytest.mark.parametrize("number", ["0", "173", "E57", "twelve", "-1"])
def test_a_row_that_is_not_there_is_an_error_in_words(number):
    with pytest.raises(ValueError, match=f"no row '{number}'; rows are 1 to 172, errata E1 to E56"):
        shown(number)


def test_the_command_line_answers_without_jax():
    def say(*args):
        command = [sys.executable, "-S", "-m", "experiments", *args]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=30)

    assert say("lecture", "12").stdout.startswith("row 12: softmax of 1 … 9")
    wrong = say("lecture", "173")
    assert (wrong.returncode, wrong.stderr[:6], wrong.stdout) == (2, "error:", "")
    assert say("lectures").returncode == 2
