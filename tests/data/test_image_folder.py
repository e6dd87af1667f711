"""Folders of photographs: what is cut out, that it hangs on nothing but seed, epoch and image, and what is said of a bad folder."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import DataError
from jaxnn.data.image_folder import ASPECT, centre_box, centre_crops, cut, first_centres, open_folder, open_pair, random_box, random_crops
from jaxnn.types import InputError


def picture(height, width, seed=0, mode="RGB"):
    """Smooth colours, so that JPEG changes little."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width] / max(height, width)
    colours = np.stack([128 + 60 * np.sin(3 * (a * down + b * across) + c) for a, b, c in rng.uniform(-1, 1, (3, 3))], -1)
    return Image.fromarray(colours.astype(np.uint8)).convert(mode)


def save(path, image, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


@pytest.fixture
def folder(tmp_path):
    """2 splits, 3 classes, images of 12 sizes; names say in which order rows go."""
    for split, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(("ant", "bee", "cat")):
            for number in range(count):
                rows, columns = 20 + 3 * number + label, 40 - 4 * number
                save(tmp_path / "photos" / split / name / f"{number}.JPEG", picture(rows, columns, 10 * number + label), quality=95)
    return tmp_path / "photos"


def take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def same(ours, theirs):
    return all(np.array_equal(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) for name in ("image", "label"))


def test_a_folder_is_opened_by_its_classes(folder):
    train, judged = open_pair(folder)
    assert (train.name, judged.name, train.classes) == ("photos/train", "photos/val", ("ant", "bee", "cat"))
    assert train.names[:4] == ("ant/0.JPEG", "bee/0.JPEG", "cat/0.JPEG", "ant/1.JPEG")
    assert train.labels.tolist() == [0, 1, 2] * 5
    assert train.source().count == 15
    assert judged.labels.tolist() == [0, 1, 2] * 2


def test_row_107_the_centre_is_seven_eighths_of_the_shorter_side(folder):
    """Pillow's own resize to 256/224 of the size and crop give nearly the same pixels."""
    _, judged = open_pair(folder)
    batches = list(centre_crops(judged, size=14, batch_size=4, threads=0))
    assert [batch["image"].shape for batch in batches] == [(4, 14, 14, 3), (2, 14, 14, 3)]
    assert np.concatenate([batch["label"] for batch in batches]).tolist() == [0, 1, 2, 0, 1, 2]
    with Image.open(folder / "val" / "ant" / "0.JPEG") as image:  # 40 wide, 20 high: 32 × 16, of which the middle
        theirs = np.asarray(image.resize((32, 16), Image.Resampling.BILINEAR).crop((9, 1, 23, 15)), float)
    assert np.abs(batches[0]["image"][0] - theirs).mean() < 1
    some = first_centres(judged, 5, size=14)
    np.testing.assert_array_equal(some["image"], np.concatenate([batch["image"] for batch in batches])[:5])
    assert len(first_centres(judged, 99, size=14)["label"]) == 6


def test_row_107_the_centre_of_a_ramp_by_hand():
    """40 × 20 pixels of 6 · column: 17.5 of them from 11.25 on, in 14 pixels, each the value at its middle."""
    out = io.BytesIO()
    Image.fromarray(np.tile(np.arange(0, 240, 6, np.uint8)[None, :, None], (20, 1, 3))).save(out, format="PNG")
    expected = 6 * (11.25 + 1.25 * (np.arange(14) + 0.5) - 0.5)
    np.testing.assert_allclose(cut(out.getvalue(), 14, centre_box)[7, :, 0], expected, atol=1)


def test_row_108_patches_have_the_areas_and_shapes_of_the_paper():
    """Even in area from 8 to 100 %, as far as they fit; even in the logarithm of the aspect; everywhere in the image; half turned over."""
    draws = [random_box(np.random.default_rng(number), 400, 300) for number in range(4000)]
    boxes = np.array([box for box, _ in draws])
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = wide * high / 120_000, wide / high
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 400
    assert boxes[:, 3].max() <= 300
    assert 0.079 < area.min() < 0.085
    assert area.max() > 0.97
    small = area < 0.5  # all of these fit, whatever their aspect
    np.testing.assert_allclose(np.quantile(area[small], [0.25, 0.5, 0.75]), 0.08 + 0.42 * np.array([0.25, 0.5, 0.75]), atol=0.02)
    assert aspect.min() > 0.99 * ASPECT[0]
    assert aspect.max() < 1.01 * ASPECT[1]
    low, middle, high_ = np.quantile(np.log(aspect[small]), [0.25, 0.5, 0.75])
    np.testing.assert_allclose([low, middle, high_], np.log(4 / 3) * np.array([-0.5, 0, 0.5]), atol=0.02)
    for end, spare in ((boxes[:, 2] == 400, 400 - wide), (boxes[:, 3] == 300, 300 - high)):
        assert np.any(end & (spare > 0))  # the last place is one of them
    spare = 400 - wide
    np.testing.assert_allclose((boxes[:, 0] / spare)[spare > 100].mean(), 0.5, atol=0.02)
    assert np.mean([turned for _, turned in draws]) == pytest.approx(0.5, abs=0.03)


def test_of_a_strip_the_largest_patch_of_its_middle():
    """90 × 3: no area of 8 % with an aspect of 4/3 at most is so flat; 4 wide and 3 high is."""
    assert random_box(np.random.default_rng(0), 90, 3)[0] == (43.0, 0.0, 47.0, 3.0)
    assert random_box(np.random.default_rng(0), 3, 90)[0] == (0.0, 43.0, 3.0, 47.0)


def test_what_is_cut_out_is_what_was_chosen():
    """Without scaling the pixels themselves; turned over left to right; a patch scaled down is the mean of its pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    box = (3, 2, 7, 6)
    np.testing.assert_array_equal(cut(out.getvalue(), 4, lambda width, height: (box, False)), pixels[2:6, 3:7])
    np.testing.assert_array_equal(cut(out.getvalue(), 4, lambda width, height: (box, True)), pixels[2:6, 3:7][:, ::-1])
    asked = []
    cut(out.getvalue(), 4, lambda *size: asked.append(size) or centre_box(*size))
    assert asked == [(10, 8)]


@pytest.mark.parametrize(("size", "shrunk"), [(40, (101, 51)), (120, (401, 202))])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(monkeypatch, size, shrunk):
    """Half as large as the patch, or an eighth of it: never smaller than what is asked for."""
    image = picture(403, 801)
    out, decoded = io.BytesIO(), []
    image.save(out, format="JPEG", quality=95)
    convert = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: decoded.append(self.size) or convert(self, mode))
    box = (400, 3, 801, 403)
    ours = cut(out.getvalue(), size, lambda width, height: (box, False)).astype(float)
    assert decoded == [shrunk]
    theirs = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box), float)
    assert np.abs(ours - theirs).max() < 6


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "RGBA"])
def test_other_modes_become_three_channels(mode):
    out = io.BytesIO()
    image = picture(20, 20, mode=mode)
    image.save(out, format="JPEG" if mode == "CMYK" else "PNG")
    ours = cut(out.getvalue(), 20, lambda width, height: ((0, 0, 20, 20), False))
    assert ours.shape == (20, 20, 3)
    assert np.abs(ours.astype(float) - np.asarray(image.convert("RGB"), float)).mean() < 4


@pytest.mark.parametrize("threads", [0, 3])
def test_patches_hang_on_seed_epoch_and_image_alone(folder, threads):
    train, _ = open_pair(folder)
    batches = take(random_crops(train, size=16, batch_size=4, seed=5, threads=threads), 6)
    assert all(batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32 for batch in batches)
    again = take(random_crops(train, size=16, batch_size=4, seed=5), 6)
    assert same(batches, again)
    assert not same(batches[:1], take(random_crops(train, size=16, batch_size=4, seed=6), 1))
    # The same image, cut out of another batch size's batches; and in another epoch otherwise.
    whole = take(random_crops(train, size=16, batch_size=15, seed=5), 2)
    np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in batches[:3]]), whole[0]["image"][:12])
    assert sorted(whole[0]["label"]) == sorted(whole[1]["label"]) == sorted([0, 1, 2] * 5)
    assert len(np.unique(np.concatenate([batch["image"] for batch in whole]), axis=0)) == 30


def test_the_same_picture_is_cut_out_otherwise_in_each_of_its_rows_and_under_each_seed(tmp_path):
    """Six copies: what differs between their patches was drawn, whatever their order."""
    pixels = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    for name in ("a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png"):
        save(tmp_path / name, Image.fromarray(pixels))
    ours, theirs = (take(random_crops(open_folder(tmp_path), size=8, batch_size=6, seed=seed, threads=0), 1)[0]["image"] for seed in (5, 6))
    assert len(np.unique(np.concatenate([ours, theirs]), axis=0)) == 12


def test_an_image_of_another_length_makes_another_folder(folder):
    before = open_folder(folder / "train")
    assert open_folder(folder / "train").sha256 == before.sha256
    replace(lambda data: data + b"\0")(folder / "train" / "bee" / "1.JPEG")
    assert open_folder(folder / "train").sha256 != before.sha256


def test_a_stream_goes_on_from_any_position_and_from_no_other_s(folder):
    train, judged = open_pair(folder)
    batches = random_crops(train, size=16, batch_size=4, seed=5)
    rest = [next(batches) for _ in range(5)][3:]
    batches.seek({**batches.position(), "batch": 3})
    assert same(take(batches, 2), rest)
    position = random_crops(train, size=16, batch_size=4, seed=5).position()
    with pytest.raises(InputError, match=r"view '16 pixels, at random: .*' there, '17 pixels, at random: .*' here"):
        random_crops(train, size=17, batch_size=4, seed=5).seek(position)
    with pytest.raises(InputError, match="sha256"):
        random_crops(judged, size=16, batch_size=4, seed=5).seek(position)


def replace(data):
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [p.unlink() for p in (f / "train/bee").iterdir()], r"photos/train/bee holds no images; fill it, or take it away"),
        (lambda f: (f / "train/dog").mkdir(), r"photos/train/dog holds no images; fill it, or take it away"),
        (lambda f: (f / "val/bee").rename(f / "val/bug"), r"photos/train has no folder 'bug', as photos/val has; both need the same"),
        (lambda f: save(f / "train/dog/1.png", picture(9, 9)), r"photos/val has no folder 'dog', as photos/train has; both need the same"),
        (lambda f: (f / "val").rename(f / "other"), r"photos holds no val/; train/class/image and val/class/image would be right"),
        (lambda f: (f / "train").rename(f / "other"), r"photos holds no train/; train/class/image"),
        (lambda f: f.rename(f.parent / "others"), r"photos: there is no such folder"),
        (lambda f: save(f / "train/ant/more/1.png", picture(9, 9)), r"photos/train: images at different depths"),
        (lambda f: (f / "train/ant/notes.txt").write_text(""), r"photos/train/ant/notes.txt is no image by its name"),
    ],
)
def test_a_folder_that_is_not_right_is_said_in_words(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        open_pair(folder)


def test_fewer_than_two_classes_are_none_to_tell_apart(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / split / "cat" / "1.png", picture(9, 9))
    with pytest.raises(DataError, match="train holds one class, 'cat'; a folder for each of two classes or more would be right"):
        open_pair(tmp_path)


def test_images_in_deeper_folders_are_no_classes(tmp_path):
    save(tmp_path / "train" / "cat" / "1.png", picture(9, 9))
    save(tmp_path / "val" / "cat" / "1.png", picture(9, 9))
    with pytest.raises(DataError, match="images do not lie right below the folders of their classes"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="nothing: there is no such folder"):
        open_folder(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no picture", r"photos/train/bee/1.JPEG cannot be decoded \(.*\); get the file again, or take it out"),
        (lambda data: data[: len(data) // 2], r"photos/train/bee/1.JPEG cannot be decoded \("),
    ],
)
@pytest.mark.parametrize("threads", [0, 2])
def test_an_image_that_cannot_be_read_is_named(folder, data, message, threads):
    replace(data)(folder / "train" / "bee" / "1.JPEG")
    train, _ = open_pair(folder)
    batches = random_crops(train, size=16, batch_size=5, seed=0, threads=threads)
    with pytest.raises(DataError, match=message) as raised:
        [next(batches) for _ in range(3)]
    assert "\n" not in str(raised.value)
    batches.close()


def test_sixteen_bits_are_refused(folder):
    path = folder / "train" / "ant" / "0.JPEG"
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(path, format="PNG")
    with pytest.raises(DataError, match=r"photos/train/ant/0.JPEG is of mode I;16; 8 bits a channel would be right"):
        first_centres(open_pair(folder)[0], 1, size=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size 0, batch_size 4, threads 2: at least 1, 1 and 0 would be right"),
        ({"seed": -1}, "seed is -1; one from 0 to 4294967295 would be right"),
        ({"batch_size": 16}, "photos/train holds 15 images, fewer than a batch of 16; take smaller batches"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        random_crops(open_pair(folder)[0], **{"size": 16, "batch_size": 4, "seed": 0, **arguments})
