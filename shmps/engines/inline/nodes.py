"""The nodes of an inline cluster: what takes the events of the `Loop`."""

import traceback
from collections.abc import Callable
from typing import Any

from shmps.engines.inline.loop import Fiber, Killed, Loop
from shmps.engines.inline.machines import Network
from shmps.ps.messages import SCHEDULER, SERVER, WORKER, Address, Delivery, Record
from shmps.ps.node import handle
from shmps.ps.server.server import Server

BEGIN = WAKE = None  # an event that is no record: a node begins, or has slept
KILLED, FAILED = -9, 1  # exit codes, as of processes


class Node:
    """A server or a worker; see `shmps.ps.engine.Node`.

    failpoints: the visits that are left until the node dies at a place, by place.
    """

    pid = 0

    def __init__(self, loop: Loop, inbox: "Inbox", role: int, rank: int, life: int):
        self.role, self.rank, self.life = role, rank, life
        self.exit_code: int | None = None
        self.failpoints: dict[str, int] = {}
        self._loop, self._inbox = loop, inbox

    def join(self, seconds: float | None = None) -> None:
        until = self._loop.now + (seconds or 0.0)
        while self.exit_code is None and self._loop.now < until:
            self._loop.pause_scheduler(until)

    def close(self) -> None: ...

    def kill(self) -> None:
        raise NotImplementedError

    def end(self, exit_code: int) -> None:
        """Note the end, and tell the scheduler."""
        self.exit_code = exit_code
        self._inbox.tell(self)

    def visit(self, place: str) -> None:
        """Count a visit to a failpoint. Raises Killed if the node dies there."""
        if place in self.failpoints:
            self.failpoints[place] -= 1
            if not self.failpoints[place]:
                raise Killed


class ServerNode(Node):
    """A server. It has no thread: `Server.handle` runs in the thread that has the baton."""

    def __init__(self, loop: Loop, inbox: "Inbox", rank: int, life: int, begin: Callable[[], Server]):
        super().__init__(loop, inbox, SERVER, rank, life)
        self.post = Post(inbox.posts, (SERVER, rank), self)
        self._begin = begin
        self._server: Server | None = None

    def take(self, event: Record | None) -> None:
        if self.exit_code is not None:
            return
        inbox = self._inbox
        before, inbox.at_work = inbox.at_work, self
        try:
            if event is BEGIN:
                self._server = self._begin()
            else:
                assert self._server is not None
                handle(self._server, [event], self.post)
        except Killed:
            self.end(KILLED)
        except Exception:  # it ends a process, too
            traceback.print_exc()
            self.end(FAILED)
        finally:
            inbox.at_work = before

    def kill(self) -> None:
        if self.exit_code is None:
            self.exit_code = KILLED

    def close(self) -> None:
        self._server = None


class WorkerNode(Node):
    """A worker: a function that runs in a thread of its own while it has the baton."""

    def __init__(
        self, loop: Loop, inbox: "Inbox", rank: int, life: int, begin: Callable[["WorkerNode"], None]
    ):
        super().__init__(loop, inbox, WORKER, rank, life)
        self.post = WorkerPost(inbox.posts, (WORKER, rank), self)
        self._begin = begin
        self._fiber = Fiber(loop, self._live, f"shmps-worker-{rank}")
        self._records: list[Record] = []
        # What the worker waits for, and what takes the records meanwhile; None: it computes or sleeps.
        self._waiting: tuple[Callable[[], bool], Callable[[list[Record]], None]] | None = None
        self._error: BaseException | None = None  # of taking a record, to be raised in the worker

    def take(self, event: Record | None) -> Fiber | None:
        if self.exit_code is not None:
            return None
        if event is WAKE:
            return self._fiber
        self._records.append(event)
        return self._fiber if self._waiting is not None and self._has_come() else None

    def _has_come(self) -> bool:
        """Give the records to the worker that waits; return whether it goes on."""
        assert self._waiting is not None
        condition, take = self._waiting
        inbox = self._inbox
        before, inbox.at_work = inbox.at_work, self
        try:
            take(self.drain())
            if not condition():
                return False
        except BaseException as error:
            self._error = error
        finally:
            inbox.at_work = before
        self._waiting = None
        return True

    def drain(self) -> list[Record]:
        records, self._records = self._records, []
        return records

    def receive_until(self, condition: Callable[[], bool], take: Callable[[list[Record]], None]) -> None:
        self.must_live()
        while not condition():
            if self._records:
                take(self.drain())
            else:
                self._waiting = condition, take
                self._pause()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error

    def sleep(self, seconds: float) -> None:
        self.must_live()
        self._loop.at(self._loop.now + seconds, self, WAKE)
        self._pause()

    def _pause(self) -> None:
        self._loop.pause(self._fiber)
        self._inbox.at_work = self

    def must_live(self) -> None:
        """Raise Killed in a thread that goes on after its node was killed: in a handler, a finally block."""
        if self._fiber.killed:
            raise Killed

    def visit(self, place: str) -> None:
        try:
            super().visit(place)
        except Killed:
            self._fiber.killed = True
            raise

    def _live(self) -> None:
        self._inbox.at_work = self
        try:
            self.must_live()
            self._begin(self)
            self.end(0)
        except Killed:
            if self.exit_code is None:
                self.end(KILLED)
        except BaseException:  # it ends a process, too
            traceback.print_exc()
            self.end(FAILED)

    def kill(self) -> None:
        if self.exit_code is None:
            self.exit_code = KILLED
            self._loop.end(self._fiber)

    def close(self) -> None:
        self._fiber.join()


