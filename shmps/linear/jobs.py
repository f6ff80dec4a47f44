"""A training as a cluster and what its workers do: by minibatches, or by full gradients under L-BFGS."""

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
from shmps.linear.account import Account
from shmps.linear.minibatches import PER_WEIGHT, most_entries, must_fit
from shmps.linear.settings import Settings
from shmps.ps.memory.parameters import Copy
from shmps.updaters.add import Replace
from shmps.updaters.descent import ByRule

_MOST_ROUNDS = 100


@dataclass(frozen=True)
class Job:
    """What `LogisticRegression.fit` runs."""

    cluster: Cluster
    solver: str  # "minibatch" or "lbfgs"
    function: Callable[..., Account]
    args: tuple[Any, ...]
    weights: Callable[[], np.ndarray]  # what was learned so far
    ticks_planned: int  # of all workers; the most, where it may end earlier
    ticks_per_epoch: int
    stop: Callable[[], None]  # has its workers leave before they are done
    on_barrier: Callable[[], None] = lambda: None
    advice: Callable[[], Warning | None] = lambda: None  # when it has ended: what to do, if anything
    objectives: list[tuple[float, float]] = field(default_factory=list)  # after each round: seconds, value


def job_of(
    settings: Settings,
    rows: Rows,
    start: np.ndarray,
    updater: ByRule,
    restored: Copy | None,
    left_out: int = 0,
) -> Job:
    """The job of `settings` (checked) on `rows`, from the weights `start` or from what was restored.

    start: (n,), or of more than two classes (n, classes). left_out: weights of the model beside those. The
    kernels are compiled in this process, so that the nodes inherit them.
    """
    start_method = _start_method(settings)
    if start_method != "fork":
        rows = shared(rows)
    if settings.by_lbfgs():
        return _full_batches(settings, start_method, rows, start, left_out)
    return _minibatches(settings, start_method, rows, start, updater, restored, left_out)


def _start_method(settings: Settings) -> str:
    """As asked for; else by fork, unless it may hang."""
    if settings.start_method is None and DEFAULT == "fork" and threads_that_may_compute():
        return "forkserver"
    return settings.start_method or DEFAULT


def _warm_up(start_method: str, warm_up: Callable[..., None], rows: Rows, *args: Any) -> None:
    """Compile the kernels here, where forks find them, and in the fork server, if it forks the nodes."""
    warm_up(rows, *args)
    if start_method == "forkserver":
        fork_server.prepare(_warm_up_there, warm_up, rows.taken(np.zeros(1, np.int64)), *args)


def _warm_up_there(warm_up: Callable[..., None], rows: Rows, *args: Any) -> None:
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
) -> Job:
    plan, consistency, num_keys = settings.plan(), settings.consistency(), len(start)
    problems = start.size // num_keys
    if restored is not None:
        plan = replace(plan, done=tuple(restored.ticks.tolist()))
    entries = most_entries(rows, plan.batch_size)
    most = min(num_keys, entries + 1)
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
        initial=start,
        restored=restored,
        max_keys=most,
        dense_slots=int(not plan.batch_size),
        max_workers=settings.workers + (settings.join_at is not None),
        replicas=settings.replicas,
        node_timeout=settings.node_timeout,
        start_method=start_method,
    )
    planned, per_epoch = settings.ticks_planned(rows.num_rows), settings.ticks_per_epoch(rows.num_rows)
    args = rows, start.shape, plan
    train, ticks = minibatch_worker.train, (sum(planned), sum(per_epoch))
    return Job(cluster, "minibatch", train, args, cluster.weights, *ticks, cluster.stop)


def _full_batches(settings: Settings, start_method: str, rows: Rows, start: np.ndarray, left_out: int) -> Job:
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
    descent = full_gradient.Descent(cluster, layout, start, settings.l2, settings.tol, most)
    return Job(
        cluster,
        "lbfgs",
        full_gradient.contribute,
        (rows, layout, settings.test_interval, settings.timeline),
        lambda: descent.weights,
        most * settings.workers,
        settings.workers,
        descent.stop,
        descent,
        lambda: descent.advice,
        descent.history,
    )
