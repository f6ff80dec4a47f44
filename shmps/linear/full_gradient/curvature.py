"""Linear systems with the curvature: a matrix for each class, or moments of the features."""

from collections.abc import Callable

import numpy as np

from shmps.linear.full_gradient.kernels import dots
from shmps.linear.full_gradient.matrix_kernels import factorise, solve
from shmps.linear.full_gradient.model_kernels import symmetric
from shmps.linear.full_gradient.problem import SOFTMAX, Problem, Sums

RIDGE = 1e-13  # relative: features may depend on each other
ROUNDING = 64 * float(np.finfo(float).eps)  # relative error of sums over rows, at most

Solve = Callable[[np.ndarray], np.ndarray]  # (features, classes) to the inverse times it


def solver_for(problem: Problem, sums: Sums, masses: np.ndarray) -> Solve:
    """Return the solver for the curvature in `sums` plus the L2 penalty, class by class.

    Softmax: the margins of a row can all be shifted alike, so the gradients of the classes sum to 0, and so
    do the steps. The blocks of single classes do not know this: subtract the mean over the classes.
    """
    unbalanced = _whole(problem, sums) if problem.whole else _by_moments(problem, sums, masses)
    if problem.loss != SOFTMAX:
        return unbalanced

    def balanced(values: np.ndarray) -> np.ndarray:
        solved = unbalanced(values)
        solved -= solved.mean(axis=1, keepdims=True)
        return solved

    return balanced


def _with_intercept(features: Solve, centres: np.ndarray, masses: np.ndarray) -> Solve:
    """Return the solver with an intercept, from that of the features about their `centres`.

    centres (features, classes): the features' means, weighted by the rows' curvatures, which sum to `masses`
    (classes,). Eliminating the intercept first keeps the variance of a feature that lies far from 0.
    """
    masses = _above_zero(masses)

    def solved(values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        out[:-1] = features(values[:-1] - centres * values[-1])
        out[-1] = values[-1] / masses - (centres * out[:-1]).sum(axis=0)
        return out

    return solved


def centres_of(problem: Problem, sums: Sums, in_block: bool) -> np.ndarray:
    """Return the features' means, weighted by each class's curvatures, (features, classes), as `sums` tell.

    in_block: whether they answer a request for the `Block` of all weights, and not one for `Curvature`.
    """
    count, classes = problem.features - 1, range(problem.classes)
    if in_block:
        _, centres = intercepts_apart(problem, sums.block(problem.size))
        return np.stack([centres[c].reshape(count, len(classes))[:, c] for c in classes], axis=1)
    if problem.whole:
        corners = [half[-1] + half[:, -1] for half in sums.halves]
        return np.stack([corner[:-1] / _above_zero(corner[-1]) for corner in corners], axis=1)
    return sums.means[:-1] / _above_zero(sums.means[-1])


def _whole(problem: Problem, sums: Sums) -> Solve:
    """Factorise each class's matrix H + diag(penalty); with an intercept, that of the centred features."""
    count = problem.features - problem.intercept
    factors, centres = [], np.zeros((count, problem.classes))
    for c, half in enumerate(sums.halves):
        matrix = half + half.T
        own = matrix[:count, :count]
        squares = own.diagonal().copy()
        if problem.intercept:
            centres[:, c] = matrix[-1, :count] / _above_zero(matrix[-1, -1])
            own = own - np.outer(centres[:, c], matrix[-1, :count])
        # A sample of rows misses those of a rare feature: the diagonal has at least half the exact squares.
        missed = np.maximum(sums.squares[:count, c] / 2 - squares, 0.0)
        diagonal = own.diagonal() + missed + problem.penalty[:count, 0] + ROUNDING * squares
        factors.append(_factor(own, diagonal))

    def solved(values: np.ndarray) -> np.ndarray:
        columns = values.T.copy()
        for column, factor in zip(columns, factors, strict=True):
            solve(factor, column)
        return columns.T.copy()

    return _with_intercept(solved, centres, sums.squares[-1]) if problem.intercept else solved


def exact_solver(problem: Problem, sums: Sums) -> Solve:
    """Return the solver for the Hessian with all weights, from a `Block` in `sums`, plus the L2 penalty."""
    lower = sums.block(problem.size)
    features, centres = intercepts_apart(problem, lower)
    matrix = np.empty_like(lower)
    penalty, least = np.repeat(problem.penalty, problem.classes), sums.squares.ravel() / 2
    symmetric(lower, centres, least, penalty, 0.0, ROUNDING, matrix)
    factor = _factor(matrix, matrix.diagonal())

    def solved(values: np.ndarray) -> np.ndarray:
        flat: np.ndarray = values.ravel().copy()
        flat[:features] -= flat[features:] @ centres
        solve(factor, flat)
        flat[features:] -= centres @ flat[:features]
        out = flat.reshape(values.shape)
        # Softmax: the Hessian is 0 along what is alike in all classes.
        return out - out.mean(axis=1, keepdims=True) if problem.loss == SOFTMAX else out

    return solved


def intercepts_apart(problem: Problem, lower: np.ndarray) -> tuple[int, np.ndarray]:
    """Return how many keys of a block are not intercepts', f, and the centres (classes, f) of these.

    lower (m, m): the block's lower triangle. The intercepts are at the minimum of the loss if they move by
    minus the centres times the change of the others.
    """
    intercepts = problem.classes if problem.intercept else 0
    features = len(lower) - intercepts
    if not intercepts:
        return features, np.zeros((0, features))
    corner = np.tril(lower[features:, features:])
    corner += np.tril(corner, -1).T
    # That of softmax is singular.
    corner[np.diag_indices(intercepts)] += ROUNDING * corner.diagonal() + 1e-300
    return features, np.linalg.solve(corner, lower[features:, :features])


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


def _by_moments(problem: Problem, sums: Sums, masses: np.ndarray) -> Solve:
    """Approximate each class's matrix by H = diag(S - m^2 / M + penalty) + m m' / M.

    S: sum D x^2, m: sum D x, M: sum D over the rows, with the curvatures D of the rows. X'DX is M times the
    features' covariance plus the outer product of their means. The approximation keeps the diagonal of the
    covariance. The outer product couples all features that are seldom negative, such as counts, with each
    other and with the intercept: without it the first steps would be far too long.
    """
    mass, count = _above_zero(masses), problem.features - problem.intercept
    squares, means = sums.squares[:count], sums.means[:count]
    variances = np.maximum(squares - means**2 / mass, ROUNDING * squares)
    inverse = 1 / _above_zero(variances + problem.penalty[:count])
    if problem.intercept:
        return _with_intercept(lambda values: values * inverse, means / mass, masses)
    steep = means / np.sqrt(mass)
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
