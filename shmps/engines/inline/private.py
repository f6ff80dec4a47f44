"""The inline engine with a memory for every node, as on several machines. Arrays travel with the records."""

from collections.abc import Callable
from typing import Any

from shmps.engines.inline.engine import Inline, InlineEngine
from shmps.engines.inline.nodes import Clock, WorkerNode
from shmps.engines.inline.site import Post, Site, WorkerPost
from shmps.engines.private import OF_SLOTS, Memory, must_fit, server_in
from shmps.engines.spec import Spec
from shmps.ps.memory.mailbox import LostLog, Mailbox
from shmps.ps.messages import SCHEDULER, SERVER, WORKER, Address, Record, with_arrays
from shmps.ps.node import Handler
from shmps.system.memory import must_be_available


class _Packing(Post):
    """A post that sends copies of the arrays with a record. mailboxes: by the addressee's rank."""

    _mailboxes: list[Mailbox]

    def send(self, address: Address, record: Record) -> None:
        if record.op in OF_SLOTS:
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
        must_be_available(2 * memory.parameters.weights.nbytes)  # at least: here, and at the servers
        self._parameters = self._mirror = memory.parameters
        self._arrays = memory.arrays
        self._seen_by_workers = memory.parameters
        self._begun: set[int] = set()  # the servers whose partitions have left the scheduler

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.post = PackingPost(self._site, (SCHEDULER, 0), [])

    def new_memory(self, role: int, rank: int) -> Memory:
        """Return the memory of a node that begins."""
        return Memory(self._shape)

    def serve(self, rank: int, life: int) -> Handler:
        memory, node = self.new_memory(SERVER, rank), self._agenda.nodes[SERVER, rank]
        node.post = PackingPost(self._site, (SERVER, rank), memory.mailboxes_of_server(rank))
        first = None if rank in self._begun else self._mirror.first_of(rank)
        self._begun.add(rank)
        return server_in(memory, rank, life, self._consistency, self._updater, first)

    def work(self, node: WorkerNode, tick: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        memory, rank = self.new_memory(WORKER, node.rank), node.rank
        node.post = PackingWorkerPost(self._site, node, memory.mailboxes_of_worker(rank))
        clock = _Clock(self._site, node, self._computing(rank))
        self._work_on(memory.parameters, memory.arrays, node, clock, tick, function, args, LostLog)


class PrivateInline(Inline):
    """As `Inline`, but every node has a memory of its own, as on several machines.

    The death of a server is survived with replicas=1: its tail has all that was acknowledged or read. Without
    a replica it ends the run (NodeDied). Workers cannot update in place (HOGWILD), and runs cannot be
    recorded.
    """

    _engine = PrivateEngine
    shares_memory = False

    def __repr__(self) -> str:
        return f"Private{super().__repr__()}"

    def start(self, spec: Spec) -> InlineEngine:
        must_fit(spec.consistency)
        return super().start(spec)
