"""A server: a state machine without I/O, and the event loop around it.

`Server.handle` takes a record and returns the answers to send; no pipe, clock or process is in it.
"""

import collections
from collections.abc import Sequence

import numpy as np

from shmps.consistency import Consistency, VectorClock
from shmps.failpoints import reach
from shmps.messages import (
    ANSWER,
    ENTER,
    LEAVE,
    PING,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    SETTLE,
    SETTLED,
    START,
    WELCOME,
    WORKER,
    Record,
)
from shmps.store import DELAY_BINS, DENSE, Mailbox, Parameters, Pulse
from shmps.transport import Address, Post
from shmps.updaters import Push, Step, Updater

Answers = list[tuple[Address, Record]]


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
        self._all_keys = np.arange(*parameters.shape.bounds[rank : rank + 2])
        self._redo = parameters.redo_slot(rank)
        if self._redo.pending:
            self._redo.apply()
        self._arrivals = 0
        self._lives: dict[int, int] = {}  # of the workers
        self._held: dict[int, collections.deque[tuple[int, Record]]] = {}  # with its number of arrival
        self._parked: list[Record] = []
        self._answers: Answers = []

    def handle(self, record: Record) -> Answers:
        """Take one record; returns what is to be sent now, and to whom."""
        self._answers = []
        if record.to == self.life:
            if record.op in self._from_scheduler:
                self._from_scheduler[record.op](self, record)
            elif record.life == self._lives.get(record.sender):
                self._from_worker[record.op](self, record)
        return self._answers

    @property
    def version(self) -> int:
        """Updates applied."""
        return int(self._parameters.versions[self.rank])

    def _start(self, record: Record) -> None:
        """A run, from its beginning or after this server's predecessor has died: nothing is held or parked.

        A worker has the clock that it has reached in this run, if it has.
        """
        done = self._parameters.done[self.rank]
        np.maximum(done, record.number, out=done)
        self.clock.start(done[: record.size].tolist())
        self._lives, self._held, self._parked = {}, {}, []
        for worker in range(record.size):
            self._welcome(worker, record.timestamp + worker)

    def _enter(self, record: Record) -> None:
        """A worker comes in, or a new life of one, which asks again what its last left unanswered."""
        done = self._parameters.done[self.rank]
        done[record.slot] = max(done[record.slot], record.number)
        self.clock.enter(record.slot, int(done[record.slot]))
        self._parked = [parked for parked in self._parked if parked.sender != record.slot]
        self._welcome(record.slot, record.timestamp)

    def _welcome(self, worker: int, life: int) -> None:
        self._lives[worker], self._held[worker] = life, collections.deque()
        done = int(self._parameters.done[self.rank, worker])
        welcome = Record(WELCOME, self.rank, version=self.version, number=done, life=self.life, to=life)
        self._answers.append(((WORKER, worker), welcome))

    def _push(self, record: Record) -> None:
        done = self._parameters.done[self.rank, record.sender]
        held = self._held[record.sender]
        if record.number <= done:
            self._complete(record)  # applied before: acknowledged again
        elif record.number == done + len(held) + 1:  # neither held already nor after a gap
            if self.consistency.hold_pushes:
                held.append((self._arrivals, record))
                self._arrivals += 1
                self._apply_complete_ticks()
            else:
                self._apply([record], self._keys(record), self._values(record))

    def _apply_complete_ticks(self) -> None:
        while (behind := self.clock.behind) and all(self._held[worker] for worker in behind):
            arrivals, records = zip(*(self._held[worker].popleft() for worker in behind), strict=True)
            order = {arrival: place for place, arrival in enumerate(sorted(arrivals))}
            pushes = [
                Push(self._keys(record), self._values(record), self._rows(record), order[arrival])
                for arrival, record in zip(arrivals, records, strict=True)
            ]
            self._apply(records, *self.updater.reduce(pushes))

    def _apply(self, records: Sequence[Record], keys: np.ndarray, gradient: np.ndarray) -> None:
        """One update, which takes in the pushes `records`; then everything that waited for it."""
        delays = [self.version - record.version for record in records]
        for delay in delays:
            self._parameters.delays[self.rank, min(delay, DELAY_BINS - 1)] += 1
        tick = max(record.number for record in records)
        step = Step(tick, float(self._parameters.ages[self.rank]), max(delays), len(records))
        values, state = self._redo.prepare(keys)
        self.updater.update(keys, gradient, values, state, step)
        age = step.age + self.updater.penalty(step)
        self._redo.commit(len(keys), age, {record.sender: record.number for record in records})
        self._redo.apply()
        reach("server: applied")
        for record in records:
            self.clock.tick(record.sender, record.number)
        for record in records:
            self._complete(record)
        self._answer_parked()

    def _complete(self, record: Record) -> None:
        """The push is in: acknowledge it, or go on with its pull."""
        if record.op == PUSH_PULL:
            self._pull(record)
        else:
            self._answer(record)

    def _pull(self, record: Record) -> None:
        if not self.consistency.may_answer(record.number, self.clock.slowest):
            self._parked.append(record)
            return
        self._parameters.read(self._keys(record), self.rank, self.updater, self._values(record))
        self._answer(record)

    def _answer_parked(self) -> None:
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
            self.version,
            self.life,
            record.life,
        )
        self._answers.append(((WORKER, record.sender), answer))

    def _leave(self, record: Record) -> None:
        """Worker `slot` has finished: nobody waits for it any more."""
        self.clock.leave(record.slot)
        self._apply_complete_ticks()
        self._answer_parked()

    def _settle(self, record: Record) -> None:
        """All that came before this record has been handled: say so."""
        self._answers.append(((SCHEDULER, 0), Record(SETTLED, self.rank, life=self.life)))

    def _ping(self, record: Record) -> None:
        """To have been woken is the sign of life."""

    _from_scheduler = {START: _start, ENTER: _enter, LEAVE: _leave, SETTLE: _settle, PING: _ping}  # noqa: RUF012
    _from_worker = {PUSH: _push, PUSH_PULL: _push, PULL: _pull}  # noqa: RUF012

    def _keys(self, record: Record) -> np.ndarray:
        if record.slot == DENSE:
            return self._all_keys
        return self._mailboxes[record.sender].keys[record.slot][: record.size]

    def _values(self, record: Record) -> np.ndarray:
        return self._mailboxes[record.sender].values[record.slot][: record.size]

    def _rows(self, record: Record) -> float:
        return float(self._mailboxes[record.sender].rows[record.slot])


def serve(server: Server, post: Post, pulse: Pulse) -> None:
    """Handle what arrives, for ever: a server ends by being killed."""
    while True:
        answers: Answers = []
        records = post.receive()
        pulse.beat()
        for record in records:
            reach("server: record taken")
            answers += server.handle(record)
        reach("server: before answers")
        post.send_all(answers)
        reach("server: after answers")
