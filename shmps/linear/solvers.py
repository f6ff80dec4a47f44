"""The two solvers, each on a cluster and with the function that its workers run: minibatches, full gradients.

Small problems are solved by full gradients in the calling process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np

from shmps.cluster import Cluster
from shmps.data.rows import Rows, shared
from shmps.engines.choice import Engines, engine_of
from shmps.engines.processes.fork_server import fork_server
from shmps.linear import minibatch_worker
from shmps.linear.full_gradient import rounds
from shmps.linear.full_gradient.descent import Descent
from shmps.linear.full_gradient.in_process import InProcess, own_shard
from shmps.linear.full_gradient.layout import Asked, Layout
from shmps.linear.full_gradient.problem import Problem
from shmps.linear.full_gradient.searches import search_for
from shmps.linear.full_gradient.transposed import transposed
from shmps.linear.minibatches import PER_WEIGHT, most_entries, must_fit
from shmps.linear.plan import Plan
from shmps.linear.scaling import Centre
from shmps.linear.settings import Settings
from shmps.linear.timesheet import WorkerStats
from shmps.ps.consistency import Consistency
from shmps.ps.events import Event
from shmps.ps.memory.parameters import Copy
from shmps.ps.scheduler.run import OnEvent, OnReport
from shmps.updaters.add import Replace
from shmps.updaters.descent import ByRule

MOST_ROUNDS = 500  # gradients, if iterations is None


class Solver(Protocol):
    """A solver at work on one training. `run` it within a with block."""

    name: str  # "minibatch" or "lbfgs"
    clock: str  # "wall" or "virtual"
    num_workers: int  # 0: in the calling process
    ticks_planned: int  # of all workers; the most if the training may end earlier
    ticks_per_epoch: int  # of all workers
    objectives: list[tuple[float, float]]  # after each gradient of lbfgs: seconds, value

    def stop(self) -> None:
        """Make the workers leave early."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *raised: Any) -> None: ...

    def run(
        self,
        *,
        on_report: OnReport,
        on_pause: Callable[[], None],
        on_event: OnEvent,
        on_barrier: Callable[[], None],
        on_worker_death: str,
        join_at: int | None,
    ) -> Sequence[WorkerStats | None]:
        """Train; the arguments are those of `Cluster.run`. Return what each worker did."""
        ...

    def weights(self) -> np.ndarray:
        """Return the weights learned so far."""
        ...

    def advice(self) -> Warning | None:
        """Return what to do if the solver ended before it was done."""
        ...

    def now(self) -> float:
        """Return seconds of the workers' clock."""
        ...

    @property
    def events(self) -> Sequence[Event]: ...
    def ticks(self) -> np.ndarray: ...
    def delays(self) -> np.ndarray: ...


@dataclass
class OnCluster:
    """A solver whose workers run `function(kv, *args)` on a cluster."""

    name: str
    clock: str
    cluster: Cluster
    function: Callable[..., WorkerStats]
    args: tuple[Any, ...]  # of the function, after `kv`
    weights: Callable[[], np.ndarray]
    ticks_planned: int
    ticks_per_epoch: int
    stop: Callable[[], None]
    on_barrier: Callable[[], None] = lambda: None
    advice: Callable[[], Warning | None] = lambda: None
    objectives: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_workers = self.cluster.num_workers
        self.ticks, self.delays, self.now = self.cluster.ticks, self.cluster.delays, self.cluster.now

    def __enter__(self) -> Self:
        self.cluster.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.cluster.__exit__(*raised)

    @property
    def events(self) -> Sequence[Event]:
        return self.cluster.events

    def run(self, *, on_barrier: Callable[[], None], **callbacks: Any) -> list[WorkerStats | None]:
        def both() -> None:
            on_barrier()
            self.on_barrier()

        return self.cluster.run(self.function, *self.args, on_barrier=both, **callbacks)


def solver_of(
    settings: Settings,
    rows: Rows,
    start: np.ndarray,
    updater: ByRule,
    restored: Copy | None,
    left_out: int = 0,
    centre: Centre | None = None,
) -> Solver:
    """Return the solver of `settings` (checked) on `rows`, from the weights `start` or from a restored copy.

    start: (n,), with more than two classes (n, classes). left_out: weights of the model that are not trained.
    centre: the features that minibatches centre.
    The kernels are compiled in this process, so that the nodes inherit them.
    """
    if settings.by_lbfgs():
        return _full_gradients(settings, rows, start, left_out)
    engine = _engine(settings)
    if engine.needs_shared_rows:
        rows = shared(rows)
    return _minibatches(settings, engine, rows, start, updater, restored, left_out, centre)


def _engine(settings: Settings) -> Engines:
    return engine_of(settings.engine, settings.start_method, safe=True)


def warm_up_nodes(start_method: str | None, warm_up: Callable[..., None], rows: Rows, *args: Any) -> None:
    """Compile the kernels in this process, for its forks, and in the fork server if that forks the nodes."""
    warm_up(rows, *args)
    if start_method == "forkserver":
        fork_server.prepare(_warm_up_in_server, warm_up, rows.taken(np.zeros(1, np.int64)), *args)


