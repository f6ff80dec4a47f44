"""The engine: nodes are objects of this process, and the time is virtual."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from shmps.checks import whole
from shmps.engines.event_file import EventFile
from shmps.engines.inline.agenda import Agenda
from shmps.engines.inline.channels import Channels, Events
from shmps.engines.inline.computing import Computing
from shmps.engines.inline.machines import Machines
from shmps.engines.inline.network import Network
from shmps.engines.inline.nodes import (
    BEGIN,
    DIE,
    KILLED,
    Clock,
    Node,
    SchedulerClock,
    ServerNode,
    WorkerNode,
)
from shmps.engines.inline.site import Post, Site
from shmps.engines.roles import Arrays, server_on, worker_on
from shmps.engines.spec import Spec
from shmps.engines.warm_up import warm_up
from shmps.errors import UsageError
from shmps.ps.memory.mailbox import PushLog
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse, Status
from shmps.ps.messages import SCHEDULER, SERVER, WORKER, Record
from shmps.ps.node import Handler, work
from shmps.ps.updater import Updater
from shmps.ps.worker.kv import KVWorker
from shmps.system import failpoints, signals
from shmps.system.memory import carve, must_be_available


class InlineEngine:
    """See `shmps.ps.engine.ClusterEngine`. It owns the arrays, the agenda and the threads of one cluster."""

    def __init__(
        self,
        agenda: Agenda,
        machines: Machines,
        seed: int,
        spec: Spec,
    ):
        shape, self._num_workers, self._consistency, self._updater, points, event_paths = spec
        self.channels: Sequence[Channels] = [Channels() for _ in range(shape.workers)]
        self._shape = shape
        self._machines, self._seed = machines, seed
        self._allocate()
        self._agenda, self._site = agenda, Site(agenda)
        self.post, self.clock = Post(self._site, (SCHEDULER, 0)), SchedulerClock(self._site)
        self._pid = os.getpid()
        self._was_idle = False
        self._failpoints = points
        self.streams: list[Events | EventFile] = []
        with contextlib.ExitStack() as resources:
            for path in event_paths:
                self.streams.append(Events() if path is None else EventFile(path))
                resources.callback(self.streams[-1].close)
            if points:
                resources.enter_context(failpoints.simulated(self.reached))
            self._resources = resources.pop_all()

    def _allocate(self) -> None:
        """Lay out the memory that all nodes see."""
        shape = self._shape
        fields = shape.parameter_fields(), shape.mailbox_fields()
        sizes = [carve(each)[1] for each in fields]
        must_be_available(sum(sizes))
        parameters, mailboxes = (np.zeros(size, np.uint8).data for size in sizes)
        self._parameters = Parameters(shape, carve(fields[0], parameters)[0])
        # As with processes, what a worker reads in place is read-only.
        in_place = self._consistency.in_place
        self._seen_by_workers = (
            self._parameters if in_place else Parameters(shape, carve(fields[0], parameters.toreadonly())[0])
        )
        self._arrays = carve(fields[1], mailboxes)[0]

    @property
    def is_own(self) -> bool:
        return os.getpid() == self._pid

    def parameters(self) -> Parameters:
        return self._parameters

    def status(self, parameters: Parameters) -> Status:
        return Status(parameters, self._arrays)

    def launch(self, role: int, rank: int, life: int, body: Callable[..., Any], *args: Any) -> Node:
        agenda, site = self._agenda, self._site
        node: ServerNode | WorkerNode = (
            ServerNode(
                site, rank, life, lambda: body(rank, life), Pulse(self._arrays, self._shape, SERVER, rank)
            )
            if role == SERVER
            else WorkerNode(site, rank, life, lambda node: body(node, *args))
        )
        node.start()
        for point in [point for point in self._failpoints if (point.role, point.rank) == (role, rank)]:
            node.failpoints[point.place] = point.visit
        self._failpoints = tuple(p for p in self._failpoints if (p.role, p.rank) != (role, rank))
        for place in node.failpoints:
            failpoints.arm(place)
        before = agenda.nodes.get((role, rank))
        succeeds = before is not None and before.exit_code == KILLED
        begins = agenda.now + (self._machines.restart if succeeds else 0.0)
        agenda.nodes[role, rank] = node
        agenda.at(begins, node, BEGIN)
        if self._machines.deaths:
            lifetimes = np.random.default_rng((self._seed, role, rank, life))
            agenda.at(begins + lifetimes.exponential(3600 / self._machines.deaths), node, DIE)
        return node

    def serve(self, rank: int, life: int) -> Handler:
        """Return the server of a partition."""
        arrays, consistency = self._arrays, self._consistency
        return server_on(self._parameters, arrays, rank, life, consistency, self._updater, self.streams)

    def work(self, node: WorkerNode, tick: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Run a function as a worker."""
        clock = Clock(self._site, node, self._computing(node.rank))
        self._work_on(self._seen_by_workers, self._arrays, node, clock, tick, function, args)

    def _work_on(
        self,
        parameters: Parameters,
        arrays: Arrays,
        node: WorkerNode,
        clock: Clock,
        tick: int,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        log: type[PushLog] = PushLog,
    ) -> None:
        rank, channels = node.rank, self.channels[node.rank]

        def make_kv() -> KVWorker:
            return worker_on(
                parameters,
                arrays,
                rank,
                node.life,
                self._num_workers,
                tick,
                self._consistency,
                self._updater,
                node.post,
                channels.reports,
                clock,
                log,
            )

        work(rank, node.life, node.post, channels.outcome, make_kv, function, args)

    def _computing(self, rank: int) -> Callable[[int], float]:
        """Return the function that says how long a worker computes over so many non-zeros."""
        computing = Computing(self._machines, self._seed, rank, self._num_workers)
        machine = self._agenda.network.machines[WORKER, rank]

        def compute(nonzeros: int) -> float:
            seconds = computing.seconds(nonzeros)
            machine.busy += seconds
            return seconds

        return compute

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        inbox, agenda = self._site.inbox, self._agenda
        signals.deliver()
        if not (inbox.records or inbox.ended):
            self._site.loop.pause_scheduler(agenda.now + seconds)
        records, inbox.records = inbox.records, []
        ended, inbox.ended = [node for node in inbox.ended if not node.is_closed], []
        agenda.network.now = agenda.now
        idle = bool(seconds) and agenda.is_idle and not (records or ended)
        if idle and self._was_idle:
            raise UsageError(
                "workers must not wait for each other for ever, got workers that all wait; see "
                "`KVWorker.barrier` for what they wait for"
            )
        self._was_idle = idle
        return records, ended

    def empty_channels(self) -> None:
        for channels in self.channels:
            channels.empty()

    def close(self) -> None:
        """Give the memory back: nodes, posts and events refer to each other."""
        self._resources.close()
        self._agenda.clear()
        del self._parameters, self._seen_by_workers, self._arrays

    def reached(self, place: str) -> None:
        """Let the node at work count the visit. The place stays armed for other nodes."""
        failpoints.arm(place)
        self._site.at_work.visit(place)


