"""Named places in the loops of nodes at which a test kills the process.

A place that is not armed costs a look into an empty dictionary. A place is armed in one process: that of a
node (the scheduler gets a `Failpoint`, and arms the first life of the node), or that of the scheduler.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

SERVER_PLACES = (
    "server: record taken",
    "server: slot written",
    "server: committed",
    "server: half applied",
    "server: applied",
    "server: before answers",
    "server: after answers",
)
RECORDER_PLACES = ("server: update noted", "server: answer noted")  # in recorded runs
TAIL_PLACES = ("tail: half applied", "tail: copied")
WORKER_PLACES = (
    "worker: slots half filled",
    "worker: before commit",
    "worker: committed",
    "worker: half announced",
    "worker: announced",
    "worker: answered",
)
SCHEDULER_PLACES = ("scheduler: record taken", "scheduler: before successor", "scheduler: after successor")


def _kill(place: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_armed: dict[str, int] = {}  # place -> visits left
_at_armed_place: Callable[[str], None] = _kill


class Failpoint(NamedTuple):
    """Kill the node `role` `rank` at its `visit`-th visit (1: the first) to `place`."""

    role: int
    rank: int
    place: str
    visit: int = 1


def arm(place: str, visit: int = 1) -> None:
    _armed[place] = visit


def reach(place: str) -> None:
    if _armed and place in _armed:
        _armed[place] -= 1
        if not _armed[place]:
            _at_armed_place(place)


@contextlib.contextmanager
def simulated(die: Callable[[str], None]) -> Iterator[None]:
    """In the block, an armed place calls `die(place)` instead of killing: for nodes in this process.

    Disarms all places at the end.
    """
    global _at_armed_place
    _at_armed_place = die
    try:
        yield
    finally:
        _at_armed_place = _kill
        _armed.clear()
