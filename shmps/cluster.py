"""The cluster: a parameter server on an engine. It starts servers and runs functions in workers.

with Cluster(...)  -> an engine (processes: shared memory, pipes) -> Scheduler.start_server
cluster.run(work)  -> Scheduler.run -> a node for each worker -> work(kv, *args) -> results
cluster.weights()  -> a copy out of the engine's memory
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from shmps.checks import positive, whole
from shmps.engines.choice import Engines, engine_of
from shmps.engines.processes.lifetime import Lifetime
from shmps.engines.processes.node import named_shortages
from shmps.engines.spec import Spec
from shmps.errors import UsageError
from shmps.journal import Journal, digest_of
from shmps.ps.arguments import initial_of, matrix, replicas_of
from shmps.ps.consistency import SYNC, Consistency
from shmps.ps.engine import ClusterEngine
from shmps.ps.events import Event
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Copy, Parameters
from shmps.ps.schedule import NOTHING, Schedule
from shmps.ps.scheduler.nodes import Nodes
from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN, OnEvent, OnReport, Run
from shmps.ps.scheduler.run_state import RunState
from shmps.ps.scheduler.scheduler import Scheduler
from shmps.ps.server.redo_log import start_replica
from shmps.ps.updater import Updater
from shmps.recording import Recording
from shmps.system import signals
from shmps.system.failpoints import Failpoint
from shmps.updaters.add import Add

_MAX_KEYS = 2**14


class Cluster(Lifetime):
    """A parameter server on this host: `with Cluster(num_keys) as cluster: cluster.run(function, ...)`.

    The nodes, servers and workers, are processes, or with engine="inline" parts of the calling process.

    num_keys: keys are 0 to num_keys - 1, with `width` float64 values each.
    servers, workers: nodes. The servers own equal ranges of the keys.
    consistency: SYNC, BOUNDED(k), ASYNC, or HOGWILD, in which workers update in place (`kv.push_in_place`).
    Or `Journal.consistency`, to repeat a recorded run.
    updater: the rule by which a push changes the values (default: `Add`, which adds it).
    initial: the values at the start: a number, or an array (num_keys,) or (num_keys, width).
    restored: the result of `kv.copy_of_parameters`, to go on from instead of `initial`. The first run
    continues the run that was copied: clocks go on, and `kv.resumed` counts the pushes that are in the copy.
    max_keys: keys of one request at most (default: num_keys, but at most 16384). Mailboxes are sized for it.
    slots, dense_slots: requests with keys, and requests for all keys, that a worker may have under way. One
    more request waits until another is answered. Mailboxes have room for all of them.
    dtype: float64 or float32, of the values of a push or pull on their way; float32 halves the memory
    traffic. Parameters, sums and looks are float64 in both cases.
    max_workers: the most workers that may ever take part (default: workers). Mailboxes are made for them.
    replicas: 1: every server keeps a copy of its predecessor's partition, and a push is acknowledged when
    both have it. A damaged partition is restored from the copy. Needs two servers.
    node_timeout: seconds without a sign of life after which a node counts as hung, is killed, and is treated
    as dead; None: never. Every call of a worker on its `kv` that waits is a sign of life, and `kv.beat`.
    failpoints: where nodes are to be killed, for tests.
    engine: "processes" (default); "inline" or an `Inline`: all nodes in the calling process, in virtual time,
    which takes neither start_method nor node_timeout; "ray" or a `Ray`: nodes on several machines; or a
    `Rehearsal` of that.
    record: note the order of the run, for `journal`. Such a cluster runs one function, and its workers stay
    from the start to the end. A path: keep the notes in the folder PATH.unfinished too while the cluster is
    open. If this program is killed, `Journal.open` reads them there.
    start_method: "fork" (default on Linux: functions may be closures), "forkserver" or "spawn" (functions
    must be importable, and the script needs a main guard).

    One thread runs a function at a time; a second call of `run` meanwhile raises UsageError. Any thread may
    call `stop`, `ticks`, `delays`, `versions`, `weights`, `events`, `node_pids`, `copy_of_parameters` and
    `replica_differences`, also while another thread is in `run`. During a run, `add_worker`, `remove_worker`
    and `write` may be called only in callbacks of `run`.

    Raises UsageError for arguments that break a rule, UpdaterFailed for an updater that fails a first trial,
    OutOfSpace if the shared arrays do not fit in memory.
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
        engine: str | Engines = "processes",
        record: bool | str | os.PathLike[str] | Recording = False,
    ):
        super().__init__()
        if not isinstance(consistency, Consistency):
            raise UsageError(f"consistency must be SYNC, BOUNDED(k), ASYNC or HOGWILD, got {consistency!r}")
        self.updater = Add() if updater is None else updater
        if not isinstance(self.updater, Updater):
            raise UsageError(f"updater must be an instance of a class derived from Updater, got {updater!r}")
        whole("workers", workers, least=1)
        max_workers = workers if max_workers is None else whole("max_workers", max_workers, least=1)
        if max_workers < workers:
            raise UsageError(f"max_workers must be at least workers={workers}, got {max_workers}")
        self._shape = Shape(
            num_keys=num_keys,
            width=width,
            state_width=self.updater.state_width,
            servers=servers,
            workers=max_workers,
            max_keys=_MAX_KEYS if max_keys is None else max_keys,
            replicas=replicas,
            slots=slots,
            dtype=dtype,
            dense_slots=dense_slots,
        )
        replicas_of(replicas, servers, consistency.in_place)
        if record:
            consistency = replace(consistency, recorded=True)
        self._recording = record if isinstance(record, Recording) else None
        if isinstance(record, str | os.PathLike):
            self._recording = Recording(record)
        if consistency.recorded and restored is not None:
            raise UsageError("restored must be left out where a run is recorded or replayed, got a copy")
        consistency.must_fit(self._shape, workers)
        self.num_workers, self.num_servers, self.consistency = workers, servers, consistency
        self._node_timeout = None if node_timeout is None else positive("node_timeout", node_timeout)
        self._failpoints = tuple(failpoints)
        self._initial = initial_of(initial, num_keys, width)
        self._restored = restored
        if restored is not None:
            restored.must_fit(self._shape, workers)
        self._kind = engine_of(engine, start_method, node_timeout)
        self._kind.prepare(self.updater, width, self._shape.dtype)

    def _must_be_allowed(self) -> None:
        self._kind.must_be_allowed()

    def _start(self) -> None:
        self._completed = False
        self._begun = False  # the first run begins at tick 0; after a restore, ranks are beyond it
        self._engine: ClusterEngine = self._kind.start(
            Spec(
                self._shape,
                self.num_workers,
                self.consistency,
                self.updater,
                self._failpoints,
                self._event_paths(),
            )
        )
        self._resources.callback(self._engine.close)
        # The memory is given back with the last view of it.
        self._resources.callback(lambda: self.__dict__.pop("_parameters", None))
        self._parameters = self._engine.parameters()
        self._fill()
        self._nodes = Nodes(self._engine, self._engine.status(self._parameters))
        self._resources.callback(self._nodes.close)
        self._scheduler = Scheduler(self._nodes, self.num_servers, self._node_timeout)
        for rank in range(self.num_servers):
            self._scheduler.start_server(rank, self._engine.serve)

    def _event_paths(self) -> list[str] | list[None]:
        """Return where each server notes its events; None: in memory."""
        if self._recording is None:
            return [None] * self.num_servers * self.consistency.recorded
        self._resources.callback(self._recording.end)
        return self._recording.begin(self._journal(NOTHING, {}, **self._recording.about))

    def _finish_run(self) -> None:
        self._engine.empty_channels()

    def _fill(self) -> None:
        if self._restored is None:
            self._parameters.weights[:] = self._initial
            self.updater.start(self._parameters.weights, self._shape.state_of(self._parameters.state))
        else:
            self._parameters.restore(self._restored)
        if self._shape.replicas:
            start_replica(self._parameters)

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
        """Run `function(kv, *args)` in every worker; return the results in rank order.

        Each run has worker processes of its own (a few ms under fork). Results must be picklable; only they
        and the parameters outlive the run. A server that dies is replaced, and nothing is lost.

        on_report: called as `on_report(rank, value)` for each value that a worker gives to `kv.report`.
        on_pause: called a few times per second.
        on_event: called with every `Event`: a death, or a worker that joins or leaves.
        on_barrier: called when all workers that have not finished are in a barrier, before it opens.
        on_worker_death: "fail" (NodeDied), "respawn" (the function runs again in the dead worker's place;
        `kv.resumed` counts the pushes that are applied already), or "continue" (the dead worker's committed
        pushes are completed, its result is None, and `kv.ranks` leaves it out).
        join_at: the epoch (0, 1, ...; see `kv.ranks`) at which one more worker joins, as by `add_worker`.

        All callbacks run in the calling process. An exception of a callback ends the run.

        Raises WorkerFailed (from the worker's own exception) if the function raises; NodeDied if a process
        dies that is not replaced, or has died three times without progress.
        """
        if on_worker_death not in (FAIL, RESPAWN, CONTINUE):
            raise UsageError(
                f"on_worker_death must be {FAIL!r}, {RESPAWN!r} or {CONTINUE!r}, got {on_worker_death!r}"
            )
        if self.consistency.recorded:
            self._must_record(on_worker_death, join_at)
        if join_at is not None and self.num_workers == self._shape.workers:
            raise UsageError(
                f"max_workers must be above {self.num_workers} for join_at, got {self.num_workers}"
            )
        self._must_be_open()
        passage = signals.Passage()  # the program may have set other handlers meanwhile
        try:
            self._begin_run()
            try:
                self._nodes.status.forget_commits()
                self._nodes.status.stop(False)
                run = Run(
                    workers=self.num_workers,
                    tick=self._nodes.status.tick if self._begun else 0,
                    channels=self._engine.channels,
                    body=self._engine.work,
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
                    results = self._scheduler.run(run)
                self._completed = True
                return results
            finally:
                if self._nodes.is_own:
                    self._end_run()
        finally:
            passage.close()
            while signals.waiting and signals.deliver():
                pass

    def _must_record(self, on_worker_death: str, join_at: int | None) -> None:
        """Raise UsageError for a run that a journal cannot repeat."""
        if self._begun:
            raise UsageError("a recorded Cluster must run one function, got a second; make another Cluster")
        if on_worker_death == CONTINUE or join_at is not None:
            raise UsageError(
                f"the workers of a recorded run must stay, got on_worker_death={on_worker_death!r} and "
                f"join_at={join_at!r}; use {FAIL!r} or {RESPAWN!r}, and no join_at"
            )

    def journal(self) -> Journal:
        """Return the journal of the run of a recorded cluster. Call it after the run.

        If the run was broken off, the journal is not `complete`: it ends with the last update of each server.
        Raises UsageError if the cluster does not record.
        """
        if not self.consistency.recorded:
            raise UsageError("a journal needs a Cluster that records, got one that does not; use record=True")
        parameters = self._must_be_open()
        streams = [stream.read() for stream in self._engine.streams]
        schedule = Schedule.of(streams, parameters.versions.tolist(), self._nodes.status.stops())
        return self._journal(schedule, digest_of(parameters.copy(self.num_workers)))

    def _journal(self, schedule: Schedule, digest: dict[str, str], **about: Any) -> Journal:
        shape, mode = self._shape, Consistency(self.consistency.bound, self.consistency.hold_pushes)
        nodes = shape.servers, self.num_workers, shape.num_keys, shape.width
        return Journal(schedule, mode, *nodes, complete=self._completed, digest=digest, **about)

    def stop(self) -> None:
        """Ask the functions of the current run to end: `kv.stopping` is True from now on.

        Workers poll a shared flag, so they may stop at different ticks. A worker that leaves never blocks the
        others.
        """
        self._must_be_running()
        if status := vars(self._nodes).get("status"):  # else another thread has left the block meanwhile
            status.stop()

    def add_worker(self) -> int:
        """Add a worker to the current run; return its rank. Call it in a callback of `run`.

        The worker joins in the first epoch that no worker has asked `kv.ranks` for yet, and runs the same
        function. Its clock starts, at all servers, at the tick of the first worker that asks for that epoch.
        It takes part in the barriers after that (see `kv.barrier`).
        """
        run_state = self._changing_state()
        rank = run_state.next_rank
        if rank >= self._shape.workers:
            raise UsageError(
                f"max_workers of the Cluster must be above {rank} for one more worker, got {rank}"
            )
        run_state.division.join(rank)
        return rank

    def remove_worker(self, rank: int) -> None:
        """Leave a worker out from the first epoch on that no worker has asked `kv.ranks` for yet.

        Call it in a callback of `run`. The others wait for the worker at barriers until its function returns.
        """
        run_state = self._changing_state()
        ranks = run_state.division.latest
        if rank not in ranks or len(ranks) == 1:
            raise UsageError(f"cannot remove worker {rank!r}: the workers are {ranks}, and one must remain")
        run_state.remove_worker(rank)

    def _must_be_running(self) -> None:
        if not self._running.locked():
            raise UsageError("this call needs a run in progress, got none; call it while `run` runs")

    def _changing_state(self) -> RunState:
        """Return the state of the current run, whose workers may join and leave."""
        self._must_be_running()
        if self.consistency.recorded:
            raise UsageError("the workers of a recorded run must stay, got one that joins or leaves")
        assert self._scheduler.run_state is not None
        return self._scheduler.run_state

    def now(self) -> float:
        """Return the seconds of the clock that all nodes share; `kv.now` is the same."""
        self._must_be_open()
        return self._engine.clock.now()

    def node_pids(self) -> list[int]:
        """Return the process ids of the servers, and during a run of the workers. Inline there are none."""
        return self._nodes.pids

    @property
    def events(self) -> list[Event]:
        """All deaths, joins and leaves of nodes since the start."""
        return list(self._scheduler.events)

    def copy_of_parameters(self) -> Copy:
        """Return a copy of weights, updater state and clocks for `Cluster(restored=...)`.

        Between two runs it is a snapshot.
        """
        return self._current().copy(self.num_workers)

    def weights(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Return a copy of the values of the keys begin to end - 1: (k,) or (k, width) float64.

        It is a snapshot if no run goes on, or while all workers wait in `kv.barrier("all")`.
        """
        parameters = self._current()
        begin, end, _ = slice(begin, end).indices(self._shape.num_keys)
        return self._shape.flat(parameters.values(begin, end, self.updater))

    def write(self, values: Any, begin: int = 0) -> None:
        """Replace the values of the keys begin to begin + k - 1 by `values` (k,) or (k, width).

        Call it between two runs, or in `on_barrier` while all workers wait in `kv.barrier("all")`: at other
        times a server may write too. Raises UsageError if the values do not fit, or if the cluster has
        updater state, or a replica in shared memory, which would no longer agree with them.
        """
        parameters = self._must_be_open()
        if (self._shape.replicas and not parameters.is_mirror) or self.updater.state_width:
            raise UsageError(
                "write needs a Cluster without a replica and without updater state, got one that has them"
            )
        values = matrix(values, np.size(values) // self._shape.width, self._shape.width)
        if not 0 <= begin <= self._shape.num_keys - len(values):
            raise UsageError(
                f"keys must lie in 0 to {self._shape.num_keys - 1}, got {len(values)} values from key {begin}"
            )
        parameters.weights[begin : begin + len(values)] = values
        self._scheduler.write(begin, begin + len(values))

    def ticks(self) -> np.ndarray:
        """Return the clock of each worker at server 0, (workers,) int64, also while a run goes on.

        A clock counts the worker's applied pushes. At the start of a run all clocks are set to the largest
        one.
        """
        return self._current().done[0, : self.num_workers].copy()

    def delays(self) -> np.ndarray:
        """Return the histogram of the delay of all pushes so far, (4096,) int64.

        Entry d counts (push, server) pairs with a delay of d versions. Entry 4095 counts all longer delays
        too.
        """
        histogram: np.ndarray = self._current().delays.sum(axis=0)
        return histogram

    def versions(self) -> np.ndarray:
        """Return the number of updates that each server has applied, (servers,) int64."""
        return self._current().versions.copy()

    def replica_differences(self) -> int:
        """Return the number of keys whose bits differ in the replica: 0 when no run goes on."""
        return self._current().replica_differences()

    def _current(self) -> Parameters:
        """Return the parameters with what the servers have now.

        Where nodes share no memory, another thread than that of the run gets what they had sent before.
        """
        parameters = self._must_be_open()
        if self._runner == threading.get_ident():
            self._scheduler.refresh()
        return parameters

    @signals.held
    def _must_be_open(self) -> Parameters:
        """Return the parameters. Before that, replace servers that died, unless a run does."""
        is_own = self._open and self._nodes.is_own
        if is_own:
            self._look_after_servers()
            while signals.waiting and signals.deliver():
                pass
        # Another thread may leave the block meanwhile.
        parameters: Parameters | None = self.__dict__.get("_parameters")
        if parameters is None or not is_own:
            raise UsageError(
                "a Cluster must be used inside its with block, and by its own process: "
                "`with Cluster(...) as cluster:`"
            )
        return parameters
