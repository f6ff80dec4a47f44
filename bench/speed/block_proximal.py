"""Delayed block proximal gradient: L1 logistic regression, a block of weights at a time.

    worker r:  for each block, in an order that all workers share:
                   wait until at most `delay` blocks are under way
                   slopes and curvature bounds of the block --push--> servers: proximal step
                   change of the margins <--pull--------------------- its new weights

Algorithm 3 of Li et al., Scaling Distributed Machine Learning with the Parameter Server (OSDI 2014). Details
are those of the authors' code (dmlc/parameter_server, DARLIN): the bound of the second derivatives, the trust
region of each weight, and the filter that leaves out weights which keep to 0.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from shmps import SYNC, Add, Cluster
from shmps.ps.messages import ALL
from shmps.system.compiling import kernel

EVERY_BLOCK = 10**6  # as a delay: the workers wait for each other at the end of a pass only
_FIRST_RADIUS, _LEAST_RADIUS, _MOST_RADIUS = 1.0, 0.1, 5.0
_RATIO = 10.0  # of the filter's threshold to the worst violation per row
_STILL = 1e-4  # relative decrease of a pass, after which the filter takes all weights in again


class Plan(NamedTuple):
    """rate: of the steps, below 1 where features of a block or of delayed blocks depend on each other."""

    l1: float
    delay: int  # blocks that may be under way when another begins
    rate: float = 1.0
    blocks_per_value: float = 4.0  # blocks, per non-zero of a row
    seed: int = 0

    def bounds(self, X: scipy.sparse.csr_matrix) -> np.ndarray:
        """Return the first key of each block, and the number of keys."""
        rows, features = X.shape
        count = math.ceil(self.blocks_per_value * X.nnz / rows)
        return np.linspace(0, features, min(max(count, 1), features) + 1).astype(np.int64)


class Pass(NamedTuple):
    """The state after a pass over all blocks."""

    seconds: float  # since all workers had their columns in memory
    objective: float  # mean loss + l1 |w|_1
    active: float  # share of the weights that the filter leaves in


class Proximal(Add):
    """Values (k, 2): each weight, and how far its slope is beyond the penalty if the weight was 0.

    A push has slopes g and bounds u of the second derivatives, both summed over the rows. A weight goes to
    the minimum of g d + u d^2 / (2 rate) + l1 |w + d|, but at most by its radius. Keys from `features` on
    hold what is pushed.
    """

    state_width = 1  # the radius, beside the weight

    def __init__(self, features: int, l1: float, rate: float):
        self.features, self.l1, self.rate = features, l1, rate

    def start(self, values, state):
        state[:] = _FIRST_RADIUS

    def update(self, keys, gradient, values, state, step):
        _step(keys, gradient, values, state, self.features, self.l1, self.rate)


class Columns:
    """A worker's rows by columns, the margins y_i x_i w of its rows, and its copy of the weights."""

    def __init__(self, X: scipy.sparse.csr_matrix, y: np.ndarray, total: int):
        signed = scipy.sparse.csc_matrix(scipy.sparse.diags_array(y) @ X)
        self._matrix = signed.indptr, signed.indices, signed.data
        self._largest = abs(signed).max(axis=0).toarray().ravel()
        self._total, features = total, X.shape[1]
        self._weights, self._radii = np.zeros(features), np.full(features, _FIRST_RADIUS)
        self._margins, self._wrong = np.zeros(len(y)), np.full(len(y), 0.5)  # 1 / (1 + exp(margin))
        self._own = np.diff(signed.indptr) > 0
        self.active = self._own.copy()
        self.threshold = math.inf  # of the filter

    def keys(self, begin: int, end: int) -> np.ndarray:
        """Return the keys of a block that the rows have and the filter leaves in."""
        return begin + np.flatnonzero(self.active[begin:end])

    def push(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows' part of slopes and curvature bounds, (k, 2)."""
        out = np.empty((len(keys), 2))
        _slopes(*self._matrix, self._largest, keys, self._radii, self._wrong, self._total, out)
        return out

    def take(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Take in what the servers have made of the keys."""
        own = self._weights, self._radii, self.active, self._margins, self._wrong
        _move(*self._matrix, keys, values, self.threshold, *own)

    def loss(self) -> float:
        return float(np.logaddexp(0.0, -self._margins).sum()) / self._total

    def take_all_in(self) -> None:
        self.active[:] = self._own


def work(kv: Any, X: scipy.sparse.csr_matrix, y: np.ndarray, plan: Plan) -> None:
    """Run a worker until the cluster is stopped, which is seen after a pass."""
    begin, end = (len(y) * rank // kv.num_workers for rank in (kv.rank, kv.rank + 1))
    own, bounds, features = slice(begin, end), plan.bounds(X), X.shape[1]
    columns, order = Columns(X[own], y[own], len(y)), np.random.default_rng(plan.seed)
    before, sum_of_losses = math.inf, [features + kv.rank]
    kv.barrier(ALL)
    while True:
        under_way: deque[int] = deque()
        for block in order.permutation(len(bounds) - 1):
            keys = columns.keys(bounds[block], bounds[block + 1])
            take = partial(columns.take, keys)
            under_way.append(kv.start_push_pull(keys, columns.push(keys), callback=take))
            while len(under_way) > plan.delay:
                kv.wait(under_way.popleft())
        while under_way:
            kv.wait(under_way.popleft())
        active = float(columns.active.sum())
        kv.push(sum_of_losses, [[columns.loss(), active]])
        kv.barrier(ALL)
        if kv.stopping:
            return
        values = kv.read()
        objective = objective_of(values, features, plan.l1)
        columns.threshold = _RATIO * max(values[:features, 1].max(), 0.0) / len(y)
        if before - objective <= _STILL * objective:
            columns.take_all_in()
        before = objective


def objective_of(values: np.ndarray, features: int, l1: float) -> float:
    return float(values[features:, 0].sum() + l1 * np.abs(values[:features, 0]).sum())


def train(
    X: scipy.sparse.csr_matrix,
    y: np.ndarray,
    plan: Plan,
    ended: Callable[[list[Pass]], bool],
    workers: int = 2,
    servers: int = 2,
) -> tuple[np.ndarray, list[Pass]]:
    """Train from weights of 0 until `ended(passes)`; return the weights (features,) and the passes."""
    features, bounds, began = X.shape[1], plan.bounds(X), math.inf
    passes: list[Pass] = []

    def meet() -> None:
        nonlocal began
        if math.isinf(began):
            began = time.perf_counter()
            return
        seconds, values = time.perf_counter() - began, cluster.weights()
        active = values[features:, 1].sum() / (workers * features)
        passes.append(Pass(seconds, objective_of(values, features, plan.l1), float(active)))
        if ended(passes):
            cluster.stop()

    _warm_up(plan)
    with Cluster(
        features + workers,
        width=2,
        servers=servers,
        workers=workers,
        consistency=SYNC,
        updater=Proximal(features, plan.l1, plan.rate),
        max_keys=int(np.diff(bounds).max()),
        slots=min(plan.delay, len(bounds) - 1) + 1,
        dense_slots=0,
    ) as cluster:
        cluster.run(work, X, y, plan, on_barrier=meet)
        return cluster.weights()[:features, 0], passes


def _warm_up(plan: Plan) -> None:
    """Compile the kernels, for the forks of this process."""
    columns = Columns(scipy.sparse.csr_matrix([[1.0]]), np.ones(1), 1)
    keys, values = np.zeros(1, np.int64), np.zeros((1, 2))
    columns.take(keys, columns.push(keys))
    Proximal(1, plan.l1, plan.rate).update(keys, values.copy(), values, np.zeros((1, 2, 1)), None)


@kernel
def _radius(change):
    return min(2.0 * abs(change) + _LEAST_RADIUS, _MOST_RADIUS)


@kernel
def _step(keys, pushed, values, state, features, l1, rate):
    """The update of `Proximal`."""
    for i in range(len(keys)):
        if keys[i] >= features:
            values[i] = pushed[i]
            continue
        slope, bound, old, radius = pushed[i, 0], pushed[i, 1] / rate + 1e-300, values[i, 0], state[i, 0, 0]
        target = old - slope / bound
        new = math.copysign(max(abs(target) - l1 / bound, 0.0), target)
        change = min(max(new - old, -radius), radius)
        values[i, 0] = old + change
        values[i, 1] = abs(slope) - l1 if old == 0.0 else 0.0
        state[i, 0, 0] = _radius(change)


@kernel
def _slopes(indptr, rows, data, largest, keys, radii, wrong, total, out):
    """out_k = sums over the rows of -c_i v / total and of min(c_i (1 - c_i) e^m, 1/4) v^2 / total, c = wrong.

    v: the value of row i, with its label's sign. m: the most that a margin changes within the radius.
    """
    for k in range(len(keys)):
        key = keys[k]
        slope = bound = 0.0
        ahead = math.exp(largest[key] * radii[key])
        for p in range(indptr[key], indptr[key + 1]):
            chance, value = wrong[rows[p]], data[p]
            slope -= chance * value
            bound += min(chance * (1.0 - chance) * ahead, 0.25) * value * value
        out[k, 0], out[k, 1] = slope / total, bound / total


@kernel
def _move(indptr, rows, data, keys, values, threshold, weights, radii, active, margins, wrong):
    """Set the weights of `keys` to values (k, 2), and the margins and chances of the rows accordingly.

    The filter leaves out weights that keep to 0 by more than `threshold`.
    """
    for k in range(len(keys)):
        key = keys[k]
        change = values[k, 0] - weights[key]
        weights[key], radii[key] = values[k, 0], _radius(change)
        active[key] = values[k, 1] >= -threshold
        if change != 0.0:
            for p in range(indptr[key], indptr[key + 1]):
                i = rows[p]
                margins[i] += change * data[p]
                wrong[i] = 1.0 / (1.0 + math.exp(margins[i]))
