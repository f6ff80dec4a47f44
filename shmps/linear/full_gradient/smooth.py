"""The search for the minimum with an L2 penalty: sampled Newton around L-BFGS.

    direction -H^-1 g, by L-BFGS that starts from the curvature H of the rows --> step --> pair --> renew H?

With few features, H is each class's Hessian, from a sample of the rows where they are many (Byrd et al., On
the Use of Stochastic Hessian Information in Optimization Methods for Machine Learning, SIAM J. Optim. 2011).
With more features, passes of dual coordinate ascent come first (see `dual_kernels`), and H is made of the
features' moments, weighted by the rows' curvatures. H is renewed when the curvature has changed: p (1 - p) of
most rows soon is far below the 1/4 that all rows start with.

Where this takes many steps, and the weights are few enough for one matrix, H becomes the whole Hessian: with
more features, or with softmax, whose matrices of single classes leave out that the classes compete.
"""

import itertools
import math
from collections.abc import Generator

import numpy as np

from shmps.linear.full_gradient.curvature import Solve, centres_of, exact_solver, solver_for
from shmps.linear.full_gradient.kernels import dots
from shmps.linear.full_gradient.pairs import Pairs
from shmps.linear.full_gradient.problem import (
    ONE_AGAINST_REST,
    SOFTMAX,
    Ascent,
    Block,
    Curvature,
    Gradient,
    Point,
    Problem,
    Product,
    Request,
    Steps,
    Sums,
)

_PAYS = 0.9  # fall of the value per pass of dual ascent that is worth the pass
_FAST = 4.0  # fall of the squared gradient per pass of dual ascent: steps of L-BFGS do not do better
_MOST_PASSES = 32
_SUFFICIENT = 1e-4  # least share of the decrease that the slope predicts (Armijo 1966)
_FLAT = 0.5  # the most that the slope at an accepted step may be, beside the slope at its start
_MOST_TRIALS = 30  # of one step
_HIDDEN = 2  # trials after which a step may end that changes the value by rounding errors alone
_GROWTH = 1.3, 4.0  # of a step that is too short
_WITHIN = 0.1, 0.9  # of a bracket, where the next trial must lie
_HALF = 0.5  # of a bracket: what a trial should leave of it, at most
_DRIFT = 0.4  # relative change of the sums of the rows' curvatures after which H is renewed
_SLOW = 0.3  # a decrease beside the one before: above it, a better H pays
_STEPS_BETWEEN = 5  # least steps between two renewals that only slowness asks for
_WEAK = 30  # l2 * rows below 1 / _WEAK: the sample's error shows beside so weak a penalty
_STALE = 0.25  # strictness for a gap by a curvature that should be renewed: it may be four times too large
_MOST_PRODUCTS = 10  # that confirm the end
_ACCURACY = 0.2  # of the gap, and so of the direction along which the curvature must stay
_FLATTEST = 1e-6  # curvature beside that of H
_OUTDATED = 1e-3  # of the gradient that Newton's step leaves, in the norm of H: H has changed on the way here
_MOST_FALL = 0.02  # share of the curvature along the next step, for which its slope still tells the gap
_FALLS = 2.0  # times that, along the first direction: no end is near
_PATIENCE = 50  # steps, before H is the whole Hessian of many weights: that takes as long as some of them
_FEW_WEIGHTS = 128  # for which it takes no longer than a gradient or two
_EFFORT = 2.0  # products of two values of a row per non-zero, for a block
_TINY = float(np.finfo(float).tiny)
_ROUNDING = 4 * float(np.finfo(float).eps)  # relative error of a sum over rows


