"""Training by full gradients: workers push the gradients of their shards, a coordinator runs L-BFGS.

    worker r:   look at the weights --> gradient and loss of the shard --push--> servers: sums
                      ^                                                           |
                      |               barrier: all workers wait                   v
    coordinator:      +----- write the next weights <---- LBFGS.take <---- read the sums

    keys:   | weights n | more 1 | gradient n | loss 1 | curvature     |
            + coordinator writes +------- workers push, servers sum ---+

A round is one tick in sync mode and one barrier. The coordinator runs in the scheduler's process. It reads
and writes before the barrier opens, and nothing else changes meanwhile. The state of L-BFGS is in the
process whose death ends everything. So the nodes can be killed at any instant, as in any other training. The
curvature is pushed once, before the first round.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shmps.cluster import Cluster
from shmps.data.rows import Rows, lengths, shard
from shmps.errors import Diverged, NotConverged
from shmps.linear.kernels import curvature_matrix, dot, moments
from shmps.linear.lbfgs import LBFGS, Solve, curvature_of_moments, whole_curvature
from shmps.linear.objective import mean_gradient, measure, pieces, warm_up_gradient
from shmps.linear.plan import Iterate
from shmps.linear.timesheet import COMPUTE, PULL, PUSH, Timesheet, WorkerStats
from shmps.ps.kernels import add_scaled
from shmps.ps.messages import ALL
from shmps.ps.worker.kv import KVWorker

PER_WEIGHT = 320  # bytes of the scheduler, most of them for the memory of L-BFGS
_MOST_WHOLE = 512  # most features for which the curvature is a whole matrix: it is inverted in a few ms
_MOST_PRODUCTS = 8  # of two values of a row, per non-zero, for that matrix: about the cost of two gradients
_LEAST_ROWS = 10  # per feature, that the matrix is computed from


@dataclass(frozen=True)
class Layout:
    """Which key holds which number; every key has one value.

    weights (n,): (features,) or (features, classes) row by row. more (1,): whether another round follows.
    Sums over all workers: gradient (n,), loss (1,), the parts of the curvature. The curvature at zero does
    not depend on the labels, so it is the same for every class.
    """

    shape: tuple[int, ...]  # of the weights: (features,), the intercept's last, or (features, classes)
    rows: int
    intercept: bool
    stride: int  # every stride-th row contributes to the curvature matrix; 0: all rows' moments instead

    @staticmethod
    def of(rows: Rows, shape: tuple[int, ...], intercept: bool) -> "Layout":
        """Return the layout for weights of `shape`, with the curvature that is affordable on these rows."""
        squares = sum(float(np.square(part, dtype=float).sum()) for part in lengths(rows))
        products = squares / 2 / max(rows.nonzeros, 1)
        stride = max(1, round(products / _MOST_PRODUCTS))
        features = shape[0]
        whole = features <= _MOST_WHOLE and rows.num_rows >= stride * features * _LEAST_ROWS
        return Layout(shape, rows.num_rows, intercept, stride if whole else 0)

    @property
    def n(self) -> int:
        return math.prod(self.shape)

    @property
    def more(self) -> int:
        return self.n

    @property
    def sums(self) -> int:
        """The first key of the sums."""
        return self.n + 1

    @property
    def curvature(self) -> int:
        """The first key of the curvature."""
        return self.sums + self.n + 1

    @property
    def parts(self) -> list[int]:
        """The numbers of keys of the curvature's pushes: half of the matrix, or squares and means."""
        features = self.shape[0]
        return [features * features] if self.stride else [features, features]

    @property
    def num_keys(self) -> int:
        return self.curvature + sum(self.parts)

    @property
    def most_keys(self) -> int:
        """The most keys of a push: the gradient and the loss, or a part of the curvature."""
        return max(self.n + 1, *self.parts)

    def start(self, weights: np.ndarray) -> np.ndarray:
        """Return all values before the first round, (num_keys,)."""
        return np.concatenate([weights.ravel(), [1.0], np.zeros(self.num_keys - self.sums)])


def contribute(
    kv: KVWorker, rows: Rows, layout: Layout, test_interval: int, timeline: bool = False
) -> WorkerStats:
    """Run a worker: push the sums of its shard, round after round, until no other round follows."""
    own, n = shard(rows, kv.rank, kv.num_workers, kv.beat), layout.n
    keys, sums = np.arange(layout.sums, layout.curvature), np.empty(n + 1)
    out, before = sums[:n].reshape(layout.shape), len(layout.parts)
    kv.barrier(ALL)
    sheet = Timesheet(kv, timeline)
    if kv.resumed < before:
        parts = _curvature(own, layout, kv.beat)
        sheet.lap(COMPUTE)
        _push_parts(kv, layout, parts)  # the servers sum them during the first gradient
    for iteration in itertools.count(1):
        if iteration + before > kv.resumed:
            weights = kv.read()[:n].reshape(layout.shape)
            sums[n] = mean_gradient(own, weights, layout.intercept, layout.rows, out, kv.beat)
            sheet.lap(COMPUTE)
            if kv.rank == 0 and test_interval and iteration % test_interval == 0:
                at = kv.now()
                kv.report(Iterate(iteration, at, iteration * kv.num_workers, weights.copy()))
                sheet.lap(PULL)
            kv.push(keys, sums)
        kv.barrier(ALL)
        sheet.lap(PUSH)
        # A respawned worker skips the rounds that are complete.
        if iteration + before >= kv.resumed and not kv.read()[layout.more]:
            break
    return sheet.stats(iteration, iteration * own.num_rows, iteration * own.nonzeros)


