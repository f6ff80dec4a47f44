"""One-dimensional .npy files: written piece by piece, and mapped instead of read.

The header of format 1.0 (numpy.lib.format) is padded to HEADER bytes whatever it says, so that the number of
entries can be put in when it is known.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from shmps.errors import DataError, ShmpsError
from shmps.system.files import write_all
from shmps.system.shortages import unreadable

HEADER = 128  # bytes
AT_ONCE = 1 << 24  # bytes, or entries, looked at at a time


class Growing:
    """A .npy file that grows at its end: `with Growing(path, dtype) as array: array.append(...)`.

    It is whole, and on the disk, after `close`. OSError where the disk does not take it.
    """

    def __init__(self, path: Path, dtype: str):
        self.dtype, self.count = np.dtype(dtype), 0
        self._digest = hashlib.sha256()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        write_all(self._descriptor, _header(self.dtype, 0))

    def append(self, entries: np.ndarray) -> None:
        """Entries (k,); they become `dtype`."""
        raw = np.ascontiguousarray(entries, self.dtype).view(np.uint8).data
        write_all(self._descriptor, raw)
        self._digest.update(raw)
        self.count += len(entries)

    def finish(self) -> dict[str, Any]:
        """Put the header in place; what is needed to map and to check it."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, _header(self.dtype, self.count))
        os.fsync(self._descriptor)
        return {"dtype": self.dtype.str, "count": self.count, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        os.close(self._descriptor)


def _header(dtype: np.dtype, count: int) -> bytes:
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({count},), }}"
    start = b"\x93NUMPY\x01\x00"
    length = HEADER - len(start) - 2
    return start + length.to_bytes(2, "little") + f"{text:<{length - 1}}\n".encode("ascii")


def mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    """The array (count,) of a file as `Growing` wrote it, read-only, without a look at its entries.

    Raises DataError for a file of another size or header, OutOfSpace where there is no room to map it.
    """
    kind = np.dtype(dtype)
    must_be_whole(path, dtype, count)
    if not count:
        return np.empty(0, kind)
    try:
        return np.asarray(np.memmap(path, kind, "r", HEADER, (count,)))
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> ShmpsError:
    return unreadable(error, f"{path}: a part of mapped data is read from a file", "convert the data again")


def read(path: Path, dtype: str, count: int, begin: int, end: int) -> np.ndarray:
    """A read-only copy of the entries begin to end - 1 of the array (count,) of a file.

    Raises DataError for a file of another size or header, also if it is cut short meanwhile.
    """
    kind = np.dtype(dtype)
    out = np.empty(end - begin, kind)
    room, done = out.view(np.uint8).data, 0
    with _opened(path, kind, count) as file:
        file.seek(HEADER + begin * kind.itemsize)
        while done < len(room):
            got = file.readinto(room[done:])
            if not got:
                raise _of_another_size(path, kind, count, os.fstat(file.fileno()).st_size)
            done += got
    out.flags.writeable = False  # as a mapped array is
    return out


def must_be_whole(path: Path, dtype: str, count: int) -> None:
    """Raises DataError for a file of another size or header than that of an array (count,)."""
    with _opened(path, np.dtype(dtype), count):
        pass


@contextmanager
def _opened(path: Path, kind: np.dtype, count: int) -> Iterator[FileIO]:
    """A file of the right size and header; what the system refuses is a DataError."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != HEADER + count * kind.itemsize:
                raise _of_another_size(path, kind, count, size)
            if file.read(HEADER) != _header(kind, count):
                raise DataError(
                    f"{path}: its header is of {count} entries of {kind}, found another; convert the data "
                    f"again"
                )
            yield file
    except OSError as error:
        raise _unreadable(error, path) from error


def _of_another_size(path: Path, kind: np.dtype, count: int, size: int) -> DataError:
    return DataError(
        f"{path}: {count} entries of {kind} take {HEADER + count * kind.itemsize} bytes, found {size}; the "
        f"file was cut short or added to: convert the data again"
    )


def stored_sha256(path: Path, dtype: str, count: int) -> str:
    """The `sha256` of the array (count,) of a file. Raises DataError as `read`."""
    step, digest = AT_ONCE // np.dtype(dtype).itemsize, hashlib.sha256()
    for begin in range(0, count, step):
        digest.update(read(path, dtype, count, begin, min(begin + step, count)).view(np.uint8).data)
    return digest.hexdigest()


def sha256(array: np.ndarray) -> str:
    """Of the entries (k,) as they lie in memory, in hexadecimal."""
    digest = hashlib.sha256()
    step = AT_ONCE // array.itemsize
    for begin in range(0, len(array), step):
        digest.update(np.ascontiguousarray(array[begin : begin + step]).view(np.uint8).data)
    return digest.hexdigest()
