"""Updaters that are no gradient descent: `Add` sums the pushes, `Replace` keeps the sum of the last tick."""

import numpy as np

from shmps.ps.kernels import add_scaled
from shmps.ps.updater import Push, Step, Updater, total


class Add(Updater):
    """values += push, for counters and sums. The pushes of a held tick are summed."""

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        add_scaled(values, gradient, 1.0)

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        return total(pushes, [1.0] * len(pushes))


class Replace(Add):
    """values = push. A pull returns the sum of the last tick: an all-reduce."""

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        values[:] = gradient
