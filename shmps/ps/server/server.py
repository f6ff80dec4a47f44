"""A server: a state machine without I/O.

`Server.handle` takes a record and returns the answers to send; no pipe, clock or process is in it. The loop
around it is `ps.node.serve`.
"""

import collections
import operator

import numpy as np

from shmps.errors import UpdaterFailed
from shmps.ps.consistency import Consistency, VectorClock
from shmps.ps.memory.layout import DELAY_BINS
from shmps.ps.memory.mailbox import Mailbox
from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import (
    ANSWER,
    ENTER,
    LEAVE,
    PEER,
    PING,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    SETTLE,
    SETTLED,
    SHIP,
    SHIPPED,
    START,
    WELCOME,
    WORKER,
    Message,
    Record,
)
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.replication import Chain
from shmps.ps.updater import Push, Step, Updater
from shmps.system.failpoints import reach

_rank = operator.attrgetter("sender")


class Server:
    """Owns one partition: applies pushes to it and answers pulls from it.

    In its life (see `messages.Record`) it takes only what is addressed to it, from the scheduler and from the
    lives of workers that the scheduler has named.
    """

    def __init__(
        self,
        rank: int,
        life: int,
        parameters: Parameters,
        mailboxes: list[Mailbox],
        consistency: Consistency,
        updater: Updater,
    ):
        self.rank, self.life, self.consistency, self.updater = rank, life, consistency, updater
        self.clock = VectorClock()
        self._parameters, self._mailboxes = parameters, mailboxes
        self._delays = parameters.delays[rank].data
        self._redo = RedoLog(parameters, rank)
        if not self._redo.recover():
            raise RuntimeError(f"the partition of server {rank} is damaged, and so is its replica")
        self._chain = Chain(rank, life, parameters, self._redo)
        self._unshipped: collections.deque[tuple[int, Record]] = collections.deque()  # version, push
        self._lives: dict[int, int] = {}  # of the workers
        self._awaited = 0  # workers that are in the run and have not come in yet
        self._held: list[Record] = []  # pushes that came and are not applied, in order of arrival
        self._last: dict[int, int] = {}  # of each worker's pushes, the last that was applied or is held
        self._parked: list[Record] = []
        self._answers: list[Message] = []

    def handle(self, record: Record) -> list[Message]:
        """Take one record; returns what is to be sent now, and to whom."""
        answers = self._answers = []
        if record.to == self.life:
            op = record.op
            if op in self._from_worker:
                if record.life == self._lives.get(record.sender):
                    self._from_worker[op](self, record)
            elif op in self._from_scheduler:
                self._from_scheduler[op](self, record)
            elif self._chain.knows(record):
                self._from_server[op](self, record)
        return answers

    @property
    def version(self) -> int:
        """Updates applied."""
        return self._redo.version

    def _start(self, record: Record) -> None:
        """A run, or its going on after this server's predecessor has died: nothing is held or parked."""
        self.clock.start([])
        self._lives, self._last, self._held, self._parked = {}, {}, [], []
        self._unshipped.clear()
        self._awaited = record.size

    def _enter(self, record: Record) -> None:
        """A worker comes in, or a new life of one, which asks again what its last left unanswered."""
        worker, done = record.slot, self._redo.done
        done[worker] = self._last[worker] = max(done[worker], record.number)
        self.clock.enter(worker, done[worker])
        self._held = [held for held in self._held if held.sender != worker]
        self._parked = [parked for parked in self._parked if parked.sender != worker]
        self._lives[worker] = record.timestamp
        welcome = Record(
            WELCOME,
            self.rank,
            version=self.version,
            number=done[worker],
            life=self.life,
            to=record.timestamp,
        )
        self._answers.append(((WORKER, worker), welcome))
        self._awaited = max(0, self._awaited - 1)
        if not self._awaited:
            self._apply_held()
            self._answer_parked()

    def _push(self, record: Record) -> None:
        worker, number = record.sender, record.number
        if number == self._last[worker] + 1:  # neither held already nor after a gap
            self._last[worker] = number
            self._held.append(record)
            self._apply_held()
        elif number <= self._redo.done[worker]:
            self._acknowledge(record)  # applied before

    def _apply_held(self) -> None:
        """As far as the mode and the replica's backlog allow."""
        while self._held and self._redo.has_room and not self._awaited:
            update = self._tick() if self.consistency.hold_pushes else self._held[:1]
            if not update:
                return
            for record in update:
                self._held.remove(record)
            self._apply(update)

    def _tick(self) -> list[Record]:
        """The next push of all who are behind, in order of arrival; none before they are complete."""
        behind = self.clock.behind
        if len(self._held) < len(behind):
            return []
        number = self.clock.slowest + 1
        tick = [held for held in self._held if held.number == number and held.sender in behind]
        return tick if len(tick) == len(behind) else []

    def _gradient(self, update: list[Record]) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of one update; a tick, which comes in order of arrival, is put in rank order."""
        if not self.consistency.hold_pushes:
            [record] = update
            return self._keys(record), self._values(record)
        arrival = {record.sender: place for place, record in enumerate(update)}
        update.sort(key=_rank)
        pushes = [
            Push(self._keys(record), self._values(record), self._rows(record), arrival[record.sender])
            for record in update
        ]
        return self.updater.reduce(pushes)

    def _apply(self, update: list[Record]) -> None:
        """Apply these pushes as one; then everything that waited for it."""
        redo, version = self._redo, self._redo.version
        tick = most = 0
        for record in update:
            delay = version - record.version
            self._delays[min(delay, DELAY_BINS - 1)] += 1
            tick, most = max(tick, record.number), max(most, delay)
        step = Step(tick, redo.age, most, len(update))
        try:
            keys, gradient = self._gradient(update)
            values, state = redo.prepare(keys)
            returned: object = self.updater.update(keys, gradient, values, state, step)  # type: ignore[func-returns-value]
            if returned is not None:
                found = type(returned).__name__
                raise TypeError(f"update changes values and state in place and returns None, found {found}")
            age = step.age + self.updater.penalty(step)
        except Exception as error:
            raise UpdaterFailed(type(self.updater).__name__, self.rank, repr(error)) from error
        redo.commit(len(keys), age, {record.sender: record.number for record in update})
        redo.apply()
        reach("server: applied")
        for record in update:
            self.clock.tick(record.sender, record.number)
        self._answers += self._chain.ship(version + 1)
        for record in update:
            self._acknowledge(record)
        self._answer_parked()

    def _acknowledge(self, record: Record) -> None:
        """The push is in: say so, as soon as the replica has it too."""
        if self._redo.replica_is_current:
            self._complete(record)
        else:
            self._unshipped.append((self.version, record))

    def _complete(self, record: Record) -> None:
        """Acknowledge a push, or go on with its pull."""
        if record.op == PUSH_PULL:
            self._pull(record)
        else:
            self._answer(record)

    def _pull(self, record: Record) -> None:
        # Its own pushes go first: one may be held because the tail is behind.
        worker = record.sender
        held = self._awaited or self._last[worker] > self._redo.done[worker]
        if held or not self.consistency.may_answer(record.number, self.clock.slowest):
            self._parked.append(record)
            return
        self._parameters.read(self._keys(record), self.rank, self.updater, self._values(record))
        self._answer(record)

    def _answer_parked(self) -> None:
        if self._parked:
            parked, self._parked = self._parked, []
            for record in parked:
                self._pull(record)

    def _answer(self, record: Record) -> None:
        answer = Record(
            ANSWER,
            self.rank,
            record.timestamp,
            record.slot,
            record.size,
            record.number,
            self._redo.version,
            self.life,
            record.life,
        )
        self._answers.append(((WORKER, record.sender), answer))

    def _leave(self, record: Record) -> None:
        """Worker `slot` has finished: nobody waits for it any more."""
        self.clock.leave(record.slot)
        self._apply_held()
        self._answer_parked()

    # The replica: see `Chain`.

    def _peer(self, record: Record) -> None:
        """Neighbour `slot` has this life.

        Which of the two hears of the other first is open, and what comes before is dropped: so the tail is
        shipped what it lacks, and the head is told what we have, and asked for the rest.
        """
        chain = self._chain
        chain.meet(record.slot, record.timestamp)
        if record.slot == chain.tail:
            self._answers += chain.ship_from(self._redo.replicated)
            self._acknowledge_up_to(self._redo.replicated)  # a predecessor may have died before it said so
        if record.slot == chain.head:
            self._answers += chain.ask()

    def _ship(self, record: Record) -> None:
        """An update of the head's is to be copied."""
        self._answers += self._chain.copy(record)

    def _shipped(self, record: Record) -> None:
        """The tail has our updates up to this version; with a `size` it asks for the rest."""
        self._acknowledge_up_to(record.version)
        if record.size:
            self._answers += self._chain.ship_from(record.version)

    def _acknowledge_up_to(self, version: int) -> None:
        while self._unshipped and self._unshipped[0][0] <= version:
            _, push = self._unshipped.popleft()
            if push.life == self._lives.get(push.sender):
                self._complete(push)
        self._apply_held()

    def _settle(self, record: Record) -> None:
        """All that came before this record has been handled: say so."""
        self._answers.append(
            ((SCHEDULER, 0), Record(SETTLED, self.rank, number=record.number, life=self.life))
        )

    def _ping(self, record: Record) -> None:
        """To have been woken is the sign of life."""

    _from_scheduler = {START: _start, ENTER: _enter, LEAVE: _leave, SETTLE: _settle, PEER: _peer, PING: _ping}  # noqa: RUF012
    _from_server = {SHIP: _ship, SHIPPED: _shipped}  # noqa: RUF012
    _from_worker = {PUSH: _push, PUSH_PULL: _push, PULL: _pull}  # noqa: RUF012

    def _keys(self, record: Record) -> np.ndarray:
        if record.slot < 0:
            return self._redo.all_keys
        return self._mailboxes[record.sender].keys[record.slot][: record.size]

    def _values(self, record: Record) -> np.ndarray:
        return self._mailboxes[record.sender].values[record.slot][: record.size]

    def _rows(self, record: Record) -> float:
        return float(self._mailboxes[record.sender].rows[record.slot])
