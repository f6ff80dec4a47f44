"""What the models of the L1 search have in common: quadratic models of loss and L2 penalty around a point."""

from typing import NamedTuple, Protocol

import numpy as np

from shmps.linear.full_gradient.problem import Point


class Task(NamedTuple):
    """Minimise g'd + stiffness d'(B + diag(damping)) d / 2 + sum(thresholds |w + d|) over d.

    g, w: gradient and weights of `point`. thresholds, damping (features, classes). The descent ends when a
    sweep decreases that by at most `enough`, or by the share `accuracy` of the best sweep.
    """

    point: Point
    thresholds: np.ndarray
    damping: np.ndarray
    stiffness: float
    accuracy: float
    enough: float


class Model(Protocol):
    """A matrix B for some of the weights; the other weights keep their values."""

    keys: np.ndarray  # (m,): feature * classes + class of the weights that move; they increase

    def minimum(self, task: Task) -> tuple[np.ndarray, float]:
        """Return the weights (features, classes) at the minimum, and the decrease."""
        ...

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Take in how the gradient changed along a step, both (features, classes)."""
        ...
