"""The search for the minimum with an L1 penalty: proximal Newton on a working set of weights.

    working set --> block of the Hessian --> minimum with the L1 penalty --> step --> learn --> ...

With many features and few non-zeros, the coordinator reads the rows itself, by columns, instead of a block.
All weights that violate the optimality conditions are in the working set then, and the model is renewed at
every point. Its minima are rough, since the next point changes them anyway (Yuan, Ho & Lin, An Improved
GLMNET for L1-Regularized Logistic Regression, J. Machine Learning Research 2012). A block confirms the end:
only a factorisation sees directions that are nearly flat.

The model's minimum has exact zeros, and so do the steps: they go all the way to it (Lee, Sun & Saunders,
Proximal Newton-Type Methods for Minimizing Composite Functions, SIAM J. Optim. 2014). BFGS corrects the model
along each step, so that it serves for several. If a step fails, the model learns from it too, and its new
minimum is tried from the same point, with a damped model: rows with large margins have almost no curvature,
and without damping the model's minimum would be much too far away (Levenberg, Q. Appl. Math. 1944). With too
many non-zeros for a matrix, L-BFGS takes the model's place.

Where more weights violate the optimality conditions than a working set takes, the penalty is raised until the
others do not. So it falls step by step, as along a regularization path, and few weights are ever non-zero. A
start with all of them separates the rows, and the way back is long: there, the curvature is nearly zero.
"""

import math
from collections.abc import Generator

import numpy as np

from shmps.linear.full_gradient.block_model import BlockModel
from shmps.linear.full_gradient.compact_model import CompactModel, variances
from shmps.linear.full_gradient.problem import (
    MOST_KEYS,
    Block,
    Curvature,
    Gradient,
    Point,
    Problem,
    Request,
    Steps,
    Sums,
)
from shmps.linear.full_gradient.quadratic import Model, Task
from shmps.linear.full_gradient.row_model import RowModel
from shmps.linear.full_gradient.transposed import Transposed

_LEAST_KEYS = 256  # of a working set, where so many violate the optimality conditions
_GROWTH = 2  # of a working set, beside its non-zeros
_MOST_NONZEROS = 15 * MOST_KEYS // 16  # of a block's working set, which needs room for violators
_NEAR = 0.95  # of the L1 penalty: a weight whose gradient is beyond that belongs to the working set
_ACCURACY, _ROUGH, _EXACT = 0.03, 0.2, 1e-6  # of the minimum: for a step, of a model by rows; at the end
_ENOUGH, _LEAST = 0.03, 1e-3  # of the gap that is allowed: decreases that end the descent to the minimum
_MOST_GAP = 0.1  # of the value: a quadratic model cannot tell a larger gap
_EFFORT = 2.0  # products of two values of a row per non-zero, for a block: about the cost of a gradient
_LAST_EFFORT = 32.0  # for the block that confirms the end
_DRIFT = 0.2  # relative change of the rows' curvatures after which the model is renewed
_SLOW = 0.3  # a decrease beside the one before: above it, a better model pays
_STEPS_BETWEEN = 3  # least steps between two renewals that only slowness asks for
_OUTSIDE = 0.3  # of the last decrease: if weights outside the working set promise more, it is renewed
_SUFFICIENT = 1e-4  # least share of the decrease that the model predicts (Armijo 1966)
_POOR, _FINE = 0.6, 0.9  # shares of the predicted decrease
_AHEAD = 0.5, 4.0  # least and most change of the margins that a block expects after a poor step
_MORE, _LESS = 1.5, 0.7  # how it grows and shrinks
_STIFFER = 4.0  # the model, after each trial but the first that fails
_DAMPING, _MORE_DAMPING = 1e-3, 10.0  # beside the first variances, after a trial that fails; its growth
_STILL = 5  # steps without a decrease beyond rounding, after which the search is stuck
_MOST_TRIALS = 20  # of one step
_TINY = float(np.finfo(float).tiny)
_ROUNDING = 4 * float(np.finfo(float).eps)  # relative error of a sum over rows


