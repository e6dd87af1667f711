"""Your own files become a tfds set: bit for bit, in order, with their names; whole or not at all; every mistake in words."""

import contextlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxnn.data import DataError, images, load, opened, origins
from jaxnn.data.__main__ import main
from jaxnn.data.known import digest
from jaxnn.data.prepare import prepare
from jaxnn.types import InputError

NAMES = ("s1", "s2", "s10")
"""In the order of their numbers, which is not that of their letters."""


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, format=kind, **options)
    return out.getvalue()


def pixels(count=1, shape=(6, 5, 3), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


TREE = {
    f"{split}/{name}/{i}.png": pixels(seed=100 * s + 20 * n + i)[0]
    for s, split in enumerate(("test", "train"))
    for n, name in enumerate(NAMES)
    for i in (1, 2, 10)
}


def write_tree(folder, tree=TREE, suffix=".png", kind="PNG", **options):
    for name, image in tree.items():
        path = (folder / name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image, kind, **options))
    return folder


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def through_tfds(folder, split):
    """As any other tfds user reads it."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    rows = list(builder.as_data_source(split=split))
    return np.stack([row["image"] for row in rows]), np.array([row["label"] for row in rows]), builder.info.features["label"].names


def expect(machine, name, split, image, label, names):
    """The same rows through `load` and through tfds."""
    dataset = load(name, split)
    np.testing.assert_array_equal(dataset.arrays["image"], image)
    np.testing.assert_array_equal(dataset.arrays["label"], label)
    assert dataset.arrays["label"].dtype == np.int32
    theirs = through_tfds(machine / "tfds" / name / "1.0.0", split)
    np.testing.assert_array_equal(theirs[0], image)
    np.testing.assert_array_equal(theirs[1], label)
    assert theirs[2] == list(names)
    return dataset.source.sha256


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(machine, tmp_path, write_idx, digits, packed):
    source = write_idx(tmp_path / "digits", gz=True)
    if packed:
        source = write_zip(tmp_path / "digits.zip", {f"digits/{path.name}": path.read_bytes() for path in source.iterdir()})
    made = prepare("my_digits", source)
    assert made.counts == {"train": 20, "test": 10}
    assert made.shape == (28, 28, 1)
    most = max(arrays["label"].max() for arrays in digits.values())
    for split, arrays in digits.items():
        sha256 = expect(machine, "my_digits", split, *arrays.values(), map(str, range(most + 1)))
        assert made.sha256[split] == sha256 == digest(arrays)


def test_an_image_tree(machine, tmp_path):
    made = prepare("faces", write_tree(tmp_path / "tree"))
    assert made.classes == NAMES
    assert list(made.counts.items()) == [("train", 9), ("test", 9)]
    for split in ("train", "test"):
        # Round the classes: 1.png of each, 2.png of each, 10.png of each.
        image = np.stack([TREE[f"{split}/{name}/{i}.png"] for i in (1, 2, 10) for name in NAMES])
        assert expect(machine, "faces", split, image, [0, 1, 2] * 3, NAMES) == made.sha256[split]


@pytest.mark.parametrize(("kind", "suffix"), [("BMP", ".BMP"), ("PPM", ".ppm"), ("PNG", ".png"), ("WEBP", ".webp")])
def test_lossless_formats(machine, tmp_path, kind, suffix):
    prepare("faces", write_tree(tmp_path / "tree", suffix=suffix, kind=kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(load("faces", "test[:1]").arrays["image"][0], TREE["test/s1/1.png"])


def test_jpeg_files_stay_the_bytes_they_are(machine, tmp_path):
    source = write_tree(tmp_path / "tree", suffix=".jpg", kind="JPEG")
    prepare("faces", source)
    with Image.open(source / "train/s2/1.jpg") as image:
        np.testing.assert_array_equal(load("faces").arrays["image"][1], np.asarray(image))
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    records = tfds.builder_from_directory(machine / "tfds/faces/1.0.0").as_data_source(split="train", decoders=decoders)
    assert records[1]["image"] == (source / "train/s2/1.jpg").read_bytes()


def test_classes_alone_are_one_train_split(machine, tmp_path):
    """The layout of ORL faces: grey, `s<person>/<image>.png`, zipped; and the same in one more folder."""
    tree = {f"s{person}/{i:02}.png": pixels(shape=(11, 9, 1), seed=person * 100 + i)[0] for person in (1, 2, 10) for i in (1, 2)}
    files = {name: encoded(image) for name, image in tree.items()}
    made = prepare("faces", write_zip(tmp_path / "faces.zip", files))
    image = np.stack([tree[f"{name}/{i:02}.png"] for i in (1, 2) for name in NAMES])
    assert expect(machine, "faces", "train", image, [0, 1, 2] * 2, NAMES) == made.sha256["train"]
    wrapped = {f"orl/{name}": data for name, data in files.items()} | {"orl/README": b"thanks", "__MACOSX/orl/s1/._01.png": b"junk"}
    again = prepare("wrapped", write_zip(tmp_path / "wrapped.zip", wrapped))
    assert again.sha256 == made.sha256
    assert again.left_out == ("orl/README",)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(machine, tmp_path, save):
    image, label = pixels(7, (4, 3, 1)), np.array([0, 2, 1, 1, 0, 3, 2])
    save(tmp_path / "one.npz", image=image[..., 0], label=label, classes=np.array(["red", "green", "猫", "a b"]))
    prepare("one", tmp_path / "one.npz")
    expect(machine, "one", "train", image, label, ["red", "green", "猫", "a b"])
    save(
        tmp_path / "two.npz",
        train_image=image,
        train_label=label.astype(np.uint8),
        test_image=np.asfortranarray(image[:2]),
        test_label=label[:2],
    )
    prepare("two", tmp_path / "two.npz")
    expect(machine, "two", "train", image, label, "0123")
    expect(machine, "two", "test", image[:2], label[:2], "0123")


def test_several_shards_and_another_folder(machine, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnn.data.prepare.SHARD", 3 * 6 * 5 * 3)
    image = pixels(8)
    np.savez(tmp_path / "x.npz", image=image, label=np.arange(8))
    made = prepare("my_set", tmp_path / "x.npz", tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / "my_set" / "1.0.0"
    assert made.path == "elsewhere/my_set/1.0.0"
    assert len(list(folder.glob("*.array_record*"))) == 3
    np.testing.assert_array_equal(through_tfds(folder, "train")[0], image)
    with pytest.raises(InputError, match="unknown data set"):
        load("my_set")
    shutil.move(tmp_path / "elsewhere", machine / "tfds")
    np.testing.assert_array_equal(load("my_set", "train[2:7]").arrays["image"], image[2:7])


@pytest.fixture
def npz(tmp_path):
    """A small source."""
    np.savez(tmp_path / "small.npz", image=pixels(5), label=np.arange(5))
    return tmp_path / "small.npz"


def test_nothing_is_overwritten_unasked(machine, npz, tmp_path):
    prepare("mine", npz)
    np.savez(tmp_path / "other.npz", image=pixels(4, seed=9), label=np.arange(4))
    with pytest.raises(DataError, match=r"tfds/mine/1\.0\.0 is there already; .*--overwrite"):
        prepare("mine", tmp_path / "other.npz")
    assert load("mine").source.count == 5
    prepare("mine", tmp_path / "other.npz", overwrite=True)
    assert load("mine").source.count == 4
    assert os.listdir(machine / "tfds") == ["mine"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, OSError(28, "No space left on device"), RuntimeError("write() failed: No space left")]
)
def test_whole_or_not_at_all(machine, npz, monkeypatch, error):
    prepare("mine", npz)
    sha256, encode, calls = load("mine").source.sha256, images.encode, []

    def failing(image):
        calls.append(image)
        if len(calls) > 3:
            raise error
        return encode(image)

    monkeypatch.setattr(images, "encode", failing)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError, match=r"^$|nothing was prepared"):
        prepare("mine", npz, overwrite=True)
    assert os.listdir(machine / "tfds") == ["mine"]
    assert load("mine").source.sha256 == sha256


def test_a_copy_in_part_is_seen_at_once(machine, npz):
    prepare("mine", npz)
    shard = next((machine / "tfds/mine/1.0.0").glob("*train*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-7])
    with pytest.raises(DataError, match=rf"tfds/mine/1.0.0: {shard.name} holds {len(whole) - 7} bytes, not {len(whole)}"):
        opened("mine")
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name} is missing"):
        opened("mine")


def changed(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


def test_damaged_metadata_are_seen_at_once(machine, npz):
    """tfds itself would read three rows, or give other names, without a word."""
    prepare("mine", npz)
    folder = machine / "tfds/mine/1.0.0"
    sha256 = load("mine").source.sha256
    cases = (
        ("dataset_info.json", '"5"', '"3"', r"dataset_info\.json is not what it was"),
        ("label.labels.txt", "4", "9", r"label\.labels\.txt is not what it was"),
        ("jaxnn.json", sha256, "0" * 64, r"jaxnn\.json is damaged"),
        ("jaxnn.json", "about", "abaut", r"jaxnn\.json cannot be read"),
        ("jaxnn.json", "{", "[", r"jaxnn\.json cannot be read"),
    )
    for file, old, new, message in cases:
        whole = (folder / file).read_text()
        changed(folder / file, old, new)
        with pytest.raises(DataError, match=rf"tfds/mine/1\.0\.0: {message}; prepare the set again"):
            load("mine")
        (folder / file).write_text(whole)
    assert load("mine").source.sha256 == sha256


def test_known_names_and_what_stands_before(machine, tmp_path, write_idx, npz):
    source = write_idx(tmp_path / "digits", gz=False)
    assert prepare("Fashion-MNIST", source).path == "tfds/fashion_mnist/1.0.0"
    write_idx(machine / "mnist", gz=True)
    assert prepare("mnist", source).before == "mnist"
    with pytest.raises(DataError, match="5 classes; 10 would be right for a data set of this name"):
        prepare("cifar10", npz)
    np.savez(tmp_path / "ten.npz", image=pixels(10), label=np.arange(10))
    with pytest.raises(DataError, match="cifar10: images of 6x5x3; 32x32x3 would be right"):
        prepare("cifar10", tmp_path / "ten.npz")


@pytest.mark.parametrize("name", ["../x", "/x", "My_Set", "a-b", "1x", "", "auto", "mnist_5k", "MNIST-5k", "a/b", "x\0"])
def test_wrong_names(npz, name):
    with pytest.raises(InputError, match="my_cells, would be right"):
        prepare(name, npz)


def bits16():
    out = io.BytesIO()
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(out, format="PNG")
    return out.getvalue()


def rgb16():
    """16-bit RGB, by the book: Pillow would read it as 8-bit without a word."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, rows = struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0), b"".join(b"\0" + bytes(5 * 6) for _ in range(6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def converted(mode, kind="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(pixels()[0]).convert(mode).save(out, format=kind, **options)
    return out.getvalue()


