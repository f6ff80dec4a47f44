"""One-dimensional .npy files: written piece by piece, and mapped instead of read.

The header of format 1.0 (numpy.lib.format) is padded to HEADER bytes whatever it says, so that the number of
entries can be put in when it is known.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from shmps.errors import DataError, ShmpsError
from shmps.files import write_all
from shmps.shortages import unreadable

HEADER = 128  # bytes
_AT_ONCE = 1 << 24  # bytes hashed at a time


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
    try:
        with open(path, "rb") as file:
            header, size = file.read(HEADER), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unreadable(error, path) from error
    expected = HEADER + count * kind.itemsize
    if size != expected:
        raise DataError(
            f"{path}: {count} entries of {kind} take {expected} bytes, found {size}; the file was cut "
            f"short or added to: convert the data again"
        )
    if header != _header(kind, count):
        raise DataError(
            f"{path}: its header is of {count} entries of {kind}, found another; convert the data again"
        )
    if not count:
        return np.empty(0, kind)
    try:
        return np.asarray(np.memmap(path, kind, "r", HEADER, (count,)))
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> ShmpsError:
    return unreadable(error, f"{path}: a part of mapped data is read from a file", "convert the data again")


def sha256(array: np.ndarray) -> str:
    """Of the entries (k,) as they lie in memory, in hexadecimal."""
    digest = hashlib.sha256()
    step = _AT_ONCE // array.itemsize
    for begin in range(0, len(array), step):
        digest.update(np.ascontiguousarray(array[begin : begin + step]).view(np.uint8).data)
    return digest.hexdigest()