class ProximalSearch:
    """Minimises a problem with an L1 penalty: send `steps` the sums that it requests until it ends.

    Ends when the predicted decrease and the last decrease are within `tolerance` times the value, or when
    rounding lets no step decrease the value.
    """

    def __init__(self, problem: Problem, start: np.ndarray, tolerance: float, rows: Transposed | None = None):
        """start (features, classes). rows: those of the training, if the search is to read them."""
        self.problem, self._tolerance = problem, tolerance
        self.best = Point(start, math.inf, np.zeros(problem.shape), np.zeros(problem.classes))
        self.stuck = False
        self.gap = math.inf  # estimate of how far the value is above the least one
        self._thresholds = np.full(problem.shape, problem.l1)
        if problem.intercept:
            self._thresholds[-1] = 0.0
        self._compact = CompactModel(problem)
        self._rows = None if rows is None else RowModel(problem, rows)
        self._model: Model = self._compact
        self._ending = False  # whether the end has been near: blocks take over
        self._variances = self._first_variances = np.zeros(problem.shape)
        self._damping = 0.0
        self._raised = 1.0  # factor of the penalty
        self._masses = np.zeros(problem.classes)  # when the model was renewed
        self._effort, self._ahead, self._renewals, self._age = 0.0, 0.0, 0, 0
        self._decreases: list[float] = []

    def steps(self) -> Steps:
        """Yield requests, to be sent their sums."""
        sums = yield Gradient(self.best.weights)
        self.best = self._point(self.best.weights, sums)
        effort = _EFFORT
        while True:
            if effort:
                yield from self._renew(effort)
            weights, predicted = self._next()
            self._estimate_gap(predicted)
            if self._is_near():
                self._ending = True
                if self._model is not self._compact and self._effort < _LAST_EFFORT:
                    yield from self._renew(_LAST_EFFORT)  # a small sample may hide a flat direction
                self._damping = 0.0  # which hides flat directions too
                weights, predicted = self._next(exact=True)
                self._estimate_gap(predicted)
                if self._is_near():
                    return
            failures = yield from self._step(weights, predicted)
            if self.stuck:
                return
            effort = self._effort_to_renew(failures)

    def _renew(self, effort: float) -> Steps:
        """Renew the model: that of the rows, a block of the Hessian, or else the moments."""
        wanted = np.flatnonzero(self._wanted())
        if self._rows is not None and not (self._ending and len(wanted) <= MOST_KEYS):
            self._rows.renew(self.best.weights, wanted, self._ahead)
            self._model, self._raised = self._rows, 1.0
            if not self._renewals:
                self._variances = self._rows.variances()
        elif len(keys := self._working_set()) <= MOST_KEYS:
            sums = yield Block(keys, effort, self._renewals, self._ahead)
            self._model = BlockModel(self.problem, sums, keys)
            self._variances = self._variances_of(sums)
        else:
            sums = yield Curvature(1.0, self._renewals)
            self._compact.renew(sums, self.best.masses)
            self._model = self._compact
            self._variances = self._variances_of(sums)
        if not self._renewals:  # per curvature
            self._first_variances = self._variances / np.maximum(self.best.masses, _TINY)
        self._effort, self._age, self._masses = effort, 0, self.best.masses
        self._renewals += 1

    def _variances_of(self, sums: Sums) -> np.ndarray:
        return variances(sums, self.best.masses, self.problem.intercept) + self.problem.penalty

    def _kept(self) -> np.ndarray:
        """Return which weights are non-zeros or intercepts."""
        return (self.best.weights != 0) | (self._thresholds == 0)

    def _wanted(self) -> np.ndarray:
        """Return which weights are non-zeros, intercepts, or violate the conditions of optimality, nearly."""
        return self._kept() | (np.abs(self.best.gradient) > _NEAR * self._thresholds)

    def _working_set(self) -> np.ndarray:
        """Return the keys of the non-zeros, the intercepts, and the worst violators of optimality.

        Raise the penalty to the steepest gradient of the violators that are left out.
        """
        steep, kept, wanted = np.abs(self.best.gradient), self._kept(), self._wanted()
        count = int(np.count_nonzero(kept))
        most = max(_LEAST_KEYS, _GROWTH * count)
        if count <= _MOST_NONZEROS:
            most = min(most, MOST_KEYS)
        self._raised = 1.0
        if np.count_nonzero(wanted) <= most:
            return np.flatnonzero(wanted)
        steep[kept] = np.inf
        order = np.argpartition(steep.ravel(), -most)
        self._raised = max(1.0, float(steep.ravel()[order[:-most]].max()) / self.problem.l1)
        return np.sort(order[-most:])

    def _next(self, stiffness: float = 1.0, exact: bool = False) -> tuple[np.ndarray, float]:
        """Return the weights at the minimum of the model times `stiffness`, and the predicted decrease."""
        if self._model is self._compact:
            self._compact.keys = self._working_set()
        accuracy = _EXACT if exact else _ROUGH if self._model is self._rows else _ACCURACY
        damping = self._damping * self.best.masses * self._first_variances
        thresholds, enough = self._raised * self._thresholds, (_LEAST if exact else _ENOUGH) * self._allowed
        return self._model.minimum(Task(self.best, thresholds, damping, stiffness, accuracy, enough))

    def _estimate_gap(self, predicted: float) -> None:
        if self._model is self._compact:
            self.gap = max(predicted, self._anywhere())  # the model may be far too stiff
        else:
            self.gap = predicted + self._outside()

    def _outside(self) -> float:
        """Return about how much the weights outside the working set can decrease the value."""
        excess = np.maximum(np.abs(self.best.gradient) - self._thresholds, 0.0)
        excess.ravel()[self._model.keys] = 0.0
        return self._promised(excess)

    def _anywhere(self) -> float:
        """Return about how much all weights can decrease the value, one by one."""
        weights, gradient = self.best.weights, self.best.gradient
        inside = np.abs(gradient + np.copysign(self._thresholds, weights))
        beyond = np.maximum(np.abs(gradient) - self._thresholds, 0.0)
        return self._promised(np.where(weights != 0, inside, beyond))

    def _promised(self, slopes: np.ndarray) -> float:
        return float((slopes**2 / np.where(slopes > 0, self._variances, 1.0)).sum() / 2)

    @property
    def _allowed(self) -> float:
        """The gap to the least value that is allowed at the end."""
        return min(self._tolerance, _MOST_GAP) * abs(self.best.value)

    def _is_near(self) -> bool:
        allowed, rounding = self._allowed, _ROUNDING * abs(self.best.value)
        last = 5 if self._model is self._compact else 1
        recent = self._decreases[-last:]
        slow = len(recent) == last and max(recent) <= allowed
        return self._raised == 1.0 and (self.gap <= rounding or (self.gap <= allowed / 2 and slow))

    def _step(self, weights: np.ndarray, predicted: float) -> Generator[Request, Sums, int]:
        """Move to the model's minimum. Return how many trials failed before."""
        before = self.best
        rounding = _ROUNDING * abs(before.value)
        for failures in range(_MOST_TRIALS):
            point = self._point(weights, (yield Gradient(weights)))
            self._model.learn(point.weights - before.weights, point.gradient - before.gradient)
            decrease = self._raised_value(before) - self._raised_value(point)
            if decrease >= _SUFFICIENT * predicted - rounding:
                break
            self._damping = min(max(_MORE_DAMPING * self._damping, _DAMPING), 1.0)
            weights, predicted = self._next(_STIFFER**failures)
        else:
            self.stuck = True
            return failures
        self.best = point
        self._age += 1
        self._decreases.append(decrease)
        self.stuck = len(self._decreases) >= _STILL and max(self._decreases[-_STILL:]) <= rounding
        if not failures and decrease > _POOR * predicted:
            self._damping = self._damping / _MORE_DAMPING if self._damping > _DAMPING / 100 else 0.0
        if failures or decrease < _POOR * predicted:
            self._ahead = float(np.clip(_MORE * self._ahead, *_AHEAD))
        elif decrease > _FINE * predicted:
            self._ahead = _LESS * self._ahead if self._ahead > _AHEAD[0] / 4 else 0.0
        return failures

    def _effort_to_renew(self, failures: int) -> float:
        """Return the effort for a new model, 0 to keep the present one."""
        if self._model is self._rows:
            return _EFFORT
        drift = np.abs(self.best.masses - self._masses).sum() / max(self._masses.sum(), 1e-300)
        slow = self._age >= _STEPS_BETWEEN and self._decreases[-1] > _SLOW * self._decreases[-2]
        if self._model is self._compact:
            fits = len(self._working_set()) <= MOST_KEYS
            return _EFFORT if drift > _DRIFT or (fits and (slow or failures)) else 0.0
        if self._raised > 1:
            return _EFFORT
        if failures:
            return 4 * (_EFFORT if drift > _DRIFT else self._effort)
        if drift > _DRIFT or self._outside() > _OUTSIDE * self._decreases[-1]:
            return _EFFORT
        return 2 * self._effort if slow else 0.0

    def _raised_value(self, point: Point) -> float:
        return point.value + (self._raised - 1) * self._l1_penalty(point.weights)

    def _l1_penalty(self, weights: np.ndarray) -> float:
        return float((self._thresholds * np.abs(weights)).sum())

    def _point(self, weights: np.ndarray, sums: Sums) -> Point:
        """Return the point with the penalties' part of the value, and the L2 penalty's of the gradient."""
        owed = self.problem.penalty * weights
        penalties = float((owed * weights).sum()) / 2 + self._l1_penalty(weights)
        return Point(weights, sums.loss + penalties, sums.gradient + owed, sums.masses.copy())
