"""The machinery of a worker's client: makes requests, and handles the records that come in."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from shmps.checks import positive
from shmps.errors import NodeDied, UsageError
from shmps.ps.arguments import matrix, sorted_keys, writeable
from shmps.ps.consistency import Consistency
from shmps.ps.engine import Channel, Clock, Post
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import Mailbox, PushLog
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import (
    ANSWER,
    PULL,
    ROLES,
    SCHEDULER,
    SIGHT,
    Died,
    HandedOver,
    Record,
    Release,
    Sharer,
    Stop,
    Welcome,
)
from shmps.ps.worker.meeting import Meeting
from shmps.ps.worker.reports import Reports
from shmps.ps.worker.requests import Callback, Requests
from shmps.system.failpoints import reach


class Client:
    """One life of a worker: its requests, its meetings with other workers, its reports, and its inbox.

    seconds_waiting: seconds spent waiting for records.
    """

    def __init__(
        self,
        rank: int,
        life: int,
        consistency: Consistency,
        shape: Shape,
        mailboxes: list[Mailbox],
        log: PushLog,
        pulse: Pulse,
        post: Post,
        channel: Channel,
        clock: Clock,
    ):
        self.rank, self.life, self.consistency = rank, life, consistency
        self.pulse, self.clock = pulse, clock
        self.requests = Requests(rank, life, shape, mailboxes, log, consistency.recorded)
        self.meeting, self.reports = Meeting(), Reports(channel)
        self.seconds_waiting = 0.0
        self._servers, self._shape, self._post = len(mailboxes), shape, post
        self._now = clock.now
        self._bounds, self._bounds_array = shape.bounds, np.array(shape.bounds)
        self._cuts = np.empty(self._servers + 1, np.int64)
        self._calling_back = False

    def enter(self) -> None:
        """Wait until every server knows this life, and complete the committed pushes of a former life."""
        self.wait_until(lambda: self.requests.welcomed)
        for address, record in self.requests.recover():
            self._post.send(address, record)
        if self.consistency.completes_pushes:
            self.wait_until(lambda: not self.requests.pushing)

    def start(self, op: int, keys: Any, values: Any, rows: Any, callback: Callback | None, out: Any) -> int:
        """Check a request, fill the mailboxes of all servers, and announce it; return its timestamp."""
        self.call_back()
        if keys is None:
            count, cuts = self._shape.num_keys, self._bounds
            if not self._shape.dense_slots:
                raise UsageError(
                    "dense_slots of the Cluster must be at least 1 for a request for all keys, got 0; raise "
                    "it, or name the keys"
                )
        else:
            keys, cuts = self.cut(keys)
            count = len(keys)
            if count > self._shape.max_keys:
                raise UsageError(
                    f"keys must be at most max_keys={self._shape.max_keys}, got {count}; raise max_keys "
                    f"of the Cluster, or use keys=None for all keys"
                )
        if op != PULL:
            if self.consistency.in_place:
                raise UsageError(
                    f"push needs servers that apply pushes, got consistency={self.consistency}; use "
                    f"push_in_place"
                )
            values = matrix(values, count, self._shape.width)
            rows = positive("rows", rows)
        if not (callback is None or callable(callback)):
            raise UsageError(f"callback must be a function of the values, got {callback!r:.80}")
        if out is not None:
            out = writeable(out, count, self._shape.width, self._shape.dtype)
        requests, dense = self.requests, keys is None
        turn = requests.pulls if op == PULL else None
        self.consistency.must_allow(self.rank, requests.pushes + (turn is None), turn)
        if not requests.has_slot(dense, op):
            self._wait_for_slot(dense)
        request = requests.start(op, keys, values, cuts, rows, callback, out)
        for server in range(self._servers):
            self._post.send(*requests.announce(request, server))
            reach("worker: half announced")
        reach("worker: announced")
        return request.timestamp

    def look(self, begin: int, end: int) -> list[Record]:
        """Ask all servers for what they hold of the keys begin to end - 1; return their answers."""
        requests = self.requests
        request = requests.look(begin, end)
        for server in range(self._servers):
            self._post.send(*requests.announce(request, server))
        self.wait_until(lambda: request.timestamp not in requests.under_way)
        sights, requests.sights = requests.sights, []
        return sights

    def _wait_for_slot(self, dense: bool) -> None:
        requests = self.requests
        if not requests.waits_for_slot(dense):
            name = "dense_slots" if dense else "slots"
            count = self._shape.dense_slots if dense else self._shape.slots
            raise UsageError(
                f"{name} of a recorded Cluster must be above the pulls between two pushes of a worker, which "
                f"keep their slots, got {count}; raise {name}"
            )
        self.wait_until(lambda: requests.has_slot(dense))

    def cut(self, keys) -> tuple[np.ndarray, list[int]]:
        """Sorted keys do the work: server s has keys[cuts[s]:cuts[s + 1]]."""
        keys = sorted_keys(keys, self._bounds_array, self._cuts)
        return keys, self._cuts.tolist()

    # Incoming records.

    def wait_until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            began = self._now()
            self._post.receive_until(condition, self._take_in_alive)
            self.seconds_waiting += self._now() - began

    def _take_in_alive(self, records: list[Record]) -> None:
        self.pulse.beat()
        self.take_in(records)

    def take_in(self, records: list[Record]) -> None:
        for record in records:
            if record.to == self.life:
                if record.op == ANSWER or record.op == SIGHT:
                    self.requests.answer(record)
                elif handler := self._handlers.get(type(message := record.message)):
                    handler(self, record, message)

    def take_in_nowait(self) -> None:
        self.take_in(self._post.receive_nowait())

    def _welcome(self, record: Record, welcome: Welcome) -> None:
        for address, announcement in self.requests.welcome(record.sender, record.life, welcome):
            self._post.send(address, announcement)

    def _release(self, record: Record, release: Release) -> None:
        self.meeting.release(release)

    def _sharer(self, record: Record, sharer: Sharer) -> None:
        self.meeting.take(sharer)

    def _handed_over(self, record: Record, message: HandedOver) -> None:
        self.reports.handed_over()

    def _stop(self, record: Record, message: Stop) -> None:
        self.pulse.stop()

    def _died(self, record: Record, died: Died) -> None:
        raise NodeDied(ROLES[died.role], died.rank, died.exit_code)

    _handlers: ClassVar[dict[type, Callable[..., None]]] = {
        Welcome: _welcome, Release: _release, Sharer: _sharer, HandedOver: _handed_over, Died: _died,
        Stop: _stop,
    }  # fmt: skip

    def call_back(self) -> None:
        """Run the callbacks that are due, one at a time: one that calls `kv` does not start the next."""
        due = self.requests.due
        if self.requests.callbacks_expected:
            self.take_in_nowait()
        if self._calling_back or not due:
            return
        self._calling_back = True
        try:
            while due:
                callback, values = due.popleft()
                callback(values)
        finally:
            self._calling_back = False

    def tell_scheduler(self, message: Any) -> None:
        self._post.send((SCHEDULER, 0), Record.of(message, self.rank, self.life))
