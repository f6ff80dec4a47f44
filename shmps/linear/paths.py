"""The folds of a cross-validation along paths of penalties: on a cluster, or if short in this process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from shmps.cluster import Cluster
from shmps.data.rows import MappedRows, Rows, shared
from shmps.engines.processes.node import method_of
from shmps.errors import NotConverged
from shmps.linear.columns import Columns
from shmps.linear.full_gradient import rounds
from shmps.linear.full_gradient.chains import (
    Chain,
    Fit,
    Penalty,
    Trainer,
    grouped,
    in_process,
    shares,
    train_chains,
)
from shmps.linear.full_gradient.in_process import pays
from shmps.linear.full_gradient.layout import Layout
from shmps.linear.full_gradient.problem import MOST_WHOLE, Problem
from shmps.linear.full_gradient.shard import Shard
from shmps.linear.settings import Settings
from shmps.linear.solvers import MOST_ROUNDS, warm_up_nodes
from shmps.ps.consistency import ASYNC
from shmps.system.parallel import usable_cores
from shmps.updaters.add import Replace

_WARM = 0.15  # of its gradients a fit takes that starts where those for other penalties lead to


class Paths(NamedTuple):
    """What every fold has learned with every penalty."""

    weights: np.ndarray  # (folds, paths, penalties, *shape of the weights)
    gradients: np.ndarray  # (folds, paths, penalties) int
    converged: np.ndarray  # (folds, paths, penalties) bool


def train_paths(
    settings: Settings,
    rows: Rows,
    taken: np.ndarray,
    shape: tuple[int, ...],
    penalties: Sequence[Sequence[Sequence[Penalty]]],
    on_fit: Callable[[int, int], None],
) -> Paths:
    """Train on the rows of each fold along each path of penalties.

    settings: checked, for full gradients. taken: which rows each fold trains on, (folds, rows) bool. shape:
    of the weights, (features,), or (features, classes) with more than two classes. penalties: of each fold,
    path and fit; a path should go from strong to weak ones. on_fit: called with the fits done and planned.
    All processes share one copy of the rows, in an order of its own.
    """
    start, intercept = np.zeros(shape), bool(settings.fit_intercept)
    memory = settings.plan().memory
    columns = Columns.of(rows, start, intercept, settings.servers, None, memory, MOST_WHOLE)
    rows, narrow = columns.rows(rows), columns.narrow(start)
    if isinstance(rows, MappedRows):  # they are read again and again, in another order
        rows = rows.part(0, rows.num_rows)
    rows, taken = grouped(rows, taken)
    loss = settings.loss_of(narrow)
    sparsest = max((path[0] for path in penalties[0]), key=lambda penalty: penalty.l1)
    problem = Problem.of(rows, narrow.shape, loss, intercept, **sparsest._asdict())
    trainer = Trainer(rows, taken, problem, settings.tol, settings.iterations or MOST_ROUNDS)
    chains = _chains(penalties)
    grid = len(penalties), len(penalties[0]), len(penalties[0][0])
    fits = int(np.prod(grid))
    own = Shard(problem, trainer.runs(0), 0)
    if not settings.asks_for_nodes and pays(problem, own, np.zeros(problem.shape), fits * _WARM):
        values = in_process(trainer, chains, lambda done: on_fit(done, fits))
    else:
        values = _on_cluster(settings, trainer, chains, lambda done: on_fit(done, fits))
    learned = [Fit.of(own, problem.shape) for own in values]
    weights = np.array([columns.whole(fit.weights.reshape(narrow.shape)) for fit in learned])
    return Paths(
        weights.reshape(*grid, *shape),
        np.array([fit.gradients for fit in learned]).reshape(grid),
        np.array([fit.converged for fit in learned]).reshape(grid),
    )


def _chains(penalties: Sequence[Sequence[Sequence[Penalty]]]) -> list[Chain]:
    """Return a chain for each path of each fold; the fits are numbered in the order of `penalties`."""
    chains, number = [], 0
    for fold, paths in enumerate(penalties):
        for path in paths:
            chains.append(Chain(fold, tuple(range(number, number + len(path))), tuple(path)))
            number += len(path)
    return chains


def _on_cluster(
    settings: Settings, trainer: Trainer, chains: list[Chain], on_fit: Callable[[int], None]
) -> np.ndarray:
    """Train the chains in the workers of a cluster. Return the values of the fits, (fits, width)."""
    start_method = method_of(settings.start_method, safe=True)
    if start_method != "fork":
        trainer = replace(trainer, rows=shared(trainer.rows))
    fits = sum(len(chain.numbers) for chain in chains)
    each = shares(chains, settings.workers or usable_cores())
    warm_up_nodes(start_method, rounds.warm_up, trainer.rows, Layout(trainer.problem))
    with Cluster(
        fits * trainer.width,
        servers=settings.servers,
        workers=len(each),
        consistency=ASYNC,
        updater=Replace(),
        max_keys=trainer.width,
        slots=1,
        dense_slots=0,
        node_timeout=settings.node_timeout,
        start_method=start_method,
    ) as cluster:
        cluster.run(
            train_chains,
            trainer,
            each,
            on_worker_death=settings.on_worker_death,
            on_pause=lambda: on_fit(int(cluster.ticks().sum())),
        )
        on_fit(fits)
        return cluster.weights().reshape(fits, trainer.width)


def advice(paths: Paths, settings: Settings) -> NotConverged | None:
    """What to do if fits ended above their tolerance; None if none did."""
    missed = int((~paths.converged).sum())
    if not missed:
        return None
    return NotConverged(
        f"{missed} of {paths.converged.size} fits of the folds ended before they were within {{tol.given}} "
        f"of the least value, so that their scores may be off; raise {{iterations}} or {{tol}}, or scale the "
        f"features",
        tol=settings.tol,
        iterations=settings.iterations or MOST_ROUNDS,
    )
