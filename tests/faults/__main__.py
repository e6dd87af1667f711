"""`make faults`: the long form of the fault harness. Prints a table; exits with 1 where anything was lost.

python -m tests.faults [kills] [bit flips a file] [malformed inputs a file]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.faults import harness, inputs
from tests.faults.harness import Tally


def tallies(kills: int, flips: int, malformed: int, folder: Path) -> Iterator[Callable[[], list[Tally]]]:
    """Every kind of fault, the quick ones first."""
    rng = np.random.default_rng(0)
    yield lambda: [harness.truncations(folder)]
    yield lambda: [harness.deletions(folder)]
    yield lambda: [harness.disk_full([100, 1000, 3000, 10_000, 30_000], folder)]
    yield lambda: [harness.nans([0, 1, 7, 30, 59], folder)]
    yield lambda: list(inputs.data_files(malformed, rng, folder / "data", os.environ))
    yield lambda: list(inputs.prepared_files(malformed, rng, folder / "prepared", os.environ))
    yield lambda: list(inputs.record_files(malformed, rng, folder))
    yield lambda: [inputs.configs(malformed, rng, folder)]
    yield lambda: [harness.command_lines(inputs.FLAGS, folder, lambda: True)]
    yield lambda: [harness.bit_flips(flips, rng, folder)]
    yield lambda: [harness.signals([15, 2, 15, 2], folder)]
    yield lambda: [harness.kills(kills, rng, folder)]


def main(arguments: Sequence[str]) -> int:
    numbers = [int(argument) for argument in arguments] + [50, 60, 60][len(arguments) :]
    found: list[Tally] = []
    with tempfile.TemporaryDirectory() as folder:
        for make in tallies(*numbers, Path(folder)):  # type: ignore[arg-type]
            began = time.monotonic()
            found += make()
            print(
                f"{found[-1].fault}: {found[-1].survived} of {found[-1].tried}, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    print("| fault | tried | nothing lost | |\n|---|---|---|---|")
    for tally in found:
        print(f"| {tally.fault} | {tally.tried} | {tally.survived} | {tally.note} |")
    bad = [line for tally in found for line in tally.bad]
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
