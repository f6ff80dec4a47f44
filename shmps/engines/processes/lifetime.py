"""The lifetime of a cluster: when its parts begin and end, which threads may use them, when signals wait."""

import contextlib
import sys
import threading
from typing import Any, Self

from shmps.engines.processes.node import named_shortages
from shmps.errors import UsageError
from shmps.ps.scheduler.nodes import PAUSE, Nodes
from shmps.ps.scheduler.scheduler import Scheduler
from shmps.system import signals


class Lifetime:
    """The base of `Cluster`: its with block, and the locks of its threads.

    - One thread at a time is in a run. It holds `_running`.
    - Between two runs, one thread at a time looks after the servers. It holds `_asking`.
    - A thread that leaves the with block waits for the run of another thread. If it leaves by an exception or
      a signal, it ends that run. A callback that leaves the with block ends its own run.
    - Signals wait while any of this is at work (see `shmps.system.signals`).

    A subclass makes the parts in `_start`.
    """

    _nodes: Nodes
    _scheduler: Scheduler

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()  # closed at the end, in reverse order
        self._open = self._left = False
        self._running, self._asking = threading.Lock(), threading.Lock()
        self._runner = self._asker = 0  # the threads that hold the locks

    def _must_be_allowed(self) -> None:
        """Raise UsageError where the nodes cannot be started."""
        raise NotImplementedError

    def _start(self) -> None:
        """Make the nodes and the scheduler. Put what has to be closed into `_resources`."""
        raise NotImplementedError

    def _finish_run(self) -> None:
        """Clean up after a run."""

    @signals.held
    def __enter__(self) -> Self:
        if self._open:
            raise UsageError("a Cluster must not be in use when its with block begins; make another Cluster")
        self._must_be_allowed()
        self._passage = signals.Passage()
        self._left = False
        try:
            with named_shortages():
                self._start()
            while signals.waiting and signals.deliver():
                pass
            self._open = True
            return self
        except BaseException:
            try:
                self._close()
            finally:
                self._passage.close()
                while signals.waiting and signals.deliver():
                    pass
            raise

    @signals.held
    def __exit__(self, *exception: Any) -> None:
        if not self._nodes.is_own:
            return
        if self._runner == threading.get_ident():  # in a callback of the run, whose end closes the cluster
            self._left = True
            self._scheduler.abandon()
            return
        try:
            self._passage.renew()
        finally:
            self._leave(at_once=exception[0] is not None)

    @signals.held
    def _leave(self, at_once: bool) -> None:
        """Wait for another thread's run, or end it at once, and close."""
        try:
            # When the interpreter finalizes, that thread does not go on.
            while not (sys.is_finalizing() or self._running.acquire(timeout=PAUSE)):
                if at_once or signals.waiting:
                    self._scheduler.abandon()
            try:
                self._scheduler.abandon()
                with self._asking:  # another thread may look after the servers
                    self._close()
            finally:
                if self._running.locked():
                    self._running.release()
        finally:
            self._passage.close()
            while signals.waiting and signals.deliver():
                pass

    @signals.cleaning_up
    def _close(self) -> None:
        self._open = False
        self._resources.close()

    def _begin_run(self) -> None:
        if self._asker == threading.get_ident():
            raise UsageError("run must not be called by a signal's handler that interrupts another call")
        with self._asking:
            if not self._running.acquire(blocking=False):
                raise UsageError(
                    "run must not be called while another run goes on; wait for it, or make another Cluster"
                )
            self._runner = threading.get_ident()

    @signals.cleaning_up
    def _end_run(self) -> None:
        try:
            self._finish_run()
        finally:
            self._runner = 0
            self._running.release()
            if self._left:
                self._leave(at_once=True)

    def _look_after_servers(self) -> None:
        if self._asker == threading.get_ident():
            return  # the caller is a signal's handler that interrupted this function
        passage = signals.Passage()
        try:
            with self._asking:
                self._asker = threading.get_ident()
                try:
                    if self._open and not self._running.locked():
                        self._scheduler.check_servers()
                        self._scheduler.refresh()
                finally:
                    self._asker = 0
        finally:
            passage.close()
