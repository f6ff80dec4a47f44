"""Event files: the journals of servers while a run goes on. They outlive the servers."""

import os

from shmps.engines.processes.nameless_file import NamelessFile
from shmps.errors import OutOfSpace
from shmps.system.os_errors import shortage


class EventFile(NamelessFile):
    """A file to which one server appends (`shmps.ps.server.recorder.Stream`).

    It grows, since nobody knows how long a run will be. A write is copied by the kernel: it is in the file
    when the call returns, whatever happens to the server then.
    """

    _end = 0  # where the next event goes

    def append(self, data: bytes) -> None:
        try:
            written = os.pwrite(self._descriptor, data, self._end)
            if written < len(data):
                os.ftruncate(self._descriptor, self._end)
                raise OutOfSpace("the journal of a server must fit in memory, got no room for another event")
        except OSError as error:
            if (short := shortage(error, in_memory=True)) is None:
                raise
            raise OutOfSpace(
                f"the journal of a server must fit in memory, got {short.found} after {self._end} bytes "
                f"({error.strerror}); {short.remedy}"
            ) from error
        self._end += written

    def read(self) -> bytes:
        """Return all events. What is appended later comes after them, in this process too."""
        self._end = os.fstat(self._descriptor).st_size
        parts, at = [], 0
        while at < self._end:
            parts.append(os.pread(self._descriptor, self._end - at, at))
            at += len(parts[-1])
        return b"".join(parts)

    def cut(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._end = size
