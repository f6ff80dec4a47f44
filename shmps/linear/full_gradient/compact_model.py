"""A quadratic model of loss and L2 penalty for many weights: the features' moments and L-BFGS.

Byrd, Nocedal & Schnabel, Representations of Quasi-Newton Matrices and Their Use in Limited Memory Methods
(Mathematical Programming 1994).
"""

import numpy as np

from shmps.linear.full_gradient.curvature import ROUNDING
from shmps.linear.full_gradient.model_kernels import descend_compact
from shmps.linear.full_gradient.pairs import MEMORY
from shmps.linear.full_gradient.problem import ONE_AGAINST_REST, Problem, Sums
from shmps.linear.full_gradient.quadratic import Task

_FLOOR = 0.1  # of the variances, beside the first ones: they vanish where all rows are classified well
_MOST_SWEEPS = 100


def variances(sums: Sums, masses: np.ndarray, intercept: bool) -> np.ndarray:
    """Return the diagonal of the Hessian (features, classes), once an intercept follows the weights."""
    if not intercept:
        return sums.squares.copy()
    centred = sums.squares - sums.means**2 / np.where(masses > 0, masses, 1.0)
    centred[-1] = masses
    return np.maximum(centred, ROUNDING * sums.squares)


class CompactModel:
    """B = diag(variances) + a term of rank two for each of the last steps.

    With an intercept, in coordinates that are centred at the features' means.
    """

    def __init__(self, problem: Problem):
        self.keys = np.zeros(0, np.int64)  # of the weights that move
        self._problem = problem
        self._columns = problem.classes if problem.loss == ONE_AGAINST_REST else 1
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []
        self._least: np.ndarray | None = None
        self._diagonal, self._centres = np.zeros(problem.shape), np.zeros(problem.shape)

    def renew(self, sums: Sums, masses: np.ndarray) -> None:
        """Take the variances from `sums`; keep the steps."""
        found = variances(sums, masses, self._problem.intercept)
        if self._least is None:
            self._least = _FLOOR * found
        diagonal = np.maximum(found, self._least) + self._problem.penalty
        self._diagonal = np.where(diagonal > 0, diagonal, 1.0)
        if self._problem.intercept:
            self._centres = sums.means / np.where(masses > 0, masses, 1.0)
            self._centres[-1] = 0.0

    def minimum(self, task: Task) -> tuple[np.ndarray, float]:
        """As `quadratic.Model.minimum`."""
        keys, point, stiffness = self.keys, task.point, task.stiffness
        old, problem = point.weights.ravel()[keys], self._problem
        diagonal, left, right = self._matrix()
        values = old.copy()
        decrease = descend_compact(
            diagonal + task.damping.ravel()[keys],
            left,
            right,
            keys % self._columns,
            self._centred(point.gradient).ravel()[keys] / stiffness,
            values,
            task.thresholds.ravel()[keys] / stiffness,
            task.accuracy,
            task.enough / (stiffness * task.accuracy),
            _MOST_SWEEPS,
        )
        step = np.zeros(problem.shape)
        step.ravel()[keys] = values - old
        weights = point.weights.copy()
        weights.ravel()[keys] = values
        if problem.intercept:
            weights[-1] -= (self._centres * step).sum(axis=0)
        return weights, decrease * stiffness

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Keep a step and the change of the gradient along it, in place of the oldest ones."""
        if (step * change).sum() > 0:
            self._steps, self._changes = [*self._steps, step][-MEMORY:], [*self._changes, change][-MEMORY:]

    def _centred(self, gradient: np.ndarray) -> np.ndarray:
        return gradient - self._centres * gradient[-1]

    def _moved(self, step: np.ndarray) -> np.ndarray:
        moved = step.copy()
        moved[-1] += (self._centres * step).sum(axis=0)
        return moved

    def _matrix(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return diagonal (m,), left (m, r), right (m, r): B = diag(diagonal) + left right' for the keys."""
        keys, columns = self.keys, self._columns
        diagonal = self._diagonal.ravel()
        if not self._steps:
            empty = np.empty((len(keys), 0))
            return diagonal[keys], empty, empty
        steps, changes = (
            np.array([centre(each).ravel() for each in own])
            for centre, own in ((self._moved, self._steps), (self._centred, self._changes))
        )
        diagonal = diagonal * max(1.0, (steps[-1] @ changes[-1]) / (steps[-1] @ (diagonal * steps[-1])))
        left, right = (np.zeros((len(keys), 2 * len(steps))) for _ in range(2))
        for c in range(columns):
            own, mine = slice(c, None, columns), keys % columns == c
            step, change = steps[:, own], changes[:, own]
            product, inner = step * diagonal[own], step @ change.T
            below = np.tril(inner, -1)
            middle = np.block([[product @ step.T, below], [below.T, -np.diag(inner.diagonal())]])
            places = keys[mine] // columns
            left[mine] = np.concatenate([product[:, places], change[:, places]]).T
            right[mine] = -np.linalg.lstsq(middle, left[mine].T)[0].T
        return diagonal[keys], left, right
