"""A server: a state machine without I/O.

    record --> Server.handle --> _push --> held until the mode allows --> _apply
                                                                           | Recorder: note the update
                                                                           | RedoLog: prepare, commit, apply
                                                                           | Chain: ship to the replica
    answers <-- _answer <-- _pull, or parked until the mode allows <-------+

`Server.handle` takes a record and returns the records to send. It uses no pipe, clock or process. The loop
around it is `ps.node.serve`.
"""

import collections
import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from shmps.errors import UpdaterFailed
from shmps.ps.consistency import Consistency, Position, VectorClock
from shmps.ps.memory.layout import DELAY_BINS
from shmps.ps.memory.mailbox import Mailbox
from shmps.ps.memory.parameters import Mirror, Parameters
from shmps.ps.messages import (
    ANSWER,
    LOOK,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    SIGHT,
    WORKER,
    Delivery,
    Enter,
    Leave,
    Peer,
    Ping,
    Record,
    Settle,
    Settled,
    Start,
    Welcome,
    Write,
    with_arrays,
)
from shmps.ps.server.parked import Parked
from shmps.ps.server.recorder import Recorder
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.replication import Chain
from shmps.ps.updater import Push, Step, Updater
from shmps.system.failpoints import reach

_rank = operator.attrgetter("sender")


