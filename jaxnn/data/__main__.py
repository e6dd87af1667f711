"""`python -m jaxnn.data`: which data sets are on this machine, what to do about those that are not, and how to bring your own."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxnn.data import KNOWN, load, opened, sums
from jaxnn.data.known import DataError
from jaxnn.data.locate import names, places
from jaxnn.data.prepare import prepare
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


def prepare_set(
    name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]],
    source: Annotated[Path, tyro.conf.arg(name="from")],
    to: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    overwrite: bool = False,
) -> int:
    """Make a tfds data set of your own files, which `jaxnn.data.load(NAME)` and every tfds user can read.

    They may be the four IDX files of MNIST's kind in a folder; a folder of images, SPLIT/CLASS/IMAGE or CLASS/IMAGE; a zip of either;
    or an npz with the arrays image (N, H, W[, 1 or 3]), uint8, and label (N,), whole numbers from 0, or one such pair
    for each split (train_image, train_label, test_image, test_label, ...) and perhaps classes, the names (K,).
    Images are 8-bit grey or RGB, all of one shape. The set appears whole or not at all.

    Args:
        name: What to call it: small letters, digits and _.
        source: The folder, .zip or .npz.
        to: Folder of prepared sets (default: $JAXNN_DATA/tfds, else tfds's own); the set becomes TO/NAME/1.0.0.
        overwrite: Replace the set if it is there.
    """
    made = prepare(name, source, to, overwrite=overwrite, label=name)
    print(f"{made.path}: {len(made.classes)} classes ({_shortened(made.classes)}), images {'x'.join(map(str, made.shape))}")
    print("\n".join(_aligned([(split, f"{count:,}", f"sha256 {made.sha256[split]}") for split, count in made.counts.items()])))
    print(f"{sum(made.counts.values()) / made.seconds:,.0f} images a second, {made.seconds:.1f} s")
    if made.left_out:
        print(f"left out, as no images: {_shortened(made.left_out)}")
    if made.before:
        print(f"note: load({name!r}) takes {made.before} before it; choose another name to have both")
    return 0


def _shortened(words: Sequence[str]) -> str:
    return ", ".join(words if len(words) <= 10 else [*words[:9], "...", words[-1]])


COMMANDS: dict[str, Callable[..., int]] = {"list": list_sets, "prepare": prepare_set}
"""By the first word of the command line; without one it is `list`."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0, 2 for a broken set or a mistake, 130 for Ctrl-C."""
    named = bool(arguments) and arguments[0] in COMMANDS
    command, *rest = arguments if named else ["list", *arguments]
    prog = f"python -m jaxnn.data{f' {command}' * named}"
    try:
        return tyro.cli(COMMANDS[command], args=rest, prog=prog, config=(tyro.conf.FlagCreatePairsOff,))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was prepared or downloaded", file=sys.stderr)
        return 130


def _rows(name: str, digits: int) -> Iterator[Row]:
    place, reader = opened(name)
    for split, count in reader.counts.items():
        # A set of ours says its sums: reading all rows for them could take hours.
        if reader.gather and split in (known := sums.read(place)):
            image, sha256 = reader.rows(split, 0, 1)["image"], known[split]
        else:
            image, sha256 = (whole := load(name, split)).arrays["image"], whole.source.sha256
        shape = "x".join(map(str, image.shape[1:]))
        classes = "?" if reader.classes is None else str(reader.classes)
        yield name, split, _count(name, split, count), shape, classes, place.kind, place.path, sha256[:digits]


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
