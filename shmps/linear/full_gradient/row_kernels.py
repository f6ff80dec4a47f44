"""Numba kernels of a quadratic model that reads the rows: coordinate descent, conjugate gradients.

The entries lie by columns: column j has the rows rows[starts[j]:starts[j + 1]] and their values. A weight's
key is feature * classes + class. D = curvatures (classes, rows). The model's matrix for the weights with
`keys` (m,) is, for two weights of the same class,

    B_jk = sum_i D_i x_ij x_ik - m_j m_k / M + [j = k] ridge_j,   m_j = sum_i D_i x_ij = means (m,)

and 0 for others. M = masses (classes,) is sum_i D_i with intercepts, which keep to the minimum; else it is
infinite. For d (m,), moved (classes, rows) is D X d, and totals (classes,) is m' d.
"""

import math

import numpy as np

from shmps.linear.full_gradient.model_kernels import soft_threshold
from shmps.system.compiling import at, compiled, kernel


@kernel
def by_column(indptr, indices, data, first, ends, rows, values):
    """Write the entries of rows, numbered from `first`, to `rows` and `values` (non-zeros,).

    ends (features,): the next place of each column, which grows with each entry.
    """
    for i in range(len(indptr) - 1):
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            j = at(indices[p])
            rows[at(ends[j])], values[at(ends[j])] = first + i, data[p]
            ends[j] += 1


@kernel
def row_curvatures(starts, rows, values, weights, intercept, importance, total, out):
    """Set `out` (classes, rows) to s p (1 - p) / total, p = 1 / (1 + exp(-x.w)), s = importance (None: 1)."""
    for c in range(len(out)):
        own = out[c]
        own[:] = weights[-1, c] if intercept else 0.0
        for j in range(len(starts) - 1):
            weight = weights[j, c]
            if weight != 0.0:
                for p in range(at(starts[j]), at(starts[j + 1])):
                    own[at(rows[p])] += weight * values[p]
        for i in range(len(own)):
            share = 1.0 / total if importance is None else importance[i] / total
            power = math.exp(-abs(own[i]))
            own[i] = share * power / (1.0 + power) ** 2


@kernel
def moments(starts, rows, values, keys, curvatures, squares, means):
    """Set squares and means (m,) to sum_i D_i x_ij^2 and sum_i D_i x_ij."""
    classes = len(curvatures)
    for a in range(len(keys)):
        j, own = keys[a] // classes, curvatures[keys[a] % classes]
        square = mean = 0.0
        for p in range(at(starts[j]), at(starts[j + 1])):
            part = own[at(rows[p])] * values[p]
            mean += part
            square += part * values[p]
        squares[a], means[a] = square, mean


@kernel
def descend(
    starts, rows, values, keys, curvatures, means, masses, ridge, diagonal,
    slopes, first, weights, thresholds, moved, totals, share, best, most,
):  # fmt: skip
    """Like `model_kernels.descend`, for d = weights - first (m,). diagonal (m,): that of the matrix.

    Keeps `moved` and `totals`, and leaves `slopes` (m,), those at `first`, alone. Returns the decrease, the
    best sweep's, and whether it ended by itself.
    """
    total, every, classes = 0.0, True, len(curvatures)
    for _ in range(most):
        decrease = 0.0
        for a in range(len(keys)):
            old, threshold = weights[a], thresholds[a]
            if not every and old == 0.0 and threshold > 0.0:
                continue
            j, c = keys[a] // classes, keys[a] % classes
            own, bends = moved[c], curvatures[c]
            begin, end = at(starts[j]), at(starts[j + 1])
            slope = slopes[a] + ridge[a] * (old - first[a]) - means[a] * (totals[c] / masses[c])
            for p in range(begin, end):
                slope += values[p] * own[at(rows[p])]
            curvature = diagonal[a]
            new = soft_threshold(old - slope / curvature, threshold / curvature)
            if new == old:
                continue
            change = new - old
            decrease -= change * (slope + 0.5 * curvature * change) + threshold * (abs(new) - abs(old))
            weights[a] = new
            totals[c] += change * means[a]
            for p in range(begin, end):
                own[at(rows[p])] += change * values[p] * bends[at(rows[p])]
        total += decrease
        best = max(best, decrease)
        small = decrease <= share * best
        if small and every:
            return total, best, True
        every = small
    return total, best, False


@kernel
def move(starts, rows, values, keys, curvatures, means, step, moved, totals):
    """Set `moved` and `totals` to those of a step (m,)."""
    classes = len(curvatures)
    moved[:] = 0.0
    totals[:] = 0.0
    for a in range(len(keys)):
        j, c, change = keys[a] // classes, keys[a] % classes, step[a]
        if change != 0.0:
            own = moved[c]
            totals[c] += change * means[a]
            for p in range(at(starts[j]), at(starts[j + 1])):
                own[at(rows[p])] += change * values[p]
    moved *= curvatures


@kernel
def product(starts, rows, values, keys, curvatures, means, masses, ridge, step, moved, totals, out):
    """out = B step, (m,), from what `move` made of the step."""
    classes = len(curvatures)
    for a in range(len(keys)):
        j, c = keys[a] // classes, keys[a] % classes
        own, total = moved[c], ridge[a] * step[a] - means[a] * (totals[c] / masses[c])
        for p in range(at(starts[j]), at(starts[j + 1])):
            total += values[p] * own[at(rows[p])]
        out[a] = total


@compiled(fastmath={"reassoc"})
def _dot(one, other):
    total = 0.0
    for a in range(len(one)):
        total += one[a] * other[a]
    return total


@kernel
def conjugate(
    starts, rows, values, keys, curvatures, means, masses, ridge, diagonal,
    slopes, moved, totals, gain, most, out,
):  # fmt: skip
    """Set `out` (m,) to about -B^-1 slopes, by conjugate gradients; the diagonal is the preconditioner.

    Ends after `most` products with B, or when the last one gains at most the share `gain` of the mean gain
    (Nash & Sofer, Assessing a Search Direction within a Truncated-Newton Method, Operations Research Letters
    1990). Overwrites `moved` and `totals`.
    """
    residual, turned = -slopes, np.empty(len(slopes))
    scaled = residual / diagonal
    direction, size, gained = scaled.copy(), _dot(residual, scaled), 0.0
    out[:] = 0.0
    for number in range(1, most + 1):
        move(starts, rows, values, keys, curvatures, means, direction, moved, totals)
        product(
            starts, rows, values, keys, curvatures, means, masses, ridge, direction, moved, totals, turned
        )
        curved = _dot(direction, turned)
        if not curved > 0.0:
            break
        length = size / curved
        for a in range(len(out)):
            out[a] += length * direction[a]
            residual[a] -= length * turned[a]
            scaled[a] = residual[a] / diagonal[a]
        gained += length * size
        if number * length * size <= gain * gained:
            break
        before, size = size, _dot(residual, scaled)
        for a in range(len(out)):
            direction[a] = scaled[a] + size / before * direction[a]
