"""The code that a new interpreter runs first: a spawned node, or the fork server. It imports little.

The parent writes the node's task to a nameless file. A pipe could fill up, and the parent would then wait for
a node that was killed or stopped while it booted.

A node does not outlive its parent, even if the node is stopped:

- A new process starts in a process group of its own. If the parent dies, the kernel sends SIGHUP and SIGCONT
  to such an orphaned group when one of its processes is stopped. A fork gets its group from the parent. A new
  interpreter gives it to itself (its parent waits in vfork): one that is stopped before it has done so stays.
- The node then asks the kernel for a signal at the parent's death, and joins the parent's process group,
  because a terminal signals (Ctrl-Z) the whole group. The fork server stays in its own group. The processes
  that it forks start in that group, and then do the same as a spawned node.
"""

import contextlib
import ctypes
import errno
import importlib
import itertools
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from multiprocessing import process, reduction, spawn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
NUMBER = 8  # bytes of a number on its way between a parent and its fork server
MOST_AT_ONCE = 250  # descriptors in a message; the kernel takes 253
_inherited: list[int] = []  # descriptors that came with the request for this process


class Inherited:
    """A descriptor on its way to a process that a fork server forks: the one at `place` in the request."""

    def __init__(self, place: int):
        self._place = place

    def detach(self) -> int:
        return _inherited[self._place]


def main(descriptor: int, parent: int) -> None:
    """Run the task in the file `descriptor`, in a new interpreter.

    parent: the parent's pid, or 0 if a thread other than its main thread started this interpreter. The
    kernel's signal follows that thread, and would come when the thread ends.
    """
    if parent:
        signal_at_death_of(parent, signal.SIGKILL)
        join_group_of(parent)
    sys.exit(_run(descriptor))


def serve(descriptor: int, parent: int) -> None:
    """Fork a process for every request and report its exit code, until the parent closes the socket.

    A request consists of one or more messages. Each has the number of descriptors of the whole request, and
    some of them: the pipe for the exit code, the file with the task, and those that the process inherits. The
    answer is the pid of the new process and a pidfd. A descriptor that comes alone is a task for the server.
    """
    if parent:
        signal_at_death_of(parent, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it would have it ignored here
    importlib.import_module("shmps.engines.processes.roles")
    ends: dict[int, int] = {}  # pidfd -> where to tell of it
    with socket.socket(fileno=descriptor) as requests:
        while True:
            ready = select.poll()
            for each in (requests.fileno(), *ends):
                ready.register(each, select.POLLIN)
            for each, _ in ready.poll():
                if each in ends:
                    _tell(each, ends.pop(each))
                elif not (request := _request(requests)):
                    return
                elif request[0] == 1:
                    for task in request[1]:
                        _prepare(task)
                else:
                    _fork(*request, requests, ends)


def import_script(script: str) -> None:
    """Import the parent's, so that the processes that are forked later need not."""
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.import_main_path(script)  # type: ignore[attr-defined]
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def _prepare(descriptor: int) -> None:
    """Call what the file says: what it imports and compiles is there in processes that are forked later."""
    # An exception is raised again, and told, in the process that needs what is called here.
    with os.fdopen(descriptor, "rb") as file, contextlib.suppress(Exception):
        file.seek(0)
        function, *args = pickle.load(file)
        function(*args)


def _request(requests: socket.socket) -> tuple[int, list[int]] | None:
    """Return the number of descriptors of a request, and the descriptors that arrived; None at the end.

    Fewer arrive than were sent if this process may open no more.
    """
    descriptors: list[int] = []
    for messages in itertools.count(1):
        data, some, *_ = socket.recv_fds(requests, NUMBER, MOST_AT_ONCE)
        descriptors += some
        if not data:
            return None
        if messages * MOST_AT_ONCE >= (count := int.from_bytes(data, "little")):
            return count, descriptors
    raise AssertionError


def _fork(count: int, own: list[int], requests: socket.socket, ends: dict[int, int]) -> None:
    """A process for this request; the answer is minus the code of the error where the system has no room."""
    closed, pidfds = list(own), []
    try:
        if len(own) < count:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        waiting, starting = os.pipe()
        closed += [waiting, starting]
        pid = _forked(own, waiting, [starting, requests.fileno(), *ends, *ends.values()])
        death = _pidfd(pid)
    except OSError as error:
        answer = -(error.errno or errno.EAGAIN)
    else:
        ends[death] = own[0]
        closed.remove(own[0])
        answer, pidfds = pid, [death]
    with contextlib.suppress(BrokenPipeError):
        socket.send_fds(requests, [answer.to_bytes(NUMBER, "little", signed=True)], pidfds)
        if pidfds:
            os.write(starting, b"!")
    _close(closed)


def _pidfd(pid: int) -> int:
    """Return a pidfd of a child. If there is no descriptor for it, end the child and raise OSError."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _forked(own: list[int], waiting: int, strange: list[int]) -> int:
    """Fork a process and return its pid. It runs the task once it reads a byte from `waiting`.

    The byte means that the parent has been told of the process. strange: descriptors that it closes.
    """
    server, group = os.getpid(), os.getppid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        # Not SIGKILL: the death of the server is not that of its nodes. A node that is stopped goes on then,
        # and looks whether its parent is there (`node.Lifeline`).
        signal_at_death_of(server, signal.SIGCONT)
        join_group_of(group)
        _close([*strange, own[0]])
        if os.read(waiting, 1):
            _inherited[:] = own[2:]
            code = _run(own[1])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _tell(death: int, status: int) -> None:
    """Write the exit code of a process that has ended (minus the signal that killed it) to `status`."""
    end = os.waitid(os.P_PIDFD, death, os.WEXITED)
    assert end is not None
    code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    with contextlib.suppress(BrokenPipeError):
        os.write(status, code.to_bytes(NUMBER, "little", signed=True))
    _close([death, status])


def signal_at_death_of(parent: int, number: int) -> None:
    """Have the kernel send signal `number` to this process when the thread that started it ends.

    That is a thread of the process `parent`. If the parent has died already, this process exits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def join_group_of(parent: int) -> None:
    with contextlib.suppress(OSError):  # the parent has died, or moved to another session
        os.setpgid(0, os.getpgid(parent))


def _run(descriptor: int) -> int:
    """Run the task in the file and return the exit code, as `multiprocessing.spawn` does."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        process.current_process()._inheriting = True  # type: ignore[attr-defined]
        try:
            spawn.prepare(reduction.pickle.load(file))  # type: ignore[attr-defined]
            node = reduction.pickle.load(file)  # type: ignore[attr-defined]
        finally:
            del process.current_process()._inheriting  # type: ignore[attr-defined]
    return node._bootstrap(parent_sentinel=os.pidfd_open(node._parent_pid))


def _close(descriptors: list[int]) -> None:
    for each in descriptors:
        os.close(each)
