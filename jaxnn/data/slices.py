"""Split names and slices, spelled and understood as tensorflow_datasets does: train, train[:1000], train[10%:20%], train+test."""

import re
from typing import NamedTuple

from jaxnn.data.known import DataError
from jaxnn.types import unknown

SIMPLE = re.compile(r"(?P<split>[\w-]+)(\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\])?")


class Rows(NamedTuple):
    """Rows start, ..., stop - 1 of one split."""

    split: str
    start: int
    stop: int


def parse(name: str, spec: str, counts: dict[str, int]) -> list[Rows]:
    """The rows that `spec` means in the data set `name`, whose splits hold `counts` examples.

    >>> parse("mnist", "train[-100:]+test", {"train": 60_000, "test": 10_000})
    [Rows(split='train', start=59900, stop=60000), Rows(split='test', start=0, stop=10000)]

    Raises InputError for a split that is not there, DataError for an empty slice, one beyond the end, or a spelling tfds does not know.
    """
    terms = [SIMPLE.fullmatch(term.strip()) for term in spec.split("+")]
    if all(term and term["split"] != "all" for term in terms):
        rows = [_simple(name, term, counts) for term in terms if term]
    else:
        rows = _by_tfds(name, spec, counts)
    for split, start, stop in rows:
        if start >= stop:
            raise DataError(f"{name}: split {spec!r} is empty: rows {start} to {stop} of {counts[split]} in {split}")
    return rows


def _simple(name: str, term: re.Match[str], counts: dict[str, int]) -> Rows:
    """One `split` or `split[a:b]`, without tfds: importing that takes more than a second."""
    split = term["split"]
    if split not in counts:
        raise unknown(f"{name} split", split, counts)
    count = counts[split]
    start, stop = int(term["start"] or 0), count if term["stop"] is None else int(term["stop"])
    if max(abs(start), abs(stop)) > count:
        raise DataError(f"{name}: {term[0]!r} reaches beyond the {count} examples of {split}")
    return Rows(split, start + count * (start < 0), stop + count * (stop < 0))


def _by_tfds(name: str, spec: str, counts: dict[str, int]) -> list[Rows]:
    import tensorflow_datasets as tfds

    # A shard is a file of one prepared copy: the same spec would mean other rows in another copy.
    if "shard" in spec:
        raise DataError(f"{name}: split {spec!r} counts shards; slice by examples or per cent")
    infos = {split: tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0) for split, count in counts.items()}
    try:
        instructions = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
        spelling = "write for example train, train[:1000], train[10%:20%] or train+test"
        raise DataError(f"{name}: split {spec!r} cannot be read; {spelling}. Its splits: {', '.join(sorted(counts))}") from error
    return [Rows(i.splitname, i.from_ or 0, counts[i.splitname] if i.to is None else i.to) for i in instructions]