class SmoothSearch:
    """Minimises a problem without L1 penalty: send `steps` the sums that it requests until it ends.

    Ends when half the slope along Newton's step, by the Hessian itself, is within half of `tolerance` times
    the value, or when rounding lets no step decrease the value.
    """

    def __init__(self, problem: Problem, start: np.ndarray, tolerance: float):
        """start (features, classes)."""
        self.problem, self._tolerance = problem, tolerance
        if problem.loss == SOFTMAX:  # see `curvature.solver_for`
            start = start - start.mean(axis=1, keepdims=True)
        self.best = Point(start, math.inf, np.zeros(problem.shape), np.zeros(problem.classes))
        self.stuck = False
        self.gap = math.inf  # estimate of how far the value is above the least one
        # One-against-rest problems are independent: each has a curvature of its own.
        self._columns = problem.classes if problem.loss == ONE_AGAINST_REST else 1
        self._pairs = Pairs((problem.size // self._columns, self._columns))
        self._solve: Solve = np.copy
        self._centres = np.zeros((problem.features - problem.intercept, problem.classes))
        self._share, self._renewals, self._age = 0.0, 0, 0
        self._exact = problem.blockwise and problem.size <= _FEW_WEIGHTS  # H is the whole Hessian
        self._direction, self._slope = start, 0.0
        self._masses = np.zeros(problem.classes)  # when H was renewed
        self._decreases: list[float] = []
        self._first_trial = 1.0

    def steps(self) -> Steps:
        """Yield requests, to be sent their sums."""
        if self.problem.ascends and not self.best.weights.any():
            yield from self._ascend()
        else:
            yield from self._begin(self.best.weights)
        nowhere = math.isinf(self.best.value)  # the values where dual ascent came to are no numbers
        if self.best.value > self.problem.value_at_zero and (nowhere or self.best.weights.any()):
            # Far from the minimum, p (1 - p) of most rows may be 0: no curvature would lead back.
            yield from self._begin(np.zeros(self.problem.shape))
        if self._is_proven():
            return
        yield from self._renew(self._usual_share)
        while not self._is_proven():
            if self._is_near() and (yield from self._confirm()):
                return
            hard = yield from self._step()
            if self.stuck:
                return
            share = self._share_to_renew(hard)
            if share and not self._is_near(_STALE):  # otherwise the search ends
                yield from self._renew(share)

    def _begin(self, weights: np.ndarray) -> Steps:
        self.best = self._point(weights, (yield Gradient(weights)))

    def _ascend(self) -> Steps:
        """Begin where dual ascent comes to; double the passes as long as that pays."""
        passes = more = 2
        value, squared = self.problem.value_at_zero, 0.0  # of the weights, and their gradient, before
        while passes <= _MOST_PASSES:
            weights = (yield Ascent(passes, self.problem.l2)).gradient.copy()
            point = self._point(weights, (yield Gradient(weights)))
            if point.value < self.best.value:
                self.best = point
            now = self._dot(point.gradient, point.gradient)
            pays = point.value < _PAYS**more * value or now * _FAST**more < squared
            if not pays or self._is_proven():
                break
            value, squared, more = point.value, now, passes
            passes += more
        if point is not self.best:  # the next requests are for the weights of the last gradient
            yield from self._begin(self.best.weights)

    def _is_proven(self) -> bool:
        """Whether strong convexity proves that the search may end: the gap is <= |gradient|^2 / (2 l2)."""
        if self.problem.intercept or self.problem.l2 == 0.0:
            return False
        bound = self._dot(self.best.gradient, self.best.gradient) / (2 * self.problem.l2)
        if bound > self._tolerance * abs(self.best.value):
            return False
        self.gap = min(self.gap, bound)
        return True

    @property
    def _usual_share(self) -> float:
        weak = self.problem.l2 * self.problem.rows * _WEAK < 1
        return min(1.0, self.problem.share * (10 if weak else 1))

    def _renew(self, share: float) -> Steps:
        if self._exact:
            effort = _EFFORT * share / self._usual_share if share < 1 else math.inf
            sums = yield Block(np.arange(self.problem.size), effort, self._renewals, 0.0)
            self._solve = exact_solver(self.problem, sums)
        else:
            sums = yield Curvature(share, self._renewals)
            self._solve = solver_for(self.problem, sums, self.best.masses)
        if self.problem.intercept:
            self._centres = centres_of(self.problem, sums, self._exact)
        self._share, self._age, self._masses = share, 0, self.best.masses
        self._renewals += 1
        if self._has_matrix and not self._leaves_out:
            self._pairs.clear()

    @property
    def _has_matrix(self) -> bool:
        return self.problem.whole or self._exact

    @property
    def _leaves_out(self) -> bool:
        """Whether H has matrices of single classes, although classes compete."""
        return self.problem.loss == SOFTMAX and not self._exact

    def _share_to_renew(self, hard: bool) -> float:
        """Return the share of the products that a new curvature takes; 0: keep the present one."""
        drift = (np.abs(self.best.masses - self._masses) / np.maximum(self._masses, _TINY)).max()
        if self.problem.blockwise and not self._exact and len(self._decreases) >= _PATIENCE:
            self._exact = True
            return self._usual_share
        if not self._has_matrix:
            return 1.0 if drift > _DRIFT else 0.0
        exact = self._share == 1 and not self._leaves_out  # at the weights where H was renewed
        slow = self._age >= 2 and self._decreases[-1] > _SLOW * self._decreases[-2]
        # Steps are slow although H was exact: the curvatures of single rows have changed, if not their sum.
        tired = slow and (exact or self._age >= _STEPS_BETWEEN)
        factor = 4 if hard and self._age else 2 if tired else 1 if drift > _DRIFT else 0
        return min(1.0, self._usual_share * factor)

    def _is_near(self, strictness: float = 1.0) -> bool:
        """Set the direction of the next step and the gap; return whether the search ends here.

        strictness: factor of the tolerance.
        """
        self._direction = -self._times_inverse(self.best.gradient)
        self._slope = self._dot(self.best.gradient, self._direction)
        self.gap = -self._slope / 2
        return self.gap <= max(strictness * self._allowed, self._hidden)

    @property
    def _allowed(self) -> float:
        """The most that an estimate of the gap may be at the end."""
        return 0.5 * self._tolerance * abs(self.best.value)

    @property
    def _hidden(self) -> float:
        """The change of the value that rounding hides."""
        return _ROUNDING * abs(self.best.value)

    def _confirm(self) -> Generator[Request, Sums, bool]:
        """Set direction and gap by the Hessian at the weights. Return whether the search ends here.

        By conjugate gradients, preconditioned by H and the pairs. These may be far too stiff in a direction
        that no step has tried. So the residual must be small even if it lies where the Hessian is _FLATTEST.
        And the curvature must stay on the way: that of a few rows with large values falls soon, once they are
        classified well, and then the other rows decide.
        """
        if self.gap <= self._hidden:
            return True
        gradient, penalty, allowed = self.best.gradient, self.problem.penalty, self._allowed
        most_fall = min(max(_MOST_FALL, self._tolerance / 2), 0.5)  # a loose tolerance bears more
        direction, residual, ahead = np.zeros_like(gradient), -gradient, self._direction
        size, gap, settled = -self._slope, 0.0, False
        for count in itertools.count(1):
            sums = yield Product(ahead)
            product = sums.product + penalty * ahead
            curved = self._dot(ahead, product)
            if not 0.0 < curved < math.inf:
                break
            length, fall = size / curved, sums.lost / curved
            direction, residual = direction + length * ahead, residual - length * product
            gap += 0.5 * length * size
            if count == 1 and fall > _FALLS * most_fall:
                break  # a step first: more products would not tell the gap
            scaled = self._times_inverse(residual)
            before, size = size, self._dot(residual, scaled)
            if self._has_matrix and not self._leaves_out and self._age and size > _OUTDATED * before:
                yield from self._renew(self._usual_share)
                self._is_near()
                return (yield from self._confirm())
            bound = min(size / _FLATTEST, self._most_by_penalty(residual))
            settled = bound <= 2 * allowed and size <= _ACCURACY * gap
            if settled or gap > allowed or count == _MOST_PRODUCTS:
                break
            ahead = scaled + size / before * ahead
        if gap == 0.0:
            return False
        self._direction, self._slope, self.gap = direction, self._dot(gradient, direction), gap
        if not settled or gap > allowed:
            return False
        if count > 1 or length > 1.0:
            sums = yield Product(direction)
            fall = sums.lost / (2 * gap)
        return fall <= most_fall

    def _most_by_penalty(self, residual: np.ndarray) -> float:
        """Return an upper bound of r' H^-1 r for a residual r; infinity where there is none.

        With the intercept eliminated, the Hessian is that of the features about their means, plus the
        penalty.
        """
        problem = self.problem
        if problem.l2 == 0.0 or (problem.intercept and problem.loss == SOFTMAX):
            return math.inf
        if not problem.intercept:
            return float((residual**2).sum()) / problem.l2
        apart = residual[:-1] - self._centres * residual[-1]
        masses = np.maximum(self.best.masses, _TINY)
        return float((apart**2).sum()) / problem.l2 + float((residual[-1] ** 2 / masses).sum())

    def _step(self) -> Generator[Request, Sums, bool]:
        """Move along the direction to where the slope is flat. Return whether that was hard to find.

        The trials follow the secant of the slopes, within a bracket once there is one. Where rows with large
        values bend the slope like a step, the secant moves one end of the bracket by little; then halve it.
        """
        direction, slope = self._direction, self._slope
        before, low, low_slope, high = self.best, 0.0, slope, math.inf
        t, width = self._first_trial, math.inf
        for trial in itertools.count(1):
            weights = before.weights + t * direction
            point = self._point(weights, (yield Gradient(weights)))
            here = self._dot(point.gradient, direction)
            rounding = _ROUNDING * abs(before.value)
            down = point.value <= before.value + _SUFFICIENT * t * slope + rounding
            # The slopes along a step that rounding hides are rounding errors too: they may never be flat.
            hidden = trial > _HIDDEN and abs(point.value - before.value) <= rounding
            if (down and (hidden or abs(here) <= _FLAT * abs(slope))) or trial == _MOST_TRIALS:
                break
            if down and here < 0:
                guess = t - here * (t - low) / (here - low_slope) if here > low_slope else math.inf
                low, low_slope = t, here
            else:
                guess = low - low_slope * (t - low) / (here - low_slope) if here > 0 else (low + t) / 2
                high = t
            if high - low > _HALF * width:
                guess = math.sqrt(low * high)  # a scale of its own may lie near either end
            width = high - low
            t = _within(guess, low, high)
        if not down:
            self.stuck = True
            return True
        self._accept(point, before)
        self._first_trial = min(max(t / (1 - here / slope), 1.0), 2.0) if self._has_matrix else 1.0
        return t < 0.5 or trial > 2

    def _accept(self, point: Point, before: Point) -> None:
        flat = before.gradient.size // self._columns, self._columns
        self._pairs.add(
            (point.weights - before.weights).reshape(flat), (point.gradient - before.gradient).reshape(flat)
        )
        self._decreases.append(before.value - point.value)
        self._age += 1
        self.best = point

    def _point(self, weights: np.ndarray, sums: Sums) -> Point:
        """Return the point with the penalty's part of value and gradient."""
        owed = self.problem.penalty * weights
        value = sums.loss + 0.5 * self._dot(owed, weights)
        return Point(weights, value, sums.gradient + owed, sums.masses.copy())

    def _times_inverse(self, gradient: np.ndarray) -> np.ndarray:
        shape = gradient.shape
        flat = gradient.size // self._columns, self._columns
        solve = lambda vector: self._solve(vector.reshape(shape)).reshape(flat)  # noqa: E731
        return self._pairs.times_inverse(gradient.reshape(flat), solve).reshape(shape)

    def _dot(self, one: np.ndarray, other: np.ndarray) -> float:
        out = np.empty(1)
        dots(one.reshape(-1, 1), other.reshape(-1, 1), out)
        return float(out[0])


def _within(guess: float, low: float, high: float) -> float:
    """Return the next trial: the guess, if it lies well within the bracket, or grows the step moderately."""
    if math.isfinite(high):
        shortest, longest = (low + share * (high - low) for share in _WITHIN)
    else:
        shortest, longest = (growth * low for growth in _GROWTH)
    if math.isnan(guess):
        return shortest
    return min(max(guess, shortest), longest)
