"""Which search solves a problem."""

import numpy as np

from shmps.linear.full_gradient.problem import Problem, Search
from shmps.linear.full_gradient.proximal import ProximalSearch
from shmps.linear.full_gradient.smooth import SmoothSearch


def search_for(problem: Problem, start: np.ndarray, tolerance: float, near: bool = False) -> Search:
    """Return the search for the minimum from the weights `start` (features, classes).

    near: whether they come from the minimum of a similar problem.
    """
    if problem.l1 > 0:
        return ProximalSearch(problem, start, tolerance)
    return SmoothSearch(problem, start, tolerance, near)
