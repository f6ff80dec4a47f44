"""Node processes: how one is started, watched and ended, and what it does first."""

import _thread
import contextlib
import ctypes
import errno
import gc
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import reduction, resource_tracker
from typing import Any

from shmps.errors import OutOfSpace, UsageError
from shmps.failpoints import Failpoint, arm
from shmps.messages import ROLES

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def context_of(start_method: str | None) -> Any:
    """How processes are started; None: by fork, where there is one."""
    methods = multiprocessing.get_all_start_methods()
    if start_method not in (None, *methods):
        raise UsageError(f"start_method is one of {', '.join(methods)}; found {start_method!r}")
    context = multiprocessing.get_context(start_method or ("fork" if "fork" in methods else "spawn"))
    if context.get_start_method() == "spawn":
        # Else the first node starts it, and that unblocks the signals that are held meanwhile.
        resource_tracker.ensure_running()
    return context


@contextlib.contextmanager
def named_shortages() -> Iterator[None]:
    """What the system refuses for lack of something, said as such."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
            raise
        raise OutOfSpace(
            f"every node needs a process and about five descriptors: {error.strerror}; "
            f"use fewer workers and servers, or raise the limits (ulimit -n, ulimit -u)"
        ) from error


class Lifeline:
    """By which the nodes notice that the process that started them has died, and go with it.

    On Linux the kernel kills them, where the main thread started them (its signal follows the thread that
    forked, not the process). Otherwise, and besides, a pidfd of the parent: opened by the parent itself, so
    that it can not be another process's. A thread sleeps on it in every node; so no wait in the node has
    to, but a node that is stopped, or in a kernel that never lets go of the interpreter, goes on.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._descriptor = os.pidfd_open(self._parent) if hasattr(os, "pidfd_open") else -1

    def watch(self, by_main_thread: bool) -> None:
        """In a node: from now on it goes with its parent, whose main thread started it or did not."""
        if by_main_thread and sys.platform == "linux" and os.getppid() == self._parent:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Not by threading, which waits for it to run: a time slice, where others want the cores.
        _thread.start_new_thread(self._go_with_parent, ())

    def _go_with_parent(self) -> None:
        if self._descriptor >= 0:
            parent = select.poll()
            parent.register(self._descriptor, select.POLLIN)
            parent.poll()
        else:
            while os.getppid() == self._parent:
                time.sleep(0.2)
        os._exit(1)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __getstate__(self):
        descriptor = reduction.DupFd(self._descriptor) if self._descriptor >= 0 else None
        return self._parent, descriptor

    def __setstate__(self, state):
        self._parent, descriptor = state
        self._descriptor = descriptor.detach() if descriptor else -1


class Node:
    """A server or worker process. `death` is a descriptor that becomes readable when it has ended."""

    def __init__(
        self,
        context: Any,
        role: int,
        rank: int,
        life: int,
        lifeline: Lifeline,
        failpoints: list[Failpoint],
        body: Callable[..., None],
        *args: Any,
    ):
        self.role, self.rank, self.life = role, rank, life
        self.process = context.Process(
            target=_live,
            args=(
                lifeline,
                threading.current_thread() is threading.main_thread(),
                failpoints,
                body,
                *args,
            ),
            name=f"shmps-{ROLES[role]}-{rank}",
            daemon=True,
        )
        self.death = -1
        self.hung = self.pinged = False
        self.has_beaten = False
        self._beats, self._looked, self._silent = 0, 0.0, 0.0

    def silence(self, beats: int, now: float, most: float) -> float:
        """Seconds of looking since its count of beats changed; of a gap between two looks `most` counts."""
        if beats != self._beats:
            self._beats, self._silent, self.pinged, self.has_beaten = beats, 0.0, False, True
        else:
            self._silent += min(now - self._looked, most)
        self._looked = now
        return self._silent

    def start(self, beats: int) -> None:
        """`beats`: the count that its predecessor left."""
        self._beats, self._looked = beats, time.monotonic()
        with signals_held():
            self.process.start()
            pid = self.process.pid
            self.death = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else os.dup(self.process.sentinel)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal that ended it."""
        return self.process.exitcode

    @property
    def fate(self) -> str:
        """What an `Event` says of its end."""
        return "hung" if self.hung else "died"

    def close(self) -> None:
        if self.death >= 0:
            os.close(self.death)
            self.death = -1


def end(nodes: list[Node]) -> None:
    """Kill those that run, and wait for their exits.

    Ending is killing: a node owns nothing that outlives it, so there is one way to end and it is exercised
    all the time (Candea & Fox, Crash-Only Software, HotOS 2003).
    """
    with signals_held():
        started = [node for node in nodes if node.process.pid is not None]
        for node in started:
            node.process.kill()
        for node in started:
            node.process.join()
            node.close()


def _live(
    lifeline: Lifeline,
    by_main_thread: bool,
    failpoints: list[Failpoint],
    body: Callable[..., None],
    *args: Any,
) -> None:
    # Ctrl-C reaches the whole terminal group: the parent decides. Its own handlers are not ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    lifeline.watch(by_main_thread)
    for failpoint in failpoints:
        arm(failpoint.place, failpoint.visit)
    gc.freeze()  # what the parent had made is not searched for garbage, here least of all
    body(*args)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is done: neither loses a node that is just being started, nor
    stops the cleaning up after the first of them.

    They are blocked, so that a child does not run the parent's handlers before it has set its own. Another
    thread may still take them, and then Python runs their handlers in the main thread: there they are only
    noted, and raised at the end.
    """
    noted: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for each in _SIGNALS:
            if callable(signal.getsignal(each)):
                handlers[each] = signal.signal(each, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in dict.fromkeys(noted):
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