def huge():
    out = io.BytesIO()
    Image.new("L", (9000, 9000)).save(out, format="PNG")
    return out.getvalue()


def animated():
    frames = [Image.fromarray(image) for image in pixels(2)]
    out = io.BytesIO()
    frames[0].save(out, format="PNG", save_all=True, append_images=frames[1:])
    return out.getvalue()


PNG, JPEG = encoded(pixels()[0]), encoded(pixels(shape=(60, 50, 3))[0], "JPEG")
BAD_IMAGES = {
    "empty": (b"", "cannot be decoded"),
    "text": (b"not an image", "cannot be decoded"),
    "png_truncated": (PNG[: len(PNG) // 2], "cannot be decoded"),
    "png_with_a_flipped_bit": (flipped(PNG, len(PNG) - 20), "is damaged|cannot be decoded"),
    # Pillow inflates the pixels without looking at it.
    "png_with_a_wrong_checksum": (flipped(PNG, len(PNG) - 14), "is damaged"),
    "jpeg_truncated": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "other_shape": (encoded(pixels(shape=(6, 6, 3))[0]), "is 6x6x3, the first image 6x5x3; all must be of one shape"),
    "grey_among_colours": (encoded(pixels(shape=(6, 5, 1))[0]), "is 6x5x1, the first image 6x5x3"),
    "palette": (converted("P"), "has a palette; 8-bit grey or RGB"),
    "alpha": (converted("RGBA"), "has transparency; 8-bit grey or RGB"),
    "one_bit": (converted("1"), "has 1 bit a pixel"),
    "cmyk": (converted("CMYK", "JPEG"), "is of mode CMYK"),
    "grey_16_bits": (bits16(), "is of mode I;16"),
    "rgb_16_bits": (rgb16(), "has not 8 bits a channel"),
    "pgm_16_bits": (b"P5 5 6 65535\n" + bytes(60), "is of mode I|has not 8 bits"),
    "pgm_of_few_greys": (b"P5 5 6 15\n" + bytes(30), "has not 8 bits a channel"),
    "animation": (animated(), "is an animation of 2 frames"),
    "bomb": (huge(), "is 9000x9000 pixels; 67108864 in all would be the most"),
    "gif": (converted("P", "GIF"), "cannot be decoded"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_named(machine, tmp_path, case):
    data, message = BAD_IMAGES[case]
    source = write_tree(tmp_path / "tree")
    (source / "train/s2/10.png").write_bytes(data)
    with pytest.raises(DataError, match=rf"tree/train/s2/10\.png ({message})"):
        prepare("faces", source)
    assert not os.listdir(machine / "tfds")


def test_a_sixteen_bit_file_is_what_pillow_takes_for_eight():
    """If this fails, Pillow has learnt it, and the check of the header may go."""
    with Image.open(io.BytesIO(rgb16())) as image:
        assert image.mode == "RGB"


BAD_TREES = {
    "empty_class": (lambda f: (f / "train/s3").mkdir(), "tree/train/s3 holds no images"),
    "empty_split": (lambda f: (f / "valid").mkdir(), "tree/valid holds no images"),
    "class_missing": (lambda f: shutil.rmtree(f / "test/s10"), "test has no folder 's10', as train has"),
    "strange_file": (lambda f: (f / "train/s1/notes.txt").write_text("x"), r"tree/train/s1/notes\.txt is no image by its name"),
    "loose_image": (lambda f: shutil.copy(f / "train/s1/1.png", f / "1.png"), "images at different depths"),
    "no_images": (lambda f: [p.unlink() for p in f.rglob("*.png")], "tree: holds no images"),
    "pipe": (lambda f: os.mkfifo(f / "train/s1/3.png"), r"tree/train/s1/3\.png is neither a file nor a folder"),
    "broken_link": (lambda f: (f / "train/s1/3.png").symlink_to("nowhere"), r"3\.png is neither a file nor a folder"),
    "loop": (lambda f: (f / "train/s1/loop").symlink_to(f), "lies deeper than 5 folders"),
    "split_named_all": (lambda f: (f / "test").rename(f / "all"), "'all' cannot name a split"),
    "split_with_a_hyphen": (lambda f: (f / "test").rename(f / "te-st"), "'te-st' cannot name a split"),
    "class_with_a_newline": (lambda f: [(f / s / "s1").rename(f / s / "s\n1") for s in ("train", "test")], r"cannot name a class"),
}


@pytest.mark.parametrize("case", BAD_TREES)
def test_bad_trees_are_named(machine, tmp_path, case):
    damage, message = BAD_TREES[case]
    damage(source := write_tree(tmp_path / "tree"))
    with pytest.raises(DataError, match=message):
        prepare("faces", source)


def test_what_is_no_source(tmp_path):
    for name in ("absent", "absent.zip"):
        with pytest.raises(DataError, match=f"{name}: there is no such file or folder"):
            prepare("x", tmp_path / name)
    (tmp_path / "x.tar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.tar: is neither a folder nor a \.zip nor a \.npz"):
        prepare("x", tmp_path / "x.tar")
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="digits/train-labels-idx1-ubyte is missing"):
        prepare("x", tmp_path / "digits")


def test_command_line(machine, tmp_path, npz, capsys):
    assert main(["prepare", "mine", "--from", str(npz)]) == 0
    first, second, rate = capsys.readouterr().out.splitlines()
    assert first == "tfds/mine/1.0.0: 5 classes (0, 1, 2, 3, 4), images 6x5x3"
    assert second == f"train  5  sha256 {load('mine').source.sha256}"
    assert "images a second" in rate
    assert main(["prepare", "mine", "--from", str(npz)]) == 2
    assert main(["prepare", "other", "--from", str(tmp_path / "none.zip")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("error: ") for line in errors)


def test_command_line_interrupted(npz, monkeypatch, capsys):
    monkeypatch.setattr(images, "encode", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["prepare", "mine", "--from", str(npz)]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was prepared or downloaded\n"


def test_metadata_name_no_folder(machine, npz, tmp_path):
    prepare("mine", npz)
    for path in (machine / "tfds/mine/1.0.0").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    assert json.loads((machine / "tfds/mine/1.0.0/dataset_info.json").read_text())["disableShuffling"]


def rows_of(path):
    """All that a source holds."""
    with origins.opened(path, None) as origin:
        rows = {split: [(row.image.tobytes(), row.image.shape, row.label) for row in part.rows()] for split, part in origin.splits.items()}
        return rows, origin.classes


def _sources(folder: Path):
    """One small source of each packed kind."""
    files = {name: encoded(image) for name, image in TREE.items() if "10" not in name}
    write_zip(folder / "tree.zip", {"train/": b"", **files})
    np.savez(folder / "plain.npz", image=pixels(3), label=np.arange(3))
    np.savez_compressed(folder / "packed.npz", image=pixels(3), label=np.arange(3), classes=np.array(["a", "b", "c"]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    _sources(folder)
    return {path.name: (path.read_bytes(), rows_of(path)) for path in folder.iterdir()}, tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("name", ["tree.zip", "plain.npz", "packed.npz"])
@settings(max_examples=150, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), change=st.sampled_from(["flip", "cut", "insert", "zero"]), value=st.integers(0, 255))
def test_damage_is_seen_or_harmless(whole, name, where, change, value):
    (data, right), folder = whole[0][name], whole[1]
    at = int(where * len(data))
    middle = {"flip": bytes([data[at] ^ (1 << value % 8)]), "cut": b"", "insert": bytes([value, data[at]]), "zero": bytes(8)}[change]
    rest = b"" if change == "cut" else data[at + (8 if change == "zero" else 1) :]
    (folder / name).write_bytes(data[:at] + middle + rest)
    with contextlib.suppress(DataError):
        assert rows_of(folder / name) == right
