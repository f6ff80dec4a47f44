"""Batch training: workers push gradients of their whole shards, servers sum them, L-BFGS is at the scheduler.

A round is a tick in sync mode and a barrier: look at the weights, push this shard's part of the gradient,
wait for all. Before the barrier opens the scheduler reads the sums and writes the next weights; nothing else
moves meanwhile. All that L-BFGS remembers is in the process whose death ends everything: the nodes can be
killed at any instant, as in any other training.
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
from shmps.linear.account import COMPUTE, PULL, PUSH, Account, Timesheet
from shmps.linear.kernels import curvature_matrix, dot, moments
from shmps.linear.lbfgs import LBFGS, Solve, curvature_of_moments, whole_curvature
from shmps.linear.minibatch_worker import Snapshot
from shmps.linear.passes import mean_gradient, measure, pieces, warm_up_gradient
from shmps.ps.kernels import add_scaled
from shmps.ps.messages import ALL
from shmps.ps.worker.kv import KVWorker

_MOST_WHOLE = 512  # weights for which the whole curvature is taken: it is inverted in a few ms
_MOST_PRODUCTS = 8  # of two values of a row, per non-zero: about what two gradients cost
PER_WEIGHT = 320  # bytes of the scheduler: what L-BFGS remembers, most of all
_LEAST_ROWS = 10  # per weight, to take the curvature from


@dataclass(frozen=True)
class Layout:
    """Where what is shared lies among the keys, one number under each.

    weights (n,), which are (features,) or (features, classes) row by row; whether there is more to do (1,);
    and the sums over all workers: gradient (n,), loss (1,), the parts of the curvature. That at zero does not
    depend on the labels: it is the same for every class.
    """

    shape: tuple[int, ...]  # of the weights: of features, the intercept's last; of more than two classes too
    rows: int
    intercept: bool
    stride: int  # between the rows from which the whole curvature is taken; 0: the moments, from all

    @staticmethod
    def of(rows: Rows, shape: tuple[int, ...], intercept: bool) -> "Layout":
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
        """The first of their keys."""
        return self.n + 1

    @property
    def curvature(self) -> int:
        """The first of its keys."""
        return self.sums + self.n + 1

    @property
    def parts(self) -> list[int]:
        """Of the curvature, each pushed by itself: half of the matrix, or squares and means."""
        features = self.shape[0]
        return [features * features] if self.stride else [features, features]

    @property
    def num_keys(self) -> int:
        return self.curvature + sum(self.parts)

    @property
    def most_keys(self) -> int:
        """Of one push: the gradient and the loss, or a part of the curvature."""
        return max(self.n + 1, *self.parts)

    def start(self, weights: np.ndarray) -> np.ndarray:
        """All values before the first round."""
        return np.concatenate([weights.ravel(), [1.0], np.zeros(self.num_keys - self.sums)])


def contribute(
    kv: KVWorker, rows: Rows, layout: Layout, test_interval: int, timeline: bool = False
) -> Account:
    """A worker's part: the sums of its shard, round after round, as long as there is more to do."""
    own, n = shard(rows, kv.rank, kv.num_workers, kv.beat), layout.n
    keys, sums = np.arange(layout.sums, layout.curvature), np.empty(n + 1)
    out, before = sums[:n].reshape(layout.shape), len(layout.parts)
    kv.barrier(ALL)
    sheet = Timesheet(kv, timeline)
    if kv.resumed < before:
        parts = _curvature(own, layout, kv.beat)
        sheet.lap(COMPUTE)
        _push_parts(kv, layout, parts)  # which are summed while the first gradient is computed
    for iteration in itertools.count(1):
        if iteration + before > kv.resumed:
            weights = kv.look()[:n].reshape(layout.shape)
            sums[n] = mean_gradient(own, weights, layout.intercept, layout.rows, out, kv.beat)
            sheet.lap(COMPUTE)
            if kv.rank == 0 and test_interval and iteration % test_interval == 0:
                at = time.monotonic()
                kv.report(Snapshot(iteration, at, iteration * kv.num_workers, weights.copy()))
                sheet.lap(PULL)
            kv.push(keys, sums)
        kv.barrier(ALL)
        sheet.lap(PUSH)
        # Who is back passes rounds that are over.
        if iteration + before >= kv.resumed and not kv.look()[layout.more]:
            break
    return sheet.account(iteration, iteration * own.num_rows, iteration * own.nonzeros)


