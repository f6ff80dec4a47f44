"""How a node's process is started: as a fork, by a server that forks, or in a new interpreter.

As multiprocessing does it, with three differences:

- Its registry does not know the process of a node. So other threads that start processes do not take its exit
  code, and no exit handler waits for it.
- What the process is to do is written to a nameless file, not to a pipe. So the parent never waits for a
  process that is killed or stopped while it boots.
- The script of the parent is imported only if the process needs something that the script defines.
"""

import contextlib
import errno
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import get_all_start_methods, popen_fork, popen_forkserver, popen_spawn_posix, spawn  # type: ignore[attr-defined]
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from multiprocessing.util import _args_from_interpreter_flags as _interpreter_flags  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

from shmps import signals
from shmps.boot import MOST_AT_ONCE, NUMBER, Inherited
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
        self._ends: list[int] = []
        try:
            for _ in range(2):
                self._ends += os.pipe()
            self.sentinel, end, start, _ = self._ends
            with signals.blocked():
                self.pid = os.fork()
                if not self.pid:
                    self._live(process)
        except OSError:
            self.close()
            raise
        for each in (end, start):
            self._ends.remove(each)
            os.close(each)

    def _live(self, process: BaseProcess) -> None:
        code = 1
        try:
            sentinel, _, parent, end = self._ends
            os.close(sentinel)
            os.close(end)
            code = process._bootstrap(parent_sentinel=parent)  # type: ignore[attr-defined]
        finally:
            os._exit(code)

    def close(self) -> None:
        while self._ends:
            os.close(self._ends.pop())

    def pidfd(self) -> int:
        return os.pidfd_open(self.pid)


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
        descriptor = os.memfd_create("shmps")
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(prepared)
                file.write(pickled)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, preparation.get("init_main_from_path")


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
        with self._sent(process) as (payload, theirs, script):
            self.pid, self._pidfd = _server.fork([theirs, payload, *self._descriptors], script)

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

    def fork(self, descriptors: list[int], script: str | None) -> tuple[int, int]:
        """The number of a new process, and a pidfd of it; see `boot.serve`.

        Raises OSError if the server lacks what a process needs; NodeDied if servers die, or do not answer,
        again and again.
        """
        with self._lock:
            for _ in range(_MOST_STARTS):
                try:
                    number, pidfds = self._ask(descriptors, self._running(script))
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

    def _running(self, script: str | None) -> socket.socket:
        if self._owner != os.getpid():  # that of the parent of this fork
            self._owner, self._requests = os.getpid(), None
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, contextlib.ExitStack() as failed:
                failed.enter_context(ours)
                self._pid = _interpreter("serve", theirs.fileno(), [theirs.fileno()], script).pid
                failed.pop_all()
            self._requests = ours
        return self._requests

    def _ask(self, descriptors: list[int], requests: socket.socket) -> tuple[int, list[int]]:
        count = len(descriptors).to_bytes(NUMBER, "little")
        for begin in range(0, len(descriptors), MOST_AT_ONCE):
            socket.send_fds(requests, [count], descriptors[begin : begin + MOST_AT_ONCE])
        answering = select.poll()
        answering.register(requests, select.POLLIN)
        if not signals.poll(answering, _PATIENCE):
            raise ConnectionResetError("the fork server does not answer")
        answer, pidfds, *_ = socket.recv_fds(requests, NUMBER, 1)
        if not answer:
            raise ConnectionResetError("the fork server has died")
        return int.from_bytes(answer, "little", signed=True), pidfds

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


_server = _Server()


def _interpreter(name: str, descriptor: int, inherited: list[int], *args: Any) -> subprocess.Popen[bytes]:
    """`boot.<name>(descriptor, parent, *args)` in a new interpreter, with those descriptors."""
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    call = ", ".join(map(repr, (descriptor, parent, *args)))
    code = f"import sys; sys.path[:] = {sys.path!r}; from shmps.boot import {name}; {name}({call})"
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
