"""The updater of dist-lr, the ps-lite example behind the published sync/async table, unchanged.

Sync applies the gradient of the worker whose push arrives last, divided by the number of workers. Async
applies every push at the full learning rate. So a tick of async moves about workers**2 times as far as a tick
of sync, and the two differ in more than synchrony; under `SGD` they can be compared. There is one difference
to the original, whose workers push the penalty with the gradient, computed from the weights that they pulled:
here the servers apply the penalty to their weights.
"""

import numpy as np

from shmps.ps.updater import Push, Step
from shmps.updaters.descent import SGD


class DistLR(SGD):
    """w -= rate * (gradient + l2 * w); a held tick applies only the last push to arrive, at rate / workers.

    Weights start at `c_random(n)`, whatever the initial values of the cluster are. In the original, l2 is 1
    divided by the rows of a shard.
    """

    def start(self, values: np.ndarray, state: np.ndarray) -> None:
        values[:] = c_random(values.size).reshape(values.shape)

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        last = max(pushes, key=lambda push: push.arrival)
        return last.keys, last.values

    def rate(self, step: Step) -> float:
        return super().rate(step) / step.pushes


def c_random(count: int) -> np.ndarray:  # -> (count,) in [0, 1]
    """Return `rand() / RAND_MAX` of the GNU C library after srand(0): r[i] = r[i - 3] + r[i - 31] mod 2**32.

    The first 31 numbers come from a multiplicative generator (Park & Miller, CACM 1988). The next 310 are
    dropped, and so is the lowest bit of each number (glibc, stdlib/random_r.c).
    """
    numbers = [1]  # srand takes the seed 0 as 1
    for _ in range(30):
        numbers.append(16807 * numbers[-1] % 0x7FFFFFFF)
    numbers += numbers[:3]
    while len(numbers) < 344 + count:
        numbers.append((numbers[-3] + numbers[-31]) % 2**32)
    return np.array([number >> 1 for number in numbers[344:]]) / 0x7FFFFFFF
