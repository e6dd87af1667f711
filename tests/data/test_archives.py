"""Zips that play tricks: each is refused by name, before anything of it is on disk."""

import io
import stat
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import DataError, archives, npz
from jaxnn.data.__main__ import main
from jaxnn.data.archives import open_zip


def a_png(value=0):
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(out, format="PNG")
    return out.getvalue()


GOOD = {"a/1.png": a_png(1), "b/1.png": a_png(2)}


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    """`members`: pairs of a name or a ZipInfo, and bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def read_all(path):
    with open_zip(path) as tree:
        return {name: read() for name, read in tree.files.items()}


def test_reads_bit_for_bit(tmp_path):
    path = zipped(tmp_path / "x.zip", [("c/", b""), *GOOD.items(), ("empty", b"")])
    assert read_all(path) == {**GOOD, "empty": b""}
    with open_zip(path) as tree:
        assert tree.folders == {"a", "b", "c"}


def link():
    info = zipfile.ZipInfo("a/2.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name", ["../a/2.png", "a/../../2.png", "/etc/passwd", "C:/2.png", "c:2.png", "a\\2.png", "..\\2.png", "a//2.png", "./2.png", "/"]
)
def test_names_that_lead_out(tmp_path, name):
    path = zipped(tmp_path / "x.zip", [*GOOD.items(), (name, a_png())])
    with pytest.raises(DataError, match=r"x\.zip: the name .* leads out of the archive"):
        read_all(path)


def test_a_name_with_a_zero_byte(tmp_path):
    """zipfile cuts a name off at one: two names may become one, or an image a folder."""
    path = zipped(tmp_path / "x.zip", [*GOOD.items(), ("a/2.pngX.exe", a_png())])
    path.write_bytes(path.read_bytes().replace(b"a/2.pngX.exe", b"a/2.png\0.exe"))
    with pytest.raises(DataError, match=r"leads out of the archive"):
        read_all(path)


def test_links_are_not_followed(tmp_path):
    with pytest.raises(DataError, match=r"x\.zip: a/2\.png is a link or a device"):
        read_all(zipped(tmp_path / "x.zip", [*GOOD.items(), (link(), b"/etc/passwd")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates(tmp_path):
    with pytest.raises(DataError, match=r"a/1\.png stands in it twice"):
        read_all(zipped(tmp_path / "x.zip", [*GOOD.items(), ("a/1.png", a_png(9))]))
    with pytest.raises(DataError, match=r"a/1\.png is both a file and a folder|stands in it twice"):
        read_all(zipped(tmp_path / "y.zip", [*GOOD.items(), ("a/1.png/2.png", a_png())]))


def test_encrypted(tmp_path):
    path = zipped(tmp_path / "x.zip", GOOD.items())
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a/1\.png is encrypted; unpack the archive"):
        read_all(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_on_memory(tmp_path, method):
    with pytest.raises(DataError, match=r"a/1\.png is packed by method \d+; zip the folder again"):
        read_all(zipped(tmp_path / "x.zip", GOOD.items(), method))


@pytest.mark.parametrize("keep", [0, 3, 0.3, 0.6, 0.9, -1])
def test_truncated(tmp_path, keep):
    path = zipped(tmp_path / "x.zip", GOOD.items())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"x\.zip: is no whole zip archive"):
        read_all(path)


def test_a_bomb_is_seen_by_its_promise(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a/1.png", bytes(2**22))])
    with pytest.raises(DataError, match=r"a/1\.png promises 4194304 bytes out of \d+, as a zip bomb does"):
        read_all(path)


@pytest.mark.parametrize("lie", [1000, 2**22 - 1, 2**22 + 1])
def test_a_bomb_that_lies_inflates_no_more_than_it_promised(tmp_path, lie, monkeypatch):
    """The headers say another size: the checksum, or the end, gives it away, and no byte more is asked for."""
    monkeypatch.setattr(archives, "RATIO", 10**6)
    asked = []

    class Watched(zipfile.ZipExtFile):
        def _read1(self, n):
            asked.append(len(data := super()._read1(n)))
            return data

    monkeypatch.setattr(zipfile, "ZipExtFile", Watched)
    path = zipped(tmp_path / "x.zip", [("a/1.png", bytes(2**22))])
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 2**22), struct.pack("<I", lie)))
    with pytest.raises(DataError, match=r"x\.zip/a/1\.png: (cannot be unpacked|promises)"):
        read_all(path)
    assert sum(asked) <= lie


def test_many_small_bombs_and_overlapping_ones(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", [(f"a/{i}.png", bytes(2**20)) for i in range(3)])
    monkeypatch.setattr(archives, "TOTAL", 2**21)
    with pytest.raises(DataError, match=r"x\.zip: promises 3145728 bytes out of \d+, as a zip bomb does"):
        read_all(path)
    monkeypatch.setattr(archives, "MEMBERS", 2)
    with pytest.raises(DataError, match=r"x\.zip: holds 3 files; 2 would be the most"):
        read_all(path)


def test_overlapping_members(tmp_path):
    """Two entries of the directory for the same packed bytes."""
    noise = np.random.default_rng(0).bytes(5000)
    path = zipped(tmp_path / "x.zip", [("a/1.png", noise)])
    data = path.read_bytes()
    start = data.find(b"PK\1\2")
    entry, end = data[start : data.find(b"PK\5\6")], bytearray(data[data.find(b"PK\5\6") :])
    end[8:12] = struct.pack("<HH", 2, 2)
    end[12:16] = struct.pack("<I", 2 * len(entry))
    path.write_bytes(data[:start] + entry + entry.replace(b"a/1.png", b"a/2.png") + end)
    with pytest.raises(DataError, match=r"x\.zip: its members overlap"):
        read_all(path)


def test_a_member_hidden_in_the_comment_of_another(tmp_path):
    """One damaged length, and zipfile looks past the rest of the directory."""
    path = zipped(tmp_path / "x.zip", GOOD.items())
    data = bytearray(path.read_bytes())
    second = data.rfind(b"PK\1\2")
    data[data.find(b"PK\1\2") + 32] = data.find(b"PK\5\6") - second
    path.write_bytes(data)
    assert zipfile.ZipFile(path).namelist() == ["a/1.png"]
    with pytest.raises(DataError, match=r"x\.zip: says that it holds 2 files, lists 1"):
        read_all(path)


def test_more_members_than_two_bytes_count(tmp_path, monkeypatch):
    """Their count stands in a record of its own."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = zipped(tmp_path / "x.zip", GOOD.items())
    data = bytearray(path.read_bytes())
    data[-14:-10] = b"\xff" * 4
    path.write_bytes(data)
    assert read_all(path) == GOOD
    data[data.find(b"PK\6\6") + 32] = 3
    path.write_bytes(data)
    with pytest.raises(DataError, match="says that it holds 3 files, lists 2"):
        read_all(path)


