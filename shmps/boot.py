"""The first thing that a node's process does where it is no fork of its parent: light to import.

What it is to do lies in a nameless file, so that its parent writes it without waiting for a reader: a process
that is killed or stopped while it boots holds nobody up.

It can not outlive its parent, even stopped. At first it is in another process group than its parent. When the
parent dies that group is orphaned, and if a process of it is stopped, the kernel sends it SIGHUP and SIGCONT.
Then it asks the kernel for a signal at the death of the parent, and joins the group of the parent, since the
signals of a terminal are for both. A fork server stays in its group, and what it forks begins in that.
"""

import contextlib
import ctypes
import errno
import importlib
import itertools
import os
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
    """In a new interpreter: do what the file says.

    parent: 0 if another thread than the main one has started this, whose end is not that of the parent.
    """
    if parent:
        signal_at_death_of(parent, signal.SIGKILL)
        _join_group_of(parent)
    sys.exit(_run(descriptor))


def serve(descriptor: int, parent: int, script: str | None) -> None:
    """In a new interpreter: fork a process for every request, and tell of its end, until the parent is gone.

    A request is the number of descriptors that come with it, in one message or more: the pipe for the exit
    code, the file of what is to be done, and those that are inherited. The answer is the number of the new
    process and a pidfd. script: that of the parent, imported here so that the processes need not.
    """
    if parent:
        signal_at_death_of(parent, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it would have it ignored here
    importlib.import_module("shmps.bodies")
    if script is not None:
        _import(script)
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
                else:
                    _fork(*request, requests, ends)


def _import(script: str) -> None:
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        with contextlib.suppress(Exception):  # that is raised again, and told, where it is needed
            spawn.import_main_path(script)  # type: ignore[attr-defined]
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def _request(requests: socket.socket) -> tuple[int, list[int]] | None:
    """How many descriptors came with it, and those for which there is room here; None at the end."""
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
        death = os.pidfd_open(pid)  # without which the process reads an end, and ends
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


def _forked(own: list[int], waiting: int, strange: list[int]) -> int:
    """The number of a process that does what is asked for, once it reads of it that its parent knows it."""
    server, group = os.getpid(), os.getppid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        # Not SIGKILL: the death of the server is not that of its nodes. A node that is stopped goes on then,
        # and looks whether its parent is there (`nodes.Lifeline`).
        signal_at_death_of(server, signal.SIGCONT)
        _join_group_of(group)
        _close([*strange, own[0]])
        if os.read(waiting, 1):
            _inherited[:] = own[2:]
            code = _run(own[1])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _tell(death: int, status: int) -> None:
    """Of the end of a process, by its exit code or minus the signal."""
    end = os.waitid(os.P_PIDFD, death, os.WEXITED)
    assert end is not None
    code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    with contextlib.suppress(BrokenPipeError):
        os.write(status, code.to_bytes(NUMBER, "little", signed=True))
    _close([death, status])


def signal_at_death_of(parent: int, number: int) -> None:
    """Have the kernel send it when the thread that started this process dies, one of the process `parent`.

    If the parent has died already, this process ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def _join_group_of(parent: int) -> None:
    with contextlib.suppress(OSError):  # the parent has died, or moved to another session
        os.setpgid(0, os.getpgid(parent))


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


def _close(descriptors: list[int]) -> None:
    for each in descriptors:
        os.close(each)
