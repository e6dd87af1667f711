"""A stream's batches on their way to the device, and how long the host waited for them."""

import time
from collections.abc import Iterable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn.types import Batch, InputError, num_examples


class Feed:
    """The batches of an iterable, one after the other, on the device or shared out over a mesh."""

    def __init__(self, batches: Iterable[Batch], mesh: Mesh | None = None):
        self.batches, self.iterator = batches, iter(batches)
        self.mesh = mesh
        self.waited = 0.0
        self.before = self.position()
        self.first = self._placed(self._fetch(0))
        """The first batch from here on, for its shapes; `next` gives it again."""
        self.pending: list[Batch] = [self.first]

    def next(self, step: int) -> Batch:
        """The batch of this step, asked for in order."""
        if self.pending:
            return self.pending.pop()
        began = time.perf_counter()
        batch = self._fetch(step)
        self.waited += time.perf_counter() - began
        return self._placed(batch)

    def position(self) -> Any:
        """Where the stream stands after the batches that `next` gave; None for a stream that knows no position."""
        if getattr(self, "pending", None):
            return self.before
        return self.batches.position() if hasattr(self.batches, "position") else None

    def seek(self, position: Any) -> None:
        """Let `next` go on from a position."""
        self.batches.seek(position)  # type: ignore[attr-defined]
        self.pending = []

    def _fetch(self, step: int) -> Batch:
        try:
            return next(self.iterator)
        except StopIteration:
            raise InputError(f"the stream of batches ended before step {step}; let it repeat, or lower num_steps") from None

    def _placed(self, batch: Batch) -> Batch:
        """A copy on the device is under way when this returns."""
        if self.mesh is None:
            return jax.device_put(batch)
        rows = num_examples(batch) * jax.process_count()
        if rows % self.mesh.size:
            raise InputError(f"a batch of {rows} rows cannot be shared out over {self.mesh.size} devices; take a multiple of that")
        sharding = NamedSharding(self.mesh, P(self.mesh.axis_names))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
