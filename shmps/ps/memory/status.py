"""Counts in shared memory by which the scheduler and the nodes know of each other without a message."""

from collections.abc import Sequence

import numpy as np

from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Mirror, Parameters, copy_each
from shmps.ps.messages import WORKER


class Status:
    """The scheduler's view of the nodes while they work.

    is_mirror: whether the nodes have memories of their own, and the view is what they have sent.
    """

    def __init__(self, parameters: Parameters, arrays: dict[str, np.ndarray]):
        self._parameters, self.is_mirror = parameters, parameters.is_mirror
        self._beats, self._committed = arrays["beats"], arrays["committed"]
        self._numbers, self._stopping = arrays["numbers"], arrays["stopping"]
        self._pulls, self._stopped = arrays["pulls"], arrays["stopped"]

    def stop(self, stopping: bool = True) -> None:
        """Set `kv.stopping` in all workers."""
        self._stopping[0] = stopping

    @property
    def stopping(self) -> bool:
        return bool(self._stopping[0])

    def take(self, server: int, image: bool, arrays: Sequence[np.ndarray]) -> None:
        """Note what a server has sent of its parameters, if they are not shared."""
        copy_each(arrays, self._parameters.standing(server, image))

    def written(self, begin: int, end: int) -> list[tuple[int, Sequence[np.ndarray]]]:
        """Return what each server has to be sent of values written here: nothing in shared memory."""
        parameters, servers = self._parameters, range(self._parameters.shape.servers)
        if not isinstance(parameters, Mirror):
            return []
        return [(server, parameters.part_of(server, begin, end)[:1]) for server in servers]

    @property
    def tick(self) -> int:
        """The tick of the furthest worker."""
        return int(self._parameters.done.max())

    def version(self, server: int) -> int:
        return int(self._parameters.versions[server])

    def clock(self, worker: int) -> int:
        """Return the number of the worker's last push that all servers have applied."""
        return int(self._parameters.done[:, worker].min())

    def unapplied(self, server: int) -> int:
        """Return the number of committed pushes that this server has not applied."""
        return int(np.maximum(self._committed - self._parameters.done[server], 0).sum())

    def unacknowledged(self, worker: int) -> int:
        """Return the number of the worker's committed pushes that some server has not applied."""
        return max(int(self._committed[worker]) - self.clock(worker), 0)

    def forget_commits(self) -> None:
        """Forget the commits of a run that was broken off: no worker goes on with them."""
        for each in self._committed, self._numbers, self._pulls, self._stopped:
            each[:] = 0

    def stops(self) -> dict[int, int]:
        """Return after how many pushes each worker has seen that it should stop, by rank."""
        return {worker: int(self._stopped[worker]) - 1 for worker in np.flatnonzero(self._stopped).tolist()}

    def beats(self, role: int, rank: int) -> int:
        return int(self._beats[rank + (self._parameters.shape.servers if role == WORKER else 0)])


class Pulse:
    """A node's sign of life, a count that only this node raises; and the flag that asks functions to end."""

    def __init__(self, arrays: dict[str, np.ndarray], shape: Shape, role: int, rank: int):
        place = rank + (shape.servers if role == WORKER else 0)
        self._beats, self._stopping = arrays["beats"].data[place:], arrays["stopping"].data
        self._stopped, self._rank = arrays["stopped"].data, rank

    @property
    def stopping(self) -> bool:
        return self._stopping[0] != 0

    def stop(self) -> None:
        """Note, in a memory that only this node sees, that the scheduler asks functions to end."""
        self._stopping[0] = 1

    def note_stop(self, pushes: int) -> None:
        """Note after how many pushes a worker has first seen that it should stop."""
        if not self._stopped[self._rank]:
            self._stopped[self._rank] = pushes + 1

    def beat(self) -> None:
        self._beats[0] += 1