def test_a_wrong_checksum(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a/1.png", b"hello world")], zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"hello", b"hallo"))
    with pytest.raises(DataError, match=r"x\.zip/a/1\.png: cannot be unpacked \(Bad CRC"):
        read_all(path)


def test_the_command_line_says_it_in_one_line(machine, tmp_path, capsys):
    path = zipped(tmp_path / "x.zip", [*GOOD.items(), ("../../escaped.png", a_png())])
    assert main(["prepare", "faces", "--from", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(machine.rglob("*.array_record*"))


IMAGE, LABEL = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([0, 1])
BAD_NPZ = {
    "floats": ({"image": IMAGE / 255, "label": LABEL}, "image is float64; uint8, 0 to 255, would be right"),
    "nan": ({"image": np.full((2, 4, 4), np.nan, np.float32), "label": LABEL}, "image is float32, with 32 NaN; uint8"),
    "int64": ({"image": IMAGE.astype(int), "label": LABEL}, "image is int64; uint8"),
    "objects": ({"image": np.array([IMAGE, None], object), "label": LABEL}, "image holds Python objects, which are never loaded"),
    "label_objects": ({"image": IMAGE, "label": np.array([0, None], object)}, "label holds Python objects"),
    "structured": ({"image": IMAGE, "label": np.zeros(2, [("a", int), ("b", object)])}, "label holds Python objects"),
    "flat": ({"image": IMAGE.reshape(2, -1), "label": LABEL}, r"image has the shape \(2, 48\); \(N, H, W\)"),
    "channels_first": ({"image": IMAGE.transpose(0, 3, 1, 2), "label": LABEL}, r"image has the shape \(2, 3, 4, 4\)"),
    "alpha": ({"image": np.zeros((2, 4, 4, 4), np.uint8), "label": LABEL}, r"image has the shape \(2, 4, 4, 4\)"),
    "no_rows": ({"image": IMAGE[:0], "label": LABEL[:0]}, r"image has the shape \(0, 4, 4, 3\)"),
    "counts": ({"image": IMAGE, "label": np.arange(3)}, "label holds 3 labels for 2 images"),
    "one_hot": ({"image": IMAGE, "label": np.eye(2, dtype=int)}, r"label is int64 of the shape \(2, 2\)"),
    "label_floats": ({"image": IMAGE, "label": np.array([0.0, 1.0])}, "label is float64 of the shape"),
    "label_bools": ({"image": IMAGE, "label": np.array([False, True])}, "label is bool of the shape"),
    "negative": ({"image": IMAGE, "label": np.array([0, -1])}, "label is -1 in row 1; 0 to"),
    "beyond": ({"image": IMAGE, "label": np.array([2, 0]), "classes": np.array(["a", "b"])}, "label is 2 in row 0; 0 to 1 would be right"),
    "beyond_int32": ({"image": IMAGE, "label": np.array([0, 2**40])}, f"label is {2**40} in row 1"),
    "unsigned": ({"image": IMAGE, "label": np.array([0, 2**64 - 1], np.uint64)}, f"label is {2**64 - 1} in row 1"),
    "classes_of_bytes": ({"image": IMAGE, "label": LABEL, "classes": np.array([b"a", b"b"])}, r"classes is \|S1"),
    "label_missing": ({"image": IMAGE}, "label is missing; image and label, or train_image"),
    "test_label_missing": ({"image": IMAGE, "label": LABEL, "test_image": IMAGE}, "test_label is missing"),
    "both_spellings": ({"image": IMAGE, "label": LABEL, "train_image": IMAGE, "train_label": LABEL}, "one name for the train split"),
    "other_names": ({"x_train": IMAGE, "y_train": LABEL}, r"bad\.npz: holds x_train, y_train; image and label"),
    "nothing": ({}, "holds nothing"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz(tmp_path, case):
    arrays, message = BAD_NPZ[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=rf"bad\.npz: .*{message}" if not message.startswith("bad") else message):
        npz.read(tmp_path / "bad.npz")


def npy(header, payload):
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + payload


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 4, 4)}", "promises 16000000000000 bytes"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2, 8)}", "promises|no NumPy array"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4, 3)}", "promises 24 bytes for the shape"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': 32}", "is no NumPy array"),
        ("{'descr': '|V0', 'fortran_order': False, 'shape': (2, 4, 4)}", "promises 0 bytes"),
        ("{'descr': __import__('os').system('false'), 'fortran_order': False, 'shape': (2,)}", "is no NumPy array"),
        ("{'descr': " + "(" * 3000 + "}", "is no NumPy array"),
        ("x" * 20000, "is no NumPy array"),
    ],
)
def test_headers_are_not_believed(tmp_path, header, message):
    zipped(tmp_path / "bad.npz", [("image.npy", npy(header, bytes(32)))])
    with pytest.raises(DataError, match=message):
        npz.read(tmp_path / "bad.npz")


def test_no_pickle_runs(tmp_path):
    """A member that is a pickle, under the name of an array."""
    zipped(tmp_path / "bad.npz", [("image.npy", b"cos\nsystem\n(S'false'\ntR."), ("label.npy", b"")])
    with pytest.raises(DataError, match="image is no NumPy array"):
        npz.read(tmp_path / "bad.npz")
