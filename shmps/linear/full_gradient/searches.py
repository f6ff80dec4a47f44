"""Which search solves a problem."""

import numpy as np

from shmps.linear.full_gradient.problem import Problem, Search
from shmps.linear.full_gradient.proximal import ProximalSearch
from shmps.linear.full_gradient.smooth import SmoothSearch
from shmps.linear.full_gradient.transposed import Transposed


def search_for(
    problem: Problem, start: np.ndarray, tolerance: float, rows: Transposed | None = None
) -> Search:
    """Return the search for the minimum from the weights `start` (features, classes).

    rows: what `transposed` returns.
    """
    if problem.l1 > 0:
        return ProximalSearch(problem, start, tolerance, rows)
    return SmoothSearch(problem, start, tolerance)
