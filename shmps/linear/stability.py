"""Up to which learning rate gradient descent with delayed gradients settles, and whether a training did."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from shmps.data.rows import Rows
from shmps.errors import UnstableRate
from shmps.models.metrics import sigmoid

_STEPS = 50  # towards the minimum
_ITERATIONS = 30  # of the power method


@dataclass(frozen=True)
class Stability:
    """The learning rate of a training beside the most that is stable at its delay."""

    learning_rate: float  # as configured
    limit: float  # in the same units
    delay: int  # versions: the median; where there is a bound, the 99th percentile
    curvature: float  # about the largest eigenvalue of the objective's Hessian near its minimum

    @property
    def advice(self) -> UnstableRate | None:
        """What to do; None if there is nothing to be done."""
        if self.learning_rate <= self.limit:
            return None
        return UnstableRate(
            f"gradient steps with a delay of {self.delay} versions are stable up to a learning rate of "
            f"{self.limit:.3g} here (curvature {self.curvature:.3g}), got {self.learning_rate:g}: the "
            f"weights swing instead of settling; use a lower rate, or the schedule 1/(1+delay)"
        )


def stable_rate(curvature: float, delay: int) -> float:
    """2 sin(pi / (2 (2 delay + 1))) / curvature.

    Below it w[t + 1] = w[t] - rate * curvature * w[t - delay] goes to zero (Levin & May, Theoretical
    Population Biology 1976).
    """
    return 2 * math.sin(math.pi / (2 * (2 * delay + 1))) / curvature if curvature > 0 else math.inf


def curvature(
    rows: Rows, weights: np.ndarray, intercept: bool, l2: float, nonzeros: int = 50_000
) -> float | None:
    """About the largest eigenvalue of the Hessian of mean logistic loss + l2/2 |w|^2 near its minimum.

    On a random sample of the rows with about so many `nonzeros`; None if that is fewer rows than weights,
    which would be too few to say. A training that swings may have ended anywhere in its swing, so accelerated
    gradient steps (Nesterov 1983), of a rate that is stable everywhere, first bring its last `weights` near
    the minimum. With `intercept` the last weight is that of a feature that is 1 in every row and is not
    stored; it has no penalty. Of more than two classes, with weights (n, classes), each has a Hessian: that
    of the class whose share of the rows is nearest to a half, where it is the steepest.
    """
    if weights.ndim == 2:
        shares = np.bincount(rows.labels.astype(np.intp), minlength=weights.shape[1]) / rows.num_rows
        number = int(np.argmin(np.abs(shares - 0.5)))
        rows, weights = rows.against_rest(number), weights[:, number]
    random = np.random.default_rng(0)
    features = len(weights) - intercept
    count = min(rows.num_rows, max(1, nonzeros * rows.num_rows // max(rows.nonzeros, 1)))
    if count < len(weights):
        return None
    chosen = np.sort(random.choice(rows.num_rows, count, replace=False))
    rows = rows.taken(chosen)
    X = scipy.sparse.csr_matrix((rows.data, rows.indices, rows.indptr), (count, features))
    if intercept:
        X = scipy.sparse.hstack([X, np.ones((count, 1))], format="csr")
    labels, penalty = rows.labels, np.full(len(weights), l2)
    shares = np.full(count, 1 / count) if rows.importance is None else rows.importance / count
    if intercept:
        penalty[-1] = 0.0
    start = random.standard_normal(len(weights))
    bound = _largest_eigenvalue(X, 0.25 * shares, penalty, start)  # sigmoid' is at most 1/4
    ahead = weights
    for step in range(_STEPS):
        before = weights
        slope = penalty * ahead - X.T @ (shares * labels * sigmoid(-labels * (X @ ahead)))
        weights = ahead - slope / (bound or 1.0)
        ahead = weights + step / (step + 3) * (weights - before)
    positive = sigmoid(X @ weights)
    return _largest_eigenvalue(X, shares * positive * (1 - positive), penalty, start)


def _largest_eigenvalue(
    X: scipy.sparse.csr_matrix, scale: np.ndarray, penalty: np.ndarray, start: np.ndarray
) -> float:
    """Of X' diag(scale) X + diag(penalty), by power iteration."""
    direction, largest = start, 0.0
    for _ in range(_ITERATIONS):
        direction = X.T @ (scale * (X @ direction)) + penalty * direction
        largest = float(np.linalg.norm(direction))
        direction /= largest or 1.0
    return largest
