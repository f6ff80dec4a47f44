"""Consistency: when a pull may be answered, and whether pushes wait for their tick. The vector clock.

Bulk-synchronous, stale-synchronous (Ho et al., NIPS 2013) and asynchronous training differ by this value
alone.
"""

import math
from dataclasses import dataclass

from shmps.checks import whole
from shmps.errors import UsageError


@dataclass(frozen=True)
class Consistency:
    """When servers answer pulls and apply pushes.

    bound: a pull at clock c is answered when c - slowest <= bound, in ticks.
    hold_pushes: pushes are held until the tick is complete, and applied as one update.
    in_place: workers update the shared arrays themselves, without a lock and without a server.
    """

    bound: float
    hold_pushes: bool = False
    in_place: bool = False

    def __post_init__(self) -> None:
        if not self.bound >= 0:
            raise UsageError(f"bound must be 0 or more ticks, got {self.bound!r}")
        if self.in_place and (self.hold_pushes or math.isfinite(self.bound)):
            raise UsageError(
                f"in_place must come without a bound and hold_pushes, got bound={self.bound!r}, "
                f"hold_pushes={self.hold_pushes!r}; use HOGWILD"
            )

    def __str__(self) -> str:
        if self.hold_pushes:
            return "sync"
        if self.in_place:
            return "hogwild"
        return "async" if math.isinf(self.bound) else f"bounded {self.bound}"

    def may_answer(self, clock: int, slowest: float) -> bool:
        return clock - slowest <= self.bound


SYNC = Consistency(0, hold_pushes=True)
ASYNC = Consistency(math.inf)
HOGWILD = Consistency(math.inf, in_place=True)


def BOUNDED(bound: int) -> Consistency:
    """Stale-synchronous: no worker reads when it is more than `bound` ticks ahead of the slowest one."""
    return Consistency(whole("bound", bound, least=0))


class VectorClock:
    """Ticks per worker. A worker that has left never blocks the others."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._slowest: float | None = None  # None: to be computed
        self._behind: set[int] | None = None

    def start(self, clocks: list[int]) -> None:
        """Forget all workers; workers 0, 1, ... stand at `clocks`."""
        self._ticks = dict(enumerate(clocks))
        self._slowest = self._behind = None

    def enter(self, rank: int, clock: int) -> None:
        """Let a worker take part at this clock."""
        self._ticks[rank] = clock
        self._slowest = self._behind = None

    def tick(self, rank: int, clock: int) -> None:
        if (before := self._ticks.get(rank)) is None:
            return
        if self._slowest is not None and before > self._slowest:
            self._ticks[rank] = clock  # others are behind: with many workers, looking for them takes long
        else:
            self.enter(rank, clock)

    def leave(self, rank: int) -> None:
        self._ticks.pop(rank, None)
        self._slowest = self._behind = None

    @property
    def behind(self) -> set[int]:
        """The workers at the least clock."""
        if self._behind is None:
            slowest = self.slowest
            self._behind = {rank for rank, clock in self._ticks.items() if clock == slowest}
        return self._behind

    @property
    def slowest(self) -> float:
        """The least clock of the workers that take part; infinity if there are none."""
        if self._slowest is None:
            self._slowest = min(self._ticks.values(), default=math.inf)
        return self._slowest
