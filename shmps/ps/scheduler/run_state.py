"""The state of one run: answers to workers' questions, results, and the replacement of workers that die."""

import collections
from collections.abc import Callable
from typing import Any, ClassVar

from shmps.errors import WorkerFailed
from shmps.ps.events import Event
from shmps.ps.messages import (
    SERVER,
    WORKER,
    AskRanks,
    AtBarrier,
    Enter,
    Failed,
    HandedOver,
    Leave,
    Record,
    Release,
    Report,
    Result,
    Sharer,
    Start,
)
from shmps.ps.scheduler.deaths import Death, Deaths
from shmps.ps.scheduler.membership import Barrier, Division, Place
from shmps.ps.scheduler.nodes import Nodes
from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN, Run


class RunState:
    """Barriers, the division of the rows, reports and results of a run; lives and deaths of its workers.

    results: the results of the workers that have finished, by rank.
    happened: called with an Event when a worker is replaced, joins or leaves.
    """

    def __init__(self, run: Run, nodes: Nodes, happened: Callable[[Event], None]):
        ranks = range(run.workers)
        self.results: dict[int, Any] = {}
        self.division = Division(ranks)
        if run.join_at is not None:
            self.division.join(run.workers, run.join_at)
        self.on_event, self.on_pause = run.on_event, run.on_pause
        self._run, self._nodes, self._happened = run, nodes, happened
        self._entered = dict.fromkeys(ranks, run.tick)  # rank -> the tick at which it entered
        self._lives = {rank: nodes.next_life() for rank in ranks}
        self._barrier, self._openings_told = Barrier(ranks), 0
        self._reports: collections.deque[tuple[int, int, Any]] = collections.deque()  # rank, life, value
        self._deaths = Deaths()
        self._abandoned: set[int] = set()

    def begin(self) -> None:
        for rank in range(self._run.workers):
            self._start_worker(rank, self._run.function)

    @property
    def goes_on(self) -> bool:
        return len(self.results) < len(self._entered) or self.has_reports

    def fall_silent(self) -> None:
        """Drop the reports that were not handed over, after the end of the run or an error of a callback."""
        self._reports.clear()
        self.on_pause = lambda: None

    @property
    def next_rank(self) -> int:
        """The rank of the next worker to be added."""
        return max((*self._entered, *self.division.latest)) + 1

    def remove_worker(self, rank: int) -> None:
        """Leave a worker out from the next epoch on."""
        self.division.leave(rank)
        self._happened(Event("left", "worker", rank, self._nodes.status.tick, at=self._nodes.now()))

    def _start_worker(self, rank: int, function: Callable[..., Any]) -> None:
        run = self._run
        self._nodes.launch(WORKER, rank, self._lives[rank], run.body, self._entered[rank], function, run.args)

    # Tell the servers.

    def tell(self, server: int) -> None:
        """Tell a server, which may be new, everything about the run."""
        self._nodes.send_server(server, Start(len(self._entered)))
        for worker in self._entered:
            self._tell_of_worker(server, worker)
        for worker in self.results:
            self._nodes.send_server(server, Leave(worker))

    def _tell_of_worker(self, server: int, worker: int) -> None:
        self._nodes.send_server(server, Enter(worker, self._lives[worker], self._entered[worker]))

    # Answer the workers.

    def take_in(self, record: Record, message: Any) -> None:
        """Handle a worker's message. Raises WorkerFailed if the worker's function has raised."""
        rank, node = record.sender, self._nodes.workers.get(record.sender)
        if node is not None and record.life == node.life:
            self._handlers[type(message)](self, rank, message)

    def _enter_barrier(self, rank: int, at: AtBarrier) -> None:
        self._release(self._barrier.enter(rank, (at.epoch, at.number)))

    def _keep_report(self, rank: int, report: Report) -> None:
        value = self._run.channels[rank].reports.read(report.size, report.offset)
        self._reports.append((rank, self._lives[rank], value))

    def _finish(self, rank: int, result: Result) -> None:
        self.results[rank] = self._run.channels[rank].outcome.read(result.size)
        for server in self._nodes.servers:
            self._nodes.send_server(server, Leave(rank))
        self._release(self._barrier.finish(rank))

    def _fail(self, rank: int, failed: Failed) -> None:
        exception, text = self._run.channels[rank].outcome.read(failed.size)
        self._nodes.break_off(WORKER, rank, 1)
        raise WorkerFailed(rank, text) from exception

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def hand_over_report(self) -> None:
        """Give the oldest report to the callback, and tell the worker: it waits while too many are kept."""
        rank, life, value = self._reports.popleft()
        self._nodes.post.send((WORKER, rank), Record.of(HandedOver(), to=life))
        self._run.on_report(rank, value)

    def _release(self, released: dict[int, Place]) -> None:
        if self._barrier.openings > self._openings_told:
            self._openings_told = self._barrier.openings
            self._run.on_barrier()
        for rank, place in released.items():
            self._nodes.send_worker(rank, Release(*place))

    def _divide(self, rank: int, asked: AskRanks) -> None:
        """Tell a worker which ranks share the rows in an epoch. Newcomers of the epoch enter at its tick.

        In sync mode no server can have applied a later tick, since the worker that asks has not pushed it.
        The answer waits until the servers' pipes have taken the newcomer's records, so that every server
        reads of the newcomer before anything that the asking worker sends next. The scheduler does not wait:
        it replaces a server that hangs.
        """
        for newcomer in self.division.ask(asked.epoch):
            self._entered[newcomer], self._lives[newcomer] = asked.tick, self._nodes.next_life()
            for server in self._nodes.servers:
                self._tell_of_worker(server, newcomer)
            self._barrier.add(newcomer, asked.epoch)
            self._start_worker(newcomer, self._run.function)
            self._happened(Event("joined", "worker", newcomer, asked.tick, at=self._nodes.now()))
        ranks = self.division.ranks(asked.epoch)
        for part in [Sharer(each, len(ranks)) for each in ranks] or [Sharer(0, 0)]:
            record = Record.of(part, to=self._lives[rank])
            self._nodes.post.send_behind(SERVER, (WORKER, rank), record)

    _handlers: ClassVar[dict[type, Callable[..., None]]] = {
        AtBarrier: _enter_barrier, AskRanks: _divide, Report: _keep_report, Result: _finish, Failed: _fail,
    }  # fmt: skip

    # Deaths of workers.

    def lose(self, death: Death) -> None:
        """Replace a worker that has died, unless it had finished.

        Raises NodeDied if the run may not go on after the death, or the worker has died too often.
        """
        rank, policy = death.node.rank, self._run.on_worker_death
        if rank in self.results:
            return
        others = set(self.division.latest) & self._entered.keys() - {rank}
        alone = policy == CONTINUE and not others
        progress = self._nodes.status.clock(rank)
        if policy == FAIL or alone or self._deaths.one_too_many(death.node, progress):
            self._nodes.give_up(death)
        self._replace(death)

    def _replace(self, death: Death) -> None:
        began, rank = self._nodes.now(), death.node.rank
        again = self._nodes.status.unacknowledged(rank)
        goes_on = self._run.on_worker_death == RESPAWN and rank not in self._abandoned
        if not goes_on:
            self._abandoned.add(rank)
            self.division.leave(rank)
        self._lives[rank] = self._nodes.next_life()
        for server in self._nodes.servers:
            self._tell_of_worker(server, rank)
        self._start_worker(rank, self._run.function if goes_on else nobody)
        outcome = "started again" if goes_on else "its rows go to the others"
        tick = self._nodes.status.tick
        event = Event(death.what, "worker", rank, tick, death.exit_code, outcome, None, again, began)
        self._happened(event.took(self._nodes.now() - began))


def nobody(kv: Any, *args: Any) -> None:
    """Take the place of a worker that is given up: complete its committed pushes, and do no more."""
