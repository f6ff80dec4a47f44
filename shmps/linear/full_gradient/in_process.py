"""Training by full gradients in the calling process: small problems, for which starting nodes cannot pay."""

import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from shmps.data.rows import MappedRows, Rows
from shmps.linear.full_gradient.descent import Descent
from shmps.linear.full_gradient.problem import Gradient, Problem, Sums
from shmps.linear.full_gradient.shard import Shard, by_length
from shmps.linear.plan import Iterate
from shmps.linear.timesheet import WorkerStats
from shmps.ps.events import Event
from shmps.ps.scheduler.run import OnReport

_GRADIENTS = 40  # that a training takes about
_FEWER = 25  # with few features, and so a whole matrix for the curvature
_MOST_SECONDS = 0.06  # about what the start of nodes and the rounds between them take
_LEAST_PER_NONZERO = 0.3e-9  # seconds of a gradient, for one class: a bound that no machine goes below


def own_shard(problem: Problem, rows: Rows, weights: np.ndarray, workers: int) -> Shard | None:
    """Return the rows as the shard of this process; None if nodes, of so many workers, finish earlier."""
    least = _gradients(problem) * rows.nonzeros * problem.classes * _LEAST_PER_NONZERO
    if workers > 1 and least > _MOST_SECONDS:
        return None  # without a copy of the rows
    shard = Shard(problem, rows if isinstance(rows, MappedRows) else by_length(rows), 0)
    return shard if workers == 1 or pays(problem, shard, weights) else None


def pays(problem: Problem, shard: Shard, weights: np.ndarray, trainings: float = 1.0) -> bool:
    """Return whether trainings in this process are shorter than the start of nodes, by timing a gradient."""
    sums = Sums.of(problem)
    gradients = trainings * _gradients(problem)
    for _ in range(2):  # the first may compile the kernel
        began = time.perf_counter()
        shard.compute_gradient(weights, sums)
        if gradients * (time.perf_counter() - began) <= _MOST_SECONDS:
            return True
    return False


def _gradients(problem: Problem) -> int:
    return _FEWER if problem.whole else _GRADIENTS


class InProcess:
    """A training by full gradients without nodes; see `solvers.Solver` for what a training uses of it."""

    name = "lbfgs"
    events: tuple[Event, ...] = ()
    clock, now = "wall", staticmethod(time.monotonic)
    num_workers = 0
    ticks_per_epoch = 1

    def __init__(
        self, rows: Rows, shard: Shard, problem: Problem, descent: Descent, most: int, interval: int
    ):
        """most: gradients. interval: gradients between reports; 0: no reports."""
        self._rows, self._shard, self._problem, self._descent = rows, shard, problem, descent
        self.ticks_planned, self._interval = most, interval
        self.objectives = descent.history

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        self._descent.stop()

    def run(
        self,
        *,
        on_report: OnReport,
        on_pause: Callable[[], None],
        on_barrier: Callable[[], None],
        **_: Any,
    ) -> list[WorkerStats]:
        """Answer the requests of the search until it ends."""
        descent, sums, began = self._descent, Sums.of(self._problem), time.monotonic()
        descent.begin()
        on_barrier()
        while descent.request is not None and not descent.stopped:
            request, number = descent.request, descent.gradients
            self._shard.answer(request, descent.weights, sums)
            descent.take(sums)
            if isinstance(request, Gradient) and self._interval and number % self._interval == 0:
                weights = request.weights.reshape(self._problem.loss_shape).copy()
                on_report(0, Iterate(number, time.monotonic(), number, weights))
            on_pause()
        done, ended = len(descent.history), time.monotonic()
        rows = self._rows
        counts = {"iterations": done, "rows": done * rows.num_rows, "nonzeros": done * rows.nonzeros}
        return [
            WorkerStats(
                rank=0,
                began=began,
                ended=ended,
                **counts,
                computing=ended - began,
                waiting=0.0,
                slept=0.0,
                spans=None,
            )
        ]

    def weights(self) -> np.ndarray:
        return self._descent.best.reshape(self._problem.loss_shape)

    def advice(self) -> Warning | None:
        return self._descent.advice

    def ticks(self) -> np.ndarray:
        return np.array([len(self._descent.history)])

    def delays(self) -> np.ndarray:
        """Return the histogram of delays: empty, since nothing is pushed."""
        return np.zeros(1)
