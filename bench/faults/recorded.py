"""Simulated schedules that are recorded and repeated, under crashes both times: do they end with equal bits?

Workers compute what they push from what they pulled, and the updater divides by the delay, so that any other
order gives other bits.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.faults.schedule import KEYS, Schedule, failure
from bench.faults.simulation import Node, Post
from shmps import ASYNC, BOUNDED, SYNC, Journal, Updater
from shmps.journal import digest_of
from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import Mailbox
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse, Status
from shmps.ps.messages import SERVER, Record
from shmps.ps.node import serve
from shmps.ps.schedule import Schedule as Order
from shmps.ps.scheduler.run import RESPAWN, Run
from shmps.ps.server.recorder import StreamRecorder
from shmps.ps.server.redo_log import RedoLog, start_replica
from shmps.ps.server.server import Server
from shmps.ps.worker.kv import KVWorker
from shmps.system.failpoints import RECORDER_PLACES
from shmps.system.memory import carve

PUSHES = 6


class ByDelay(Updater):
    """Divide a gradient by its delay."""

    def update(self, keys, gradient, values, state, step) -> None:
        values += gradient / (1 + step.delay)


class Stream:
    """See `shmps.ps.server.recorder.Stream`."""

    def __init__(self) -> None:
        self._data = bytearray()

    def append(self, data: bytes) -> None:
        self._data += data

    def read(self) -> bytes:
        return bytes(self._data)

    def cut(self, size: int) -> None:
        del self._data[size:]


class RecordedSchedule(Schedule):
    """A schedule that leaves a journal. problem: the seed of what workers compute.

    journal: of a run to repeat. Otherwise the run is one of the seed, which may be stopped.
    """

    crash_places = (*Schedule.crash_places, *RECORDER_PLACES)

    def __init__(
        self,
        seed: int,
        problem: int,
        journal: Journal | None = None,
        trace: Callable[[str], None] | None = None,
    ):
        super().__init__(seed, trace)
        choose, self.problem = self.random.choice, problem
        self.runs, self.removal, self.policy, self.join_at = 1, 0.0, RESPAWN, None
        self.consistency: Consistency = choose(_MODES)
        self.haste_to_stop = choose((0.0, 0.0, 0.01)) if journal is None else 0.0
        if journal is not None:
            self.workers, self.servers, self.consistency = (
                journal.workers,
                journal.servers,
                journal.consistency,
            )
        replicas = choose((0, 1)) if self.servers > 1 else 0
        self.shape = Shape(KEYS, 1, 0, self.servers, self.workers, KEYS, replicas, dense_slots=3)
        fields = self.shape.parameter_fields(), self.shape.mailbox_fields()
        parameters, self.arrays = (carve(each, bytearray(carve(each)[1]))[0] for each in fields)
        self.parameters = Parameters(self.shape, parameters)
        if replicas:
            start_replica(self.parameters)
        self.streams = [Stream() for _ in range(self.servers)]

    def _serve(self, rank: int, life: int) -> None:
        mailboxes = [Mailbox(self.arrays, self.shape, worker, rank) for worker in range(self.shape.workers)]
        redo = RedoLog(self.parameters, rank)
        recorder = StreamRecorder(self.streams[rank], redo.committed)
        server = Server(rank, life, self.parameters, redo, mailboxes, self.consistency, ByDelay(), recorder)
        serve(server, Post(self, (SERVER, rank), life), Pulse(self.arrays, self.shape, SERVER, rank))

    def _run(self) -> Run:
        return replace(super()._run(), function=compute)

    def step(self, may_idle: bool) -> tuple[list[Record], list[Node]]:
        if self.haste_to_stop and self.random.random() < self.haste_to_stop:
            Status(self.parameters, self.arrays).stop()
        return super().step(may_idle)

    def check_server(self, server: int) -> None:
        """Check nothing on the way: the sums are not known beforehand."""

    def _check_end(self) -> None:
        """Check nothing: see `repeated`."""

    def journal(self) -> Journal:
        """Return the journal of the run, as `Cluster.journal` does."""
        status = Status(self.parameters, self.arrays)
        order = Order.of(
            [stream.read() for stream in self.streams], self.parameters.versions.tolist(), status.stops()
        )
        mode = Consistency(self.consistency.bound, self.consistency.hold_pushes)
        digest = digest_of(self.parameters.copy(self.workers))
        return Journal(order, mode, self.servers, self.workers, KEYS, 1, complete=True, digest=digest)


_MODES = [replace(mode, recorded=True) for mode in (SYNC, BOUNDED(0), BOUNDED(1), ASYNC, ASYNC)]


def compute(kv: KVWorker, schedule: RecordedSchedule) -> None:
    """Pull and push in every form. What is pushed depends on what was pulled before it."""
    carried: np.ndarray | None = None  # what the last push also pulled
    for number in range(1, PUSHES + 1):
        if kv.stopping and number > kv.resumed:
            return
        random, before = (
            np.random.default_rng([schedule.problem, kv.rank, at]) for at in (number, number - 1)
        )
        keys, kind = _keys_and_kind(random)
        if number <= kv.resumed:
            continue
        known = 0.0
        if number > 1 and (last := _keys_and_kind(before))[1] == "push and pull":
            known = float((kv.pull(last[0]) if carried is None else carried).sum())
        carried = None
        ignored = []
        if kind == "two pulls":
            known += float(kv.pull(None).sum())
        if kind == "a pull that is not awaited":
            ignored.append(kv.start_pull(keys[:1]))
        known += float(kv.pull(keys).sum())
        gradient = np.sin(known + np.arange(len(keys)) + kv.rank)
        if kind == "push and pull":
            carried = kv.push_pull(keys, gradient)
        elif random.random() < 0.5:
            kv.push(keys, gradient)
        else:
            kv.start_push(keys, gradient)
    if _keys_and_kind(np.random.default_rng([schedule.problem, kv.rank, PUSHES]))[1] != "push and pull":
        kv.read()


def _keys_and_kind(random: np.random.Generator) -> tuple[np.ndarray, str]:
    keys = np.flatnonzero(random.random(KEYS) < 0.5)
    keys = keys if len(keys) else np.array([0])
    return keys, str(random.choice(["pull", "two pulls", "push and pull", "a pull that is not awaited"]))


def repeated(seed: int, trace: Callable[[str], None] | None = None) -> str:
    """Record a schedule and repeat it under other seeds; return what went wrong, or ""."""
    first = RecordedSchedule(seed, seed, trace=trace)
    if what := failure(first):
        return what
    journal = first.journal()
    if fault := journal.schedule.fault(journal.servers, journal.workers):
        return fault
    for other in (seed + 1, seed + 2):
        again = RecordedSchedule(other, seed, journal, trace)
        if what := failure(again):
            return f"repeated under {other}: {what}"
        own = again.journal()
        if own.digest != journal.digest or not np.array_equal(own.pushes, journal.pushes):
            return f"repeated under {other}: other bits"
        # A worker that stops may have died before the pulls that no push depends on.
        last = np.array([journal.schedule.last.get(rank, 0) for rank in range(journal.workers)])
        used = journal.pulls[journal.pulls["number"] < last[journal.pulls["worker"]]]
        if not np.isin(used, own.pulls).all():
            return f"repeated under {other}: other pulls"
    return ""
