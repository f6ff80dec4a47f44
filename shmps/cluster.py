"""The cluster: what others build on. Starts servers, runs functions in workers, gives back the parameters."""

import contextlib
import multiprocessing
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from shmps.checks import positive, whole
from shmps.engines.processes.engine import ProcessEngine
from shmps.engines.processes.fork_server import fork_server
from shmps.engines.processes.node import method_of, named_shortages
from shmps.engines.processes.outlet import Outlets
from shmps.engines.processes.pipes import Inboxes
from shmps.engines.processes.roles import Work, serve_partition
from shmps.engines.processes.store import Store
from shmps.engines.processes.warm_up import warm_up
from shmps.errors import UsageError
from shmps.ps.arguments import initial_of, matrix, replicas_of
from shmps.ps.consistency import SYNC, Consistency
from shmps.ps.events import Event
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Copy, Parameters
from shmps.ps.memory.status import Overview
from shmps.ps.scheduler.nodes import PAUSE, Nodes
from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN, OnEvent, OnReport, Run
from shmps.ps.scheduler.run_state import RunState
from shmps.ps.scheduler.scheduler import Scheduler
from shmps.ps.server.redo_log import start_replica
from shmps.ps.updater import Updater
from shmps.system import signals
from shmps.system.failpoints import Failpoint
from shmps.updaters.add import Add

_MAX_KEYS = 2**14


