"""A quadratic model of loss and L2 penalty that reads the rows: for many weights and few non-zeros."""

import numpy as np

from shmps.linear.full_gradient import row_kernels
from shmps.linear.full_gradient.block_kernels import curvatures_ahead
from shmps.linear.full_gradient.curvature import ROUNDING
from shmps.linear.full_gradient.places import ends_of
from shmps.linear.full_gradient.problem import Problem
from shmps.linear.full_gradient.quadratic import Task
from shmps.linear.full_gradient.transposed import Transposed

_RIDGE = 1e-9  # relative: features may depend on each other
_MOST_TURNS = 20
_SWEEPS = 12  # before conjugate gradients
_GROWTH = 3  # of the number of their products, from turn to turn
_GAIN = 0.2  # of the last product, beside the mean one
_EXACT = 1e-4  # accuracy: below it the minimum is confirmed


class RowModel:
    """B = X'DX for the weights with `keys`, each class's apart, with the intercepts at their minimum.

    The curvatures D of the rows are those at the last `renew`.
    """

    def __init__(self, problem: Problem, rows: Transposed):
        self.keys = np.zeros(0, np.int64)
        self._problem, self._columns = problem, rows[:3]
        self._importance = rows.importance
        self._curvatures = np.empty((problem.classes, rows.num_rows))

    def renew(self, weights: np.ndarray, keys: np.ndarray, ahead: float) -> None:
        """Compute the rows' curvatures at `weights` (features, classes). keys, ahead: see `problem.Block`."""
        problem, curvatures = self._problem, self._curvatures
        row_kernels.row_curvatures(
            *self._columns, weights, problem.intercept, self._importance, problem.rows, curvatures
        )
        if ahead:
            by_row = curvatures.T.copy()
            curvatures_ahead(by_row, self._importance, problem.rows, ahead, by_row)
            curvatures[:] = by_row.T
        self.keys, self._own = keys, keys
        self._masses = np.full(problem.classes, np.inf)
        if problem.intercept:
            self._own = keys[: len(keys) - problem.classes]
            self._masses = np.maximum(curvatures.sum(axis=1), np.finfo(float).tiny)
        squares, self._means = np.empty(len(self._own)), np.empty(len(self._own))
        row_kernels.moments(*self._columns, self._own, curvatures, squares, self._means)
        variances = np.maximum(squares - self._means**2 / self._masses[self._own % problem.classes], 0.0)
        self._ridge = _RIDGE * variances + ROUNDING * squares + problem.l2
        diagonal = variances + self._ridge
        self._diagonal = np.where(diagonal > 0, diagonal, 1.0)

    def variances(self) -> np.ndarray:
        """Return the diagonal of the Hessian of the mean loss (features, classes), once intercepts follow."""
        problem, size = self._problem, self._problem.size
        squares, means = np.empty(problem.shape), np.zeros(problem.shape)
        squares[-1] = self._masses  # if there are intercepts; else the moments of the last feature follow
        count = size - problem.classes * problem.intercept
        row_kernels.moments(
            *self._columns, np.arange(count), self._curvatures, squares.ravel()[:count], means.ravel()[:count]
        )
        return squares - means**2 / self._masses

    def minimum(self, task: Task) -> tuple[np.ndarray, float]:
        """As `quadratic.Model.minimum`."""
        own, weights, stiffness = self._own, task.point.weights.copy(), task.stiffness
        damping, slopes = task.damping.ravel()[own], task.point.gradient.ravel()[own] / stiffness
        rise = np.zeros(len(self._masses))
        if self._problem.intercept:
            rise = task.point.gradient[-1] / stiffness
            slopes -= self._means * (rise / self._masses)[own % len(rise)]
        descent = _Descent(
            (*self._columns, own, self._curvatures),
            (self._means, self._masses, self._ridge + damping, self._diagonal + damping),
            slopes,
            weights.ravel()[own],
            task.thresholds.ravel()[own] / stiffness,
        )
        decrease = descent.run(task.accuracy, task.enough / stiffness)
        weights.ravel()[own] = descent.weights
        if self._problem.intercept:
            weights[-1] -= (rise + descent.totals) / self._masses
            decrease += float((rise**2 / self._masses).sum()) / 2
        return weights, decrease * stiffness

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Learn nothing: the rows tell all at the next point."""


class _Descent:
    """Coordinate descent, which finds the non-zeros, and steps of conjugate gradients for them, by turns."""

    def __init__(
        self,
        entries: tuple[np.ndarray, ...],
        matrix: tuple[np.ndarray, ...],
        slopes: np.ndarray,
        first: np.ndarray,
        thresholds: np.ndarray,
    ):
        """entries, matrix: the arguments of `row_kernels.descend` from `starts` on, and from `means` on."""
        self._entries, self._matrix = entries, matrix
        self._slopes, self._first, self._thresholds = slopes, first, thresholds
        curvatures = entries[-1]
        self.weights, self.totals = first.copy(), np.zeros(len(curvatures))
        self._moved = np.zeros_like(curvatures)

    def run(self, accuracy: float, enough: float) -> float:
        """Descend to the minimum. Return the decrease."""
        total, best = 0.0, enough / accuracy
        for turn in range(_MOST_TURNS):
            decrease, best, done = row_kernels.descend(
                *self._entries,
                *self._matrix,
                self._slopes,
                self._first,
                self.weights,
                self._thresholds,
                self._moved,
                self.totals,
                accuracy,
                best,
                _SWEEPS,
            )
            total += decrease
            if done and accuracy > _EXACT:
                break
            leap = self._leap(_SWEEPS * _GROWTH**turn)
            total += leap
            if done and leap <= accuracy * best:
                break
        return total

    def _leap(self, most: int) -> float:
        """Step towards the minimum for the non-zeros, by `most` products with B. Return the decrease."""
        kept = np.flatnonzero(self.weights)
        *columns, keys, curvatures = self._entries
        means, masses, ridge, diagonal = self._matrix
        entries, matrix = (*columns, keys[kept], curvatures), (means[kept], masses, ridge[kept])
        old, product = self.weights[kept], np.empty(len(kept))
        row_kernels.product(*entries, *matrix, old - self._first[kept], self._moved, self.totals, product)
        down = product + self._slopes[kept] + self._thresholds[kept] * np.sign(old)
        step, moved, totals = np.empty(len(kept)), np.empty_like(self._moved), np.empty_like(self.totals)
        row_kernels.conjugate(
            *entries, *matrix, diagonal[kept], down, moved, totals, _GAIN, min(most, len(kept)), step
        )
        least, end = 0.0, None
        for change in ends_of(old, step, self._thresholds[kept]):
            row_kernels.move(*entries, means[kept], change, moved, totals)
            row_kernels.product(*entries, *matrix, change, moved, totals, product)
            value = float(change @ (down + 0.5 * product))
            if value < least:
                least, end = value, (change, moved.copy(), totals.copy())
        if end is not None:
            self.weights[kept] = old + end[0]
            self._moved += end[1]
            self.totals += end[2]
        return -least
