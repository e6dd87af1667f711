"""Streams: every row once an epoch, the same batches for the same seed, and exactly on from any position."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from jaxnn.data import DataError, load
from jaxnn.data.known import digest
from jaxnn.data.prepare import prepare
from jaxnn.data.stream import stream
from jaxnn.types import InputError

COUNT, BATCH = 50, 8
ROWS = {"train": COUNT, "test": 20}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A prepared set of several shards, whose images say which row they are."""
    root = tmp_path_factory.mktemp("streams")
    arrays = {}
    for split, count in ROWS.items():
        arrays[f"{split}_image"] = np.arange(count, dtype=np.uint8)[:, None, None] + np.full((1, 4, 3), 100 * (split == "test"), np.uint8)
        arrays[f"{split}_label"] = np.arange(count) % 7
    np.savez(root / "rows.npz", **arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnn.data.prepare.SHARD", 13 * 12)
        prepare("rows", root / "rows.npz", root / "data" / "tfds")
    return root / "data"


@pytest.fixture
def rows(written, monkeypatch):
    """The name of the prepared set, found where `load` looks."""
    monkeypatch.setenv("JAXNN_DATA", str(written))
    return "rows"


def take(batches, count):
    return [next(batches) for _ in range(count)]


def numbers(batches):
    """Which rows each holds."""
    return [batch["image"][:, 0, 0, 0].tolist() for batch in batches]


def flat(batches):
    """Which rows they hold, one after the other."""
    return [number for batch in numbers(batches) for number in batch]


def same(ours, theirs):
    return all(np.array_equal(a[key], b[key]) and a[key].dtype == b[key].dtype for a, b in zip(ours, theirs, strict=True) for key in a)


def test_batches_are_as_stored(rows):
    batches = stream(rows, batch_size=BATCH, seed=1)
    batch = next(batches)
    assert (batch["image"].shape, batch["image"].dtype) == ((BATCH, 4, 3, 1), np.uint8)
    assert (batch["label"].shape, batch["label"].dtype) == ((BATCH,), np.int32)
    np.testing.assert_array_equal(batch["image"], load(rows).arrays["image"][batch["image"][:, 0, 0, 0]])
    np.testing.assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0] % 7)
    assert batches.batches_per_epoch == 6
    batches.close()


