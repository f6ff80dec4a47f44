"""How a server applies a push: the interface of updaters, and the sum of a tick's pushes."""

from typing import NamedTuple

import numpy as np

from shmps.ps.kernels import add_scaled, merge


class Step(NamedTuple):
    """What an updater may know of the update it is asked for."""

    tick: int  # 1, 2, ...: ticks of the worker that pushes, this one included
    age: float  # penalty accrued before this update
    delay: int = 0  # versions between its pull and itself; of a held tick: the most of its pushes
    pushes: int = 1  # that it takes in; of a held tick: one per worker


class Push(NamedTuple):
    """One worker's part of a held tick, as `Updater.reduce` gets it."""

    keys: np.ndarray  # (k,) int64, sorted, unique
    values: np.ndarray  # (k, width), of the cluster's dtype
    rows: float  # how many rows the gradient is the mean of
    arrival: int  # 0 for the first of the tick to come


class Updater:
    """How a server applies a push; the base class of the rules below and of your own.

    `state_width` float64 of state are kept beside every value, zero at the start.
    """

    state_width = 0
    unpenalized = -1  # the one key without a penalty; -1: none

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        """Turn `values` (k, width) and `state` (k, width, state_width) into their after-images.

        They are copies of what is stored under `keys` (k,): the server commits them before it copies them
        into place, so that a server that dies in between leaves no half-applied update.
        """
        raise NotImplementedError

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        """One push out of a held tick's, given in rank order: the mean, weighted by their rows."""
        rows = sum(push.rows for push in pushes)
        return total(pushes, [push.rows / rows for push in pushes])

    def start(self, values: np.ndarray, state: np.ndarray) -> None:
        """Make `state` (n, width, state_width) fit the initial `values` (n, width)."""

    def penalty(self, step: Step) -> float:
        """By how much this update's penalty raises the server's age."""
        return 1.0

    @property
    def lazy(self) -> bool:
        """Whether what is stored is not yet what it is worth: a penalty may be owed."""
        return False

    def catch_up(self, keys: np.ndarray, values: np.ndarray, state: np.ndarray, age: float) -> None:
        """Apply to `values` the penalty that they owe at `age`."""


def total(pushes: list[Push], factors: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The union of the pushes' keys and the sum of factor * values.

    Summed in the order given: float sums depend on it, and rank order keeps them the same in every run.
    """
    keys, values = pushes[0].keys, np.multiply(pushes[0].values, factors[0], dtype=np.float64)
    for push, factor in zip(pushes[1:], factors[1:], strict=True):
        if push.keys is keys or np.array_equal(push.keys, keys):
            add_scaled(values, push.values, factor)
        else:
            keys, values = merge(keys, values, push.keys, push.values, factor)
    return keys, values
