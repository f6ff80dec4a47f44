"""The first thing that a node's process does where it is no fork of its parent: light to import.

What it is to do lies in a nameless file, so that its parent writes it without waiting for a reader: a process
that is killed or stopped while it boots holds nobody up. Before it reads that, it sees to it that it can not
outlive its parent, even stopped.
"""

import ctypes
import os
import signal
import sys
from multiprocessing import forkserver, process, reduction, resource_tracker, spawn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def signal_at_parents_death(number: int, parent: int) -> None:
    """Have the kernel send it when the thread that started this process dies; `parent` is that process.

    Where the parent has died already this process ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def main(descriptor: int, tracker: int, parent: int) -> None:
    """In a new interpreter: do what the file says. parent: 0 if another than its main thread started this."""
    if parent:
        signal_at_parents_death(signal.SIGKILL, parent)
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    sys.exit(_run(descriptor))


class Boot:
    """What a fork server's child finds instead of a process: the way to its file."""

    def __init__(self, place: int, server: int):
        self._place, self._server = place, server

    def _bootstrap(self, parent_sentinel: int) -> int:
        # Not SIGKILL: the death of the server is not that of its nodes. A node that is stopped goes on then,
        # and looks whether its parent is there (`nodes.Lifeline`).
        signal_at_parents_death(signal.SIGCONT, self._server)
        # Else the server would wait for this process before it ends.
        os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
        return _run(forkserver.get_inherited_fds()[self._place])  # type: ignore[attr-defined, index]


def _run(descriptor: int) -> int:
    """Its exit code. As `multiprocessing.spawn` does it."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        process.current_process()._inheriting = True  # type: ignore[attr-defined]
        try:
            spawn.prepare(reduction.pickle.load(file))  # type: ignore[attr-defined]
            node = reduction.pickle.load(file)  # type: ignore[attr-defined]
        finally:
            del process.current_process()._inheriting  # type: ignore[attr-defined]
    return node._bootstrap(parent_sentinel=os.pidfd_open(node._parent_pid))
