"""One-dimensional .npy files that are written in parts, and are mapped or read in parts.

A file has the header of numpy's format 1.0. numpy pads it to a length that does not depend on the number of
entries, so `Growing` writes the number when it is known.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib.format import write_array_header_1_0

from shmps.errors import DataError, ShmpsError
from shmps.system.container import raw
from shmps.system.files import write_all
from shmps.system.os_errors import unreadable

HEADER = 128  # bytes
AT_ONCE = 1 << 24  # bytes, or entries, looked at at a time


class Growing:
    """A .npy file that grows at its end: `with Growing(path, dtype) as array: array.append(...)`.

    After `finish` the file is complete and on the disk. Methods raise OSError if the disk refuses a write.
    """

    def __init__(self, path: Path, dtype: str):
        self.dtype, self.count = np.dtype(dtype), 0
        self._digest = hashlib.sha256()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        write_all(self._descriptor, _header(self.dtype, 0))

    def append(self, entries: np.ndarray) -> None:
        """Write entries (k,), converted to `dtype`."""
        data = raw(np.ascontiguousarray(entries, self.dtype))
        write_all(self._descriptor, data)
        self._digest.update(data)
        self.count += len(entries)

    def finish(self) -> dict[str, Any]:
        """Write the header, and return the description of the array for the header of the folder."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, _header(self.dtype, self.count))
        os.fsync(self._descriptor)
        return {"dtype": self.dtype.str, "count": self.count, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        os.close(self._descriptor)


def _header(dtype: np.dtype, count: int) -> bytes:
    header = io.BytesIO()
    write_array_header_1_0(header, {"descr": dtype.str, "fortran_order": False, "shape": (count,)})
    return header.getvalue()


def mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    """Map the array (count,) of a file of `Growing`, read-only, without a look at the entries.

    Raises DataError for a file of another size or header, OutOfSpace if there is no room to map it.
    """
    kind = np.dtype(dtype)
    must_be_whole(path, dtype, count)
    if not count:
        return np.empty(0, kind)
    try:
        return np.asarray(np.memmap(path, kind, "r", HEADER, (count,)))
    except OSError as error:
        raise _unreadable(error, path) from error


def read(path: Path, dtype: str, count: int, begin: int, end: int) -> np.ndarray:
    """Return a read-only copy of the entries begin to end - 1 of the array (count,) of a file.

    Raises DataError for a file of another size or header, also if the file is cut short meanwhile.
    """
    kind = np.dtype(dtype)
    out = np.empty(end - begin, kind)
    room, done = raw(out), 0
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
    """Raise DataError for a file of another size or header than that of an array (count,)."""
    with _opened(path, np.dtype(dtype), count):
        pass


def stored_sha256(path: Path, dtype: str, count: int) -> str:
    """Return the SHA-256 of the entries of the array (count,) of a file. Raises DataError as `read`."""
    step, digest = AT_ONCE // np.dtype(dtype).itemsize, hashlib.sha256()
    for begin in range(0, count, step):
        digest.update(raw(read(path, dtype, count, begin, min(begin + step, count))))
    return digest.hexdigest()


@contextmanager
def _opened(path: Path, kind: np.dtype, count: int) -> Iterator[FileIO]:
    """Open a file of the right size and header. Errors of the system become DataError or OutOfSpace."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != HEADER + count * kind.itemsize:
                raise _of_another_size(path, kind, count, size)
            # Compared, not parsed: numpy's parser raises errors of many types for a damaged header.
            if file.read(HEADER) != _header(kind, count):
                raise DataError(
                    f"{path}: the header must be that of {count} entries of {kind}, got another one; convert "
                    f"the data again"
                )
            yield file
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> ShmpsError:
    return unreadable(error, f"{path}: an array of mapped data must be readable", "convert the data again")


def _of_another_size(path: Path, kind: np.dtype, count: int, size: int) -> DataError:
    return DataError(
        f"{path}: {count} entries of {kind} take {HEADER + count * kind.itemsize} bytes, got {size}; the "
        f"file was cut short or added to: convert the data again"
    )
