"""Start the process of a node: by fork, by a fork server, or as a new interpreter (spawn).

This is multiprocessing's way, with three differences:

- multiprocessing's registry does not know the process. So other threads that start processes do not reap it,
  and no exit handler waits for it.
- The task is written to a nameless file, not to a pipe. So the parent never waits for a process that is
  killed or stopped while it boots.
- The parent's script is imported only if the task needs something that the script defines.
"""

import atexit
import contextlib
import errno
import os
import pickle
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import get_all_start_methods, popen_fork, popen_forkserver, popen_spawn_posix, spawn  # type: ignore[attr-defined]
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from multiprocessing.util import _args_from_interpreter_flags as _interpreter_flags  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

from shmps.engines.processes.boot import (
    MOST_AT_ONCE,
    NUMBER,
    Inherited,
    import_script,
    signal_at_death_of,
)
from shmps.errors import NodeDied
from shmps.system import signals

METHODS = tuple(get_all_start_methods())
DEFAULT = "fork" if "fork" in METHODS else "spawn"
# Threads of these modules wait, or draw: what they run is their own.
_IDLE = re.compile(r"(tqdm|ipykernel|IPython|debugpy|joblib\.externals\.loky|multiprocessing\.queues)(\.|$)")
_MOST_STARTS = 3  # of a process whose fork server dies
_PATIENCE = 60.0  # seconds that a fork server has to start, and to answer
_NEWS = 1.0  # seconds that a fork server has to tell the exit code of a process that has ended


def threads_that_may_compute() -> list[str]:
    """Return the names of the other threads of this program that may make a fork hang.

    If a thread is in a matrix product, OpenBLAS waits in its fork handler for its own threads, and the
    product never ends. The threads of notebooks and progress bars are left out: they compute nothing.
    """
    frames = sys._current_frames()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
        and not _IDLE.match(_module_of(frames.get(thread.ident or 0)))
    ]


def _module_of(frame: FrameType | None) -> str:
    """Return the module of a thread's target: of the outermost function that is not in `threading`."""
    module = ""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        module, frame = module if name == "threading" else name, frame.f_back
    return module


class NodeProcess(BaseProcess):
    """A process that only its `Node` knows. It is daemonic: it may not start processes of its own."""

    def start(self) -> None:
        self._popen = self._Popen(self)  # type: ignore[attr-defined]
        self._sentinel = self._popen.sentinel
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]

    def death(self) -> int:
        """Return a descriptor that becomes readable when the process ends: a pidfd, or a pipe that closes.

        It is a pipe if other code has reaped the process already: another process may have its pid by now.
        """
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                return self._popen.pidfd()
        return os.dup(self.sentinel)

    def release(self) -> None:
        """Close this program's descriptors for the process. Call it after `exitcode` was read."""
        self._popen.close()


def _pidfd_of_child(pid: int) -> int:
    """Raises ProcessLookupError or ChildProcessError if this program has no such child, running or ended."""
    pidfd = os.pidfd_open(pid)
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        os.close(pidfd)
        raise
    return pidfd


class _Forked(popen_fork.Popen):
    def _launch(self, process: BaseProcess) -> None:
        self._ends: list[int] = []
        try:
            for _ in range(2):
                self._ends += os.pipe()
            self.sentinel, end, start, _ = self._ends
            parent = os.getpid() if _in_main_thread() else 0
            with signals.blocked():
                self.pid = os.fork()
                if not self.pid:
                    self._live(process, parent)
        except OSError:
            self.close()
            raise
        for each in (end, start):
            self._ends.remove(each)
            os.close(each)

    def _live(self, process: BaseProcess, parent: int) -> None:
        code = 1
        try:
            os.setpgid(0, 0)  # until it has asked for a signal at the parent's death: see `boot`
            if parent:
                signal_at_death_of(parent, signal.SIGKILL)
            sentinel, _, start, end = self._ends
            os.close(sentinel)
            os.close(end)
            code = process._bootstrap(parent_sentinel=start)  # type: ignore[attr-defined]
        finally:
            os._exit(code)

    def close(self) -> None:
        while self._ends:
            os.close(self._ends.pop())

    def pidfd(self) -> int:
        return _pidfd_of_child(self.pid)


