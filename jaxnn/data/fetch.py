"""Downloads, on request alone, with the addresses and checksums that tensorflow_datasets knows.

tfds 4.9 itself cannot prepare mnist, fashion_mnist or cifar10 without TensorFlow: their builders read and encode through it.
So the sets that are published as four IDX files are fetched as such; the others need TensorFlow for this one step.
"""

import hashlib
import importlib.util
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jaxnn.data import idx
from jaxnn.data.known import DataError
from jaxnn.data.locate import cache_root, data_root, tfds_roots

TIMEOUT = 30
"""Seconds without an answer after which a download fails."""


def download(name: str) -> None:
    """Fetch the data set `name` into $JAXNN_DATA if that is set, else into the user's cache (IDX) or tfds's own folder.

    Raises DataError, in words, whatever goes wrong.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=tfds_roots()[0][0], file_format="array_record")
        files = {Path(url).name: (url, info) for url, info in builder.url_infos.items()}
        if {f"{file}.gz" for file in idx.NAMES} <= set(files):
            _fetch_idx(name, files)
        else:
            _prepare(name, builder)
    except DataError:
        raise
    # tfds and its downloader raise anything from OSError to their own types; all mean that there is no data set.
    except Exception as error:
        lines = str(getattr(error, "reason", error)).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{name}: the download failed ({lines[0]}); try again, or put the files there by hand") from error


def _fetch_idx(name: str, files: dict[str, tuple[str, Any]]) -> None:
    """All four or none: they are fetched into a folder beside, which takes its name at the end."""
    root = data_root() or cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as beside:
        whole = Path(beside) / name
        whole.mkdir()
        for file in idx.NAMES:
            url, info = files[f"{file}.gz"]
            _fetch(url, int(info.size), info.checksum, whole / f"{file}.gz")
        os.replace(whole, root / name)


def _fetch(url: str, size: int, checksum: str, target: Path) -> None:
    sha, held = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, target.open("wb") as file:
        while held <= size and (block := response.read(idx.CHUNK)):
            sha.update(block)
            held += file.write(block)
    if held != size or sha.hexdigest() != checksum:
        raise DataError(f"{target.name}: what came is not the file that tfds knows ({size} bytes, sha256 {checksum[:12]}); try again later")


def _prepare(name: str, builder: Any) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        remedy = f"install tensorflow for this one step, or put a prepared ArrayRecord set under $JAXNN_DATA/tfds/{name}"
        raise DataError(f"{name}: tfds prepares it with TensorFlow, which is not installed; {remedy}")
    with _finite_patience():
        builder.download_and_prepare()


@contextmanager
def _finite_patience() -> Iterator[None]:
    """tfds asks ten times, minutes apart in the end, and waits for an answer for ever; it has no option for either."""
    from tensorflow_datasets.core.download import downloader

    retries, opener = downloader.MAX_RETRIES, downloader._open_with_requests
    downloader.MAX_RETRIES, downloader._open_with_requests = 2, partial(opener, timeout=TIMEOUT)
    try:
        yield
    finally:
        downloader.MAX_RETRIES, downloader._open_with_requests = retries, opener
