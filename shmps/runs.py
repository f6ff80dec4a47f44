"""One function on the workers of a cluster: what is asked for, and how far it is."""

import collections
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shmps.events import Event
from shmps.messages import Record
from shmps.outlet import Outlets
from shmps.roster import Barrier, Deaths, Division

OnReport = Callable[[int, Any], None]
OnEvent = Callable[[Event], None]

FAIL, RESPAWN, CONTINUE = "fail", "respawn", "continue"


@dataclass
class Run:
    """What `Cluster.run` was asked for, and the scheduler's notes about it."""

    workers: int
    tick: int  # at which their clocks start
    outlets: list[Outlets]
    body: Callable[..., None]  # body(rank, life, function, *args)
    function: Callable[..., Any]
    args: tuple[Any, ...]
    on_report: OnReport
    on_pause: Callable[[], None]
    on_event: OnEvent
    on_worker_death: str
    join_at: int | None = None  # the epoch at which one more worker comes in
    on_barrier: Callable[[], None] = lambda: None
    barriers_told: int = 0  # of: the last generation
    results: dict[int, Any] = field(default_factory=dict)
    reports: collections.deque[tuple[Record, Any]] = field(default_factory=collections.deque)

    def fall_silent(self) -> None:
        """The run has ended: what was reported last is nobody's, whose callback may have raised."""
        self.reports.clear()
        self.on_pause = lambda: None

    def __post_init__(self) -> None:
        self.barrier, self.division = Barrier(range(self.workers)), Division(range(self.workers))
        if self.join_at is not None:
            self.division.join(self.workers, self.join_at)
        self.deaths = Deaths()
        self.abandoned: set[int] = set()
        self.entered = dict.fromkeys(range(self.workers), self.tick)  # rank -> the tick at which it came in


def nobody(kv: Any, *args: Any) -> None:
    """What takes the place of a worker that is given up: its committed pushes are completed, no more."""
