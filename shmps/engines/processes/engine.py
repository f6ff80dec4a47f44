"""The engine: nodes are processes of this machine. One poll waits for the pipe of records and for deaths."""

import contextlib
import multiprocessing
import select
from collections.abc import Callable
from functools import partial
from typing import Any

from shmps.engines.event_file import EventFile
from shmps.engines.processes.boot import input_poll
from shmps.engines.processes.clock import SystemClock
from shmps.engines.processes.fork_server import fork_server
from shmps.engines.processes.node import Lifeline, Node, method_of
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.engines.processes.roles import serve_partition, work_on
from shmps.engines.processes.store import Store
from shmps.engines.processes.value_files import WorkerFiles
from shmps.engines.spec import Spec
from shmps.engines.warm_up import warm_up
from shmps.errors import UsageError
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Status
from shmps.ps.messages import SCHEDULER, Record
from shmps.ps.updater import Updater
from shmps.system import signals


class ProcessEngine:
    """See `shmps.ps.engine.ClusterEngine`. It owns the shared memory, pipes and channels of one cluster.

    Raises OSError or OutOfSpace if the system lacks something; nothing is left then.
    """

    clock = SystemClock()

    def __init__(
        self,
        spec: Spec,
        start_method: str,
    ):
        shape, num_workers, consistency, updater, self.failpoints, event_paths = spec
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
            for path in event_paths:
                self.streams.append(EventFile(path))
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


class Processes:
    """Nodes are processes of this machine: the default of `Cluster(engine=...)`.

    start_method: "fork", "forkserver" or "spawn"; None: the default of the system. safe: if that is fork and
    may hang, take forkserver instead of a warning.
    """

    clock = "wall"
    may_hang = True  # a node, while the others run
    shares_memory = True  # nodes do, so that it outlives them

    def __init__(self, start_method: str | None = None, safe: bool = False):
        self.start_method = method_of(start_method, safe)
        self.needs_shared_rows = self.start_method != "fork"  # a fork has the memory of this process

    def __str__(self) -> str:
        return "processes"

    def must_be_allowed(self) -> None:
        """Raise UsageError where this process may start no other."""
        if multiprocessing.current_process().daemon:
            raise UsageError(
                "a Cluster must not be used in a daemonic process, such as a worker of multiprocessing.Pool, "
                "since it starts processes; use joblib's backends loky or threading, concurrent.futures, or "
                "engine='inline'"
            )

    def prepare(self, updater: Updater, width: int, dtype: type) -> None:
        """Compile the kernels where the nodes are forked from."""
        warm_up(updater, width, dtype)
        if self.start_method == "forkserver":
            fork_server.prepare(warm_up, updater, width, dtype)

    def start(self, spec: Spec) -> ProcessEngine:
        return ProcessEngine(spec, self.start_method)
