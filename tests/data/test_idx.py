"""The IDX reader: right files bit for bit, and every kind of wrong file by name."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from jaxnn.data import KNOWN, DataError, idx, load
from jaxnn.data.idx import read, read_pair


def idx_bytes(array):
    """An IDX file by the book, written without the library."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


IMAGES = np.arange(5 * 28 * 28, dtype=np.int64).reshape(5, 28, 28).astype(np.uint8)
WHOLE = idx_bytes(IMAGES)
ZIPPED = gzip.compress(WHOLE)


def header(count, *shape, magic=0x00000803):
    return struct.pack(f">{2 + len(shape)}I", magic, count, *shape)


@pytest.mark.parametrize(
    ("name", "data"), [("images", WHOLE), ("images.gz", ZIPPED), ("images.gz", gzip.compress(WHOLE[:99]) + gzip.compress(WHOLE[99:]))]
)
def test_reads_bit_for_bit(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    array = read(tmp_path / name, 3)
    np.testing.assert_array_equal(array, IMAGES)
    assert array.dtype == np.uint8
    assert array.flags.writeable


BROKEN = {
    "payload_short": ("images", WHOLE[:-784], r"header promises 5 images, file holds 4; get"),
    "payload_short_within_a_row": ("images", WHOLE[:-100], r"header promises 5 images, file holds 4 and 684 bytes"),
    "payload_long": ("images", WHOLE + b"\0", r"header promises 5 images, file holds more"),
    "clean_gzip_of_a_short_payload": ("images.gz", gzip.compress(WHOLE[:-784]), r"images\.gz: header promises 5 images, file holds 4"),
    "gzip_of_a_long_payload": ("images.gz", gzip.compress(WHOLE + b"\0"), r"header promises 5 images, file holds more"),
    "gzip_truncated": ("images.gz", ZIPPED[: len(ZIPPED) // 2], r"header promises 5 images, file holds \d"),
    "gzip_truncated_in_its_trailer": ("images.gz", ZIPPED[:-3], r"cannot be read whole"),
    "gzip_truncated_in_its_header": ("images.gz", ZIPPED[:5], r"cannot be read whole"),
    "gzip_checksum": ("images.gz", ZIPPED[:-8] + bytes([ZIPPED[-8] ^ 1]) + ZIPPED[-7:], r"cannot be read whole \(CRC check failed"),
    "gzip_garbled": ("images.gz", ZIPPED[:40] + b"\xff" * 40 + ZIPPED[80:], r"images\.gz: "),
    "gzip_then_garbage": ("images.gz", ZIPPED + b"garbage", r"cannot be read whole"),
    "not_gzip": ("images.gz", WHOLE, r"cannot be read whole \(Not a gzipped file"),
    "gzip_without_its_suffix": ("images", ZIPPED, r"its name must end in \.gz"),
    "empty": ("images", b"", r"ends after 0 bytes, inside its header of 16"),
    "header_cut": ("images", WHOLE[:9], r"ends after 9 bytes, inside its header of 16"),
    "floats": ("images", header(5, 28, 28, magic=0x00000D03), r"magic 00 00 0d 03; .* 00 00 08 03"),
    "wrong_dims": ("images", idx_bytes(np.zeros(5)), r"magic 00 00 08 01; .* 00 00 08 03"),
    "no_images": ("images", header(0, 28, 28), r"header promises 0x28x28 = 0 bytes; 1 to"),
    "promise_too_large": ("images", header(2**31, 28, 28), r"header promises 2147483648x28x28"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file_is_named(tmp_path, case):
    name, data, message = BROKEN[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path / name, 3)
    assert str(raised.value).startswith(f"{tmp_path.name}/{name}: ")


def test_directory_and_absent_file_are_errors_in_words(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="cannot be read whole"):
            read(path, 3)


def test_bomb_is_never_inflated(tmp_path):
    bomb = tmp_path / "images.gz"
    bomb.write_bytes(gzip.compress(header(5, 28, 28) + bytes(100 * 2**20), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(DataError, match="file holds more"):
        read(bomb, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20


def pair(folder, images, labels):
    (folder / "images").write_bytes(idx_bytes(images))
    (folder / "labels").write_bytes(idx_bytes(labels))
    return folder / "images", folder / "labels"


def test_pair(tmp_path):
    arrays = read_pair(*pair(tmp_path, IMAGES, np.arange(5)), KNOWN["mnist"])
    assert arrays["image"].shape == (5, 28, 28, 1)
    assert arrays["image"].dtype == np.uint8
    assert arrays["label"].tolist() == [0, 1, 2, 3, 4]
    assert arrays["label"].dtype == np.int32


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, np.arange(4), r"holds 5 images, labels 4 labels"),
        (IMAGES, np.array([0, 1, 12, 3, 4]), r"labels: label 12 in row 2; labels must be 0 to 9"),
        (IMAGES[:, :14], np.arange(5), r"images of 14x28 pixels; 28x28 would be right"),
    ],
)
def test_files_that_do_not_fit(tmp_path, images, labels, message):
    with pytest.raises(DataError, match=message):
        read_pair(*pair(tmp_path, images, labels), KNOWN["mnist"])


@pytest.mark.parametrize("name", idx.NAMES)
def test_missing_file_is_named(machine, write_idx, name):
    (write_idx(machine / "mnist", gz=True) / f"{name}.gz").unlink()
    with pytest.raises(DataError, match=f"mnist/{name} is missing"):
        load("mnist")


@pytest.mark.parametrize("name", idx.NAMES)
def test_truncated_file_is_found_by_load(machine, write_idx, name):
    file = write_idx(machine / "mnist", gz=True) / f"{name}.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-1]))
    with pytest.raises(DataError, match=rf"mnist/{name}\.gz: header promises"):
        load("mnist", "train+test")
