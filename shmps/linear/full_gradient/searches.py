"""Which search solves a problem."""

import numpy as np

from shmps.linear.full_gradient.problem import Problem, Search
from shmps.linear.full_gradient.proximal import ProximalSearch
from shmps.linear.full_gradient.smooth import SmoothSearch


def search_for(problem: Problem, start: np.ndarray, tolerance: float) -> Search:
    """Return the search for the minimum from the weights `start` (features, classes)."""
    return (ProximalSearch if problem.l1 > 0 else SmoothSearch)(problem, start, tolerance)
