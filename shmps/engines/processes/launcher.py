"""The processes of all nodes: started, told things, waited for and ended, as the scheduler wants it."""

import select
import time
from collections.abc import Callable
from typing import Any, NoReturn

from shmps.engines.processes.node import Lifeline, Node, end
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.errors import NodeDied
from shmps.ps.memory.status import Overview
from shmps.ps.messages import DIED, ROLES, SCHEDULER, SERVER, Record
from shmps.system import signals
from shmps.system.failpoints import Failpoint

PAUSE = 0.1  # seconds between two looks at the nodes
GRACE = 3.0  # seconds that nodes have to come to an end by themselves


class Crew:
    """The nodes of one cluster; `servers` and `workers` are, by rank, the last that were started.

    Every process has a life, a number of its own (see `messages.Record`).
    """

    def __init__(
        self, start_method: str, inboxes: Inboxes, overview: Overview, failpoints: tuple[Failpoint, ...] = ()
    ):
        self.servers: dict[int, Node] = {}
        self.workers: dict[int, Node] = {}
        self.post = Post(inboxes, (SCHEDULER, 0))
        self.failpoints = failpoints  # those of nodes that have not been started yet
        self.overview = overview
        self._start_method = start_method
        self._lifeline = Lifeline()
        self._life = 0
        self._watched: dict[int, Node] = {}  # by the descriptor that tells of its death
        self._ready = select.poll()
        self._ready.register(self.post.inbox, select.POLLIN)

    def next_life(self) -> int:
        self._life += 1
        return self._life

    def launch(self, role: int, rank: int, life: int, body: Callable[..., None], *args: Any) -> None:
        """`body(rank, life, *args)` in a process of its own, watched from when it runs."""
        kills = [point for point in self.failpoints if (point.role, point.rank) == (role, rank)]
        self.failpoints = tuple(point for point in self.failpoints if point not in kills)
        node = Node(self._start_method, role, rank, life, self._lifeline, kills, body, rank, life, *args)
        node.start(self.overview.beats(role, rank))
        (self.servers if role == SERVER else self.workers)[rank] = node
        self._watched[node.death] = node
        self._ready.register(node.death, select.POLLIN)

    @property
    def is_own(self) -> bool:
        """Whether this process has started them. A fork of it, made by a callback, say, leaves them alone."""
        return self._lifeline.is_own

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

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        """For a message or a death, never for one of them alone: the records, and who has died.

        A worker's last words are in the inbox by the time its death is seen.
        """
        descriptors = [descriptor for descriptor, _ in signals.poll(self._ready, seconds)]
        records = self.post.receive_nowait()
        return records, [node for node in map(self._watched.get, descriptors) if node is not None]

    @property
    def watched(self) -> list[Node]:
        """Whose death will be seen."""
        return list(self._watched.values())

    def silence(self, node: Node) -> float:
        """Seconds of looking at it without a sign of life: no time in which nobody looked, or could have."""
        return node.silence(self.overview.beats(node.role, node.rank), time.monotonic(), 2 * PAUSE)

    def await_exit(self, node: Node) -> int:
        """Wait until it has ended, and watch it no more; its exit code."""
        while (exit_code := node.exit_code) is None:
            node.join()
        self._forget(node)
        return exit_code

    def _forget(self, node: Node) -> None:
        if self._watched.pop(node.death, None):
            self._ready.unregister(node.death)

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
        until = time.monotonic() + GRACE
        for node in self.workers.values():
            node.join(max(0.0, until - time.monotonic()))

    def end_workers(self) -> None:
        for node in self.workers.values():
            self._forget(node)
        end(list(self.workers.values()))
        self.workers.clear()

    def close(self) -> None:
        try:
            self.end_workers()
            end(list(self.servers.values()))
        finally:
            self._lifeline.close()
        del self.overview  # views of shared memory, which an exception's traceback might keep
