"""What outlives a node: the results and reports of a worker, as copies, and the events of a server."""

import pickle
from typing import Any


class Channel:
    """Values by the offset at which they were written; see `shmps.ps.engine.Channel`."""

    def __init__(self) -> None:
        self._values: dict[int, bytes] = {}

    def write(self, value: Any, offset: int = 0) -> int:
        """Keep a copy: the worker may change the value later."""
        self._values[offset] = pickle.dumps(value, protocol=5)
        return len(self._values[offset])

    def read(self, size: int, offset: int = 0) -> Any:
        return pickle.loads(self._values[offset])

    def empty(self) -> None:
        self._values.clear()


class Channels:
    """See `shmps.ps.engine.Channels`."""

    def __init__(self) -> None:
        self.reports, self.outcome = Channel(), Channel()

    def empty(self) -> None:
        self.reports.empty()
        self.outcome.empty()


class Events:
    """The events of one server; see `shmps.ps.server.recorder.Stream`."""

    def __init__(self) -> None:
        self._events = bytearray()

    def append(self, data: bytes) -> None:
        self._events += data

    def read(self) -> bytes:
        return bytes(self._events)

    def cut(self, size: int) -> None:
        del self._events[size:]

    def close(self) -> None: ...
