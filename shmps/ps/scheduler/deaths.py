"""Signs of life and deaths of the nodes. State machines without I/O."""

from typing import NamedTuple

from shmps.ps.engine import Node

_BOOT = 60.0  # seconds that a node has until its first sign of life
_MOST_DEATHS = 3  # without progress in between


class Watch:
    """The signs of life of one running node.

    A node counts its beats in shared memory. The scheduler looks at the count now and then; a node is silent
    for as long as the scheduler sees the same count. The time between two looks counts as `most_pause`
    seconds at most: a scheduler that was stopped itself has not looked.
    """

    def __init__(self, node: Node, beats: int, now: float, most_pause: float):
        self.node = node
        self.pinged = self.is_hung = False
        self._beats, self._looked, self._most_pause = beats, now, most_pause
        self.silent = 0.0  # seconds
        self._has_beaten = False

    def look(self, beats: int, now: float) -> None:
        if beats != self._beats:
            self._beats, self.silent, self._has_beaten, self.pinged = beats, 0.0, True, False
        else:
            self.silent += min(now - self._looked, self._most_pause)
        self._looked = now

    def has_lasted(self, timeout: float) -> bool:
        """Return whether the silence is longer than `timeout` seconds. A node that starts has more time."""
        return self.silent > (timeout if self._has_beaten else max(timeout, _BOOT))


class Death(NamedTuple):
    """A node that has ended."""

    node: Node
    what: str  # "died", or "hung" if the scheduler killed it for its silence
    exit_code: int


class Deaths:
    """Counts the deaths of each node since it last made progress."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}  # node -> progress, deaths at it

    def one_too_many(self, node: Node, progress: int) -> bool:
        """Count a death at `progress`, a number that grows; return whether to give the node up."""
        before, deaths = self._seen.get((node.role, node.rank), (-1, 0))
        deaths = deaths + 1 if progress == before else 1
        self._seen[node.role, node.rank] = progress, deaths
        return deaths >= _MOST_DEATHS
