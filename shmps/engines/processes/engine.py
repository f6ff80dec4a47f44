"""The engine: nodes are processes of this machine. One poll waits for the pipe of records and for deaths."""

import select
import time
from collections.abc import Callable
from typing import Any

from shmps.engines.processes.node import Lifeline, Node
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.ps.messages import SCHEDULER, Record
from shmps.system import signals
from shmps.system.failpoints import Failpoint


class SystemClock:
    """See `shmps.ps.engine.Clock`. All processes of a machine share `time.monotonic`."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class ProcessEngine:
    """See `shmps.ps.engine.Engine`.

    failpoints: where nodes are to be killed. A failpoint goes to the first node of its role and rank that is
    launched.
    """

    clock = SystemClock()

    def __init__(self, start_method: str, inboxes: Inboxes, failpoints: tuple[Failpoint, ...] = ()):
        self.post = Post(inboxes, (SCHEDULER, 0))
        self.failpoints = failpoints
        self._start_method = start_method
        self._lifeline = Lifeline()
        self._watched: dict[int, Node] = {}  # by `Node.death`
        self._ready = select.poll()
        self._ready.register(self.post.inbox, select.POLLIN)

    @property
    def is_own(self) -> bool:
        return self._lifeline.is_own

    def launch(self, role: int, rank: int, life: int, body: Callable[..., None], *args: Any) -> Node:
        kills = [point for point in self.failpoints if (point.role, point.rank) == (role, rank)]
        self.failpoints = tuple(point for point in self.failpoints if point not in kills)
        node = Node(
            self._start_method, role, rank, life, self._lifeline, kills, self._forget, body, rank, life, *args
        )
        node.start()
        self._watched[node.death] = node
        self._ready.register(node.death, select.POLLIN)
        return node

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        descriptors = [descriptor for descriptor, _ in signals.poll(self._ready, seconds)]
        records = self.post.receive_nowait()
        return records, [node for node in map(self._watched.get, descriptors) if node is not None]

    def _forget(self, node: Node) -> None:
        if self._watched.pop(node.death, None):
            self._ready.unregister(node.death)

    def close(self) -> None:
        self._lifeline.close()
