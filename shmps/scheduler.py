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
    PEER,
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
from shmps.nodes import Lifeline, Node, end, signals_held
from shmps.roster import Deaths
from shmps.runs import CONTINUE, FAIL, RESPAWN, Run, nobody
from shmps.store import Books
from shmps.transport import Inboxes, Post

_GRACE = 3.0  # seconds that workers have to end by themselves after their result, or a death
_PAUSE = 0.1  # seconds between two calls of `on_pause`
_BOOT = 60.0  # seconds that a process has until its first sign of life


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
        num_servers: int,
        node_timeout: float | None,
        failpoints: tuple[Failpoint, ...] = (),
    ):
        self._context, self._inboxes, self._books, self._num_servers = context, inboxes, books, num_servers
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
        # server -> the number of what it is to answer, and its predecessor's death
        self._unsettled: dict[int, tuple[int, tuple[float, Event] | None]] = {}
        self._questions = 0
        self._lives: dict[int, int] = {}  # of the workers
        self._looked = time.monotonic()
        self.events: list[Event] = []

    def start_server(self, rank: int, body: Callable[..., None], *args: Any) -> None:
        self._server_body = body, args
        self._launch(SERVER, rank, self._next_life(), body, *args)
        self._introduce(rank)

    def _introduce(self, rank: int) -> None:
        """Tell a server and its neighbours of each other's lives: they keep each other's replicas."""
        for other in {(rank - 1) % self._num_servers, (rank + 1) % self._num_servers} & self._servers.keys():
            self._send_server(other, Record(PEER, slot=rank, timestamp=self._servers[rank].life))
            self._send_server(rank, Record(PEER, slot=other, timestamp=self._servers[other].life))

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
        self._lives = {rank: self._next_life() for rank in range(run.workers)}
        for rank in self._servers:
            self._tell_of_run(run, rank)
        try:
            for rank in range(run.workers):
                self._start_worker(run, rank, run.function)
            while len(run.results) < len(run.entered) or run.reports:
                self._turn()
            self._let_workers_end()
            return [run.results[rank] for rank in sorted(run.results)]
        finally:
            self._end_workers()
            run.fall_silent()
            try:
                self._settle()
            finally:
                self._run = None

    @property
    def dividing(self) -> list[int]:
        """Ranks that will divide the rows when all changes hold."""
        return self._run.division.latest if self._run is not None else []

    @property
    def ranks_started(self) -> int:
        """The rank of the next worker to be added."""
        return 0 if self._run is None else max((*self._run.entered, *self.dividing)) + 1

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
        self._happened(Event("left", "worker", rank, self._books.tick, at=time.monotonic()))

    def close(self) -> None:
        self._end_workers()
        end(list(self._servers.values()))
        self._lifeline.close()
        del self._books  # views of shared memory

    # Starting and ending.

    def _next_life(self) -> int:
        self._life += 1
        return self._life

    def _launch(self, role: int, rank: int, life: int, body: Callable[..., None], *args: Any) -> None:
        kills = [point for point in self._failpoints if (point.role, point.rank) == (role, rank)]
        self._failpoints = tuple(point for point in self._failpoints if point not in kills)
        node = Node(self._context, role, rank, life, self._lifeline, kills, body, rank, life, *args)
        (self._servers if role == SERVER else self._workers)[rank] = node
        with signals_held():  # from when it runs it is watched
            node.start(self._books.beats(role, rank))
            self._nodes[node.death] = node
            self._ready.register(node.death, select.POLLIN)

    def _start_worker(self, run: Run, rank: int, function: Callable[..., Any]) -> None:
        self._launch(WORKER, rank, self._lives[rank], run.body, run.entered[rank], function, run.args)

    def _tell_of_run(self, run: Run, server: int) -> None:
        """All that a server, new or not, must know of the run."""
        self._send_server(server, Record(START, size=len(run.entered)))
        for worker in run.entered:
            self._tell_of_worker(run, server, worker)
        for worker in run.results:
            self._send_server(server, Record(LEAVE, slot=worker))

    def _tell_of_worker(self, run: Run, server: int, worker: int) -> None:
        enter = Record(ENTER, slot=worker, timestamp=self._lives[worker], number=run.entered[worker])
        self._send_server(server, enter)

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

        One that shows no sign of life meanwhile is killed: its successor begins with nothing to handle.
        """
        for rank, node in self._servers.items():
            if rank in self._given_up:
                continue
            if node.death not in self._nodes:
                # An interrupt, or a shortage, came between its death and a successor.
                self._replace_server(node, _last_exit_code(node))
            else:
                self._ask_to_settle(rank, None)
        while self._unsettled:
            self._turn()
            for rank in self._unsettled:
                node = self._servers[rank]
                if self._silence(node) > (_GRACE if node.has_beaten else _BOOT):
                    self._kill_hung(node)

    def _ask_to_settle(self, rank: int, death: tuple[float, Event] | None) -> None:
        self._questions += 1
        before = self._unsettled.get(rank)
        self._unsettled[rank] = self._questions, death or (before[1] if before else None)
        self._send_server(rank, Record(SETTLE, number=self._questions))

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
                self._settled(record.sender, record.number)
            return
        run, node = self._run, self._workers.get(record.sender)
        if run is None or node is None or record.life != node.life:
            return  # of a former life
        outlets = run.outlets[record.sender]
        if record.op == BARRIER:
            self._release(run, run.barrier.enter(record.sender, record.number))
        elif record.op == EPOCH:
            self._divide(run, record)
        elif record.op == REPORT:
            run.reports.append((record, outlets.reports.read(record.size, record.number)))
        elif record.op == RESULT:
            run.results[record.sender] = outlets.last_words.read(record.size)
            for rank in self._servers:
                self._send_server(rank, Record(LEAVE, slot=record.sender))
            self._release(run, run.barrier.finish(record.sender))
        elif record.op == FAILED:
            exception, text = outlets.last_words.read(record.size)
            self._tell_workers(WORKER, record.sender, 1)
            raise WorkerFailed(record.sender, text) from exception

    def _release(self, run: Run, released: dict[int, int]) -> None:
        if run.barrier.opened > run.barriers_told:
            run.barriers_told = run.barrier.opened
            run.on_barrier()
        for rank, generation in released.items():
            self._send_worker(rank, Record(RELEASE, number=generation))

    def _divide(self, run: Run, asked: Record) -> None:
        """Answer who divides the rows in an epoch; who comes in because of it does so at the asker's tick.

        In sync mode no server can have applied a later tick, since the asker has not pushed it; and all
        servers read of the newcomer before anything that the asker will send.
        """
        for rank in run.division.ask(asked.number):
            run.entered[rank], self._lives[rank] = asked.version, self._next_life()
            for server in self._servers:
                self._tell_of_worker(run, server, rank)
            self._post.flush()
            run.barrier.add(rank)
            self._start_worker(run, rank, run.function)
            self._happened(Event("joined", "worker", rank, asked.version, at=time.monotonic()))
        ranks = run.division.ranks(asked.number)
        for place, rank in enumerate(ranks):
            self._send_worker(asked.sender, Record(PART, slot=rank, size=len(ranks), number=place))
        if not ranks:
            self._send_worker(asked.sender, Record(PART))

    # Deaths. A timeout is none: a hung node is killed, and its exit awaited, before another takes its place.

    def _look_for_hung_nodes(self) -> None:
        if self._node_timeout is None:
            return
        for node in list(self._nodes.values()):
            silence = self._silence(node)
            if silence > (self._node_timeout if node.has_beaten else max(self._node_timeout, _BOOT)):
                self._kill_hung(node)
            elif silence > self._node_timeout / 4 and not node.pinged:
                node.pinged = True
                self._send(node, Record(PING))

    def _silence(self, node: Node) -> float:
        """Seconds of looking at it without a sign of life: no time in which nobody looked, or could have."""
        return node.silence(self._books.beats(node.role, node.rank), time.monotonic(), 2 * _PAUSE)

    def _kill_hung(self, node: Node) -> None:
        node.hung = True
        node.process.kill()

    def _died(self, node: Node) -> None:
        node.process.join()
        exit_code = _last_exit_code(node)
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
            others = set(run.division.latest) & run.entered.keys() - {node.rank}
            alone = policy == CONTINUE and not others
            if policy == FAIL or alone or run.deaths.one_too_many(WORKER, node.rank, progress):
                self._give_up(node, exit_code)
            self._replace_worker(run, node, exit_code)

    def _replace_server(self, node: Node, exit_code: int) -> None:
        began, rank = time.monotonic(), node.rank
        again = self._books.unapplied(rank)
        reach("scheduler: before successor")
        node.close()
        body, args = self._server_body
        self._launch(SERVER, rank, self._next_life(), body, *args)
        reach("scheduler: after successor")
        self._introduce(rank)
        if self._run is not None:
            self._tell_of_run(self._run, rank)
        what, tick = _what(node), self._books.tick
        event = Event(what, "server", rank, tick, exit_code, "recovered", 0.0, again, began)
        self._ask_to_settle(rank, (began, event))

    def _settled(self, rank: int, number: int) -> None:
        question, death = self._unsettled.get(rank, (0, None))
        if number == question:
            del self._unsettled[rank]
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
        self._lives[rank] = self._next_life()
        for server in self._servers:
            self._tell_of_worker(run, server, rank)
        self._start_worker(run, rank, run.function if goes_on else nobody)
        outcome = "started again" if goes_on else "its rows go to the others"
        what, tick = _what(node), self._books.tick
        event = Event(what, "worker", rank, tick, exit_code, outcome, 0.0, again, began)
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

    def _send_server(self, rank: int, record: Record) -> None:
        self._send(self._servers[rank], record)

    def _send_worker(self, rank: int, record: Record) -> None:
        self._send(self._workers[rank], record)

    def _send(self, node: Node, record: Record) -> None:
        self._post.send((node.role, node.rank), record._replace(to=node.life))


def _last_exit_code(node: Node) -> int:
    """Of one that has ended. Where this process ignores SIGCHLD the system has thrown the code away: 255."""
    return 255 if node.exit_code is None else node.exit_code


def _what(node: Node) -> str:
    return "hung" if node.hung else "died"
