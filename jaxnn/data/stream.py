"""Batches of a data set that need not fit into memory: shuffled anew each epoch, read ahead, resumed exactly where they stopped.

Every name that `load` knows streams. A prepared tfds set is read and decoded by threads, batch after batch, while the device computes;
the other kinds lie in memory, as `load` gives them. grain's iterator reads ahead, and keeps the order of batches whatever the threads do.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from jaxnn.data import choose, load, opened, sums
from jaxnn.data.known import Arrays, DataError, Gather, Source
from jaxnn.data.locate import Place
from jaxnn.data.slices import Rows, parse
from jaxnn.types import InputError

SEEDS = 2**32
"""Seeds are below this."""
ENDLESS = 2**53
"""So many batches."""


class Recipe(NamedTuple):
    """All that decides which rows a batch holds; two streams of one recipe give the same batches."""

    sha256: str
    count: int  # type: ignore[assignment]  # the field is worth more than tuple.count
    batch_size: int
    seed: int | None
    epochs: int | None
    drop_remainder: bool
    view: str = "as stored"
    """What is done to the images on the way."""

    def batches_per_epoch(self) -> int:
        return (self.count + (0 if self.drop_remainder else self.batch_size - 1)) // self.batch_size

    def batches(self) -> int:
        return ENDLESS if self.epochs is None else self.epochs * self.batches_per_epoch()

    def rows(self, batch: int) -> np.ndarray:
        """Which rows the batch of this number holds; no batch straddles two epochs."""
        epoch, place = divmod(batch, self.batches_per_epoch())
        part = slice(place * self.batch_size, min((place + 1) * self.batch_size, self.count))
        return np.arange(part.start, part.stop) if self.seed is None else permutation(self.seed, epoch, self.count)[part]


# Threads are one epoch apart at most; the order of an epoch takes four bytes a row.
@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch, int32 (count,). Asking grain for each row by itself would take longer than to fetch it from memory."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(np.arange(count, dtype=np.int32))


class Stream:
    """An iterator over batches, `image` uint8 (B, H, W, C) and `label` int32 (B,); see `stream` and `jaxnn.data.image_folder`."""

    source: Source
    batch_size: int
    batches_per_epoch: int

    def __init__(self, source: Source, recipe: Recipe, fetch: Callable[[int], Arrays], threads: int):
        """`fetch(number)` gives the batch of this number by the recipe; it must be safe in several threads at once."""
        import grain

        self.source, self.batch_size, self.batches_per_epoch = source, recipe.batch_size, recipe.batches_per_epoch()
        self._recipe, self._done, self._order = recipe, 0, _order(recipe)
        batches = grain.MapDataset.range(recipe.batches()).map(lambda batch: fetch(int(batch)))
        # As many batches ahead as there are threads, and one: each is decoded by one of them.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1 if threads else 0)
        self._batches: Any = iter(batches.to_iter_dataset(options))

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Arrays:
        """The next batch; StopIteration after the last of the last epoch. DataError names set, split and row of a bad example."""
        try:
            batch = next(self._batches)
        except StopIteration:
            raise
        except BaseException as error:
            # grain has lost the batch that failed, or that Ctrl-C came into: who asks again gets the same batch, or the same error.
            self._move(self._done)
            if isinstance(error, DataError):  # grain adds a line about its own frames
                raise DataError(str(error).partition("\n---")[0]) from error
            raise
        self._done += 1
        return batch

    def position(self) -> dict[str, Any]:
        """Where the next batch stands, for `seek`, as JSON has it: batches handed out, whatever was read ahead, and the recipe."""
        return {"batch": self._done, **self._recipe._asdict(), "order": self._order}

    def seek(self, position: dict[str, Any]) -> None:
        """Go on from a `position` of this stream, or of another of the same rows and arguments: the batches are equal to the last bit.

        Raises InputError for a position of other rows, or of other arguments.
        """
        mine = self.position()
        if not isinstance(position, dict) or set(position) != set(mine):
            raise InputError(f"{position!r} is no position of a stream; one has {', '.join(mine)}")
        if different := [key for key in mine if key != "batch" and position[key] != mine[key]]:
            pairs = "; ".join(f"{key} {position[key]!r} there, {mine[key]!r} here" for key in different)
            raise InputError(f"{self.source.name} {self.source.split}: the position is of another stream ({pairs})")
        batch, last = position["batch"], self._recipe.batches()
        if type(batch) is not int or not 0 <= batch <= last:
            raise InputError(f"{self.source.name} {self.source.split}: batch {batch!r} in the position; 0 to {last} would be right")
        self._move(batch)

    def close(self) -> None:
        """End the threads; the stream gives no more batches."""
        self._batches.close()

    def _move(self, batch: int) -> None:
        self._batches.set_state({**self._batches.get_state(), "next_index": batch})
        self._done = batch


def _order(recipe: Recipe) -> str:
    """A mark of the order of rows: a NumPy that shuffles otherwise than the one of a position is found out."""
    return hashlib.sha256(recipe.rows(0).astype("<i8").tobytes()).hexdigest()[:8]


def stream(
    name: str,
    split: str = "train",
    *,
    batch_size: int,
    seed: int | None = None,
    shuffle: bool = True,
    epochs: int | None = None,
    drop_remainder: bool = True,
    threads: int = 2,
) -> Stream:
    """Batches of `split` in the data set `name` (both as in `load`), endlessly, or for so many `epochs`.

    Each epoch holds every row once, in an order of its own that `seed` fixes, or as stored with `shuffle=False`; as in `fit`, the rows of
    its last partial batch are dropped, unless `drop_remainder=False` makes a shorter batch of them. `threads` read and decode ahead.

    `source.sha256` is that of `load` where it is known without reading all rows: for sets in memory, and for whole splits that
    `jaxnn.data.prepare` made (it is written beside them). Else it is of the set's metadata, its files' names and sizes, and the split.

    Raises InputError for arguments that make no sense, DataError for a set that is missing or broken.
    """
    if shuffle and (seed is None or not 0 <= seed < SEEDS):
        raise InputError(f"seed is {seed}; a shuffled stream needs one from 0 to {SEEDS - 1}")
    if min(batch_size, 1 if epochs is None else epochs) < 1 or threads < 0:
        raise InputError(f"batch_size {batch_size}, epochs {epochs}, threads {threads}: at least 1, 1 and 0 would be right")
    source, gather = _opened(name, split)
    if batch_size > source.count and drop_remainder:
        raise InputError(f"{name} {split} holds {source.count} examples, fewer than a batch of {batch_size}; take smaller batches")
    recipe = Recipe(source.sha256, source.count, batch_size, seed if shuffle else None, epochs, drop_remainder)
    return Stream(source, recipe, lambda batch: gather(recipe.rows(batch)), threads if source.kind == "tfds" else 0)


def _opened(name: str, split: str) -> tuple[Source, Gather]:
    name = choose(name)
    place, reader = opened(name)
    if reader.gather is None:
        dataset = load(name, split)
        return dataset.source, partial(_taken, dataset.arrays)
    parts = parse(name, split, reader.counts)
    count = sum(rows.stop - rows.start for rows in parts)
    source = Source(place.kind, name, split, place.path, _sha256(place, parts, reader.counts), count)
    return source, _joined(name, [(rows.stop - rows.start, reader.gather(*rows)) for rows in parts])


def _sha256(place: Place, parts: list[Rows], counts: dict[str, int]) -> str:
    (split, start, stop), *more = parts
    if not more and (start, stop) == (0, counts[split]) and (known := sums.read(place).get(split)):
        return known
    return hashlib.sha256(f"{sums.fingerprint(place.folder)} {[tuple(part) for part in parts]}".encode()).hexdigest()


def _taken(arrays: Arrays, numbers: np.ndarray) -> Arrays:
    return {key: array[numbers] for key, array in arrays.items()}


def _joined(name: str, parts: list[tuple[int, Gather]]) -> Gather:
    """One after the other, as `train+test` asks for it."""
    if len(parts) == 1:
        return parts[0][1]
    shapes = {gather(np.array([0]))["image"].shape[1:] for _, gather in parts}
    if len(shapes) > 1:
        raise DataError(f"{name}: images differ in shape, {shapes}; all must be of one shape")
    return partial(_gather_parts, np.cumsum([count for count, _ in parts]), [gather for _, gather in parts], shapes.pop())


def _gather_parts(ends: np.ndarray, gathers: list[Gather], shape: tuple[int, ...], numbers: np.ndarray) -> Arrays:
    out: Arrays = {"image": np.empty((len(numbers), *shape), np.uint8), "label": np.empty(len(numbers), np.int32)}
    which = np.searchsorted(ends, numbers, side="right")
    for part in np.unique(which):
        here = which == part
        for key, array in gathers[part](numbers[here] - (ends[part - 1] if part else 0)).items():
            out[key][here] = array
    return out
