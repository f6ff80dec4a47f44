"""Server-side rules: how a gradient changes the weights, and how a tick's gradients become one.

Every updater but `Add` minimises the same objective over the N training rows,

    (1/N) sum_i log(1 + exp(-y_i x_i.w))  +  l2/2 |w|^2  +  l1 |w|_1  (L1: FTRL only),

without the key `unpenalized` (the intercept's) in either penalty. A push brings the mean gradient of its
rows; the penalty is applied here and nowhere else, once per update and to every key. For keys that an update
does not name this is put off until the next one that does (or a read): the `age` of a server counts the
penalty since the start, and the difference to the age at which a key was last brought up to date is what it
still owes. Whoever reads gets values with nothing owed.

An own updater derives from `Updater`; see the README.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from shmps.checks import not_negative, positive
from shmps.errors import UsageError
from shmps.kernels import add_scaled, kernel, merge


class Step(NamedTuple):
    """What an updater may know of the update it is asked for."""

    tick: int  # 1, 2, ...: ticks of the worker that pushes, this one included
    age: float  # penalty accrued before this update
    delay: int = 0  # versions between its pull and itself; of a held tick: the most of its pushes
    pushes: int = 1  # that it takes in; of a held tick: one per worker


class Push(NamedTuple):
    """One worker's part of a held tick, as `Updater.reduce` gets it."""

    keys: np.ndarray  # (k,) int64, sorted, unique
    values: np.ndarray  # (k, width)
    rows: float  # how many rows the gradient is the mean of
    arrival: int  # 0 for the first of the tick to come


class Updater:
    """How a server applies a push; the base class of the rules below and of your own.

    `state_width` float64 of state are kept beside every value, zero at the start.
    """

    state_width = 0
    unpenalized = -1  # the one key without a penalty; -1: none

    def update(self, keys, gradient, values, state, step: Step) -> None:
        """Turn `values` (k, width) and `state` (k, width, state_width) into their after-images.

        They are copies of what is stored under `keys` (k,): the server commits them before it copies them
        into place, so that a server that dies in between leaves no half-applied update.
        """
        raise NotImplementedError

    def reduce(self, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray]:
        """One push out of a held tick's, given in rank order: the mean, weighted by their rows."""
        rows = sum(push.rows for push in pushes)
        return total(pushes, [push.rows / rows for push in pushes])

    def start(self, values, state) -> None:
        """Make `state` (n, width, state_width) fit the initial `values` (n, width)."""

    def penalty(self, step: Step) -> float:
        """By how much this update's penalty raises the server's age."""
        return 1.0

    @property
    def lazy(self) -> bool:
        """Whether stored values may owe a penalty."""
        return False

    def catch_up(self, keys, values, state, age: float) -> None:
        """Apply to `values` the penalty that they owe at `age`."""


