"""Files that are written whole or not at all, and whose header is a line of JSON that says its format."""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import Any

from shmps.errors import DataError, OutOfSpace
from shmps.failpoints import reach
from shmps.version import __version__

HEADER_LIMIT = 1 << 26  # bytes; names of features take most of them


def write(path: str, parts: Sequence[Any], what: str, remedy: str, temporary: str = "") -> None:
    """Make `parts`, bytes, the file `path`, all or nothing: after any error an older one there is untouched.

    `temporary`: the name that it has until it is whole, in the same folder (default: a unique one).
    DataError if it cannot be written, OutOfSpace if the disk or the quota is full; they name `what` was to be
    written, and the latter the `remedy`.
    """
    # Through a symbolic link to its target: replacing the link itself would leave the target as it was.
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    size = sum(len(part) for part in parts)
    with naming_errors(path, what, f"needs {size} bytes in {folder}", remedy):
        # Unique, as two may save to one path.
        temporary = os.path.join(folder, temporary or f".shmps-{secrets.token_hex(8)}.tmp")
        with replacing(target, temporary) as descriptor:
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
        raise DataError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise OutOfSpace(f"{path}: the {what} does not fit into memory; free some") from error


def _must_be_regular(path: str, what: str) -> None:
    """Before opening: opening a pipe would wait for a writer."""
    if "\0" in path:
        raise DataError(f"{path!r}: the name of a {what} has no null byte, found one; name another")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: a {what} is a regular file, found a folder or a device")


def check_target(path: str, what: str) -> None:
    """Before the work whose result is to be written: DataError unless a regular file can be made there."""
    if path == "-":
        raise DataError(f"-: a {what} goes to a file, found -, which is stdout elsewhere; name a file")
    _must_be_regular(path, what)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(
            f"{path}: a {what} is written into a folder that exists and can be written to; make {folder}"
        )


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
    """An OSError in the block becomes OutOfSpace if the disk or the quota is full, else DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"{path}: {what} {need}, found the disk or quota full ({error.strerror}); "
                f"make room and {remedy}"
            ) from error
        raise DataError(f"{path}: {what} cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(target: str, temporary: str) -> Iterator[int]:
    """A file descriptor; what is written to it takes the place of `target` at once when the block ends.

    After an error in the block or at its end, `target` is as it was and no temporary file is left.
    """
    try:
        # Not tempfile.mkstemp: it hides the file from everyone else whatever the umask says.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            yield descriptor
            # Before the rename, or a crash of the machine could leave the new name with no bytes behind it.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        reach("scheduler: file whole")
        os.replace(temporary, target)
    except FileExistsError as error:  # it is not ours to remove
        found = "one process at a time writes it, found another at it; name another"
        raise FileExistsError(error.errno, found) from error
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


@contextmanager
def new_folder(target: str) -> Iterator[str]:
    """A folder to be filled with files; it gets the name `target` when the block ends.

    Until then it has another name beside it. After an error it is removed; what a process that was killed
    left is removed by the next. Raises DataError if `target` is there already, or is being made by another
    process; OSError.
    """
    parent, name = os.path.split(os.path.abspath(target))
    temporary = os.path.join(parent, f".{name}.tmp")
    _must_be_free(target)
    os.makedirs(temporary, exist_ok=True)
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process that has it
            ours = os.path.samestat(os.stat(temporary), os.fstat(descriptor))
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise DataError(f"{target}: one process at a time makes it, found another at it; wait for it")
        try:
            for left in os.listdir(temporary):
                os.unlink(os.path.join(temporary, left))
            yield temporary
            sync_folder(temporary)
            _must_be_free(target)
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(parent)
    finally:
        os.close(descriptor)


def _must_be_free(target: str) -> None:
    if os.path.lexists(target):
        raise DataError(f"{target}: the name must be free, found something there; remove it or name another")


def write_all(descriptor: int, data: Any) -> None:
    """Write every byte; the system may take fewer at a time, and never takes over 2 GiB."""
    data = memoryview(data)
    while data:
        data = data[os.write(descriptor, data) :]


def sync_folder(folder: str) -> None:
    """After this the names of files in it outlast a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
