"""The two solvers, each as a cluster and the function that its workers run: minibatches, and L-BFGS."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shmps.cluster import Cluster
from shmps.data.rows import Rows, shared
from shmps.engines.processes.fork_server import fork_server
from shmps.engines.processes.process import DEFAULT
from shmps.engines.processes.threads import threads_that_may_compute
from shmps.linear import full_gradient, minibatch_worker
from shmps.linear.minibatches import PER_WEIGHT, most_entries, must_fit
from shmps.linear.scaling import Centre
from shmps.linear.settings import Settings
from shmps.linear.timesheet import WorkerStats
from shmps.ps.memory.parameters import Copy
from shmps.updaters.add import Replace
from shmps.updaters.descent import ByRule

_MOST_ROUNDS = 100  # of L-BFGS, if iterations is None


@dataclass(frozen=True)
class Solver:
    """A solver at work on one training."""

    name: str  # "minibatch" or "lbfgs"
    cluster: Cluster
    function: Callable[..., WorkerStats]  # run by every worker
    args: tuple[Any, ...]  # of the function, after `kv`
    weights: Callable[[], np.ndarray]  # the weights learned so far
    ticks_planned: int  # of all workers; the most if the training may end earlier
    ticks_per_epoch: int  # of all workers
    stop: Callable[[], None]  # makes the workers leave early
    on_barrier: Callable[[], None] = lambda: None
    advice: Callable[[], Warning | None] = lambda: None  # what to do if it ended before it was done
    objectives: list[tuple[float, float]] = field(default_factory=list)  # after each round: seconds, value


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
    start_method = _start_method(settings)
    if start_method != "fork":
        rows = shared(rows)
    if settings.by_lbfgs():
        return _lbfgs(settings, start_method, rows, start, left_out)
    return _minibatches(settings, start_method, rows, start, updater, restored, left_out, centre)


def _start_method(settings: Settings) -> str:
    """Return the start method of the settings; by default fork, unless a fork may hang."""
    if settings.start_method is None and DEFAULT == "fork" and threads_that_may_compute():
        return "forkserver"
    return settings.start_method or DEFAULT


def _warm_up(start_method: str, warm_up: Callable[..., None], rows: Rows, *args: Any) -> None:
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
    start_method: str,
    rows: Rows,
    start: np.ndarray,
    updater: ByRule,
    restored: Copy | None,
    left_out: int,
    centre: Centre | None,
) -> Solver:
    plan, consistency, num_keys = replace(settings.plan(), centre=centre), settings.consistency(), len(start)
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
        entries=0 if consistency.in_place else entries,
        left_out=left_out,
    )
    _warm_up(start_method, minibatch_worker.warm_up, rows, start.shape, plan, updater, consistency.in_place)
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
        dense_slots=int(not plan.batch_size),
        max_workers=settings.workers + (settings.join_at is not None),
        replicas=settings.replicas,
        node_timeout=settings.node_timeout,
        start_method=start_method,
    )
    return Solver(
        name="minibatch",
        cluster=cluster,
        function=minibatch_worker.train,
        args=(rows, start.shape, plan),
        weights=cluster.weights if centre is None else lambda: centre.plain(cluster.weights()),
        ticks_planned=sum(settings.ticks_planned(rows.num_rows)),
        ticks_per_epoch=sum(settings.ticks_per_epoch(rows.num_rows)),
        stop=cluster.stop,
    )


def _lbfgs(settings: Settings, start_method: str, rows: Rows, start: np.ndarray, left_out: int) -> Solver:
    problems = start.size // len(start)
    must_fit(settings.plan().memory, rows, len(start), problems, full_gradient.PER_WEIGHT, left_out=left_out)
    layout = full_gradient.Layout.of(rows, start.shape, bool(settings.fit_intercept))
    _warm_up(start_method, full_gradient.warm_up, rows, layout)
    cluster = Cluster(
        layout.num_keys,
        servers=settings.servers,
        workers=settings.workers,
        consistency=settings.consistency(),
        updater=Replace(),
        initial=layout.start(start),
        max_keys=layout.most_keys,
        slots=1,
        dense_slots=0,
        node_timeout=settings.node_timeout,
        start_method=start_method,
    )
    most = settings.iterations or _MOST_ROUNDS
    coordinator = full_gradient.Coordinator(cluster, layout, start, settings.l2, settings.tol, most)
    return Solver(
        name="lbfgs",
        cluster=cluster,
        function=full_gradient.contribute,
        args=(rows, layout, settings.test_interval, settings.timeline),
        weights=lambda: coordinator.weights,
        ticks_planned=most * settings.workers,
        ticks_per_epoch=settings.workers,
        stop=coordinator.stop,
        on_barrier=coordinator,
        advice=lambda: coordinator.advice,
        objectives=coordinator.history,
    )
