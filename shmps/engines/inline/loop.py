"""The baton that the threads of a cluster pass, from event to event."""

import ctypes
import math
import threading
from collections.abc import Callable

from shmps.engines.inline.agenda import Agenda
from shmps.errors import OutOfSpace
from shmps.system import signals

_PATIENCE = 1.0  # real seconds until a worker that computes without end is interrupted


class Killed(BaseException):
    """Ends the thread of a worker, as SIGKILL ends a process."""


class Fiber:
    """A thread that runs only while it has the baton. Without a body: the thread that runs the scheduler.

    killed: whether the thread is to end by `Killed` when it gets the baton.
    """

    def __init__(self, loop: "Loop", body: Callable[[], None] | None = None, name: str = ""):
        self.killed = False
        self._loop = loop
        self._thread = threading.Thread(target=self._live, args=(body,), name=name, daemon=True)
        self._wake = threading.Lock()
        self._wake.acquire()

    def go_on(self) -> None:
        """Wake the thread. `Loop.running` says that it has the baton."""
        if self._wake.locked():  # else an exception of a signal's handler has left it unlocked
            self._wake.release()

    def await_baton(self, seconds: float = -1) -> bool:
        """Wait until this thread has the baton, about `seconds` at most (-1: no limit)."""
        while self._loop.running is not self and self._wake.acquire(timeout=seconds):
            pass
        return self._loop.running is self

    def start(self) -> None:
        """Start the thread, which waits for the baton. Raises OutOfSpace at the limit on threads."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OutOfSpace(
                f"every worker of the inline engine needs a thread, got no more ({error}); use fewer "
                f"workers, or raise the limit on processes (ulimit -u)"
            ) from error

    def _live(self, body: Callable[[], None]) -> None:
        try:
            self.await_baton()
            body()
        finally:
            self._loop.leave()

    @property
    def lives(self) -> bool:
        """Whether the thread has begun, and has not ended."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait until a thread that has passed the baton on for the last time has ended."""
        if self.lives:
            self._thread.join()

    def interrupt(self) -> None:
        """Raise Killed in the thread, before its next bytecode."""
        self.killed = True
        thread = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Killed))


class Loop:
    """The thread that has the baton handles events of the agenda until one of them lets a thread go on.

    running: the fiber that has the baton. scheduler: that of the calling thread.
    """

    def __init__(self, agenda: Agenda) -> None:
        self.scheduler = self.running = Fiber(self)
        self._agenda = agenda
        self._alarm = math.inf  # when the scheduler goes on at the latest
        self._called_back = False  # whether the scheduler goes on before any other event

    def pause(self, fiber: Fiber) -> None:
        """Handle events until one of them lets the calling worker's `fiber` go on. Raises Killed."""
        following = self._next()
        if following is not fiber:
            self._pass_to(following)
            try:
                fiber.await_baton()
            except Killed:  # an interrupt that came after the baton was passed on
                fiber.await_baton()
        if fiber.killed:
            raise Killed

    def pause_scheduler(self, until: float) -> None:
        """Handle events until one of them concerns the scheduler, or `until`. Signals are delivered."""
        self._alarm = until
        following = self._next()
        if following is not self.scheduler:
            self._pass_to(following)
            try:
                self._await_workers()
            except BaseException:  # of a signal's handler
                self.take_back()
                raise
        self._alarm = math.inf

    def end(self, fiber: Fiber) -> None:
        """End a paused worker's thread by `Killed`. The scheduler calls it."""
        fiber.killed = True
        if fiber.lives:
            self._called_back = True
            self._pass_to(fiber)
            self.take_back()

    def leave(self) -> None:
        """Pass the baton on, at the end of a worker's thread."""
        self._pass_to(self._next())

    def take_back(self) -> None:
        """Get the baton back for the scheduler. A worker that computes gives it back when it next pauses.

        A worker that does not pause for a second gets the exception Killed, between two of its bytecodes.
        """
        self._called_back = True
        while not self.scheduler.await_baton(_PATIENCE):
            if self.running.lives:
                self.running.interrupt()
            elif self.running is not self.scheduler:  # it was interrupted while it passed the baton on
                self.running = self.scheduler
        self._called_back = False

    @signals.delivering
    def _await_workers(self) -> None:
        signals.deliver()
        self.scheduler.await_baton()

    def _next(self) -> Fiber:
        """Handle events up to the first one that lets a fiber go on, and return the fiber."""
        agenda = self._agenda
        while not self._called_back and (coming := agenda.next(self._alarm)) is not None:
            subject, event = coming
            if (fiber := subject.take(event)) is not None:
                return fiber
        return self.scheduler

    def _pass_to(self, fiber: Fiber) -> None:
        self.running = fiber
        fiber.go_on()
