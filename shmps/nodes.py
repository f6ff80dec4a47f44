"""Node processes: how one is started, watched and ended, and what it does first."""

import contextlib
import gc
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import reduction
from typing import Any

from shmps.messages import ROLES


class Lifeline:
    """By which the nodes notice that the process that started them has died, and go with it.

    A pidfd of the parent, opened by the parent itself, so that it can not be another process's. A thread
    sleeps on it in every node; so no wait in the node has to.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._descriptor = os.pidfd_open(self._parent) if hasattr(os, "pidfd_open") else -1

    def watch(self) -> None:
        threading.Thread(target=self._go_with_parent, name="lifeline", daemon=True).start()

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
        return self._parent, reduction.DupFd(self._descriptor) if self._descriptor >= 0 else None

    def __setstate__(self, state):
        self._parent, descriptor = state
        self._descriptor = descriptor.detach() if descriptor else -1


class Node:
    """A server or worker process. `death` is a descriptor that becomes readable when it has ended."""

    def __init__(
        self, context: Any, role: int, rank: int, lifeline: Lifeline, body: Callable[..., None], *args: Any
    ):
        self.role, self.rank = role, rank
        self.process = context.Process(
            target=_live, args=(lifeline, body, *args), name=f"shmps-{ROLES[role]}-{rank}", daemon=True
        )
        self.death = -1

    def start(self) -> None:
        with _signals_blocked():
            self.process.start()
            pid = self.process.pid
            self.death = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else os.dup(self.process.sentinel)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal that ended it."""
        return self.process.exitcode

    def close(self) -> None:
        if self.death >= 0:
            os.close(self.death)
            self.death = -1


def end(nodes: list[Node]) -> None:
    """Kill those that run, wait for their exits, and forget them all.

    Ending is killing: a node owns nothing that outlives it, so there is one way to end and it is exercised
    all the time (Candea & Fox, Crash-Only Software, HotOS 2003).
    """
    with _signals_blocked():
        started = [node for node in nodes if node.process.pid is not None]
        for node in started:
            node.process.kill()
        for node in started:
            node.process.join()
            node.close()
        nodes.clear()


def _live(lifeline: Lifeline, body: Callable[..., None], *args: Any) -> None:
    # Ctrl-C reaches the whole terminal group: the parent decides. Its own handlers are not ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    lifeline.watch()
    gc.freeze()  # what the parent had made is not searched for garbage, here least of all
    body(*args)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A child must not run the parent's handlers before it has set its own; nor may a second interrupt stop
    the cleaning up after the first."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
