"""The scheduler: starts the nodes, releases barriers, watches for death. Never on the path of a push."""

import collections
import select
import time
from collections.abc import Callable
from typing import Any

from shmps.errors import NodeDied, UsageError, WorkerFailed
from shmps.messages import (
    ALL,
    BARRIER,
    DIED,
    FAILED,
    GROUPS,
    READ,
    RELEASE,
    REPORT,
    RESULT,
    SCHEDULER,
    SERVER,
    START,
    WORKER,
    WORKERS,
    Record,
)
from shmps.nodes import Lifeline, Node, end
from shmps.outlet import Outlets
from shmps.transport import Address, Inboxes, Post

_GRACE = 3.0  # seconds that workers have to end by themselves after their result, or a death
_PAUSE = 0.1  # seconds between two calls of `on_pause`
_SETTLED = -1  # the number of the barrier that the servers are asked for after a run

OnReport = Callable[[int, Any], None]


class Barriers:
    """Who waits for whom: a state machine without I/O.

    A barrier is a set of ranks with a generation. The workers' opens when all of them that have not finished
    are in it; that of all nodes then asks the servers, and opens when they have answered too.
    """

    def __init__(self, workers: int, servers: int):
        self._live = set(range(workers))
        self._servers = servers
        self._workers_in: dict[str, dict[int, int]] = {
            group: {} for group in GROUPS
        }  # rank -> its generation
        self._servers_in: set[int] = set()
        self._asking = False

    def enter(self, role: int, rank: int, group: str, generation: int) -> list[tuple[Address, Record]]:
        """A node arrives; what is to be sent."""
        if role == WORKER:
            self._workers_in[group][rank] = generation
        elif self._asking:
            self._servers_in.add(rank)
        return self._advance()

    def finished(self, rank: int) -> list[tuple[Address, Record]]:
        """A worker has finished its function: nobody waits for it; what is to be sent."""
        self._live.discard(rank)
        return self._advance()

    def _advance(self) -> list[tuple[Address, Record]]:
        sent = []
        for group, waiting in self._workers_in.items():
            if not waiting or not self._live <= waiting.keys():
                continue
            if group == ALL and not self._asking:
                self._asking = True
                sent += [((SERVER, s), Record(BARRIER, size=GROUPS.index(ALL))) for s in range(self._servers)]
            if group == WORKERS or len(self._servers_in) == self._servers:
                sent += self._release(group)
        if (
            not sent
            and not self._asking
            and self._live
            and self._live <= set().union(*self._workers_in.values())
        ):
            raise UsageError(
                "workers wait in one barrier at a time, found some in the workers' and the others in that of "
                "all nodes: none can open; let every worker name the same group"
            )
        return sent

    def _release(self, group: str) -> list[tuple[Address, Record]]:
        waiting, self._workers_in[group] = self._workers_in[group], {}
        if group == ALL:
            self._asking, self._servers_in = False, set()
        return [
            ((WORKER, rank), Record(RELEASE, size=GROUPS.index(group), number=generation))
            for rank, generation in waiting.items()
        ]


