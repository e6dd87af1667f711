"""Who trains: one learner alone, or the members of a sweep, seeds × points of the grid; and which devices share what of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn.types import Learner, PyTree


class Keys(NamedTuple):
    """One random stream a purpose; in a sweep each is an array over the seeds."""

    init: jax.Array
    shuffle: jax.Array
    step: jax.Array
    evaluate: jax.Array


@dataclass(frozen=True)
class Alone:
    """One learner by itself."""

    learner: Learner
    mesh: Mesh | None = None
    """Devices that share the rows of each batch, along one axis; all else each of them has whole."""
    lead: tuple[int, ...] = ()
    """The leading axes of its state and metrics."""
    gathers: int = 1
    """How many members gather batches of their own at the same time."""
    at_once: int = 1
    """How many members run at the same time."""

    def lift(self, function: Callable) -> Callable:
        """f(learner, keys, state, shared) as g(points, keys, state, shared)."""
        return lambda points, keys, state, shared: function(self.learner, keys, state, shared)

    @property
    def state_sharding(self) -> NamedSharding | None:
        return None if self.mesh is None else NamedSharding(self.mesh, P())

    def share_rows(self, tree: PyTree, axis: int = 0) -> PyTree:
        """Arrays whose rows, along `axis`, the devices share evenly, if they can."""
        if self.mesh is None or any(leaf.shape[axis] % self.mesh.size for leaf in jax.tree.leaves(tree)):
            return tree
        return lax.with_sharding_constraint(tree, NamedSharding(self.mesh, P(*(None,) * axis, *self.mesh.axis_names)))

    def keep_whole(self, tree: PyTree) -> PyTree:
        """Arrays that each device has whole."""
        return tree if self.mesh is None else lax.with_sharding_constraint(tree, self.state_sharding)


@dataclass(frozen=True)
class Members:
    """The members of a sweep: seeds × points of the grid."""

    make_learner: Callable[..., Learner]
    over: Callable[[Callable, int], Callable]
    """`vmapped` or `mapped`, the points of the grid."""
    over_seeds: Callable[[Callable, int], Callable]
    """The same for the seeds."""
    seeds: int
    size: int
    mesh: Mesh | None = None
    """Devices that share the members, along one axis."""
    split_seeds: bool = False
    """Whether each device has some of the seeds, all points of them, or some of the points, for all seeds."""

    @property
    def lead(self) -> tuple[int, ...]:
        return self.seeds, self.size

    @property
    def here(self) -> tuple[int, int]:
        """Seeds and points on each device."""
        devices = self.mesh.size if self.mesh else 1
        return (self.seeds // devices, self.size) if self.split_seeds else (self.seeds, self.size // devices)

    @property
    def gathers(self) -> int:
        return self.here[0] if self.over_seeds is vmapped else 1

    @property
    def at_once(self) -> int:
        return math.prod(n for n, over in zip(self.here, (self.over_seeds, self.over), strict=True) if over is vmapped)

    @property
    def state_sharding(self) -> NamedSharding | None:
        return None if self.mesh is None else NamedSharding(self.mesh, self._over_devices)

    @property
    def _over_devices(self) -> P:
        (axis,) = self.mesh.axis_names  # type: ignore[union-attr]
        return P(axis) if self.split_seeds else P(None, axis)

    def share_rows(self, tree: PyTree, axis: int = 0) -> PyTree:
        """As they are: a member lives on one device."""
        return tree

    keep_whole = share_rows

    def lift(self, function: Callable) -> Callable:
        """f(learner, keys, state, shared) as g(points, keys, states, shared), every result with the leading axes (seeds, size).

        All members share the data. The points of one seed see the same keys, hence the same batches, gathered once for all of them.
        """
        seeds, size = self.here

        def of_a_seed(points: dict, keys: Keys, states: Any, shared: Any) -> Any:
            def member(point: dict, state: Any) -> Any:
                again = Keys(*map(jax.random.clone, keys))  # the same for all points, on purpose: tell JAX's key checker so
                return function(self.make_learner(**point), again, state, shared)

            return self.over(member, size)(points, states)

        def of_all(points: dict, keys: Keys, states: Any, shared: Any) -> Any:
            return self.over_seeds(lambda keys, states: of_a_seed(points, keys, states, shared), seeds)(keys, states)

        return self._split(of_all) if self.mesh else of_all

    def _split(self, of_all: Callable) -> Callable:
        """Each device runs its own members; nothing is sent between them."""
        states = self._over_devices
        points, keys = (P(), states) if self.split_seeds else (P(*states[1:]), P())
        return jax.shard_map(of_all, mesh=self.mesh, in_specs=(points, keys, states, P()), out_specs=states, check_vma=False)


def vmapped(function: Callable, size: int) -> Callable:
    """All at once."""
    return jax.vmap(function, axis_size=size)


def mapped(function: Callable, size: int) -> Callable:
    """One after the other."""
    return lambda *args: lax.map(lambda indexed: function(*indexed[1]), (jnp.arange(size), args))
