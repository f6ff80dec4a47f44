"""How far above its least value a training by minibatches left the objective: an estimate.

It is half the squared Newton decrement, g' H^-1 g / 2, with the gradient g and the Hessian H at the weights.
At most STEPS conjugate gradient steps, preconditioned by the diagonal of H, approach it from below. Near
separation, where the loss has a long tail, the gap is up to twice the estimate. Far from the minimum the
estimate is too large.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.special import expit

from shmps.data.rows import Rows
from shmps.models.metrics import constant_log_loss

STEPS = 10
_NONZEROS = 2**19  # of the rows that are read
_ROWS_PER_WEIGHT = 10  # of a sample: weights can fit fewer rows better than they can fit all rows


@dataclass(frozen=True)
class Gap:
    """The objective less its least value."""

    value: float
    share: float  #: of the distance from the objective of the constant model to the least value


def gap_of(rows: Rows, weights: np.ndarray, intercept: bool, l1: float, l2: float) -> Gap | None:
    """Estimate the gap of the weights (n,) or (n, classes) on the rows, or on a sample of them.

    Returns None if a sample has too few rows for the number of weights.
    """
    columns = weights.reshape(len(weights), -1).T
    count = _NONZEROS * rows.num_rows // max(rows.nonzeros * len(columns), 1)
    if count < rows.num_rows:
        if count < _ROWS_PER_WEIGHT * len(weights):
            return None
        random = np.random.default_rng(0)
        rows = rows.taken(np.sort(random.choice(rows.num_rows, count, replace=False)))
    else:
        rows = rows.part(0, rows.num_rows)
    shape = rows.num_rows, len(weights) - intercept
    X = scipy.sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape)
    if intercept:
        X = scipy.sparse.hstack([X, np.ones((len(rows.labels), 1))], format="csr")
    gap = distance = 0.0
    for number, own in enumerate(columns):
        labels = rows.labels if weights.ndim == 1 else np.where(rows.labels == number, 1.0, -1.0)
        mean = np.ones(rows.num_rows) if rows.importance is None else rows.importance
        problem = _Problem(X, labels, mean / mean.sum(), own, intercept, l1, l2)
        decrement = problem.decrement()
        gap += decrement
        distance += problem.constant() - problem.objective() + decrement
    return Gap(gap, gap / distance if distance > 0 else math.inf)


class _Problem:
    """One binary problem at the weights w (n,)."""

    def __init__(
        self,
        X: scipy.sparse.csr_matrix,
        labels: np.ndarray,
        shares: np.ndarray,
        weights: np.ndarray,
        intercept: bool,
        l1: float,
        l2: float,
    ):
        self._X, self._labels, self._shares, self._weights = X, labels, shares, weights
        self._intercept, self._l1, self._l2 = intercept, np.full(len(weights), l1), np.full(len(weights), l2)
        if intercept:
            self._l1[-1] = self._l2[-1] = 0.0
        self._margins = labels * (X @ weights)

    def objective(self) -> float:
        penalties = self._l1 * np.abs(self._weights) + self._l2 / 2 * self._weights**2
        return float(self._shares @ np.logaddexp(0.0, -self._margins) + penalties.sum())

    def constant(self) -> float:
        """Return the objective of the constant model; without an intercept, of zero weights."""
        return constant_log_loss(self._labels, self._shares) if self._intercept else math.log(2.0)

    def decrement(self) -> float:
        """Return g' H^-1 g / 2 of the weights that are not 0, or that leave 0 against the L1 penalty."""
        wrong, w = expit(-self._margins), self._weights
        slope = self._l2 * w - self._X.T @ (self._shares * self._labels * wrong)
        pushed = np.sign(slope) * np.maximum(np.abs(slope) - self._l1, 0.0)
        residual = np.where(w != 0, slope + self._l1 * np.sign(w), pushed)
        free = (w != 0) | (pushed != 0)
        curvature = self._shares * wrong * (1 - wrong)
        X = self._X
        # Not X.power(2), which sorts the columns of X in place: they may be read-only.
        squared = scipy.sparse.csr_matrix((X.data**2, X.indices, X.indptr), X.shape)
        diagonal = squared.T @ curvature + self._l2
        diagonal[diagonal == 0] = 1.0
        scaled = residual / diagonal
        direction, size, total = scaled, float((residual * scaled).sum()), 0.0
        for _ in range(STEPS):
            product = free * (self._X.T @ (curvature * (self._X @ direction)) + self._l2 * direction)
            steepness = float((direction * product).sum())
            if size <= 0 or steepness <= 0:
                break
            step = size / steepness
            total += step * size
            residual = residual - step * product
            scaled = residual / diagonal
            size, before = float((residual * scaled).sum()), size
            direction = scaled + size / before * direction
        return total / 2