@pytest.mark.parametrize("threads", [0, 3])
def test_an_epoch_holds_every_row_once_but_its_rest(rows, threads):
    batches = stream(rows, batch_size=BATCH, seed=1, threads=threads)
    epochs = [flat(take(batches, batches.batches_per_epoch)) for _ in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 48
    # Another order each time, and no row is the one that is always dropped.
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len({frozenset(epoch) for epoch in epochs}) > 1
    assert epochs[0] != sorted(epochs[0])
    batches.close()


def test_stored_order_and_the_end(rows):
    batches = stream(rows, batch_size=BATCH, shuffle=False, epochs=2)
    assert numbers(batches) == [list(range(start, start + BATCH)) for start in range(0, 48, BATCH)] * 2
    with pytest.raises(StopIteration):
        next(batches)
    assert batches.position()["batch"] == 12
    whole = stream(rows, batch_size=BATCH, shuffle=False, epochs=1, drop_remainder=False)
    assert whole.batches_per_epoch == 7
    assert flat(whole) == list(range(COUNT))
    for ended in (batches, whole):
        ended.close()


def test_seeds(rows):
    def first(seed, **options):
        with_seed = stream(rows, batch_size=BATCH, seed=seed, **options)
        batches = take(with_seed, 9)
        with_seed.close()
        return batches

    assert same(first(3), first(3, threads=4))
    assert same(first(3, threads=0), first(3))
    assert numbers(first(3)) != numbers(first(4))
    assert numbers(first(2**32 - 1)) != numbers(first(0))


def test_slices_and_sums(rows):
    spec = "train[10:30]+test[:5]+train[45:]"
    batches = stream(rows, spec, batch_size=6, shuffle=False, epochs=1)
    right = [*range(10, 30), *range(100, 105), *range(45, 50)]
    assert flat(batches) == right
    arrays = load(rows, spec).arrays
    shuffled = stream(rows, spec, batch_size=6, seed=0, epochs=1)
    found = list(shuffled)
    assert sorted(flat(found)) == sorted(right)
    for batch in found:
        at = [right.index(number) for number in batch["image"][:, 0, 0, 0]]
        np.testing.assert_array_equal(batch["label"], arrays["label"][at])
    for ended in (batches, shuffled):
        ended.close()


@pytest.fixture
def in_memory(machine, write_idx):
    write_idx(machine / "mnist", gz=True)
    return "mnist"


@pytest.mark.parametrize("kind", ["rows", "in_memory"])
def test_positions_are_exact(kind, request):
    """From every position, across two ends of epochs, in another stream and in the same one, with batches read ahead."""
    name = request.getfixturevalue(kind)
    batches = stream(name, batch_size=BATCH, seed=5, threads=2)
    positions, unbroken = [], []
    for _ in range(15):
        positions.append(json.loads(json.dumps(batches.position())))
        unbroken.append(next(batches))
    other = stream(name, batch_size=BATCH, seed=5, threads=3)
    for at in np.random.default_rng(0).permutation(15):
        for going in (batches, other):
            going.seek(positions[at])
            assert going.position() == positions[at]
            assert same(take(going, min(3, 15 - at)), unbroken[at : at + 3])
    for ended in (batches, other):
        ended.close()


def test_a_position_in_a_fresh_process(rows, written):
    batches = stream(rows, batch_size=BATCH, seed=5)
    take(batches, 5)
    position = batches.position()
    right = [digest(batch) for batch in take(batches, 4)]
    batches.close()
    code = (
        "import sys, json; from jaxnn.data.known import digest; from jaxnn.data.stream import stream\n"
        f"batches = stream('rows', batch_size={BATCH}, seed=5); batches.seek(json.loads(sys.argv[1]))\n"
        "print(*[digest(next(batches)) for _ in range(4)])"
    )
    environment = {**os.environ, "JAXNN_DATA": str(written), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code, json.dumps(position)], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == right, done.stderr


def test_a_finished_stream_stays_finished_after_a_seek(rows):
    batches = stream(rows, batch_size=BATCH, seed=5, epochs=1)
    list(batches)
    end = batches.position()
    again = stream(rows, batch_size=BATCH, seed=5, epochs=1)
    again.seek(end)
    assert list(again) == []
    for ended in (batches, again):
        ended.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": -1}, "batch -1 in the position; 0 to"),
        ({"batch": 1.0}, "batch 1.0 in the position"),
        ({"batch": True}, "batch True in the position"),
        ({"batch": 13}, "batch 13 in the position; 0 to 12 would be right"),
        ({"batch": "3"}, "batch '3' in the position"),
        ({"seed": 6}, "the position is of another stream .seed 6 there, 5 here"),
        ({"batch_size": 4}, "batch_size 4 there, 8 here"),
        ({"sha256": "x"}, "sha256 'x' there"),
        ({"epochs": None}, "epochs None there, 2 here"),
        ({"order": "0"}, "order '0' there"),
        ({"more": 1}, "is no position of a stream"),
    ],
)
def test_positions_of_others_are_refused(rows, change, message):
    batches = stream(rows, batch_size=BATCH, seed=5, epochs=2)
    first = next(batches)
    with pytest.raises(InputError, match=message):
        batches.seek({**batches.position(), **change})
    # A refused position moves nothing.
    batches.seek({**batches.position(), "batch": 0})
    assert same([next(batches)], [first])
    batches.close()


def test_the_source_in_memory_is_that_of_load(in_memory):
    assert stream(in_memory, "test", batch_size=2, seed=0).source == load(in_memory, "test").source


def test_the_source_of_a_prepared_set(rows):
    whole, part, other = (stream(rows, split, batch_size=2, seed=0) for split in ("train", "train[:9]", "train[:10]"))
    assert whole.source == load(rows).source
    assert part.source._replace(sha256="", count=0) == load(rows, "train[:9]").source._replace(sha256="", count=0)
    assert len({whole.source.sha256, part.source.sha256, other.source.sha256}) == 3
    assert part.source.sha256 == stream(rows, "train[:9]", batch_size=3, seed=1).source.sha256


