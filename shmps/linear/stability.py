"""The highest stable learning rate of gradient descent with delayed gradients, and that of a training."""

import math

import numpy as np
import scipy.sparse
from scipy.special import expit

from shmps.data.rows import Rows
from shmps.linear.result import Delays, Stability
from shmps.ps.consistency import Consistency
from shmps.ps.updater import Step, Updater
from shmps.updaters.descent import SGD

_STEPS = 50  # towards the minimum
_ITERATIONS = 30  # of the power method


def stable_rate(curvature: float, delay: int) -> float:
    """Return 2 sin(pi / (2 (2 delay + 1))) / curvature, the limit of the stable rates.

    Below it, w[t + 1] = w[t] - rate * curvature * w[t - delay] converges to zero (Levin & May, A Note on
    Difference-delay Equations, Theoretical Population Biology 1976). delay: versions.
    """
    return 2 * math.sin(math.pi / (2 * (2 * delay + 1))) / curvature if curvature > 0 else math.inf


def curvature(
    rows: Rows, weights: np.ndarray, intercept: bool, l2: float, nonzeros: int = 50_000
) -> float | None:
    """Estimate the largest eigenvalue of the Hessian of mean logistic loss + l2/2 |w|^2 near its minimum.

    Uses a random sample of the rows with about `nonzeros` non-zeros. Returns None if the sample has fewer
    rows than weights: that is too few for an estimate.

    A training that swings may have ended anywhere in its swing. So accelerated gradient steps (Nesterov
    1983), at a rate that is stable everywhere, first move `weights` (n,) near the minimum. With `intercept`,
    the last weight belongs to a feature that is 1 in every row and is not stored; it has no penalty. With
    more than two classes and weights (n, classes), each class has a Hessian; this is the Hessian of the class
    whose share of the rows is nearest to a half, where it is steepest.
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
    bound = _largest_eigenvalue(X, 0.25 * shares, penalty, start)  # the sigmoid's slope is at most 1/4
    ahead = weights
    for step in range(_STEPS):
        before = weights
        slope = penalty * ahead - X.T @ (shares * labels * expit(-labels * (X @ ahead)))
        weights = ahead - slope / (bound or 1.0)
        ahead = weights + step / (step + 3) * (weights - before)
    positive = expit(X @ weights)
    return _largest_eigenvalue(X, shares * positive * (1 - positive), penalty, start)


def _largest_eigenvalue(
    X: scipy.sparse.csr_matrix, scale: np.ndarray, penalty: np.ndarray, start: np.ndarray
) -> float:
    """Return the largest eigenvalue of X' diag(scale) X + diag(penalty), by power iteration."""
    direction, largest = start, 0.0
    for _ in range(_ITERATIONS):
        direction = X.T @ (scale * (X @ direction)) + penalty * direction
        largest = float(np.linalg.norm(direction))
        direction /= largest or 1.0
    return largest


def stability_of(
    rows: Rows,
    weights: np.ndarray,
    intercept: bool,
    updater: Updater,
    consistency: Consistency,
    workers: int,
    iterations: int,
    delays: Delays,
) -> Stability | None:
    """Compare the learning rate of a training by minibatches with the highest stable one at its delay.

    Returns None if the updater's steps are not the gradient times one rate, or the curvature is unknown.
    """
    if consistency.in_place or not isinstance(updater, SGD):
        return None
    steepest = curvature(rows, weights, intercept, updater.l2)
    if steepest is None:
        return None
    # Workers that wait for a bound continue together, and their steps from the same weights add up.
    delay = delays.p99 if math.isfinite(consistency.bound) else delays.p50
    pushes = workers if consistency.hold_pushes else 1
    rate = updater.rate(Step(iterations, 0.0, delay, pushes))
    limit = stable_rate(steepest, delay) * updater.learning_rate / rate
    return Stability(updater.learning_rate, limit, delay, steepest)
