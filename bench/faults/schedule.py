"""One schedule of `faults`: a cluster in a random order, its workers' requests, and the promises.

All code from `Scheduler.run` to `RedoLog` is that of the package. Workers push whole numbers that are known
beforehand, so that every sum can be recomputed to the last bit.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from bench.faults.simulation import Engine, Simulated, Simulation
from shmps import ASYNC, BOUNDED, SYNC, Cluster
from shmps.errors import UsageError
from shmps.ps.events import Event
from shmps.ps.messages import GROUPS, WORKER
from shmps.ps.scheduler.membership import BEGINNING, Place
from shmps.ps.scheduler.run import CONTINUE, RESPAWN
from shmps.ps.worker.kv import KVWorker

KEYS, PUSHES, PUSHES_PER_EPOCH = 7, 4, 2


class Schedule(Simulation):
    """The events that follow from one seed, and the checks of the promises."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None):
        super().__init__(seed, trace)
        choose = self.random.choice
        self.workers, self.servers = choose((1, 2, 2, 3)), choose((1, 2, 2, 3))
        self.runs = choose((1, 1, 1, 1, 1, 2))
        self.consistency = choose((SYNC, BOUNDED(choose((0, 1, 2))), ASYNC))
        self.policy, self.join_at = choose((RESPAWN, RESPAWN, CONTINUE)), choose((None, 1))
        self.removal = choose((0.0, 0.0, 0.1))  # probability at each pause of the scheduler
        self.barriers = (0, 0, 1, 2)[seed % 4]  # in each epoch, and one before the first
        self.lag, self.echo = choose((0.0, 0.2, 0.7)), choose((0.0, 0.1))
        self.crashes_left, self.haste = choose((0, 1, 2, 3, 4)), choose((0.02, 0.1))
        self.most_workers = self.workers + (self.join_at is not None)
        self.replicas = choose((0, 1)) if self.servers > 1 else 0
        numbers, size = np.random.default_rng(seed), (self.most_workers, PUSHES + 1, KEYS)
        self.dense = numbers.random(size[:2]) < 0.3
        self.touched = (numbers.random(size) < 0.4) | self.dense[:, :, None]
        self.deltas = numbers.integers(1, 10**6, size) * self.touched * 1.0  # by rank and push 1, 2, ...
        self.sums = np.zeros(size)  # of the pushes that were made: see `make`
        self.gone: set[int] = set()  # ranks that have left or were given up
        self.function: Callable[[KVWorker, Any], None] = ask

    def play(self) -> None:
        """Run the schedule. Raises Wrong, or what the package raises, if a promise is broken."""
        with self.made() as cluster:
            self.cluster = cluster
            for _ in range(self.runs):
                self._begin(int(self.parameters.done.max()))
                cluster.run(
                    self.function,
                    self,
                    on_report=self._reported,
                    on_event=self._happened,
                    on_pause=self.interfere,
                    on_worker_death=self.policy,
                    join_at=self.join_at,
                )
                self.check_end()
            self.must(not cluster.replica_differences(), "a replica differs")

    def made(self, **given: Any) -> Cluster:
        """Return the cluster of the schedule."""
        return Cluster(
            KEYS,
            servers=self.servers,
            workers=self.workers,
            max_workers=self.most_workers,
            consistency=self.consistency,
            max_keys=KEYS,
            replicas=self.replicas,
            engine=Simulated(self),
            **given,
        )

    def begin(self, engine: Engine) -> None:
        self.parameters, self.committed = engine.parameters(), engine.committed
        self.bounds = self.parameters.shape.bounds

    def _begin(self, tick: int) -> None:
        self.tick, self.gone = tick, set()
        self.base, self.base_versions = self.parameters.weights[:, 0].copy(), self.parameters.versions.copy()
        self.first = dict.fromkeys(range(self.workers), tick)  # the clock at which each rank entered
        self.reported: dict[int, tuple[int, int]] = {}  # of each rank the life and number of the last
        self.handed_over: dict[int, tuple[int, int]] = {}
        self.places: dict[int, Place] = {}  # the last barrier that each rank came to
        # By server and version: the applied pushes of each rank, and the weights.
        self.states: list[dict[int, tuple[list[int], np.ndarray]]] = [{} for _ in range(self.servers)]
        for server in range(self.servers):
            self.check_server(server)
        self.say(
            f"a run: {self.workers} workers from tick {tick}, {self.servers} servers, {self.consistency}"
        )

    def interfere(self) -> None:
        """Perhaps remove a worker. Called now and then."""
        if self.random.random() < self.removal and self.most_workers > 1:
            rank = self.random.randrange(1, self.most_workers)
            with suppress(UsageError):  # it is not there
                self.cluster.remove_worker(rank)
                self.gone.add(rank)

    def may_die(self, node: Any) -> bool:
        """Spare the last worker that could go on."""
        last = node.role == WORKER and node.rank == 0 and self.policy == CONTINUE
        return super().may_die(node) and not last

    def _happened(self, event: Event) -> None:
        self.say(event.role, event.rank, event.what, "at tick", event.tick, event.outcome)
        if event.what == "joined":
            self.first[event.rank] = event.tick
        if event.outcome == "its rows go to the others":
            self.gone.add(event.rank)

    def report(self, kv: KVWorker) -> None:
        """Report the life of a worker and the number of its report."""
        life, number = self.reported.get(kv.rank, (0, 0))
        self.reported[kv.rank] = report = kv.life, number + 1 if life == kv.life else 1
        kv.report(report)

    def _reported(self, rank: int, report: tuple[int, int]) -> None:
        """The reports of a life come in order, and none is left out."""
        (life, number), (before, last) = report, self.handed_over.get(rank, (0, 0))
        in_order = (life > before and number == 1) or (life == before and number == last + 1)
        self.must(in_order, f"a report of worker {rank} came out of order", report, (before, last))
        self.handed_over[rank] = report

    def make(self, rank: int, number: int, life: int) -> np.ndarray:
        """Make the values of a push, different ones in every life. Only the last were committed and count."""
        values = self.deltas[rank, number] * life
        self.sums[rank, number] = self.sums[rank, number - 1] + values
        return values

    # The promises.

    def wait_for_all(self, kv: KVWorker, ranks: list[int], before: Place) -> Place:
        """Let a worker wait at its next barrier, which may open only when all of `ranks` have come to it."""
        epoch, count = before
        place = epoch, count + 1
        self.places[kv.rank] = max(place, self.places.get(kv.rank, place))
        kv.barrier(self.random.choice(GROUPS))
        late = [rank for rank in ranks if rank not in self.gone and self.places.get(rank, BEGINNING) < place]
        self.must(not late, f"the barrier {place} of worker {kv.rank} opened before all were there", late)
        return place

    def check_server(self, server: int) -> None:
        """Check that the weights are the sum of the pushes in `done`, each once (sync: of whole ticks)."""
        version, done = int(self.parameters.versions[server]), self.parameters.done[server].tolist()
        begin, end = self.bounds[server : server + 2]
        found = self.parameters.weights[begin:end, 0]
        known = self.states[server].get(version)
        if known is not None and known[0] == done and np.array_equal(found, known[1]):
            return
        weights, applied = self.base[begin:end].copy(), 0
        tick = self.tick + version - int(self.base_versions[server])  # in sync mode
        for rank, first in self.first.items():
            committed, last = max(int(self.committed[rank]), first), max(done[rank], first)
            self.must(last <= committed, f"server {server} knows of more pushes than were made", rank, done)
            if self.consistency == SYNC:
                self.must(
                    last == max(first, min(tick, committed)), f"server {server} tore a tick", tick, done
                )
            applied += last - first
            sums = self.sums[rank, :, begin:end]
            if last > first:
                weights += sums[last - self.tick] - sums[first - self.tick]
        if self.consistency != SYNC:
            self.must(
                self.base_versions[server] + applied == version, "versions are not pushes", version, done
            )
        self.must(np.array_equal(found, weights), f"server {server} has other weights", found, weights)
        self.must(known is None or np.array_equal(known[1], weights), "one version, two states", version)
        self.states[server][version] = done, weights

    def check_pull(
        self, rank: int, keys: np.ndarray, number: int, seen: list[int], values: np.ndarray
    ) -> None:
        """Check that the values are, for each server, those of a state as new as the worker had seen."""
        bounds, cuts = self.bounds, np.searchsorted(keys, self.bounds)
        for server, states in enumerate(self.states):
            mine = slice(cuts[server], cuts[server + 1])
            places = keys[mine] - bounds[server]
            self.must(
                any(
                    version >= seen[server]
                    and done[rank] >= number
                    and self._within_bound(done, number)
                    and np.array_equal(weights[places], values[mine])
                    for version, (done, weights) in states.items()
                ),
                f"worker {rank} pulled what never was at server {server}", keys[mine], values[mine],
            )  # fmt: skip

    def _within_bound(self, done: list[int], number: int) -> bool:
        clocks = [
            done[rank] for rank, first in self.first.items() if rank not in self.gone and done[rank] >= first
        ]
        return number - min(clocks) <= self.consistency.bound

    def check_acknowledged(self, rank: int, number: int) -> None:
        self.must((self.parameters.done[:, rank] >= number).all(), f"worker {rank} lost its push", number)

    def check_end(self) -> None:
        """Check that every push is applied, and every report handed over."""
        for rank, first in self.first.items():
            committed = max(int(self.committed[rank]), first)
            self.must(
                (self.parameters.done[:, rank] == committed).all(), f"worker {rank} is not all in", committed
            )
            life, number = self.reported.get(rank, (0, 0))
            if life == self.nodes[WORKER, rank].life:  # the reports of a dead worker may be lost
                self.must(
                    self.handed_over.get(rank) == (life, number), f"worker {rank} lost a report", number
                )
            self.must(
                rank in self.gone or committed == self.tick + PUSHES, f"worker {rank} stopped", committed
            )
        for server in range(self.servers):
            self.check_server(server)


