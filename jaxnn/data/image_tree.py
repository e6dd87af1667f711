"""What a tree of images says by its folders: `split/class/image`, or `class/image`, in one more folder or not."""

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

from jaxnn.data.archives import Tree
from jaxnn.data.images import SUFFIXES
from jaxnn.data.known import DataError

JUNK = re.compile(r"(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)")
"""What operating systems leave in folders."""
USUAL = ("train", "test", "validation", "valid", "val")
"""Splits stand in this order, others after them; a lone top folder of another name is a wrapping."""
LAYOUT = "split/class/image or class/image would be right"


class Layout(NamedTuple):
    """The images of each split, each with the index of its class, in the order that rows take."""

    splits: dict[str, list[tuple[str, int]]]
    classes: tuple[str, ...]
    left_out: tuple[str, ...]
    """Files above the folders of the classes that are no images."""


def layout(tree: Tree) -> Layout:
    """Rows go round the classes, the first image of each, then the second, so that a slice such as `train[:1000]` holds all alike.

    Raises DataError for images at different depths, strange files among them, a folder without images, and a class that one split lacks.
    """
    names = [name for name in tree.files if not JUNK.search(name)]
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    top = _wrapping(tree, pictures)
    depth = pictures[0].count("/") - top.count("/")
    left_out = _left_out(tree, set(names) - set(pictures), pictures[0].count("/"))
    groups: dict[str, dict[str, list[str]]] = {}
    for name in pictures:
        split, label, _ = ["train", *name[len(top) :].split("/")][-3:]
        groups.setdefault(split, {}).setdefault(label, []).append(name)
    _check_folders(tree, pictures, top, depth)
    classes = _classes(tree, groups)
    return Layout({split: _round(groups[split], classes) for split in in_order(groups)}, classes, left_out)


def in_order(splits: Iterable[str]) -> list[str]:
    """train, test, validation, then the others by name."""
    return sorted(splits, key=lambda split: (USUAL.index(split) if split in USUAL else len(USUAL), split))


def natural(name: str) -> tuple:
    """A key that sorts numbers in names by their value.

    >>> sorted(["s10", "s2", "s1", "a"], key=natural)
    ['a', 's1', 's2', 's10']
    """
    # Digits compare by their count, then as text: int() refuses numbers of thousands of digits.
    parts = [part.lstrip("0") if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]
    return tuple((len(part) if i % 2 else 0, part) for i, part in enumerate(parts)), name


def _wrapping(tree: Tree, pictures: list[str]) -> str:
    """The lone top folder that is neither a split nor a class, with its slash; else nothing."""
    if not pictures:
        raise DataError(f"{tree.name}: holds no images ({', '.join(SUFFIXES)}); {LAYOUT}")
    by_depth = {name.count("/"): name for name in pictures}
    if len(by_depth) > 1:
        raise DataError(f"{tree.name}: images at different depths, {' and '.join(by_depth.values())}; {LAYOUT}")
    (depth,), tops = by_depth, {name.split("/")[0] for name in pictures}
    wrapped = len(tops) == 1 and (depth == 3 or (depth == 2 and not tops & set(USUAL)))
    if not 1 <= depth - wrapped <= 2:
        raise DataError(f"{tree.name}: {pictures[0]} lies under {depth} folders; {LAYOUT}")
    return f"{min(tops)}/" if wrapped else ""


def _left_out(tree: Tree, strange: set[str], depth: int) -> tuple[str, ...]:
    for name in sorted(strange):
        if name.count("/") >= depth:
            raise DataError(f"{tree.name}/{name} is no image by its name ({', '.join(SUFFIXES)}); take it out of the folder of its class")
    return tuple(sorted(strange))


def _check_folders(tree: Tree, pictures: list[str], top: str, depth: int) -> None:
    """Every folder of a class or a split holds images."""
    held = {name[: name.rindex("/")] for name in pictures}
    held |= {name.rsplit("/", 1)[0] for name in held}
    for folder in sorted(tree.folders):
        below = folder[len(top) :] if folder.startswith(top) else ""
        if below and below.count("/") < depth and not JUNK.search(folder) and folder not in held:
            raise DataError(f"{tree.name}/{folder} holds no images; fill it, or take it away")


def _classes(tree: Tree, groups: dict[str, dict[str, list[str]]]) -> tuple[str, ...]:
    classes = sorted({label for group in groups.values() for label in group}, key=natural)
    for split, label in ((split, label) for split in groups for label in classes):
        if label not in groups[split]:
            other = next(other for other in groups if label in groups[other])
            raise DataError(f"{tree.name}: {split} has no folder {label!r}, as {other} has; every split needs the same classes")
    return tuple(classes)


def _round(group: dict[str, list[str]], classes: tuple[str, ...]) -> list[tuple[str, int]]:
    columns = [[(name, index) for name in sorted(group[label], key=natural)] for index, label in enumerate(classes)]
    return [row for rank in zip_longest(*columns) for row in rank if row is not None]
