"""The nodes of one cluster, as the scheduler sees them: launch, tell, wait, end."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from shmps.errors import NodeDied
from shmps.ps import messages
from shmps.ps.engine import Engine, Node
from shmps.ps.memory.status import Status
from shmps.ps.messages import ROLES, SERVER, Ping, Record, Stop, with_arrays
from shmps.ps.scheduler.deaths import Death, Watch

PAUSE = 0.1  # seconds between two looks at the nodes
GRACE = 3.0  # seconds that nodes have to end by themselves


class Nodes:
    """Launches the nodes of a cluster by an engine, watches them, and ends them.

    servers, workers: by rank, the node that was launched last. Every node has a life, a number of its own
    (see `messages.Record`).
    """

    def __init__(self, engine: Engine, status: Status):
        self.servers: dict[int, Node] = {}
        self.workers: dict[int, Node] = {}
        self.status = status
        self.now, self.post = engine.clock.now, engine.post
        self._engine = engine
        self._life = 0
        self._watches: dict[int, Watch] = {}  # by life, of the nodes that are not closed
        self._told: set[int] = set()  # lives that know of a stop
        self._hung: set[int] = set()  # lives that were killed for their silence

    def next_life(self) -> int:
        self._life += 1
        return self._life

    def launch(self, role: int, rank: int, life: int, body: Callable[..., Any], *args: Any) -> None:
        """Run `body(rank, life, *args)` as a node."""
        beats, began = self.status.beats(role, rank), self.now()
        node = self._engine.launch(role, rank, life, body, *args)
        (self.servers if role == SERVER else self.workers)[rank] = node
        self._watches[life] = Watch(node, beats, began, most_pause=2 * PAUSE)

    @property
    def is_own(self) -> bool:
        """Whether this process launched the nodes. A fork of it, which a callback may make, did not."""
        return self._engine.is_own

    @property
    def pids(self) -> list[int]:
        """The process ids of nodes that are processes."""
        return [node.pid for node in (*self.servers.values(), *self.workers.values()) if node.pid]

    # Tell.

    def send_server(self, rank: int, message: Any, arrays: Sequence[np.ndarray] = ()) -> None:
        self.send(self.servers[rank], message, arrays)

    def send_worker(self, rank: int, message: Any) -> None:
        self.send(self.workers[rank], message)

    def send(self, node: Node, message: Any, arrays: Sequence[np.ndarray] = ()) -> None:
        self.post.send((node.role, node.rank), with_arrays(Record.of(message, to=node.life), arrays))

    def pass_on_stop(self) -> None:
        """Tell the workers that do not see it that `Cluster.stop` was called."""
        if self.status.is_mirror and self.status.stopping:
            for node in self.workers.values():
                if node.life not in self._told:
                    self._told.add(node.life)
                    self.send(node, Stop())

    # Watch.

    def wait(self, seconds: float) -> tuple[list[Record], Sequence[Node]]:
        """Wait for a record or a death, never for one of them alone; see `Engine.wait`."""
        return self._engine.wait(seconds)

    def is_watched(self, node: Node) -> bool:
        """Return whether `wait` returns the death of this node."""
        return node.life in self._watches

    def kill_hung(self, timeout: float, nodes: Iterable[Node] | None = None) -> None:
        """Kill the nodes (default: all) that showed no sign of life for `timeout` seconds.

        Ping those that are silent for a quarter of it. A node that is killed here is not dead yet: its
        successor comes after its exit.
        """
        lives = list(self._watches) if nodes is None else [node.life for node in nodes]
        for watch in [self._watches[life] for life in lives if life in self._watches]:
            node = watch.node
            watch.look(self.status.beats(node.role, node.rank), self.now())
            if watch.is_silent_for(timeout):
                self._hung.add(node.life)
                node.kill()
            elif watch.silent > timeout / 4 and not watch.pinged:
                watch.pinged = True
                self.send(node, Ping())

    def await_exit(self, node: Node) -> Death:
        """Wait until a node has ended, and close it."""
        while (exit_code := node.exit_code) is None:
            node.join()
        if self._watches.pop(node.life, None):
            node.close()
        return Death(node, "hung" if node.life in self._hung else "died", exit_code)

    # End.

    def give_up(self, death: Death) -> NoReturn:
        """End the run: no other node takes this one's place. Raises NodeDied."""
        role, rank = death.node.role, death.node.rank
        self.break_off(role, rank, death.exit_code)
        raise NodeDied(ROLES[role], rank, death.exit_code)

    def break_off(self, role: int, rank: int, exit_code: int) -> None:
        """Raise an error in every worker, and give the workers a moment to clean up."""
        for worker in self.workers:
            self.send_worker(worker, messages.Died(role, rank, exit_code))
        self.let_workers_end()

    def let_workers_end(self) -> None:
        """Wait at most GRACE seconds: workers may have output to flush."""
        until = self.now() + GRACE
        for node in filter(self.is_watched, self.workers.values()):
            node.join(max(0.0, until - self.now()))

    def end_workers(self) -> None:
        self._end(self.workers.values())
        self.workers.clear()

    def close(self) -> None:
        """End all nodes. The owner of the engine closes it."""
        self.end_workers()
        self._end(self.servers.values())
        del self.status  # views of shared memory, which an exception's traceback might keep

    def _end(self, nodes: Iterable[Node]) -> None:
        """Kill the nodes that run, and wait for their exits.

        Nodes own nothing that outlives them, so there is one way to end, which is exercised all the time
        (Candea & Fox, Crash-Only Software, HotOS 2003).
        """
        running = [node for node in nodes if self.is_watched(node)]
        for node in running:
            node.kill()
        for node in running:
            self.await_exit(node)
