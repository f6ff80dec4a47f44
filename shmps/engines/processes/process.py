"""Start the process of a node: by fork, by the fork server, or as a new interpreter (spawn).

    fork         parent -- fork ----------------------------------> node: runs its body
    forkserver   parent -- task file, pipe, descriptors ----------> fork server
                 fork server -- fork -----------------------------> node: reads the task file, runs its body
                 fork server -- pid and pidfd; exit code ---------> parent
    spawn        parent -- task file; vfork, exec ----------------> node: reads the task file, runs its body

                     fork                          forkserver                    spawn
    first group      own (the parent sets it)      the fork server's             own (set before exec)
    kernel signal    SIGKILL at parent's death *   SIGCONT at server's death     SIGKILL at parent's death *
    final group      the parent's *                the parent's                  the parent's *
    begins after     a byte from the parent        a byte from the fork server   its boot
    exit code from   waitpid                       a pipe from the fork server   waitpid

    * If the parent's main thread starts the node: the kernel's signal follows the thread.

This is multiprocessing's way, with three differences:

- multiprocessing's registry does not contain the process. So other threads that start processes do not reap
  it, and no exit handler waits for it.
- The task is in a nameless file, not in a pipe. So the parent never waits for a process that is killed or
  stopped while it boots.
- The parent's script is imported only if the task needs something that the script defines.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing import get_all_start_methods, popen_fork, popen_forkserver, popen_spawn_posix, spawn  # type: ignore[attr-defined]
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess

from shmps.engines.processes.boot import NUMBER, InheritedDescriptor, input_poll, signal_at_death_of
from shmps.engines.processes.fork_server import fork_server, nameless_file, start_interpreter
from shmps.system import signals

METHODS = tuple(get_all_start_methods())
DEFAULT = "fork" if "fork" in METHODS else "spawn"
_EXIT_CODE_TIMEOUT = 1.0  # seconds for the fork server to report the exit code of a process that has ended


class NodeProcess(BaseProcess):
    """A process that only its `Node` knows. It is daemonic: it may not start other processes."""

    def start(self) -> None:
        self._popen = self._Popen(self)  # type: ignore[attr-defined]
        self._sentinel = self._popen.sentinel
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]

    def death(self) -> int:
        """Return a descriptor that becomes readable when the process ends: a pidfd, or else a pipe.

        It is a pipe if other code has reaped the process already: another process may have its pid by now.
        """
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                return self._popen.pidfd()
        return os.dup(self.sentinel)

    def release(self) -> None:
        """Close this program's descriptors for the process. Read `exitcode` first."""
        self._popen.close()


def _pidfd_of_child(pid: int) -> int:
    """Return a pidfd of a child, running or ended.

    Raises ProcessLookupError or ChildProcessError if this program has no such child.
    """
    pidfd = os.pidfd_open(pid)
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        os.close(pidfd)
        raise
    return pidfd


class _ForkPopen(popen_fork.Popen):
    """A fork. It runs its task once it reads a byte from the parent."""

    def _launch(self, process: BaseProcess) -> None:
        self._open: list[int] = []
        try:
            for _ in range(2):
                self._open += os.pipe()
            # The first pipe closes when the child ends. A byte in the second lets the child begin.
            self.sentinel, child_end, waiting, starting = self._open
            parent = os.getpid() if signals.in_main_thread() else 0
            with signals.blocked():
                self.pid = os.fork()
                if not self.pid:
                    self._run_child(process, parent)
                # The child has a group of its own until it has asked for a signal at the parent's death: see
                # `boot`. The parent sets it, since the child may be stopped before its first instruction.
                with contextlib.suppress(OSError):  # the child has ended
                    os.setpgid(self.pid, self.pid)
                os.write(starting, b"!")
        except OSError:
            self.close()
            raise
        for each in (child_end, waiting):
            self._open.remove(each)
            os.close(each)

    def _run_child(self, process: BaseProcess, parent: int) -> None:
        code = 1
        try:
            if parent:
                signal_at_death_of(parent, signal.SIGKILL)
            sentinel, _, waiting, starting = self._open
            os.close(sentinel)
            os.close(starting)
            if os.read(waiting, 1):
                code = process._bootstrap(parent_sentinel=waiting)  # type: ignore[attr-defined]
        finally:
            os._exit(code)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def pidfd(self) -> int:
        return _pidfd_of_child(self.pid)


