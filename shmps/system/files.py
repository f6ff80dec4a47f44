"""Files that are written whole or not at all, and whose header is a line of JSON that says its format."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import Any

from shmps.errors import DataError, OutOfSpace
from shmps.system import scratch
from shmps.system.failpoints import reach
from shmps.system.shortages import shortage, unreadable
from shmps.version import __version__

HEADER_LIMIT = 1 << 26  # bytes; names of features take most of them


def write(path: str | os.PathLike[str], parts: Sequence[Any], what: str, remedy: str) -> None:
    """Make `parts`, bytes, the file `path`, all or nothing: after any error an older one there is untouched.

    Mode and owner of an older file are kept. DataError if it cannot be written, OutOfSpace if the disk, the
    quota or another limit is reached; they name `what` was to be written, and the latter the `remedy`.
    """
    path = os.fspath(path)
    _must_be_regular(path, what.removeprefix("the "))
    # Through a symbolic link to its target: replacing the link itself would leave the target as it was.
    target = os.path.realpath(path)
    size = sum(len(part) for part in parts)
    need = f"needs {size} bytes in {os.path.dirname(target)}"
    with naming_errors(path, what, need, remedy), scratch.replacing(target) as descriptor:
        for part in parts:
            reach("scheduler: file half written")
            write_all(descriptor, part)


@contextmanager
def opened(path: str, what: str) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file to read from, and its size in bytes.

    DataError if there is none or it cannot be read, OutOfSpace if what is in it does not fit into memory.
    """
    try:
        _must_be_regular(path, what)
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise unreadable(error, f"{path}: the {what} is a file that can be read", "check its path") from error
    except MemoryError as error:
        raise OutOfSpace(f"{path}: the {what} does not fit into memory; free some") from error


def _must_be_regular(path: str, what: str) -> None:
    """Before opening: opening a pipe would wait for a writer."""
    if "\0" in path:
        raise DataError(f"{path!r}: the name of a {what} has no null byte, found one; name another")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: a {what} is a regular file, found a folder or a device")


def check_target(path: str, what: str, others: Iterable[str | None] = ()) -> None:
    """Before the work whose result is to be written: DataError unless a regular file can be made there.

    others: the paths that the same command reads or writes, of which none may be meant: files, folders for
    what is in them, - for stdin.
    """
    if path == "-":
        raise DataError(f"-: a {what} goes to a file, found -, which is stdout elsewhere; name a file")
    _must_be_regular(path, what)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(
            f"{path}: a {what} is written into a folder that exists and can be written to; make {folder}"
        )
    for other in others:
        if other is not None and _is_in(path, "/dev/stdin" if other == "-" else other):
            raise DataError(
                f"{path}: a {what} is written to a file of its own, found that of {other}, which this "
                f"command reads or writes too; name another"
            )


def _is_in(path: str, other: str) -> bool:
    """Whether two paths mean one file, by any of its names, or `path` means a file in the folder `other`."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    with suppress(OSError):
        places = os.scandir(other) if os.path.isdir(other) else [other]
        return any(os.path.samefile(path, place) for place in places)
    return False


def check_folder(path: str, what: str) -> None:
    """DataError unless the folder is there and can be written to, or can be made."""
    there = os.path.abspath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not (os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)):
        raise DataError(
            f"{path}: {what} are written into a folder that can be made or written to, found {there}, which "
            f"can not; name another"
        )


@contextmanager
def naming_errors(path: str, what: str, need: str, remedy: str) -> Iterator[None]:
    """An OSError in the block becomes OutOfSpace if a disk, quota or limit is exhausted, else DataError."""
    try:
        yield
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise OutOfSpace(
                f"{path}: {what} {need}, found {short.found} ({error.strerror}); {short.remedy} and {remedy}"
            ) from error
        raise DataError(f"{path}: {what} cannot be written: {error.strerror or error}") from error


def write_all(descriptor: int, data: Any) -> None:
    """Write every byte; the system may take fewer at a time, and never takes over 2 GiB."""
    data = memoryview(data)
    while data:
        data = data[os.write(descriptor, data) :]


def check_header(line: bytes, path: str, remedy: str) -> None:
    """Raises DataError for a header that is too long to be read again."""
    if len(line) > HEADER_LIMIT:
        raise DataError(f"{path}: the header has at most {HEADER_LIMIT} bytes, found {len(line)}; {remedy}")


def parse_header(line: bytes, path: str, what: str, newest: int, oldest: int | None = None) -> dict[str, Any]:
    """The header of a `what` file, of format `newest`, or from `oldest` on; DataError if it is not."""
    if not line.endswith(b"\n"):
        raise DataError(
            f"{path}: the header is one line of at most {HEADER_LIMIT} bytes, found no end after {len(line)}"
        )
    try:
        header = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: the header is a line of JSON, found {line[:40]!r}: {error}") from error
    version = header.get("format") if isinstance(header, dict) else None
    if type(version) is int and version > newest:
        raise DataError(
            f"{path}: this is shmps {__version__}, which reads {what} files up to format {newest}, found the "
            f"newer format {version}; upgrade shmps"
        )
    if type(version) is not int or version < (newest if oldest is None else oldest):
        raise DataError(f'{path}: the header says "format": {newest}, found {version!r}; the file is damaged')
    return header
