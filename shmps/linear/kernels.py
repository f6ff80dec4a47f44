"""Numba kernels of the training: gradients, margins, curvature. Serial: the processes are the parallelism.

Shapes: `weights` (n,), with more than two classes (n, classes). A CSR block has `indptr` (rows + 1,),
`indices` and `data` (non-zeros,); x_i is row i. `labels` and `importance` are (rows,). With `intercept`, the
last weight belongs to a feature that is 1 in every row and is not stored. Losses are in nats.
"""

import math

import numpy as np

from shmps.system.compiling import at, compiled, kernel

_DIGIT = 11  # bits by which a pass of `localize` sorts: counts of each digit fit into the fastest cache
_LAST_DIGIT = 2**_DIGIT - 1
BLOCK = 256  # rows that are read twice, for margins and for gradients: few enough to stay in the cache


@kernel
def gradient(indptr, indices, data, labels, importance, weights, intercept, total, out):
    """Add the rows' part of the gradient of the mean logistic loss over `total` rows to `out` (n,).

        z_i = y_i x_i . w,  y = labels in {-1, +1},  s = importance (None: 1)
        out += sum_i -s_i y_i / (1 + exp(z_i)) x_i / total

    Returns the rows' part of the mean loss, sum_i s_i log(1 + exp(-z_i)) / total. Pieces that are cut at
    multiples of BLOCK rows give the same bits as all rows at once.

    For each block of rows, compute the margins, then the exponentials, then scatter: each loop stays simple,
    and the second read of the block comes from the cache. If all rows are equally important, one logarithm
    serves a block: the product of its (1 + exp(-|z_i|)) is at most 2**256.
    """
    rows = len(indptr) - 1
    slopes = np.empty(BLOCK)
    bias = weights[-1] if intercept else 0.0
    loss = 0.0
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        for i in range(first, last):
            margin = bias
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                margin += data[p] * weights[at(indices[p])]
            slopes[i - first] = margin
        product = 1.0
        for i in range(first, last):
            z = labels[i] * slopes[i - first]
            e = math.exp(-abs(z))
            slopes[i - first] = -labels[i] * (e if z > 0 else 1.0) / ((1.0 + e) * total)
            if importance is None:  # numba decides this when it compiles
                product *= 1.0 + e
                loss += max(-z, 0.0)
            else:
                loss += importance[i] * (math.log(1.0 + e) + max(-z, 0.0))
                slopes[i - first] *= importance[i]
        loss += math.log(product)
        for i in range(first, last):
            slope = slopes[i - first]
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                out[at(indices[p])] += slope * data[p]
            if intercept:
                out[-1] += slope
    return loss / total


@kernel
def class_gradients(indptr, indices, data, labels, importance, weights, intercept, total, out):
    """Like `gradient`, for one binary problem per class: the class against the rest.

    weights and `out` (n, classes); labels are the classes' numbers from 0. Each column of `out` has the bits
    that `gradient` computes for its problem. Returns the sum of the problems' losses.
    """
    rows, classes = len(indptr) - 1, weights.shape[1]
    slopes, products = np.empty((BLOCK, classes)), np.empty(classes)
    loss = 0.0
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        products[:] = 1.0
        for i in range(first, last):
            slope = slopes[i - first]
            for c in range(classes):
                slope[c] = weights[-1, c] if intercept else 0.0
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                value, row = data[p], weights[at(indices[p])]
                for c in range(classes):
                    slope[c] += value * row[c]
            for c in range(classes):
                sign = 1.0 if labels[i] == c else -1.0
                z = sign * slope[c]
                e = math.exp(-abs(z))
                slope[c] = -sign * (e if z > 0 else 1.0) / ((1.0 + e) * total)
                if importance is None:
                    products[c] *= 1.0 + e
                    loss += max(-z, 0.0)
                else:
                    loss += importance[i] * (math.log(1.0 + e) + max(-z, 0.0))
                    slope[c] *= importance[i]
        for c in range(classes):
            loss += math.log(products[c])
        for i in range(first, last):
            slope = slopes[i - first]
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                value, row = data[p], out[at(indices[p])]
                for c in range(classes):
                    row[c] += value * slope[c]
            if intercept:
                for c in range(classes):
                    out[-1, c] += slope[c]
    return loss / total


