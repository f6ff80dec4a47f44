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

from shmps.linear.kernels import dot, solve_rank_one
from shmps.ps.kernels import add_scaled

MEMORY = 10  # pairs of steps and changes of the gradient
_SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo 1966)
_SHORTENINGS = 30
_BETWEEN_BOUNDS = 5  # steps, at most
_PIECE = 2**11  # weights: little memory, and products so small that BLAS wakes no threads for them
_ROUNDING = 4 * float(np.finfo(float).eps)  # of a sum over rows, relative
_RIDGE = float(np.finfo(float).eps) ** 0.5  # more than what the rounding of sums over rows takes away

Solve = Callable[[np.ndarray], np.ndarray]


class LBFGS:
    """Minimises a smooth convex function of `weights` (n,), which are where it wants to know it next.

    `solve(gradient)` (n,) is the inverse of the curvature at zero times it. Done when `gap` is within
    `tolerance` of the value, or when no step along the direction goes down any more.
    """

    def __init__(
        self,
        start: np.ndarray,
        solve: Solve,
        tolerance: float,
        least: np.ndarray | None = None,
        exact: bool = False,
    ):
        """least (n,): the diagonal of a matrix that the curvature is nowhere below; None: nothing is certain.
        exact: `solve` has the curvature of all rows and between all weights.
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
        """Done, but not for the tolerance."""
        return self._shortened > _SHORTENINGS

    @property
    def best(self) -> tuple[np.ndarray, float]:
        """The weights (n,) of the last step that was taken, and the value there."""
        return self._at, self._value

    @property
    def gap(self) -> float:
        """How far the value may be above the least one.

        Half the slope along the next step is how much lower the minimum of a parabola would be. It says too
        little where the inverse misses flat directions, so that it is held against a bound by the curvature
        that is certain; or, if the inverse began with the exact curvature at zero, or nothing is certain,
        against the half slope times about the condition number that is left.
        """
        half, bound = self._halves[-1], max(self._halves[-1], self._bound())
        return min(half * self._condition(), bound) if self._may_estimate else bound

    @property
    def _may_estimate(self) -> bool:
        return self._exact or not self._least.any()

    def _is_near(self) -> bool:
        """Whether `gap` is within the tolerance, with as few bounds as will do: each costs several steps."""
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
        """By the rate at which the half slopes shrink.

        Of a matrix with the condition number k, conjugate gradients shrink them by about 1 - 4 / sqrt(k) a
        step. All of k, 16 / (1 - rate)**2, would be needed if the gradient lay in the flattest direction; an
        eighth of that was enough in trials.
        """
        steps = len(self._halves) - 1
        if not steps or not self._halves[0]:
            return 2.0
        rate = (self._halves[-1] / self._halves[0]) ** (1 / steps)
        return 2 / (1 - rate) ** 2 if rate < 1 else math.inf

    def _bound(self) -> float:
        """Half the gradient times itself by the inverse of the least curvature that there can be.

        That is P, `least`, plus what the remembered steps S and the changes Y of the gradient show of the
        rest: the least matrix A with A S = Y - P S is (Y - P S) (S'(Y - P S))^-1 (Y - P S)'. It is a bound
        of the gap as far as the curvature has not changed over these steps.
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
        if not (np.isfinite(within).all() and np.isfinite(between).all()):  # l2 is as good as none
            return math.inf
        own = between.diagonal()
        scale = np.where(own > 0, 1 / np.sqrt(np.where(own > 0, own, 1.0)), 0.0)  # 0: only rounding is left
        values, vectors = np.linalg.eigh((between + between.T) / 2 * np.outer(scale, scale))
        seen = values > _RIDGE * max(values[-1:], default=0.0)
        basis = scale[:, None] * vectors[:, seen] / np.sqrt(values[seen])
        along = basis.T @ along
        return (square - along @ np.linalg.solve(np.eye(len(along)) + basis.T @ within @ basis, along)) / 2

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
        self._halves.append(-self._slope / 2)
        self.done = self._is_near()
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
