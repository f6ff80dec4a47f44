"""How a worker spends its time, in seconds of the engine's clock (`kv.now`), which all nodes share."""

from typing import NamedTuple

import numpy as np

from shmps.ps.worker.kv import KVWorker

ACTIVITIES = ("compute", "push", "pull", "wait", "sleep")
COMPUTE, PUSH, PULL, WAIT, SLEEP = range(len(ACTIVITIES))

_MOST_LAPS = 2**13
_BINS = 2**10


class Spans(NamedTuple):
    """Consecutive time spans of one worker, without gaps: each begins where the one before ends."""

    begin: float  # of the first span, in seconds
    ends: np.ndarray  # (n,) seconds, ascending
    activities: np.ndarray  # (n,) int8, indices into ACTIVITIES
    # Before `exact_from` the spans are sums: the seconds of each activity within bins of `bin` seconds.
    exact_from: float
    bin: float = 0.0

    @property
    def begins(self) -> np.ndarray:
        """The begin of each span, (n,) seconds."""
        return np.concatenate([[self.begin], self.ends[:-1]])

    @property
    def last(self) -> float:
        """The end of the last span, in seconds."""
        return float(self.ends[-1]) if len(self.ends) else self.begin

    def shifted(self, origin: float) -> "Spans":
        """Return the same spans in seconds since `origin`."""
        return self._replace(
            begin=self.begin - origin, ends=self.ends - origin, exact_from=self.exact_from - origin
        )

    def within(self, edges: np.ndarray) -> np.ndarray:
        """Return the seconds of every activity between consecutive edges: (k,) -> (k - 1, activities)."""
        times, lengths = np.append(self.begin, self.ends), self.ends - self.begins
        spent = (lengths * (self.activities == activity) for activity in range(len(ACTIVITIES)))
        totals = (np.append(0.0, np.cumsum(each)) for each in spent)
        return np.column_stack([np.diff(np.interp(edges, times, total)) for total in totals])

    def in_bins(self, bins: int) -> "Spans":
        """Sum the spans over `bins` equal bins: at most one span per activity in each bin.

        The total seconds of every activity stay the same.
        """
        edges = np.linspace(self.begin, self.last, bins + 1)
        seconds = self.within(edges)
        ends = np.minimum(edges[:-1, None] + np.cumsum(seconds, axis=1), edges[1:, None])
        lasting = seconds > 0
        activities = np.broadcast_to(np.arange(len(ACTIVITIES), dtype=np.int8), seconds.shape)[lasting]
        return Spans(self.begin, ends[lasting], activities, self.last, (self.last - self.begin) / bins)


class WorkerStats(NamedTuple):
    """What one worker did, and where its time went (seconds)."""

    rank: int
    began: float  # `kv.now()`, as `ended`
    ended: float
    iterations: int
    rows: int  # visits
    nonzeros: int  # visits
    computing: float
    waiting: float  # blocked until an answer came
    slept: float
    spans: Spans | None  # None unless they are asked for


class Timesheet:
    """Records the time of one worker, from the construction on.

    `lap(activity)` attributes the time since the last lap to an activity, and returns its seconds.

    With `keep_spans`, keep every lap as a span in bounded memory; the time that a lap waited is a span of its
    own at the lap's end. When the memory is full, the spans so far are summed over 1024 equal bins, whatever
    the training's length. A ring buffer would lose the beginning. The bins lose only the order of spans too
    short to be drawn; until the memory is full, the spans are exact.
    """

    def __init__(self, kv: KVWorker, keep_spans: bool):
        self._kv, self._now = kv, kv.now
        self._began = self._last = kv.now()
        self._waited_before = self._waited = kv.seconds_waiting
        self._seconds = [0.0] * len(ACTIVITIES)
        self._past = Spans(self._began, np.empty(0), np.empty(0, np.int8), self._began)
        # Flat: end, activity, seconds waited so far, and again. It is the fastest way to record a lap.
        self._laps: list[float] | None = [] if keep_spans else None

    def lap(self, activity: int) -> float:
        now = self._now()
        spent = now - self._last
        self._last = now
        self._seconds[activity] += spent
        if self._laps is not None:
            self._laps += (now, activity, self._kv.seconds_waiting)
            if len(self._laps) >= 3 * _MOST_LAPS:
                self._past = self._spans(self._laps).in_bins(_BINS)
                self._laps, self._waited = [], self._kv.seconds_waiting
        return spent

    def stats(self, iterations: int, rows: int, nonzeros: int) -> WorkerStats:
        """Return the statistics until now; rows and nonzeros count visits."""
        return WorkerStats(
            rank=self._kv.rank,
            began=self._began,
            ended=self._now(),
            iterations=iterations,
            rows=rows,
            nonzeros=nonzeros,
            computing=self._seconds[COMPUTE],
            waiting=self._kv.seconds_waiting - self._waited_before,
            slept=self._seconds[SLEEP],
            spans=None if self._laps is None else self._spans(self._laps),
        )

    def _spans(self, laps: list[float]) -> Spans:
        """Return the past spans, then one span per lap, and a second one for the time that the lap waited."""
        ends, activities, waits = np.fromiter(laps, float, len(laps)).reshape(-1, 3).T
        waiting = np.diff(waits, prepend=self._waited)
        begins = np.append(self._past.last, ends)[:-1]
        both = np.column_stack([np.maximum(begins, ends - waiting), ends])
        lasting = np.column_stack([np.full(len(ends), True), waiting > 0])
        activities = np.column_stack([activities, np.full(len(ends), WAIT)]).astype(np.int8)
        return self._past._replace(
            ends=np.append(self._past.ends, both[lasting]),
            activities=np.append(self._past.activities, activities[lasting]),
        )
