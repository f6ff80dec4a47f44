"""A worker's requests: slots, numbers, answers, and what is announced again. A state machine without I/O.

It writes keys and values into the mailboxes, and returns the records to send.
"""

import collections
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import Mailbox, PushLog
from shmps.ps.messages import LOOK, PULL, PUSH, PUSH_PULL, SERVER, SIGHT, Delivery, Record, Welcome
from shmps.ps.schedule import MOST_TURNS, place_of
from shmps.system.failpoints import reach

Callback = Callable[[Any], None]


class Request(NamedTuple):
    """A request under way: where its parts lie, and which servers have not answered yet."""

    op: int
    timestamp: int
    slot: int
    number: int  # of the push; of a pull: the pushes before it
    sizes: list[int]  # keys for each server
    versions: list[int]  # of each server, that it was computed from
    unanswered: set[int]
    callback: Callback | None = None
    out: np.ndarray | None = None


class Requests:
    """The requests of one life of a worker.

    `welcome` and `answer` handle what servers send. A new life of a server sends a Welcome; the requests that
    the server has not answered are then announced to it, in order.

    mailboxes: this worker's, by server. under_way: unanswered requests by timestamp, in order. values: the
    values of answered pulls by timestamp, until they are fetched. sights: answers to looks, until they are
    fetched. due: callbacks with their arguments. callbacks_expected: callbacks of requests under way.
    seen: the version last read, by server. pushes: the number of the last push. pulls: since that push.
    timestamp: the number of the last request.

    keeps_answers: the slot of a pull is free again only when the next push is committed. A later life that
    makes the same pull finds the answer there, or what servers have answered of it.
    """

    def __init__(
        self,
        rank: int,
        life: int,
        shape: Shape,
        mailboxes: list[Mailbox],
        log: PushLog,
        keeps_answers: bool = False,
    ):
        servers = len(mailboxes)
        self.rank, self.life = rank, life
        self.under_way: dict[int, Request] = {}
        self.values: dict[int, np.ndarray] = {}
        self.sights: list[Record] = []
        self.due: collections.deque[tuple[Callback, Any]] = collections.deque()
        self.callbacks_expected = self.pushes = self.pulls = self.timestamp = 0
        self.seen = [0] * servers
        self._shape, self._mailboxes, self._log = shape, mailboxes, log
        self._everyone = frozenset(range(servers))
        self._lives = [0] * servers
        self._done = [0] * servers  # pushes of former lives that each server had applied
        self._free = {False: list(log.slots), True: list(log.dense_slots)}
        self._keeps_answers = keeps_answers
        self._kept: list[int] = []  # slots of answered pulls
        self._recovered: set[int] = set()  # slots of a former life, which two requests may use
        self._former: dict[int, int] = {}  # slots of a former life's pulls since the last push, by place

    @property
    def pushing(self) -> bool:
        """Whether a push is under way that a former life had committed."""
        return any(request.op == PUSH for request in self.under_way.values())

    @property
    def welcomed(self) -> bool:
        return all(self._lives)

    def has_slot(self, dense: bool, op: int = PUSH) -> bool:
        return bool(self._free[dense]) or (op == PULL and self._next_pull in self._former)

    def waits_for_slot(self, dense: bool) -> bool:
        """Return whether an answer will free a slot: a request is under way."""
        return any((request.slot < 0) == dense for request in self.under_way.values())

    @property
    def _next_pull(self) -> int:
        return place_of(self.pushes, self.pulls)

    def start(
        self,
        op: int,
        keys: np.ndarray | None,
        values: np.ndarray | None,
        cuts: list[int],
        rows: float = 1.0,
        callback: Callback | None = None,
        out: np.ndarray | None = None,
    ) -> Request:
        """Fill a free slot of all mailboxes, commit a push, and return the request, to be announced.

        keys (k,) int64, or None for all keys; values (k, width) and rows of a push. Server s gets the entries
        cuts[s] to cuts[s + 1] - 1. If this raises, there is no request and the slot is free again.
        """
        if out is None and op != PUSH:  # before the slot is taken, since too little memory raises here
            out = np.empty((cuts[-1], self._shape.width), self._shape.dtype)
        sizes = [end - begin for begin, end in itertools.pairwise(cuts)]
        slot = self._again(keys, sizes) if op == PULL and self._former else None
        if slot is None:
            slot = self._fill(keys, values, sizes)
        if op == PULL:
            versions = [self.pulls] * len(sizes)
            if self._keeps_answers:
                self._log.note_pull(slot, self._next_pull, sizes)
            self.pulls += 1
        else:
            versions = list(self.seen)
            self.pushes += 1
            self.pulls = int(op == PUSH_PULL)
            if op == PUSH_PULL and self._keeps_answers:
                self._log.note_pull(slot, place_of(self.pushes, 0), sizes)
            self._log.note(slot, self.pushes, rows, sizes, versions)
            reach("worker: before commit")
            self._log.commit(self.pushes)
            reach("worker: committed")
            if self._kept or self._former:
                self._forget_answers()
        if callback is not None:
            self.callbacks_expected += 1
        return self._add(op, slot, self.pushes, sizes, versions, callback, out)

    def _fill(self, keys: np.ndarray | None, values: np.ndarray | None, sizes: list[int]) -> int:
        """Write keys and values, so many for each server, into a free slot of all mailboxes; return it."""
        free = self._free[keys is None]
        slot = free[-1]  # it stays free if a value overflows the dtype, where NumPy is told to raise
        self._log.clear(slot)
        begin = 0
        for mailbox, size in zip(self._mailboxes, sizes, strict=True):
            end = begin + size
            if keys is not None:
                mailbox.keys[slot][:size] = keys[begin:end]
            if values is not None:
                mailbox.values[slot][:size] = values[begin:end]
            begin = end
            reach("worker: slots half filled")
        free.pop()
        return slot

    # The answers that are kept.

    def _again(self, keys: np.ndarray | None, sizes: list[int]) -> int | None:
        """Make a pull of a former life again: return its slot.

        Servers repeat the answers that lie in the slot. Return None if there is none, or if it had other
        keys: this life may have stopped where the former one went on.
        """
        slot = self._former.pop(self._next_pull, None)
        if slot is None:
            return None
        same = (slot < 0) == (keys is None) and sizes == self._log.sizes(slot)
        if same and keys is not None:
            kept = [box.keys[slot][:size] for box, size in zip(self._mailboxes, sizes, strict=True)]
            same = np.array_equal(np.concatenate(kept), keys)
        if not same:
            self._release(slot)
            return None
        others = (each for each in self.under_way.values() if each.slot != slot or each.op == PUSH)
        self.under_way = {each.timestamp: each for each in others}
        return slot

    def pass_former(self) -> bool:
        """Count the next pull as made if it is one of a former life, which is announced already."""
        passed = self._next_pull in self._former
        self.pulls += passed
        return passed

    def _forget_answers(self) -> None:
        """Free the slots of the pulls before a push that is committed."""
        slots = (*self._kept, *self._former.values())
        self._kept, self._former = [], {}
        for slot in slots:
            self._release(slot)

    def _release(self, slot: int) -> None:
        """Free a slot, unless it keeps an answer or another request uses it."""
        if slot in self._recovered:
            used = (*self._kept, *self._former.values(), *(each.slot for each in self.under_way.values()))
            if slot in used:
                return
        self._free[slot < 0].append(slot)

    def look(self, begin: int, end: int) -> Request:
        """Ask for what servers hold of the keys begin to end - 1: see `sights`. It uses no slot."""
        servers = len(self._lives)
        return self._add(LOOK, begin, self.pushes, [end - begin] * servers, [self.pulls] * servers)

    def _add(self, op, slot, number, sizes, versions, callback=None, out=None) -> Request:
        self.timestamp = timestamp = self.timestamp + 1
        unanswered = set(self._everyone)
        request = Request(op, timestamp, slot, number, sizes, versions, unanswered, callback, out)
        self.under_way[timestamp] = request
        return request

    def recover(self) -> list[Delivery]:
        """Return the records that announce what a former life had committed. Call it after all welcomes.

        The slots of pushes that some server has not applied are in use again, and those of kept answers. A
        server may wait for a pull that a former life had begun, so noted pulls are announced too. Their
        answers are dropped, unless this life makes the same pull.
        """
        self.pushes, pending = self._log.resume(self._done)
        for number, slot, sizes, versions in pending:
            self._add(PUSH, slot, number, sizes, versions)
        for place, (slot, sizes) in self._log.pulls().items():
            number, turn = divmod(place - 1, MOST_TURNS)
            self._add(PULL, slot, number, sizes, [turn] * len(sizes))
            if number == self.pushes:
                self._former[place] = slot
        self._recovered = {request.slot for request in self.under_way.values()}
        for slot in self._recovered:
            self._free[slot < 0].remove(slot)
        return [message for server in range(len(self._lives)) for message in self._unanswered(server)]

    def announce(self, request: Request, server: int) -> Delivery:
        op, timestamp, slot, number, sizes, versions, *_ = request
        fields = op, self.rank, timestamp, slot, sizes[server], number, versions[server], self.life
        return (SERVER, server), Record._make((*fields, self._lives[server]))

    def welcome(self, server: int, life: int, welcome: Welcome) -> list[Delivery]:
        """Note the life of a server; return the records that announce its unanswered requests again."""
        if life <= self._lives[server]:
            return []
        if not self._lives[server]:
            self.seen[server] = welcome.version
        self._lives[server], self._done[server] = life, welcome.pushes
        return self._unanswered(server)

    def _unanswered(self, server: int) -> list[Delivery]:
        return [
            self.announce(request, server)
            for request in self.under_way.values()
            if server in request.unanswered
        ]

    def answer(self, record: Record) -> None:
        """Note a server's answer. The last answer puts the values into `values`, or into `due`."""
        request = self.under_way.get(record.timestamp)
        if record.life != self._lives[record.sender] or request is None:
            return  # of a former life, or answered already
        if record.arrays:
            self._take(record)
        request.unanswered.discard(record.sender)
        if request.op in (PULL, PUSH_PULL):
            self.seen[record.sender] = record.version
        if not request.unanswered:
            del self.under_way[record.timestamp]
            reach("worker: answered")
            self._complete(request)

    def _take(self, record: Record) -> None:
        if record.op == SIGHT:
            self.sights.append(record)
        else:
            self._mailboxes[record.sender].take(record)

    def _complete(self, request: Request) -> None:
        if request.op == LOOK:
            return
        values = None if request.op == PUSH or request.out is None else self._collect(request)
        if self._keeps_answers and values is not None and request.number == self.pushes:
            self._kept.append(request.slot)
        else:
            self._release(request.slot)
        if request.callback is not None:
            self.callbacks_expected -= 1
            self.due.append((request.callback, values))
        elif values is not None:
            self.values[request.timestamp] = values

    def _collect(self, request: Request) -> np.ndarray:
        """Copy the answers of all servers out of the slot, into one array."""
        sizes, slot, out = request.sizes, request.slot, request.out
        assert out is not None
        begin = 0
        for mailbox, size in zip(self._mailboxes, sizes, strict=True):
            out[begin : begin + size] = mailbox.values[slot][:size]
            begin += size
        return self._shape.flat(out)
