"""Linear systems with the curvature: a matrix for each class, or moments of the features."""

from collections.abc import Callable

import numpy as np

from shmps.linear.full_gradient.kernels import dots
from shmps.linear.full_gradient.matrix_kernels import factorise, solve
from shmps.linear.full_gradient.problem import SOFTMAX, Problem, Sums

RIDGE = float(np.finfo(float).eps) ** 0.5  # relative; more than the rounding of sums over rows removes

Solve = Callable[[np.ndarray], np.ndarray]  # (features, classes) to the inverse times it


def solver_for(problem: Problem, sums: Sums, masses: np.ndarray) -> Solve:
    """Return the solver for the curvature in `sums` plus the L2 penalty, class by class.

    Softmax: the margins of a row can all be shifted alike, so the gradients of the classes sum to 0, and so
    do the steps. The blocks of single classes do not know this: subtract the mean over the classes.
    """
    penalty = problem.penalty
    unbalanced = _whole(sums, penalty) if problem.whole else _by_moments(sums, masses, penalty)
    if problem.loss != SOFTMAX:
        return unbalanced

    def balanced(values: np.ndarray) -> np.ndarray:
        solved = unbalanced(values)
        solved -= solved.mean(axis=1, keepdims=True)
        return solved

    return balanced


def _whole(sums: Sums, penalty: np.ndarray) -> Solve:
    """Factorise each class's matrix H + diag(penalty).

    A sample of rows misses those of a rare feature. So the diagonal is at least half the exact one.
    """
    factors = [
        _factor(half + half.T, np.maximum(half.diagonal() * 2, squares / 2) + penalty[:, 0])
        for half, squares in zip(sums.halves, sums.squares.T, strict=True)
    ]

    def solved(values: np.ndarray) -> np.ndarray:
        columns = values.T.copy()
        for column, factor in zip(columns, factors, strict=True):
            solve(factor, column)
        return columns.T.copy()

    return solved


def _factor(matrix: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor of the matrix with another diagonal, and a ridge that makes it definite.

    Features may be linearly dependent (one-hot features and an intercept are): then the least eigenvalue is 0
    up to rounding. The ridge is a small part of each feature's own curvature, whatever the feature's units.
    """
    ridge = RIDGE
    while True:
        factor = matrix.copy()
        np.fill_diagonal(factor, _above_zero(diagonal) * (1 + ridge))
        if factorise(factor):
            return factor
        ridge *= 100


def _by_moments(sums: Sums, masses: np.ndarray, penalty: np.ndarray) -> Solve:
    """Approximate each class's matrix by H = diag(S - m^2 / M + penalty) + m m' / M.

    S: sum D x^2, m: sum D x, M: sum D over the rows, with the curvatures D of the rows. X'DX is M times the
    features' covariance plus the outer product of their means. The approximation keeps the diagonal of the
    covariance. The outer product couples all features that are seldom negative, such as counts, with each
    other and with the intercept: without it the first steps would be far too long.
    """
    mass = _above_zero(masses)
    # A feature that is the same in every row, such as the intercept's, has no variance.
    variances = np.maximum(sums.squares - sums.means**2 / mass, RIDGE * sums.squares)
    inverse, steep = 1 / _above_zero(variances + penalty), sums.means / np.sqrt(mass)
    scaled, along = steep * inverse, np.empty(len(mass))
    rest = np.empty(len(mass))
    dots(scaled, steep, rest)
    rest += 1

    def solved(values: np.ndarray) -> np.ndarray:
        dots(scaled, values, along)  # Sherman & Morrison, Annals of Mathematical Statistics 1950
        return values * inverse - scaled * (along / rest)

    return solved


def _above_zero(diagonal: np.ndarray) -> np.ndarray:
    """Replace zeros by ones: a feature without rows and penalty has no curvature, and its gradient is 0."""
    return np.where(diagonal > 0, diagonal, 1.0)
