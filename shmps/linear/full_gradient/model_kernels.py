"""Numba kernels of quadratic models with an L1 penalty: coordinate descent, and updates of the models.

Friedman, Hastie & Tibshirani, Regularization Paths for Generalized Linear Models via Coordinate Descent
(J. Statistical Software 2010).
"""

import numpy as np

from shmps.system.compiling import kernel

_TILE = 64  # rows and columns of a matrix that are transposed within the cache


@kernel
def soft_threshold(z, l1):
    """The w that minimises (w - z)**2 / 2 + l1 |w|."""
    if z > l1:
        return z - l1
    if z < -l1:
        return z + l1
    return 0.0


@kernel
def descend(matrix, slopes, values, thresholds, share, best, most):
    """Minimise slopes . d + d' matrix d / 2 + sum_j thresholds_j |values_j + d_j| over d.

    Adds d to `values` (m,) and matrix d to `slopes` (m,). Ends when a sweep over all coordinates decreases
    the model by at most `share` of the `best` sweep, or after `most` sweeps. Sweeps over the non-zeros come
    between. Returns the decrease, the best sweep's, the number of sweeps and whether it ended by itself.
    """
    total, every = 0.0, True
    for sweep in range(1, most + 1):
        decrease = 0.0
        for j in range(len(values)):
            old, curvature, threshold = values[j], matrix[j, j], thresholds[j]
            if not every and old == 0.0 and threshold > 0.0:
                continue
            new = soft_threshold(old - slopes[j] / curvature, threshold / curvature)
            if new == old:
                continue
            change = new - old
            decrease -= change * (slopes[j] + 0.5 * curvature * change) + threshold * (abs(new) - abs(old))
            values[j] = new
            row = matrix[j]
            for k in range(len(values)):
                slopes[k] += change * row[k]
        total += decrease
        best = max(best, decrease)
        small = decrease <= share * best
        if small and every:
            return total, best, sweep, True
        every = small
    return total, best, most, False


@kernel
def descend_compact(diagonal, left, right, columns, slopes, values, thresholds, share, best, most):
    """Like `descend`, for the matrix diag(diagonal) + left right', with left and right (m, r).

    left right' is taken as 0 between coordinates of different `columns` (m,). Leaves `slopes` alone. Returns
    the decrease.
    """
    m, rank = left.shape
    products = np.zeros((columns.max() + 1, rank))  # right' d of each column
    start, total, every = values.copy(), 0.0, True
    for _ in range(most):
        decrease = 0.0
        for j in range(m):
            old, threshold = values[j], thresholds[j]
            if not every and old == 0.0 and threshold > 0.0:
                continue
            own = products[columns[j]]
            curvature, slope = diagonal[j], slopes[j] + diagonal[j] * (old - start[j])
            for r in range(rank):
                curvature += left[j, r] * right[j, r]
                slope += left[j, r] * own[r]
            curvature = max(curvature, 1e-8 * diagonal[j])  # above 0 but for rounding
            new = soft_threshold(old - slope / curvature, threshold / curvature)
            if new == old:
                continue
            change = new - old
            decrease -= change * (slope + 0.5 * curvature * change) + threshold * (abs(new) - abs(old))
            values[j] = new
            for r in range(rank):
                own[r] += change * right[j, r]
        total += decrease
        best = max(best, decrease)
        small = decrease <= share * best
        if small and every:
            break
        every = small
    return total


@kernel
def symmetric(lower, centres, least, penalty, ridge, rounding, out):
    """Set `out` (m, m) to the matrix with the lower triangle `lower`, in centred coordinates.

    lower has the blocks F of the features, B and A of the intercepts, which come last; centres C = A^-1 B.
    out has the blocks F - B' C, 0 and A. The diagonals of F and A are at least `least` (m,); `penalty` (m,)
    is added to them. Then `ridge` of the result and `rounding` of the diagonal of F are added.
    """
    intercepts, features = centres.shape
    m = intercepts + features
    for begin in range(0, m, _TILE):
        for first in range(0, begin + 1, _TILE):
            for j in range(begin, min(begin + _TILE, m)):
                for k in range(first, min(first + _TILE, j + 1)):
                    value = lower[j, k] if k >= features or j < features else 0.0
                    if j == k:
                        value = max(value, least[j]) + penalty[j]
                    for f in range(intercepts if j < features else 0):
                        value -= lower[features + f, j] * centres[f, k]
                    out[j, k] = out[k, j] = value
    for j in range(m):
        out[j, j] = max(out[j, j], 0.0) * (1.0 + ridge) + rounding * lower[j, j]
        if out[j, j] == 0.0:
            out[j, j] = 1.0


@kernel
def learn(matrix, product, change, inner, curved):
    """matrix += y y' / s.y - B s s'B / s.B s: BFGS, with B = matrix.

    product = B s, change = y, inner = s.y, curved = s.B s.
    """
    for j in range(len(product)):
        own, other = change[j] / inner, product[j] / curved
        for k in range(len(product)):
            matrix[j, k] += own * change[k] - other * product[k]
