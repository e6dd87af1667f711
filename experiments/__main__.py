"""`python -m experiments`: every experiment and benchmark, with its claim, its command and what to expect of it.

`python -m experiments lecture ROW`: what the lectures say there (12, or E12 for an erratum), and the command that shows it.

Read from the sources and not by importing them, so that the answer comes at once and without JAX.
"""

import ast
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import lectures

ROOT = Path(__file__).parents[1]
FOLDERS = ("experiments", "benchmarks")
FIELD = re.compile(r"(\w+)(?:, ([^:]*))?:\s+(.*)")
"""`Expected: 95 %`, or `Expected, on two CPU cores: 95 %`."""


class Entry(NamedTuple):
    """What a file says of itself."""

    module: str
    claim: str = ""
    command: str = ""
    note: str = ""
    """What the docstring adds to the command in parentheses, such as its time."""
    expected: str = ""


def entries(folder: Path) -> Iterator[Entry]:
    """The files of `folder` that hand something to `command.main`, by name."""
    for path in sorted(folder.glob("*.py")):
        module = f"{folder.name}.{path.stem}"
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError as error:
            yield Entry(module, f"not to be read: line {error.lineno}: {error.msg}")
            continue
        if any(map(_calls_main, ast.walk(tree))):
            doc = (ast.get_docstring(tree) or "").splitlines()
            command, _, note = _field("Command", doc).partition(" (")
            yield Entry(module, doc[0] if doc else "", command or f"python -m {module}", note.removesuffix(")"), _field("Expected", doc))


def _calls_main(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "command.main"


def _field(name: str, doc: Sequence[str]) -> str:
    """What follows `name:` in a docstring, to the next field, blank line or line that ends with a full stop."""
    words: list[str] = []
    for line in doc:
        field = FIELD.match(line)
        if words and (field or not line.strip() or words[-1].endswith(".")):
            break
        if words:
            words.append(line)
        elif field and field[1] == name:
            words.append(f"{field[2]}: {field[3]}" if field[2] else field[3])
    return re.sub(r"\s+", " ", " ".join(words))


def listing(width: int) -> str:
    """All entries as text of at most `width` columns; a command stays whole on its line, to be copied."""
    lines = []
    for entry in (entry for folder in FOLDERS for entry in entries(ROOT / folder)):
        head = textwrap.wrap(f"{entry.module} ({entry.note})" if entry.note else entry.module, width, break_on_hyphens=False)
        lines += [*head, *_wrapped(entry.claim, width)]
        lines += _wrapped(f"Expected: {entry.expected}", width) if entry.expected else []
        lines += [f"    {entry.command}"] if entry.command else []
        lines.append("")
    advice = (
        "Every command takes --help, and leaves its record in results/.",
        "One page of all records: python -m experiments.report",
        "A row of the lectures: python -m experiments lecture 12",
    )
    return "\n".join([*lines, *advice])


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def answer(args: Sequence[str]) -> str:
    """What the command line asks for. Raises `ValueError` for what it does not know."""
    match args:
        case []:
            return listing(width=min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120))
        case ["lecture", *numbers] if numbers:
            return "\n".join(map(lectures.shown, numbers))
    raise ValueError(
        f"unknown: {' '.join(args)!r}. Say `python -m experiments` for the list, or `python -m experiments lecture 12` for a row"
    )


if __name__ == "__main__":
    try:
        print(answer(sys.argv[1:]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
