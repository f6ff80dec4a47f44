"""Results and reports of a worker: they travel with the records that announce them."""

import pickle
from typing import Any

import numpy as np

from shmps.ps.messages import Failed, Record, Report, Result, with_arrays

_REPORT, *_OUTCOMES = VALUES = [Record.of(each).op for each in (Report(0, 0), Result(0), Failed(0))]


class Channel:
    """Pickled values by the offset at which they were written; see `shmps.ps.engine.Channel`."""

    def __init__(self) -> None:
        self._values: dict[int, np.ndarray] = {}

    def write(self, value: Any, offset: int = 0) -> int:
        self._values[offset] = np.frombuffer(pickle.dumps(value, protocol=5), np.uint8)
        return len(self._values[offset])

    def read(self, size: int, offset: int = 0) -> Any:
        return pickle.loads(self._values.pop(offset).data)

    def pack(self, record: Record, offset: int) -> Record:
        """Return the record that announces a value, with the value."""
        return with_arrays(record, [self._values.pop(offset)])

    def take(self, record: Record, offset: int) -> None:
        """Keep the value that came with a record."""
        [self._values[offset]] = record.arrays

    def empty(self) -> None:
        self._values.clear()


class Channels:
    """See `shmps.ps.engine.Channels`. The worker writes to its own, the scheduler reads from others."""

    def __init__(self) -> None:
        self.reports, self.outcome = Channel(), Channel()

    def empty(self) -> None:
        self.reports.empty()
        self.outcome.empty()

    def pack(self, record: Record) -> Record:
        """Return a record of a worker, with the value that it announces."""
        if record.op == _REPORT:
            return self.reports.pack(record, record.message.offset)
        return self.outcome.pack(record, 0) if record.op in _OUTCOMES else record

    def take(self, record: Record) -> None:
        """Keep the value that came with a record of a worker."""
        if record.op == _REPORT:
            self.reports.take(record, record.message.offset)
        elif record.op in _OUTCOMES:
            self.outcome.take(record, 0)
