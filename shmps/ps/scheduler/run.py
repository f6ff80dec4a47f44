"""A run: one function on the workers of a cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shmps.ps.engine import Channels
from shmps.ps.events import Event

OnReport = Callable[[int, Any], None]
OnEvent = Callable[[Event], None]

FAIL, RESPAWN, CONTINUE = "fail", "respawn", "continue"


@dataclass(frozen=True)
class Run:
    """The arguments of `Cluster.run`, and what the scheduler needs besides."""

    workers: int
    tick: int  # at which the clocks start
    channels: Sequence[Channels]
    body: Callable[..., None]  # body(rank, life, tick, function, args)
    function: Callable[..., Any]
    args: tuple[Any, ...]
    on_report: OnReport
    on_pause: Callable[[], None]
    on_event: OnEvent
    on_worker_death: str
    join_at: int | None = None  # the epoch at which one more worker comes in
    on_barrier: Callable[[], None] = lambda: None