class Inline:
    """All nodes in the calling process, in virtual time: `Cluster(engine=Inline())`.

    Nothing is started: no process, no shared memory. Workers' functions run by turns, so a second core is of
    no use. The run is a function of its arguments and of `seed`: equal seeds give equal bits in every mode.

    The time of `kv.now`, of `kv.sleep` and of results is virtual. It passes as `machines` says: a request
    takes what the network and the server take, a gradient (`kv.computed`) what the worker takes.
    Everything else takes no time.

    seed: of the times that vary.
    network: what the machines of the last cluster did, and the virtual time.

    A worker's function must not change its arguments, which all workers share. It must call a method of `kv`
    that waits, such as `kv.sleep`, to let others run.

    Example::

        with Cluster(100, engine=Inline(), consistency=ASYNC) as cluster:
            cluster.run(work)
    """

    _engine: ClassVar[type[InlineEngine]] = InlineEngine
    clock = "virtual"
    start_method = None
    may_hang = False
    shares_memory = True
    needs_shared_rows = False

    def __init__(self, machines: Machines | None = None, seed: int = 0):
        if not (machines is None or isinstance(machines, Machines)):
            raise UsageError(f"machines must be a Machines, got {machines!r:.80}")
        self.machines = Machines() if machines is None else machines
        self.seed = whole("seed", seed, least=0)
        self.network: Network | None = None

    def __repr__(self) -> str:
        return f"Inline(machines={self.machines!r}, seed={self.seed})"

    def __str__(self) -> str:
        return "inline"

    def must_be_allowed(self) -> None:
        """Nodes can be started everywhere."""

    def prepare(self, updater: Updater, width: int, dtype: type) -> None:
        """Compile the kernels, and try the updater."""
        warm_up(updater, width, dtype)

    def start(self, spec: Spec) -> InlineEngine:
        key_bytes, value_bytes = (np.dtype(each).itemsize for each in (np.int64, spec.shape.dtype))
        self.network = Network(self.machines, key_bytes, value_bytes * spec.shape.width)
        return self._engine(Agenda(self.network), self.machines, self.seed, spec)