class Server:
    """Owns one partition: applies pushes to it and answers pulls from it.

    A server takes only records that are addressed to its life (see `messages.Record`). They must come from
    the scheduler, from a worker's life that the scheduler has named, or from the known life of a neighbour.
    """

    def __init__(
        self,
        rank: int,
        life: int,
        parameters: Parameters,
        redo: RedoLog,
        mailboxes: list[Mailbox],
        consistency: Consistency,
        updater: Updater,
        recorder: Recorder | None = None,
    ):
        self.rank, self.life, self.consistency, self.updater = rank, life, consistency, updater
        self.clock = VectorClock()
        self._parameters, self._redo, self._mailboxes = parameters, redo, mailboxes
        self._recorder = recorder or Recorder()
        self._delays = parameters.delays[rank].data
        if not redo.recover():
            raise RuntimeError(f"the partition of server {rank} is damaged, and so is its replica")
        self._chain = Chain(rank, life, parameters, redo)
        # What may leave once the tail has the version.
        self._unshipped: collections.deque[tuple[int, Callable[[], None]]] = collections.deque()
        self._lives: dict[int, int] = {}  # of the workers
        self._awaited = 0  # workers of the run that have not entered yet
        self._held: list[Record] = []  # pushes that are not applied yet, in order of arrival
        self._last: dict[int, int] = {}  # number of each worker's last push that is applied or held
        self._parked = Parked()
        self._early: list[Settle] = []  # to be answered once the replica of the head has begun
        self._answers: list[Delivery] = []

    def handle(self, record: Record) -> list[Delivery]:
        """Handle one record and return the records to send."""
        answers = self._answers = []
        if record.to == self.life:
            if take := self._from_worker.get(record.op):
                if self._is_current(record):
                    if record.arrays:
                        self._mailboxes[record.sender].take(record)
                    take(self, record)
            else:
                message = record.message
                if type(message) in self._from_scheduler:
                    self._from_scheduler[type(message)](self, message)
                elif type(message) is Write:
                    self._write(message, record.arrays)
                else:
                    answers += self._chain.take_in(record, message)
                    self._replicas_moved()
        return answers

    @property
    def version(self) -> int:
        """Updates applied."""
        return self._redo.version

    def has_answered(self, pull: Position) -> bool:
        """Return whether a pull is answered at this version; known in recorded runs."""
        return self._recorder.has_answered(pull, self.version)

    def _is_current(self, request: Record) -> bool:
        """Return whether a request comes from the last known life of its worker."""
        return request.life == self._lives.get(request.sender)

    def _start(self, start: Start) -> None:
        """Begin a run, or go on with it after the death of a predecessor: nothing is held or parked."""
        self.clock.start([])
        self._lives, self._last, self._held, self._parked = {}, {}, [], Parked()
        self._unshipped.clear()
        self._awaited = start.workers

    def _enter(self, enter: Enter) -> None:
        """Let a worker, or a new life of it, take part. A new life repeats what its last left unanswered."""
        worker, done = enter.worker, self._redo.done
        done[worker] = self._last[worker] = max(done[worker], enter.tick)
        self.clock.enter(worker, done[worker])
        self._held = [held for held in self._held if held.sender != worker]
        self._lives[worker] = enter.life
        welcome = Record.of(Welcome(done[worker], self.version), self.rank, self.life, to=enter.life)
        self._when_durable(lambda: self._answers.append(((WORKER, worker), welcome)))
        self._awaited = max(0, self._awaited - 1)
        if not self._awaited:
            self._answer_parked()
            self._apply_held()

    def _push(self, record: Record) -> None:
        worker, number = record.sender, record.number
        if number == self._last[worker] + 1:  # not held already, and no gap before it
            self._last[worker] = number
            self._held.append(record)
            self._apply_held()
        elif number <= self._redo.done[worker]:
            self._acknowledge(record)  # applied before, by this server or a predecessor
            self._apply_held()

    def _apply_held(self) -> None:
        """Apply held pushes as far as the mode and the replica's backlog allow."""
        while self._held and self._redo.has_room and not self._awaited:
            update = self.consistency.next_update(self._held, self)
            if not update:
                return
            for record in update:
                self._held.remove(record)
            self._apply(update)

    def _gradient(self, update: list[Record]) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and values of one update. The pushes of a tick are reduced in rank order."""
        if not self.consistency.hold_pushes:
            [record] = update
            return self._contents(record)
        arrival = {record.sender: place for place, record in enumerate(update)}
        update.sort(key=_rank)
        pushes = [
            Push(*self._contents(record), self._rows(record), arrival[record.sender]) for record in update
        ]
        return self.updater.reduce(pushes)

    def _apply(self, update: list[Record]) -> None:
        """Apply these pushes as one update, then answer what waited for it."""
        redo, version = self._redo, self._redo.version
        delays: list[int] = []
        done: dict[int, int] = {}  # the number of each worker's push
        for push in update:
            delay = self.consistency.delay(push, self)
            self._delays[min(delay, DELAY_BINS - 1)] += 1
            delays.append(delay)
            done[push.sender] = push.number
        step = Step(max(done.values()), redo.age, max(delays), len(update))
        self._recorder.note_update(version + 1, update, delays)
        try:
            keys, gradient = self._gradient(update)
            values, state = redo.prepare(keys)
            returned: object = self.updater.update(keys, gradient, values, state, step)  # type: ignore[func-returns-value]
            if returned is not None:
                got = type(returned).__name__
                raise TypeError(f"update must change values and state in place and return None, got {got}")
            age = step.age + self.updater.penalty(step)
        except Exception as error:
            raise UpdaterFailed(type(self.updater).__name__, self.rank, repr(error)) from error
        redo.commit(len(keys), age, done)
        redo.apply()
        reach("server: applied")
        for record in update:
            self.clock.tick(record.sender, record.number)
        self._answers += self._chain.ship(version + 1)
        for record in update:
            self._acknowledge(record)
        self._answer_parked(update)

    def _acknowledge(self, record: Record) -> None:
        """Complete an applied push once the replica has it too."""
        if self._redo.replica_is_current:
            self._complete(record)
        else:
            self._unshipped.append((self.version, partial(self._complete_if_current, record)))

    def _complete_if_current(self, push: Record) -> None:
        if self._is_current(push):
            self._complete(push)

    def _when_durable(self, leave: Callable[[], None]) -> None:
        """Call `leave` once what others will know of this version survives the death of this server."""
        if self._redo.is_durable:
            leave()
        else:
            self._unshipped.append((self.version, leave))

    def _complete(self, record: Record) -> None:
        """Acknowledge a push; of a push-pull, go on with the pull."""
        if record.op == PUSH_PULL:
            self._pull(record)
        else:
            self._answer(record, self.version, 0)

    def _pull(self, record: Record) -> None:
        noted = self._recorder.version_of(record)
        if noted is not None:  # the answer lies in the slot
            self._answer(record, noted, record.size)
            return
        # The worker's own pushes come first: one may be held because the tail is behind.
        done = self._redo.done[record.sender]
        if record.number > done:
            self._parked.behind_push(record)
            return
        needed = self.consistency.needed(record, self)
        if needed > self._progress:
            self._parked.until(needed, record)
            return
        if record.number < done and self.consistency.hold_pushes:
            with self._redo.stepped_back():  # a new life makes its last push again: see `PrivateRedoLog`
                self._read(record)
        else:
            self._read(record)

    def _read(self, record: Record) -> None:
        """Read the values of a pull or a look, and answer it."""
        version = self.version
        if record.op == LOOK:
            answer = partial(self._show, record, version, self._sight(record))
        else:
            keys, values = self._contents(record)
            self._parameters.read(keys, self.rank, self.updater, values)
            self._recorder.note_answer(record, version)
            if self._redo.is_durable:
                self._answer(record, version, record.size)
                return
            answer = partial(self._answer, record, version, record.size)
        self._when_durable(answer)

    def _pull_and_go_on(self, record: Record) -> None:
        """Answer or park a pull. The next update may have waited for the answer."""
        self._pull(record)
        self._apply_held()

    @property
    def _progress(self) -> float:
        """What parked pulls wait for; see `Consistency.progress`. All workers must have entered."""
        return -math.inf if self._awaited else self.consistency.progress(self)

    def _answer_parked(self, applied: Sequence[Record] = ()) -> None:
        """Answer the parked pulls that these pushes, or the progress since, have freed."""
        if self._parked:
            for pull in self._parked.freed(applied, self._progress):
                if self._is_current(pull):
                    self._pull(pull)

    def _answer(self, record: Record, version: int, size: int) -> None:
        """size: the values that lie in the slot."""
        # `_make`: the constructor of a NamedTuple takes longer than it takes to copy 128 values.
        _, sender, timestamp, slot, _, number, _, life, _ = record
        answer = Record._make((ANSWER, self.rank, timestamp, slot, size, number, version, self.life, life))
        self._answers.append(((WORKER, sender), answer))

    def _sight(self, look: Record) -> list[np.ndarray]:
        assert isinstance(self._parameters, Mirror)
        part = self._parameters.part_of(self.rank, look.slot, look.slot + look.size)
        return [each.copy() for each in part]

    def _show(self, look: Record, version: int, sight: list[np.ndarray]) -> None:
        answer = look._replace(op=SIGHT, sender=self.rank, version=version, life=self.life, to=look.life)
        self._answers.append(((WORKER, look.sender), with_arrays(answer, sight)))

    def _leave(self, leave: Leave) -> None:
        """Stop waiting for a worker that has finished."""
        self.clock.leave(leave.worker)
        self._apply_held()
        self._answer_parked()

    # The replica: see `Chain`.

    def _peer(self, peer: Peer) -> None:
        self._answers += self._chain.meet(peer.server, peer.life)

    def _replicas_moved(self) -> None:
        """Let leave what waited for the tail's replica, or for the replica of the head."""
        while self._unshipped and self._unshipped[0][0] <= self._redo.replicated:
            _, leave = self._unshipped.popleft()
            leave()
        if self._chain.is_whole:
            early, self._early = self._early, []
            for settle in early:
                self._settle(settle)
        self._apply_held()

    def _settle(self, settle: Settle) -> None:
        if self._chain.is_whole:
            self._when_durable(lambda: self._settled(settle))
        else:
            self._early.append(settle)

    def _settled(self, settle: Settle) -> None:
        standing = [part.copy() for part in self._parameters.standing(self.rank, bool(settle.image))]
        settled = Record.of(Settled(settle.question, settle.image), self.rank, self.life)
        self._answers.append(((SCHEDULER, 0), with_arrays(settled, standing)))

    def _write(self, write: Write, arrays: Sequence[np.ndarray]) -> None:
        """Take what the scheduler has written (see `Cluster.write`) as an update that no worker made."""
        redo = self._redo
        keys = redo.all_keys[(redo.all_keys >= write.begin) & (redo.all_keys < write.end)]
        if len(keys):
            values, _ = redo.prepare(keys)
            values[:] = arrays[0]
            redo.commit(len(keys), redo.age, {})
            redo.apply()
            self._answers += self._chain.ship(self.version)

    def _ping(self, ping: Ping) -> None:
        """Do nothing: every record that a server takes is a sign of life."""

    _from_scheduler: ClassVar[dict[type, Callable[..., None]]] = {
        Start: _start, Enter: _enter, Leave: _leave, Settle: _settle, Peer: _peer, Ping: _ping,
    }  # fmt: skip
    _from_worker: ClassVar[dict[int, Callable[..., None]]] = {
        PUSH: _push,
        PUSH_PULL: _push,
        PULL: _pull_and_go_on,
        LOOK: _pull_and_go_on,
    }

    def _contents(self, request: Record) -> tuple[np.ndarray, np.ndarray]:
        """Return the keys (k,) of a request, and the part of its slot for the values, (k, width)."""
        mailbox, slot, size = self._mailboxes[request.sender], request.slot, request.size
        keys = mailbox.keys[slot][:size] if slot >= 0 else self._redo.all_keys
        return keys, mailbox.values[slot][:size]

    def _rows(self, record: Record) -> float:
        return float(self._mailboxes[record.sender].rows[record.slot])