def _warm_up_in_server(warm_up: Callable[..., None], rows: Rows, *args: Any) -> None:
    for array in rows:
        if array is not None:
            array.flags.writeable = False  # as in the nodes: see `data.rows_of`
    warm_up(rows, *args)


def _minibatches(
    settings: Settings,
    engine: Engines,
    rows: Rows,
    start: np.ndarray,
    updater: ByRule,
    restored: Copy | None,
    left_out: int,
    centre: Centre | None,
) -> OnCluster:
    plan, consistency, num_keys = replace(settings.plan(), centre=centre), settings.consistency(), len(start)
    in_place = consistency.in_place
    problems = start.size // num_keys
    if restored is not None:
        plan = replace(plan, done=tuple(restored.ticks.tolist()))
    entries = most_entries(rows, plan.batch_size)
    most = min(num_keys, entries + 1 + (0 if centre is None else len(centre.keys)))
    must_fit(
        plan.memory,
        rows,
        num_keys,
        problems,
        PER_WEIGHT,
        requested=most if plan.batch_size else num_keys,
        entries=0 if in_place else entries,
        left_out=left_out,
    )
    warm_up_nodes(engine.start_method, minibatch_worker.warm_up, rows, start.shape, plan, updater, in_place)
    cluster = Cluster(
        num_keys,
        width=problems,
        servers=settings.servers,
        workers=settings.workers,
        consistency=consistency,
        updater=updater,
        initial=start if centre is None else centre.stored(start),
        restored=restored,
        max_keys=most,
        dense_slots=_dense_slots(plan, consistency),
        max_workers=settings.workers + (settings.join_at is not None),
        replicas=settings.replicas,
        node_timeout=settings.node_timeout if engine.may_hang else None,
        engine=engine,
        record=settings.recording or False,
    )
    return OnCluster(
        name="minibatch",
        clock=engine.clock,
        cluster=cluster,
        function=minibatch_worker.train,
        args=(rows, start.shape, plan),
        weights=cluster.weights if centre is None else lambda: centre.plain(cluster.weights()),
        ticks_planned=sum(settings.ticks_planned(rows.num_rows)),
        ticks_per_epoch=sum(settings.ticks_per_epoch(rows.num_rows)),
        stop=cluster.stop,
    )


def _dense_slots(plan: Plan, consistency: Consistency) -> int:
    """Return the requests for all keys that a worker has under way: of whole shards, and of evaluations.

    In a recorded run a pull keeps its slot until the next push is committed.
    """
    if not consistency.reads_by_pull:
        return int(not plan.batch_size)
    return 1 if plan.batch_size else 3


def problem_of(settings: Settings, rows: Rows, weights: np.ndarray) -> Problem:
    """Return the problem that a training solves, with weights of the shape of `weights`."""
    loss, intercept = settings.loss_of(weights), bool(settings.fit_intercept)
    return Problem.of(rows, weights.shape, loss, intercept, l2=settings.l2, l1=settings.l1)


def _full_gradients(settings: Settings, rows: Rows, start: np.ndarray, left_out: int) -> Solver:
    problem = problem_of(settings, rows, start)
    must_fit(settings.plan().memory, rows, *problem.shape, rounds.PER_WEIGHT, left_out=left_out)
    most = settings.iterations or MOST_ROUNDS
    start = start.reshape(problem.shape)
    columns = transposed(problem, [rows]) if settings.memory is None else None

    def descend(problem: Problem) -> Descent:
        search = search_for(problem, start, settings.tol, rows=columns)
        return Descent(problem, search, settings.tol, most)

    if not (settings.asks_for_nodes or settings.timeline):
        shard = own_shard(problem, rows, start, settings.workers)
        if shard is not None:
            return InProcess(rows, shard, problem, descend(problem), most, settings.test_interval or 0)
    problem = replace(problem, shards=settings.workers)
    descent = descend(problem)
    engine = _engine(settings)
    if engine.needs_shared_rows:
        rows = shared(rows)
    layout = Layout(problem)
    warm_up_nodes(engine.start_method, rounds.warm_up, rows, layout)
    cluster = Cluster(
        layout.num_keys,
        servers=settings.servers,
        workers=settings.workers,
        consistency=settings.consistency(),
        updater=Replace(),
        initial=layout.initial(Asked(descent.request, descent.weights, descent.gradients)),
        max_keys=layout.most_keys,
        slots=1,
        dense_slots=0,
        replicas=int(not engine.shares_memory and settings.servers > 1),
        node_timeout=settings.node_timeout if engine.may_hang else None,
        engine=engine,
    )
    return OnCluster(
        name="lbfgs",
        clock=engine.clock,
        cluster=cluster,
        function=rounds.contribute,
        args=(rows, layout, settings.test_interval, settings.timeline, settings.memory is None),
        weights=lambda: descent.best.reshape(problem.loss_shape),
        ticks_planned=most * settings.workers,
        ticks_per_epoch=settings.workers,
        stop=descent.stop,
        on_barrier=rounds.Coordinator(cluster, layout, descent),
        advice=lambda: descent.advice,
        objectives=descent.history,
    )