class Cluster:
    """A parameter server on this host: `with Cluster(num_keys) as cluster: cluster.run(function, ...)`.

    num_keys: keys are 0 to num_keys - 1, with `width` float64 each.
    servers, workers: processes; the servers own equal ranges of the keys.
    consistency: SYNC, BOUNDED(k), ASYNC or HOGWILD, where workers update in place (`kv.push_in_place`).
    updater: how a push changes the values (default: `Add`, which adds it).
    initial: the values at the start: a number, or an array (num_keys,) or (num_keys, width).
    restored: what `kv.copy_of_parameters` returned, to go on from instead of `initial`. The first run is then
    the one in which it was taken: clocks go on, and `kv.resumed` counts a rank's pushes that are in the copy.
    max_keys: of one request (default: num_keys, but at most 16384); mailboxes are sized for it.
    slots, dense_slots: requests with keys, and requests for all keys, that a worker may have under way;
    mailboxes have room for so many. One more waits until another is answered.
    dtype: float64 or float32, of values that are pushed and pulled, on their way: half the memory to write
    and to read. They are kept, added up and looked at as float64 all the same.
    max_workers: the most that may ever take part (default: workers); mailboxes are made for it.
    replicas: 1: every server keeps a copy of its predecessor's partition, from which one that is damaged is
    made anew, and a push is acknowledged when it is in both (needs two servers).
    node_timeout: seconds without a sign of life after which a node is taken for hung, killed and treated as
    dead; None: never. Every call of a worker on its `kv` that waits is a sign of life, and `kv.beat`.
    failpoints: where nodes are to be killed, for tests.
    start_method: "fork" (default on Linux: functions may be closures), "forkserver" or "spawn" (they must be
    importable, and the script needs a main guard).

    One thread runs a function at a time; a second call of `run` meanwhile is refused. Any thread may call
    `stop`, `ticks`, `delays`, `versions`, `weights`, `events`, `node_pids`, `copy_of_parameters` and
    `replica_differences`, also while another thread is in `run`. `add_worker`, `remove_worker` and `write`
    during a run are for the thread that is in `run`: call them in its callbacks.

    Raises UsageError for arguments that break a rule, UpdaterFailed for an updater that does not stand a
    first trial, OutOfSpace if the shared arrays do not fit in memory.
    """

    def __init__(
        self,
        num_keys: int,
        width: int = 1,
        servers: int = 2,
        workers: int = 4,
        consistency: Consistency = SYNC,
        updater: Updater | None = None,
        initial: Any = 0.0,
        restored: Copy | None = None,
        max_keys: int | None = None,
        slots: int = 4,
        dense_slots: int = 1,
        dtype: type = np.float64,
        max_workers: int | None = None,
        replicas: int = 0,
        node_timeout: float | None = None,
        start_method: str | None = None,
        failpoints: Sequence[Failpoint] = (),
    ):
        if not isinstance(consistency, Consistency):
            raise UsageError(f"consistency is SYNC, BOUNDED(k), ASYNC or HOGWILD, found {consistency!r}")
        self.updater = Add() if updater is None else updater
        if not isinstance(self.updater, Updater):
            raise UsageError(f"updater is an instance of a class derived from Updater, found {updater!r}")
        whole("workers", workers, least=1)
        max_workers = workers if max_workers is None else whole("max_workers", max_workers, least=1)
        if max_workers < workers:
            raise UsageError(f"max_workers is at least workers={workers}, found {max_workers}")
        if max_keys is None:
            max_keys = _MAX_KEYS
        self._shape = Shape(
            num_keys,
            width,
            self.updater.state_width,
            servers,
            max_workers,
            max_keys,
            replicas,
            slots,
            dtype,
            dense_slots,
        )
        replicas_of(replicas, servers, consistency.in_place)
        self.num_workers, self.num_servers, self.consistency = workers, servers, consistency
        self._node_timeout = None if node_timeout is None else positive("node_timeout", node_timeout)
        self._failpoints = tuple(failpoints)
        self._initial = initial_of(initial, num_keys, width)
        self._restored = restored
        if restored is not None:
            restored.must_fit(self._shape, workers)
        self._start_method = method_of(start_method)
        warm_up(self.updater, width, self._shape.dtype)
        if self._start_method == "forkserver":
            fork_server.prepare(warm_up, self.updater, width, self._shape.dtype)
        self._resources = contextlib.ExitStack()
        self._open = self._left = False
        self._running = threading.Lock()  # held by a run
        self._asking = threading.Lock()  # held by a call that looks after the servers between two runs
        self._runner = self._asker = 0  # the threads that hold these

    @signals.held
    def __enter__(self) -> "Cluster":
        if self._open:
            raise UsageError("this Cluster is in use already; make another for a with block inside its own")
        if multiprocessing.current_process().daemon:
            raise UsageError(
                "a cluster starts processes, which Python forbids to a daemonic one, such as a worker of "
                "multiprocessing.Pool; use joblib's backends loky or threading, or concurrent.futures"
            )
        self._passage = signals.Passage()
        self._left = False
        self._begun = False  # a first run begins at tick 0; in what was restored each rank is beyond it
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
        if self._runner == threading.get_ident():  # by a callback of the run, which closes it at its end
            self._left = True
            self._scheduler.abandon()
            return
        try:
            self._passage.renew()
        finally:
            self._leave(at_once=exception[0] is not None)

    @signals.held
    def _leave(self, at_once: bool) -> None:
        """Wait for another thread's run, or have it end at once, and close."""
        try:
            # Where Python ends, that thread does not go on.
            while not (sys.is_finalizing() or self._running.acquire(timeout=PAUSE)):
                if at_once or signals.waiting:
                    self._scheduler.abandon()
            try:
                self._scheduler.abandon()
                with self._asking:  # another thread looks after the servers
                    self._close()
            finally:
                if self._running.locked():
                    self._running.release()
        finally:
            self._passage.close()
            while signals.waiting and signals.deliver():
                pass

    def _start(self) -> None:
        resources = self._resources
        self._store = Store(self._shape)
        resources.callback(self._store.close)
        self._fill()
        self._inboxes = Inboxes(self.num_servers, self._shape.workers)
        resources.callback(self._inboxes.close)
        self._outlets: list[Outlets] = []
        for _ in range(self._shape.workers):
            self._outlets.append(Outlets())
            resources.callback(self._outlets[-1].close)
        self._engine = ProcessEngine(self._start_method, self._inboxes, self._failpoints)
        resources.callback(self._engine.close)
        self._nodes = Nodes(self._engine, Overview(self._parameters, self._store.mailboxes()))
        resources.callback(self._nodes.close)
        self._scheduler = Scheduler(self._nodes, self.num_servers, self._node_timeout)
        for rank in range(self.num_servers):
            self._scheduler.start_server(
                rank, serve_partition, self._store, self._inboxes, self.consistency, self.updater
            )

    @signals.cleaning_up
    def _close(self) -> None:
        self._open = False
        self.__dict__.pop("_parameters", None)  # the last view of the shared memory in this process
        self._resources.close()

    @signals.held
    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        on_report: OnReport = lambda rank, value: None,
        on_pause: Callable[[], None] = lambda: None,
        on_event: OnEvent = lambda event: None,
        on_barrier: Callable[[], None] = lambda: None,
        on_worker_death: str = FAIL,
        join_at: int | None = None,
    ) -> list[Any]:
        """`function(kv, *args)` in every worker; their results in rank order.

        Each run has worker processes of its own (a few ms under fork); what is to last is in the parameters
        or in the results, which must be picklable. `on_report(rank, value)` is called here for what a worker
        hands to `kv.report`, `on_pause()` a few times per second, `on_event` for every `Event`: deaths, and
        workers that come and go; and `on_barrier()` when all workers that have not finished are in a barrier,
        before it opens.

        A server that dies is replaced, and nothing is lost. on_worker_death: "fail" (NodeDied), "respawn"
        (the function is run again in the dead worker's place; `kv.resumed` tells how many of its pushes count
        already), or "continue" (its committed pushes are completed, its result is None, and `kv.ranks`
        leaves it out). join_at: the epoch (see `kv.ranks`) at which one more worker comes in, as by
        `add_worker`.

        Raises WorkerFailed (from the worker's own exception) if the function raises, NodeDied if a process
        dies that is not replaced, or one has died three times without progress.
        """
        if on_worker_death not in (FAIL, RESPAWN, CONTINUE):
            raise UsageError(
                f"on_worker_death is {FAIL!r}, {RESPAWN!r} or {CONTINUE!r}; found {on_worker_death!r}"
            )
        if join_at is not None and self.num_workers == self._shape.workers:
            raise UsageError(f"one more worker needs a Cluster with max_workers above {self.num_workers}")
        self._must_be_open()
        passage = signals.Passage()  # the program may have set other handlers meanwhile
        try:
            self._begin_run()
            try:
                self._nodes.overview.forget_commits()
                self._nodes.overview.stop(False)
                work = Work(
                    self.num_workers,
                    self._store,
                    self._inboxes,
                    self._outlets,
                    self.consistency,
                    self.updater,
                )
                run = Run(
                    workers=self.num_workers,
                    tick=self._nodes.overview.tick if self._begun else 0,
                    outlets=self._outlets,
                    body=work,
                    function=function,
                    args=args,
                    on_report=partial(passage.call, on_report),
                    on_pause=partial(passage.call, on_pause),
                    on_event=partial(passage.call, on_event),
                    on_worker_death=on_worker_death,
                    join_at=join_at,
                    on_barrier=partial(passage.call, on_barrier),
                )
                self._begun = True
                with named_shortages():
                    return self._scheduler.run(run)
            finally:
                if self._nodes.is_own:
                    self._end_run()
        finally:
            passage.close()
            while signals.waiting and signals.deliver():
                pass

    def _begin_run(self) -> None:
        if self._asker == threading.get_ident():
            raise UsageError("a run begins outside of a signal's handler that interrupted another call")
        with self._asking:
            if not self._running.acquire(blocking=False):
                raise UsageError(
                    "a Cluster has one run at a time; wait for it to return, or make another Cluster"
                )
            self._runner = threading.get_ident()

    @signals.cleaning_up
    def _end_run(self) -> None:
        try:
            for outlets in self._outlets:
                outlets.empty()
        finally:
            self._runner = 0
            self._running.release()
            if self._left:
                self._leave(at_once=True)

    def stop(self) -> None:
        """Ask the functions of the run to end: `kv.stopping` is True from now on. By a callback of it, say.

        It is a word in shared memory that they look at when they like, and not at the same tick. Who leaves
        holds up nobody, in sync mode either.
        """
        self._must_be_running()
        self._nodes.overview.stop()

    def add_worker(self) -> int:
        """One more worker for the run that goes on; its rank. To be called by a callback of `run`.

        It comes in with the next epoch that a worker asks `kv.ranks` for: the function runs in it too, its
        clock begins at the tick of the worker that asked first, at all servers, and its barriers are those
        that come after that (see `kv.barrier`).
        """
        run_state = self._running_state()
        rank = run_state.next_rank
        if rank >= self._shape.workers:
            raise UsageError(
                f"at most max_workers={self._shape.workers} workers take part, and have; make it more"
            )
        run_state.division.join(rank)
        return rank

    def remove_worker(self, rank: int) -> None:
        """It is left out from the next epoch that a worker asks `kv.ranks` for.

        To be called by a callback of `run`. Others wait for it at barriers until its function has returned.
        """
        run_state = self._running_state()
        ranks = run_state.division.latest
        if rank not in ranks or len(ranks) == 1:
            raise UsageError(f"to be removed: one of the workers {ranks}, not the last; found {rank!r}")
        run_state.remove_worker(rank)

    def _must_be_running(self) -> None:
        if not self._running.locked():
            raise UsageError("workers are added and removed while a run goes on: by its callbacks, say")

    def _running_state(self) -> RunState:
        self._must_be_running()
        assert self._scheduler.run_state is not None
        return self._scheduler.run_state

    def node_pids(self) -> list[int]:
        """The processes of the servers, and of the workers if a run goes on."""
        return self._nodes.pids

    @property
    def events(self) -> list[Event]:
        """What has happened to nodes since the start."""
        return list(self._scheduler.events)

    def copy_of_parameters(self) -> Copy:
        """What `Cluster(restored=...)` goes on from; a snapshot, if no run is going on."""
        return self._must_be_open().copy(self.num_workers)

    def weights(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """A copy of the values of the keys begin to end - 1, (k,) or (k, width).

        A snapshot, if no run is going on or all workers wait in `kv.barrier("all")`.
        """
        parameters = self._must_be_open()
        begin, end, _ = slice(begin, end).indices(self._shape.num_keys)
        return self._shape.flat(parameters.values(begin, end, self.updater))

    def write(self, values: Any, begin: int = 0) -> None:
        """Put `values` (k,) or (k, width) in place of those of the keys begin to begin + k - 1.

        Between two runs, or by `on_barrier` while all workers wait in `kv.barrier("all")`: at any other time
        a server may be writing too. Raises UsageError if they do not fit, or if an updater's state or a
        replica would no longer go with them.
        """
        parameters = self._must_be_open()
        if self._shape.replicas or self.updater.state_width:
            raise UsageError("values are written past the servers where there is neither a replica nor state")
        values = matrix(values, np.size(values) // self._shape.width, self._shape.width)
        if not 0 <= begin <= self._shape.num_keys - len(values):
            raise UsageError(
                f"values are of keys from 0 to {self._shape.num_keys - 1}, found {len(values)} from {begin}"
            )
        parameters.weights[begin : begin + len(values)] = values

    def ticks(self) -> np.ndarray:
        """The clock of each worker at server 0, (workers,): also while a run goes on.

        It counts the worker's pushes that were applied; a run begins with all clocks at the furthest.
        """
        return self._must_be_open().done[0, : self.num_workers].copy()

    def delays(self) -> np.ndarray:
        """Histogram of the delay of all pushes so far: entry d counts (push, server) pairs d versions late.

        The last entry, 4095, counts all from there up. (4096,) int64.
        """
        histogram: np.ndarray = self._must_be_open().delays.sum(axis=0)
        return histogram

    def versions(self) -> np.ndarray:
        """Updates applied at each server, (servers,)."""
        return self._must_be_open().versions.copy()

    def replica_differences(self) -> int:
        """Keys whose values or state are other bits in the replica: 0 when no run is going on."""
        return self._must_be_open().replica_differences()

    @signals.held
    def _must_be_open(self) -> Parameters:
        """The parameters. Looks after the servers before, unless a run does."""
        is_own = self._open and self._nodes.is_own
        if is_own:
            self._look_after_servers()
            while signals.waiting and signals.deliver():
                pass
        parameters: Parameters | None = self.__dict__.get(
            "_parameters"
        )  # another thread may leave the block meanwhile
        if parameters is None or not is_own:
            raise UsageError(
                "a Cluster is used inside its with block, and by its own process: "
                "`with Cluster(...) as cluster:`"
            )
        return parameters

    def _look_after_servers(self) -> None:
        if self._asker == threading.get_ident():
            return  # a signal's handler asks, which interrupted this
        passage = signals.Passage()
        try:
            with self._asking:
                self._asker = threading.get_ident()
                try:
                    if self._open and not self._running.locked():
                        self._scheduler.check_servers()
                finally:
                    self._asker = 0
        finally:
            passage.close()

    def _fill(self) -> None:
        self._parameters = Parameters(self._shape, self._store.parameters(writable=True))
        if self._restored is None:
            self._parameters.weights[:] = self._initial
            self.updater.start(self._parameters.weights, self._shape.state_of(self._parameters.state))
        else:
            self._parameters.restore(self._restored)
        if self._shape.replicas:
            start_replica(self._parameters)
