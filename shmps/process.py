"""How a node's process is started: as a fork, by a server that forks, or in a new interpreter.

As multiprocessing does it, with three differences:

- Its registry does not know the process of a node. So other threads that start processes do not take its exit
  code, and no exit handler waits for it.
- What the process is to do is written to a nameless file, not to a pipe. So the parent never waits for a
  process that is killed or stopped while it boots.
- The script of the parent is imported only if the process needs something that the script defines.
"""

import contextlib
import os
import pickle
import signal
import sys
import threading
from multiprocessing import (  # type: ignore[attr-defined]
    connection,
    forkserver,
    get_all_start_methods,
    popen_fork,
    popen_forkserver,
    popen_spawn_posix,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from multiprocessing.util import _args_from_interpreter_flags as _interpreter_flags  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from shmps.boot import Boot
from shmps.errors import UsageError
from shmps.signals import blocked

METHODS = tuple(get_all_start_methods())
DEFAULT = "fork" if "fork" in METHODS else "spawn"
_MOST_STARTS = 3  # of a process whose fork server dies
_PATIENCE = 60.0  # seconds that a fork server has to start, and to answer
_ROOT = str(Path(__file__).parents[1])


class NodeProcess(BaseProcess):
    """A process that only its `Node` knows. It is daemonic: it may not start processes of its own."""

    def start(self) -> None:
        self._popen = self._Popen(self)  # type: ignore[attr-defined]
        self._sentinel = self._popen.sentinel
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]

    def release(self) -> None:
        """Close what is open for it here, once its exit code was taken."""
        self._popen.close()


def _payload(popen: Any, process: BaseProcess) -> tuple[int, bool]:
    """A nameless file of what the process is to do, and whether something of the script is in it."""
    preparation = spawn.get_preparation_data(process.name)
    set_spawning_popen(popen)
    try:
        pickled = reduction.ForkingPickler.dumps(process).tobytes()
        needs_script = b"__main__" in pickled
        if not needs_script:
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
    return descriptor, needs_script


class _Spawned(popen_spawn_posix.Popen):
    """In a new interpreter."""

    _fds: list[int]  # that the process inherits

    def _launch(self, process: BaseProcess) -> None:
        payload, _ = _payload(self, process)
        self.sentinel, ours = os.pipe()
        self.finalizer = util.Finalize(self, _close, (self.sentinel,))
        try:
            tracker: Any = resource_tracker.getfd()
            parent = os.getpid() if _is_main_thread() else 0
            code = (
                f"import sys; sys.path.insert(0, {_ROOT!r}); from shmps.boot import main; "
                f"main({payload}, {tracker}, {parent})"
            )
            command = [spawn.get_executable(), *_interpreter_flags(), "-c", code]
            self.pid = util.spawnv_passfds(command[0], command, [*self._fds, payload, tracker, ours])
        finally:
            _close(ours, payload)


class _Served(popen_forkserver.Popen):
    """By the fork server."""

    _fds: list[int]  # that the process inherits

    def _launch(self, process: BaseProcess) -> None:
        payload, needs_script = _payload(self, process)
        try:
            place = self.duplicate_for_child(payload)
            for start in range(1, _MOST_STARTS + 1):
                try:
                    return self._ask(place, needs_script)
                except (EOFError, ConnectionError, TimeoutError):
                    if start == _MOST_STARTS:
                        raise
        finally:
            os.close(payload)

    def _ask(self, place: int, needs_script: bool) -> None:
        most = forkserver.MAXFDS_TO_SEND - 5  # 4 are the server's own
        if len(self._fds) > most:
            raise UsageError(
                f"a fork server passes at most {most} descriptors to a node, found {len(self._fds)}; "
                f"use fewer workers and servers, or start_method='spawn'"
            )
        server = _server.pid(needs_script)
        self.sentinel, there = _server.connect_to_new_process(self._fds)
        try:
            if not connection.wait([self.sentinel], _PATIENCE):
                os.kill(server, signal.SIGKILL)
                raise TimeoutError(f"the fork server did not answer for {_PATIENCE:g} seconds")
            self.pid = forkserver.read_signed(self.sentinel)
            with contextlib.suppress(BrokenPipeError):  # a node that is dead already is seen as others are
                os.write(there, pickle.dumps({"sys_path": sys.path}) + pickle.dumps(Boot(place, server)))
        except BaseException:
            _close(self.sentinel, there)
            raise
        self.finalizer = util.Finalize(self, _close, (there, self.sentinel))


class _Server(forkserver.ForkServer):
    """A fork server of our own: one of the program's would be left without our care for its end."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = os.getpid()

    def pid(self, needs_script: bool) -> int:
        """Of the server, which is started where there is none."""
        if self._owner != os.getpid():  # a fork's copy of its parent's
            self.__init__()  # type: ignore[misc]
        self.set_forkserver_preload(
            ["__main__"] * needs_script + ["shmps.fork_server"] * _is_main_thread() + ["shmps.bodies"]
        )
        with blocked():
            self.ensure_running()
        return self._forkserver_pid  # type: ignore[attr-defined]


_server = _Server()


def _close(*descriptors: int) -> None:
    for each in descriptors:
        os.close(each)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Forking(NodeProcess):
    _start_method, _Popen = "fork", popen_fork.Popen


class _Serving(NodeProcess):
    _start_method, _Popen = "forkserver", _Served if hasattr(os, "memfd_create") else popen_forkserver.Popen


class _Spawning(NodeProcess):
    _start_method, _Popen = "spawn", _Spawned if hasattr(os, "memfd_create") else popen_spawn_posix.Popen


def class_of(start_method: str) -> type[NodeProcess]:
    """The class of processes that are started by one of METHODS."""
    return {"fork": _Forking, "forkserver": _Serving, "spawn": _Spawning}[start_method]
