"""A worker's account of its time, in seconds of time.monotonic(): a clock that all processes share."""

from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from shmps.worker import KVWorker

KINDS = ("compute", "push", "pull", "wait", "sleep")
COMPUTE, PUSH, PULL, WAIT, SLEEP = range(len(KINDS))

_MOST_LAPS = 2**14
_BINS = 2**10


class Spans(NamedTuple):
    """Stretches of one worker's time, one after the other without a gap: each begins where the last ended."""

    begin: float  # of the first, in seconds
    ends: np.ndarray  # (n,) seconds, ascending
    kinds: np.ndarray  # (n,) int8, indices into KINDS
    # Before `exact_from` they are not what came one after the other, but what a bin of `bin` seconds held.
    exact_from: float
    bin: float = 0.0

    @property
    def begins(self) -> np.ndarray:
        """(n,) seconds."""
        return np.concatenate([[self.begin], self.ends[:-1]])

    def shifted(self, origin: float) -> "Spans":
        """The same in seconds since `origin`."""
        return self._replace(
            begin=self.begin - origin, ends=self.ends - origin, exact_from=self.exact_from - origin
        )

    def within(self, edges: np.ndarray) -> np.ndarray:
        """Seconds of every kind between each of these times and the next: (k,) -> (k - 1, kinds)."""
        times, lengths = np.append(self.begin, self.ends), self.ends - self.begins
        return np.column_stack(
            [
                np.diff(np.interp(edges, times, np.append(0.0, np.cumsum(lengths * (self.kinds == kind)))))
                for kind in range(len(KINDS))
            ]
        )

    def in_bins(self, bins: int) -> "Spans":
        """At most a span of every kind in each of so many equal stretches of the whole: no second is lost."""
        edges = np.linspace(self.begin, self.ends[-1], bins + 1)
        seconds = self.within(edges)
        ends = np.minimum(edges[:-1, None] + np.cumsum(seconds, axis=1), edges[1:, None])
        lasting = seconds > 0
        kinds = np.broadcast_to(np.arange(len(KINDS), dtype=np.int8), seconds.shape)[lasting]
        last = float(edges[-1])
        return Spans(self.begin, ends[lasting], kinds, last, (last - self.begin) / bins)


class Account(NamedTuple):
    """What one worker did, and where its time went (seconds)."""

    rank: int
    began: float  # time.monotonic(), which all processes share
    ended: float
    iterations: int
    rows: int
    nonzeros: int
    computing: float
    waiting: float  # until an answer came
    slept: float
    spans: Spans | None  # if they were asked for


class Timesheet:
    """Of one worker, from now on. `lap(kind)`: the time since the last lap went there; returns its seconds.

    With `keep_spans` every lap is kept, what of it was waiting apart (as its end), in bounded memory: when
    there is no more room all so far become equal bins, 1024 of them, whatever the training's length. A ring
    would forget the beginning; this loses only the order of what is too fine to be drawn, and as long as it
    is not full it is exact.
    """

    def __init__(self, kv: KVWorker, keep_spans: bool):
        self._kv = kv
        self._began = self._last = monotonic()
        self._waited_before = kv.seconds_waiting
        self._seconds = [0.0] * len(KINDS)
        self._laps = _Laps(self._began, kv.seconds_waiting) if keep_spans else None

    def lap(self, kind: int) -> float:
        now = monotonic()
        spent = now - self._last
        self._last = now
        self._seconds[kind] += spent
        if self._laps is not None:
            self._laps.add(kind, now, self._kv.seconds_waiting)
        return spent

    def account(self, iterations: int, rows: int, nonzeros: int) -> Account:
        """What it comes to: until now, of so many iterations over so many rows and non-zeros (visits)."""
        return Account(
            self._kv.rank,
            self._began,
            monotonic(),
            iterations,
            rows,
            nonzeros,
            self._seconds[COMPUTE],
            self._kv.seconds_waiting - self._waited_before,
            self._seconds[SLEEP],
            None if self._laps is None else self._laps.spans(),
        )


class _Laps:
    """A worker's last laps as they were, and its time before them in bins."""

    def __init__(self, began: float, waited: float):
        self._past = Spans(began, np.empty(0), np.empty(0, np.int8), began)
        self._waited = waited  # before the laps
        self._count = 0
        self._arrays = np.empty(_MOST_LAPS), np.empty(_MOST_LAPS), np.empty(_MOST_LAPS, np.int8)
        views: list[Any] = [array.data for array in self._arrays]
        self._ends, self._waits, self._kinds = views  # their items are Python's numbers: written at less cost

    def add(self, kind: int, end: float, waited: float) -> None:
        """A lap until `end`, by when the worker had waited so many seconds in all."""
        count = self._count
        self._ends[count], self._waits[count], self._kinds[count] = end, waited, kind
        self._count = count + 1
        if self._count == _MOST_LAPS:
            self._past = self.spans().in_bins(_BINS)
            self._waited, self._count = waited, 0

    def spans(self) -> Spans:
        """All so far: every lap as one span, and as a second one what of it was waiting."""
        ends, waits, kinds = (array[: self._count] for array in self._arrays)
        waiting = np.diff(waits, prepend=self._waited)
        begins = np.concatenate([[self._past.ends[-1] if len(self._past.ends) else self._past.begin], ends])
        both = np.column_stack([np.maximum(begins[:-1], ends - waiting), ends])
        lasting = np.column_stack([np.full(len(ends), True), waiting > 0])
        return self._past._replace(
            ends=np.append(self._past.ends, both[lasting]),
            kinds=np.append(
                self._past.kinds, np.column_stack([kinds, np.full(len(ends), WAIT, np.int8)])[lasting]
            ),
        )