@kernel
def margins(indptr, indices, data, weights, intercept, out):
    """out_i = x_i . w, (rows,)."""
    bias = weights[-1] if intercept else 0.0
    for i in range(len(indptr) - 1):
        margin = bias
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            margin += data[p] * weights[at(indices[p])]
        out[i] = margin


@compiled(fastmath={"reassoc"})  # without it, sums are not vectorised: three times as slow
def dot(one, other):
    """Return one . other of vectors (n,). BLAS would wake threads on the cores that the workers need."""
    total = 0.0
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@kernel
def localize(indices, num_keys):
    """Return the sorted unique keys (u,) of `indices` (m,), and local indices (m,) into the keys.

    That is np.unique(indices, return_inverse=True), by a radix sort: two passes for a million keys. An index
    and its position are one number, so that every pass reads memory in sequence.
    """
    m, bits = len(indices), 0
    while m >> bits:
        bits += 1
    pairs, others = np.empty(m, np.int64), np.empty(m, np.int64)
    for p in range(m):
        pairs[p] = np.int64(indices[p]) << bits | p
    starts = np.empty(2**_DIGIT, np.int64)  # where the pairs with each digit go in `others`
    shift = bits
    while (num_keys - 1) >> (shift - bits):
        starts[:] = 0
        for pair in pairs:
            starts[at((pair >> shift) & _LAST_DIGIT)] += 1
        end = 0
        for digit in range(len(starts)):
            end, starts[digit] = end + starts[digit], end
        for pair in pairs:
            own = at((pair >> shift) & _LAST_DIGIT)
            others[at(starts[own])] = pair
            starts[own] += 1
        pairs, others = others, pairs
        shift += _DIGIT
    keys, local = others, np.empty(m, np.int32)
    last = count = -1
    for pair in pairs:
        key = int(pair >> bits)
        count += key != last
        last = keys[at(count)] = key
        local[at(pair & ((1 << bits) - 1))] = count
    return keys[: count + 1].copy(), local


@kernel
def moments(indptr, indices, data, importance, intercept, total, squares, means):
    """Add the rows' part of every feature's mean square and mean over `total` rows.

        squares_j += sum_i s_i x_ij^2 / total,  means_j += sum_i s_i x_ij / total,  s = importance (None: 1)

    squares, means (n,).
    """
    for i in range(len(indptr) - 1):
        share = 1.0 / total if importance is None else importance[i] / total
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            part = share * data[p]
            means[at(indices[p])] += part
            squares[at(indices[p])] += part * data[p]
        if intercept:
            means[-1] += share
            squares[-1] += share


@kernel
def curvature_matrix(indptr, indices, data, importance, intercept, total, stride, out):
    """Add the rows' part of the mean loss's Hessian at w = 0, H = X'SX / (4 total), to `out` (n, n).

    out + out' = H: `out` has every pair of features once, and half of the diagonal. S = diag(importance),
    ones if None. Only every `stride`-th row is read, and counts `stride` times.
    """
    for i in range(0, len(indptr) - 1, stride):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        own = 1.0 if importance is None else importance[i]
        for p in range(begin, end):
            products, value = out[at(indices[p])], 0.25 * own * stride * data[p] / total
            products[at(indices[p])] += 0.5 * value * data[p]
            for q in range(begin, p):
                products[at(indices[q])] += value * data[q]
            if intercept:
                out[-1, at(indices[p])] += value
        if intercept:
            out[-1, -1] += 0.125 * own * stride / total


@kernel
def solve_rank_one(values, diagonal, steep, out):
    """out = (diag(diagonal) + steep steep')^-1 values; values, out (n, width), diagonal, steep (n,).

    Sherman & Morrison, Annals of Mathematical Statistics 1950.
    """
    n, width = values.shape
    along, rest = np.zeros(width), 1.0
    for i in range(n):
        scaled = steep[i] / diagonal[i]
        rest += steep[i] * scaled
        for d in range(width):
            along[d] += scaled * values[i, d]
    for i in range(n):
        for d in range(width):
            out[i, d] = (values[i, d] - steep[i] * along[d] / rest) / diagonal[i]
