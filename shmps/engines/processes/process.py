"""Start the process of a node: by fork, by a fork server, or as a new interpreter (spawn).

This is multiprocessing's way, with three differences:

- multiprocessing's registry does not know the process. So other threads that start processes do not reap it,
  and no exit handler waits for it.
- The task is written to a nameless file, not to a pipe. So the parent never waits for a process that is
  killed or stopped while it boots.
- The parent's script is imported only if the task needs something that the script defines.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing import get_all_start_methods, popen_fork, popen_forkserver, popen_spawn_posix, spawn  # type: ignore[attr-defined]
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess

from shmps.engines.processes.boot import NUMBER, Inherited, signal_at_death_of
from shmps.engines.processes.fork_server import (
    file_of,
    fork_server,
    interpreter,
    when_readable,
)
from shmps.system import signals

METHODS = tuple(get_all_start_methods())
DEFAULT = "fork" if "fork" in METHODS else "spawn"
_NEWS = 1.0  # seconds that a fork server has to tell the exit code of a process that has ended


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
            parent = os.getpid() if signals.in_main_thread() else 0
            with signals.blocked():
                self.pid = os.fork()
                if not self.pid:
                    self._live(process, parent)
                # A group of its own until it has asked for a signal at the parent's death: see `boot`. The
                # parent makes it, since the process may be stopped before its first instruction.
                with contextlib.suppress(OSError):  # it has ended
                    os.setpgid(self.pid, self.pid)
                os.write(self._ends[3], b"!")
        except OSError:
            self.close()
            raise
        for each in (end, start):
            self._ends.remove(each)
            os.close(each)

    def _live(self, process: BaseProcess, parent: int) -> None:
        code = 1
        try:
            if parent:
                signal_at_death_of(parent, signal.SIGKILL)
            sentinel, _, start, end = self._ends
            os.close(sentinel)
            os.close(end)
            if os.read(start, 1):
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
        return file_of(prepared, pickled), preparation.get("init_main_from_path")


class _Spawned(_Sent):
    """In a new interpreter."""

    DupFd = popen_spawn_posix._DupFd

    def duplicate_for_child(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _launch(self, process: BaseProcess) -> None:
        with self._sent(process) as (payload, theirs, _), signals.blocked():
            self.pid = interpreter("main", payload, [*self._descriptors, payload, theirs]).pid

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
        if self.returncode is None and when_readable(self._pidfd).poll(0 if flag else None):
            told = when_readable(self.sentinel).poll(1000 * _NEWS)
            code = os.read(self.sentinel, NUMBER) if told else b""
            self.returncode = int.from_bytes(code, "little", signed=True) if code else 255
        return self.returncode

    def pidfd(self) -> int:
        return self._pidfd


class _Forking(NodeProcess):
    _start_method, _Popen = "fork", _Forked


class _Serving(NodeProcess):
    _start_method, _Popen = "forkserver", _Served if hasattr(os, "memfd_create") else popen_forkserver.Popen


class _Spawning(NodeProcess):
    _start_method, _Popen = "spawn", _Spawned if hasattr(os, "memfd_create") else popen_spawn_posix.Popen


def class_of(start_method: str) -> type[NodeProcess]:
    """The class of processes that are started by one of METHODS."""
    return {"fork": _Forking, "forkserver": _Serving, "spawn": _Spawning}[start_method]
