"""Where a step of non-zero weights may end, if those whose sign would change become 0 and stay there."""

from collections.abc import Iterator

import numpy as np

_SHARES = 0, 1 / 4, 1 / 2, 1  # of the weights that become 0 along the step


def ends_of(old: np.ndarray, step: np.ndarray, thresholds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield changes (m,) of the weights `old` along `step`: the whole step at last, and parts of it before.

    thresholds (m,): weights without an L1 penalty may change their sign.
    """
    until = np.full(len(old), np.inf)  # the shares of the step at which weights become 0
    crossing = (thresholds > 0) & (old * step < 0)
    until[crossing] = -old[crossing] / step[crossing]
    turns = np.sort(until[until <= 1.0])
    places = {turns[int(share * (len(turns) - 1))] for share in _SHARES} if len(turns) else set()
    for place in sorted({*places, 1.0}):
        yield np.where(until <= place, -old, place * step)
