"""Numba kernels of full gradients: the curvature of a shard, and the loops of L-BFGS.

Shapes: a shard is CSR: `indptr` (rows + 1,), `indices` and `data` (non-zeros,); x_i is row i. With
`intercept`, the last weight belongs to a feature that is 1 in every row and is not stored. `curvatures`
(rows, classes) are those of `linear.kernels`.
"""

import numpy as np

from shmps.system.compiling import at, compiled, kernel

LONGEST = 2**12  # a longer row costs far more than the branch misses that sorting saves
REFINEMENTS = 6  # of a sampling rate


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
def product(indptr, indices, data, intercept, vector, curvatures, out):
    """Add the Hessian times `vector` to `out`, both (n, classes): out_c += sum_i D_ic z_ic x_i.

    z_ic = x_i . vector_c, D = curvatures (rows, classes). Returns sum_ic D_ic z_ic^2 fall(|z_ic|): how much
    of the curvature along `vector` may be lost on the way there, at most.
    """
    classes, lost = vector.shape[1], 0.0
    if classes == 1:
        return _product_of_one(indptr, indices, data, intercept, vector[:, 0], curvatures[:, 0], out[:, 0])
    inner = np.empty(classes)
    for i in range(len(indptr) - 1):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        for c in range(classes):
            inner[c] = vector[-1, c] if intercept else 0.0
        for p in range(begin, end):
            j, value = at(indices[p]), data[p]
            for c in range(classes):
                inner[c] += value * vector[j, c]
        for c in range(classes):
            change = inner[c]
            inner[c] *= curvatures[i, c]
            lost += inner[c] * change * fall(abs(change))
        _add_outer(begin, end, indices, data, intercept, inner, out)
    return lost


@kernel
def _product_of_one(indptr, indices, data, intercept, vector, curvatures, out):
    """`product` for one class, whose arrays are (n,) and (rows,): a quarter of the time."""
    lost, moved = 0.0, 0.0
    for i in range(len(indptr) - 1):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        change = vector[-1] if intercept else 0.0
        for p in range(begin, end):
            change += data[p] * vector[at(indices[p])]
        slope = curvatures[i] * change
        lost += slope * change * fall(abs(change))
        moved += slope
        for p in range(begin, end):
            out[at(indices[p])] += data[p] * slope
    if intercept:
        out[-1] += moved
    return lost


@kernel
def fall(change):
    """min(t / 2, 1): at least the share of a row's curvature that is lost if its margins change by t >= 0.

    The third derivative of the logistic loss is at most the second. So its slope along a step of t changes by
    1 - exp(-t) times the curvature, at least, where a quadratic has t (Bach, Self-concordant Analysis for
    Logistic Regression, Electronic Journal of Statistics 2010); and 1 - (1 - exp(-t)) / t <= t / 2.
    """
    return min(0.5 * change, 1.0)


@kernel
def softmax_product(indptr, indices, data, intercept, vector, weights, importance, total, out):
    """Like `product`, for softmax at `weights` (n, classes): out_c += sum_i s_i p_ic (z_ic - p_i . z_i) x_i.

    p_i are the probabilities of the classes, s_i the importance divided by `total`.
    """
    classes, lost = vector.shape[1], 0.0
    inner, shares = np.empty(classes), np.empty(classes)
    for i in range(len(indptr) - 1):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        for c in range(classes):
            inner[c] = vector[-1, c] if intercept else 0.0
            shares[c] = weights[-1, c] if intercept else 0.0
        for p in range(begin, end):
            j, value = at(indices[p]), data[p]
            for c in range(classes):
                inner[c] += value * vector[j, c]
                shares[c] += value * weights[j, c]
        shares[:] = np.exp(shares - shares.max())
        shares /= shares.sum()
        mean = 0.0
        for c in range(classes):
            mean += shares[c] * inner[c]
        share = (1.0 if importance is None else importance[i]) / total
        for c in range(classes):
            apart = inner[c] - mean
            inner[c] = share * shares[c] * apart
            lost += inner[c] * apart * fall(abs(apart))
        _add_outer(begin, end, indices, data, intercept, inner, out)
    return lost


@kernel
def _add_outer(begin, end, indices, data, intercept, factors, out):
    """Add a row's values times `factors` (classes,) to `out` (n, classes)."""
    for p in range(begin, end):
        j, value = at(indices[p]), data[p]
        for c in range(len(factors)):
            out[j, c] += value * factors[c]
    if intercept:
        for c in range(len(factors)):
            out[-1, c] += factors[c]


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
