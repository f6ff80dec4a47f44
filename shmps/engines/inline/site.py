"""What the nodes of one inline cluster share, and how they send each other records."""

from typing import Any

from shmps.engines.inline.loop import Fiber, Loop
from shmps.engines.inline.network import Network
from shmps.ps.messages import SCHEDULER, WORKER, Address, Delivery, Record

WAKE = None  # an event that is no record: the addressee has slept, or is called


class Inbox:
    """The scheduler's inbox: records, and nodes that have ended."""

    def __init__(self, loop: Loop):
        self.records: list[Record] = []
        self.ended: list[Any] = []  # nodes
        self._loop, self._is_called = loop, False

    def take(self, event: Any) -> Fiber | None:
        """Keep what comes. The scheduler goes on after what else comes at the same time, to wake it once."""
        if event is WAKE:
            self._is_called = False
            return self._loop.scheduler
        (self.records if isinstance(event, Record) else self.ended).append(event)
        if not self._is_called:
            self._is_called = True
            self._loop.at(self._loop.now, self, WAKE)
        return None


class Site:
    """What the nodes of one cluster share.

    nodes: the last node of each address. at_work: the node whose code runs now.
    """

    def __init__(self, loop: Loop, network: Network):
        self.loop, self.network, self.inbox = loop, network, Inbox(loop)
        self.nodes: dict[Address, Any] = {(SCHEDULER, 0): self.inbox}
        self.at_work: Any = None


class Post:
    """The way of one node to the others; see `shmps.ps.engine.Outbox`. What is sent has left at once."""

    def __init__(self, site: "Site", me: Address):
        self._loop, self._network, self._nodes, self._me = site.loop, site.network, site.nodes, me
        self._machines = site.network.machines
        self._machine, self._is_worker = self._machines[me], me[0] == WORKER

    def send(self, address: Address, record: Record) -> None:
        self.carry(address, record, record)

    def carry(self, address: Address, event: Any, record: Record) -> None:
        """Let the addressee take `event` when `record` has come through the network.

        Records to a former life, and records to nobody, are lost.
        """
        if (node := self._nodes.get(address)) is not None:
            loop = self._loop
            worker = self._me[1] if self._is_worker else address[1]
            at = self._network.arrival(loop.now, self._machine, self._machines[address], worker, record)
            loop.at(at, node, event)

    def send_all(self, deliveries: list[Delivery]) -> None:
        for address, record in deliveries:
            self.carry(address, record, record)

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        # A machine takes records in the order in which they were sent, whoever the sender is.
        self.send(address, record)

    def flush(self) -> None: ...


class WorkerPost(Post):
    """The post of a worker, which can wait; see `shmps.ps.engine.Post`."""

    def __init__(self, site: "Site", node: Any):
        super().__init__(site, (WORKER, node.rank))
        self._node = node
        self.receive_until, self.receive_nowait = node.receive_until, node.drain

    def send(self, address: Address, record: Record) -> None:
        self._node.must_live()
        self.carry(address, record, record)

    def receive(self) -> list[Record]:
        records: list[Record] = []
        self.receive_until(lambda: bool(records), records.extend)
        return records
