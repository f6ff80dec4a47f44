"""The fork server of this program: a process of its own that forks nodes (see `boot.serve`)."""

import atexit
import contextlib
import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import spawn  # type: ignore[attr-defined]
from multiprocessing.util import _args_from_interpreter_flags as _interpreter_flags  # type: ignore[attr-defined]
from typing import Any

from shmps.engines.processes.boot import MAX_DESCRIPTORS, NUMBER, import_script, input_poll
from shmps.errors import NodeDied
from shmps.system import signals

_MAX_SERVERS = 3  # servers in a row that may fail to start one process
_TIMEOUT = 60.0  # seconds for a server to start and to answer


class _ForkServer:
    """Starts the fork server when it is first needed, and again after its death."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner, self._pid = os.getpid(), 0
        self._requests: socket.socket | None = None
        self._script: str | None = None  # which the server has imported

    @signals.held
    def prepare(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function(*args)` in the server: processes forked later find its imports and kernels.

        A call that needs the parent's script is skipped, and a call that fails is ignored: the processes
        then import and compile for themselves.
        """
        call = pickle.dumps((function, *args))
        if b"__main__" in call:
            return
        passage = signals.Passage()  # no cluster is open yet
        try:
            with self._lock, contextlib.suppress(OSError):
                self._prepare(call)
        finally:
            passage.close()

    def _prepare(self, call: bytes) -> None:
        file = nameless_file(call)
        try:
            self._send([file], self._running())
        finally:
            os.close(file)

    def fork(self, descriptors: list[int], script: str | None) -> tuple[int, int]:
        """Have the server fork a process (see `boot.serve`); return the pid and a pidfd.

        script: the path of the parent's script if the process needs it, else None. Raises OSError if the
        server lacks what a process needs, and NodeDied if `_MAX_SERVERS` servers in a row die or do not
        answer.
        """
        with self._lock:
            for _ in range(_MAX_SERVERS):
                try:
                    requests = self._running()
                    if script not in (None, self._script):
                        self._prepare(pickle.dumps((import_script, script)))
                        self._script = script
                    answer, pidfds = self._ask(descriptors, requests)
                    break
                except BaseException as error:
                    self._end()
                    if not isinstance(error, ConnectionError):
                        raise
            else:
                raise NodeDied("fork server", 0, -signal.SIGKILL)
        if answer > 0 and not pidfds:  # this process may not open another descriptor
            os.kill(answer, signal.SIGKILL)
            answer = -errno.EMFILE
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return answer, pidfds[0]

    def _running(self) -> socket.socket:
        """Return the socket to the server, and start the server if none runs."""
        if self._owner != os.getpid():  # a fork of the program leaves the program's server alone
            self._owner, self._requests = os.getpid(), None
        if self._requests is None:
            own_end, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with server_end, contextlib.ExitStack() as failed:
                failed.enter_context(own_end)
                self._pid = start_interpreter("serve", server_end.fileno(), [server_end.fileno()]).pid
                failed.pop_all()
            self._requests, self._script = own_end, None
            atexit.register(own_end.close)
        return self._requests

    def _ask(self, descriptors: list[int], requests: socket.socket) -> tuple[int, list[int]]:
        """Send a request and return the answer: a pid with a pidfd, or a negative error number."""
        self._send(descriptors, requests)
        if not signals.poll(input_poll(requests.fileno()), _TIMEOUT):
            raise ConnectionResetError("the fork server does not answer")
        answer, pidfds, *_ = socket.recv_fds(requests, NUMBER.size, 1)
        if not answer:
            raise ConnectionResetError("the fork server has died")
        return NUMBER.unpack(answer)[0], pidfds

    def _send(self, descriptors: list[int], requests: socket.socket) -> None:
        count = NUMBER.pack(len(descriptors))
        for begin in range(0, len(descriptors), MAX_DESCRIPTORS):
            socket.send_fds(requests, [count], descriptors[begin : begin + MAX_DESCRIPTORS])

    def _end(self) -> None:
        """Kill the server, and the process of an answer that was not read.

        A process that the server has not answered for exits by itself: it never reads its byte.
        """
        if self._requests is None:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        with self._requests as requests, contextlib.suppress(OSError):
            self._requests = None
            requests.setblocking(False)
            for pidfd in socket.recv_fds(requests, NUMBER.size, 1)[1]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)


fork_server = _ForkServer()


def nameless_file(*parts: bytes) -> int:
    """Return the descriptor of a nameless file in memory that contains `parts`."""
    descriptor = os.memfd_create("shmps")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def start_interpreter(name: str, descriptor: int, inherited: list[int]) -> subprocess.Popen[bytes]:
    """Run `boot.<name>(descriptor, parent)` in a new interpreter that inherits descriptors."""
    parent = os.getpid() if signals.in_main_thread() else 0
    path = [*map(str, sys.path)]  # the repr of a pathlib.Path is no literal
    call = f"{name}({descriptor}, {parent})"
    code = f"import sys; sys.path[:] = {path}; from shmps.engines.processes.boot import {name}; {call}"
    child = subprocess.Popen(
        [spawn.get_executable(), *_interpreter_flags(), "-c", code],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        process_group=0,  # see `boot`
    )
    child.returncode = 0  # the caller waits for the process, not `subprocess`
    return child
