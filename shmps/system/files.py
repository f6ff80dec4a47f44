"""Files that are written completely or not at all, checks of paths, and the errors of both."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import Any

from shmps.errors import DataError, OutOfSpace
from shmps.system import atomic
from shmps.system.failpoints import reach
from shmps.system.os_errors import shortage, unreadable


def write(path: str | os.PathLike[str], parts: Sequence[Any], what: str, remedy: str) -> None:
    """Write `parts`, bytes, as the file `path`. After any error an older file there is as it was.

    The file keeps the mode and owner of an older one. Raises DataError if it cannot be written, OutOfSpace if
    the disk, the quota or another limit is exhausted. Messages name `what`; those of OutOfSpace also name
    the `remedy`.
    """
    path = os.fspath(path)
    _must_be_regular(path, what.removeprefix("the "))
    # The target of a symbolic link: a rename would replace the link, and leave the target as it was.
    target = os.path.realpath(path)
    size = sum(len(part) for part in parts)
    need = f"needs {size} bytes in {os.path.dirname(target)}"
    with naming_errors(path, what, need, remedy), atomic.replacing(target) as descriptor:
        for part in parts:
            reach("scheduler: file half written")
            write_all(descriptor, part)


@contextmanager
def opened(path: str, what: str) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file for reading; yield it and its size in bytes.

    Raises DataError if the file does not exist or cannot be read, OutOfSpace if the block runs out of memory.
    """
    try:
        _must_be_regular(path, what)
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise unreadable(error, f"{path}: the {what} must be a readable file", "check the path") from error
    except MemoryError as error:
        raise OutOfSpace(f"{path}: the {what} must fit into memory, got too little; free some") from error


def _must_be_regular(path: str, what: str) -> None:
    """Check before opening: to open a pipe would wait for a writer."""
    if "\0" in path:
        raise DataError(f"{path!r}: the name of a {what} must have no null byte, got one; use another name")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: a {what} must be a regular file, got a folder or a device")


def check_target(path: str, what: str, others: Iterable[str | None] = ()) -> None:
    """Raise DataError, before the work whose result `path` is for, unless a regular file can be made there.

    others: the paths that the same command reads or writes, none of which may be `path`. A folder stands for
    the files in it, - for stdin.
    """
    if path == "-":
        raise DataError(f"-: a {what} must be written to a file, got -, which means stdout; name a file")
    _must_be_regular(path, what)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(
            f"{path}: the folder of a {what} must exist and be writable, got {folder}; make or name one"
        )
    for other in others:
        if other is not None and _is_in(path, "/dev/stdin" if other == "-" else other):
            raise DataError(
                f"{path}: a {what} must have a file of its own, got that of {other}, which this command "
                f"reads or writes too; name another"
            )


def _is_in(path: str, other: str) -> bool:
    """Return whether two paths lead to the same file, or `path` leads to a file in the folder `other`."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    with suppress(OSError):
        places = os.scandir(other) if os.path.isdir(other) else [other]
        return any(os.path.samefile(path, place) for place in places)
    return False


def check_folder(path: str, what: str) -> None:
    """Raise DataError unless the folder exists and is writable, or can be made."""
    there = os.path.abspath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not (os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)):
        raise DataError(
            f"{path}: the folder of {what} must be one to make or to write into, got {there}, which is no "
            f"writable folder; name another"
        )


@contextmanager
def naming_errors(path: str, what: str, need: str, remedy: str) -> Iterator[None]:
    """Turn an OSError in the block into OutOfSpace if a disk, quota or limit is exhausted, else DataError."""
    try:
        yield
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise OutOfSpace(
                f"{path}: {what} {need}, got {short.found} ({error.strerror}); {short.remedy} and {remedy}"
            ) from error
        raise DataError(f"{path}: {what} cannot be written: {error.strerror or error}") from error


def write_all(descriptor: int, data: Any) -> None:
    """Write every byte. The system may take fewer per call, and never more than 2 GiB."""
    data = memoryview(data)
    while data:
        data = data[os.write(descriptor, data) :]
