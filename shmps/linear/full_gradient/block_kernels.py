"""Numba kernels of a block of the Hessian: second derivatives by some of the weights.

Shapes as in `linear.kernels`. A weight's key is feature * classes + class. places (features, classes) is the
place of each weight in the block, or -1.
"""

import math

import numpy as np

from shmps.system.compiling import at, kernel


@kernel
def curvatures_ahead(curvatures, importance, total, ahead, out):
    """Set `out` to the greatest curvatures within a change of the margins by `ahead`; all (rows, classes).

    A curvature is s p (1 - p) / total, where p / (1 - p) = exp(-|z|) for the probability p <= 1/2. The change
    multiplies the odds by exp(ahead), as far as 1.
    """
    for i in range(len(curvatures)):
        share = 1.0 / total if importance is None else importance[i] / total
        for c in range(curvatures.shape[1]):
            out[i, c] = curvatures[i, c]
            if ahead > 0.0 and share > 0.0:
                own = min(curvatures[i, c] / share, 0.25)
                odds = min(4.0 * own / (1.0 + math.sqrt(1.0 - 4.0 * own)) ** 2 * math.exp(ahead), 1.0)
                out[i, c] = share * odds / (1.0 + odds) ** 2


@kernel
def moments(indptr, indices, data, intercept, places, coupled, curvatures, products, squares, means):
    """Add to squares and means (features, classes), as `kernels.moments` does.

    Set products (rows,) to the number of products of two values of each row that the block needs. coupled:
    values of different classes are multiplied too.
    """
    classes = places.shape[1]
    for i in range(len(indptr) - 1):
        needed = together = 0.0
        for c in range(classes):
            curvature, inside = curvatures[i, c], 0.0
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                j, value = at(indices[p]), data[p]
                part = curvature * value
                means[j, c] += part
                squares[j, c] += value * part
                inside += 1.0 if places[j, c] >= 0 else 0.0
            if intercept:
                means[-1, c] += curvature
                squares[-1, c] += curvature
                inside += 1.0
            needed += inside * (inside + 1.0) / 2.0
            together += inside
        products[i] = together * (together + 1.0) / 2.0 if coupled else needed


@kernel
def binary(indptr, indices, data, intercept, places, curvatures, rate, draws, lower):
    """Add an unbiased sample of the block's lower triangle to `lower` (m, m).

    Row i is read if draws[i] < q = min(1, rate D_i), D = curvatures (rows, 1), and weighted by D_i / q.
    """
    own, values = np.empty(len(lower), np.int64), np.empty(len(lower))
    for i in range(len(indptr) - 1):
        q = min(1.0, rate * curvatures[i, 0])
        if draws[i] >= q:
            continue
        weight, count = curvatures[i, 0] / q, 0
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            place = places[at(indices[p]), 0]
            if place >= 0:
                own[count], values[count] = place, data[p]
                count += 1
        if intercept:
            own[count], values[count] = places[-1, 0], 1.0
            count += 1
        for a in range(count):
            place, value = own[a], weight * values[a]
            row = lower[at(place)]
            for b in range(a + 1):
                if own[b] <= place:  # always, if the row's indices are sorted
                    row[at(own[b])] += value * values[b]
                else:
                    lower[at(own[b]), at(place)] += value * values[b]


@kernel
def classes(
    indptr,
    indices,
    data,
    intercept,
    places,
    curvatures,
    rate,
    draws,
    weights,
    importance,
    total,
    coupled,
    lower,
):
    """Like `binary`, for one-against-rest problems or, `coupled`, for softmax at `weights`.

    The second derivative of a row's loss by the margins of the classes c and d is D_ic if c == d; else 0, or
    for softmax -s_i p_ic p_id / total. q depends on the sum of D_ic over the classes.
    """
    count_classes = places.shape[1]
    own, values = np.empty(len(lower), np.int64), np.empty(len(lower))
    kinds, shares = np.empty(len(lower), np.int64), np.empty(count_classes)
    factors, starts = np.zeros((count_classes, count_classes)), np.zeros(count_classes, np.int64)
    for i in range(len(indptr) - 1):
        q = min(1.0, rate * curvatures[i].sum())
        if draws[i] >= q:
            continue
        if coupled:
            for c in range(count_classes):
                shares[c] = weights[-1, c] if intercept else 0.0
                for p in range(at(indptr[i]), at(indptr[i + 1])):
                    shares[c] += data[p] * weights[at(indices[p]), c]
            shares[:] = np.exp(shares - shares.max())
            shares /= shares.sum()
            share = (1.0 if importance is None else importance[i]) / (total * q)
            for c in range(count_classes):
                for d in range(count_classes):
                    factors[c, d] = -share * shares[c] * shares[d]
        for c in range(count_classes):
            factors[c, c] = curvatures[i, c] / q
        count = 0
        for c in range(count_classes):
            starts[c] = count if not coupled else 0
            for p in range(at(indptr[i]), at(indptr[i + 1])):
                place = places[at(indices[p]), c]
                if place >= 0:
                    own[count], values[count], kinds[count] = place, data[p], c
                    count += 1
            if intercept:
                own[count], values[count], kinds[count] = places[-1, c], 1.0, c
                count += 1
        for a in range(count):
            value, factor = values[a], factors[kinds[a]]
            for b in range(starts[kinds[a]], a + 1):
                product = value * values[b] * factor[kinds[b]]
                lower[at(max(own[a], own[b])), at(min(own[a], own[b]))] += product
