"""A worker's account of its time, in seconds of time.monotonic(): a clock that all processes share."""

import time
from typing import NamedTuple

import numpy as np

from shmps.worker import KVWorker

KINDS = ("compute", "push", "pull", "wait", "sleep")
COMPUTE, PUSH, PULL, WAIT, SLEEP = range(len(KINDS))

_MOST_SPANS = 2**14
_BINS = _MOST_SPANS // (2 * len(KINDS))  # of which each may have a span of every kind: half of the room


class Spans(NamedTuple):
    """Stretches of one worker's time, one after the other without a gap: each begins where the last ended."""

    begin: float  # of the first, in seconds
    ends: np.ndarray  # (n,) seconds, ascending
    kinds: np.ndarray  # (n,) indices into KINDS
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
        kinds = np.broadcast_to(np.arange(len(KINDS)), seconds.shape)[lasting]
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

    With `keep_spans` every lap is kept, what of it was waiting apart (as its end). Their number is bounded:
    when there is no more room all so far become equal bins, 1638 of them, whatever the training's length.
    A ring would forget the beginning; this loses only the order of what is too fine to be drawn, and as long
    as it is not full it is exact.
    """

    def __init__(self, kv: KVWorker, keep_spans: bool):
        self._kv = kv
        self._began = self._last = time.monotonic()
        self._waited_before = self._waited = kv.seconds_waiting
        self._seconds = [0.0] * len(KINDS)
        self._exact_from, self._bin = self._began, 0.0
        self._ends: list[float] = []
        self._kinds: list[int] = []
        self._keep_spans = keep_spans

    def lap(self, kind: int) -> float:
        now = time.monotonic()
        spent = now - self._last
        self._seconds[kind] += spent
        if self._keep_spans:
            self._keep(kind, now)
        self._last = now
        return spent

    def _keep(self, kind: int, now: float) -> None:
        waited = self._kv.seconds_waiting
        if waited > self._waited:
            self._ends.append(max(self._last, now - (waited - self._waited)))
            self._kinds.append(kind)
            self._waited, kind = waited, WAIT
        self._ends.append(now)
        self._kinds.append(kind)
        if len(self._ends) >= _MOST_SPANS:
            coarse = self._spans().in_bins(_BINS)
            self._ends, self._kinds = coarse.ends.tolist(), coarse.kinds.tolist()
            self._exact_from, self._bin = coarse.exact_from, coarse.bin

    def _spans(self) -> Spans:
        ends, kinds = np.array(self._ends, dtype=float), np.array(self._kinds, dtype=np.int64)
        return Spans(self._began, ends, kinds, self._exact_from, self._bin)

    def account(self, iterations: int, rows: int, nonzeros: int) -> Account:
        """What it comes to: until now, of so many iterations over so many rows and non-zeros (visits)."""
        return Account(
            self._kv.rank,
            self._began,
            time.monotonic(),
            iterations,
            rows,
            nonzeros,
            self._seconds[COMPUTE],
            self._kv.seconds_waiting - self._waited_before,
            self._seconds[SLEEP],
            self._spans() if self._keep_spans else None,
        )
