"""A quadratic model of loss and L2 penalty for some of the weights: a block of the Hessian."""

import numpy as np

from shmps.linear.full_gradient.curvature import ROUNDING, intercepts_apart
from shmps.linear.full_gradient.matrix_kernels import add_rows, factorise, solve, times
from shmps.linear.full_gradient.model_kernels import descend, learn, symmetric
from shmps.linear.full_gradient.problem import Point, Problem, Sums

RIDGE = 1e-9  # relative: features may depend on each other
_MOST_TURNS = 50
_EXACT = 1e-4  # accuracy: below it the minimum is confirmed
_FEW = 128  # non-zeros: Newton's step takes less than a sweep over the rows
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
        self._features, self._centres = intercepts_apart(problem, lower)
        penalty = np.repeat(problem.penalty, problem.classes)[keys]
        least = sums.squares.ravel()[keys] / 2  # a sample of rows misses those of a rare feature
        self._matrix = np.empty((len(keys), len(keys)))
        symmetric(lower, self._centres, least, penalty, RIDGE, ROUNDING, self._matrix)

    def minimum(
        self,
        point: Point,
        thresholds: np.ndarray,
        damping: np.ndarray,
        stiffness: float,
        accuracy: float,
    ) -> tuple[np.ndarray, float]:
        """Return the weights (features, classes) at the minimum with the L1 penalty, and the decrease.

        thresholds (features, classes): the L1 penalty of each weight. damping (features, classes): is added
        to the diagonal of B. stiffness: the factor of both. accuracy: the descent ends when a sweep's
        decrease is so small beside the best sweep's.
        """
        # g'd + stiffness d'Bd / 2 + l1 |w + d|, divided by the stiffness
        slopes, own = self._centred(point.gradient) / stiffness, thresholds.ravel()[self.keys] / stiffness
        old = point.weights.ravel()[self.keys]
        values, features, diagonal = old.copy(), self._features, self._matrix.diagonal().copy()
        np.fill_diagonal(self._matrix, diagonal + damping.ravel()[self.keys])
        decrease = self._minimise(slopes, values, own, accuracy) * stiffness
        np.fill_diagonal(self._matrix, diagonal)
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
        """Alternate coordinate descent, which finds the non-zeros, and Newton's steps for them.

        A small sweep is no proof of the minimum, since features may be nearly dependent. It is one if
        Newton's steps decrease the model by no more. Between these, coordinate descent would bring back the
        weights that have become 0, and the steps would end where they did.
        """
        total, best = 0.0, 0.0
        for _ in range(_MOST_TURNS):
            most = _FEW_SWEEPS + np.count_nonzero(values) // 8
            decrease, best, _, done = descend(self._matrix, slopes, values, thresholds, accuracy, best, most)
            if done and accuracy > _EXACT and np.count_nonzero(values) > _FEW:
                return total + decrease
            leaps, whole = 0.0, False
            while not whole:  # each that is not leaves a non-zero less
                leap, whole = self._leap(slopes, values, thresholds)
                leaps += leap
            total += decrease + leaps
            if done and leaps <= accuracy * best:
                break
        return total

    def _leap(self, slopes: np.ndarray, values: np.ndarray, thresholds: np.ndarray) -> tuple[float, bool]:
        """Make Newton's step for the non-zeros. Return the decrease, and whether no sign changed.

        Weights whose sign changes on the way become 0 and stay there. The step ends where the model is least
        of a few places.
        """
        own = np.flatnonzero((values != 0.0) | (thresholds == 0.0))
        block = self._matrix[own[:, None], own]
        factor = block.copy()
        if not factorise(factor):
            return 0.0, True
        old, l1 = values[own], thresholds[own]
        down = slopes[own] + l1 * np.sign(old)
        step = -down
        solve(factor, step)
        until = np.full(len(own), np.inf)
        crossing = (l1 > 0) & (old * step < 0)
        until[crossing] = -old[crossing] / step[crossing]
        turns = np.sort(until[until <= 1.0])
        if not len(turns):
            decrease, change = -0.5 * float(down @ step), step
        else:
            places = {*turns[[0, len(turns) // 4, len(turns) // 2, -1]].tolist(), 1.0}
            found = [_along(block, down, old, step, until, t) for t in places]
            decrease, change = max(found, key=lambda each: each[0])
        values[own] = old + change
        add_rows(self._matrix, own, change, slopes)
        return decrease, not len(turns)


def _along(
    block: np.ndarray, down: np.ndarray, old: np.ndarray, step: np.ndarray, until: np.ndarray, t: float
) -> tuple[float, np.ndarray]:
    """Return the model's decrease and the weights' change at the share `t` of a step.

    until: the shares at which weights become 0, where they stay.
    """
    change, product = np.where(until <= t, -old, t * step), np.empty(len(old))
    times(block, change, product)
    return -float(change @ (down + 0.5 * product)), change
