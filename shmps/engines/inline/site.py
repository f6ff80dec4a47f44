"""What the nodes of one inline cluster share, and how they send each other records."""

from typing import Any

from shmps.engines.inline.agenda import Agenda
from shmps.engines.inline.loop import Fiber, Loop
from shmps.ps.messages import SCHEDULER, WORKER, Address, Delivery, Record

WAKE = None  # an event that is no record: the addressee has slept, or is called


class Inbox:
    """The scheduler's inbox: records, and nodes that have ended."""

    def __init__(self, loop: Loop, agenda: Agenda):
        self.records: list[Record] = []
        self.ended: list[Any] = []  # nodes
        self._loop, self._agenda, self._is_called = loop, agenda, False

    def take(self, event: Any) -> Fiber | None:
        """Keep what comes. The scheduler goes on after what else comes at the same time, to wake it once."""
        if event is WAKE:
            self._is_called = False
            return self._loop.scheduler
        if isinstance(event, list):
            self.records += event
        else:
            self.ended.append(event)
        if not self._is_called:
            self._is_called = True
            self._agenda.at(self._agenda.now, self, WAKE)
        return None


class Site:
    """What the nodes of one cluster share.

    at_work: the node whose code runs now.
    """

    def __init__(self, agenda: Agenda):
        self.agenda, self.loop = agenda, Loop(agenda)
        self.inbox = agenda.nodes[SCHEDULER, 0] = Inbox(self.loop, agenda)
        self.at_work: Any = None


class Post:
    """The way of one life of a node to the others; see `shmps.ps.engine.Outbox`."""

    def __init__(self, site: Site, address: Address):
        self.address = address
        self.machine = site.agenda.network.machines[address]
        self._agenda = site.agenda

    def send(self, address: Address, record: Record) -> None:
        self._agenda.carry(self, address, [record], record)

    def send_all(self, deliveries: list[Delivery]) -> None:
        for address, record in deliveries:
            self.send(address, record)

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        self._agenda.carry_behind(role, self, address, record)

    def flush(self) -> None:
        self._agenda.flush(self)


class WorkerPost(Post):
    """The post of a worker, which can wait; see `shmps.ps.engine.Post`."""

    def __init__(self, site: Site, node: Any):
        super().__init__(site, (WORKER, node.rank))
        self._node = node
        self.receive_until, self.receive_nowait = node.receive_until, node.drain

    def send(self, address: Address, record: Record) -> None:
        self._node.must_live()
        self._agenda.carry(self, address, [record], record)

    def receive(self) -> list[Record]:
        records: list[Record] = []
        self.receive_until(lambda: bool(records), records.extend)
        return records