class _Sent(popen_fork.Popen):
    """A process whose task lies in a file."""

    def __init__(self, process: BaseProcess):
        self._descriptors: list[int] = []  # that it inherits
        super().__init__(process)

    @contextlib.contextmanager
    def _sent(self, process: BaseProcess) -> Iterator[tuple[int, int, str | None]]:
        """The file of what the process is to do, the end of a pipe that closes when it ends (the other is
        `sentinel`), and the script that it needs. They are closed after the block; all, if it raises.
        """
        payload, script = self._payload(process)
        with contextlib.ExitStack() as both, contextlib.ExitStack() as failed:
            both.callback(os.close, payload)
            self.sentinel, theirs = os.pipe()
            both.callback(os.close, theirs)
            failed.callback(os.close, self.sentinel)
            yield payload, theirs, script
            failed.pop_all()

    def close(self) -> None:
        os.close(self.sentinel)

    def _payload(self, process: BaseProcess) -> tuple[int, str | None]:
        """Return a nameless file with the task, and the path of the script that the task needs, if any."""
        preparation = spawn.get_preparation_data(process.name)
        set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            pickled = reduction.ForkingPickler.dumps(process).tobytes()
            if b"__main__" not in pickled:
                for name in ("init_main_from_name", "init_main_from_path"):
                    preparation.pop(name, None)
            prepared = reduction.ForkingPickler.dumps(preparation).tobytes()
        finally:
            set_spawning_popen(None)
        return _file_of(prepared, pickled), preparation.get("init_main_from_path")


class _Spawned(_Sent):
    """In a new interpreter."""

    DupFd = popen_spawn_posix._DupFd

    def duplicate_for_child(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _launch(self, process: BaseProcess) -> None:
        with self._sent(process) as (payload, theirs, _), signals.blocked():
            self.pid = _interpreter("main", payload, [*self._descriptors, payload, theirs]).pid

    def pidfd(self) -> int:
        return _pidfd_of_child(self.pid)


class _Served(_Sent):
    """By the fork server."""

    DupFd = Inherited

    def duplicate_for_child(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return len(self._descriptors) - 1

    def _launch(self, process: BaseProcess) -> None:
        with self._sent(process) as (payload, theirs, script):
            self.pid, self._pidfd = fork_server.fork([theirs, payload, *self._descriptors], script)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code; None while the process runs; 255 if the fork server cannot report it."""
        if self.returncode is None and _when_readable(self._pidfd).poll(0 if flag else None):
            told = _when_readable(self.sentinel).poll(1000 * _NEWS)
            code = os.read(self.sentinel, NUMBER) if told else b""
            self.returncode = int.from_bytes(code, "little", signed=True) if code else 255
        return self.returncode

    def pidfd(self) -> int:
        return self._pidfd


def _when_readable(descriptor: int) -> select.poll:
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
        payload = _file_of(task)
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
                self._pid = _interpreter("serve", theirs.fileno(), [theirs.fileno()]).pid
                failed.pop_all()
            self._requests, self._script = ours, None
            atexit.register(ours.close)
        return self._requests

    def _ask(self, descriptors: list[int], requests: socket.socket) -> tuple[int, list[int]]:
        self._send(descriptors, requests)
        if not signals.poll(_when_readable(requests.fileno()), _PATIENCE):
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


def _file_of(*parts: bytes) -> int:
    """A nameless file of these bytes."""
    descriptor = os.memfd_create("shmps")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _in_main_thread() -> bool:
    """Whether this is the main thread: the kernel's signal at a parent's death follows the thread."""
    return threading.current_thread() is threading.main_thread()


def _interpreter(name: str, descriptor: int, inherited: list[int]) -> subprocess.Popen[bytes]:
    """Run `boot.<name>(descriptor, parent)` in a new interpreter that inherits some descriptors."""
    parent = os.getpid() if _in_main_thread() else 0
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


class _Forking(NodeProcess):
    _start_method, _Popen = "fork", _Forked


class _Serving(NodeProcess):
    _start_method, _Popen = "forkserver", _Served if hasattr(os, "memfd_create") else popen_forkserver.Popen


class _Spawning(NodeProcess):
    _start_method, _Popen = "spawn", _Spawned if hasattr(os, "memfd_create") else popen_spawn_posix.Popen


def class_of(start_method: str) -> type[NodeProcess]:
    """The class of processes that are started by one of METHODS."""
    return {"fork": _Forking, "forkserver": _Serving, "spawn": _Spawning}[start_method]
