"""Numba kernels of the training: gradients, margins, keys. Serial: the processes are the parallelism.

Shapes: `weights` (n,), with more than two classes (n, classes). A CSR block has `indptr` (rows + 1,),
`indices` and `data` (non-zeros,); x_i is row i. `labels` and `importance` are (rows,). With `intercept`, the
last weight belongs to a feature that is 1 in every row and is not stored. `total` is the number of rows that
the mean is over. Losses are in nats.

`curvatures` (rows,), with classes (rows, classes), is the second derivative of the row's part of the mean
loss with respect to its margin: s_i p_i (1 - p_i) / total, s = importance (None: 1).
"""

import math

import numpy as np

from shmps.linear.exponential import exponentials
from shmps.system.compiling import at, kernel

_DIGIT = 11  # bits by which a pass of `localize` sorts: counts of each digit fit into the fastest cache
_LAST_DIGIT = 2**_DIGIT - 1
BLOCK = 256  # rows that are read twice, for margins and for gradients: few enough to stay in the cache


@kernel
def gradient(indptr, indices, data, labels, importance, weights, intercept, total, out, curvatures):
    """Add the rows' part of the gradient of the mean logistic loss to `out` (n,), and set `curvatures`.

        z_i = y_i x_i . w,  y = labels in {-1, +1},  s = importance (None: 1)
        out += sum_i -s_i y_i / (1 + exp(z_i)) x_i / total

    Returns the rows' part of the mean loss, sum_i s_i log(1 + exp(-z_i)) / total. Pieces that are cut at
    multiples of BLOCK rows give the same bits as all rows at once.

    For each block of rows, compute the margins, then the exponentials, then scatter: each loop stays simple,
    and the second read of the block comes from the cache. If all rows are equally important, one logarithm
    serves a block: the product of its (1 + exp(-|z_i|)) is at most 2**256.
    """
    rows = len(indptr) - 1
    slopes, powers, scratch = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    bias, scale = weights[-1] if intercept else 0.0, 1.0 / total
    loss = 0.0
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        for i in range(first, last):
            margin = bias
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                margin += data[p] * weights[at(indices[p])]
            slopes[i - first] = labels[i] * margin
        count = last - first
        exponentials(slopes[:count], powers[:count], scratch[:count])
        product = 1.0
        for i in range(count):
            if importance is None:  # numba decides this when it compiles
                product *= 1.0 + powers[i]
                loss += max(-slopes[i], 0.0)
            else:
                loss += importance[first + i] * (math.log(1.0 + powers[i]) + max(-slopes[i], 0.0))
        loss += math.log(product)
        signs, bends = labels[first:last], curvatures[first:last]
        for i in range(count):
            p = scale / (1.0 + powers[i])
            bends[i] = powers[i] / (1.0 + powers[i]) * p
            slopes[i] = -signs[i] * (powers[i] if slopes[i] > 0 else 1.0) * p
        if importance is not None:
            shares = importance[first:last]
            for i in range(count):
                bends[i] *= shares[i]
                slopes[i] *= shares[i]
        for i in range(first, last):
            slope = slopes[i - first]
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                out[at(indices[p])] += slope * data[p]
            if intercept:
                out[-1] += slope
    return loss / total


@kernel
def class_gradients(indptr, indices, data, labels, importance, weights, intercept, total, out, curvatures):
    """Like `gradient`, for one binary problem per class: the class against the rest.

    weights, `out` (n, classes); labels are the classes' numbers from 0; curvatures (rows, classes). Each
    column of `out` has the bits that `gradient` computes for its problem. Return the sum of the losses.
    """
    rows, classes = len(indptr) - 1, weights.shape[1]
    slopes, powers = np.empty((BLOCK, classes)), np.empty((BLOCK, classes))
    scratch, products = np.empty(BLOCK * classes), np.empty(classes)
    scale, loss = 1.0 / total, 0.0
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        _class_margins(indptr, indices, data, first, last, weights, intercept, slopes)
        for i in range(first, last):
            for c in range(classes):
                slopes[i - first, c] *= 1.0 if labels[i] == c else -1.0
        count = (last - first) * classes
        exponentials(slopes.ravel()[:count], powers.ravel()[:count], scratch[:count])
        products[:] = 1.0
        for i in range(first, last):
            slope, power, share = slopes[i - first], powers[i - first], 1.0
            if importance is not None:
                share = importance[i]
            for c in range(classes):
                z, e = slope[c], power[c]
                if importance is None:
                    products[c] *= 1.0 + e
                    loss += max(-z, 0.0)
                else:
                    loss += share * (math.log(1.0 + e) + max(-z, 0.0))
                p = scale / (1.0 + e)
                sign = 1.0 if labels[i] == c else -1.0
                curvatures[i, c] = e / (1.0 + e) * p * share
                slope[c] = -sign * (e if z > 0 else 1.0) * p * share
        for c in range(classes):
            loss += math.log(products[c])
        _scatter_classes(indptr, indices, data, first, last, slopes, intercept, out)
    return loss / total


