"""The nodes of one cluster, as the scheduler sees them: launched, told things, waited for and ended."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from shmps.errors import NodeDied
from shmps.ps.engine import Engine, Node
from shmps.ps.memory.status import Overview
from shmps.ps.messages import DIED, ROLES, SERVER, Record

PAUSE = 0.1  # seconds between two looks at the nodes
GRACE = 3.0  # seconds that nodes have to come to an end by themselves


class Nodes:
    """`servers` and `workers` are, by rank, the last that were launched.

    Every node has a life, a number of its own (see `messages.Record`).
    """

    def __init__(self, engine: Engine, overview: Overview):
        self.servers: dict[int, Node] = {}
        self.workers: dict[int, Node] = {}
        self.overview = overview
        self._engine, self.now, self.post = engine, engine.now, engine.post
        self._life = 0
        self._watched: list[Node] = []

    def next_life(self) -> int:
        self._life += 1
        return self._life

    def launch(self, role: int, rank: int, life: int, body: Callable[..., None], *args: Any) -> None:
        """Run `body(rank, life, *args)` as a node."""
        node = self._engine.launch(role, rank, life, self.overview.beats(role, rank), body, *args)
        (self.servers if role == SERVER else self.workers)[rank] = node
        self._watched.append(node)

    @property
    def is_own(self) -> bool:
        """Whether this process has started them. A fork of it, made by a callback, say, leaves them alone."""
        return self._engine.is_own

    @property
    def pids(self) -> list[int]:
        return [node.pid for node in (*self.servers.values(), *self.workers.values())]

    # Telling.

    def send_server(self, rank: int, record: Record) -> None:
        self.send(self.servers[rank], record)

    def send_worker(self, rank: int, record: Record) -> None:
        self.send(self.workers[rank], record)

    def send(self, node: Node, record: Record) -> None:
        self.post.send((node.role, node.rank), record._replace(to=node.life))

    # Waiting.

    def wait(self, seconds: float) -> tuple[list[Record], Sequence[Node]]:
        """Wait for a record or a death, never for one of them alone; see `Engine.wait`."""
        return self._engine.wait(seconds)

    @property
    def watched(self) -> list[Node]:
        """The nodes whose death `wait` returns."""
        return list(self._watched)

    def silence(self, node: Node) -> float:
        """Return the seconds without a sign of life, of those in which the scheduler looked at the node."""
        return node.silence(self.overview.beats(node.role, node.rank), self.now(), 2 * PAUSE)

    def await_exit(self, node: Node) -> int:
        """Wait until it has ended, and watch it no more; return its exit code."""
        while (exit_code := node.exit_code) is None:
            node.join()
        self._forget(node)
        return exit_code

    def _forget(self, node: Node) -> None:
        if node in self._watched:
            self._watched.remove(node)
            self._engine.forget(node)

    # Ending.

    def give_up(self, node: Node, exit_code: int) -> NoReturn:
        """Nobody takes its place: everybody is told so, the caller by NodeDied."""
        self.break_off(node.role, node.rank, exit_code)
        raise NodeDied(ROLES[node.role], node.rank, exit_code)

    def break_off(self, role: int, rank: int, exit_code: int) -> None:
        """Whoever waits for the dead gets an error, and a moment to clean up after itself."""
        for worker in self.workers:
            self.send_worker(worker, Record(DIED, slot=role, size=rank, number=exit_code))
        self.let_workers_end()

    def let_workers_end(self) -> None:
        """They may still have to flush what they printed."""
        until = self.now() + GRACE
        for node in self.workers.values():
            node.join(max(0.0, until - self.now()))

    def end_workers(self) -> None:
        for node in self.workers.values():
            self._forget(node)
        self._engine.end(list(self.workers.values()))
        self.workers.clear()

    def close(self) -> None:
        """End all nodes; the engine is closed by its owner."""
        self.end_workers()
        self._engine.end(list(self.servers.values()))
        del self.overview  # views of shared memory, which an exception's traceback might keep
