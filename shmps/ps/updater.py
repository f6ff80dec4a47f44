"""The interface of updaters, the rules by which a server applies pushes; the sum of a tick's pushes."""

from typing import NamedTuple

import numpy as np

from shmps.ps.kernels import add_scaled, gather, merge


class Step(NamedTuple):
    """What an updater may use besides keys, values and state."""

    tick: int  # 1, 2, ...: ticks of the worker that pushes, including this one
    age: float  # penalty accrued before this update
    delay: int = 0  # versions between the pull and this update; of a held tick: the longest delay
    pushes: int = 1  # in this update; of a held tick: one per worker


class Push(NamedTuple):
    """The push of one worker in a held tick, as `Updater.reduce` gets it."""

    keys: np.ndarray  # (k,) int64, sorted, unique
    values: np.ndarray  # (k, width), of the cluster's dtype
    rows: float  # the gradient is the mean over so many rows
    arrival: int  # 0 for the first push of the tick that arrived


class Updater:
    """The rule by which a server applies a push. Base class of `shmps.updaters` and of your own rules.

    state_width: float64 numbers of state beside every value, zero at the start.
    unpenalized: the one key without a penalty; -1: none.

    Example::

        class Clipped(Updater):
            def update(self, keys, gradient, values, state, step):
                values -= 0.1 * np.clip(gradient, -1, 1)
    """

    state_width = 0
    unpenalized = -1

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        """Turn `values` (k, width) and `state` (k, width, state_width) into their after-images.

        keys (k,) int64; gradient (k, width). `values` and `state` are copies of what the server stores under
        `keys`. The server commits them before it copies them into place, so that a server that dies in
        between leaves no half-applied update.
        """
        raise NotImplementedError

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        """Reduce the pushes of a held tick, given in rank order, to one: the mean, weighted by their rows."""
        rows = sum(push.rows for push in pushes)
        return total(pushes, [push.rows / rows for push in pushes])

    def start(self, values: np.ndarray, state: np.ndarray) -> None:
        """Set `state` (n, width, state_width) for the initial `values` (n, width)."""

    def penalty(self, step: Step) -> float:
        """Return the amount by which this update raises the server's age, in units of the penalty."""
        return 1.0

    @property
    def lazy(self) -> bool:
        """Whether a stored value may owe a penalty, which `read` applies."""
        return False

    def read(
        self, keys: np.ndarray, weights: np.ndarray, state: np.ndarray, age: float, out: np.ndarray
    ) -> None:
        """Write the values of `keys` (k,) at `age` to `out` (k, width), with no penalty owed.

        weights (n, width), state (n, width, state_width): what is stored, of all keys. Change neither.
        """
        gather(weights, keys, out)


def total(pushes: list[Push], factors: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the union of the pushes' keys and the sum of factor * values.

    Float sums depend on the order. Rank order keeps them identical between runs.
    """
    keys, values = pushes[0].keys, np.multiply(pushes[0].values, factors[0], dtype=np.float64)
    for push, factor in zip(pushes[1:], factors[1:], strict=True):
        if push.keys is keys or np.array_equal(push.keys, keys):
            add_scaled(values, push.values, factor)
        else:
            keys, values = merge(keys, values, push.keys, push.values, factor)
    return keys, values