def ask(kv: KVWorker, schedule: Schedule) -> None:
    """Push in epochs, with the barriers that the schedule has in each. The function of every worker.

    A respawned worker goes on in the epoch of the last push. A newcomer looks for its epoch.
    """
    # Pushes up to here; of the others for a newcomer.
    made = schedule.first[kv.rank] - schedule.tick + kv.resumed
    newcomer = kv.rank >= schedule.workers
    if schedule.barriers:
        schedule.wait_for_all(kv, list(range(schedule.workers)), BEGINNING)
    for epoch in range(0 if newcomer else max(made - 1, 0) // PUSHES_PER_EPOCH, PUSHES // PUSHES_PER_EPOCH):
        ranks = kv.ranks(epoch)
        if kv.rank in ranks:
            newcomer = False
        elif newcomer:
            continue
        else:
            return
        place = epoch, 0
        for number in range(epoch * PUSHES_PER_EPOCH + 1, (epoch + 1) * PUSHES_PER_EPOCH + 1):
            if number > made:
                push_and_pull(kv, schedule, number)
            if schedule.random.random() < 0.2:
                schedule.report(kv)
            if number % PUSHES_PER_EPOCH < schedule.barriers:
                place = schedule.wait_for_all(kv, ranks, place)


def push_and_pull(kv: KVWorker, schedule: Schedule, number: int) -> None:
    """Make push `number` in one of several ways, perhaps after a pull. Do not always wait for them."""
    kind = schedule.random.choice(("push", "push_pull", "pull and push"))
    if kind == "pull and push":
        dense = schedule.random.random() < 0.3
        keys = np.arange(KEYS) if dense else np.flatnonzero(schedule.touched[kv.rank, number - 1])
        begin(kv, schedule, kv.start_pull, dense, keys, kv.pushes)
    dense, keys = schedule.dense[kv.rank, number], np.flatnonzero(schedule.touched[kv.rank, number])
    values = schedule.make(kv.rank, number, kv.life)[keys]
    start = kv.start_push_pull if kind == "push_pull" else kv.start_push
    begin(kv, schedule, start, dense, keys, kv.pushes + 1, values)


def begin(kv, schedule, start, dense, keys, number, *values) -> None:
    seen = kv.versions

    def check(answer) -> None:
        if start != kv.start_push:
            schedule.check_pull(kv.rank, keys, number, seen, answer)
        if values:
            schedule.check_acknowledged(kv.rank, number)

    timestamp = start(None if dense else keys, *values, callback=check)
    if (then := schedule.random.random()) < 0.3:
        kv.wait(timestamp)
    elif then < 0.5:
        kv.sleep(0)  # records come meanwhile


def failure(schedule: Schedule) -> str:
    """Play a schedule; return what went wrong, or an empty text."""
    try:
        schedule.play()
    except Exception as last:
        error: BaseException = last
        while inner := error.__cause__ or error.__context__:  # what went wrong first
            error = inner
        return f"{type(error).__name__}: {error}"
    return ""
