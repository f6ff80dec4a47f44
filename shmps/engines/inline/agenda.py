"""What is to come in an inline cluster, in the order of virtual time."""

import heapq
import itertools
from typing import TYPE_CHECKING, Any, Protocol

from shmps.engines.inline.network import Network
from shmps.ps.messages import Address, Record

if TYPE_CHECKING:
    from shmps.engines.inline.loop import Fiber
    from shmps.engines.inline.site import Post


class Subject(Protocol):
    """Where an event goes to. An event is a list of records, or a mark that only its subject knows."""

    def take(self, event: Any) -> "Fiber | None":
        """Take an event; return the fiber that goes on with it, or None."""


class Agenda:
    """The events of one cluster: records on their way, and what nodes have set themselves.

    Their order is that of virtual time. A derived class may take any other one that the promises of
    `shmps.ps.engine.Outbox` allow: `bench.faults.simulation` takes one from a seed.

    now: virtual seconds. nodes: the last node of each address, and the scheduler's inbox.
    """

    def __init__(self, network: Network):
        self.now = 0.0
        self.nodes: dict[Address, Any] = {}
        self.network, self._machines = network, network.machines
        self._events: list[tuple[float, int, Subject, Any]] = []
        self._number = itertools.count().__next__  # events of one instant keep their order

    def at(self, time: float, subject: Subject, event: Any) -> None:
        """Let `subject` take an event at this time."""
        heapq.heappush(self._events, (time, self._number(), subject, event))

    def carry(self, post: "Post", address: Address, event: Any, record: Record) -> None:
        """Let the node at `address` take `event` when `record` has come through the network.

        Records to a former life, and records to nobody, are lost.
        """
        if (node := self.nodes.get(address)) is not None:
            at = self.network.arrival(self.now, post.machine, self._machines[address], record)
            heapq.heappush(self._events, (at, self._number(), node, event))

    def carry_behind(self, role: int, post: "Post", address: Address, record: Record) -> None:
        """Carry a record that must leave after all earlier ones to nodes of `role`."""
        # A machine takes records in the order in which they were sent, whoever the sender is.
        self.carry(post, address, [record], record)

    def flush(self, post: "Post") -> None:
        """Let all records of this post leave. They have left already."""

    def next(self, until: float) -> tuple[Subject, Any] | None:
        """Move the time on to the next event, and return its subject and the event.

        Return None, and move the time on to `until`, if nothing comes by then.
        """
        events = self._events
        if not events or events[0][0] > until:
            self.now = max(self.now, until)
            return None
        self.now, _, subject, event = heapq.heappop(events)
        return subject, event

    @property
    def is_idle(self) -> bool:
        """Whether nothing happens any more, unless the scheduler does something."""
        return not self._events

    def clear(self) -> None:
        """Forget all nodes and events."""
        self.nodes.clear()
        self._events.clear()
