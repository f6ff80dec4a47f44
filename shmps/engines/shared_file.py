"""Files that processes share by their descriptors."""

import os
import tempfile
from multiprocessing import reduction


class SharedFile:
    """A file that several processes have open. Another process gets a copy of the descriptor.

    path: where to make the file, which must not be there. None: in memory and without a name, so that it is
    gone with the last process that has it open.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        if path is not None:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        elif hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("shmps")
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())

    def close(self) -> None:
        os.close(self._descriptor)

    def __getstate__(self):
        return self.path, reduction.DupFd(self._descriptor)

    def __setstate__(self, state):
        self.path, descriptor = state
        self._descriptor = descriptor.detach()
