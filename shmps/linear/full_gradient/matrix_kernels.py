"""Numba kernels of small dense matrices, on one thread.

BLAS would start threads, whose meetings take many times as long as the work where the cores are busy. And its
bits depend on their number.
"""

import math

from shmps.system.compiling import compiled

_TOGETHER = 4  # rows that `factorise` computes at once

_kernel = compiled(error_model="numpy", fastmath={"reassoc", "contract"})  # sums are vectorised


@_kernel
def factorise(matrix):
    """Turn the lower triangle of a symmetric `matrix` (n, n) into its Cholesky factor L, in place.

    The diagonal gets 1 / L_jj. Returns whether the matrix is positive definite; if not, it is spoilt. A row
    that is read serves _TOGETHER others: reading it takes longer than the products.
    """
    for first in range(0, len(matrix), _TOGETHER):
        whole = first + _TOGETHER <= len(matrix)
        if whole:
            a, b, c, d = matrix[first], matrix[first + 1], matrix[first + 2], matrix[first + 3]
            for j in range(first):
                other = matrix[j]
                in_a, in_b, in_c, in_d = a[j], b[j], c[j], d[j]
                for k in range(j):
                    value = other[k]
                    in_a -= a[k] * value
                    in_b -= b[k] * value
                    in_c -= c[k] * value
                    in_d -= d[k] * value
                scale = other[j]
                a[j], b[j], c[j], d[j] = in_a * scale, in_b * scale, in_c * scale, in_d * scale
        for i in range(first, min(first + _TOGETHER, len(matrix))):
            own = matrix[i]
            for j in range(first if whole else 0, i + 1):
                other = matrix[j]
                total = own[j]
                for k in range(j):
                    total -= own[k] * other[k]
                if j < i:
                    own[j] = total * other[j]
                elif not 0.0 < total < math.inf:
                    return False
                else:
                    own[i] = 1.0 / math.sqrt(total)
    return True


@_kernel
def solve(factor, values):
    """Replace values (n,) by A^-1 values; `factor` is what `factorise` made of A."""
    for i in range(len(values)):
        own, total = factor[i], values[i]
        for k in range(i):
            total -= own[k] * values[k]
        values[i] = total * own[i]
    for i in range(len(values) - 1, -1, -1):
        own = factor[i]
        value = values[i] = values[i] * own[i]
        for k in range(i):
            values[k] -= value * own[k]


@_kernel
def times(matrix, vector, out):
    """out = matrix vector, for matrix (m, n)."""
    for i in range(len(matrix)):
        own, total = matrix[i], 0.0
        for k in range(len(vector)):
            total += own[k] * vector[k]
        out[i] = total


@_kernel
def add_rows(matrix, numbers, factors, out):
    """out += sum_i factors_i matrix[numbers_i], for numbers and factors (m,), and out (n,)."""
    for i in range(len(numbers)):
        row, factor = matrix[numbers[i]], factors[i]
        for k in range(len(out)):
            out[k] += factor * row[k]
