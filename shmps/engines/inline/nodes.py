"""The nodes of an inline cluster: what takes the events of the `Agenda`."""

import itertools
import traceback
from collections.abc import Callable
from typing import Any

from shmps.engines.inline.loop import Fiber, Killed
from shmps.engines.inline.site import WAKE, Post, Site, WorkerPost
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import SCHEDULER, SERVER, WORKER, Record
from shmps.ps.node import Handler, handle

BEGIN = None  # an event: a node begins
DIE = object()  # an event: its machine dies
KILLED, FAILED = -9, 1  # exit codes, as of processes
_END = Record(0)  # what the network carries when a node has ended


class Node:
    """A server or a worker; see `shmps.ps.engine.Node`.

    failpoints: the visits that are left until the node dies at a place, by place.
    """

    pid, is_closed = 0, False
    post: Post

    def __init__(self, site: Site, role: int, rank: int, life: int):
        self.role, self.rank, self.life = role, rank, life
        self.exit_code: int | None = None
        self.failpoints: dict[str, int] = {}
        self._site, self._loop, self._agenda = site, site.loop, site.agenda

    def start(self) -> None: ...

    def take(self, event: Any) -> Fiber | None:
        raise NotImplementedError

    def join(self, seconds: float | None = None) -> None:
        until = self._agenda.now + (1.0 if seconds is None else seconds)  # who has no limit asks again
        while self.exit_code is None and self._agenda.now < until:
            self._loop.pause_scheduler(until)

    def close(self) -> None:
        self.is_closed = True

    def kill(self) -> None:
        raise NotImplementedError

    def end(self, exit_code: int) -> None:
        """Note the end, and let the scheduler know of it, after the node's last records."""
        self.exit_code = exit_code
        self._agenda.carry(self.post, (SCHEDULER, 0), self, _END)

    def visit(self, place: str) -> None:
        """Count a visit to a failpoint. Raises Killed if the node dies there."""
        if place in self.failpoints:
            self.failpoints[place] -= 1
            if not self.failpoints[place]:
                self.die()

    def die(self) -> None:
        """Raise Killed in the code of this node, which is at work."""
        raise Killed


class ServerNode(Node):
    """A server. It has no thread: `Server.handle` runs in the thread that has the baton."""

    def __init__(self, site: Site, rank: int, life: int, begin: Callable[[], Handler], pulse: Pulse):
        super().__init__(site, SERVER, rank, life)
        self.post = Post(site, (SERVER, rank))
        self._begin, self._pulse = begin, pulse
        self._server: Handler | None = None
        self._early: list[Record] = []  # that came before it had begun

    def take(self, event: Any) -> None:
        if self.exit_code is not None:
            return
        if event is DIE:
            self.end(KILLED)
            return
        site = self._site
        before, site.at_work = site.at_work, self
        try:
            if event is BEGIN:
                self._server = self._begin()
                handle(self._server, self._early, self.post)
            elif self._server is None:
                self._early += event
            else:
                self._pulse.beat()
                handle(self._server, event, self.post)
        except Killed:
            self.end(KILLED)
        except Exception:  # it ends a process, too
            traceback.print_exc()
            self.end(FAILED)
        finally:
            site.at_work = before

    def kill(self) -> None:
        if self.exit_code is None:
            self.exit_code = KILLED

    def close(self) -> None:
        super().close()
        self._server = None
        del self._pulse  # it looks into the mailboxes


class WorkerNode(Node):
    """A worker: a function that runs in a thread of its own while it has the baton."""

    post: WorkerPost

    def __init__(self, site: Site, rank: int, life: int, begin: Callable[["WorkerNode"], None]):
        super().__init__(site, WORKER, rank, life)
        self.post = WorkerPost(site, self)
        self._begin = begin
        self._fiber = Fiber(site.loop, self._live, f"shmps-worker-{rank}")
        self._records: list[Record] = []
        # What the worker waits for, and what takes the records meanwhile; None: it computes or sleeps.
        self._waiting: tuple[Callable[[], bool], Callable[[list[Record]], None]] | None = None
        self._error: BaseException | None = None  # of taking a record, to be raised in the worker

    def start(self) -> None:
        """Start the thread, which waits. Raises OutOfSpace."""
        self._fiber.start()

    def take(self, event: Any) -> Fiber | None:
        if self.exit_code is not None:
            return None
        if event is DIE:
            self._fiber.killed = True
        if event is WAKE or event is DIE:
            return self._fiber
        self._records += event
        return self._fiber if self._waiting is not None and self._has_come() else None

    def _has_come(self) -> bool:
        """Give the records to the worker that waits; return whether it goes on."""
        assert self._waiting is not None
        condition, take = self._waiting
        site = self._site
        before, site.at_work = site.at_work, self
        try:
            take(self.drain())
            if not condition():
                return False
        except BaseException as error:
            self._error = error
        finally:
            site.at_work = before
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
        self._agenda.at(self._agenda.now + seconds, self, WAKE)
        self._pause()

    def _pause(self) -> None:
        self._loop.pause(self._fiber)
        self._site.at_work = self

    def must_live(self) -> None:
        """Raise Killed in a thread that goes on after its node was killed: in a handler, a finally block."""
        if self._fiber.killed:
            raise Killed

    def die(self) -> None:
        self._fiber.killed = True
        raise Killed

    def _live(self) -> None:
        self._site.at_work = self
        try:
            self.must_live()
            self._begin(self)
            self.end(0)
        except Killed:
            self._fiber.await_baton()  # an interrupt may have come after the baton was passed on
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
        super().close()
        self._fiber.join()


class SchedulerClock:
    """The virtual clock, as the scheduler sees it; see `shmps.ps.engine.Clock`."""

    def __init__(self, site: Site):
        self._loop, self._agenda = site.loop, site.agenda

    def now(self) -> float:
        return self._agenda.now

    def sleep(self, seconds: float) -> None:
        self._loop.pause_scheduler(self._agenda.now + seconds)

    def compute(self, nonzeros: int) -> None:
        """Do nothing: the scheduler computes nothing."""

    def read(self, cuts: list[int]) -> None:
        """Do nothing: the scheduler has no machine."""


class Clock:
    """The virtual clock, as one worker sees it; see `shmps.ps.engine.Clock`."""

    def __init__(self, site: Site, node: WorkerNode, computing: Callable[[int], float]):
        self._agenda, self._computing = site.agenda, computing
        self._rank, self.sleep = node.rank, node.sleep

    def now(self) -> float:
        return self._agenda.now

    def compute(self, nonzeros: int) -> None:
        self.sleep(self._computing(nonzeros))

    def read(self, cuts: list[int]) -> None:
        """Let the time pass that a pull takes."""
        sizes = [end - begin for begin, end in itertools.pairwise(cuts)]
        self.sleep(self._agenda.network.round_trip(self._agenda.now, self._rank, sizes) - self._agenda.now)
