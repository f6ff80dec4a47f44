"""A quadratic model of loss and L2 penalty for some of the weights: a block of the Hessian."""

import numpy as np

from shmps.linear.full_gradient.matrix_kernels import add_rows, factorise, solve, times
from shmps.linear.full_gradient.model_kernels import descend, learn, symmetric
from shmps.linear.full_gradient.problem import Point, Problem, Sums

RIDGE = 1e-9  # relative; more than the rounding of sums over rows removes
_MOST_SWEEPS = 200
_FEW_SWEEPS = 8  # and one for each 8 non-zeros, before Newton's step
_POSITIVE = 1e-10  # least curvature along a step, beside the model's


class BlockModel:
    """B for the weights with `keys`, which BFGS updates with each step.

    In centred coordinates: the intercepts follow the weights along the minimum of the loss. There, the
    intercepts' part of B is apart from the features', and coordinate descent is quick.
    """

    def __init__(self, problem: Problem, sums: Sums, keys: np.ndarray):
        self.keys, self._problem = keys, problem
        lower = sums.block(len(keys))
        intercepts = problem.classes if problem.intercept else 0
        self._features = features = len(keys) - intercepts
        self._centres = np.zeros((intercepts, features))
        if intercepts:
            corner = np.tril(lower[features:, features:])
            corner += np.tril(corner, -1).T
            corner[np.diag_indices(intercepts)] += RIDGE * corner.diagonal() + 1e-300  # softmax's is singular
            self._centres = np.linalg.solve(corner, lower[features:, :features])
        penalty = np.repeat(problem.penalty, problem.classes)[keys]
        least = sums.squares.ravel()[keys] / 2  # a sample of rows misses those of a rare feature
        self._matrix = np.empty((len(keys), len(keys)))
        symmetric(lower, self._centres, least, penalty, RIDGE, self._matrix)

    def minimum(
        self, point: Point, thresholds: np.ndarray, stiffness: float, accuracy: float
    ) -> tuple[np.ndarray, float]:
        """Return the weights (features, classes) at the minimum with the L1 penalty, and the decrease.

        thresholds (features, classes): the L1 penalty of each weight. stiffness: the factor of B. accuracy:
        coordinate descent ends when a sweep's decrease is so small beside the best sweep's.
        """
        # g'd + stiffness d'Bd / 2 + l1 |w + d|, divided by the stiffness
        slopes, own = self._centred(point.gradient) / stiffness, thresholds.ravel()[self.keys] / stiffness
        old = point.weights.ravel()[self.keys]
        values, features = old.copy(), self._features
        decrease = self._minimise(slopes, values, own, accuracy) * stiffness
        values[features:] -= self._centres @ (values - old)[:features]
        weights = point.weights.copy()
        weights.ravel()[self.keys] = values
        return weights, decrease

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Make B agree with the change of the gradient along a step (both (features, classes))."""
        moved, turned = step.ravel()[self.keys], self._centred(change)
        moved[self._features :] += self._centres @ moved[: self._features]
        product = np.empty(len(moved))
        times(self._matrix, moved, product)
        inner, curved = float(moved @ turned), float(moved @ product)
        if inner > _POSITIVE * curved > 0:
            learn(self._matrix, product, turned, inner, curved)

    def _centred(self, gradient: np.ndarray) -> np.ndarray:
        values = gradient.ravel()[self.keys]
        values[: self._features] -= values[self._features :] @ self._centres
        return values

    def _minimise(
        self, slopes: np.ndarray, values: np.ndarray, thresholds: np.ndarray, accuracy: float
    ) -> float:
        total, best, sweeps = 0.0, 0.0, 0
        while sweeps < _MOST_SWEEPS:
            most = _FEW_SWEEPS + np.count_nonzero(values) // 8
            decrease, best, count, done = descend(
                self._matrix, slopes, values, thresholds, accuracy, best, most
            )
            total, sweeps = total + decrease, sweeps + count
            if done:
                break
            total += self._leap(slopes, values, thresholds)
        return total

    def _leap(self, slopes: np.ndarray, values: np.ndarray, thresholds: np.ndarray) -> float:
        """Make Newton's step for the non-zeros, as far as the first that changes its sign: it becomes 0.

        Coordinate descent is slow where features are nearly dependent. Return the decrease.
        """
        own = np.flatnonzero((values != 0.0) | (thresholds == 0.0))
        factor = self._matrix[own[:, None], own]
        if not factorise(factor):
            return 0.0
        old, bounded = values[own], thresholds[own] > 0
        down = slopes[own] + thresholds[own] * np.sign(old)
        step = -down
        solve(factor, step)
        crossing = bounded & (old * step < 0)
        until = np.full(len(own), np.inf)
        until[crossing] = -old[crossing] / step[crossing]
        t = min(1.0, until.min(initial=np.inf))
        new = old + t * step
        new[until <= t] = 0.0
        values[own] = new
        add_rows(self._matrix, own, new - old, slopes)
        return float(-t * (1 - t / 2) * (down @ step))