class SchedulerClock:
    """The virtual clock, as the scheduler sees it; see `shmps.ps.engine.Clock`."""

    def __init__(self, loop: Loop):
        self._loop = loop

    def now(self) -> float:
        return self._loop.now

    def sleep(self, seconds: float) -> None:
        self._loop.pause_scheduler(self._loop.now + seconds)

    def compute(self, nonzeros: int) -> None:
        """Do nothing: the scheduler computes nothing."""


class Clock:
    """The virtual clock, as one worker sees it; see `shmps.ps.engine.Clock`."""

    def __init__(self, loop: Loop, node: WorkerNode, computing: Callable[[int], float]):
        self._loop, self._computing = loop, computing
        self.sleep = node.sleep

    def now(self) -> float:
        return self._loop.now

    def compute(self, nonzeros: int) -> None:
        self.sleep(self._computing(nonzeros))


class Posts:
    """The nodes by their addresses, and the network between them."""

    def __init__(self, loop: Loop, network: Network):
        self.nodes: dict[Address, Any] = {}  # the last node of each address
        self.loop, self.network = loop, network

    def carry(self, sender: Address, address: Address, event: Any, record: Record) -> None:
        """Let the addressee take `event` when `record` has come through the network.

        Records to a former life, and records to nobody, are lost.
        """
        loop, network = self.loop, self.network
        if (node := self.nodes.get(address)) is not None:
            worker = sender[1] if sender[0] == WORKER else address[1]
            machines = network.machines
            at = network.arrival(loop.now, machines[sender], machines[address], worker, record)
            loop.at(at, node, event)


class Post:
    """The way of one node to the others; see `shmps.ps.engine.Post`. What is sent has left at once."""

    def __init__(self, posts: Posts, me: Address, node: Any = None):
        self._posts, self._me, self._node = posts, me, node

    def send(self, address: Address, record: Record) -> None:
        self._posts.carry(self._me, address, record, record)

    def send_all(self, deliveries: list[Delivery]) -> None:
        for address, record in deliveries:
            self.send(address, record)

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        # A server's records come in the order in which they were sent, whoever the sender is.
        self.send(address, record)

    def flush(self) -> None: ...


class WorkerPost(Post):
    """The post of a worker, which can wait."""

    def send(self, address: Address, record: Record) -> None:
        self._node.must_live()
        super().send(address, record)

    def receive_until(self, condition: Callable[[], bool], take: Callable[[list[Record]], None]) -> None:
        self._node.receive_until(condition, take)

    def receive(self) -> list[Record]:
        records: list[Record] = []
        self.receive_until(lambda: bool(records), records.extend)
        return records

    def receive_nowait(self) -> list[Record]:
        records: list[Record] = self._node.drain()
        return records


_END = Record(0)  # what the network carries when a node has ended


class Inbox:
    """The scheduler's inbox: records, and nodes that have ended.

    at_work: the node whose code runs now.
    """

    def __init__(self, loop: Loop, posts: Posts):
        self.posts = posts
        self.at_work: Any = None
        self.records: list[Record] = []
        self.ended: list[Node] = []
        self._loop = loop
        posts.nodes[SCHEDULER, 0] = self

    def tell(self, node: Node) -> None:
        """Let the scheduler know of a node's end, after the node's last records."""
        self.posts.carry((node.role, node.rank), (SCHEDULER, 0), node, _END)

    def take(self, event: Record | Node) -> Fiber:
        if isinstance(event, Node):
            self.ended.append(event)
        else:
            self.records.append(event)
        return self._loop.scheduler
