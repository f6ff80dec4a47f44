"""Consistency: when a pull may be answered, and whether pushes wait for their tick. The vector clock.

Bulk-synchronous, stale-synchronous (Ho et al., NIPS 2013) and asynchronous training differ by this value
alone, and so does a replay (`shmps.ps.replay`).
"""

import collections
import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from shmps.checks import whole
from shmps.errors import UsageError
from shmps.ps.memory.layout import Shape
from shmps.ps.messages import Record


class Position(NamedTuple):
    """Where a pull stands in the requests of its worker."""

    worker: int
    number: int  # pushes before it
    turn: int  # pulls since that push


class Standing(Protocol):
    """Where a server stands when it asks its consistency what to do next."""

    @property
    def rank(self) -> int: ...
    @property
    def clock(self) -> "VectorClock": ...
    @property
    def version(self) -> int: ...
    def has_answered(self, pull: Position) -> bool:
        """Return whether a pull is answered at this version; known in recorded runs."""


@dataclass(frozen=True)
class Consistency:
    """When servers answer pulls and apply pushes.

    bound: a pull at clock c is answered when c - slowest <= bound, in ticks.
    hold_pushes: pushes are held until the tick is complete, and applied as one update.
    in_place: workers update the shared arrays themselves, without a lock and without a server.
    recorded: servers note the order of updates and answers. Every read of a worker belongs to a version: a
    pull keeps its answer until the next push is committed, even if the worker dies.
    """

    bound: float
    hold_pushes: bool = False
    in_place: bool = False
    recorded: bool = False

    def __post_init__(self) -> None:
        if not self.bound >= 0:
            raise UsageError(f"bound must be 0 or more ticks, got {self.bound!r}")
        if self.in_place and (self.hold_pushes or math.isfinite(self.bound)):
            raise UsageError(
                f"in_place must come without a bound and hold_pushes, got bound={self.bound!r}, "
                f"hold_pushes={self.hold_pushes!r}; use HOGWILD"
            )
        if self.in_place and self.recorded:
            raise UsageError(
                "a recorded run needs servers that apply one push after another, got hogwild workers, which "
                "update in place, in no order; use ASYNC or BOUNDED(k)"
            )

    def __str__(self) -> str:
        if self.hold_pushes:
            return "sync"
        if self.in_place:
            return "hogwild"
        return "async" if math.isinf(self.bound) else f"bounded {self.bound}"

    @property
    def reads_by_pull(self) -> bool:
        """Whether `kv.read` has to pull: a look is at a version in sync mode only."""
        return self.recorded and not self.hold_pushes

    @property
    def completes_pushes(self) -> bool:
        """Whether a new life of a worker waits for the pushes of the former one before it does anything."""
        return True

    # What servers ask.

    def next_update(self, held: list[Record], at: Standing) -> list[Record]:
        """Return the held pushes that form the next update, as they arrived; [] if it has to wait."""
        return at.clock.tick_of(held) if self.hold_pushes else held[:1]

    def progress(self, at: Standing) -> float:
        """Return what parked pulls wait for: the ticks of the slowest worker."""
        return at.clock.slowest

    def needed(self, pull: Record, at: Standing) -> float:
        """Return the least progress, 0 or more, at which a pull may be answered."""
        needed = pull.number - self.bound
        return needed if needed > 0 else 0

    def delay(self, push: Record, at: Standing) -> int:
        """Return the versions between a push that is applied now and the pull it was computed from."""
        return at.version - push.version

    # What workers ask.

    def must_allow(self, worker: int, number: int, turn: int | None) -> None:
        """Raise UsageError unless a worker may make push `number`, or the pull at that turn after it."""

    def must_be_complete(self, worker: int, pushes: int) -> None:
        """Raise UsageError unless a worker may finish after so many pushes."""

    def pulls_at_the_end(self, worker: int, pushes: int) -> int:
        """Return how many pulls a worker makes at least between its last push and its end."""
        return 0

    def stops(self, worker: int, pushes: int, asked: bool) -> bool:
        """Return whether a worker stops after so many pushes. asked: whether `Cluster.stop` was called."""
        return asked

    def must_fit(self, shape: Shape, workers: int) -> None:
        """Raise UsageError unless a cluster of this shape can have this consistency."""


SYNC = Consistency(0, hold_pushes=True)
ASYNC = Consistency(math.inf)
HOGWILD = Consistency(math.inf, in_place=True)


def BOUNDED(bound: int) -> Consistency:
    """Stale-synchronous: no worker reads when it is more than `bound` ticks ahead of the slowest one."""
    return Consistency(whole("bound", bound, least=0))


class VectorClock:
    """Ticks per worker. A worker that has left never blocks the others.

    slowest: the least clock of the workers that take part; infinity if there are none.

    A tick costs O(1) amortised. The least clock is searched among the different clocks, at most one per
    worker, and only when the last worker has left it. Then every worker has ticked since the last search.
    """

    def __init__(self) -> None:
        self.start([])

    def start(self, clocks: list[int]) -> None:
        """Forget all workers; workers 0, 1, ... stand at `clocks`."""
        self._ticks = dict(enumerate(clocks))
        self._counts: dict[float, int] = dict(collections.Counter(clocks))  # workers by clock
        self.slowest: float = min(clocks, default=math.inf)

    def enter(self, rank: int, clock: int) -> None:
        """Let a worker take part at this clock."""
        self.leave(rank)
        self._ticks[rank] = clock
        self._counts[clock] = self._counts.get(clock, 0) + 1
        self.slowest = min(self.slowest, clock)

    def tick(self, rank: int, clock: int) -> None:
        """Note the clock of a worker, unless it has left."""
        before, counts = self._ticks.get(rank), self._counts
        if before is not None:
            self._ticks[rank] = clock
            counts[clock] = counts.get(clock, 0) + 1
            self._drop(before)

    def leave(self, rank: int) -> None:
        before = self._ticks.pop(rank, None)
        if before is not None:
            self._drop(before)

    def _drop(self, clock: int) -> None:
        """Take one worker off this clock."""
        counts = self._counts
        if counts[clock] > 1:
            counts[clock] -= 1
            return
        del counts[clock]
        if clock == self.slowest:
            self.slowest = min(counts) if counts else math.inf

    def tick_of(self, held: list[Record]) -> list[Record]:
        """Return the next push of each worker at the least clock, as they arrived; [] if one is missing."""
        slowest, ticks = self.slowest, self._ticks
        behind = self._counts.get(slowest, 0)
        if len(held) < behind:
            return []
        tick = [push for push in held if push.number == slowest + 1 and ticks.get(push.sender) == slowest]
        return tick if len(tick) == behind else []
