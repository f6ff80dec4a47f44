"""The scheduler: starts the nodes, releases barriers, replaces who dies. Never on the path of a push."""

import select
import time
from collections.abc import Callable
from typing import Any

from shmps.errors import NodeDied, WorkerFailed
from shmps.events import Event
from shmps.failpoints import Failpoint, reach
from shmps.messages import (
    BARRIER,
    DIED,
    ENTER,
    EPOCH,
    FAILED,
    LEAVE,
    PART,
    PING,
    READ,
    RELEASE,
    REPORT,
    RESULT,
    ROLES,
    SCHEDULER,
    SERVER,
    SETTLE,
    SETTLED,
    START,
    WORKER,
    Record,
)
from shmps.nodes import Lifeline, Node, end
from shmps.roster import Deaths
from shmps.runs import CONTINUE, FAIL, RESPAWN, Run, nobody
from shmps.store import Books
from shmps.transport import Inboxes, Post

_GRACE = 3.0  # seconds that workers have to end by themselves after their result, or a death
_PAUSE = 0.1  # seconds between two calls of `on_pause`


class Scheduler:
    """Runs the nodes of one cluster. It has no thread of its own: it watches while `run` waits for workers.

    Between two runs nobody waits for a node; a server that died then is replaced by the next call.
    `node_timeout`: seconds without a sign of life after which a node is taken for hung; None: never.
    """

    def __init__(
        self,
        context: Any,
        inboxes: Inboxes,
        books: Books,
        node_timeout: float | None,
        failpoints: tuple[Failpoint, ...] = (),
    ):
        self._context, self._inboxes, self._books = context, inboxes, books
        self._node_timeout, self._failpoints = node_timeout, failpoints
        self._lifeline = Lifeline()
        self._post = Post(inboxes, (SCHEDULER, 0))
        self._life = 0
        self._nodes: dict[int, Node] = {}  # by the descriptor that tells of its death
        self._servers: dict[int, Node] = {}
        self._workers: dict[int, Node] = {}
        self._ready = select.poll()
        self._ready.register(self._post.inbox, select.POLLIN)
        self._run: Run | None = None
        self._deaths = Deaths()  # of servers
        self._given_up: dict[int, int] = {}  # server -> its last exit code
        self._unsettled: dict[int, tuple[float, Event] | None] = {}  # server -> its predecessor's death
        self._looked = time.monotonic()
        self.events: list[Event] = []

    def start_server(self, rank: int, body: Callable[..., None], *args: Any) -> None:
        self._server_body = body, args
        self._servers[rank] = self._launch(SERVER, rank, body, *args)

    def check_servers(self) -> None:
        """Between two runs: replace those that have died, and wait until they are at work.

        Raises NodeDied if one was given up: then the cluster is of no more use.
        """
        for rank, exit_code in self._given_up.items():
            raise NodeDied("server", rank, exit_code)
        if self._run is None and any(node.exit_code is not None for node in self._servers.values()):
            self._settle()

    def run(self, run: Run) -> list[Any]:
        """The results of the workers, in rank order.

        Raises NodeDied, or WorkerFailed from a worker's exception.
        """
        self.check_servers()
        self._run = run
        run.first_life = self._life + 1
        self._life += run.workers
        for rank in self._servers:
            self._send_server(rank, self._started())
        try:
            for rank in range(run.workers):
                self._start_worker(rank, run.first_life + rank, run.function)
            while len(run.results) < len(run.ranks) or run.reports:
                self._turn()
            self._let_workers_end()
            return [run.results[rank] for rank in sorted(run.results)]
        finally:
            self._end_workers()
            self._run = None
            self._settle()

    @property
    def dividing(self) -> list[int]:
        """Ranks that will divide the rows when all changes hold."""
        return self._run.division.latest if self._run is not None else []

    @property
    def ranks_started(self) -> int:
        """The rank of the next worker to be added."""
        return 0 if self._run is None else max((*self._run.ranks, *self.dividing)) + 1

    def node_pids(self) -> list[int]:
        nodes = (*self._servers.values(), *self._workers.values())
        return [node.process.pid for node in nodes if node.process.pid is not None]

    def add_worker(self, rank: int) -> None:
        """It comes in with the next epoch."""
        assert self._run is not None
        self._run.division.join(rank)

    def remove_worker(self, rank: int) -> None:
        """It leaves with the next epoch."""
        assert self._run is not None
        self._run.division.leave(rank)
        self._happened(Event("left", "worker", rank, self._books.tick))

    def close(self) -> None:
        self._end_workers()
        end(list(self._servers.values()))
        self._lifeline.close()
        del self._books  # views of shared memory

    # Starting and ending.

    def _launch(self, role: int, rank: int, body: Callable[..., None], *args: Any, life: int = 0) -> Node:
        if not life:
            self._life += 1
            life = self._life
        kills = [point for point in self._failpoints if (point.role, point.rank) == (role, rank)]
        self._failpoints = tuple(point for point in self._failpoints if point not in kills)
        node = Node(self._context, role, rank, life, self._lifeline, kills, body, rank, life, *args)
        (self._servers if role == SERVER else self._workers)[rank] = node  # an interrupt must not lose it
        node.start()
        self._nodes[node.death] = node
        self._ready.register(node.death, select.POLLIN)
        return node

    def _start_worker(self, rank: int, life: int, function: Callable[..., Any]) -> None:
        run = self._run
        assert run is not None
        run.ranks.add(rank)
        self._launch(WORKER, rank, run.body, run.tick, function, run.args, life=life)

    def _end_workers(self) -> None:
        for node in self._workers.values():
            self._forget(node)
        end(list(self._workers.values()))
        self._workers.clear()

    def _forget(self, node: Node) -> None:
        if self._nodes.pop(node.death, None):
            self._ready.unregister(node.death)

    def _settle(self) -> None:
        """Until every server has handled what workers had sent: the parameters then stand still.

        One that takes too long is killed: its successor begins with nothing to handle.
        """
        for rank in self._servers:
            if rank not in self._unsettled and rank not in self._given_up:
                self._unsettled[rank] = None
                self._send_server(rank, Record(SETTLE))
        until = time.monotonic() + _GRACE
        while self._unsettled:
            self._turn()
            if time.monotonic() > until:
                until += _GRACE
                for rank in self._unsettled:
                    self._servers[rank].hung = True
                    self._servers[rank].process.kill()

    # One turn of the loop: wait for a message or a death, never for one of them alone.

    def _turn(self) -> None:
        run = self._run
        waiting = run is not None and bool(run.reports)
        descriptors = [descriptor for descriptor, _ in self._ready.poll(0 if waiting else 1000 * _PAUSE)]
        # A worker's last words are in the inbox by the time its death is seen.
        for record in self._post.receive_nowait():
            reach("scheduler: record taken")
            self._take_in(record)
        for node in filter(None, map(self._nodes.get, descriptors)):
            self._died(node)
        if run is not None and run.reports and not descriptors:
            record, value = run.reports.popleft()
            self._post.send((WORKER, record.sender), Record(READ, size=record.size, to=record.life))
            run.on_report(record.sender, value)  # it takes time: nobody waits for it
        if time.monotonic() - self._looked >= _PAUSE:
            self._looked = time.monotonic()
            self._look_for_hung_nodes()
            if run is not None:
                run.on_pause()

    def _take_in(self, record: Record) -> None:
        if record.op == SETTLED:
            if record.life == self._servers[record.sender].life:
                self._settled(record.sender)
            return
        run, node = self._run, self._workers.get(record.sender)
        if run is None or node is None or record.life != node.life:
            return  # of a former life
        outlets = run.outlets[record.sender]
        if record.op == BARRIER:
            self._release(run.barrier.enter(record.sender, record.number))
        elif record.op == EPOCH:
            self._divide(run, record)
        elif record.op == REPORT:
            run.reports.append((record, outlets.reports.read(record.size, record.number)))
        elif record.op == RESULT:
            run.results[record.sender] = outlets.last_words.read(record.size)
            for rank in self._servers:
                self._send_server(rank, Record(LEAVE, slot=record.sender))
            self._release(run.barrier.finish(record.sender))
        elif record.op == FAILED:
            exception, text = outlets.last_words.read(record.size)
            self._tell_workers(WORKER, record.sender, 1)
            raise WorkerFailed(record.sender, text) from exception

    def _release(self, released: dict[int, int]) -> None:
        for rank, generation in released.items():
            self._send_worker(rank, Record(RELEASE, number=generation))

    def _divide(self, run: Run, asked: Record) -> None:
        """Answer who divides the rows in an epoch; who comes in because of it does so at the asker's tick.

        In sync mode no server can have applied a later tick, since the asker has not pushed it; and all
        servers read of the newcomer before anything that the asker will send.
        """
        for rank in run.division.ask(asked.number):
            self._life += 1
            run.joined[rank] = asked.version
            enter = Record(ENTER, slot=rank, timestamp=self._life, number=asked.version)
            for server in self._servers:
                self._send_server(server, enter)
            self._post.flush()
            run.barrier.add(rank)
            self._start_worker(rank, self._life, run.function)
            self._happened(Event("joined", "worker", rank, asked.version))
        ranks = run.division.ranks(asked.number)
        for place, rank in enumerate(ranks):
            self._send_worker(asked.sender, Record(PART, slot=rank, size=len(ranks), number=place))
        if not ranks:
            self._send_worker(asked.sender, Record(PART))

    # Deaths. A timeout is none: a hung node is killed, and its exit awaited, before another takes its place.

    def _look_for_hung_nodes(self) -> None:
        if self._node_timeout is None:
            return
        for node in (*self._servers.values(), *self._workers.values()):
            if node.death not in self._nodes:
                continue
            silence = node.silence(self._books.beats(node.role, node.rank), self._looked)
            if silence > self._node_timeout:
                node.hung = True
                node.process.kill()
            elif silence > self._node_timeout / 4 and not node.pinged:
                node.pinged = True
                self._send(node, Record(PING))

    def _died(self, node: Node) -> None:
        node.process.join()
        # None where this process ignores SIGCHLD: then the system has thrown the code away.
        exit_code = 255 if node.exit_code is None else node.exit_code
        self._forget(node)
        run = self._run
        if node.role == SERVER:
            if self._deaths.one_too_many(SERVER, node.rank, self._books.version(node.rank)):
                self._given_up[node.rank] = exit_code
                self._unsettled.pop(node.rank, None)
                self._give_up(node, exit_code)
            self._replace_server(node, exit_code)
        elif run is not None and node.rank not in run.results:
            policy = run.on_worker_death
            progress = self._books.clock(node.rank)
            alone = policy == CONTINUE and run.division.latest == [node.rank]
            if policy == FAIL or alone or run.deaths.one_too_many(WORKER, node.rank, progress):
                self._give_up(node, exit_code)
            self._replace_worker(run, node, exit_code)

    def _replace_server(self, node: Node, exit_code: int) -> None:
        began, rank = time.monotonic(), node.rank
        again = self._books.unapplied(rank)
        reach("scheduler: before successor")
        node.close()
        body, args = self._server_body
        self._launch(SERVER, rank, body, *args)
        reach("scheduler: after successor")
        # In one write: a worker that START makes known must not push before all that tick with it are known.
        successor = self._servers[rank]
        records = [record._replace(to=successor.life) for record in (*self._current(), Record(SETTLE))]
        self._post.send_all([((SERVER, rank), record) for record in records])
        event = Event(_what(node), "server", rank, self._books.tick, exit_code, "recovered", 0.0, again)
        self._unsettled[rank] = began, event

    def _current(self) -> list[Record]:
        """What a server that comes late has to be told of the run."""
        run = self._run
        if run is None:
            return []
        lives = {rank: node.life for rank, node in self._workers.items()}
        entered = [
            Record(ENTER, slot=rank, timestamp=life, number=run.joined.get(rank, 0))
            for rank, life in sorted(lives.items())
            if rank in run.joined or life != run.first_life + rank
        ]
        return [self._started(), *entered, *(Record(LEAVE, slot=rank) for rank in run.results)]

    def _settled(self, rank: int) -> None:
        death = self._unsettled.pop(rank, None)
        if death is not None:
            began, event = death
            self._happened(event.took(time.monotonic() - began))

    def _replace_worker(self, run: Run, node: Node, exit_code: int) -> None:
        began, rank = time.monotonic(), node.rank
        again = self._books.unacknowledged(rank)
        goes_on = run.on_worker_death == RESPAWN and rank not in run.abandoned
        if not goes_on:
            run.abandoned.add(rank)
            run.division.leave(rank)
        node.close()
        self._life += 1
        for server in self._servers:
            self._send_server(server, Record(ENTER, slot=rank, timestamp=self._life))
        self._start_worker(rank, self._life, run.function if goes_on else nobody)
        outcome = "started again" if goes_on else "its rows go to the others"
        event = Event(_what(node), "worker", rank, self._books.tick, exit_code, outcome, 0.0, again)
        self._happened(event.took(time.monotonic() - began))

    def _give_up(self, node: Node, exit_code: int) -> None:
        self._tell_workers(node.role, node.rank, exit_code)
        raise NodeDied(ROLES[node.role], node.rank, exit_code)

    def _tell_workers(self, role: int, rank: int, exit_code: int) -> None:
        """Whoever waits for the dead gets an error, and a moment to clean up after itself."""
        for worker in self._workers:
            self._send_worker(worker, Record(DIED, slot=role, size=rank, number=exit_code))
        self._let_workers_end()

    def _let_workers_end(self) -> None:
        """They may still have to flush what they printed."""
        until = time.monotonic() + _GRACE
        for node in self._workers.values():
            node.process.join(max(0.0, until - time.monotonic()))

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        if self._run is not None:
            self._run.on_event(event)

    # Sending.

    def _started(self) -> Record:
        run = self._run
        assert run is not None
        return Record(START, size=run.workers, timestamp=run.first_life, number=run.tick)

    def _send_server(self, rank: int, record: Record) -> None:
        self._send(self._servers[rank], record)

    def _send_worker(self, rank: int, record: Record) -> None:
        self._send(self._workers[rank], record)

    def _send(self, node: Node, record: Record) -> None:
        self._post.send((node.role, node.rank), record._replace(to=node.life))


def _what(node: Node) -> str:
    return "hung" if node.hung else "died"
