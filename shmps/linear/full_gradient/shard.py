"""The rows of one worker, and their sums for a search."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from shmps.data.rows import Rows
from shmps.linear.full_gradient import block_kernels, dual_kernels, kernels
from shmps.linear.full_gradient.problem import (
    BINARY,
    ONE_AGAINST_REST,
    SOFTMAX,
    Ascent,
    Block,
    Curvature,
    Gradient,
    Problem,
    Product,
    Request,
    Sums,
    products_of,
)
from shmps.linear.kernels import BLOCK, class_gradients, gradient, softmax_gradients
from shmps.linear.objective import pieces

GRADIENTS = {BINARY: gradient, ONE_AGAINST_REST: class_gradients, SOFTMAX: softmax_gradients}
_ROWS_PER_KEY = 20  # of a class, at least, for a block of the Hessian
_FEW_ROWS = 2**11  # the branch predictor learns the lengths of so few rows, in whatever order they are
_LONG = 32  # non-zeros for each change of length: with more, the copy takes longer than the branch misses


class Shard:
    """Computes the sums of some rows. An answer depends on the requests alone, not on who answered before.

    rows: they may be several runs of rows. number: how many rows of the training lie before these. beat:
    called now and then during long passes.
    """

    def __init__(
        self,
        problem: Problem,
        rows: Rows | Sequence[Rows],
        number: int,
        beat: Callable[[], None] = lambda: None,
    ):
        self._runs: Sequence[Rows] = [rows] if isinstance(rows, Rows) else rows
        self._problem, self._number, self._beat = problem, number, beat
        self._curvatures = np.zeros((sum(run.num_rows for run in self._runs), problem.classes))
        self._products: np.ndarray | None = None  # of two values of each row; none before a curvature
        self._ascent: Ascent | None = None  # the last one; `_model` and `_duals` are what it came to
        self._at: np.ndarray | None = None  # the weights of the curvatures and of the first-order sums
        self._first = np.empty(0)

    def answer(self, request: Request, weights: np.ndarray, sums: Sums) -> None:
        """Set the rows' part of the sums that `request` asks for at `weights` (features, classes)."""
        if isinstance(request, Ascent):
            self._ascend(request, sums)
            return
        if self._at is None or not np.array_equal(self._at, weights):
            self.compute_gradient(weights, sums)  # for a curvature too: in a respawned worker
        elif isinstance(request, Gradient):
            sums.first[:] = self._first
        if not isinstance(request, Gradient):
            sums.answering(request)[:] = 0.0
            if isinstance(request, Product):
                self._multiply(request.vector, sums)
            elif isinstance(request, Block):
                self._compute_block(request, sums)
            else:
                self._compute_curvature(request, sums)

    def compute_gradient(self, weights: np.ndarray, sums: Sums) -> None:
        """Set the rows' part of the first-order sums at `weights`."""
        problem = self._problem
        sums.first[:] = 0.0
        self._at = weights.copy()  # writable, as numba compiled for
        out: np.ndarray = sums.gradient
        curvatures: np.ndarray = self._curvatures
        weights = self._at
        if problem.loss == BINARY:
            out, curvatures, weights = out.ravel(), curvatures.ravel(), weights.ravel()
        for piece, begin in self._pieces():
            sums.loss += GRADIENTS[problem.loss](
                *piece,
                weights,
                problem.intercept,
                problem.rows,
                out,
                curvatures[begin : begin + piece.num_rows],
            )
            self._beat()
        sums.masses[:] = self._curvatures.sum(axis=0)
        self._first = sums.first.copy()

    def _ascend(self, request: Ascent, sums: Sums) -> None:
        """Set the weights after passes of dual ascent; go on from those of the request before."""
        problem, rows = self._problem, len(self._curvatures)
        if self._ascent is None or self._ascent.l2 != request.l2 or self._ascent.passes > request.passes:
            self._ascent, self._model, self._duals = (
                Ascent(0, request.l2),
                np.zeros(problem.size),
                np.zeros(rows),
            )
        for number in range(self._ascent.passes, request.passes):
            for piece, begin in self._pieces():
                dual_kernels.ascend(
                    *piece,
                    problem.intercept,
                    request.l2 * rows,
                    *_visiting(-(-piece.num_rows // dual_kernels.RUN), number),
                    self._model,
                    self._duals[begin : begin + piece.num_rows],
                )
                self._beat()
        self._ascent = request
        sums.first[:] = 0.0
        sums.gradient[:, 0] = self._model

    def _compute_curvature(self, request: Curvature, sums: Sums) -> None:
        problem = self._problem
        if problem.whole:
            rates = self._sampling_rates(request.share)
        for piece, begin in self._pieces():
            curvatures = self._curvatures[begin : begin + piece.num_rows]
            arrays = piece.indptr, piece.indices, piece.data, curvatures, problem.intercept
            if problem.whole:
                draws = np.empty(piece.num_rows)
                kernels.draw(request.number, self._number + begin, draws)
                kernels.sampled_hessian(*arrays, rates, draws, sums.halves, sums.squares)
            else:
                kernels.moments(*arrays, sums.squares, sums.means)
            self._beat()

    def _compute_block(self, request: Block, sums: Sums) -> None:
        problem, keys, coupled = self._problem, request.keys, self._problem.loss == SOFTMAX
        places = np.full(problem.shape, -1, np.int32)
        places.ravel()[keys] = np.arange(len(keys))
        curvatures, products = np.empty_like(self._curvatures), np.empty(len(self._curvatures))
        for piece, begin in self._pieces():
            part = slice(begin, begin + piece.num_rows)
            block_kernels.curvatures_ahead(
                self._curvatures[part], piece.importance, problem.rows, request.ahead, curvatures[part]
            )
            arrays = piece.indptr, piece.indices, piece.data, problem.intercept, places
            block_kernels.moments(
                *arrays, coupled, curvatures[part], products[part], sums.squares, sums.means
            )
            self._beat()
        enough = _ROWS_PER_KEY * len(keys) / problem.classes * products.sum() / problem.rows
        allowed = max(request.effort * sum(run.nonzeros for run in self._runs), enough)
        rate, lower = kernels.sampling_rate(curvatures.sum(axis=1), products, allowed), sums.block(len(keys))
        for piece, begin in self._pieces():
            own, draws = curvatures[begin : begin + piece.num_rows], np.empty(piece.num_rows)
            kernels.draw(request.number, self._number + begin, draws)
            sampled = piece.indptr, piece.indices, piece.data, problem.intercept, places, own, rate, draws
            if problem.loss == BINARY:
                block_kernels.binary(*sampled, lower)
            else:
                row = self._at, piece.importance, problem.rows
                block_kernels.classes(*sampled, *row, coupled, lower)
            self._beat()

    def _multiply(self, vector: np.ndarray, sums: Sums) -> None:
        problem, vector = self._problem, np.array(vector)  # writable, as numba compiled for
        for piece, begin in self._pieces():
            arrays = piece.indptr, piece.indices, piece.data, problem.intercept, vector
            if problem.loss == SOFTMAX:
                row = self._at, piece.importance, problem.rows
                sums.lost += kernels.softmax_product(*arrays, *row, sums.product)
            else:
                curvatures = self._curvatures[begin : begin + piece.num_rows]
                sums.lost += kernels.product(*arrays, curvatures, sums.product)
            self._beat()

    def _sampling_rates(self, share: float) -> np.ndarray:
        """Return the rate of each class, (classes,), at which rows contribute to its Hessian."""
        if self._products is None:
            lengths = np.concatenate([run.lengths(0, run.num_rows) for run in self._runs])
            self._products = products_of(lengths, self._problem.intercept)
        products = self._products
        allowed = share * products.sum()
        rates = [kernels.sampling_rate(each.copy(), products, allowed) for each in self._curvatures.T]
        return np.array(rates)

    def _pieces(self) -> Iterator[tuple[Rows, int]]:
        """Yield the rows in pieces, each with the number of rows before it."""
        begin = 0
        for run in self._runs:
            for piece in pieces(run, BLOCK, self._problem.classes):
                yield piece, begin
                begin += piece.num_rows


def _visiting(blocks: int, number: int) -> tuple[int, int]:
    """Return the first block of rows and the stride of a pass, by its number: another order for each pass.

    A stride has no common factor with the number of blocks.
    """
    draws = np.empty(2)
    kernels.draw(number, 0, draws)
    first, stride = (draws * blocks).astype(int).tolist()
    while math.gcd(stride, blocks) > 1:
        stride += 1
    return first, stride % blocks


def by_length(rows: Rows) -> Rows:
    """Return a copy with the rows sorted by length, which a branch predictor can follow.

    Passes over rows of varying length take up to a half less time then. Few rows, and rows whose lengths
    seldom change, are returned as they are.
    """
    if rows.num_rows <= _FEW_ROWS:
        return rows
    lengths = rows.lengths(0, rows.num_rows)
    if np.count_nonzero(lengths[1:] != lengths[:-1]) * _LONG < rows.nonzeros:
        return rows
    order = np.empty(rows.num_rows, np.int64)
    kernels.visiting_order(rows.indptr, order)
    return in_order(rows, order)


def in_order(rows: Rows, order: np.ndarray) -> Rows:
    """Return a copy of the rows in another order, read-only as all rows are: see `data.rows_of`."""
    taken = rows.taken(order)
    for array in taken:
        if array is not None:
            array.flags.writeable = False
    return taken


def compile_sorting(one: Rows) -> None:
    """Compile what `by_length` needs for rows such as `one`."""
    order = np.zeros(one.num_rows, np.int64)
    kernels.visiting_order(one.indptr, order)
    one.taken(order)