def test_mistakes(rows):
    for options, message in (
        ({"batch_size": 0, "seed": 0}, "batch_size 0, epochs None"),
        ({"batch_size": 2, "seed": 0, "epochs": 0}, "epochs 0"),
        ({"batch_size": 2, "seed": 0, "threads": -1}, "threads -1"),
        ({"batch_size": 2}, "seed is None; a shuffled stream needs one"),
        ({"batch_size": 2, "seed": 2**32}, "seed is 4294967296"),
        ({"batch_size": 51, "seed": 0}, "holds 50 examples, fewer than a batch of 51"),
    ):
        with pytest.raises(InputError, match=message):
            stream(rows, **options)
    with pytest.raises(InputError, match="unknown rows split 'valid'"):
        stream(rows, "valid", batch_size=2, seed=0)
    with pytest.raises(InputError, match="unknown data set 'row'; did you mean 'rows'"):
        stream("row", batch_size=2, seed=0)


def test_the_threads_end(rows):
    before = threading.active_count()
    batches = stream(rows, batch_size=2, seed=0, threads=3)
    take(batches, 3)
    assert threading.active_count() > before
    batches.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(10)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_record_is_named(machine, written, threads):
    import shutil

    shutil.copytree(written, machine)
    shard = sorted((machine / "tfds/rows/1.0.0").glob("*train*"))[1]
    data = bytearray(shard.read_bytes())
    # The second shard's third record.
    records = [at for at in range(len(data)) if data[at : at + 4] == b"\x89PNG"]
    data[records[2] + 20] ^= 1
    shard.write_bytes(data)
    batches = stream("rows", batch_size=BATCH, shuffle=False, threads=threads)
    right = take(batches, 1)
    with pytest.raises(DataError, match=r"tfds/rows/1\.0\.0: train row 15 cannot be read \("):
        take(batches, 1)
    position = batches.position()
    assert position["batch"] == 1
    # Who asks again is told again; what comes before is still to be had.
    with pytest.raises(DataError, match="row 15"):
        next(batches)
    batches.seek({**position, "batch": 0})
    assert same(take(batches, 1), right)
    batches.seek({**position, "batch": 2})
    assert numbers(take(batches, 1)) == [list(range(16, 24))]
    batches.close()


def test_ctrl_c_loses_no_batch(rows, monkeypatch):
    batches = stream(rows, batch_size=BATCH, shuffle=False, threads=1)
    take(batches, 1)
    batches.seek(batches.position())
    with monkeypatch.context() as patch:
        patch.setattr("jaxnn.data.prepared.decode", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    assert numbers(take(batches, 1)) == [list(range(8, 16))]
    batches.close()


@pytest.mark.parametrize(
    ("name", "picture", "label", "message"),
    [
        ("taller", np.zeros((5, 3, 1), np.uint8), 1, r"train image 4 is \(5, 3, 1\), image 0 \(4, 3, 1\)"),
        ("junk", b"\x89PNG junk", 1, "train row 4 cannot be decoded"),
        ("negative", np.zeros((4, 3, 1), np.uint8), -1, "train label -1 in row 4; labels must be 0 to 6"),
    ],
)
def test_an_example_of_another_kind_is_named(machine, prepare, to_png, name, picture, label, message):
    from tensorflow_datasets import features

    pictures = [to_png(np.zeros((4, 3, 1), np.uint8))] * 6
    examples = [{"image": data, "label": 1} for data in pictures]
    examples[4] = {"image": picture if isinstance(picture, bytes) else to_png(picture), "label": label}
    kinds = {"image": features.Image(shape=(None, None, 1)), "label": features.ClassLabel(num_classes=7)}
    prepare(machine / "tfds", name, kinds, {"train": examples})
    batches = stream(name, batch_size=2, shuffle=False)
    take(batches, 2)
    with pytest.raises(DataError, match=message):
        next(batches)
    batches.close()
