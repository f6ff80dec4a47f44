"""A search at work: how many gradients it may take, what it reached, and why it ended."""

import math
import time

import numpy as np

from shmps.errors import Diverged, NotConverged
from shmps.linear.full_gradient.problem import Gradient, Problem, Product, Request, Search, Sums

_TINY = float(np.finfo(float).tiny)


class Descent:
    """Passes sums to a search and its requests on, for `most` gradients.

    request: to be answered next; None: the search has ended. stopped: whether `stop` was called. weights
    (features, classes): of the last request for a gradient. history: (seconds since `begin`, objective) after
    each gradient.
    """

    def __init__(self, problem: Problem, search: Search, tolerance: float, most: int):
        self._problem, self._search, self._tolerance, self._most = problem, search, tolerance, most
        self._began = math.inf
        self.stopped = self._ended = False
        self._steps = search.steps()
        self.weights = search.best.weights
        self.request: Request | None = next(self._steps)
        self.gradients = int(isinstance(self.request, Gradient))  # requested so far
        self.history: list[tuple[float, float]] = []

    def begin(self) -> None:
        self._began = time.monotonic()

    def stop(self) -> None:
        """End after the next sums."""
        self.stopped = True

    @property
    def best(self) -> np.ndarray:
        """The weights of the last accepted step, (features, classes)."""
        return self._search.best.weights

    def take(self, sums: Sums) -> None:
        """Take the sums that the request asked for, and set the next one."""
        assert self.request is not None
        was_gradient = isinstance(self.request, Gradient)
        finite = np.isfinite(sums.answering(self.request)).all()
        may_be_too_far = isinstance(self.request, Gradient | Product) and self.history
        if not finite and not may_be_too_far:
            raise Diverged(
                "loss, gradient and curvature must be finite at the initial weights, and are not; scale the "
                "features to about 1, or start nearer to 0"
            )
        try:
            self.request = self._steps.send(sums)
        except StopIteration:
            self.request, self._ended = None, True
        if was_gradient:
            self.history.append((time.monotonic() - self._began, self._search.best.value))
        if self.stopped:
            self.request = None
        elif isinstance(self.request, Gradient):
            if self.gradients == self._most:
                self.request = None
                return
            self.gradients += 1
            self.weights = self.request.weights

    @property
    def advice(self) -> NotConverged | None:
        """What to do if the search ended above its tolerance; None otherwise."""
        search, rounds = self._search, len(self.history)
        if self.stopped or not rounds or (self.request is None and self._ended and not search.stuck):
            return None
        apart = search.gap / max(abs(search.best.value), _TINY)
        if search.stuck and apart <= self._tolerance:
            return None
        ended = f"it used all its {rounds} rounds"
        do = "raise {iterations} or {tol}, or scale the features"
        if search.stuck:
            ended = f"rounding left no step along its direction that goes down, after {rounds} rounds"
            do = "raise {tol}, or scale the features"
        if self._separates:
            ended += ", and the weights separate the classes: the penalty alone keeps them finite"
            do = "raise {l2}, or {tol}"
        known = f"about {apart:.2g} of it" if math.isfinite(apart) else "an unknown distance"
        return NotConverged(
            f"lbfgs ended because {ended}. The objective is {known} above its least value, by an estimate; "
            f"{{tol.given}} asks for less; {do}",
            tol=self._tolerance,
            iterations=self._most,
            l2=self._problem.l2,
        )

    @property
    def _separates(self) -> bool:
        """Whether every row has the largest margin at its class: then no row's loss is log 2 or more."""
        problem, best = self._problem, self._search.best
        owed = 0.5 * float((problem.penalty * best.weights**2).sum()) + problem.l1 * float(
            np.abs(best.weights[: problem.features - problem.intercept]).sum()
        )
        return (best.value - owed) * problem.rows < math.log(2)
