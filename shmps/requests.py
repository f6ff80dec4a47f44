"""A worker's requests, a state machine without I/O: numbers, slots, answers, what is announced again."""

from typing import Any, NamedTuple

import numpy as np

from shmps.failpoints import reach
from shmps.mailbox import DENSE, Log
from shmps.messages import ANSWER, PULL, PUSH, PUSH_PULL, SERVER, WELCOME, Message, Record


class Request(NamedTuple):
    """A request under way: where its parts lie, and which servers have not answered yet."""

    op: int
    timestamp: int
    slot: int
    number: int  # of the push; of a pull: the pushes before it
    sizes: list[int]  # keys for each server
    versions: list[int]  # of each server, that it was computed from
    unanswered: set[int]
    callback: Any = None
    out: np.ndarray | None = None


class Requests:
    """What one life of a worker has asked of the servers.

    `welcome` and `answer` take what servers send. A life of a server makes itself known by its welcome:
    everything that it has not answered is then announced to it, in order.
    """

    def __init__(self, rank: int, life: int, log: Log, servers: int):
        self.rank, self.life = rank, life
        self.under_way: dict[int, Request] = {}  # by timestamp, in order
        self.seen = [0] * servers  # the version last read, by server
        self.pushes = 0  # the number of the last one
        self.timestamp = 0
        self._log = log
        self._everyone = frozenset(range(servers))
        self._lives = [0] * servers
        self._done = [0] * servers  # pushes of former lives that each server had applied
        self._free = {False: log.slots, True: [DENSE]}

    @property
    def welcomed(self) -> bool:
        return all(self._lives)

    def has_slot(self, dense: bool) -> bool:
        return bool(self._free[dense])

    def take_slot(self, dense: bool) -> int:
        """A free slot, to be filled and then given to `start`."""
        slot = self._free[dense].pop()
        self._log.clear(slot)
        return slot

    def start(self, op: int, slot: int, rows: float, sizes: list[int], callback: Any, out: Any) -> Request:
        """The slot is filled: from here on the request counts; a push is committed."""
        if op != PULL:
            self.pushes += 1
            self._log.note(slot, self.pushes, rows, sizes, self.seen)
            reach("worker: before commit")
            self._log.commit(self.pushes)
            reach("worker: committed")
        return self._add(op, slot, self.pushes, sizes, list(self.seen), callback, out)

    def _add(self, op, slot, number, sizes, versions, callback=None, out=None) -> Request:
        self.timestamp += 1
        unanswered = set(self._everyone)
        request = Request(op, self.timestamp, slot, number, sizes, versions, unanswered, callback, out)
        self.under_way[self.timestamp] = request
        return request

    def recover(self) -> list[Message]:
        """After all welcomes: what a former life of this worker had committed, to be announced.

        Pushes that every server has applied need no more; the slots of the others are in use again.
        """
        self._log.forget_uncommitted()
        self.pushes = max(*self._done, self._log.committed)
        for number, slot, sizes, versions in self._log.pending(min(self._done)):
            self._free[slot == DENSE].remove(slot)
            self._add(PUSH, slot, number, sizes, versions)
        return [message for server in range(len(self._lives)) for message in self._unanswered(server)]

    def announce(self, request: Request, server: int) -> Message:
        record = Record(
            request.op,
            self.rank,
            request.timestamp,
            request.slot,
            request.sizes[server],
            request.number,
            request.versions[server],
            self.life,
            self._lives[server],
        )
        return (SERVER, server), record

    def welcome(self, record: Record) -> list[Message]:
        """A life of a server knows us; what is to be announced to it again."""
        assert record.op == WELCOME
        server = record.sender
        if record.life <= self._lives[server]:
            return []
        self._lives[server], self._done[server] = record.life, record.number
        self.seen[server] = record.version
        return self._unanswered(server)

    def _unanswered(self, server: int) -> list[Message]:
        return [
            self.announce(request, server)
            for request in self.under_way.values()
            if server in request.unanswered
        ]

    def answer(self, record: Record) -> Request | None:
        """The request that this answer completes, if it does. Its slot stays taken until `free`."""
        assert record.op == ANSWER
        request = self.under_way.get(record.timestamp)
        if record.life != self._lives[record.sender] or request is None:
            return None  # of a former life, or answered already
        request.unanswered.discard(record.sender)
        if request.op in (PULL, PUSH_PULL):
            self.seen[record.sender] = record.version
        if request.unanswered:
            return None
        del self.under_way[record.timestamp]
        return request

    def free(self, slot: int) -> None:
        self._free[slot == DENSE].append(slot)
