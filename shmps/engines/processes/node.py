"""Node processes: starting, killing, and the first lines that a node runs."""

import _thread
import contextlib
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import reduction
from typing import Any

from shmps.engines.processes.boot import input_poll, join_group_of, signal_at_death_of
from shmps.engines.processes.process import DEFAULT, METHODS, class_of
from shmps.engines.processes.threads import threads_that_may_compute
from shmps.errors import NO_THREAD, OutOfSpace, UsageError
from shmps.ps.messages import ROLES
from shmps.system import signals
from shmps.system.failpoints import Failpoint, arm
from shmps.system.os_errors import shortage


def method_of(start_method: str | None, safe: bool = False) -> str:
    """Return the start method; the default for None: fork, where the system has it.

    Raises UsageError for an unknown method. If the default is fork and a fork may hang, warns, or returns
    forkserver if `safe`.
    """
    if start_method not in (None, *METHODS):
        raise UsageError(f"start_method must be one of {', '.join(METHODS)}, got {start_method!r}")
    if start_method is None and DEFAULT == "fork" and (threads := threads_that_may_compute()):
        if safe:
            return "forkserver"
        warnings.warn(
            f"nodes are forked while other threads are alive ({', '.join(threads[:3])}): the fork hangs if "
            f"one of them is in a matrix product of NumPy; pass start_method='forkserver', or 'fork' if they "
            f"do not compute",
            RuntimeWarning,
            stacklevel=3,
        )
    return start_method or DEFAULT


@contextlib.contextmanager
def named_shortages() -> Iterator[None]:
    """Turn an OSError in the block into OutOfSpace if the system lacks something for the nodes."""
    try:
        yield
    except OSError as error:
        if (short := shortage(error, in_memory=True)) is None:
            raise
        raise OutOfSpace(
            f"every node needs a process, about five descriptors and a file in memory, got {short.found} "
            f"({error.strerror}); use fewer workers and servers, or {short.remedy}"
        ) from error


class Lifeline:
    """Ends a node when the process that started it has died.

    - On Linux the kernel kills the node if the parent's main thread started it. (The kernel's signal follows
      the thread that forked, not the process.)
    - A thread in every node waits for a pidfd of the parent, and then exits the node. The parent opens the
      pidfd, so it cannot belong to another process. This way alone does not end a node that is stopped, or
      one in a kernel that never releases the interpreter.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._descriptor = os.pidfd_open(self._parent) if hasattr(os, "pidfd_open") else -1

    @property
    def is_own(self) -> bool:
        """Whether this process made the lifeline, and is not a fork of it."""
        return os.getpid() == self._parent

    def watch(self, by_main_thread: bool) -> None:
        """Watch the parent, in a node. by_main_thread: the main thread has started the node."""
        by_signal = by_main_thread and os.getppid() == self._parent and sys.platform == "linux"
        if by_signal:
            signal_at_death_of(self._parent, signal.SIGKILL)
            join_group_of(self._parent)
        try:
            # Not by threading, which waits until the thread runs: a time slice if the cores are busy.
            _thread.start_new_thread(self._go_with_parent, ())
        except RuntimeError:  # the limit on processes, which counts threads
            if not by_signal:
                os._exit(NO_THREAD)

    def _go_with_parent(self) -> None:
        if self._descriptor >= 0:
            input_poll(self._descriptor).poll()
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
    """A server or worker process.

    death: a descriptor that becomes readable when the process has ended; -1 before `start` and after `close`.
    closed: called before `death` is closed.
    """

    def __init__(
        self,
        start_method: str,
        role: int,
        rank: int,
        life: int,
        lifeline: Lifeline,
        failpoints: list[Failpoint],
        closed: Callable[["Node"], None],
        body: Callable[..., None],
        *args: Any,
    ):
        self.role, self.rank, self.life = role, rank, life
        by_main_thread = signals.in_main_thread()
        self.process = class_of(start_method)(
            target=_live,
            args=(lifeline, by_main_thread, failpoints, body, *args),
            name=f"shmps-{ROLES[role]}-{rank}",
            daemon=True,
        )
        self.death = -1
        self._closed = closed

    def start(self) -> None:
        self.process.start()
        try:
            self.death = self.process.death()
        except OSError:  # no descriptor is left
            self.process.kill()
            self.process.join()
            self.process.release()
            raise

    @property
    def pid(self) -> int:
        assert self.process.pid is not None, "not started"
        return self.process.pid

    def kill(self) -> None:
        """Send SIGKILL, to this process and no other."""
        if hasattr(signal, "pidfd_send_signal"):
            with contextlib.suppress(OSError):  # it has ended, and `death` may be a pipe
                signal.pidfd_send_signal(self.death, signal.SIGKILL)
        else:
            self.process.kill()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the process has ended, at most `seconds`."""
        signals.poll(input_poll(self.death), seconds)

    @property
    def exit_code(self) -> int | None:
        """None while the process runs; minus the signal that ended it; 255 if that is not known."""
        if self.death >= 0 and not input_poll(self.death).poll(0):
            return None
        exit_code = self.process.exitcode
        return 255 if exit_code is None else exit_code

    def close(self) -> None:
        if self.death >= 0:
            self._closed(self)
            os.close(self.death)
            self.death = -1
            self.process.release()


def _live(
    lifeline: Lifeline,
    by_main_thread: bool,
    failpoints: list[Failpoint],
    body: Callable[..., None],
    *args: Any,
) -> None:
    # Ctrl-C and the terminal's end reach the whole process group: the parent decides.
    signals.begin_anew(ignored=(signal.SIGINT, signal.SIGHUP))
    lifeline.watch(by_main_thread)
    for failpoint in failpoints:
        arm(failpoint.place, failpoint.visit)
    gc.freeze()  # keep the garbage collector, in this process, from what the parent had made
    body(*args)
