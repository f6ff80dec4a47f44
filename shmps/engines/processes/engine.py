"""The engine: nodes as processes of this machine, whose pipes and deaths one poll waits for."""

import select
import time
from collections.abc import Callable
from typing import Any

from shmps.engines.processes.node import Lifeline, Node, end
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.ps.messages import SCHEDULER, Record
from shmps.system import signals
from shmps.system.failpoints import Failpoint


class ProcessEngine:
    """See `shmps.ps.engine.Engine`. failpoints: those of nodes that have not been launched yet."""

    now = staticmethod(time.monotonic)  # which all processes share

    def __init__(self, start_method: str, inboxes: Inboxes, failpoints: tuple[Failpoint, ...] = ()):
        self.post = Post(inboxes, (SCHEDULER, 0))
        self.failpoints = failpoints
        self._start_method = start_method
        self._lifeline = Lifeline()
        self._watched: dict[int, Node] = {}  # by the descriptor that tells of its death
        self._ready = select.poll()
        self._ready.register(self.post.inbox, select.POLLIN)

    @property
    def is_own(self) -> bool:
        return self._lifeline.is_own

    def launch(
        self, role: int, rank: int, life: int, beats: int, body: Callable[..., None], *args: Any
    ) -> Node:
        kills = [point for point in self.failpoints if (point.role, point.rank) == (role, rank)]
        self.failpoints = tuple(point for point in self.failpoints if point not in kills)
        node = Node(self._start_method, role, rank, life, self._lifeline, kills, body, rank, life, *args)
        node.start(beats)
        self._watched[node.death] = node
        self._ready.register(node.death, select.POLLIN)
        return node

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        descriptors = [descriptor for descriptor, _ in signals.poll(self._ready, seconds)]
        records = self.post.receive_nowait()
        return records, [node for node in map(self._watched.get, descriptors) if node is not None]

    def forget(self, node: Node) -> None:
        if self._watched.pop(node.death, None):
            self._ready.unregister(node.death)

    def end(self, nodes: list[Node]) -> None:
        end(nodes)

    def close(self) -> None:
        self._lifeline.close()
