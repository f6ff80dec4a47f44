"""Updaters without a rule of descent: `Add` sums what is pushed, `Replace` keeps the last tick's sum."""

import numpy as np

from shmps.ps.kernels import add_scaled
from shmps.ps.updater import Push, Step, Updater, total


class Add(Updater):
    """values += push: counters, sums, weights that are set by hand. A held tick is summed."""

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        add_scaled(values, gradient, 1.0)

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        return total(pushes, [1.0] * len(pushes))


class Replace(Add):
    """values = push: what is read is the last tick's sum, an all-reduce."""

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        values[:] = gradient
