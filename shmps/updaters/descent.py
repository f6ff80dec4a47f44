"""Gradient descent by the servers: SGD, AdaGrad and FTRL.

These updaters minimise the same objective over the N training rows,

    (1/N) sum_i log(1 + exp(-y_i x_i.w))  +  l2/2 |w|^2  +  l1 |w|_1  (L1: FTRL only),

in which the key `unpenalized` (that of the intercept) has no penalty. A push brings the mean gradient of its
rows. The updater applies the penalty, once per update and to every key. A key that an update does not name
gets the penalty later, at the next update that names it, or at a read. The `age` of a server is the penalty
since the start, and a key owes the difference between this age and the age at its last update. A read returns
values that owe nothing.

Derive your own updater from `Updater`; see docs/build/updaters.md.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from shmps.checks import not_negative, one_of, positive
from shmps.errors import UsageError
from shmps.ps.kernels import add_scaled, gather
from shmps.ps.updater import Step, Updater
from shmps.updaters import rules
from shmps.updaters.rules import AdaGradRule, FTRLRule, SGDRule


class ByRule(Updater):
    """An updater with a formula for one value, which workers can also apply in place.

    scales: the scales (num_keys,) of the values, by which AdaGrad and FTRL adapt their steps; None: all 1.
    A weight times its scale moves as the weight itself would if its feature were divided by the scale.
    """

    scales: np.ndarray | None = None

    def rule(self, step: Step) -> Any:
        """Return the numbers of the formula at this step; see `shmps.updaters.rules`."""
        raise NotImplementedError

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        rules.update(self.rule(step), self.scales, keys, gradient, values, state, step.age)

    def descend(
        self, rows: Any, intercept: bool, weights: np.ndarray, state: np.ndarray, step: Step, column: int = 0
    ) -> float:
        """A step per row, of the weights themselves: see `rules.descend`."""
        rule = self.rule(step)
        loss: float = rules.descend(rule, self.scales, *rows, intercept, weights, state, step.age, column)
        return loss

    def read(
        self, keys: np.ndarray, weights: np.ndarray, state: np.ndarray, age: float, out: np.ndarray
    ) -> None:
        if self.lazy:
            rules.read(self.rule(Step(1, age)), self.scales, keys, weights, state, age, out)
        else:
            gather(weights, keys, out)


# Factors of the learning rate at a step.
SCHEDULES: dict[str, Callable[[Step], float]] = {
    "constant": lambda step: 1.0,
    "1/t": lambda step: 1.0 / step.tick,
    "1/sqrt(t)": lambda step: 1.0 / math.sqrt(step.tick),
    # Staleness-aware (Zhang et al., IJCAI 2016); here delays start at 0.
    "1/(1+delay)": lambda step: 1.0 / (1.0 + step.delay),
}


class SGD(ByRule):
    """w -= rate * (gradient + l2 * w), with rate = learning_rate * schedule. t counts ticks, not pushes.

    The age is the sum of -log(1 - rate * l2): a key that is absent from updates is multiplied by the same
    factors later (lazy regularisation, as in Langford, Li & Zhang, JMLR 2009, but for L2).
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
        """Return the factor of the gradient at this step."""
        return self.learning_rate * SCHEDULES[self.schedule](step)

    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        if self.lazy:
            super().update(keys, gradient, values, state, step)
        else:  # this loop vectorises: 20 times as fast
            add_scaled(values, gradient, -self.rate(step))

    def rule(self, step: Step) -> Any:
        return SGDRule(self.rate(step), self.l2, self.penalty(step), self.unpenalized)

    def penalty(self, step: Step) -> float:
        return -math.log1p(-self.rate(step) * self.l2) if self.lazy else 0.0

    @property
    def lazy(self) -> bool:
        return self.l2 > 0


class AdaGrad(ByRule):
    """w = (w - rate * gradient) / (1 + rate * l2), a proximal step for the L2 penalty.

    Each value has its rate, learning_rate / sqrt(initial + sum of squared gradients) (Duchi et al., JMLR
    2011).
    """

    def __init__(
        self, learning_rate: float = 0.1, l2: float = 0.0, initial: float = 1e-4, unpenalized: int = -1
    ):
        self.learning_rate = positive("learning_rate", learning_rate)
        self.l2, self.initial = not_negative("l2", l2), positive("initial", initial)
        self.unpenalized = unpenalized
        self.state_width = 1 + int(self.lazy)  # sum of squared gradients; age at the last update

    def rule(self, step: Step) -> Any:
        return AdaGradRule(self.learning_rate, self.l2, self.initial, 1.0, self.unpenalized)

    @property
    def lazy(self) -> bool:
        return self.l2 > 0


class FTRL(ByRule):
    """FTRL-proximal with a rate per value (McMahan et al., KDD 2013, algorithm 1).

    The penalties are added once per update (the composite form of McMahan, AISTATS 2011), so that the
    objective is the one above. `lambda_1` and `lambda_2` of the paper are l1 and l2 times the number of
    updates.
    """

    state_width = 2  # z and n of the paper
    lazy = True  # weights follow from z and n: after a step in place they are computed when they are read

    def __init__(
        self, alpha: float = 0.5, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0, unpenalized: int = -1
    ):
        self.alpha, self.beta = positive("alpha", alpha), positive("beta", beta)
        self.l1, self.l2 = not_negative("l1", l1), not_negative("l2", l2)
        self.unpenalized = unpenalized

    def start(self, values: np.ndarray, state: np.ndarray) -> None:
        scales = np.ones(1) if self.scales is None else self.scales[: len(values), np.newaxis]
        curvature = (self.beta * scales + np.sqrt(state[:, :, 1])) * scales * (1.0 / self.alpha)
        state[:, :, 0] = -values * curvature

    def rule(self, step: Step) -> Any:
        return FTRLRule(1.0 / self.alpha, self.beta, self.l1, self.l2, 1.0, self.unpenalized)
