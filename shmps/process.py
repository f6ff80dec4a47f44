"""How a node's process is started: as a fork, by a server that forks, or in a new interpreter.

As multiprocessing does it, with three differences:

- Its registry does not know the process of a node. So other threads that start processes do not take its exit
  code, and no exit handler waits for it.
- What the process is to do is written to a nameless file, not to a pipe. So the parent never waits for a
  process that is killed or stopped while it boots.
- The script of the parent is imported only if the process needs something that the script defines.
"""

import atexit
import contextlib
import os
import pickle
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import get_all_start_methods, popen_fork, popen_forkserver, popen_spawn_posix, spawn  # type: ignore[attr-defined]
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from multiprocessing.util import _args_from_interpreter_flags as _interpreter_flags  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

from shmps import signals
from shmps.boot import MOST_AT_ONCE, NUMBER, Inherited, import_script
from shmps.errors import NodeDied

METHODS = tuple(get_all_start_methods())
DEFAULT = "fork" if "fork" in METHODS else "spawn"
# Threads of these modules wait, or draw: what they run is their own.
_IDLE = re.compile(r"(tqdm|ipykernel|IPython|debugpy|joblib\.externals\.loky|multiprocessing\.queues)(\.|$)")
_MOST_STARTS = 3  # of a process whose fork server dies
_PATIENCE = 60.0  # seconds that a fork server has to start, and to answer


def threads_that_may_compute() -> list[str]:
    """The names of the other threads of this program beside which a fork may hang.

    One of them may be in a product of NumPy's. OpenBLAS prepares a fork by ending its own threads, for which
    it waits, and that product is never done. Threads that notebooks and progress bars have are left out.
    """
    frames = sys._current_frames()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
        and not _IDLE.match(_module_of(frames.get(thread.ident or 0)))
    ]


def _module_of(frame: FrameType | None) -> str:
    """That of the function that a thread was started with: the outermost one outside of `threading`."""
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
        """A descriptor that becomes readable when it has ended: a pidfd, or a pipe that closes then.

        A pipe where it has ended already: somebody who waits for any child of this program may have taken its
        exit code, and its number could be another process's by now.
        """
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(ProcessLookupError):
                death = self._popen.pidfd()
                if self.exitcode is None:
                    return death
                os.close(death)
        return os.dup(self.sentinel)

    def release(self) -> None:
        """Close what is open for it here, once its exit code was taken."""
        self._popen.close()


class _Forked(popen_fork.Popen):
    def _launch(self, process: BaseProcess) -> None:
        with signals.blocked():
            super()._launch(process)  # type: ignore[misc]

    def pidfd(self) -> int:
        return os.pidfd_open(self.pid)


class _Sent(popen_fork.Popen):
    """A process whose task lies in a file."""

    def __init__(self, process: BaseProcess):
        self._descriptors: list[int] = []  # that it inherits
        super().__init__(process)

    def _payload(self, process: BaseProcess) -> tuple[int, str | None]:
        """A nameless file of what the process is to do, and the script that it needs for that."""
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
        payload, _ = self._payload(process)
        self.sentinel, theirs = os.pipe()
        try:
            with signals.blocked():
                self.pid = _interpreter("main", payload, [*self._descriptors, payload, theirs]).pid
        finally:
            os.close(theirs)
            os.close(payload)

    def pidfd(self) -> int:
        return os.pidfd_open(self.pid)

    def close(self) -> None:
        os.close(self.sentinel)


class _Served(_Sent):
    """By the fork server."""

    DupFd = Inherited

    def duplicate_for_child(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return len(self._descriptors) - 1

    def _launch(self, process: BaseProcess) -> None:
        payload, script = self._payload(process)
        self.sentinel, theirs = os.pipe()
        try:
            self.pid, self._pidfd = fork_server.fork([theirs, payload, *self._descriptors], script)
        except BaseException:
            os.close(self.sentinel)
            raise
        finally:
            os.close(theirs)
            os.close(payload)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        ending = select.poll()
        ending.register(self.sentinel, select.POLLIN)
        if self.returncode is None and ending.poll(0 if flag else None):
            code = os.read(self.sentinel, NUMBER)  # nothing, if the server has died
            self.returncode = int.from_bytes(code, "little", signed=True) if code else 255
        return self.returncode

    def pidfd(self) -> int:
        return self._pidfd

    def close(self) -> None:
        os.close(self.sentinel)


class _Server:
    """The fork server of this program: started when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner, self._pid = os.getpid(), 0
        self._requests: socket.socket | None = None
        self._script: str | None = None  # that it has imported

    def prepare(self, function: Callable[..., Any], *args: Any) -> None:
        """Have `function(*args)` called in it: what it imports and compiles is there in what is forked later.

        Not if something of the script is in it. If it raises or the server dies, the processes do without.
        """
        task = pickle.dumps((function, *args))
        if b"__main__" not in task:
            with self._lock, contextlib.suppress(ConnectionError):
                self._prepare(task)

    def _prepare(self, task: bytes) -> None:
        payload = _file_of(task)
        try:
            self._send([payload], self._running())
        finally:
            os.close(payload)

    def fork(self, descriptors: list[int], script: str | None) -> tuple[int, int]:
        """The number of a new process, and a pidfd of it; see `boot.serve`.

        Raises NodeDied if servers die, or do not answer, again and again.
        """
        with self._lock:
            for _ in range(_MOST_STARTS):
                try:
                    requests = self._running()
                    if script not in (None, self._script):
                        self._prepare(pickle.dumps((import_script, script)))
                        self._script = script
                    return self._ask(descriptors, requests)
                except BaseException as error:
                    self._end()
                    if not isinstance(error, ConnectionError):
                        raise
            raise NodeDied("fork server", 0, -signal.SIGKILL)

    def _running(self) -> socket.socket:
        if self._owner != os.getpid():  # that of the parent of this fork
            self._owner, self._requests = os.getpid(), None
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._pid = _interpreter("serve", theirs.fileno(), [theirs.fileno()]).pid
            self._script = None
            atexit.register(self._requests.close)
        return self._requests

    def _ask(self, descriptors: list[int], requests: socket.socket) -> tuple[int, int]:
        self._send(descriptors, requests)
        answering = select.poll()
        answering.register(requests, select.POLLIN)
        if not signals.poll(answering, _PATIENCE):
            raise ConnectionResetError("the fork server does not answer")
        answer, pidfds, *_ = socket.recv_fds(requests, NUMBER, 1)
        if not answer:
            raise ConnectionResetError("the fork server has died")
        return int.from_bytes(answer, "little"), pidfds[0]

    def _send(self, descriptors: list[int], requests: socket.socket) -> None:
        count = len(descriptors).to_bytes(NUMBER, "little")
        for begin in range(0, len(descriptors), MOST_AT_ONCE):
            socket.send_fds(requests, [count], descriptors[begin : begin + MOST_AT_ONCE])

    def _end(self) -> None:
        """Kill it, and a process that it has told of unheard; one that it has not told of ends by itself."""
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


def _interpreter(name: str, descriptor: int, inherited: list[int]) -> subprocess.Popen[bytes]:
    """`boot.<name>(descriptor, parent)` in a new interpreter, with those descriptors."""
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    call = f"{name}({descriptor}, {parent})"
    code = f"import sys; sys.path[:] = {sys.path!r}; from shmps.boot import {name}; {call}"
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
