"""Value files: how a worker passes a result or a report of any size to the scheduler.

The worker pickles the value into a nameless file, and then sends a record with the number of bytes. A file,
unlike a pipe, takes a value of any size without a reader. The record comes last, so a worker that is killed
while it writes leaves no incomplete message.
"""

import os
import pickle
from typing import Any

from shmps.engines.shared_file import SharedFile
from shmps.errors import OutOfSpace
from shmps.system.os_errors import shortage

_LENGTH_BYTES = 8  # of the length before each part


class ValueFile(SharedFile):
    """One file: a worker writes and announces values, the scheduler reads them. See `ps.engine.Channel`."""

    def write(self, value: Any, offset: int = 0) -> int:
        """Write a picklable value from `offset` on; return its size in bytes.

        The file gets the pickle and then the bytes of each array, each part after its length. The arrays
        are not copied on the way, since they may be as large as all parameters. Raises OutOfSpace if the
        value does not fit.
        """
        arrays: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
        begin = offset
        try:
            for part in (memoryview(pickled), *(array.raw() for array in arrays)):
                offset = self._write(memoryview(part.nbytes.to_bytes(_LENGTH_BYTES, "little")), offset)
                offset = self._write(part, offset)
        except OSError as error:
            os.ftruncate(self._descriptor, begin)  # gives back the memory of the incomplete value
            if (short := shortage(error, in_memory=True)) is None:
                raise
            raise OutOfSpace(
                f"the result or report of a worker must fit in memory, got {short.found} after "
                f"{offset - begin} bytes ({error.strerror}); {short.remedy}"
            ) from error
        return offset - begin

    def _write(self, data: memoryview, offset: int) -> int:
        """Write `data` at `offset` and return the offset after it."""
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        return offset + written

    def read(self, size: int, offset: int = 0) -> Any:
        """Return the value that `write` put at `offset`. Its arrays are writable."""
        parts, end = [], offset + size
        while offset < end:
            length = int.from_bytes(self._read(_LENGTH_BYTES, offset), "little")
            parts.append(self._read(length, offset + _LENGTH_BYTES))
            offset += _LENGTH_BYTES + length
        return pickle.loads(parts[0], buffers=parts[1:])

    def _read(self, size: int, offset: int) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        while left:
            count = os.preadv(self._descriptor, [left], offset)
            assert count, "the worker announced more than it wrote"
            left, offset = left[count:], offset + count
        return data

    def empty(self) -> None:
        """Give the memory back. Call it only while no worker writes."""
        os.ftruncate(self._descriptor, 0)


class WorkerFiles:
    """The two value files of a worker (`shmps.ps.engine.Channels`).

    The result or exception of the worker's function has a file to itself. So it need not wait for a report
    that is not read yet, and does not overwrite it.
    """

    def __init__(self) -> None:
        self.reports = ValueFile()
        try:
            self.outcome = ValueFile()
        except OSError:
            self.reports.close()
            raise

    def empty(self) -> None:
        self.reports.empty()
        self.outcome.empty()

    def close(self) -> None:
        self.reports.close()
        self.outcome.close()
