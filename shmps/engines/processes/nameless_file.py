"""Nameless files in memory, which processes pass on by their descriptors."""

import os
import tempfile
from multiprocessing import reduction


class NamelessFile:
    """A file without a name: it is gone with the last process that has it open. Another process gets a copy
    of the descriptor.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("shmps")
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())

    def close(self) -> None:
        os.close(self._descriptor)

    def __getstate__(self):
        return reduction.DupFd(self._descriptor)

    def __setstate__(self, state):
        self._descriptor = state.detach()