class Scheduler:
    """Runs the nodes of one cluster. It has no thread of its own: it watches while `run` waits for workers.

    Nobody waits for a node between two runs; a server that died then is noticed by the next call.
    """

    def __init__(self, context: Any, inboxes: Inboxes):
        self._context, self._inboxes = context, inboxes
        self._lifeline = Lifeline()
        self._post = Post(inboxes, (SCHEDULER, 0))
        self._servers: list[Node] = []
        self._workers: list[Node] = []
        self._run = 0

    def start_server(self, rank: int, body: Callable[..., None], *args: Any) -> None:
        self._servers.append(Node(self._context, SERVER, rank, self._lifeline, body, *args))
        self._servers[-1].start()

    def check_servers(self) -> None:
        """Raises NodeDied if one has ended."""
        for node in self._servers:
            if node.exit_code is not None:
                raise NodeDied("server", node.rank, node.exit_code)

    def run(
        self,
        outlets: list[Outlets],
        tick: int,
        on_report: OnReport,
        on_pause: Callable[[], None],
        body: Callable[..., None],
        *args: Any,
    ) -> list[Any]:
        """`body(rank, run, *args)` in a new process per worker; their results in rank order.

        The workers' clocks start at `tick`. Raises NodeDied, or WorkerFailed from the worker's exception.
        """
        self.check_servers()
        self._run += 1
        for server in self._servers:
            self._post.send(
                (SERVER, server.rank), Record(START, size=len(outlets), number=tick, run=self._run)
            )
        try:
            for rank in range(len(outlets)):
                node = Node(self._context, WORKER, rank, self._lifeline, body, rank, self._run, *args)
                self._workers.append(node)  # before it starts: an interrupt in between must not lose it
                node.start()
            results = self._watch(outlets, on_report, on_pause)
            self._let_workers_end()
            return results
        finally:
            end(self._workers)
            self._settle()

    def _settle(self) -> None:
        """Until every server has handled what workers had sent: the parameters then stand still."""
        deaths = {node.death: node.rank for node in self._servers}
        ready = select.poll()
        for descriptor in (self._post.inbox, *deaths):
            ready.register(descriptor, select.POLLIN)
        for rank in deaths.values():
            self._post.send((SERVER, rank), Record(BARRIER, number=_SETTLED, run=self._run))
        missing = set(deaths.values())
        while missing:
            for descriptor, _ in ready.poll(1000 * _PAUSE):  # not for ever: a full pipe is to be tried again
                if descriptor in deaths:
                    ready.unregister(descriptor)
                    missing.discard(deaths[descriptor])
            for record in self._post.receive_nowait():
                if (record.op, record.number, record.run) == (BARRIER, _SETTLED, self._run):
                    missing.discard(record.sender)

    def close(self) -> None:
        end(self._workers + self._servers)
        self._lifeline.close()

    def _watch(self, outlets: list[Outlets], on_report: OnReport, on_pause: Callable[[], None]) -> list[Any]:
        """Until every worker has given its result: for a message or a death, never for one of them alone."""
        results: dict[int, Any] = {}
        barriers = Barriers(len(outlets), len(self._servers))
        deaths = {node.death: node for node in (*self._servers, *self._workers)}
        ready = select.poll()
        for descriptor in (self._post.inbox, *deaths):
            ready.register(descriptor, select.POLLIN)
        reports: collections.deque[Record] = collections.deque()
        paused = time.monotonic()
        while len(results) < len(outlets) or reports:
            descriptors = [descriptor for descriptor, _ in ready.poll(0 if reports else 1000 * _PAUSE)]
            # A worker's last words are in the inbox by the time its death is seen.
            for record in self._post.receive_nowait():
                if record.run != self._run:
                    continue  # left over from a run that was broken off
                if record.op == REPORT:
                    reports.append(record)
                else:
                    self._take_in(record, outlets, results, barriers)
            for node in filter(None, map(deaths.get, descriptors)):
                ready.unregister(node.death)
                if node.role == SERVER or node.rank not in results:
                    self._stop(node)
            if reports and not descriptors:  # what the caller does with one takes time: nobody waits for it
                self._hand_out(reports.popleft(), outlets, on_report)
            if time.monotonic() - paused >= _PAUSE:
                paused = time.monotonic()
                on_pause()
        return [results[rank] for rank in range(len(outlets))]

    def _take_in(
        self,
        record: Record,
        outlets: list[Outlets],
        results: dict[int, Any],
        barriers: Barriers,
    ) -> None:
        if record.op == BARRIER:
            role = SERVER if record.slot == SERVER else WORKER  # the servers say so
            self._send(barriers.enter(role, record.sender, GROUPS[record.size], record.number))
        elif record.op == RESULT:
            results[record.sender] = outlets[record.sender].last_words.read(record.size)
            self._send(barriers.finished(record.sender))
        elif record.op == FAILED:
            exception, text = outlets[record.sender].last_words.read(record.size)
            self._tell_workers(WORKER, record.sender, 1)
            raise WorkerFailed(record.sender, text) from exception

    def _hand_out(self, report: Record, outlets: list[Outlets], on_report: OnReport) -> None:
        value = outlets[report.sender].reports.read(report.size, report.number)
        self._post.send((WORKER, report.sender), Record(READ, size=report.size, run=self._run))
        on_report(report.sender, value)

    def _send(self, messages: list[tuple[Address, Record]]) -> None:
        for address, record in messages:
            self._post.send(address, record._replace(run=self._run))

    def _stop(self, dead: Node) -> None:
        dead.process.join()
        # None where this process ignores SIGCHLD: then the system has thrown the code away.
        exit_code = 255 if dead.exit_code is None else dead.exit_code
        self._tell_workers(dead.role, dead.rank, exit_code)
        raise NodeDied("server" if dead.role == SERVER else "worker", dead.rank, exit_code)

    def _tell_workers(self, role: int, rank: int, exit_code: int) -> None:
        """Whoever waits for the dead gets an error, and a moment to clean up after itself."""
        for node in self._workers:
            self._post.send(
                (WORKER, node.rank), Record(DIED, slot=role, size=rank, number=exit_code, run=self._run)
            )
        self._let_workers_end()

    def _let_workers_end(self) -> None:
        """They may still have to flush what they printed."""
        until = time.monotonic() + _GRACE
        for node in self._workers:
            node.process.join(max(0.0, until - time.monotonic()))