def total(pushes: list[Push], factors: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The union of the pushes' keys and the sum of factor * values.

    Summed in the order given: float sums depend on it, and rank order keeps them the same in every run.
    """
    keys, values = pushes[0].keys, pushes[0].values * factors[0]
    for push, factor in zip(pushes[1:], factors[1:], strict=True):
        if push.keys is keys:  # all keys of the partition
            add_scaled(values, push.values, factor)
        else:
            keys, values = merge(keys, values, push.keys, push.values, factor)
    return keys, values


class Add(Updater):
    """values += push: counters, sums, weights that are set by hand. A held tick is summed."""

    def update(self, keys, gradient, values, state, step):
        add_scaled(values, gradient, 1.0)

    def reduce(self, pushes):
        return total(pushes, [1.0] * len(pushes))


class Replace(Add):
    """values = push: what is read is the last tick's sum, an all-reduce."""

    def update(self, keys, gradient, values, state, step):
        values[:] = gradient


# What the learning rate is multiplied by at a step.
SCHEDULES: dict[str, Callable[[Step], float]] = {
    "constant": lambda step: 1.0,
    "1/t": lambda step: 1.0 / step.tick,
    "1/sqrt(t)": lambda step: 1.0 / math.sqrt(step.tick),
    # Staleness-aware (Zhang et al., IJCAI 2016), for delays that begin at 0.
    "1/(1+delay)": lambda step: 1.0 / (1.0 + step.delay),
}


class SGD(Updater):
    """w -= rate * (gradient + l2 * w), rate = learning_rate * schedule; t counts ticks, not pushes.

    The age is the sum of -log(1 - rate * l2): a key absent from some updates is multiplied by the same
    factors later (lazy regularisation, Langford, Li & Zhang, JMLR 2009, for L2).
    """

    def __init__(
        self, learning_rate: float, l2: float = 0.0, schedule: str = "constant", unpenalized: int = -1
    ):
        self.learning_rate = positive("learning_rate", learning_rate)
        self.l2 = not_negative("l2", l2)
        if schedule not in SCHEDULES:
            raise UsageError(f"schedule is one of {', '.join(SCHEDULES)}, found {schedule!r}")
        if learning_rate * l2 >= 1:
            raise UsageError(
                f"learning_rate * l2 must stay below 1, or the penalty alone overshoots; found "
                f"{learning_rate:g} * {l2:g}; lower either"
            )
        self.schedule, self.unpenalized = schedule, unpenalized
        self.state_width = int(self.lazy)

    def rate(self, step: Step) -> float:
        """What the gradient is multiplied by at this step."""
        return self.learning_rate * SCHEDULES[self.schedule](step)

    def update(self, keys, gradient, values, state, step):
        after = step.age + self.penalty(step)
        _sgd(keys, gradient, values, state, step.age, after, self.rate(step), self.l2, self.unpenalized)

    def penalty(self, step):
        return -math.log1p(-self.rate(step) * self.l2)

    @property
    def lazy(self):
        return self.l2 > 0

    def catch_up(self, keys, values, state, age):
        _sgd_catch_up(keys, values, state, age, self.unpenalized)


@kernel
def _sgd(keys, gradient, values, state, age, after, rate, l2, unpenalized):
    if l2 > 0:
        _sgd_catch_up(keys, values, state, age, unpenalized)
    for i in range(len(keys)):
        keep = 1.0 if keys[i] == unpenalized else 1.0 - rate * l2
        for d in range(values.shape[1]):
            values[i, d] = values[i, d] * keep - rate * gradient[i, d]
            if l2 > 0:
                state[i, d, 0] = after


@kernel
def _sgd_catch_up(keys, values, state, age, unpenalized):
    for i in range(len(keys)):
        for d in range(values.shape[1]):
            if keys[i] != unpenalized and state[i, d, 0] != age:
                values[i, d] *= math.exp(state[i, d, 0] - age)


class AdaGrad(Updater):
    """A rate per value, learning_rate / sqrt(initial + sum of squared gradients) (Duchi et al., JMLR 2011).

    The L2 penalty is a proximal step with the same rate: w = (w - rate * gradient) / (1 + rate * l2).
    """

    def __init__(
        self, learning_rate: float = 0.1, l2: float = 0.0, initial: float = 1e-4, unpenalized: int = -1
    ):
        self.learning_rate = positive("learning_rate", learning_rate)
        self.l2, self.initial = not_negative("l2", l2), positive("initial", initial)
        self.unpenalized = unpenalized
        self.state_width = 1 + int(self.lazy)  # sum of squares; age at the last touch

    def update(self, keys, gradient, values, state, step):
        _adagrad(
            keys,
            gradient,
            values,
            state,
            step.age,
            self.learning_rate,
            self.l2,
            self.initial,
            self.unpenalized,
        )

    @property
    def lazy(self):
        return self.l2 > 0

    def catch_up(self, keys, values, state, age):
        _adagrad_catch_up(
            keys, values, state, age, self.learning_rate, self.l2, self.initial, self.unpenalized
        )


@kernel
def _adagrad(keys, gradient, values, state, age, learning_rate, l2, initial, unpenalized):
    if l2 > 0:
        _adagrad_catch_up(keys, values, state, age, learning_rate, l2, initial, unpenalized)
    for i in range(len(keys)):
        penalty = 0.0 if keys[i] == unpenalized else l2
        for d in range(values.shape[1]):
            g = gradient[i, d]
            state[i, d, 0] += g * g
            rate = learning_rate / math.sqrt(initial + state[i, d, 0])
            values[i, d] = (values[i, d] - rate * g) / (1.0 + rate * penalty)
            if l2 > 0:
                state[i, d, 1] = age + 1.0


@kernel
def _adagrad_catch_up(keys, values, state, age, learning_rate, l2, initial, unpenalized):
    for i in range(len(keys)):
        for d in range(values.shape[1]):
            owed = age - state[i, d, 1]
            if keys[i] != unpenalized and owed > 0:
                # The rate has not changed since: it only does when the key is touched.
                rate = learning_rate / math.sqrt(initial + state[i, d, 0])
                values[i, d] *= (1.0 + rate * l2) ** -owed


class FTRL(Updater):
    """FTRL-proximal with per-coordinate rates (McMahan et al., KDD 2013, algorithm 1).

    The penalties are added once per update (McMahan, AISTATS 2011, composite form), so that the objective
    is the one above; the paper's `lambda_1`, `lambda_2` are l1, l2 times the number of updates.
    """

    state_width = 2  # z, n of the paper

    def __init__(
        self, alpha: float = 0.5, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0, unpenalized: int = -1
    ):
        self.alpha, self.beta = positive("alpha", alpha), positive("beta", beta)
        self.l1, self.l2 = not_negative("l1", l1), not_negative("l2", l2)
        self.unpenalized = unpenalized

    def start(self, values, state):
        state[:, :, 0] = -values * (self.beta / self.alpha)

    def update(self, keys, gradient, values, state, step):
        _ftrl(
            keys, gradient, values, state, step.age, self.alpha, self.beta, self.l1, self.l2, self.unpenalized
        )

    @property
    def lazy(self):
        return self.l1 > 0 or self.l2 > 0

    def catch_up(self, keys, values, state, age):
        _ftrl_weights(keys, values, state, age, self.alpha, self.beta, self.l1, self.l2, self.unpenalized)


@kernel
def _ftrl(keys, gradient, values, state, age, alpha, beta, l1, l2, unpenalized):
    _ftrl_weights(keys, values, state, age, alpha, beta, l1, l2, unpenalized)
    for i in range(len(keys)):
        for d in range(values.shape[1]):
            g, n = gradient[i, d], state[i, d, 1]
            sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / alpha
            state[i, d, 0] += g - sigma * values[i, d]
            state[i, d, 1] = n + g * g
    _ftrl_weights(keys, values, state, age + 1.0, alpha, beta, l1, l2, unpenalized)


@kernel
def _ftrl_weights(keys, values, state, age, alpha, beta, l1, l2, unpenalized):
    for i in range(len(keys)):
        penalized = 0.0 if keys[i] == unpenalized else age
        for d in range(values.shape[1]):
            z, n = state[i, d, 0], state[i, d, 1]
            shrunk = max(abs(z) - penalized * l1, 0.0)
            values[i, d] = -math.copysign(shrunk, z) / ((beta + math.sqrt(n)) / alpha + penalized * l2)
