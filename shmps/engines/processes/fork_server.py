"""The fork server of this program: a process of its own that forks nodes (see `boot.serve`)."""

import atexit
import contextlib
import errno
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import spawn  # type: ignore[attr-defined]
from multiprocessing.util import _args_from_interpreter_flags as _interpreter_flags  # type: ignore[attr-defined]
from typing import Any

from shmps.engines.processes.boot import MOST_AT_ONCE, NUMBER, import_script
from shmps.errors import NodeDied
from shmps.system import signals

_MOST_STARTS = 3  # of a process whose fork server dies
_PATIENCE = 60.0  # seconds that a fork server has to start, and to answer


def when_readable(descriptor: int) -> select.poll:
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    return ready


class _Server:
    """The fork server of this program: started when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner, self._pid = os.getpid(), 0
        self._requests: socket.socket | None = None
        self._script: str | None = None  # that it has imported

    @signals.held
    def prepare(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function(*args)` in the server: the processes that it forks later find imports and kernels.

        A task that needs the parent's script is skipped. If the server fails at it, the processes do it.
        """
        task = pickle.dumps((function, *args))
        if b"__main__" in task:
            return
        passage = signals.Passage()  # no cluster is open yet
        try:
            with self._lock, contextlib.suppress(OSError):
                self._prepare(task)
        finally:
            passage.close()

    def _prepare(self, task: bytes) -> None:
        payload = file_of(task)
        try:
            self._send([payload], self._running())
        finally:
            os.close(payload)

    def fork(self, descriptors: list[int], script: str | None) -> tuple[int, int]:
        """Have the server fork a process (see `boot.serve`); return the pid and a pidfd.

        Raises OSError if the server lacks what a process needs, NodeDied if `_MOST_STARTS` servers in a row
        die or do not answer.
        """
        with self._lock:
            for _ in range(_MOST_STARTS):
                try:
                    requests = self._running()
                    if script not in (None, self._script):
                        self._prepare(pickle.dumps((import_script, script)))
                        self._script = script
                    number, pidfds = self._ask(descriptors, requests)
                    break
                except BaseException as error:
                    self._end()
                    if not isinstance(error, ConnectionError):
                        raise
            else:
                raise NodeDied("fork server", 0, -signal.SIGKILL)
        if number > 0 and not pidfds:  # no descriptor was left for it
            os.kill(number, signal.SIGKILL)
            number = -errno.EMFILE
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return number, pidfds[0]

    def _running(self) -> socket.socket:
        if self._owner != os.getpid():  # that of the parent of this fork
            self._owner, self._requests = os.getpid(), None
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, contextlib.ExitStack() as failed:
                failed.enter_context(ours)
                self._pid = interpreter("serve", theirs.fileno(), [theirs.fileno()]).pid
                failed.pop_all()
            self._requests, self._script = ours, None
            atexit.register(ours.close)
        return self._requests

    def _ask(self, descriptors: list[int], requests: socket.socket) -> tuple[int, list[int]]:
        self._send(descriptors, requests)
        if not signals.poll(when_readable(requests.fileno()), _PATIENCE):
            raise ConnectionResetError("the fork server does not answer")
        answer, pidfds, *_ = socket.recv_fds(requests, NUMBER, 1)
        if not answer:
            raise ConnectionResetError("the fork server has died")
        return int.from_bytes(answer, "little", signed=True), pidfds

    def _send(self, descriptors: list[int], requests: socket.socket) -> None:
        count = len(descriptors).to_bytes(NUMBER, "little")
        for begin in range(0, len(descriptors), MOST_AT_ONCE):
            socket.send_fds(requests, [count], descriptors[begin : begin + MOST_AT_ONCE])

    def _end(self) -> None:
        """Kill the server, and a process whose answer was not read. One without an answer exits by itself."""
        if self._requests is None:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        with self._requests as requests, contextlib.suppress(OSError):
            self._requests = None
            requests.setblocking(False)
            for death in socket.recv_fds(requests, NUMBER, 1)[1]:
                signal.pidfd_send_signal(death, signal.SIGKILL)
                os.close(death)


fork_server = _Server()


def file_of(*parts: bytes) -> int:
    """A nameless file of these bytes."""
    descriptor = os.memfd_create("shmps")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def interpreter(name: str, descriptor: int, inherited: list[int]) -> subprocess.Popen[bytes]:
    """Run `boot.<name>(descriptor, parent)` in a new interpreter that inherits some descriptors."""
    parent = os.getpid() if signals.in_main_thread() else 0
    path = [*map(str, sys.path)]  # pathlib's are no literals
    call = f"{name}({descriptor}, {parent})"
    code = f"import sys; sys.path[:] = {path}; from shmps.engines.processes.boot import {name}; {call}"
    child = subprocess.Popen(
        [spawn.get_executable(), *_interpreter_flags(), "-c", code],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        process_group=0,  # see `boot`
    )
    child.returncode = 0  # it is ours to wait for
    return child
