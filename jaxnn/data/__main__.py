"""`python -m jaxnn.data`: which data sets are on this machine, and what to do about those that are not."""

import sys
from collections.abc import Callable, Iterator, Sequence

from jaxnn.data import KNOWN, load, opened
from jaxnn.data.known import DataError
from jaxnn.data.locate import names, places
from jaxnn.types import InputError

HEAD = ("name", "split", "count", "image", "classes", "kind", "path", "sha256")
Row = tuple[str, ...]


def list_sets(download: str | None = None, full: bool = False) -> int:
    """List every known data set, and your own, with where it lies and its sha256.

    Args:
        download: First fetch the data set of this name.
        full: Show all 64 digits of the sha256.
    """
    if download is not None:
        opened(download, download=True)
    rows: list[Row] = [HEAD]
    notes, code = [], 0
    for name in [*KNOWN, *sorted(names() - set(KNOWN))]:
        try:
            rows += _rows(name, 64 if full else 12)
        except DataError as error:
            broken = name == "mnist_5k" or any(places(name))
            notes.append(f"{name}: broken: {error}" if broken else f"{name}: missing: {_remedy(name)}")
            code = 2 if broken else code
    print("\n".join([*_aligned(rows), *notes]))
    return code


COMMANDS: dict[str, Callable[..., int]] = {"list": list_sets}
"""By the first word of the command line; without one it is `list`."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0, or 2 for a broken set or a mistake."""
    import tyro

    command, *rest = arguments if arguments and arguments[0] in COMMANDS else ["list", *arguments]
    try:
        return tyro.cli(COMMANDS[command], args=rest, prog="python -m jaxnn.data", config=(tyro.conf.FlagCreatePairsOff,))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _rows(name: str, digits: int) -> Iterator[Row]:
    _, reader = opened(name)
    for split in reader.counts:
        arrays, source = load(name, split)
        shape = "x".join(map(str, arrays["image"].shape[1:]))
        classes = "?" if reader.classes is None else str(reader.classes)
        yield name, split, _count(name, split, source.count), shape, classes, source.kind, source.path, source.sha256[:digits]


def _count(name: str, split: str, count: int) -> str:
    """A part of a known set says so: 100 of 60,000."""
    whole = KNOWN[name].counts.get(split, count) if name in KNOWN else count
    return f"{count:,}" if count == whole else f"{count:,} of {whole:,}"


def _remedy(name: str) -> str:
    kind = "IDX files" if KNOWN[name].shape[2] == 1 else "a prepared tfds set"
    folder = f"$JAXNN_DATA/{'' if kind == 'IDX files' else 'tfds/'}{name}/"
    return f"put {kind} into {folder}, or python -m jaxnn.data --download {name}"


def _aligned(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
