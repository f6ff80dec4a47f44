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
    """One file: the worker replaces its content and announces it, the scheduler reads it."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("shmps")
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())

    def write(self, value: Any) -> int:
        """Replace the content by `value`; returns its size in bytes."""
        data = memoryview(pickle.dumps(value))
        os.ftruncate(self._descriptor, 0)
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], written)
        return written

    def read(self, size: int) -> Any:
        parts, offset = [], 0
        while offset < size:
            part = os.pread(self._descriptor, size - offset, offset)
            assert part, "the worker announced more than it wrote"
            parts.append(part)
            offset += len(part)
        return pickle.loads(b"".join(parts))

    def close(self) -> None:
        os.close(self._descriptor)

    def __getstate__(self):
        return reduction.DupFd(self._descriptor)

    def __setstate__(self, state):
        self._descriptor = state.detach()


class Outlets:
    """A worker's two: its last words must not wait for, nor overwrite, a report that is not read yet."""

    def __init__(self) -> None:
        self.reports, self.last_words = Outlet(), Outlet()

    def close(self) -> None:
        self.reports.close()
        self.last_words.close()
