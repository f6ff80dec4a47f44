"""Numba kernels of full gradients: loss, gradient and curvature of a shard.

Shapes: a shard is CSR: `indptr` (rows + 1,), `indices` and `data` (non-zeros,); x_i is row i. `labels` and
`importance` are (rows,). With `intercept`, the last weight belongs to a feature that is 1 in every row and is
not stored. `total` is the number of rows of the training, which the mean is over. Losses are in nats.

`curvatures` (rows,), with classes (rows, classes), is the second derivative of the row's part of the mean
loss with respect to its margin: s_i p_i (1 - p_i) / total.
"""

import math

import numpy as np

from shmps.system.compiling import at, compiled, kernel

BLOCK = 256  # rows that are read twice, for margins and for gradients: few enough to stay in the cache
LONGEST = 2**12  # a longer row costs far more than the branch misses that sorting saves
REFINEMENTS = 6  # of a sampling rate


@kernel
def binary(indptr, indices, data, labels, importance, weights, intercept, total, gradient, curvatures):
    """Add the rows' part of the gradient of the mean logistic loss to `gradient` (n,); set `curvatures`.

        z_i = y_i x_i . w,  y = labels in {-1, +1},  s = importance (None: 1),  p_i = 1 / (1 + exp(z_i))
        gradient += sum_i -s_i y_i p_i x_i / total

    Return the rows' part of the mean loss, sum_i s_i log(1 + exp(-z_i)) / total.

    For each block of rows, compute the margins, then the exponentials, then scatter: each loop stays simple,
    and the second read of the block comes from the cache. If all rows are equally important, one logarithm
    serves a block: the product of its (1 + exp(-|z_i|)) is at most 2**256.
    """
    slopes = np.empty(BLOCK)
    bias = weights[-1] if intercept else 0.0
    loss = 0.0
    rows = len(indptr) - 1
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
            share = 1.0 / total if importance is None else importance[i] / total
            slopes[i - first] = -share * labels[i] * (e if z > 0 else 1.0) / (1.0 + e)
            curvatures[i] = share * e / ((1.0 + e) * (1.0 + e))
            if importance is None:  # numba decides this when it compiles
                product *= 1.0 + e
                loss += max(-z, 0.0)
            else:
                loss += importance[i] * (math.log1p(e) + max(-z, 0.0))
        loss += math.log(product)
        for i in range(first, last):
            slope = slopes[i - first]
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                gradient[at(indices[p])] += slope * data[p]
            if intercept:
                gradient[-1] += slope
    return loss / total


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
def _scatter_classes(indptr, indices, data, first, last, slopes, intercept, gradient):
    """gradient += sum_i x_i slopes[i - first]' of the rows first to last - 1."""
    classes = gradient.shape[1]
    for i in range(first, last):
        slope = slopes[i - first]
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            value, row = data[p], gradient[at(indices[p])]
            for c in range(classes):
                row[c] += value * slope[c]
        if intercept:
            for c in range(classes):
                gradient[-1, c] += slope[c]


@kernel
def one_against_rest(
    indptr, indices, data, labels, importance, weights, intercept, total, gradient, curvatures
):
    """Like `binary`, for one binary problem per class: the class against the rest.

    weights, gradient (n, classes); labels are the classes' numbers from 0; curvatures (rows, classes). Return
    the sum of the problems' losses.
    """
    classes = weights.shape[1]
    slopes = np.empty((BLOCK, classes))
    loss = 0.0
    rows = len(indptr) - 1
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        _class_margins(indptr, indices, data, first, last, weights, intercept, slopes)
        for i in range(first, last):
            slope = slopes[i - first]
            share = 1.0 / total if importance is None else importance[i] / total
            for c in range(classes):
                sign = 1.0 if labels[i] == c else -1.0
                z = sign * slope[c]
                e = math.exp(-abs(z))
                loss += share * (math.log1p(e) + max(-z, 0.0))
                slope[c] = -share * sign * (e if z > 0 else 1.0) / (1.0 + e)
                curvatures[i, c] = share * e / ((1.0 + e) * (1.0 + e))
        _scatter_classes(indptr, indices, data, first, last, slopes, intercept, gradient)
    return loss


@kernel
def softmax(indptr, indices, data, labels, importance, weights, intercept, total, gradient, curvatures):
    """Like `one_against_rest`, for the multinomial logistic loss.

    p_ic = exp(x_i . w_c) / sum_d exp(x_i . w_d),  loss_i = -log p_i,y_i,  curvature_ic = p_ic (1 - p_ic)
    """
    classes = weights.shape[1]
    slopes = np.empty((BLOCK, classes))
    loss = 0.0
    rows = len(indptr) - 1
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        _class_margins(indptr, indices, data, first, last, weights, intercept, slopes)
        for i in range(first, last):
            slope = slopes[i - first]
            own = int(labels[i])
            share = 1.0 / total if importance is None else importance[i] / total
            highest = slope[0]
            for c in range(1, classes):
                highest = max(highest, slope[c])
            below, others = highest - slope[own], 0.0
            for c in range(classes):
                slope[c] = math.exp(slope[c] - highest)
                others += slope[c] if c != own else 0.0
            mass = others + slope[own]
            loss += share * (below + math.log(mass))
            for c in range(classes):
                p = slope[c] / mass
                rest = others / mass if c == own else 1.0 - p  # without cancellation where p is near 1
                curvatures[i, c] = share * p * rest
                slope[c] = -share * rest if c == own else share * p
        _scatter_classes(indptr, indices, data, first, last, slopes, intercept, gradient)
    return loss


