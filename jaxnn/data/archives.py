"""A folder or a zip as one thing: names of files, and a way to read each. Nothing is unpacked; no zip is believed.

A zip is looked through before anything is inflated: no name may lead out of it or stand twice, no member may be a link or encrypted,
and what is promised must be in proportion to what is there. Then each member must hold what was promised, to the byte.
"""

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxnn.data.known import DataError

MEMBERS = 2_000_000
"""No zip may have more files; ImageNet has 1.3 million."""
FILE = 2**34
"""No member may inflate to more bytes than this."""
TOTAL = 2**40
"""Nor may all members together."""
RATIO = 200
"""No member of more than a megabyte may inflate to more than this many times its packed bytes: deflate ends at 1,032."""
DEPTH = 5
"""No tree may be deeper: split, class and file, in a folder or two. A link to a folder above would have no end."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""The others inflate without a bound on memory."""


class Tree(NamedTuple):
    """Files by their path, with slashes, below the root; `folders` holds the empty ones too."""

    name: str
    """How messages call the root."""
    files: dict[str, Callable[[], bytes]]
    folders: set[str]


def open_folder(folder: Path) -> Tree:
    """All files below a folder, links followed. Raises DataError for what is neither file nor folder, or lies too deep."""
    files: dict[str, Callable[[], bytes]] = {}
    folders = set()
    for path, name in _walk(folder):
        where = f"{folder.name}/{name}"
        if name.count("/") >= DEPTH:
            raise DataError(f"{where} lies deeper than {DEPTH} folders; split/class/image would be right")
        if path.is_dir():
            folders.add(name)
        elif path.is_file():
            files[name] = partial(_read, path, where)
        else:
            raise DataError(f"{where} is neither a file nor a folder (a broken link, a pipe?); take it out")
    return Tree(folder.name, files, folders)


def _walk(folder: Path, above: str = "") -> Iterator[tuple[Path, str]]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder.name}: cannot be listed ({error.strerror})") from error
    for path in entries:
        yield path, above + path.name
        if path.is_dir():
            yield from _walk(path, f"{above}{path.name}/")


def _read(path: Path, where: str) -> bytes:
    try:
        if path.stat().st_size > FILE:
            raise DataError(f"{where} holds {path.stat().st_size} bytes; {FILE} would be the most")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror})") from error


@contextmanager
def open_zip(path: Path) -> Iterator[Tree]:
    """The members of a zip. Raises DataError, here or when a member is read, for an archive that is broken or plays tricks."""
    with _in_words(path.name, "is no whole zip archive"):
        archive = zipfile.ZipFile(path)
    with archive:
        yield _checked(path, archive)


def _checked(path: Path, archive: zipfile.ZipFile) -> Tree:
    members = archive.infolist()
    if len(members) > MEMBERS:
        raise DataError(f"{path.name}: holds {len(members)} files; {MEMBERS} would be the most")
    if (len(members) - _counted(path)) % 2**16:
        raise DataError(f"{path.name}: says that it holds {_counted(path)} files, lists {len(members)}; get the archive again")
    files: dict[str, Callable[[], bytes]] = {}
    folders: set[str] = set()
    for info in members:
        _check_member(path, info)
        name = info.filename.rstrip("/")
        if name in files or (name in folders and not info.is_dir()):
            raise DataError(f"{path.name}: {name} stands in it twice; zip the folder again")
        parents = name.split("/")[:-1]
        folders.update("/".join(parents[: i + 1]) for i in range(len(parents)))
        if info.is_dir():
            folders.add(name)
        else:
            files[name] = partial(_inflate, path, archive, info)
    if both := folders & set(files):
        raise DataError(f"{path.name}: {min(both)} is both a file and a folder; zip the folder again")
    _check_sums(path, members)
    return Tree(path.name, files, folders)


def _counted(path: Path) -> int:
    """How many members the end of the archive counts, modulo 2**16: zipfile looks past one whose neighbour's length is damaged."""
    with path.open("rb") as file:
        file.seek(max(0, os.path.getsize(path) - 2**16 - 200))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    count = int.from_bytes(tail[end + 10 : end + 12], "little")
    large = tail.rfind(b"PK\6\6", 0, end)
    return int.from_bytes(tail[large + 32 : large + 40], "little") if count == 2**16 - 1 and large >= 0 else count


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    parts = name.rstrip("/").split("/")
    # `orig_filename` keeps what follows a zero byte, which zipfile cuts off.
    if re.match(r"[A-Za-z]:", name) or "\\" in info.orig_filename or "\0" in info.orig_filename or {"", ".", ".."} & set(parts):
        raise DataError(f"{path.name}: the name {info.orig_filename!r} leads out of the archive; plain relative names would be right")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path.name}: {name} is a link or a device; zip the files themselves")
    if info.flag_bits & 1:
        raise DataError(f"{path.name}: {name} is encrypted; unpack the archive, and prepare the folder")
    if info.compress_type not in METHODS:
        raise DataError(f"{path.name}: {name} is packed by method {info.compress_type}; zip the folder again, with deflate")
    if info.file_size > FILE or (info.file_size > 2**20 and info.file_size > RATIO * info.compress_size):
        promise = f"promises {info.file_size} bytes out of {info.compress_size}"
        raise DataError(f"{path.name}: {name} {promise}, as a zip bomb does; {FILE} and {RATIO} times are the most")


def _check_sums(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total, packed, size = sum(i.file_size for i in members), sum(i.compress_size for i in members), os.path.getsize(path)
    if packed > size:
        raise DataError(f"{path.name}: its members overlap ({packed} packed bytes in {size}), as in a zip bomb; zip the folder again")
    if total > TOTAL or total > max(2**20 * len(members), RATIO * size):
        raise DataError(f"{path.name}: promises {total} bytes out of {size}, as a zip bomb does; {TOTAL} and {RATIO} times are the most")


def _inflate(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The member's bytes; zipfile stops at the promised length, and then compares its checksum."""
    with _in_words(f"{path.name}/{info.filename}", "cannot be unpacked"), archive.open(info) as member:
        data = member.read(info.file_size)
        # At the end zipfile compares the checksum; a member that holds more than it promised fails there.
        rest = member.read(1)
    if len(data) != info.file_size or rest:
        raise DataError(f"{path.name}/{info.filename}: promises {info.file_size} bytes, holds {len(data)}; get the archive again")
    return data


@contextmanager
def _in_words(where: str, what: str) -> Iterator[None]:
    # A broken archive shows as BadZipFile, EOFError, zlib.error, struct.error, NotImplementedError and more.
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{where}: {what} ({reason}); get the file again") from error