def _push_parts(kv: KVWorker, layout: Layout, parts: list[np.ndarray]) -> None:
    """Those of the curvature; a former life may have pushed the first."""
    first = layout.curvature
    for number, part in enumerate(parts, 1):
        if number > kv.resumed:
            kv.start_push(np.arange(first, first + len(part)), part)
        first += len(part)


def _curvature(rows: Rows, layout: Layout, beat: Callable[[], None]) -> list[np.ndarray]:
    """The rows' share, of n features: squares and means (n,), or half of the matrix (n * n,)."""
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
        # A feature that hardly any of these rows has would be thought flat.
        sampled = np.einsum("ii->i", matrix)
        np.maximum(sampled, squares / 8, out=sampled)
    return [matrix.ravel()] if stride else [squares, means]


class Descent:
    """The scheduler's part, to be called at every barrier of `contribute`."""

    def __init__(
        self, cluster: Cluster, layout: Layout, start: np.ndarray, l2: float, tolerance: float, most: int
    ):
        """`most` rounds of mean loss + l2/2 |w|^2 (the intercept's weight excepted), from `start`."""
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
        """Of the layout's shape."""
        best = self._start if self._search is None else self._search.best[0]
        return best.reshape(self._layout.shape)

    @property
    def advice(self) -> NotConverged | None:
        """What to do about it, if it ended before it was done."""
        search = self._search
        if self._stopped or search is None or (search.done and not search.stuck):
            return None
        rounds, apart = len(self.history), search.gap / abs(search.best[1])
        if apart <= self._tolerance:  # the search bounds its gap every few steps only
            return None
        if search.stuck:
            ended, do = f"no step along its direction went down in {rounds} rounds (rounding)", "raise {tol}"
        else:
            ended, do = f"it had all its {rounds} rounds", "raise {iterations} or {tol}"
        known = f"up to {apart:.2g} of it" if math.isfinite(apart) else "nobody knows how far"
        return NotConverged(
            f"lbfgs ended because {ended}: the objective is {known} above its least value, by an estimate; "
            f"{{tol.given}} asks for less; {do}, or scale the features",
            tol=self._tolerance,
            iterations=self._most,
        )

    def stop(self) -> None:
        """With the next round: everyone leaves after the same one."""
        self._stopped = True

    def __call__(self) -> None:
        if self._began is None:  # everyone is there
            self._began = time.monotonic()
            return
        layout, n = self._layout, self._layout.n
        end = layout.num_keys if self._search is None else layout.curvature
        sums = self._cluster.weights(layout.sums, end)
        if self._search is None:
            if not np.isfinite(sums).all():
                raise Diverged(
                    "loss, gradient and curvature must be finite where the training begins, and are not; "
                    "scale the features to about 1, or begin nearer to 0"
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
        """The curvature (n,) that there is at least: the penalty.

        The intercept has none; its curvature is the rows' mean p (1 - p), taken to be at least a tenth of l2.
        """
        least = np.full(self._layout.shape, self._l2)
        if self._layout.intercept:
            least[-1] /= 10
        return least.ravel()

    def _solve(self, sums: np.ndarray) -> Solve:
        """By the curvature; classes are solved for side by side."""
        features = len(self._penalty)
        penalty = self._penalty.reshape(features, -1)[:, 0]
        if self._layout.stride:
            half = sums.reshape(features, features)
            solve = whole_curvature(half + half.T, penalty)
        else:
            solve = curvature_of_moments(sums[:features], sums[features:], penalty)
        return lambda vector: solve(vector.reshape(features, -1)).ravel()


def warm_up(rows: Rows, layout: Layout) -> None:
    """What a worker computes, of one row in this process: compiled here, it is there in every node.

    And what is computed here.
    """
    one, weights = rows.example(), np.zeros(layout.n)
    add_scaled(weights, weights, dot(weights, weights))
    flat = np.zeros(layout.shape[0])
    curvature_of_moments(flat, flat, flat)(weights.reshape(len(flat), -1))
    warm_up_gradient(one, layout.shape, layout.intercept)
    _curvature(one, layout, lambda: None)
    measure(one, np.zeros(layout.shape), layout.intercept)
