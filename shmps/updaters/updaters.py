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
from typing import Any, NamedTuple

import numpy as np

from shmps.checks import not_negative, positive
from shmps.errors import UsageError
from shmps.kernels import add_scaled, merge
from shmps.updaters import rules
from shmps.updaters.rules import AdaGradRule, FTRLRule, SGDRule


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
        """Whether what is stored is not yet what it is worth: a penalty may be owed."""
        return False

    def catch_up(self, keys, values, state, age: float) -> None:
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


class ByRule(Updater):
    """An updater with a formula for one value: it can be applied in place too."""

    def rule(self, step: Step) -> Any:
        """The numbers of the formula at this step; see `shmps.updaters.rules`."""
        raise NotImplementedError

    def update(self, keys, gradient, values, state, step):
        rules.update(self.rule(step), keys, gradient, values, state, step.age)

    def descend(self, rows, intercept: bool, weights, state, step: Step, column: int = 0) -> float:
        """A step per row, of the weights themselves: see `rules.descend`."""
        return rules.descend(self.rule(step), *rows, intercept, weights, state, step.age, column)

    def catch_up(self, keys, values, state, age):
        rules.catch_up(self.rule(Step(1, age)), keys, values, state, age)


# What the learning rate is multiplied by at a step.
SCHEDULES: dict[str, Callable[[Step], float]] = {
    "constant": lambda step: 1.0,
    "1/t": lambda step: 1.0 / step.tick,
    "1/sqrt(t)": lambda step: 1.0 / math.sqrt(step.tick),
    # Staleness-aware (Zhang et al., IJCAI 2016), for delays that begin at 0.
    "1/(1+delay)": lambda step: 1.0 / (1.0 + step.delay),
}


class SGD(ByRule):
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
        if self.lazy:
            super().update(keys, gradient, values, state, step)
        else:  # a loop that vectorises: 20 times as fast
            add_scaled(values, gradient, -self.rate(step))

    def rule(self, step):
        return SGDRule(self.rate(step), self.l2, self.penalty(step), self.unpenalized)

    def penalty(self, step):
        return -math.log1p(-self.rate(step) * self.l2) if self.lazy else 0.0

    @property
    def lazy(self):
        return self.l2 > 0


class AdaGrad(ByRule):
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

    def rule(self, step):
        return AdaGradRule(self.learning_rate, self.l2, self.initial, 1.0, self.unpenalized)

    @property
    def lazy(self):
        return self.l2 > 0


class FTRL(ByRule):
    """FTRL-proximal with per-coordinate rates (McMahan et al., KDD 2013, algorithm 1).

    The penalties are added once per update (McMahan, AISTATS 2011, composite form), so that the objective
    is the one above; the paper's `lambda_1`, `lambda_2` are l1, l2 times the number of updates.
    """

    state_width = 2  # z, n of the paper
    lazy = True  # a weight follows from them: after a step in place it is made when it is read

    def __init__(
        self, alpha: float = 0.5, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0, unpenalized: int = -1
    ):
        self.alpha, self.beta = positive("alpha", alpha), positive("beta", beta)
        self.l1, self.l2 = not_negative("l1", l1), not_negative("l2", l2)
        self.unpenalized = unpenalized

    def start(self, values, state):
        state[:, :, 0] = -values * (self.beta * (1.0 / self.alpha))

    def rule(self, step):
        return FTRLRule(1.0 / self.alpha, self.beta, self.l1, self.l2, 1.0, self.unpenalized)
