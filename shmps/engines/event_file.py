"""Event files: the journals of servers while a run goes on. They outlive the servers."""

import errno
import mmap
import os
import sys

from shmps.engines.shared_file import SharedFile
from shmps.errors import OutOfSpace
from shmps.system.memory import allocate, available_memory
from shmps.system.os_errors import shortage

_HEAD = 16  # bytes before the events: the first 8 are an integer, the bytes of events
_STEP = 2**18  # bytes by which the file grows, since nobody knows how long a run will be


class EventFile(SharedFile):
    """A file to which one server appends (`shmps.ps.server.recorder.Stream`), mapped into memory.

    Events count once their end is stored, which is one aligned store. So the file holds whole events,
    whenever the server dies. Raises OutOfSpace if the file does not fit in memory, or on the disk of `path`.
    """

    _end = 0  # where the next event goes, after the head
    _size, _events = memoryview(b""), memoryview(b"")  # as this process has mapped them: not yet

    def __init__(self, path: str | None = None) -> None:
        super().__init__(path)
        try:
            self._allocate(_STEP)
        except BaseException:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        begin, end = self._end, self._end + len(data)
        if end > len(self._events):
            self._make_room(end)
        self._events[begin:end] = data
        self._size[0] = self._end = end

    def _make_room(self, end: int) -> None:
        """Map the file, with room for events up to `end`."""
        if os.fstat(self._descriptor).st_size < _HEAD + end:
            self._allocate(_HEAD + end + _STEP)
        self._size, self._events = self._mapped()

    def _allocate(self, size: int) -> None:
        try:
            if self.path is None and available_memory() < _STEP:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            allocate(self._descriptor, size)
        except OSError as error:
            if (short := shortage(error, in_memory=self.path is None)) is None:
                raise
            where = "in memory" if self.path is None else "on the disk"
            raise OutOfSpace(
                f"the journal of a server must fit {where}, got {short.found} after {self._end} bytes "
                f"({error.strerror}); {short.remedy}"
            ) from error

    def _mapped(self) -> tuple[memoryview, memoryview]:
        file = memoryview(mmap.mmap(self._descriptor, 0))
        return file[:8].cast("q"), file[_HEAD:]

    def read(self) -> bytes:
        """Return all events. What is appended later comes after them, in this process too."""
        size, events = self._mapped()
        self._end = size[0]
        return bytes(events[: self._end])

    def cut(self, size: int) -> None:
        self._mapped()[0][0] = self._end = size


def events_in(data: bytes) -> bytes:
    """Return all events in the content of an event file. Raises ValueError if it is cut short."""
    size = int.from_bytes(data[:8], sys.byteorder)
    if not 0 <= size <= len(data) - _HEAD:
        raise ValueError(f"{size} bytes of events in a file of {len(data)}")
    return data[_HEAD : _HEAD + size]
