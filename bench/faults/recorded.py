"""Simulated schedules that are recorded and repeated, under crashes both times: do they end with equal bits?

Workers compute what they push from what they pulled, and the updater divides by the delay, so that any other
order gives other bits.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench.faults.schedule import KEYS, Schedule, failure
from shmps import ASYNC, BOUNDED, SYNC, Cluster, Journal, Updater
from shmps.ps.consistency import Consistency
from shmps.ps.scheduler.run import RESPAWN
from shmps.ps.worker.kv import KVWorker
from shmps.system.failpoints import RECORDER_PLACES

PUSHES = 6


class ByDelay(Updater):
    """Divide a gradient by its delay."""

    def update(self, keys, gradient, values, state, step) -> None:
        values += gradient / (1 + step.delay)


class RecordedSchedule(Schedule):
    """A schedule that leaves a `journal`.

    problem: the seed of what workers compute. known: the journal of a run to repeat. Otherwise the run is one
    of the seed, which may be stopped.
    """

    crash_places = (*Schedule.crash_places, *RECORDER_PLACES)

    def __init__(
        self,
        seed: int,
        problem: int,
        known: Journal | None = None,
        trace: Callable[[str], None] | None = None,
    ):
        super().__init__(seed, trace)
        choose, self.problem = self.random.choice, problem
        self.runs, self.removal, self.policy, self.join_at = 1, 0.0, RESPAWN, None
        self.consistency: Consistency = choose(_MODES)
        self.haste_to_stop = choose((0.0, 0.0, 0.1)) if known is None else 0.0
        if known is not None:
            self.workers, self.servers = known.workers, known.servers
            self.consistency = known.consistency
        self.most_workers, self.replicas = self.workers, choose((0, 1)) if self.servers > 1 else 0
        self.function = compute

    def made(self, **given: Any) -> Cluster:
        return super().made(updater=ByDelay(), dense_slots=3, **given)

    def interfere(self) -> None:
        """Perhaps stop the run."""
        if self.random.random() < self.haste_to_stop:
            self.cluster.stop()

    def check_server(self, server: int) -> None:
        """Check nothing on the way: the sums are not known beforehand."""

    def check_end(self) -> None:
        self.journal = self.cluster.journal()


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
    journal = first.journal
    if fault := journal.schedule.fault(journal.servers, journal.workers):
        return fault
    for other in (seed + 1, seed + 2):
        again = RecordedSchedule(other, seed, journal, trace)
        if what := failure(again):
            return f"repeated under {other}: {what}"
        own = again.journal
        if own.digest != journal.digest or not np.array_equal(own.pushes, journal.pushes):
            return f"repeated under {other}: other bits"
        # A worker that stops may have died before the pulls that no push depends on.
        last = np.array([journal.schedule.last.get(rank, 0) for rank in range(journal.workers)])
        used = journal.pulls[journal.pulls["number"] < last[journal.pulls["worker"]]]
        if not np.isin(used, own.pulls).all():
            return f"repeated under {other}: other pulls"
    return ""
