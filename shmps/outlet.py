"""How results leave a worker: pickled into a nameless file; a record tells the scheduler how many bytes.

A file and no pipe: it takes any size without a reader, and a worker that is killed while it writes leaves
no half message behind, since the record comes last.
"""

import os
import pickle
import tempfile
from multiprocessing import reduction
from typing import Any


class Outlet:
    """One file: the worker writes values into it and announces them, the scheduler reads them."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("shmps")
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())

    def write(self, value: Any, offset: int = 0) -> int:
        """Write `value` from `offset` on; returns its size in bytes."""
        data = memoryview(pickle.dumps(value))
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        return written

    def read(self, size: int, offset: int = 0) -> Any:
        parts, end = [], offset + size
        while offset < end:
            part = os.pread(self._descriptor, end - offset, offset)
            assert part, "the worker announced more than it wrote"
            parts.append(part)
            offset += len(part)
        return pickle.loads(b"".join(parts))

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
