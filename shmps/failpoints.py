"""Named places in the loops of real nodes at which a test can have the process killed.

A place that is not armed costs a look into an empty dictionary. What is armed is armed in one process: that
of a node (`Failpoint`, given to the scheduler, which arms the node's first life), or the scheduler's own.
"""

import os
import signal
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

_armed: dict[str, int] = {}  # place -> visits left


class Failpoint(NamedTuple):
    """Kill this node at its `visit`-th visit (1: the first) to `place`."""

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
            os.kill(os.getpid(), signal.SIGKILL)