@kernel
def softmax_gradients(indptr, indices, data, labels, importance, weights, intercept, total, out, curvatures):
    """Like `class_gradients`, for the multinomial logistic loss.

    p_ic = exp(x_i . w_c) / sum_d exp(x_i . w_d),  loss_i = -s_i log p_i,y_i,  p_i in `curvatures` is p_ic
    """
    rows, classes = len(indptr) - 1, weights.shape[1]
    slopes, powers = np.empty((BLOCK, classes)), np.empty((BLOCK, classes))
    scratch = np.empty(BLOCK * classes)
    loss = 0.0
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        _class_margins(indptr, indices, data, first, last, weights, intercept, slopes)
        for i in range(first, last):
            slope = slopes[i - first]
            highest = slope[0]
            for c in range(1, classes):
                highest = max(highest, slope[c])
            for c in range(classes):
                slope[c] -= highest
        count = (last - first) * classes
        exponentials(slopes.ravel()[:count], powers.ravel()[:count], scratch[:count])
        for i in range(first, last):
            slope, power, own = slopes[i - first], powers[i - first], int(labels[i])
            share = (1.0 if importance is None else importance[i]) / total
            others = 0.0
            for c in range(classes):
                others += power[c] if c != own else 0.0
            mass = others + power[own]
            loss += share * (math.log(mass) - slope[own])
            for c in range(classes):
                p = power[c] / mass
                rest = others / mass if c == own else 1.0 - p  # without cancellation where p is near 1
                curvatures[i, c] = share * p * rest
                slope[c] = -share * rest if c == own else share * p
        _scatter_classes(indptr, indices, data, first, last, slopes, intercept, out)
    return loss


@kernel
def _class_margins(indptr, indices, data, first, last, weights, intercept, out):
    """out[i - first] = x_i W of the rows first to last - 1, (some, classes), from weights (n, classes)."""
    classes = weights.shape[1]
    for i in range(first, last):
        margins = out[i - first]
        for c in range(classes):
            margins[c] = weights[-1, c] if intercept else 0.0
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            value, row = data[p], weights[at(indices[p])]
            for c in range(classes):
                margins[c] += value * row[c]


@kernel
def _scatter_classes(indptr, indices, data, first, last, slopes, intercept, out):
    """out += sum_i x_i slopes[i - first]' of the rows first to last - 1."""
    classes = out.shape[1]
    for i in range(first, last):
        slope = slopes[i - first]
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            value, row = data[p], out[at(indices[p])]
            for c in range(classes):
                row[c] += value * slope[c]
        if intercept:
            for c in range(classes):
                out[-1, c] += slope[c]


@kernel
def margins(indptr, indices, data, weights, intercept, out):
    """out_i = x_i . w, (rows,)."""
    bias = weights[-1] if intercept else 0.0
    for i in range(len(indptr) - 1):
        margin = bias
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            margin += data[p] * weights[at(indices[p])]
        out[i] = margin


@kernel
def class_margins(indptr, indices, data, weights, intercept, out):
    """out_ci = x_i . w_c, (classes, rows), from weights (n, classes)."""
    rows, classes = len(indptr) - 1, weights.shape[1]
    block = np.empty((BLOCK, classes))
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        _class_margins(indptr, indices, data, first, last, weights, intercept, block)
        for c in range(classes):
            for i in range(first, last):
                out[c, i] = block[i - first, c]


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
