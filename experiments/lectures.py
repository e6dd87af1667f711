"""`python -m experiments lecture ROW`: what the lectures say in a row or an erratum, and the commands that show it.

The rows are read from `docs/lecture.md`, whose tables are their one home.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "lecture.md"
LINK = re.compile(r"\[`?([^`\]]+)`?\]\(\.\./([^)#]+)\)")


class Row(NamedTuple):
    """A line of the page's tables."""

    number: str
    """`12`, or `E12` for an erratum."""
    says: str
    """The lecture's item in our words; of an erratum, what the slide says and what holds."""
    held_by: str
    """Links, `open`, or a source that is cited."""

    @property
    def links(self) -> list[tuple[str, str]]:
        """(label, path from the root of the repository) of what holds it."""
        return [(match[1], match[2]) for match in LINK.finditer(self.held_by)]

    @property
    def commands(self) -> list[str]:
        """What to type to see it: experiments and benchmarks first, then the tests."""
        modules = [f"python -m {path[:-3].replace('/', '.')}" for _, path in self.links if path.startswith(("experiments/", "benchmarks/"))]
        tests = [
            f"python -m pytest {path}" + f"::{label}" * label.startswith("test_") for label, path in self.links if path.startswith("tests/")
        ]
        return modules + tests


def rows(page: str) -> Iterator[Row]:
    """The rows of all tables of the page, in their order; an erratum has its two middle columns joined."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"E?\d+", cells[0]):
            number, *middle, held_by = cells
            yield Row(number, ". Right: ".join(middle).replace("\\|", "|"), held_by)


def shown(number: str) -> str:
    """A row as text. Raises `ValueError` where there is none of that number."""
    found = {row.number: row for row in rows(PAGE.read_text())}
    row = found.get(number.upper())
    if row is None:
        counts = [sum(key.startswith("E") is errata for key in found) for errata in (False, True)]
        raise ValueError(f"the lectures have no row {number!r}; rows are 1 to {counts[0]}, errata E1 to E{counts[1]}")
    kind = "erratum" if number.upper().startswith("E") else "row"
    code = [path for _, path in row.links if path.startswith("jaxnn/")]
    lines = [f"{kind} {row.number}: {row.says}", *(f"    {path}" for path in code), *(f"    {command}" for command in row.commands)]
    return "\n".join(lines if row.links else [*lines, f"    {row.held_by}"])
