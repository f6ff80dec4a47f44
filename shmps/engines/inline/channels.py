"""How a worker passes a result or a report to the scheduler: as a copy."""

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
