"""A worker's client: push, pull, look, wait, barrier. What a function run on the cluster gets as `kv`."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shmps.checks import positive, whole
from shmps.errors import NodeDied, UsageError
from shmps.ps.arguments import matrix, sorted_keys, writeable
from shmps.ps.consistency import Consistency
from shmps.ps.engine import Outlet, Post
from shmps.ps.memory.mailbox import Log, Mailbox
from shmps.ps.memory.parameters import Copy, Parameters
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import (
    ALL,
    ANSWER,
    BARRIER,
    DIED,
    EPOCH,
    GROUPS,
    PART,
    PULL,
    PUSH,
    PUSH_PULL,
    READ,
    RELEASE,
    REPORT,
    ROLES,
    SCHEDULER,
    WELCOME,
    WORKERS,
    Record,
)
from shmps.ps.scheduler.membership import BEGINNING
from shmps.ps.updater import Step, Updater
from shmps.ps.worker.requests import Callback, Requests
from shmps.system.failpoints import reach

_MOST_REPORTED = 2**26  # bytes of reports, in the outlet,
_MOST_UNREAD = 256  # and reports that the scheduler has yet to hand over, before a worker waits


class KVWorker:
    """The key-value store as one worker sees it.

    Keys are (k,) int64, sorted and unique; None means all of them. Values are of the cluster's dtype, (k,) if
    its width is 1, else (k, width). A timestamp numbers a request of this worker. Every push is a tick, at
    every server, whichever keys it has.

    `resumed` counts the pushes that this rank had committed in this run before its process died and this one
    took its place: 0, but for a function that `Cluster.run` was told to run again, and in the first run of a
    Cluster that was restored, where it begins with the pushes in the copy.

    Every method raises UsageError for arguments that break a rule, and NodeDied as soon as a node that it
    may be waiting for has died.
    """

    def __init__(
        self,
        rank: int,
        life: int,
        num_workers: int,
        tick: int,
        consistency: Consistency,
        updater: Updater,
        parameters: Parameters,
        mailboxes: list[Mailbox],
        log: Log,
        pulse: Pulse,
        post: Post,
        outlet: Outlet,
    ):
        self.rank, self.num_workers, self.num_servers = rank, num_workers, len(mailboxes)
        self.consistency, self.updater = consistency, updater
        self.seconds_waiting = 0.0  # blocked until a record came
        self._life, self._pulse = life, pulse
        self._parameters, self._post, self._outlet = parameters, post, outlet
        self._shape = parameters.shape
        self._bounds = self._shape.bounds
        self._bounds_array = np.array(self._bounds)
        self._cuts = np.empty(self.num_servers + 1, np.int64)
        self._requests = Requests(rank, life, self._shape, mailboxes, log)
        self._calling_back = False
        self._place = self._released = BEGINNING
        self._parts: list[int] = []
        self._parts_expected = -1
        self._reported = self._unread = 0  # bytes in the outlet; reports not handed over yet
        self._wait_until(lambda: self._requests.welcomed)
        for address, record in self._requests.recover():
            self._post.send(address, record)
        self._wait_until(lambda: not self._requests.under_way)
        self.resumed = self._requests.pushes - tick

    # Requests that wait.

    def push(self, keys: Any, values: Any, rows: float = 1.0) -> None:
        """Send `values` to be applied to `keys`; returns when every server has applied them.

        `rows` weighs this push among those of the same tick (sync): the rows its mean was taken over.
        """
        self.wait(self.start_push(keys, values, rows))

    def pull(self, keys: Any = None, out: np.ndarray | None = None) -> np.ndarray:
        """The values of `keys`: a snapshot at one instant of each server."""
        values: np.ndarray = self.wait(self.start_pull(keys, out=out))
        return values

    def push_pull(
        self, keys: Any, values: Any, rows: float = 1.0, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Push and then pull the same keys in one request."""
        pulled: np.ndarray = self.wait(self.start_push_pull(keys, values, rows, out=out))
        return pulled

    # The same requests, returning their timestamp at once.

    def start_push(self, keys: Any, values: Any, rows: float = 1.0, callback: Callback | None = None) -> int:
        """Like `push`, but returns a timestamp to `wait` for.

        `callback(None)` runs once, inside the first call on this object after every server has answered.
        """
        return self._start(PUSH, keys, values, rows, callback, None)

    def start_pull(
        self, keys: Any = None, callback: Callback | None = None, out: np.ndarray | None = None
    ) -> int:
        """Like `pull`, but returns a timestamp to `wait` for; a `callback` gets the values instead."""
        return self._start(PULL, keys, None, 1.0, callback, out)

    def start_push_pull(
        self,
        keys: Any,
        values: Any,
        rows: float = 1.0,
        callback: Callback | None = None,
        out: np.ndarray | None = None,
    ) -> int:
        """Like `push_pull`, but returns a timestamp to `wait` for; `callback` gets the values."""
        return self._start(PUSH_PULL, keys, values, rows, callback, out)

    def wait(self, timestamp: int) -> Any:
        """Until that request is answered by every server; the values, once, if it was a pull."""
        latest = self._requests.timestamp
        if not (isinstance(timestamp, int) and 1 <= timestamp <= latest):
            raise UsageError(f"a timestamp is one that this worker got, 1 to {latest}; found {timestamp!r}")
        self._wait_until(lambda: timestamp not in self._requests.under_way)
        self._call_back()
        return self._requests.values.pop(timestamp, None)

    # Reading in place, and waiting for each other.

    def look(self, keys: Any = None) -> np.ndarray:
        """Read without a message. `keys=None`: the shared array itself, read-only, zero copies.

        Not a snapshot while servers write: Hogwild's read. In sync mode, once this worker's pushes are
        acknowledged, it is exactly a pull; with `keys=None` only if nothing is owed (see `Updater.lazy`).
        """
        self._call_back()
        self._requests.seen = self._parameters.versions.tolist()
        if keys is None:
            shared = self._parameters.weights.view()
            shared.flags.writeable = False
            return self._shape.flat(shared)
        keys, cuts = self._cut(keys)
        out = np.empty((len(keys), self._shape.width))
        for server in range(self.num_servers):
            part = slice(cuts[server], cuts[server + 1])
            self._parameters.read(keys[part], server, self.updater, out[part])
        return self._shape.flat(out)

    # Writing in place: of a cluster with consistency=HOGWILD (Niu et al., NIPS 2011).

    def push_in_place(self, keys: Any, values: Any) -> None:
        """Apply `values` to `keys` here and now, without a lock, a message or a server: one tick.

        What it gives up: where others change the same keys meanwhile, one change of the two may be lost; a
        worker that dies in it leaves a part of it behind, and whoever takes its place may apply it again.
        """
        keys, _ = self._cut(keys)
        gradient = matrix(values, len(keys), self._shape.width)

        def update(weights: np.ndarray, state: np.ndarray, step: Step) -> float:
            values, own = weights[keys], state[keys]
            self.updater.update(keys, gradient, values, own, step)
            weights[keys], state[keys] = values, own
            return self.updater.penalty(step)

        self.tick_in_place(update)

    def tick_in_place(self, update: Callable[[np.ndarray, np.ndarray, Step], float]) -> None:
        """`update(weights, state, step)` on the shared arrays (n, width) and (n, width, m), as one tick.

        It returns what penalty its updates come to: by how much they raise the age (see
        `shmps.updaters.descent`).
        What `push_in_place` gives up is given up here too.
        """
        if not self.consistency.in_place:
            raise UsageError(
                f"updates in place need a Cluster with consistency=HOGWILD, found {self.consistency}; "
                f"use push"
            )
        self._call_back()
        number, parameters = self._requests.pushes + 1, self._parameters
        step = Step(number, float(parameters.ages[0]))
        penalty = update(parameters.weights, self._shape.state_of(parameters.state), step)
        parameters.tick_in_place(self.rank, number, penalty)
        self._requests.pushes = number
        self._pulse.beat()

    def copy_of_parameters(self) -> Copy:
        """What `Cluster(restored=...)` goes on from: weights, updater state, books.

        A look, as `look` is one: in sync mode, once this worker's pushes are acknowledged, it holds exactly
        their ticks. Else the last pushes of others may be in it in part, or in it and not counted.
        """
        return self._parameters.copy(self.num_workers)

    def barrier(self, group: str = WORKERS) -> None:
        """Wait until all live workers are here; "all": and every server has handled what was sent before.

        Who waits here does not tick. In sync and bounded mode a push, or a pull beyond the bound, of another
        worker may be waiting for just that: let all workers push equally often between two barriers.

        Barriers are counted from the epoch that the worker last asked `ranks` for, or from the start of the
        function. A worker that joins (see `ranks`) waits at the barriers after it has asked for its first
        epoch; it does not wait at earlier ones, which the others have passed. A function that is run again
        in a dead worker's place does not wait at barriers that this rank has passed. It may begin with a
        later epoch, and must come to the same barriers in each.
        """
        if group not in GROUPS:
            raise UsageError(
                f"a worker waits with the group {' or '.join(map(repr, GROUPS))}, found {group!r}"
                + ("; the servers' own barrier is not a worker's" if group == "servers" else "")
            )
        if group == ALL:
            self._wait_until(lambda: not self._requests.under_way)
        epoch, count = self._place
        self._place = place = epoch, count + 1
        self._send_scheduler(BARRIER, number=count + 1, version=epoch)
        self._wait_until(lambda: self._released >= place)
        self._call_back()

    def ranks(self, epoch: int) -> list[int]:
        """Who divides the rows among themselves in `epoch` (0, 1, ...): the same for all who ask.

        Workers that were added, removed, or given up after their death come in or leave with an epoch that
        nobody has asked for before. One that comes in runs the function from its start: it asks for epoch
        after epoch until it finds its rank, as the others did, and its ticks and barriers count from there.
        So ask for an epoch when it begins, after the barriers and the pushes of the one before: if the first
        to ask does so earlier, a newcomer is awaited in an epoch in which it has no part.
        """
        epoch = whole("epoch", epoch, least=0)
        if epoch > self._place[0]:
            self._place = epoch, 0
        self._parts, self._parts_expected = [], -1
        self._send_scheduler(EPOCH, number=epoch, version=self._requests.pushes)
        self._wait_until(lambda: len(self._parts) == self._parts_expected)
        return list(self._parts)

    def ticks(self) -> np.ndarray:
        """The clocks of all workers at server 0 now, (num_workers,); see `Cluster.ticks`."""
        return self._parameters.done[0, : self.num_workers].copy()

    @property
    def stopping(self) -> bool:
        """Whether the function was asked to end, by `Cluster.stop`. It may look between two ticks."""
        return self._pulse.stopping

    def beat(self) -> None:
        """Show a sign of life, as every call that waits does: for who computes long between two calls."""
        self._pulse.beat()

    def report(self, value: Any) -> None:
        """Hand a picklable `value` to the caller of `run` (its `on_report`) while the run goes on.

        Waits while 256 reports have not been handed over yet; after 64 MiB of reports, until all of them are.
        """
        self._wait_until(self._may_report)
        if not self._unread:
            self._reported = 0
        size = self._outlet.write(value, self._reported)
        self._send_scheduler(REPORT, size=size, number=self._reported)
        self._reported += size
        self._unread += 1
        self._take_in(self._post.receive_nowait())
        self._call_back()

    def _may_report(self) -> bool:
        return not self._unread or (self._reported < _MOST_REPORTED and self._unread < _MOST_UNREAD)

    def flush(self) -> None:
        """Wait until everything this worker asked for is answered, and its callbacks have run."""
        while self._requests.under_way or self._requests.due:  # a callback may start more
            self._wait_until(lambda: not self._requests.under_way)
            self._call_back()

    # How a request is made: check, cut the keys, have the slots filled, announce.

    def _start(
        self, op: int, keys: Any, values: Any, rows: float, callback: Callback | None, out: np.ndarray | None
    ) -> int:
        self._call_back()
        if keys is None:
            count, cuts = self._shape.num_keys, self._bounds
            if not self._shape.dense_slots:
                raise UsageError(
                    "a request for all keys takes one of the Cluster's dense_slots, found 0; raise it, or "
                    "name the keys"
                )
        else:
            keys, cuts = self._cut(keys)
            count = len(keys)
            if count > self._shape.max_keys:
                raise UsageError(
                    f"a request has at most max_keys={self._shape.max_keys} keys, found {count}; "
                    f"raise max_keys of the Cluster, or use keys=None for all keys"
                )
        if op != PULL:
            if self.consistency.in_place:
                raise UsageError("pushes to a cluster with consistency=HOGWILD are made by push_in_place")
            values = matrix(values, count, self._shape.width)
            rows = positive("rows", rows)
        if not (callback is None or callable(callback)):
            raise UsageError(f"a callback is a function of the values, found {callback!r:.80}")
        if out is not None:
            out = writeable(out, count, self._shape.width, self._shape.dtype)
        requests, dense = self._requests, keys is None
        if not requests.has_slot(dense):
            self._wait_until(lambda: requests.has_slot(dense))
        request = requests.start(op, keys, values, cuts, rows, callback, out)
        for server in range(self.num_servers):
            self._post.send(*requests.announce(request, server))
            reach("worker: half announced")
        reach("worker: announced")
        return request.timestamp

    def _cut(self, keys: Any) -> tuple[np.ndarray, list[int]]:
        """Sorted keys do the work: server s has keys[cuts[s]:cuts[s + 1]]."""
        keys = sorted_keys(keys, self._bounds_array, self._cuts)
        return keys, self._cuts.tolist()

    # What comes in.

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            began = time.perf_counter()
            records = self._post.receive()
            self.seconds_waiting += time.perf_counter() - began
            self._pulse.beat()
            self._take_in(records)

    def _take_in(self, records: list[Record]) -> None:
        for record in records:
            if record.to != self._life:
                continue  # meant for a former life
            if record.op == ANSWER:
                self._requests.answer(record)
            elif record.op == WELCOME:
                for address, announcement in self._requests.welcome(record):
                    self._post.send(address, announcement)
            elif record.op == RELEASE:
                self._released = record.version, record.number
            elif record.op == READ:
                self._unread -= 1
            elif record.op == PART:
                self._parts_expected = record.size
                self._parts += [record.slot] * (record.size > 0)
            elif record.op == DIED:
                raise NodeDied(ROLES[record.slot], record.size, record.number)

    def _call_back(self) -> None:
        """Run the callbacks that are due, one at a time: one that calls `kv` does not start the next."""
        due = self._requests.due
        if self._requests.callbacks_expected:
            self._take_in(self._post.receive_nowait())
        if self._calling_back or not due:
            return
        self._calling_back = True
        try:
            while due:
                callback, values = due.popleft()
                callback(values)
        finally:
            self._calling_back = False

    def _send_scheduler(self, op: int, **fields: int) -> None:
        self._post.send((SCHEDULER, 0), Record(op, self.rank, life=self._life, **fields))
