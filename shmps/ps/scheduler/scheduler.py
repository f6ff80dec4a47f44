"""The scheduler: starts the nodes, watches over a run, replaces nodes that die. A push never passes it.

wait -+-- records --> _take_in --> RunState.take_in   barriers, ranks, reports, results
      +-- deaths ---> _died -+---> _replace_server    a successor, and what it is told: Peer, Start, Enter
                             +---> RunState.lose      a successor of a worker
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from shmps.errors import NodeDied, UsageError
from shmps.ps.engine import Node
from shmps.ps.events import Event
from shmps.ps.messages import SERVER, Lost, Peer, Record, Settle, Settled, Write
from shmps.ps.scheduler.deaths import Death, Deaths
from shmps.ps.scheduler.nodes import GRACE, PAUSE, Nodes
from shmps.ps.scheduler.run import Run
from shmps.ps.scheduler.run_state import RunState
from shmps.system import signals
from shmps.system.failpoints import reach
from shmps.system.signals import cleaning_up


class Scheduler:
    """Runs the nodes of one cluster. It replaces servers, and `RunState` replaces workers.

    The scheduler has no thread of its own: it watches while `run` waits for workers. Nobody watches between
    two runs; the next call replaces a server that died meanwhile.

    node_timeout: seconds without a sign of life after which a node counts as hung; None: never.
    run_state: the state of the current run; None between two runs.
    """

    def __init__(self, nodes: Nodes, num_servers: int, node_timeout: float | None):
        self.run_state: RunState | None = None
        self.events: list[Event] = []
        self._nodes, self._num_servers = nodes, num_servers
        self._node_timeout = node_timeout
        self._deaths = Deaths()  # of servers
        self._given_up: dict[int, int] = {}  # server -> its last exit code
        # server -> the number of its unanswered Settle, and the event to tell after the answer
        self._unsettled: dict[int, tuple[int, Event | None]] = {}
        self._questions = 0
        self._is_fresh = False  # whether the mirror has the parameters
        self._image = 0  # whether servers that settle have to send their parameters
        self._later: tuple[list[Record], list[Node]] = [], []  # what came while servers were asked
        self._looked = self._nodes.now()
        self._abandoned = False

    def abandon(self) -> None:
        """End the current run with UsageError, and wait for servers no longer."""
        self._abandoned = True

    def start_server(self, rank: int, body: Callable[..., Any], *args: Any) -> None:
        self._server_body = body, args
        self._launch_server(rank)
        self._introduce(rank)

    def check_servers(self) -> None:
        """Replace servers that have died, and wait until their successors are at work.

        Call it between two runs, in one thread at a time.
        Raises NodeDied if a server was given up: the cluster is then of no more use.
        """
        for rank, exit_code in self._given_up.items():
            raise NodeDied("server", rank, exit_code)
        died = any(node.exit_code is not None for node in self._nodes.servers.values())
        if died or self._unsettled:  # an interrupt may have come before they were settled
            self._settle()

    def refresh(self) -> None:
        """Fill the mirror of the parameters; where nodes share memory there is nothing to do.

        Call it between two runs, when nothing changes after the first call, or in a callback of the run.
        """
        if self._nodes.status.is_mirror and not self._is_fresh:
            self._ask_servers(image=1)
            self._is_fresh = self.run_state is None

    def write(self, begin: int, end: int) -> None:
        """Let servers take the values that were written into the mirror, of the keys begin to end - 1."""
        told: dict[int, int] = {}  # lives of servers; the successor of one that dies is told again
        while self._nodes.status.is_mirror and not self._abandoned:
            lives = {rank: node.life for rank, node in self._nodes.servers.items()}
            if lives == told:
                return
            for server, part in self._nodes.status.written(begin, end):
                if lives[server] != told.get(server):
                    self._nodes.send_server(server, Write(begin, end), part)
            told = lives
            self._ask_servers()

    def run(self, run: Run) -> list[Any]:
        """Run a function on the workers; return their results in rank order.

        Raises NodeDied, or WorkerFailed from a worker's exception.
        """
        self.check_servers()
        self._is_fresh = False
        run_state = self.run_state = RunState(run, self._nodes, self._happened)
        for rank in self._nodes.servers:
            run_state.tell(rank)
        try:
            run_state.begin()
            while run_state.goes_on:
                if self._abandoned:
                    raise UsageError(
                        "a run must end inside the with block of its Cluster, got the block left"
                    )
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
                    self._ask_to_settle(rank)
            raise
        finally:
            self.run_state, self._later = None, ([], [])

    @cleaning_up
    def _end_workers(self, run_state: RunState) -> None:
        self._nodes.end_workers()
        run_state.fall_silent()

    def _turn(self) -> None:
        """Wait once, and handle what came."""
        run_state = self.run_state
        self._nodes.pass_on_stop()
        came: tuple[list[Record], Sequence[Node]]
        if any(self._later):
            came, self._later = self._later, ([], [])
        else:
            came = self._nodes.wait(0 if run_state is not None and run_state.has_reports else PAUSE)
        records, ended = came
        for record in records:
            reach("scheduler: record taken")
            self._take_in(record)
        for node in ended:
            self._died(node)
        if run_state is not None and run_state.has_reports:  # one a turn: a callback may take long
            run_state.hand_over_report()
        if self._nodes.now() - self._looked >= PAUSE:
            self._looked = self._nodes.now()
            if self._node_timeout is not None:
                self._nodes.kill_hung(self._node_timeout)
            if run_state is not None:
                run_state.on_pause()

    def _take_in(self, record: Record) -> None:
        message = record.message
        if isinstance(message, Settled | Lost):
            if record.life != self._nodes.servers[record.sender].life:
                return
            if isinstance(message, Lost):
                self._lose(record.sender)
            self._nodes.status.take(record.sender, bool(message.image), record.arrays)
            self._settled(record.sender, message.question)
        elif self.run_state is not None:
            self.run_state.take_in(record, message)

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        if self.run_state is not None:
            self.run_state.on_event(event)

    # Deaths. A timeout is not a death: a hung node is killed, and its successor comes after its exit.

    def _died(self, node: Node) -> None:
        if not self._nodes.is_watched(node):  # handled while a callback waited for servers
            return
        death = self._nodes.await_exit(node)
        if node.role == SERVER:
            if self._deaths.one_too_many(node, self._nodes.status.version(node.rank)):
                self._given_up[node.rank] = death.exit_code
                self._unsettled.pop(node.rank, None)
                self._nodes.give_up(death)
            self._replace_server(death)
        elif self.run_state is not None:
            self.run_state.lose(death)
            if self._nodes.status.is_mirror:  # another death is judged by the progress until then
                for rank in self._nodes.servers.keys() - self._given_up.keys():
                    self._ask_to_settle(rank)

    def _replace_server(self, death: Death) -> None:
        began, rank = self._nodes.now(), death.node.rank
        again = self._nodes.status.unapplied(rank)
        reach("scheduler: before successor")
        self._launch_server(rank)
        reach("scheduler: after successor")
        self._introduce(rank)
        if self.run_state is not None:
            self.run_state.tell(rank)
        tick = self._nodes.status.tick
        event = Event(death.what, "server", rank, tick, death.exit_code, "recovered", None, again, began)
        self._ask_to_settle(rank, event)

    def _lose(self, rank: int) -> NoReturn:
        """Give up a server whose partition is lost with the memory of its predecessor."""
        _, event = self._unsettled.pop(rank)
        exit_code = 1 if event is None or event.exit_code is None else event.exit_code
        self._given_up[rank] = exit_code
        self._nodes.give_up(Death(self._nodes.servers[rank], "died", exit_code))

    def _launch_server(self, rank: int) -> None:
        body, args = self._server_body
        self._nodes.launch(SERVER, rank, self._nodes.next_life(), body, *args)

    def _introduce(self, rank: int) -> None:
        """Tell a server and its neighbours of each other's lives: they keep each other's replicas."""
        servers = self._nodes.servers
        for other in {(rank - 1) % self._num_servers, (rank + 1) % self._num_servers} & servers.keys():
            self._nodes.send_server(other, Peer(rank, servers[rank].life))
            self._nodes.send_server(rank, Peer(other, servers[other].life))

    # Settling: a server answers when it has handled all earlier records.

    def _settle(self) -> None:
        """Wait until every server has handled what workers had sent: the parameters then stand still.

        A server that shows no sign of life meanwhile is killed. Its successor begins with nothing to handle.
        """
        for rank, node in self._nodes.servers.items():
            if rank in self._given_up:
                continue
            if self._nodes.is_watched(node):
                self._ask_to_settle(rank)
            else:  # an interrupt, or a shortage, came between its death and a successor
                self._replace_server(self._nodes.await_exit(node))
        while self._unsettled and not self._abandoned:
            self._turn()
            self._nodes.kill_hung(GRACE, [self._nodes.servers[rank] for rank in self._unsettled])

    @signals.held
    def _ask_servers(self, image: int = 0) -> None:
        """Wait until every server has settled; keep everything else that comes for the next turn.

        A callback of the run may wait here, so nothing here may call another callback of a worker's records.
        """
        self._image = image
        patience = GRACE if self.run_state is None else self._node_timeout
        try:
            for rank in self._nodes.servers.keys() - self._given_up.keys():
                self._ask_to_settle(rank)
            while self._unsettled and not self._abandoned:
                self._take_in_servers(*self._nodes.wait(PAUSE))
                if patience is not None:
                    servers = [self._nodes.servers[rank] for rank in self._unsettled]
                    self._nodes.kill_hung(patience, servers)
        finally:
            self._image = 0
        while signals.waiting and signals.deliver():
            pass

    def _take_in_servers(self, records: list[Record], ended: Sequence[Node]) -> None:
        """Handle answers and deaths of servers; keep the rest."""
        for record in records:
            if isinstance(record.message, Settled | Lost):
                self._take_in(record)
            else:
                self._later[0].append(record)
        for node in ended:
            if node.role == SERVER:
                self._died(node)
            elif node not in self._later[1]:
                self._later[1].append(node)

    def _ask_to_settle(self, rank: int, event: Event | None = None) -> None:
        """event: the death to tell of once the server has answered."""
        self._questions += 1
        _, earlier = self._unsettled.get(rank, (0, None))
        self._unsettled[rank] = self._questions, event or earlier
        self._nodes.send_server(rank, Settle(self._questions, self._image))

    def _settled(self, rank: int, question: int) -> None:
        asked, event = self._unsettled.get(rank, (0, None))
        if question == asked:
            del self._unsettled[rank]
            if event is not None:
                self._happened(event.took(self._nodes.now() - event.at))
