"""The state of a run: what its workers ask of the scheduler, and what the servers are told of them."""

import collections
from collections.abc import Callable
from typing import Any

from shmps.errors import WorkerFailed
from shmps.ps.engine import Node
from shmps.ps.events import Event
from shmps.ps.messages import (
    BARRIER,
    ENTER,
    EPOCH,
    FAILED,
    LEAVE,
    PART,
    READ,
    RELEASE,
    REPORT,
    RESULT,
    SERVER,
    START,
    WORKER,
    Record,
)
from shmps.ps.scheduler.membership import Barrier, Deaths, Division, Place
from shmps.ps.scheduler.nodes import Nodes
from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN, Run


class RunState:
    """How far a run is: barriers, the division of the rows, reports, results; its workers' lives and deaths.

    results: of the workers that have finished, by rank. What happens to workers `happened` is told.
    """

    def __init__(self, run: Run, nodes: Nodes, happened: Callable[[Event], None]):
        ranks = range(run.workers)
        self.results: dict[int, Any] = {}
        self.division = Division(ranks)
        if run.join_at is not None:
            self.division.join(run.workers, run.join_at)
        self.on_event, self.on_pause = run.on_event, run.on_pause
        self._run, self._nodes, self._happened = run, nodes, happened
        self._entered = dict.fromkeys(ranks, run.tick)  # rank -> the tick at which it came in
        self._lives = {rank: nodes.next_life() for rank in ranks}
        self._barrier, self._openings_told = Barrier(ranks), 0
        self._reports: collections.deque[tuple[Record, Any]] = collections.deque()
        self._deaths = Deaths()
        self._abandoned: set[int] = set()

    def begin(self) -> None:
        for rank in range(self._run.workers):
            self._start_worker(rank, self._run.function)

    @property
    def goes_on(self) -> bool:
        return len(self.results) < len(self._entered) or self.has_reports

    def fall_silent(self) -> None:
        """The run has ended: what was reported last is nobody's, whose callback may have raised."""
        self._reports.clear()
        self.on_pause = lambda: None

    @property
    def next_rank(self) -> int:
        """The rank of the next worker to be added."""
        return max((*self._entered, *self.division.latest)) + 1

    def remove_worker(self, rank: int) -> None:
        """It leaves with the next epoch."""
        self.division.leave(rank)
        self._happened(Event("left", "worker", rank, self._nodes.overview.tick, at=self._nodes.now()))

    def _start_worker(self, rank: int, function: Callable[..., Any]) -> None:
        run = self._run
        self._nodes.launch(WORKER, rank, self._lives[rank], run.body, self._entered[rank], function, run.args)

    # What the servers are told.

    def tell(self, server: int) -> None:
        """All that a server, new or not, must know of the run."""
        self._nodes.send_server(server, Record(START, size=len(self._entered)))
        for worker in self._entered:
            self._tell_of_worker(server, worker)
        for worker in self.results:
            self._nodes.send_server(server, Record(LEAVE, slot=worker))

    def _tell_of_worker(self, server: int, worker: int) -> None:
        enter = Record(ENTER, slot=worker, timestamp=self._lives[worker], number=self._entered[worker])
        self._nodes.send_server(server, enter)

    # What the workers ask.

    def take_in(self, record: Record) -> None:
        """Raises WorkerFailed for a worker whose function has raised."""
        rank, node = record.sender, self._nodes.workers.get(record.sender)
        if node is None or record.life != node.life:
            return  # of a former life
        outlets = self._run.outlets[rank]
        if record.op == BARRIER:
            self._release(self._barrier.enter(rank, (record.version, record.number)))
        elif record.op == EPOCH:
            self._divide(record)
        elif record.op == REPORT:
            self._reports.append((record, outlets.reports.read(record.size, record.number)))
        elif record.op == RESULT:
            self.results[rank] = outlets.last_words.read(record.size)
            for server in self._nodes.servers:
                self._nodes.send_server(server, Record(LEAVE, slot=rank))
            self._release(self._barrier.finish(rank))
        elif record.op == FAILED:
            exception, text = outlets.last_words.read(record.size)
            self._nodes.break_off(WORKER, rank, 1)
            raise WorkerFailed(rank, text) from exception

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def hand_over_report(self) -> None:
        """Hand the oldest report to the callback; records are taken in again after it."""
        record, value = self._reports.popleft()
        self._nodes.post.send((WORKER, record.sender), Record(READ, to=record.life))
        self._run.on_report(record.sender, value)

    def _release(self, released: dict[int, Place]) -> None:
        if self._barrier.openings > self._openings_told:
            self._openings_told = self._barrier.openings
            self._run.on_barrier()
        for rank, (epoch, count) in released.items():
            self._nodes.send_worker(rank, Record(RELEASE, number=count, version=epoch))

    def _divide(self, asked: Record) -> None:
        """Answer who divides the rows in an epoch; who comes in because of it does so at the asker's tick.

        In sync mode no server can have applied a later tick, since the asker has not pushed it. The answer
        waits until the servers' pipes have taken the newcomer's records, so that every server reads of the
        newcomer before anything that the asker sends next. The scheduler goes on meanwhile: a server that
        hangs is replaced.
        """
        for rank in self.division.ask(asked.number):
            self._entered[rank], self._lives[rank] = asked.version, self._nodes.next_life()
            for server in self._nodes.servers:
                self._tell_of_worker(server, rank)
            self._barrier.add(rank, asked.number)
            self._start_worker(rank, self._run.function)
            self._happened(Event("joined", "worker", rank, asked.version, at=self._nodes.now()))
        ranks = self.division.ranks(asked.number)
        parts = [Record(PART, slot=rank, size=len(ranks), number=place) for place, rank in enumerate(ranks)]
        for part in parts or [Record(PART)]:
            self._nodes.post.send_behind(SERVER, (WORKER, asked.sender), part._replace(to=asked.life))

    # Deaths of workers.

    def lose(self, node: Node, exit_code: int) -> None:
        """A worker has died: another takes its place, unless it had finished.

        Raises NodeDied if the run is not to go on after that, or it has died too often.
        """
        rank, policy = node.rank, self._run.on_worker_death
        if rank in self.results:
            return
        others = set(self.division.latest) & self._entered.keys() - {rank}
        alone = policy == CONTINUE and not others
        progress = self._nodes.overview.clock(rank)
        if policy == FAIL or alone or self._deaths.one_too_many(WORKER, rank, progress):
            self._nodes.give_up(node, exit_code)
        self._replace(node, exit_code)

    def _replace(self, node: Node, exit_code: int) -> None:
        began, rank = self._nodes.now(), node.rank
        again = self._nodes.overview.unacknowledged(rank)
        goes_on = self._run.on_worker_death == RESPAWN and rank not in self._abandoned
        if not goes_on:
            self._abandoned.add(rank)
            self.division.leave(rank)
        node.close()
        self._lives[rank] = self._nodes.next_life()
        for server in self._nodes.servers:
            self._tell_of_worker(server, rank)
        self._start_worker(rank, self._run.function if goes_on else nobody)
        outcome = "started again" if goes_on else "its rows go to the others"
        tick = self._nodes.overview.tick
        event = Event(node.fate, "worker", rank, tick, exit_code, outcome, 0.0, again, began)
        self._happened(event.took(self._nodes.now() - began))


def nobody(kv: Any, *args: Any) -> None:
    """What takes the place of a worker that is given up: its committed pushes are completed, no more."""