@kernel
def moments(indptr, indices, data, curvatures, intercept, squares, means):
    """Add the sums of curvature times feature squared, and times feature, to squares and means (n, classes).

    squares_jc += sum_i D_ic x_ij^2,  means_jc += sum_i D_ic x_ij,  D = curvatures (rows, classes)
    """
    classes = curvatures.shape[1]
    for i in range(len(indptr) - 1):
        curvature = curvatures[i]
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            j, value = at(indices[p]), data[p]
            for c in range(classes):
                part = value * curvature[c]
                means[j, c] += part
                squares[j, c] += value * part
        if intercept:
            for c in range(classes):
                means[-1, c] += curvature[c]
                squares[-1, c] += curvature[c]


@kernel
def sampled_hessian(indptr, indices, data, curvatures, intercept, rates, draws, half, squares):
    """Add an unbiased sample of the Hessian of the mean loss, a block per class, to `half` (classes, n, n).

    Class c reads row i if draws[i] < q = min(1, rates[c] D_ic), D = curvatures (rows, classes), and weights
    it by D_ic / q. half + half' = H: `half` has every pair of features once, and half of the diagonal. Add
    the exact diagonal to `squares` (n, classes).
    """
    for c in range(curvatures.shape[1]):
        own, rate = half[c], rates[c]
        for i in range(len(indptr) - 1):
            curvature = curvatures[i, c]
            begin, end = at(indptr[i]), at(indptr[i + 1])
            for p in range(begin, end):
                squares[at(indices[p]), c] += curvature * data[p] * data[p]
            if intercept:
                squares[-1, c] += curvature
            q = min(1.0, rate * curvature)
            if draws[i] >= q:
                continue
            weight = curvature / q
            for p in range(begin, end):
                products, value = own[at(indices[p])], weight * data[p]
                products[at(indices[p])] += 0.5 * value * data[p]
                for r in range(begin, p):
                    products[at(indices[r])] += value * data[r]
                if intercept:
                    own[-1, at(indices[p])] += value
            if intercept:
                own[-1, -1] += 0.5 * weight


@kernel
def draw(seed, first, out):
    """out[i] = a number in [0, 1) that depends on the seed and first + i alone (Steele, SplitMix64, 2014)."""
    for i in range(len(out)):
        h = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(first + i)
        h = (h + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xD1342543DE82EF95)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
        out[i] = np.float64(h >> np.uint64(11)) / 9007199254740992.0


@kernel
def sampling_rate(curvatures, products, budget):
    """Return the rate r for which min(1, r D_i), the chance of row i, makes `budget` products on average.

    curvatures, products (rows,): D, and the products of values of each row. inf: all rows are within budget.
    Each step raises the rate as if it changed no row's chance to 1, so it stays below the solution.
    """
    every = weighted = 0.0
    for i in range(len(products)):
        every += products[i]
        weighted += curvatures[i] * products[i]
    if every <= budget or weighted == 0:
        return np.inf
    rate = budget / weighted
    for _ in range(REFINEMENTS):
        expected = 0.0
        for i in range(len(products)):
            expected += min(1.0, rate * curvatures[i]) * products[i]
        if expected >= 0.95 * budget:
            break
        rate *= budget / expected
    return rate


@kernel
def visiting_order(indptr, out):
    """Sort the rows by length, by counting: out (rows,) has their numbers; equal lengths keep their order."""
    longest = LONGEST
    counts = np.zeros(longest + 2, np.int64)
    for i in range(len(out)):
        counts[min(indptr[i + 1] - indptr[i], longest) + 1] += 1
    for length in range(1, longest + 2):
        counts[length] += counts[length - 1]
    for i in range(len(out)):
        length = min(indptr[i + 1] - indptr[i], longest)
        out[counts[length]] = i
        counts[length] += 1


@compiled(fastmath={"reassoc"})  # without it, sums are not vectorised: three times as slow
def dots(one, other, out):
    """out_c = one_c . other_c for each column c of one, other (n, columns)."""
    columns = one.shape[1]
    out[:] = 0.0
    if columns == 1:
        total = 0.0
        for i in range(len(one)):
            total += one[i, 0] * other[i, 0]
        out[0] = total
        return
    for i in range(len(one)):
        for c in range(columns):
            out[c] += one[i, c] * other[i, c]


@kernel
def first_loop(steps, changes, products, newest, count, vector, factors):
    """The first loop of `pairs.Pairs.times_inverse`: from the newest pair to the oldest."""
    memory, n, columns = steps.shape
    for back in range(count):
        k = (newest - back) % memory
        factor = factors[k]
        dots(steps[k], vector, factor)
        for c in range(columns):
            factor[c] /= products[k, c]
        for i in range(n):
            for c in range(columns):
                vector[i, c] -= factor[c] * changes[k, i, c]


@kernel
def second_loop(steps, changes, products, newest, count, vector, factors):
    """The second loop of `pairs.Pairs.times_inverse`: from the oldest pair to the newest."""
    memory, n, columns = steps.shape
    own = np.empty(columns)
    for back in range(count - 1, -1, -1):
        k = (newest - back) % memory
        dots(changes[k], vector, own)
        for c in range(columns):
            own[c] = factors[k, c] - own[c] / products[k, c]
        for i in range(n):
            for c in range(columns):
                vector[i, c] += own[c] * steps[k, i, c]
