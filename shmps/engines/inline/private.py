"""The inline engine with a memory for every node, as on several machines. Arrays travel with the records."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shmps.engines.inline.engine import Inline, InlineEngine
from shmps.engines.inline.nodes import Clock, WorkerNode
from shmps.engines.inline.site import Post, Site, WorkerPost
from shmps.engines.roles import server_on
from shmps.errors import UsageError
from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import LostLog, Mailbox
from shmps.ps.memory.parameters import Mirror
from shmps.ps.messages import (
    ANSWER,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    SERVER,
    Address,
    Record,
    with_arrays,
)
from shmps.ps.node import Handler
from shmps.ps.server.private_redo_log import PrivateRedoLog
from shmps.ps.server.server import Server
from shmps.ps.server.successor import Successor
from shmps.ps.updater import Updater
from shmps.system.failpoints import Failpoint
from shmps.system.memory import carve

_OF_SLOTS = PUSH, PULL, PUSH_PULL, ANSWER


class Memory:
    """What one node sees: the whole layout, of which it uses its own part. Other pages cost nothing."""

    def __init__(self, shape: Shape):
        fields = shape.parameter_fields(), shape.mailbox_fields()
        (parameters, _), (self.arrays, _) = (
            carve(each, np.zeros(carve(each)[1], np.uint8).data) for each in fields
        )
        self.parameters = Mirror(shape, parameters)


class _Packing(Post):
    """A post that sends copies of the arrays with a record. mailboxes: by the addressee's rank."""

    _mailboxes: list[Mailbox]

    def send(self, address: Address, record: Record) -> None:
        if record.op in _OF_SLOTS:
            record = self._mailboxes[address[1]].pack(record)
        super().send(address, with_arrays(record, [array.copy() for array in record.arrays]))


class PackingPost(_Packing):
    """The post of a server, or of the scheduler."""

    def __init__(self, site: Site, me: Address, mailboxes: list[Mailbox]):
        super().__init__(site, me)
        self._mailboxes = mailboxes


class PackingWorkerPost(_Packing, WorkerPost):
    """The post of a worker."""

    def __init__(self, site: Site, node: WorkerNode, mailboxes: list[Mailbox]):
        super().__init__(site, node)
        self._mailboxes = mailboxes


class _Clock(Clock):
    def read(self, cuts: list[int]) -> None:
        """Do nothing: to read takes requests here."""


class PrivateEngine(InlineEngine):
    """An `InlineEngine` whose nodes share nothing but the network."""

    def _allocate(self) -> None:
        memory = Memory(self._shape)  # of the scheduler
        self._parameters = self._mirror = memory.parameters
        self._arrays = memory.arrays
        self._seen_by_workers = memory.parameters
        self._begun: set[int] = set()  # the servers whose partitions have left the scheduler

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.post = PackingPost(self._site, (SCHEDULER, 0), [])

    def serve(self, rank: int, life: int) -> Handler:
        shape, memory, node = self._shape, Memory(self._shape), self._agenda.nodes[SERVER, rank]
        parameters = memory.parameters
        mailboxes = [Mailbox(memory.arrays, shape, worker, rank) for worker in range(shape.workers)]
        node.post = PackingPost(self._site, (SERVER, rank), mailboxes)
        redo = PrivateRedoLog(parameters, rank)

        def make_server() -> Server:
            return server_on(
                parameters, memory.arrays, rank, life, self._consistency, self._updater, self.streams, redo
            )

        if rank in self._begun:
            tail = (rank + 1) % shape.servers if shape.replicas else -1
            return Successor(rank, life, redo, tail, make_server)
        self._begun.add(rank)
        parameters.begin(self._mirror, rank)
        return make_server()

    def work(self, node: WorkerNode, tick: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        shape, memory, rank = self._shape, Memory(self._shape), node.rank
        mailboxes = [Mailbox(memory.arrays, shape, rank, server) for server in range(shape.servers)]
        node.post = PackingWorkerPost(self._site, node, mailboxes)
        clock = _Clock(self._site, node, self._computing(rank))
        self._work_on(memory.parameters, memory.arrays, node, clock, tick, function, args, LostLog)


class PrivateInline(Inline):
    """As `Inline`, but every node has a memory of its own, as on several machines.

    The death of a server is survived with replicas=1: its tail has all that was acknowledged or read. Without
    a replica it ends the run (NodeDied). Workers cannot update in place (HOGWILD), and runs cannot be
    recorded.
    """

    _engine = PrivateEngine

    def __repr__(self) -> str:
        return f"Private{super().__repr__()}"

    def start(
        self,
        shape: Shape,
        num_workers: int,
        consistency: Consistency,
        updater: Updater,
        failpoints: tuple[Failpoint, ...],
        event_paths: Sequence[str | None],
    ) -> InlineEngine:
        if consistency.in_place or consistency.recorded:
            raise UsageError(
                f"nodes with memories of their own take no hogwild workers and record no run, got "
                f"consistency={consistency}, recorded={consistency.recorded}; use engine='inline'"
            )
        return super().start(shape, num_workers, consistency, updater, failpoints, event_paths)
