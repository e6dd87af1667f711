"""Where data sets lie on this machine. Looks, reads nothing, and imports nothing heavy."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxnn.data import idx
from jaxnn.data.known import canonical

DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where Debian's packages put data sets (here: dataset-fashion-mnist)."""
NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""A folder, or two for a configuration of a tfds set; neither `../x` nor `/x`."""
INFO = "*/dataset_info.json"
"""Below a set's folder, or its configuration's: one for each prepared version."""


class Place(NamedTuple):
    """A folder that holds a data set, and how a record may call it."""

    kind: str
    folder: Path
    path: str


def data_root() -> Path | None:
    """$JAXNN_DATA, if it is set."""
    root = os.environ.get("JAXNN_DATA")
    return Path(root).expanduser() if root else None


def cache_root() -> Path:
    """The user's cache folder for jaxnn; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "jaxnn"


def tfds_roots() -> list[tuple[Path, str]]:
    """Folders of prepared tfds sets, each with what a record calls it: $JAXNN_DATA/tfds, then tfds's own default."""
    root = data_root()
    default = os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    return ([(root / "tfds", "tfds/")] if root else []) + [(Path(default), "tfds folder: ")]


def places(name: str) -> Iterator[Place]:
    """All places that hold files of the data set `name`, whole or broken, in the order in which `load` takes them."""
    if not NAME.fullmatch(name):
        return
    root = data_root()
    spellings = dict.fromkeys((name, name.replace("_", "-")))
    folders = [Place("idx", root / spelling, spelling) for spelling in spellings] if root else []
    folders.append(Place("idx", cache_root() / name, f"user cache: {name}"))
    if name in DEBIAN:
        folders.append(Place("debian", DEBIAN[name], str(DEBIAN[name])))
    yield from (place for place in folders if idx.found(place.folder))
    for base, label in tfds_roots():
        for version in _newest(base / name):
            yield Place("tfds", version, f"{label}{name}/{version.name}")


def _newest(folder: Path) -> list[Path]:
    """The prepared versions in a folder, the newest first: 10.0.0 is newer than 9.0.0."""
    versions = [info.parent for info in folder.glob(INFO) if _is_array_record(info)]
    return sorted(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version.name)], reverse=True)


def _is_array_record(info: Path) -> bool:
    """Whether the set can be read without TensorFlow; damaged metadata count, so that reading them fails aloud."""
    try:
        return json.loads(info.read_bytes()).get("fileFormat", "tfrecord") == "array_record"
    except (ValueError, AttributeError):
        return True


def names() -> set[str]:
    """The names of all data sets with files in $JAXNN_DATA or in a folder of prepared tfds sets, as they are spelled in the table."""
    root = data_root()
    loose = {folder.name for folder in root.iterdir() if idx.found(folder)} if root and root.is_dir() else set()
    prepared = {name for base, _ in tfds_roots() for name in _prepared(base)}
    return {name for name in loose | prepared if canonical(name) == name and any(places(name))}


def _prepared(base: Path) -> set[str]:
    infos = [*base.glob(f"*/{INFO}"), *base.glob(f"*/*/{INFO}")]
    return {info.parent.parent.relative_to(base).as_posix() for info in infos}
