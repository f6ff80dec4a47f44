"""The engine: nodes are processes that share no memory, connected by TCP. A crew starts and watches them.

Scheduler --> WireEngine --> Crew.start --> a process, here or on another machine: `wire.node.live`
                 |             ^ fileno: a node has ended
                 Hub <-------- TCP -------> the WirePost of each node
"""

import collections
import contextlib
import operator
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from shmps.engines.private import Memory
from shmps.engines.processes.boot import input_poll
from shmps.engines.processes.clock import SystemClock
from shmps.engines.spec import Spec
from shmps.engines.wire.channels import VALUES, Channels
from shmps.engines.wire.greeting import new_token
from shmps.engines.wire.hub import Hub
from shmps.engines.wire.node import LIMIT, Site, live
from shmps.ps.engine import Node
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Status
from shmps.ps.messages import SERVER, WORKER, Address, Record
from shmps.system import signals
from shmps.system.failpoints import Failpoint

_LAST_RECORDS = 2.0  # seconds that the records of a node may come after its end
_PATIENCE = 1.0  # seconds between the end of a connection and the end of a node
_SOON = 0.05  # seconds until one looks at these again


class Crew(Protocol):
    """Starts the processes of nodes, and watches them. host: where the scheduler takes connections."""

    host: str

    def start(
        self, site: Site, role: int, rank: int, life: int, failpoints: list[Failpoint], *task: Any
    ) -> Node:
        """Run `wire.node.live` in a new process, here or elsewhere."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when a node has ended."""

    def ended(self) -> Sequence[Node]:
        """Return the nodes that have ended, and are not closed."""

    def forget_arguments(self) -> None:
        """Forget what was kept of the functions of a run and their arguments."""

    def close(self) -> None:
        """Release what the crew holds, after all nodes have ended."""


class WireEngine:
    """See `shmps.ps.engine.ClusterEngine`."""

    streams = ()
    serve = work = staticmethod(live)

    def __init__(
        self,
        crew: Crew,
        spec: Spec,
    ):
        shape = spec.shape
        self.clock = SystemClock()
        self.channels = [Channels() for _ in range(shape.workers)]
        self._crew, self._failpoints, self._pid = crew, spec.failpoints, os.getpid()
        self._memory = Memory(shape)  # a mirror, of what the servers have sent
        self._first_lives = set(range(shape.servers))  # of servers that have not been launched
        self._nodes: dict[Address, Node] = {}
        self._ended: dict[int, float] = {}  # life: when the crew has told of the end
        # Pairs of lives between which a connection has ended, and when we heard of it.
        self._broken: collections.deque[tuple[float, tuple[int, int]]] = collections.deque()
        with contextlib.ExitStack() as resources:
            resources.callback(crew.close)
            token = new_token()
            self.post = Hub(token, crew.host, limit=LIMIT, on_sign=self._note_sign)
            resources.callback(self.post.close)
            self.close = resources.pop_all().close
        self._site = Site(shape, spec.num_workers, spec.consistency, spec.updater, token, self.post.endpoint)
        self._ready = input_poll(self.post.fileno(), crew.fileno())

    @property
    def is_own(self) -> bool:
        return os.getpid() == self._pid

    def parameters(self) -> Parameters:
        return self._memory.parameters

    def status(self, parameters: Parameters) -> Status:
        return Status(parameters, self._memory.arrays)

    def launch(self, role: int, rank: int, life: int, body: Callable[..., Any], *args: Any) -> Node:
        address = role, rank
        points = [point for point in self._failpoints if (point.role, point.rank) == address]
        self._failpoints = tuple(point for point in self._failpoints if point not in points)
        if role == SERVER:
            is_first = rank in self._first_lives
            self._first_lives.discard(rank)
            args = (self._memory.parameters.first_of(rank) if is_first else None,)
        node = self._nodes[address] = self._crew.start(self._site, role, rank, life, points, *args)
        return node

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        signals.poll(self._ready, min(seconds, _SOON) if self._ended or self._broken else seconds)
        records = self.post.receive_nowait()
        for record in records:
            if record.op in VALUES and record.life == self._nodes[WORKER, record.sender].life:
                self.channels[record.sender].take(record)
        self._end_cut_off()
        return records, self._ended_nodes()

    def _ended_nodes(self) -> list[Node]:
        """Return the nodes that have ended, once their last records have come."""
        now, ended = time.monotonic(), self._crew.ended()
        self._ended = {node.life: self._ended.get(node.life, now) for node in ended}
        return [
            node
            for node in ended
            if not self.post.hears(node.life) or now > self._ended[node.life] + _LAST_RECORDS
        ]

    def _end_cut_off(self) -> None:
        """End a node if a connection between two living nodes is broken: a worker, or the younger server.

        Most connections end because a node has ended, which the crew tells soon.
        """
        now = time.monotonic()
        self._broken += [(now, lives) for lives in self.post.take_broken()]
        while self._broken and now > self._broken[0][0] + _PATIENCE:
            _, lives = self._broken.popleft()
            running = [node for node in self._nodes.values() if node.life in lives and node.exit_code is None]
            if len(running) + (self.post.life in lives) == len(lives):
                max(running, key=operator.attrgetter("role", "life")).kill()

    def _note_sign(self, address: Address, life: int) -> None:
        """Count a sign of life, unless another life has followed. It may come after the end."""
        if life in self._ended:
            self._ended[life] = time.monotonic()
        if self._nodes[address].life == life:
            role, rank = address
            self._memory.arrays["beats"][rank + (self._site.shape.servers if role == WORKER else 0)] += 1

    def empty_channels(self) -> None:
        for channels in self.channels:
            channels.empty()
        self._crew.forget_arguments()
