"""L-BFGS with an initial curvature from the data: a state machine without I/O that asks for gradients.

Nocedal, Updating Quasi-Newton Matrices with Limited Storage (Math. Comp. 1980). The recursion starts from the
objective's curvature at zero, X'X/4 per row plus the penalty, instead of a multiple of the identity: from the
whole matrix if the weights are few, otherwise from an approximation by the features' squares and means.
"""

import collections
import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from shmps.linear.kernels import dot, solve_rank_one
from shmps.ps.kernels import add_scaled

MEMORY = 10  # pairs of steps and gradient changes
_SUFFICIENT = 1e-4  # least share of the decrease that the slope predicts (Armijo 1966)
_SHORTENINGS = 30  # most of one step
_BETWEEN_BOUNDS = 5  # most steps between two bounds of the gap
_PIECE = 2**11  # weights: little memory, and products too small for BLAS to wake threads
_ROUNDING = 4 * float(np.finfo(float).eps)  # relative error of a sum over rows
_RIDGE = float(np.finfo(float).eps) ** 0.5  # relative; more than the rounding of sums over rows removes

Solve = Callable[[np.ndarray], np.ndarray]


class LBFGS:
    """Minimises a smooth convex function: evaluate it at `weights` (n,), pass the result to `take`, repeat.

    `solve(gradient)` (n,) multiplies by the inverse of the curvature at zero. The search is `done` when `gap`
    is within `tolerance` of the value, or when no step along the direction decreases the value any more.
    """

    def __init__(
        self,
        start: np.ndarray,
        solve: Solve,
        tolerance: float,
        least: np.ndarray | None = None,
        exact: bool = False,
    ):
        """least (n,): diagonal of a matrix that bounds the curvature everywhere from below; None: no bound.
        exact: whether `solve` uses the curvature of all rows and between all weights.
        """
        self.weights, self.done = start.copy(), False
        self._solve, self._tolerance, self._exact = solve, tolerance, exact
        self._least = np.zeros(len(start)) if least is None else least
        self._last_bounded, self._unbounded = math.inf, 0  # half slope at the last bound; steps since then
        self._halves: collections.deque[float] = collections.deque(maxlen=MEMORY + 1)  # half slopes so far
        self._pairs: collections.deque[tuple[np.ndarray, np.ndarray, float]] = collections.deque(
            maxlen=MEMORY
        )
        self._at = start.copy()
        self._value, self._step, self._slope, self._shortened = np.inf, 1.0, 0.0, 0
        self._gradient = self._direction = np.zeros(len(start))

    @property
    def stuck(self) -> bool:
        """Whether the search ended without reaching the tolerance."""
        return self._shortened > _SHORTENINGS

    @property
    def best(self) -> tuple[np.ndarray, float]:
        """The weights (n,) after the last accepted step, and the value there."""
        return self._at, self._value

    @property
    def gap(self) -> float:
        """How far the value may be above the least value.

        Half the slope along the next step is how far the minimum of a parabola lies below. It is too small if
        the inverse misses flat directions. So the gap is a bound by the curvature that is certain. If the
        inverse started from the exact curvature at zero, or no curvature is certain, it is the half slope
        times an estimate of the remaining condition number, where that is less.
        """
        half, bound = self._halves[-1], max(self._halves[-1], self._bound())
        return min(half * self._condition(), bound) if self._may_estimate else bound

    @property
    def _may_estimate(self) -> bool:
        return self._exact or not self._least.any()

    def _is_near(self) -> bool:
        """Return whether `gap` is within the tolerance. Compute few bounds: each costs several steps."""
        half, allowed = self._halves[-1], self._tolerance * abs(self._value)
        if half > allowed:
            return False
        if self._may_estimate and half * self._condition() <= allowed:
            return True
        self._unbounded += 1
        if half > self._last_bounded / 2 and self._unbounded < _BETWEEN_BOUNDS:
            return False
        self._last_bounded, self._unbounded = half, 0
        return self._bound() <= allowed

    def _condition(self) -> float:
        """Estimate the remaining condition number from the rate at which the half slopes shrink.

        With the condition number k, conjugate gradients multiply the half slopes by about 1 - 4 / sqrt(k) per
        step. All of k = 16 / (1 - rate)**2 would be needed if the gradient were in the flattest direction; an
        eighth of it was enough in trials.
        """
        steps = len(self._halves) - 1
        if not steps or not self._halves[0]:
            return 2.0
        rate = (self._halves[-1] / self._halves[0]) ** (1 / steps)
        return 2 / (1 - rate) ** 2 if rate < 1 else math.inf

    def _bound(self) -> float:
        """Return g' C^-1 g / 2, with the gradient g and the least possible curvature C.

        C = P + A: P is diag(least), and A is what the remembered steps S and gradient changes Y show of the
        rest. The least matrix with A S = Y - P S is A = (Y - P S) (S'(Y - P S))^-1 (Y - P S)'. This bounds
        the gap to the extent that the curvature did not change over these steps.
        """
        if not self._least.all():
            return math.inf
        root = np.sqrt(self._least)
        gradient = self._gradient / root
        square = dot(gradient, gradient)
        if square / 2 <= self._tolerance * abs(self._value):
            return square / 2
        count = len(self._pairs)
        within, between, along = np.zeros((count, count)), np.zeros((count, count)), np.zeros(count)
        for begin in range(0, len(root) if count else 0, _PIECE):
            part = slice(begin, begin + _PIECE)
            steps = np.stack([moved[part] for moved, _, _ in self._pairs]) * root[part]
            rests = np.stack([changed[part] for _, changed, _ in self._pairs]) / root[part] - steps
            within += rests @ rests.T
            between += rests @ steps.T
            along += rests @ gradient[part]
        if not (np.isfinite(within).all() and np.isfinite(between).all()):  # l2 is too small
            return math.inf
        own = between.diagonal()
        scale = np.where(own > 0, 1 / np.sqrt(np.where(own > 0, own, 1.0)), 0.0)  # 0: only rounding is left
        values, vectors = np.linalg.eigh((between + between.T) / 2 * np.outer(scale, scale))
        seen = values > _RIDGE * max(values[-1:], default=0.0)
        basis = scale[:, None] * vectors[:, seen] / np.sqrt(values[seen])
        along = basis.T @ along
        return (square - along @ np.linalg.solve(np.eye(len(along)) + basis.T @ within @ basis, along)) / 2

    def take(self, value: float, gradient: np.ndarray) -> None:
        """Take the function's value and gradient (n,) at `weights`. Sets the next `weights`, or `done`."""
        if self._value < np.inf:  # not the first call
            if not self._goes_down(value):
                self._shorten(value)
                return
            self._remember(gradient)
        self._at, self._value, self._gradient = self.weights, value, gradient
        self._direction, self._step, self._shortened = -self._times_inverse(gradient), 1.0, 0
        self._slope = dot(gradient, self._direction)
        self._halves.append(-self._slope / 2)
        self.done = self._is_near()
        if not self.done:
            self.weights = self._at + self._direction

    def _goes_down(self, value: float) -> bool:
        promised = _SUFFICIENT * self._step * self._slope
        return value <= self._value + promised + _ROUNDING * abs(self._value)

    def _shorten(self, value: float) -> None:
        """Shorten the step to the minimum of the interpolating parabola, within a tenth and a half of it."""
        excess = value - self._value - self._step * self._slope
        ratio = -self._slope * self._step / (2 * excess) if math.isfinite(excess) else 0.0
        self._step *= min(max(ratio, 0.1), 0.5)
        self._shortened += 1
        self.done = self._shortened > _SHORTENINGS
        self.weights = self._at if self.done else self._at + self._step * self._direction

    def _remember(self, gradient: np.ndarray) -> None:
        moved, changed = self.weights - self._at, gradient - self._gradient
        product = dot(moved, changed)
        if product > 0:  # otherwise the pair is rounding error
            self._pairs.append((moved, changed, product))

    def _times_inverse(self, gradient: np.ndarray) -> np.ndarray:
        """Return the inverse Hessian times `gradient`, by the two-loop recursion.

        Nocedal & Wright, Numerical Optimization, 2006, algorithm 7.4.
        """
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
    """Return the solver for the curvature `matrix` (n, n) plus diag(`penalty`), (n,), for (n, problems)."""
    # Features may be linearly dependent (one-hot features and an intercept are): then the least eigenvalue is
    # 0 up to rounding. So add a small part of each feature's own curvature, whatever the feature's units.
    own = _above_zero(matrix.diagonal() + penalty)
    matrix = matrix + np.diag(penalty + _RIDGE * own)
    factor, _ = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
    # scipy.linalg.cho_solve calls this too, but takes five times as long for a hundred weights.
    return lambda values: scipy.linalg.lapack.dpotrs(factor, values, lower=True)[0]


def curvature_of_moments(squares: np.ndarray, means: np.ndarray, penalty: np.ndarray) -> Solve:
    """Return the solver for an approximate curvature plus diag(`penalty`), (n,), for (n, problems).

        C = (diag(squares - means^2) + means means') / 4,  squares and means (n,): the features' over the rows

    X'X per row is the features' covariance plus the outer product of their means. The approximation keeps the
    diagonal of the covariance. The outer product couples all features that are seldom negative, such as
    counts, with each other and with the intercept: without it the first steps would be far too long.
    """
    # A feature that is the same in every row, such as the intercept's, has no variance.
    variances = np.maximum(squares - means**2, _RIDGE * squares)
    diagonal, steep = _above_zero(variances / 4 + penalty), means / 2

    def solve(values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        solve_rank_one(values, diagonal, steep, out)
        return out

    return solve


def _above_zero(diagonal: np.ndarray) -> np.ndarray:
    """Replace zeros by ones: a feature without rows and penalty has no curvature, and its gradient is 0."""
    return np.where(diagonal > 0, diagonal, 1.0)
