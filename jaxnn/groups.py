"""A sweep that is too wide to run at once, in groups of members that run one after the other as one compiled program."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checkpoint import Checkpoints
from jaxnn.leaves import is_key
from jaxnn.manifest import steps
from jaxnn.types import PyTree


class Group(NamedTuple):
    """Some of the seeds and some of the points, by number."""

    seeds: np.ndarray
    points: np.ndarray

    def padded(self, lead: tuple[int, ...]) -> "Group":
        """The last seed and the last point repeated up to `lead`."""
        return Group(*(numbers[np.minimum(np.arange(to), len(numbers) - 1)] for numbers, to in zip(self, lead, strict=True)))

    def of(self, tree: PyTree, whole: "Shape") -> PyTree:
        """The arrays (seeds, points, ...) of this group, out of those of the whole sweep."""
        return tree if self.lead == whole else jax.tree.map(lambda x: _again(x)[self.seeds][:, self.points], tree)

    @property
    def lead(self) -> tuple[int, ...]:
        return len(self.seeds), len(self.points)


class Shape(NamedTuple):
    """The seeds × points of a group."""

    seeds: int
    size: int

    def groups(self, whole: "Shape") -> list[Group]:
        """The groups of a sweep, the points of the first seeds first; the last ones may be smaller."""
        numbers = [[np.arange(first, min(first + n, of)) for first in range(0, of, n)] for n, of in zip(self, whole, strict=True)]
        return [Group(*pair) for pair in itertools.product(*numbers)]


def shape_of_groups(whole: Shape, at_once: int, devices: int) -> Shape:
    """Of groups of at most `at_once` members, idle copies on the last device counted in, those that are fewest.

    Among equals that with the most points: those of one seed share their batches, so they belong together. A device has at least
    one member.

    >>> shape_of_groups(Shape(3, 16), 16, 1), shape_of_groups(Shape(12, 1000), 5000, 1), shape_of_groups(Shape(1, 20), 9, 8)
    (Shape(seeds=1, size=16), Shape(seeds=4, size=1000), Shape(seeds=1, size=7))
    """
    most, fewest = max(at_once, devices), (math.inf, 0, whole)
    for seeds in range(1, min(whole.seeds, most) + 1):
        by_points, by_seeds = most // seeds // devices * devices, most // (math.ceil(seeds / devices) * devices)
        size = min(whole.size, max(by_points, by_seeds))
        if size:
            counts = [math.ceil(of / n) for of, n in zip(whole, (seeds, size), strict=True)]
            even = Shape(*(math.ceil(of / count) for of, count in zip(whole, counts, strict=True)))
            fewest = min(fewest, (math.prod(counts), -even.size, even))
    return fewest[2]


def side_by_side(groups: Sequence[Group], trees: Sequence[PyTree]) -> PyTree:
    """The arrays (seeds, points, ...) of a whole sweep out of those of its groups."""
    if len(trees) == 1:
        return trees[0]
    across = sum(group.seeds[0] == groups[0].seeds[0] for group in groups)

    def leaf(*parts: Any) -> Any:
        join = np.concatenate if isinstance(parts[0], np.ndarray) else jnp.concatenate  # random keys are no NumPy arrays
        return join([join(parts[row : row + across], 1) for row in range(0, len(parts), across)], 0)

    return jax.tree.map(leaf, *trees)


def trim(lead: tuple[int, ...], tree: PyTree) -> PyTree:
    """Arrays (seeds, points, ...) without the idle copies that fill a group or its last device."""
    return jax.tree.map(lambda x: x if x.shape[:2] == lead else _again(x)[: lead[0], : lead[1]], tree)


def pad(lead: tuple[int, ...], tree: PyTree) -> PyTree:
    """The last seed and the last point repeated up to `lead`."""

    def padded(x: Any) -> Any:
        numbers = Group(*map(np.arange, x.shape[:2])).padded(lead)
        return x if x.shape[:2] == lead else _again(x)[numbers.seeds][:, numbers.points]

    return jax.tree.map(padded, tree)


def _again(x: Any) -> Any:
    """Of a random key, one that JAX's key checker takes for another: the copies that are cut from it do not run."""
    return jax.random.clone(x) if is_key(x) else x


def checkpoint_of_group(checkpoint: Checkpoints | None, shape: Shape, number: int) -> Checkpoints | None:
    """Where a group saves. What it ends with is kept, so that a sweep that goes on does not run it again."""
    return checkpoint and replace(checkpoint.inside(f"groups_of_{shape.seeds}x{shape.size}/{number}"), at_end=True)


def shape_kept(checkpoint: Checkpoints | None, whole: Shape) -> Shape | None:
    """How the broken call split the sweep: that other memory is free now must not begin it anew. None without checkpoints."""
    if checkpoint is None:
        return None
    if steps(checkpoint.folder):
        return whole
    names = [re.fullmatch(r"groups_of_(\d+)x(\d+)", path.name) for path in sorted(Path(checkpoint.folder).glob("groups_of_*"))]
    return next((Shape(int(name[1]), int(name[2])) for name in names if name), None)
