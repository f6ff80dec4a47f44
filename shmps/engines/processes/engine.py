"""The engine: nodes are processes of this machine. One poll waits for the pipe of records and for deaths."""

import contextlib
import select
from collections.abc import Callable
from functools import partial
from typing import Any

from shmps.engines.processes.boot import input_poll
from shmps.engines.processes.clock import SystemClock
from shmps.engines.processes.event_file import EventFile
from shmps.engines.processes.node import Lifeline, Node
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.engines.processes.roles import serve_partition, work_on
from shmps.engines.processes.store import Store
from shmps.engines.processes.value_files import WorkerFiles
from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Status
from shmps.ps.messages import SCHEDULER, Record
from shmps.ps.updater import Updater
from shmps.system import signals
from shmps.system.failpoints import Failpoint


class ProcessEngine:
    """See `shmps.ps.engine.ClusterEngine`. It owns the shared memory, pipes and channels of one cluster.

    failpoints: where nodes are to be killed. A failpoint goes to the first node of its role and rank that is
    launched.

    Raises OSError or OutOfSpace if the system lacks something; nothing is left then.
    """

    clock = SystemClock()

    def __init__(
        self,
        shape: Shape,
        num_workers: int,
        consistency: Consistency,
        updater: Updater,
        start_method: str,
        failpoints: tuple[Failpoint, ...] = (),
    ):
        self.failpoints = failpoints
        self._start_method = start_method
        with contextlib.ExitStack() as resources:
            store = self._store = Store(shape)
            resources.callback(store.close)
            inboxes = self.inboxes = Inboxes(shape.servers, shape.workers)
            resources.callback(inboxes.close)
            self.channels: list[WorkerFiles] = []
            for _ in range(shape.workers):
                self.channels.append(WorkerFiles())
                resources.callback(self.channels[-1].close)
            self.streams: list[EventFile] = []
            for _ in range(shape.servers if consistency.recorded else 0):
                self.streams.append(EventFile())
                resources.callback(self.streams[-1].close)
            self._lifeline = Lifeline()
            resources.callback(self._lifeline.close)
            self.close = resources.pop_all().close
        self.serve = partial(
            serve_partition,
            store=store,
            inboxes=inboxes,
            consistency=consistency,
            updater=updater,
            streams=self.streams,
        )
        self.work = partial(
            work_on,
            num_workers=num_workers,
            store=store,
            inboxes=inboxes,
            channels=self.channels,
            consistency=consistency,
            updater=updater,
        )
        self.post = Post(inboxes, (SCHEDULER, 0))
        self._watched: dict[int, Node] = {}  # by `Node.death`
        self._ready = input_poll(self.post.inbox)

    @property
    def is_own(self) -> bool:
        return self._lifeline.is_own

    def parameters(self) -> Parameters:
        return Parameters(self._store.shape, self._store.parameters(writable=True))

    def status(self, parameters: Parameters) -> Status:
        return Status(parameters, self._store.mailboxes())

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

    def empty_channels(self) -> None:
        """Give back the memory of results and reports, after the end of a run."""
        for channels in self.channels:
            channels.empty()
