"""L-BFGS with a curvature that the data gives: a state machine without I/O, which asks for gradients.

Nocedal, Updating Quasi-Newton Matrices with Limited Storage (Math. Comp. 1980). The matrix that the recursion
starts from is not a multiple of the identity but the objective's curvature at zero, X'X/4 per row plus the
penalty: whole where the weights are few, else what the features' squares and means tell of it.
"""

import collections
import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from shmps.kernels import add_scaled, dot, solve_rank_one

MEMORY = 10  # pairs of steps and changes of the gradient
_SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo 1966)
_SHORTENINGS = 30
_ROUNDING = 4 * float(np.finfo(float).eps)  # of a sum over rows, relative
_RIDGE = float(np.finfo(float).eps) ** 0.5  # more than what the rounding of sums over rows takes away

Solve = Callable[[np.ndarray], np.ndarray]


class LBFGS:
    """Minimises a smooth convex function of `weights` (n,), which are where it wants to know it next.

    `solve(gradient)` (n,) is the inverse of the curvature times it. Done when half the slope along the next
    step, which is how much lower the minimum of a parabola would be, is within `tolerance` of the value; or
    when no step along the direction goes down any more.
    """

    def __init__(self, start: np.ndarray, solve: Solve, tolerance: float):
        self.weights, self.done = start.copy(), False
        self._solve, self._tolerance = solve, tolerance
        self._pairs: collections.deque[tuple[np.ndarray, np.ndarray, float]] = collections.deque(
            maxlen=MEMORY
        )
        self._at = start.copy()
        self._value, self._step, self._slope, self._shortened = np.inf, 1.0, 0.0, 0
        self._gradient = self._direction = np.zeros(len(start))

    @property
    def stuck(self) -> bool:
        """Done, but not for the tolerance."""
        return self._shortened > _SHORTENINGS

    @property
    def best(self) -> tuple[np.ndarray, float]:
        """The weights (n,) of the last step that was taken, and the value there."""
        return self._at, self._value

    def take(self, value: float, gradient: np.ndarray) -> None:
        """What the function is at `weights`, and its gradient (n,) there: moves `weights`, or is done."""
        if self._value < np.inf:  # else it is the first one
            if not self._goes_down(value):
                self._shorten(value)
                return
            self._remember(gradient)
        self._at, self._value, self._gradient = self.weights, value, gradient
        self._direction, self._step, self._shortened = -self._times_inverse(gradient), 1.0, 0
        self._slope = dot(gradient, self._direction)
        self.done = -self._slope / 2 <= self._tolerance * abs(value)
        if not self.done:
            self.weights = self._at + self._direction

    def _goes_down(self, value: float) -> bool:
        promised = _SUFFICIENT * self._step * self._slope
        return value <= self._value + promised + _ROUNDING * abs(self._value)

    def _shorten(self, value: float) -> None:
        """To the minimum of the parabola through what is known, a tenth to a half of the step."""
        excess = value - self._value - self._step * self._slope
        ratio = -self._slope * self._step / (2 * excess) if math.isfinite(excess) else 0.0
        self._step *= min(max(ratio, 0.1), 0.5)
        self._shortened += 1
        self.done = self._shortened > _SHORTENINGS
        self.weights = self._at if self.done else self._at + self._step * self._direction

    def _remember(self, gradient: np.ndarray) -> None:
        moved, changed = self.weights - self._at, gradient - self._gradient
        product = dot(moved, changed)
        if product > 0:  # else rounding has the last word
            self._pairs.append((moved, changed, product))

    def _times_inverse(self, gradient: np.ndarray) -> np.ndarray:
        """The two-loop recursion (Nocedal & Wright, Numerical Optimization, 2006, algorithm 7.4)."""
        result, factors = gradient.copy(), []
        for moved, changed, product in reversed(self._pairs):
            factor = dot(moved, result) / product
            add_scaled(result, changed, -factor)
            factors.append(factor)
        result = self._solve(result)
        if self._pairs:
            _, changed, product = self._pairs[-1]
            result *= product / dot(changed, self._solve(changed))
        for (moved, changed, product), factor in zip(self._pairs, reversed(factors), strict=True):
            add_scaled(result, moved, factor - dot(changed, result) / product)
        return result


def whole_curvature(matrix: np.ndarray, penalty: np.ndarray) -> Solve:
    """From the curvature (n, n) without `penalty` (n,); solves for (n, problems)."""
    # Features may depend on each other (one-hot ones and an intercept do): then its least eigenvalue is what
    # rounding makes of 0. What is added is a part of each feature's own, whatever their units.
    own = _above_zero(matrix.diagonal() + penalty)
    matrix = matrix + np.diag(penalty + _RIDGE * own)
    factor, _ = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
    # What scipy.linalg.cho_solve calls, at a fifth of its time for a hundred weights.
    return lambda values: scipy.linalg.lapack.dpotrs(factor, values, lower=True)[0]


def curvature_of_moments(squares: np.ndarray, means: np.ndarray, penalty: np.ndarray) -> Solve:
    """From the features' mean squares and means (n,), without `penalty` (n,); solves for (n, problems).

    X'X per row is their covariance plus the product of the means with each other. Of the covariance this
    takes the diagonal alone; the product is what couples all features that are seldom negative, such as
    counts, with each other and with the intercept: without it the first steps would be far too long.
    """
    # A feature that is the same in every row, as the intercept's is, has no variance.
    variances = np.maximum(squares - means**2, _RIDGE * squares)
    diagonal, steep = _above_zero(variances / 4 + penalty), means / 2

    def solve(values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        solve_rank_one(values, diagonal, steep, out)
        return out

    return solve


def _above_zero(diagonal: np.ndarray) -> np.ndarray:
    """A feature that no row has, without a penalty, has none: its gradient is 0 whatever it is divided by."""
    return np.where(diagonal > 0, diagonal, 1.0)
