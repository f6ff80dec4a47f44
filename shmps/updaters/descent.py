"""Server-side rules: how a gradient changes the weights.

These updaters minimise the same objective over the N training rows,

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
from typing import Any

import numpy as np

from shmps.checks import not_negative, one_of, positive
from shmps.errors import UsageError
from shmps.ps.kernels import add_scaled
from shmps.ps.updater import Step, Updater
from shmps.updaters import rules
from shmps.updaters.rules import AdaGradRule, FTRLRule, SGDRule


class ByRule(Updater):
    """An updater with a formula for one value: it can be applied in place too."""

    def rule(self, step: Step) -> Any:
        """The numbers of the formula at this step; see `shmps.updaters.rules`."""
        raise NotImplementedError

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        rules.update(self.rule(step), keys, gradient, values, state, step.age)

    def descend(
        self, rows: Any, intercept: bool, weights: np.ndarray, state: np.ndarray, step: Step, column: int = 0
    ) -> float:
        """A step per row, of the weights themselves: see `rules.descend`."""
        loss: float = rules.descend(self.rule(step), *rows, intercept, weights, state, step.age, column)
        return loss

    def catch_up(self, keys: np.ndarray, values: np.ndarray, state: np.ndarray, age: float) -> None:
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
        one_of(*SCHEDULES).check("schedule", schedule)
        if learning_rate * l2 >= 1:
            raise UsageError(
                "{learning_rate} * {l2} must stay below 1, or the penalty alone overshoots, got "
                "{learning_rate.value:g} * {l2.value:g}; lower either",
                learning_rate=learning_rate,
                l2=l2,
            )
        self.schedule, self.unpenalized = schedule, unpenalized
        self.state_width = int(self.lazy)

    def rate(self, step: Step) -> float:
        """What the gradient is multiplied by at this step."""
        return self.learning_rate * SCHEDULES[self.schedule](step)

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        if self.lazy:
            super().update(keys, gradient, values, state, step)
        else:  # a loop that vectorises: 20 times as fast
            add_scaled(values, gradient, -self.rate(step))

    def rule(self, step: Step) -> Any:
        return SGDRule(self.rate(step), self.l2, self.penalty(step), self.unpenalized)

    def penalty(self, step: Step) -> float:
        return -math.log1p(-self.rate(step) * self.l2) if self.lazy else 0.0

    @property
    def lazy(self) -> bool:
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

    def rule(self, step: Step) -> Any:
        return AdaGradRule(self.learning_rate, self.l2, self.initial, 1.0, self.unpenalized)

    @property
    def lazy(self) -> bool:
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

    def start(self, values: np.ndarray, state: np.ndarray) -> None:
        state[:, :, 0] = -values * (self.beta * (1.0 / self.alpha))

    def rule(self, step: Step) -> Any:
        return FTRLRule(1.0 / self.alpha, self.beta, self.l1, self.l2, 1.0, self.unpenalized)
