"""Up to which learning rate gradient descent with delayed gradients settles, and whether a training did."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from shmps.data import Rows
from shmps.metrics import sigmoid

_STEPS = 50  # towards the minimum
_ITERATIONS = 20  # of the power method


@dataclass(frozen=True)
class Stability:
    """The learning rate of a training beside the most that is stable at its delay."""

    learning_rate: float  # as configured
    limit: float  # in the same units
    delay: int  # versions: the median
    curvature: float  # the largest eigenvalue of the objective's Hessian near its minimum

    @property
    def advice(self) -> str:
        """What to do; empty if there is nothing to be done."""
        if self.learning_rate <= self.limit:
            return ""
        return (
            f"gradient steps with a delay of {self.delay} versions are stable up to a learning rate of "
            f"{self.limit:.3g} here (curvature {self.curvature:.3g}), found {self.learning_rate:g}: the "
            f"weights swing instead of settling; use a lower rate, or the schedule 1/(1+delay)"
        )


def stable_rate(curvature: float, delay: int) -> float:
    """2 sin(pi / (2 (2 delay + 1))) / curvature.

    Below it w[t + 1] = w[t] - rate * curvature * w[t - delay] goes to zero (Levin & May, Theoretical
    Population Biology 1976).
    """
    return 2 * math.sin(math.pi / (2 * (2 * delay + 1))) / curvature if curvature > 0 else math.inf


def curvature(rows: Rows, weights: np.ndarray, intercept: bool, sample: int = 2048) -> float:
    """The largest eigenvalue of the mean logistic loss's Hessian near its minimum.

    On about `sample` of the rows, evenly spaced. A training that swings may have ended anywhere in its
    swing, so accelerated gradient steps (Nesterov 1983), of a rate that is stable everywhere, first bring
    its last `weights` near the minimum. With `intercept` the last weight is that of a feature that is 1 in
    every row and is not stored.
    """
    shape = (rows.num_rows, len(weights) - intercept)
    stride = -(-shape[0] // sample)
    X = scipy.sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape)[::stride]
    if intercept:
        X = scipy.sparse.hstack([X, np.ones((X.shape[0], 1))], format="csr")
    labels, count = rows.labels[::stride], X.shape[0]
    bound = _largest_eigenvalue(X, np.full(count, 0.25 / count)) or 1.0  # sigmoid' is at most 1/4
    ahead = weights
    for step in range(_STEPS):
        before = weights
        weights = ahead + X.T @ (labels * sigmoid(-labels * (X @ ahead))) / (count * bound)
        ahead = weights + step / (step + 3) * (weights - before)
    positive = sigmoid(X @ weights)
    return _largest_eigenvalue(X, positive * (1 - positive) / count)


def _largest_eigenvalue(X: scipy.sparse.csr_matrix, scale: np.ndarray) -> float:
    """Of X' diag(scale) X, by power iteration."""
    direction, largest = np.ones(X.shape[1]), 0.0
    for _ in range(_ITERATIONS):
        direction = X.T @ (scale * (X @ direction))
        largest = float(np.linalg.norm(direction))
        direction /= largest or 1.0
    return largest
