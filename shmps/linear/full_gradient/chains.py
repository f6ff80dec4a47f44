"""Trainings by full gradients over the same rows: the folds of a cross-validation along paths of penalties.

    chain: one fold, strong penalty --> ... --> weak penalty; each fit starts where those before lead to

Chains are independent, so each worker trains its own, over the rows that all processes share. They lie in an
order in which the rows of a fold are a few runs. A worker pushes the weights of every fit, and the servers
keep them. A respawned worker begins anew with the chain that its predecessor was at.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from shmps.data.rows import Rows
from shmps.linear.full_gradient.descent import Descent
from shmps.linear.full_gradient.kernels import LONGEST
from shmps.linear.full_gradient.problem import Block, Curvature, Problem, Request, Sums
from shmps.linear.full_gradient.searches import search_for
from shmps.linear.full_gradient.shard import Shard, in_order
from shmps.linear.full_gradient.transposed import transposed
from shmps.ps.worker.kv import KVWorker

_BESIDE = 2  # values of a fit beside the weights
_DRIFT = 0.1  # relative change of the rows' curvatures up to which that of the search before will do
_LEAST = float(np.finfo(float).tiny)  # penalty that has a logarithm
_UNEVEN = 0.05  # of a worker's even share of the fits: by so much a share may be larger at either end


class Penalty(NamedTuple):
    """The penalties of a fit, beside the mean loss."""

    l1: float
    l2: float


class Chain(NamedTuple):
    """Fits of one fold in the order of training."""

    fold: int
    numbers: tuple[int, ...]  # of the fits, among those of all chains
    penalties: tuple[Penalty, ...]

    def part(self, begin: int, end: int) -> "Chain":
        """Return the fits from `begin` to `end` - 1, which may lie outside of the chain."""
        kept = slice(max(begin, 0), max(end, 0))
        return Chain(self.fold, self.numbers[kept], self.penalties[kept])


class Fit(NamedTuple):
    """What a fit has learned. `values` has it as one array, to be pushed."""

    weights: np.ndarray  # (features, classes)
    gradients: int
    converged: bool

    @property
    def values(self) -> np.ndarray:
        return np.append(self.weights.ravel(), (self.gradients, self.converged))

    @classmethod
    def of(cls, values: np.ndarray, shape: tuple[int, int]) -> Self:
        return cls(values[:-_BESIDE].reshape(shape), int(values[-2]), bool(values[-1]))


def shares(chains: Sequence[Chain], workers: int) -> list[list[Chain]]:
    """Share the chains among the workers, in order; return the share of each worker that gets one.

    Some chains are cut, so that the workers have nearly equal numbers of fits. The first fit of the rest of a
    cut chain has no weights to start from and takes twice as long. So no more chains are cut than there are
    workers, and none where its end is near.
    """
    ends = np.cumsum([0, *(len(chain.numbers) for chain in chains)])
    even = ends[-1] / workers
    bounds = [0]
    for bound in even * np.arange(1, workers + 1):
        end = ends[np.abs(ends - bound).argmin()]
        bounds.append(int(end if abs(end - bound) <= _UNEVEN * even else round(bound)))
    found = [
        [chain.part(begin - first, end - first) for first, chain in zip(ends.tolist(), chains, strict=False)]
        for begin, end in itertools.pairwise(bounds)
    ]
    return [own for each in found if (own := [chain for chain in each if chain.numbers])]


@dataclass(frozen=True)
class Trainer:
    """Trains chains on `rows`, which should be as `grouped` returns them.

    taken: which rows each fold trains on, (folds, rows) bool. problem: that of all rows. most: gradients of a
    fit.
    """

    rows: Rows
    taken: np.ndarray
    problem: Problem
    tolerance: float
    most: int

    @property
    def width(self) -> int:
        """The number of values of a `Fit`."""
        return self.problem.size + _BESIDE

    def fits(self, chain: Chain, beat: Callable[[], None] = lambda: None) -> Iterator[Fit]:
        """Train a chain. Yield its fits."""
        runs, last = self.runs(chain.fold), list[np.ndarray]()
        rows = sum(run.num_rows for run in runs)
        problems = [replace(self.problem, rows=rows, **each._asdict()) for each in chain.penalties]
        answers = Answers(problems[0], Shard(problems[0], runs, 0, beat))
        columns = transposed(problems[0], runs)
        for place, problem in enumerate(problems):
            start = self._start(chain.penalties[: place + 1], last)
            search = search_for(problem, start, self.tolerance, columns)
            descent = Descent(problem, search, self.tolerance, self.most)
            answers.descend(descent)
            last.append(descent.best)
            yield Fit(descent.best, len(descent.history), descent.advice is None)

    def _start(self, penalties: Sequence[Penalty], last: Sequence[np.ndarray]) -> np.ndarray:
        """Return the weights from which the fit with the last of the penalties starts.

        They are on the line through the weights of the two fits before. Weak penalties change the weights by
        about the logarithm of the penalty: those of classes that can be separated grow like that.
        """
        if len(last) < 2:
            return last[-1] if last else np.zeros(self.problem.shape)
        first, second, third = (math.log(max(each.l1 + each.l2, _LEAST)) for each in penalties[-3:])
        along = min((third - second) / (second - first), 1.0) if second != first else 0.0
        return last[-1] + along * (last[-1] - last[-2])

    def runs(self, fold: int) -> list[Rows]:
        """Return the rows of a fold, as views. Their mean importance is 1."""
        rows, taken = self.rows, self.taken[fold]
        if rows.importance is not None:
            rows = rows._replace(importance=rows.importance / rows.importance[taken].mean())
        bounds = np.flatnonzero(np.diff(taken, prepend=False, append=False))
        return [rows.part(begin, end) for begin, end in bounds.reshape(-1, 2).tolist()]


def grouped(rows: Rows, taken: np.ndarray) -> tuple[Rows, np.ndarray]:
    """Return the rows in another order, a copy, and `taken` (folds, rows) in that order.

    Rows that the same folds train on lie together, sorted by length as those of `by_length` are.
    """
    lengths = np.minimum(rows.lengths(0, rows.num_rows), LONGEST).astype(np.uint16)
    order = np.lexsort((lengths, *np.packbits(taken, axis=0)))
    return in_order(rows, order), np.ascontiguousarray(taken[:, order])


class Answers:
    """Answers the searches of a chain, one after another.

    A search begins where the rows' curvatures are nearly those of the search before. Then it gets the
    curvature of that one. L-BFGS corrects what differs.
    """

    def __init__(self, problem: Problem, shard: Shard):
        self._shard, self._sums = shard, Sums.of(problem)
        self._masses, self._share = np.zeros(problem.classes), 0.0  # of the curvature in the sums

    def descend(self, descent: Descent) -> None:
        """Answer the requests of a search until it ends."""
        descent.begin()
        while descent.request is not None:
            if not self._has(descent.request):
                self._shard.answer(descent.request, descent.weights, self._sums)
            descent.take(self._sums)

    def _has(self, request: Request) -> bool:
        """Return whether the sums have a curvature that answers the first request of a search for one."""
        if not isinstance(request, Curvature | Block):
            return False
        share = request.share if isinstance(request, Curvature) else 0.0
        drift = np.abs(self._sums.masses / np.maximum(self._masses, 1e-300) - 1).max()
        if request.number == 0 and 0 < share <= self._share and drift <= _DRIFT:
            return True
        self._masses, self._share = self._sums.masses.copy(), share
        return False


def in_process(trainer: Trainer, chains: Sequence[Chain], on_fit: Callable[[int], None]) -> np.ndarray:
    """Train all chains in this process. Return the values of the fits, (fits, width)."""
    out = np.zeros((sum(len(chain.numbers) for chain in chains), trainer.width))
    done = 0
    for chain in chains:
        for number, fit in zip(chain.numbers, trainer.fits(chain), strict=True):
            out[number] = fit.values
            done += 1
            on_fit(done)
    return out


def train_chains(kv: KVWorker, trainer: Trainer, chains: Sequence[Sequence[Chain]]) -> None:
    """Run a worker: train its share of the chains; fit k is at the keys k * width to (k + 1) * width - 1.

    A push is a fit. So those that a predecessor of this worker has pushed are the first `kv.resumed` ones.
    """
    width, done = trainer.width, kv.resumed
    for chain in chains[kv.rank]:
        if done >= len(chain.numbers):
            done -= len(chain.numbers)
            continue
        for number, fit in zip(chain.numbers, trainer.fits(chain, kv.beat), strict=True):
            if not done:
                kv.push(np.arange(number * width, (number + 1) * width), fit.values)
            done = max(done - 1, 0)
