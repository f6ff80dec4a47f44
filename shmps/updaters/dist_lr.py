"""The rules of dist-lr, the ps-lite example behind the published sync/async table, as they are.

Sync applies the gradient of the worker that comes last, divided by the number of workers; async applies every
push at the full learning rate. So a tick of async moves about workers**2 times as far as one of sync, and the
two differ in more than their synchrony: `SGD` is the rule under which they can be compared. One thing is not
the original's: it pushes the penalty with the gradient, computed from the weights that it pulled; here the
servers apply it, to the weights that they have.
"""

import numpy as np

from shmps.ps.updater import Push, Step
from shmps.updaters.descent import SGD


class DistLR(SGD):
    """w -= rate * (gradient + l2 * w); of a held tick the last push to arrive alone, its rate divided by W.

    Weights start at `c_random(n)` whatever the cluster's initial values are. The original's l2 is 1 / rows of
    a shard.
    """

    def start(self, values: np.ndarray, state: np.ndarray) -> None:
        values[:] = c_random(values.size).reshape(values.shape)

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        last = max(pushes, key=lambda push: push.arrival)
        return last.keys, last.values

    def rate(self, step: Step) -> float:
        return super().rate(step) / step.pushes


def c_random(count: int) -> np.ndarray:  # -> (count,) in [0, 1]
    """`rand() / RAND_MAX` of the GNU C library after srand(0): r[i] = r[i - 3] + r[i - 31] modulo 2**32.

    The first 31 numbers come from a multiplicative generator (Park & Miller, CACM 1988), the next 310 are
    thrown away, and of each the lowest bit is dropped (glibc, stdlib/random_r.c).
    """
    numbers = [1]  # the seed 0 is taken as 1
    for _ in range(30):
        numbers.append(16807 * numbers[-1] % 0x7FFFFFFF)
    numbers += numbers[:3]
    while len(numbers) < 344 + count:
        numbers.append((numbers[-3] + numbers[-31]) % 2**32)
    return np.array([number >> 1 for number in numbers[344:]]) / 0x7FFFFFFF
