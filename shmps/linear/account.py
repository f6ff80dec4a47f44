"""A worker's account of its time, in seconds of time.monotonic(): a clock that all processes share."""

from time import monotonic
from typing import NamedTuple

import numpy as np

from shmps.ps.worker.kv import KVWorker

KINDS = ("compute", "push", "pull", "wait", "sleep")
COMPUTE, PUSH, PULL, WAIT, SLEEP = range(len(KINDS))

_MOST_LAPS = 2**13
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

    @property
    def last(self) -> float:
        """The end of the last, in seconds."""
        return float(self.ends[-1]) if len(self.ends) else self.begin

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
        edges = np.linspace(self.begin, self.last, bins + 1)
        seconds = self.within(edges)
        ends = np.minimum(edges[:-1, None] + np.cumsum(seconds, axis=1), edges[1:, None])
        lasting = seconds > 0
        kinds = np.broadcast_to(np.arange(len(KINDS), dtype=np.int8), seconds.shape)[lasting]
        return Spans(self.begin, ends[lasting], kinds, self.last, (self.last - self.begin) / bins)


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
        self._waited_before = self._waited = kv.seconds_waiting
        self._seconds = [0.0] * len(KINDS)
        self._past = Spans(self._began, np.empty(0), np.empty(0, np.int8), self._began)
        # Its end, its kind, the seconds waited by then, and so on: of all ways to note a lap the fastest.
        self._laps: list[float] | None = [] if keep_spans else None

    def lap(self, kind: int) -> float:
        now = monotonic()
        spent = now - self._last
        self._last = now
        self._seconds[kind] += spent
        if self._laps is not None:
            self._laps += (now, kind, self._kv.seconds_waiting)
            if len(self._laps) >= 3 * _MOST_LAPS:
                self._past = self._spans(self._laps).in_bins(_BINS)
                self._laps, self._waited = [], self._kv.seconds_waiting
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
            None if self._laps is None else self._spans(self._laps),
        )

    def _spans(self, laps: list[float]) -> Spans:
        """What is past, then every lap as one span, and as a second one what of it was waiting."""
        ends, kinds, waits = np.fromiter(laps, float, len(laps)).reshape(-1, 3).T
        waiting = np.diff(waits, prepend=self._waited)
        begins = np.append(self._past.last, ends)[:-1]
        both = np.column_stack([np.maximum(begins, ends - waiting), ends])
        lasting = np.column_stack([np.full(len(ends), True), waiting > 0])
        kinds = np.column_stack([kinds, np.full(len(ends), WAIT)]).astype(np.int8)
        return self._past._replace(
            ends=np.append(self._past.ends, both[lasting]), kinds=np.append(self._past.kinds, kinds[lasting])
        )
