"""The first code of a new interpreter: of a spawned node, or of the fork server. It imports little.

`process` draws how nodes start. The task of a node is in a nameless file that the parent writes. A pipe could
fill up, and the parent would then wait for a node that was killed or stopped while it booted.

A node does not outlive its parent, even if the node is stopped:

- A new process starts in a process group of its own. The death of the parent orphans this group, and if a
  process in it is stopped then, the kernel sends SIGHUP and SIGCONT to the group. The parent sets the group
  of a fork. A new interpreter sets its own group, while the parent waits in vfork: an interpreter that is
  stopped before this call outlives the parent.
- The node then asks the kernel for a signal at the parent's death, and joins the parent's process group,
  because a terminal signals (Ctrl-Z) the whole group. The fork server stays in its own group. The processes
  that it forks start in that group, and then do the same as a spawned node.
"""

import contextlib
import ctypes
import errno
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterator
from multiprocessing import process, reduction, spawn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
NUMBER = struct.Struct("<q")  # in messages between a parent and its fork server: a count, a pid, a code
MAX_DESCRIPTORS = 250  # per message; the kernel accepts 253
_inherited: list[int] = []  # descriptors that came with the request for this process


class InheritedDescriptor:
    """Unpickles to the descriptor at `index` of those that a process of the fork server inherits."""

    def __init__(self, index: int):
        self._index = index

    def detach(self) -> int:
        return _inherited[self._index]


def main(descriptor: int, parent: int) -> None:
    """Run the task in the file `descriptor`, in a new interpreter.

    parent: the parent's pid, or 0 if a thread other than the parent's main thread started this interpreter:
    the kernel sends its signal at the end of the thread, not of the process.
    """
    if parent:
        signal_at_death_of(parent, signal.SIGKILL)
        join_group_of(parent)
    sys.exit(_run_task(descriptor))


def serve(descriptor: int, parent: int) -> None:
    """Fork a process for every request and report its exit code, until the parent closes the socket.

    A request consists of one or more messages. Each message contains the number of descriptors in the whole
    request, and some of these descriptors: the pipe for the exit code, the task file, and the descriptors
    that the process inherits. The answer is the pid of the new process and a pidfd, or a negative error
    number. A request with one descriptor is different: it is a file with a call for the server itself.
    """
    if parent:
        signal_at_death_of(parent, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores SIGCHLD passes that on
    importlib.import_module("shmps.engines.processes.roles")
    exit_pipes: dict[int, int] = {}  # the pidfd of a process -> the pipe for its exit code
    with socket.socket(fileno=descriptor) as requests:
        while True:
            for each, _ in input_poll(requests.fileno(), *exit_pipes).poll():
                if each in exit_pipes:
                    _report_exit(each, exit_pipes.pop(each))
                elif not (request := _receive(requests)):
                    return
                elif request[0] == 1:
                    for call in request[1]:
                        _call(call)
                else:
                    _start(*request, requests, exit_pipes)


def import_script(script: str) -> None:
    """Import the parent's script, so that processes forked later find it imported."""
    with _booting():
        spawn.import_main_path(script)  # type: ignore[attr-defined]


def _call(descriptor: int) -> None:
    """Make the call in the file. Processes forked later find what the call imported and compiled."""
    # A node that needs the call makes it again, and reports the exception.
    with os.fdopen(descriptor, "rb") as file, contextlib.suppress(Exception):
        file.seek(0)
        function, *args = pickle.load(file)
        function(*args)


def _receive(requests: socket.socket) -> tuple[int, list[int]] | None:
    """Return the number of descriptors in a request, and the descriptors that arrived; None at the end.

    Fewer descriptors arrive than were sent if this process may not open more.
    """
    descriptors: list[int] = []
    room = 0  # for descriptors, in the messages that have come
    while True:
        data, some, *_ = socket.recv_fds(requests, NUMBER.size, MAX_DESCRIPTORS)
        if not data:
            return None
        descriptors += some
        room += MAX_DESCRIPTORS
        if room >= (count := NUMBER.unpack(data)[0]):
            return count, descriptors


def _start(count: int, received: list[int], requests: socket.socket, exit_pipes: dict[int, int]) -> None:
    """Fork a process for a request of `count` descriptors, answer the request, and let the process run."""
    to_close, pidfds = list(received), []
    try:
        if len(received) < count:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        waiting, starting = os.pipe()
        to_close += [waiting, starting]
        pid = _fork(received, waiting, [starting, requests.fileno(), *exit_pipes, *exit_pipes.values()])
        pidfd = _pidfd(pid)
    except OSError as error:
        answer = -(error.errno or errno.EAGAIN)
    else:
        exit_pipes[pidfd] = received[0]
        to_close.remove(received[0])
        answer, pidfds = pid, [pidfd]
    with contextlib.suppress(BrokenPipeError):
        socket.send_fds(requests, [NUMBER.pack(answer)], pidfds)
        if pidfds:
            os.write(starting, b"!")
    _close(to_close)


def _pidfd(pid: int) -> int:
    """Return a pidfd of a child. If none can be opened, end the child and raise OSError."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _fork(received: list[int], waiting: int, of_server: list[int]) -> int:
    """Fork a process and return its pid. The process runs its task once it reads a byte from `waiting`.

    The byte means that the parent has been told of the process. of_server: descriptors of the server that
    the process closes.
    """
    server, parent = os.getpid(), os.getppid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        # Not SIGKILL: nodes survive the death of the server. SIGCONT lets a stopped node go on and check
        # whether its parent is alive (`node.Lifeline`).
        signal_at_death_of(server, signal.SIGCONT)
        join_group_of(parent)
        exit_pipe, task, *inherited = received
        _close([*of_server, exit_pipe])
        if os.read(waiting, 1):
            _inherited[:] = inherited
            code = _run_task(task)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _report_exit(pidfd: int, exit_pipe: int) -> None:
    """Write the exit code of a process that has ended (minus the signal that killed it) to `exit_pipe`."""
    end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert end is not None
    code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    with contextlib.suppress(BrokenPipeError):
        os.write(exit_pipe, NUMBER.pack(code))
    _close([pidfd, exit_pipe])


def signal_at_death_of(parent: int, number: int) -> None:
    """Have the kernel send signal `number` to this process when the thread that started it ends.

    `parent` is the process of that thread. If `parent` is already dead, this process exits. Only Linux
    sends such a signal; on other systems the call does nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def join_group_of(parent: int) -> None:
    """Move this process to the process group of `parent`, if the parent is alive and in the same session."""
    with contextlib.suppress(OSError):
        os.setpgid(0, os.getpgid(parent))


def _run_task(descriptor: int) -> int:
    """Run the task in the file and return the exit code, as `multiprocessing.spawn` does."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        with _booting():
            spawn.prepare(reduction.pickle.load(file))  # type: ignore[attr-defined]
            node = reduction.pickle.load(file)  # type: ignore[attr-defined]
    return node._bootstrap(parent_sentinel=os.pidfd_open(node._parent_pid))


@contextlib.contextmanager
def _booting() -> Iterator[None]:
    """Have multiprocessing refuse to start processes in the block, which imports the parent's script."""
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def input_poll(*descriptors: int) -> select.poll:
    """Return a poll object that waits until one of the descriptors is readable."""
    ready = select.poll()
    for each in descriptors:
        ready.register(each, select.POLLIN)
    return ready


def _close(descriptors: list[int]) -> None:
    for each in descriptors:
        os.close(each)
