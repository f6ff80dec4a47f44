"""Numba kernels of dual coordinate ascent: each row in turn moves the weights to where they suit it.

    min_w  strength/2 |w|^2 + sum_i s_i log(1 + exp(-y_i x_i.w))

The dual has a variable a_i in (0, 1) per row, the probability of the wrong class, and
w = sum_i a_i s_i y_i x_i / strength. Shalev-Shwartz & Zhang, Stochastic Dual Coordinate Ascent Methods (JMLR
2013); Yu, Huang & Lin, Dual Coordinate Descent Methods for Logistic Regression (Machine Learning 2011).
"""

import math

from shmps.system.compiling import at, kernel

_ACCURATE = 0.3  # of a margin: the next pass moves it again
_MOST_STEPS = 20  # of Newton's method


@kernel
def ascend(indptr, indices, data, labels, importance, intercept, strength, first, stride, weights, duals):
    """Visit the rows first, first + stride, first + 2 stride, ..., modulo their number: each of them once.

    weights (n,) and duals (rows,) are changed in place. labels: -1 and +1. The intercept has a penalty here.
    """
    i = first
    for _ in range(len(labels)):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        margin, square = (weights[-1], 1.0) if intercept else (0.0, 0.0)
        for p in range(begin, end):
            margin += data[p] * weights[at(indices[p])]
            square += data[p] * data[p]
        share = labels[i] / strength
        if importance is not None:
            share *= importance[i]
        pull = abs(share) * square
        if pull > 0.0:
            dual = _best(labels[i] * margin, pull, duals[i])
            change = (dual - duals[i]) * share
            duals[i] = dual
            for p in range(begin, end):
                weights[at(indices[p])] += change * data[p]
            if intercept:
                weights[-1] += change
        i += stride
        if i >= len(labels):
            i -= len(labels)


@kernel
def _best(margin, pull, dual):
    """Return the a in (0, 1) at which a = 1 / (1 + exp(z)), about, where z = margin + pull (a - dual).

    Newton's method for z. It converges from 0, where the slope of a is steepest, and stops there on its way
    to the other side.
    """
    z, wrong = margin, 0.0
    for _ in range(_MOST_STEPS):
        e = math.exp(-abs(z))
        wrong = (e if z > 0 else 1.0) / (1.0 + e)
        apart, slope = z - margin - pull * (wrong - dual), 1.0 + pull * wrong * (1.0 - wrong)
        before, z = z, z - apart / slope
        if before * z < 0.0:
            z = 0.0
        elif abs(apart) <= _ACCURATE * slope:
            break
    along = dual + (z - margin) / pull
    return along if 0.0 < along < 1.0 else wrong
