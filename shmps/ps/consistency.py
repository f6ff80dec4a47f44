"""When a pull may be answered and whether pushes wait for their tick: a value, and a vector clock.

Bulk-synchronous, stale-synchronous (Ho et al., NIPS 2013) and asynchronous training differ by it alone.
"""

import math
from dataclasses import dataclass

from shmps.checks import whole
from shmps.errors import UsageError


@dataclass(frozen=True)
class Consistency:
    """A pull at clock c is answered when c - slowest <= bound; held pushes are applied a tick at a time.

    `in_place`: workers update the shared arrays themselves, without a lock and without a server.
    """

    bound: float
    hold_pushes: bool = False
    in_place: bool = False

    def __post_init__(self) -> None:
        if not self.bound >= 0:
            raise UsageError(f"bound must be >= 0 ticks, got {self.bound!r}")
        if self.in_place and (self.hold_pushes or math.isfinite(self.bound)):
            raise UsageError(
                f"updates in place neither wait nor are held, got bound={self.bound!r}, "
                f"hold_pushes={self.hold_pushes!r}; leave them out: HOGWILD"
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
    """Stale-synchronous: nobody reads more than `bound` ticks ahead of the slowest worker."""
    return Consistency(whole("bound", bound, least=0))


class VectorClock:
    """Ticks per worker. Who has left no longer holds anybody up."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._slowest: float | None = None  # until it is asked for
        self._behind: list[int] | None = None  # likewise

    def start(self, clocks: list[int]) -> None:
        """Forget everyone; workers 0, 1, ... stand at `clocks`."""
        self._ticks = dict(enumerate(clocks))
        self._slowest = self._behind = None

    def enter(self, rank: int, clock: int) -> None:
        """A worker comes in, or is back, at its clock."""
        self._ticks[rank] = clock
        self._slowest = self._behind = None

    def tick(self, rank: int, clock: int) -> None:
        if rank in self._ticks:
            self.enter(rank, clock)

    def leave(self, rank: int) -> None:
        self._ticks.pop(rank, None)
        self._slowest = self._behind = None

    @property
    def behind(self) -> list[int]:
        """Who stands at the least clock, in rank order."""
        if self._behind is None:
            slowest = self.slowest
            self._behind = sorted(rank for rank, clock in self._ticks.items() if clock == slowest)
        return self._behind

    @property
    def slowest(self) -> float:
        """The least clock of those present; infinity when all have left."""
        if self._slowest is None:
            self._slowest = min(self._ticks.values(), default=math.inf)
        return self._slowest
