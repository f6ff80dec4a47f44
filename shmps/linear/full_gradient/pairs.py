"""The memory of L-BFGS: the last steps, and the changes of the gradient along them.

Nocedal, Updating Quasi-Newton Matrices with Limited Storage (Math. Comp. 1980).
"""

import numpy as np

from shmps.linear.full_gradient.curvature import Solve
from shmps.linear.full_gradient.kernels import dots, first_loop, second_loop

MEMORY = 10  # pairs


class Pairs:
    """The last pairs of a step s and a change y, in columns that each have a curvature of their own.

    shape: (n, columns) of the vectors.
    """

    def __init__(self, shape: tuple[int, int]):
        self._steps = np.empty((MEMORY, *shape))
        self._changes = np.empty((MEMORY, *shape))
        self._products = np.empty((MEMORY, shape[1]))
        self._factors = np.empty((MEMORY, shape[1]))
        self._newest, self._count = -1, 0

    def clear(self) -> None:
        self._count = 0

    def add(self, step: np.ndarray, change: np.ndarray) -> None:
        """Add a pair, in place of the oldest one; not if s.y <= 0, which is rounding error."""
        place = (self._newest + 1) % MEMORY
        product = self._products[place]
        dots(step, change, product)
        if (product > 0).all():
            self._steps[place], self._changes[place] = step, change
            self._newest, self._count = place, min(self._count + 1, MEMORY)

    def times_inverse(self, vector: np.ndarray, solve: Solve) -> np.ndarray:
        """Return the inverse Hessian that the pairs make of `solve`, times `vector`, by two loops.

        `solve` is scaled so that it agrees with the newest pair on average. Nocedal & Wright, Numerical
        Optimization, 2006, algorithm 7.4.
        """
        if not self._count:
            return solve(vector)
        arrays = self._steps, self._changes, self._products, self._newest, self._count
        result = vector.copy()
        first_loop(*arrays, result, self._factors)
        result = solve(result)
        change, curved = self._changes[self._newest], np.empty(vector.shape[1])
        dots(change, solve(change), curved)
        result *= np.where(curved > 0, self._products[self._newest] / np.where(curved > 0, curved, 1.0), 1.0)
        second_loop(*arrays, result, self._factors)
        return result
