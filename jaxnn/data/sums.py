"""What `jaxnn.data.prepare` writes beside a set, so that a copy in part or a damaged file is found out before any row is read.

ArrayRecord compares checksums of the rows; tfds has none of its metadata: one bit in a shard's length, and it reads fewer rows.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from jaxnn.data.known import DataError
from jaxnn.data.locate import Place

FILE = "jaxnn.json"
SMALL = (".json", ".txt")
"""How tfds's metadata files end."""


def write(folder: Path, splits: dict[str, str]) -> None:
    """Note each split's sha256 (as `load` gives it), each file's length, and the sha256 of the metadata."""
    about = {"splits": splits, "bytes": _lengths(folder), "metadata": _metadata(folder)}
    (folder / FILE).write_text(json.dumps({"about": about, "sha256": _hash(about)}, indent=2))


def read(place: Place) -> dict[str, str]:
    """Each split's sha256, for a set that `jaxnn.data.prepare` made; nothing for one of another maker.

    Raises DataError if a file is not what it was.
    """
    path = place.folder / FILE
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_bytes())
        about, whole = kept["about"], kept["sha256"] == _hash(kept["about"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{place.path}: {FILE} cannot be read; prepare the set again, or copy it whole") from error
    if not whole:
        raise DataError(f"{place.path}: {FILE} is damaged; prepare the set again, or copy it whole")
    _compare(place, about)
    return dict(about["splits"])


def fingerprint(folder: Path) -> str:
    """sha256 of the metadata and of all files' names and lengths: no shard is read."""
    return _hash([_lengths(folder), _metadata(folder)])


def _compare(place: Place, about: dict[str, Any]) -> None:
    held = _lengths(place.folder)
    for file, length in about["bytes"].items():
        if held.get(file) != length:
            found = f"holds {held[file]} bytes, not {length}" if file in held else "is missing"
            raise DataError(f"{place.path}: {file} {found}; prepare the set again, or copy it whole")
    now = _metadata(place.folder)
    for file, sha256 in about["metadata"].items():
        if now.get(file) != sha256:
            raise DataError(f"{place.path}: {file} is not what it was; prepare the set again, or copy it whole")


def _lengths(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file() and path.name != FILE}


def _metadata(folder: Path) -> dict[str, str]:
    small = [path for path in sorted(folder.iterdir()) if path.suffix in SMALL and path.name != FILE]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in small}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
