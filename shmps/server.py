"""A server: a state machine without I/O, and the event loop around it.

`Server.handle` takes a record and returns the answers to send; no pipe, clock or process is in it.
"""

import collections
from collections.abc import Sequence

import numpy as np

from shmps.consistency import Consistency, VectorClock
from shmps.messages import (
    ANSWER,
    BARRIER,
    LEAVE,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    SERVER,
    START,
    WELCOME,
    WORKER,
    Record,
)
from shmps.store import DELAY_BINS, DENSE, Mailbox, Parameters
from shmps.transport import Address, Post
from shmps.updaters import Push, Step, Updater

Answers = list[tuple[Address, Record]]


class Server:
    """Owns one partition: applies pushes to it and answers pulls from it."""

    def __init__(
        self,
        rank: int,
        parameters: Parameters,
        mailboxes: list[Mailbox],
        consistency: Consistency,
        updater: Updater,
    ):
        self.rank, self.consistency, self.updater = rank, consistency, updater
        self.clock = VectorClock()
        self._parameters, self._mailboxes = parameters, mailboxes
        self._all_keys = np.arange(*parameters.shape.bounds[rank : rank + 2])
        self._redo = parameters.redo_slot(rank)
        if self._redo.pending:
            self._redo.apply()
        self._run = 0
        self._arrivals = 0
        self._held: dict[int, collections.deque[tuple[int, Record]]] = {}  # with its number of arrival
        self._parked: list[Record] = []
        self._answers: Answers = []

    def handle(self, record: Record) -> Answers:
        """Take one record; returns what is to be sent now, and to whom."""
        self._answers = []
        if record.op == START or record.run == self._run:
            self._reactions[record.op](self, record)
        return self._answers

    @property
    def version(self) -> int:
        """Updates applied."""
        return int(self._parameters.versions[self.rank])

    def _start(self, record: Record) -> None:
        """A new run: `size` workers stand at tick `number`; what the last run left unanswered is void."""
        self._run = record.run
        self.clock.start(record.size, record.number)
        self._parameters.done[self.rank] = record.number
        self._held = {worker: collections.deque() for worker in self.clock.ranks}
        self._parked = []
        for worker in self.clock.ranks:
            welcome = Record(WELCOME, self.rank, version=self.version, number=record.number, run=record.run)
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
        while self.clock.ranks and all(self._held[worker] for worker in self.clock.ranks):
            arrivals, records = zip(
                *(self._held[worker].popleft() for worker in self.clock.ranks), strict=True
            )
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
            record.run,
        )
        self._answers.append(((WORKER, record.sender), answer))

    def _leave(self, record: Record) -> None:
        """The worker has finished: nobody waits for it any more."""
        self.clock.leave(record.sender)
        self._apply_complete_ticks()
        self._answer_parked()

    def _barrier(self, record: Record) -> None:
        """All that came before this record has been handled: say so."""
        self._answers.append(((SCHEDULER, 0), record._replace(sender=self.rank, slot=SERVER)))

    _reactions = {  # noqa: RUF012
        START: _start,
        PUSH: _push,
        PUSH_PULL: _push,
        PULL: _pull,
        LEAVE: _leave,
        BARRIER: _barrier,
    }

    def _keys(self, record: Record) -> np.ndarray:
        if record.slot == DENSE:
            return self._all_keys
        return self._mailboxes[record.sender].keys[record.slot][: record.size]

    def _values(self, record: Record) -> np.ndarray:
        return self._mailboxes[record.sender].values[record.slot][: record.size]

    def _rows(self, record: Record) -> float:
        return float(self._mailboxes[record.sender].rows[record.slot])


def serve(server: Server, post: Post) -> None:
    """Handle what arrives, for ever: a server ends by being killed."""
    while True:
        answers: Answers = []
        for record in post.receive():
            answers += server.handle(record)
        post.send_all(answers)
