"""A crew of processes of this machine, connected as those of several: to test, to measure, to rehearse."""

import select
from typing import Any

from shmps.engines.private import must_fit
from shmps.engines.processes.engine import Processes
from shmps.engines.processes.node import Lifeline, Node
from shmps.engines.spec import Spec
from shmps.engines.wire.engine import WireEngine
from shmps.engines.wire.node import Site, live
from shmps.system.failpoints import Failpoint


class LocalCrew:
    """See `shmps.engines.wire.engine.Crew`. host: an address of this machine."""

    def __init__(self, host: str):
        self.host = host
        self._lifeline = Lifeline()
        self._nodes: dict[int, Node] = {}  # by `Node.death`
        self._deaths = select.epoll()

    def start(
        self, site: Site, role: int, rank: int, life: int, failpoints: list[Failpoint], *task: Any
    ) -> Node:
        node = Node(
            Rehearsal.start_method, role, rank, life, self._lifeline, failpoints, self._forget,
            live, site, self.host, role, rank, life, *task,
        )  # fmt: skip
        node.start()
        self._nodes[node.death] = node
        self._deaths.register(node.death, select.EPOLLIN)
        return node

    def _forget(self, node: Node) -> None:
        if self._nodes.pop(node.death, None):
            self._deaths.unregister(node.death)

    def fileno(self) -> int:
        return self._deaths.fileno()

    def ended(self) -> list[Node]:
        return [self._nodes[descriptor] for descriptor, _ in self._deaths.poll(0)]

    def forget_arguments(self) -> None:
        """Do nothing: nothing was kept."""

    def close(self) -> None:
        self._lifeline.close()
        self._deaths.close()


class Rehearsal:
    """Nodes are processes of this machine that share no memory, as on several machines.

    host: an address of this machine, such as 127.0.0.2. A server that dies is replaced only with replicas=1.
    Workers' functions must be importable, as with start_method="forkserver".
    """

    clock = "wall"
    start_method = "forkserver"  # a fork would keep the connections of this process open
    may_hang = needs_shared_rows = True
    shares_memory = False

    def __init__(self, host: str = "127.0.0.1"):
        self._host = host
        self._processes = Processes(self.start_method)
        self.must_be_allowed, self.prepare = self._processes.must_be_allowed, self._processes.prepare

    def __str__(self) -> str:
        return "rehearsal"

    def start(self, spec: Spec) -> WireEngine:
        must_fit(spec.consistency)
        return WireEngine(LocalCrew(self._host), spec)