class _TaskFilePopen(popen_fork.Popen):
    """A process that reads its task from a nameless file."""

    def __init__(self, process: BaseProcess):
        self._inherited: list[int] = []  # descriptors for the process, beside those of `_task`
        super().__init__(process)

    @contextlib.contextmanager
    def _task(self, process: BaseProcess) -> Iterator[tuple[int, int, str | None]]:
        """Yield the task file, the end of a pipe for the process, and the script that the task needs.

        The other end of the pipe is `sentinel`. The file and the end for the process are closed after the
        block; `sentinel` is closed too if the block raises.
        """
        file, script = self._task_file(process)
        with contextlib.ExitStack() as always, contextlib.ExitStack() as failed:
            always.callback(os.close, file)
            self.sentinel, child_end = os.pipe()
            always.callback(os.close, child_end)
            failed.callback(os.close, self.sentinel)
            yield file, child_end, script
            failed.pop_all()

    def close(self) -> None:
        os.close(self.sentinel)

    def _task_file(self, process: BaseProcess) -> tuple[int, str | None]:
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
        return nameless_file(prepared, pickled), preparation.get("init_main_from_path")


class _SpawnPopen(_TaskFilePopen):
    """A new interpreter."""

    DupFd = popen_spawn_posix._DupFd

    def duplicate_for_child(self, descriptor: int) -> int:
        self._inherited.append(descriptor)
        return descriptor

    def _launch(self, process: BaseProcess) -> None:
        with self._task(process) as (file, child_end, _), signals.blocked():
            self.pid = start_interpreter("main", file, [*self._inherited, file, child_end]).pid

    def pidfd(self) -> int:
        return _pidfd_of_child(self.pid)


class _ForkServerPopen(_TaskFilePopen):
    """A fork of the fork server, which reports the exit code through the pipe."""

    DupFd = InheritedDescriptor

    def duplicate_for_child(self, descriptor: int) -> int:
        self._inherited.append(descriptor)
        return len(self._inherited) - 1

    def _launch(self, process: BaseProcess) -> None:
        with self._task(process) as (file, child_end, script):
            self.pid, self._pidfd = fork_server.fork([child_end, file, *self._inherited], script)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code; None while the process runs; 255 if the fork server cannot report it."""
        if self.returncode is None and input_poll(self._pidfd).poll(0 if flag else None):
            reported = input_poll(self.sentinel).poll(1000 * _EXIT_CODE_TIMEOUT)
            code = os.read(self.sentinel, NUMBER.size) if reported else b""
            self.returncode = NUMBER.unpack(code)[0] if code else 255
        return self.returncode

    def pidfd(self) -> int:
        return self._pidfd


_HAS_TASK_FILES = hasattr(os, "memfd_create")


class _ForkProcess(NodeProcess):
    _start_method, _Popen = "fork", _ForkPopen


class _ForkServerProcess(NodeProcess):
    _start_method = "forkserver"
    _Popen = _ForkServerPopen if _HAS_TASK_FILES else popen_forkserver.Popen


class _SpawnProcess(NodeProcess):
    _start_method = "spawn"
    _Popen = _SpawnPopen if _HAS_TASK_FILES else popen_spawn_posix.Popen


def class_of(start_method: str) -> type[NodeProcess]:
    """Return the class of the processes that `start_method`, one of METHODS, starts."""
    return {"fork": _ForkProcess, "forkserver": _ForkServerProcess, "spawn": _SpawnProcess}[start_method]
