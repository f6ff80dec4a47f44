"""The scheduler: starts the nodes, watches over a run, replaces who dies. Never on the path of a push."""

from collections.abc import Callable
from typing import Any

from shmps.errors import NodeDied, UsageError
from shmps.ps.engine import Node
from shmps.ps.events import Event
from shmps.ps.messages import PEER, PING, SERVER, SETTLE, SETTLED, Record
from shmps.ps.scheduler.membership import Deaths
from shmps.ps.scheduler.nodes import GRACE, PAUSE, Nodes
from shmps.ps.scheduler.run import Run
from shmps.ps.scheduler.run_state import RunState
from shmps.system.failpoints import reach
from shmps.system.signals import cleaning_up

_BOOT = 60.0  # seconds that a process has until its first sign of life


class Scheduler:
    """Runs the nodes of one cluster; it replaces servers, and `RunState` replaces workers.

    It has no thread of its own: it watches while `run` waits for workers.

    Between two runs nobody waits for a node; a server that died then is replaced by the next call.
    `node_timeout`: seconds without a sign of life after which a node is taken for hung; None: never.
    `run_state`: of the run that goes on, if one does.
    """

    def __init__(self, nodes: Nodes, num_servers: int, node_timeout: float | None):
        self.run_state: RunState | None = None
        self.events: list[Event] = []
        self._nodes, self._num_servers = nodes, num_servers
        self._node_timeout = node_timeout
        self._deaths = Deaths()  # of servers
        self._given_up: dict[int, int] = {}  # server -> its last exit code
        # server -> the number of what it is to answer, and its predecessor's death
        self._unsettled: dict[int, tuple[int, tuple[float, Event] | None]] = {}
        self._questions = 0
        self._looked = self._nodes.now()
        self._abandoned = False

    def abandon(self) -> None:
        """Have the run that goes on end with UsageError, and nobody wait for servers."""
        self._abandoned = True

    def start_server(self, rank: int, body: Callable[..., None], *args: Any) -> None:
        self._server_body = body, args
        self._launch_server(rank)
        self._introduce(rank)

    def check_servers(self) -> None:
        """Replace servers that have died, and wait until the new ones are at work.

        To be called between two runs, by one thread at a time.
        Raises NodeDied if one was given up: then the cluster is of no more use.
        """
        for rank, exit_code in self._given_up.items():
            raise NodeDied("server", rank, exit_code)
        died = any(node.exit_code is not None for node in self._nodes.servers.values())
        if died or self._unsettled:  # an interrupt may have come before they were settled
            self._settle()

    def run(self, run: Run) -> list[Any]:
        """The results of the workers, in rank order.

        Raises NodeDied, or WorkerFailed from a worker's exception.
        """
        self.check_servers()
        run_state = self.run_state = RunState(run, self._nodes, self._happened)
        for rank in self._nodes.servers:
            run_state.tell(rank)
        try:
            run_state.begin()
            while run_state.goes_on:
                if self._abandoned:
                    raise UsageError("a run goes on inside its Cluster's with block, found the block left")
                self._turn()
            self._nodes.let_workers_end()
            self._end_workers(run_state)
            self._settle()
            return [run_state.results[rank] for rank in sorted(run_state.results)]
        except BaseException:
            if self._nodes.is_own:
                # The next call waits for what the servers have yet to handle: a signal may interrupt it.
                self._end_workers(run_state)
                for rank in self._nodes.servers.keys() - self._given_up.keys():
                    self._ask_to_settle(rank, None)
            raise
        finally:
            self.run_state = None

    @cleaning_up
    def _end_workers(self, run_state: RunState) -> None:
        self._nodes.end_workers()
        run_state.fall_silent()

    def _turn(self) -> None:
        """One of the loop."""
        run_state = self.run_state
        records, ended = self._nodes.wait(0 if run_state is not None and run_state.has_reports else PAUSE)
        for record in records:
            reach("scheduler: record taken")
            self._take_in(record)
        for node in ended:
            self._died(node)
        if run_state is not None and run_state.has_reports:  # one a turn: a callback may take long
            run_state.hand_over_report()
        if self._nodes.now() - self._looked >= PAUSE:
            self._looked = self._nodes.now()
            self._look_for_hung_nodes()
            if run_state is not None:
                run_state.on_pause()

    def _take_in(self, record: Record) -> None:
        if record.op == SETTLED:
            if record.life == self._nodes.servers[record.sender].life:
                self._settled(record.sender, record.number)
        elif self.run_state is not None:
            self.run_state.take_in(record)

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        if self.run_state is not None:
            self.run_state.on_event(event)

    # Deaths. A timeout is none: a hung node is killed, and its exit awaited, before another takes its place.

    def _look_for_hung_nodes(self) -> None:
        if self._node_timeout is None:
            return
        for node in self._nodes.watched:
            silence = self._nodes.silence(node)
            if silence > _patience(node, self._node_timeout):
                self._kill_hung(node)
            elif silence > self._node_timeout / 4 and not node.pinged:
                node.pinged = True
                self._nodes.send(node, Record(PING))

    def _kill_hung(self, node: Node) -> None:
        node.hung = True
        node.kill()

    def _died(self, node: Node) -> None:
        exit_code = self._nodes.await_exit(node)
        if node.role == SERVER:
            if self._deaths.one_too_many(SERVER, node.rank, self._nodes.overview.version(node.rank)):
                self._given_up[node.rank] = exit_code
                self._unsettled.pop(node.rank, None)
                self._nodes.give_up(node, exit_code)
            self._replace_server(node, exit_code)
        elif self.run_state is not None:
            self.run_state.lose(node, exit_code)

    def _replace_server(self, node: Node, exit_code: int) -> None:
        began, rank = self._nodes.now(), node.rank
        again = self._nodes.overview.unapplied(rank)
        reach("scheduler: before successor")
        node.close()
        self._launch_server(rank)
        reach("scheduler: after successor")
        self._introduce(rank)
        if self.run_state is not None:
            self.run_state.tell(rank)
        tick = self._nodes.overview.tick
        event = Event(node.fate, "server", rank, tick, exit_code, "recovered", 0.0, again, began)
        self._ask_to_settle(rank, (began, event))

    def _launch_server(self, rank: int) -> None:
        body, args = self._server_body
        self._nodes.launch(SERVER, rank, self._nodes.next_life(), body, *args)

    def _introduce(self, rank: int) -> None:
        """Tell a server and its neighbours of each other's lives: they keep each other's replicas."""
        servers = self._nodes.servers
        for other in {(rank - 1) % self._num_servers, (rank + 1) % self._num_servers} & servers.keys():
            self._nodes.send_server(other, Record(PEER, slot=rank, timestamp=servers[rank].life))
            self._nodes.send_server(rank, Record(PEER, slot=other, timestamp=servers[other].life))

    # Settling: servers say when they have handled what came before.

    def _settle(self) -> None:
        """Until every server has handled what workers had sent: the parameters then stand still.

        One that shows no sign of life meanwhile is killed: its successor begins with nothing to handle.
        """
        for rank, node in self._nodes.servers.items():
            if rank in self._given_up:
                continue
            if node not in self._nodes.watched:
                # An interrupt, or a shortage, came between its death and a successor.
                self._replace_server(node, self._nodes.await_exit(node))
            else:
                self._ask_to_settle(rank, None)
        while self._unsettled and not self._abandoned:
            self._turn()
            for rank in self._unsettled:
                node = self._nodes.servers[rank]
                if self._nodes.silence(node) > _patience(node, GRACE):
                    self._kill_hung(node)

    def _ask_to_settle(self, rank: int, death: tuple[float, Event] | None) -> None:
        self._questions += 1
        before = self._unsettled.get(rank)
        self._unsettled[rank] = self._questions, death or (before[1] if before else None)
        self._nodes.send_server(rank, Record(SETTLE, number=self._questions))

    def _settled(self, rank: int, number: int) -> None:
        question, death = self._unsettled.get(rank, (0, None))
        if number == question:
            del self._unsettled[rank]
            if death is not None:
                began, event = death
                self._happened(event.took(self._nodes.now() - began))


def _patience(node: Node, timeout: float) -> float:
    """Seconds without a sign of life after which it is taken for hung."""
    return timeout if node.has_beaten else max(timeout, _BOOT)
