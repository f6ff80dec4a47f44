"""How results leave a worker: pickled into a nameless file; a record tells the scheduler how many bytes.

A file and no pipe: it takes any size without a reader, and a worker that is killed while it writes leaves
no half message behind, since the record comes last.
"""

import os
import pickle
import tempfile
from multiprocessing import reduction
from typing import Any

from shmps.errors import OutOfSpace
from shmps.system.os_errors import shortage

_LENGTH = 8  # bytes of the length of a part


class Outlet:
    """One file: the worker writes values into it and announces them, the scheduler reads them."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("shmps")
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())

    def write(self, value: Any, offset: int = 0) -> int:
        """Write `value` from `offset` on; returns its size in bytes. Raises OutOfSpace if it does not fit.

        Its arrays, each after its length, as they lie: they may be all the parameters, and no copy is made.
        """
        arrays: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
        begin = offset
        try:
            for part in (memoryview(pickled), *(array.raw() for array in arrays)):
                offset = self._put(memoryview(part.nbytes.to_bytes(_LENGTH, "little")), offset)
                offset = self._put(part, offset)
        except OSError as error:
            os.ftruncate(self._descriptor, begin)  # else what was written would go on taking memory
            if (short := shortage(error, in_memory=True)) is None:
                raise
            raise OutOfSpace(
                f"what a worker returns or reports must fit in memory, found {short.found} after "
                f"{offset - begin} bytes ({error.strerror}); {short.remedy}"
            ) from error
        return offset - begin

    def _put(self, data: memoryview, offset: int) -> int:
        """Returns the offset behind it."""
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        return offset + written

    def read(self, size: int, offset: int = 0) -> Any:
        parts, end = [], offset + size
        while offset < end:
            length = int.from_bytes(self._take(_LENGTH, offset), "little")
            parts.append(self._take(length, offset + _LENGTH))
            offset += _LENGTH + length
        return pickle.loads(parts[0], buffers=parts[1:])

    def _take(self, size: int, offset: int) -> bytearray:
        """What is read can be written to: an array in it is as any other."""
        data = bytearray(size)
        left = memoryview(data)
        while left:
            taken = os.preadv(self._descriptor, [left], offset)
            assert taken, "the worker announced more than it wrote"
            left, offset = left[taken:], offset + taken
        return data

    def empty(self) -> None:
        """Give the memory back; nobody must be writing."""
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        os.close(self._descriptor)

    def __getstate__(self):
        return reduction.DupFd(self._descriptor)

    def __setstate__(self, state):
        self._descriptor = state.detach()


class Outlets:
    """A worker's two: its last words must not wait for, nor overwrite, a report that is not read yet."""

    def __init__(self) -> None:
        self.reports = Outlet()
        try:
            self.last_words = Outlet()
        except OSError:
            self.reports.close()
            raise

    def empty(self) -> None:
        self.reports.empty()
        self.last_words.empty()

    def close(self) -> None:
        self.reports.close()
        self.last_words.close()