def _push_parts(kv: KVWorker, layout: Layout, parts: list[np.ndarray]) -> None:
    """Push the parts of the curvature, without those that this worker pushed before it died."""
    first = layout.curvature
    for number, part in enumerate(parts, 1):
        if number > kv.resumed:
            kv.start_push(np.arange(first, first + len(part)), part)
        first += len(part)


def _curvature(rows: Rows, layout: Layout, beat: Callable[[], None]) -> list[np.ndarray]:
    """Return the rows' part of the curvature of n features: [squares (n,), means (n,)], or half of the
    matrix [(n * n,)].
    """
    n, stride = layout.shape[0], layout.stride
    squares, means, matrix = np.zeros(n), np.zeros(n), np.zeros((n, n) if stride else (0, 0))
    for piece in pieces(rows, stride or 1):
        arrays = piece.indptr, piece.indices, piece.data, piece.importance
        if stride:
            curvature_matrix(*arrays, layout.intercept, layout.rows, stride, matrix)
        if stride != 1:
            moments(*arrays, layout.intercept, layout.rows, squares, means)
        beat()
    if stride > 1:
        # A feature that occurs in few of the sampled rows would look flat.
        sampled = np.einsum("ii->i", matrix)
        np.maximum(sampled, squares / 8, out=sampled)
    return [matrix.ravel()] if stride else [squares, means]


class Coordinator:
    """Runs L-BFGS at the scheduler. Call it at every barrier of `contribute`."""

    def __init__(
        self, cluster: Cluster, layout: Layout, start: np.ndarray, l2: float, tolerance: float, most: int
    ):
        """Minimise mean loss + l2/2 |w|^2 (without the intercept's weight) from `start` in `most` rounds."""
        self._cluster, self._layout, self._start, self._most = cluster, layout, start.ravel(), most
        self._l2, self._penalty = l2, np.full(layout.shape, l2)
        if layout.intercept:
            self._penalty[-1] = 0.0
        self._tolerance = tolerance
        self._search: LBFGS | None = None
        self._began: float | None = None
        self._stopped = False
        self.history: list[tuple[float, float]] = []  # seconds, objective

    @property
    def weights(self) -> np.ndarray:
        """The weights of the last accepted step, in the layout's shape."""
        best = self._start if self._search is None else self._search.best[0]
        return best.reshape(self._layout.shape)

    @property
    def advice(self) -> NotConverged | None:
        """What to do if L-BFGS ended above its tolerance; None otherwise."""
        search = self._search
        if self._stopped or search is None or (search.done and not search.stuck):
            return None
        rounds, apart = len(self.history), search.gap / abs(search.best[1])
        if apart <= self._tolerance:  # the search bounds its gap only every few steps
            return None
        if search.stuck:
            ended, do = f"no step along its direction went down in {rounds} rounds (rounding)", "raise {tol}"
        else:
            ended, do = f"it used all its {rounds} rounds", "raise {iterations} or {tol}"
        known = f"up to {apart:.2g} of it" if math.isfinite(apart) else "an unknown distance"
        return NotConverged(
            f"lbfgs ended because {ended}: the objective is {known} above its least value, by an estimate; "
            f"{{tol.given}} asks for less; {do}, or scale the features",
            tol=self._tolerance,
            iterations=self._most,
        )

    def stop(self) -> None:
        """Stop after the next round; all workers leave after the same round."""
        self._stopped = True

    def __call__(self) -> None:
        if self._began is None:  # the first barrier: all workers have started
            self._began = time.monotonic()
            return
        layout, n = self._layout, self._layout.n
        end = layout.num_keys if self._search is None else layout.curvature
        sums = self._cluster.weights(layout.sums, end)
        if self._search is None:
            if not np.isfinite(sums).all():
                raise Diverged(
                    "loss, gradient and curvature must be finite at the initial weights, and are not; "
                    "scale the features to about 1, or start nearer to 0"
                )
            self._search = LBFGS(
                self._start, self._solve(sums[n + 1 :]), self._tolerance, self._least(), layout.stride == 1
            )
        search, owed = self._search, self._penalty.ravel() * self._search.weights
        search.take(sums[n] + 0.5 * (owed * search.weights).sum(), sums[:n] + owed)
        self.history.append((time.monotonic() - self._began, search.best[1]))
        more = not (search.done or self._stopped) and len(self.history) < self._most
        self._cluster.write(np.append(search.weights, float(more)))

    def _least(self) -> np.ndarray:
        """Return a lower bound (n,) of the curvature: the penalty.

        The intercept has no penalty. Its curvature is the rows' mean of p (1 - p), which is assumed to be at
        least a tenth of l2.
        """
        least = np.full(self._layout.shape, self._l2)
        if self._layout.intercept:
            least[-1] /= 10
        return least.ravel()

    def _solve(self, sums: np.ndarray) -> Solve:
        """Return the solver of linear systems with the curvature in `sums`; it solves all classes at once."""
        features = len(self._penalty)
        penalty = self._penalty.reshape(features, -1)[:, 0]
        if self._layout.stride:
            half = sums.reshape(features, features)
            solve = whole_curvature(half + half.T, penalty)
        else:
            solve = curvature_of_moments(sums[:features], sums[features:], penalty)
        return lambda vector: solve(vector.reshape(features, -1)).ravel()


def warm_up(rows: Rows, layout: Layout) -> None:
    """Run the kernels of workers and scheduler on one row: nodes that are forked later have them compiled."""
    one, weights = rows.example(), np.zeros(layout.n)
    add_scaled(weights, weights, dot(weights, weights))
    flat = np.zeros(layout.shape[0])
    curvature_of_moments(flat, flat, flat)(weights.reshape(len(flat), -1))
    warm_up_gradient(one, layout.shape, layout.intercept)
    _curvature(one, layout, lambda: None)
    measure(one, np.zeros(layout.shape), layout.intercept)
