"""The least value of the objective by an interior-point Newton method, with a proof: a bound from its dual.

Dense and independent of the package. With rows x_i, labels y_i (one-hot), weights s_i (sum 1) and p the
softmax of the margins m = W x + b (two classes: of (0, m)), the problem and its dual are

    min over W, b:  sum_i s_i log(1/p_i[y_i]) + l2/2 |W|^2 + l1 |W|_1
    max over p:     sum_i s_i H(p_i) - sum_jk soft(V_jk, l1)^2 / (2 l2),    V = sum_i s_i x_i (p_i - y_i)

with H the entropy, V = 0 for the intercept, and |V_jk| <= l1 where l2 = 0. Any p that satisfies the
constraints gives a lower bound of every objective.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.special

_MOST_STEPS = 100
_NOTHING = 1e-13  # an objective that falls to 0: the rows are separable
_ZERO = 1e-7  # a scaled weight of the interior-point method that is 0 at the optimum
_RIDGE = 1e-13  # of the diagonal: dependent columns make the Hessian singular


class Optimum(NamedTuple):
    value: float  # the objective at `weights`
    bound: float  # no weights have a lower one
    weights: np.ndarray  # (features + intercept, columns)


class Problem:
    """Dense rows (rows, n), the intercept's column of ones last; penalties (n,), 0 for the intercept."""

    def __init__(self, rows, y, importance, l1, l2, intercept):
        rows = rows.toarray() if scipy.sparse.issparse(rows) else rows
        rows = np.asarray(rows, np.longdouble)  # of columns far from 0, products of floats lose digits
        self.classes, codes = np.unique(y, return_inverse=True)
        self.rows = np.hstack([rows, np.ones((len(rows), 1))]) if intercept else rows
        self.onehot = np.eye(len(self.classes))[codes]
        importance = np.ones(len(rows)) if importance is None else importance
        self.shares = importance / importance.sum()
        self.intercept, self.features = intercept, rows.shape[1]
        penalized = np.arange(self.rows.shape[1]) < self.features
        self.l1, self.l2 = l1 * penalized, l2 * penalized

    @property
    def binary(self):
        return len(self.classes) == 2

    @property
    def columns(self):
        return 1 if self.binary else len(self.classes)

    def scaled(self):
        """Return the same problem with columns of mean 0 (if there is an intercept) and mean square 1, and
        their scales.

        A shift of the columns changes the intercept alone, which has no penalty.
        """
        other = object.__new__(Problem)
        other.__dict__ = dict(self.__dict__)
        means = self.shares @ self.rows * (self.intercept and np.arange(len(self.l1)) < self.features)
        rows = (self.rows - means).astype(float)
        largest = np.abs(rows).max(axis=0)
        largest[largest <= 1e-13 * np.abs(means)] = 0.0  # a constant column, rounded
        scales = np.where(largest > 0, largest, 1.0)
        rows = rows / scales * (largest > 0)
        roots = np.sqrt(self.shares @ rows**2)
        roots[roots == 0] = 1.0
        other.rows, scales = rows / roots, (scales * roots).astype(float)
        other.l1, other.l2 = self.l1 / scales, self.l2 / scales / scales
        return other, scales, means.astype(float)

    def margins(self, weights):
        margins = self.rows @ weights
        return np.hstack([np.zeros_like(margins), margins]) if self.binary else margins

    def loss(self, weights):
        margins = self.margins(weights)
        apart = margins - (margins * self.onehot).sum(axis=1, keepdims=True)
        apart[self.onehot > 0] = -math.inf  # its exp(0) = 1 is the 1 of log1p
        top = np.maximum(apart.max(axis=1), 0)
        small = np.exp(apart - top[:, None]).sum(axis=1)
        return float(self.shares @ np.where(top > 0, top + np.log(small + np.exp(-top)), np.log1p(small)))

    def objective(self, weights):
        penalty = self.l2 @ weights**2 / 2 + self.l1 @ np.abs(weights)
        return self.loss(weights) + float(penalty.sum())

    def probabilities(self, weights):
        return scipy.special.softmax(self.margins(weights), axis=1)

    def residual(self, probabilities):
        return (probabilities - self.onehot)[:, -self.columns :]

    def slope(self, probabilities):
        """Return the gradient of the loss (n, columns)."""
        return self.rows.T @ (self.shares[:, None] * self.residual(probabilities))

    def hessian(self, probabilities, chosen=slice(None)):
        """Return the Hessian of the loss; weights are flattened row by row. chosen: rows of the weights."""
        own, n = probabilities[:, -self.columns :], self.rows[:, chosen].shape[1]
        others = np.stack(
            [np.delete(probabilities, k, axis=1).sum(axis=1) for k in range(-self.columns, 0)], 1
        )
        found = np.empty((n, self.columns, n, self.columns))
        for k in range(self.columns):
            for other in range(k + 1):
                curvature = self.shares * own[:, k] * (others[:, k] if k == other else -own[:, other])
                block = (self.rows[:, chosen] * curvature[:, None]).T @ self.rows[:, chosen]
                found[:, k, :, other] = found[:, other, :, k] = block
        return found.reshape(n * self.columns, -1)

    def bound(self, weights):
        """Return the best value of the dual at the probabilities of `weights`, moved onto its constraints."""
        p, owed = self.probabilities(weights), -self.l1[:, None] * np.sign(weights)
        exact = (self.l2 == 0)[:, None] & ((self.l1 == 0)[:, None] | (np.abs(weights) > _ZERO))
        chosen, flat = exact.any(axis=1), exact[exact.any(axis=1)].ravel()
        best = self._dual(p, weights)
        for _ in range(3 if exact.any() else 0):
            step = np.zeros(len(flat))
            hessian = self.hessian(p, chosen)[np.ix_(flat, flat)]
            step[flat] = solved(hessian, (owed - self.slope(p))[exact])
            moved = self.rows[:, chosen] @ step.reshape(-1, self.columns)
            moved = np.hstack([np.zeros_like(moved), moved]) if self.binary else moved
            moved -= moved.mean(axis=1, keepdims=True)  # of no effect, but for rounding
            p = p * (1 + moved - (p * moved).sum(axis=1, keepdims=True))
            if p.min() < 0:
                break
            best = max(best, self._dual(p, weights))
        return best

    def _dual(self, p, weights):
        """Return the dual at p, or 0 (a bound too) if p does not satisfy the constraints to rounding."""
        bounded, free = (self.l1 > 0) & (self.l2 == 0), (self.l1 == 0) & (self.l2 == 0)
        most = (np.abs(self.slope(p))[bounded] / self.l1[bounded, None]).max(initial=1.0)
        p = self.onehot + (p - self.onehot) / most
        slope = np.abs(self.slope(p))
        above, l2 = np.maximum(slope - self.l1[:, None], 0.0)[self.l2 > 0], self.l2[self.l2 > 0, None]
        entropy = self.shares @ -scipy.special.xlogy(p, p).sum(axis=1)
        error = (slope * (1 + np.abs(weights)))[free].sum()  # of constraints that must hold exactly
        if error > 1e-7 * entropy:
            return 0.0
        return max(0.0, float(entropy - (above**2 / (2 * l2)).sum() - error))


def solved(matrix, right):
    """Solve a positive semidefinite system."""
    diagonal = matrix.diagonal()
    scales = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    matrix = matrix * scales * scales[:, None]
    matrix.flat[:: len(matrix) + 1] += _RIDGE
    for ridge in (0.0, 1e-10, 1e-6):
        matrix.flat[:: len(matrix) + 1] += ridge
        try:
            factor = scipy.linalg.cho_factor(matrix, check_finite=False)
        except scipy.linalg.LinAlgError:
            continue
        return scales * scipy.linalg.cho_solve(factor, scales * right)
    raise AssertionError("the Hessian must be positive semidefinite")


def optimum(problem, gap=1e-8):
    """Return the optimum to a relative `gap`, or as near as rounding permits; 0 if the rows are separable."""
    inner, scales, means = problem.scaled()
    search, best = _Search(inner), Optimum(math.inf, 0.0, np.empty(0))
    for _ in range(_MOST_STEPS):
        weights, value = search.weights, inner.objective(search.weights)
        estimate = search.prepare()
        if estimate <= 1e-6 * value or value < _NOTHING:
            bound = max(best.bound, inner.bound(weights))
            best = Optimum(value, bound, weights) if value < best.value else best._replace(bound=bound)
            if value - bound <= gap * value or value < _NOTHING:
                break
        search.move()
    weights = best.weights / scales[:, None]
    if problem.intercept:
        weights[-1] -= means @ weights
    return best._replace(weights=weights)


class _Search:
    """A primal-dual interior-point method: Newton steps towards a barrier that vanishes.

    Weights with an L1 penalty are a - b, with a, b >= 0 and multipliers up = l1 + G, down = l1 - G, where G
    is the gradient of the rest, and a * up = b * down = barrier. The steps of other weights are plain Newton.
    All arrays are (n * columns,).
    """

    def __init__(self, problem):
        self.problem, self.shape = problem, (len(problem.l1), problem.columns)
        self.l1, self.l2 = (np.repeat(each, problem.columns) for each in (problem.l1, problem.l2))
        self.split = self.l1 > 0
        self.free = np.zeros(len(self.l1))
        self.a = self.b = np.minimum(1.0, 0.01 / self.l1[self.split])
        self.up = self.down = self.l1[self.split]

    @property
    def weights(self):
        return self._weights(self.free, self.a, self.b)

    def _weights(self, free, a, b):
        weights = free.copy()
        weights[self.split] = a - b
        return weights.reshape(self.shape)

    def prepare(self):
        """Compute the step, and return an estimate of the gap."""
        problem, split, weights = self.problem, self.split, self.weights.ravel()
        a, b, up, down = self.a, self.b, self.up, self.down
        total = a @ up + b @ down
        self.barrier = barrier = 0.1 * total / max(2 * len(a), 1)
        p = problem.probabilities(self.weights)
        slope, hessian = problem.slope(p).ravel() + self.l2 * weights, problem.hessian(p)
        diagonal = np.einsum("ii->i", hessian)
        diagonal += self.l2
        for_a, for_b = (
            barrier / a - slope[split] - self.l1[split],
            barrier / b + slope[split] - self.l1[split],
        )
        spring, right, system = 1 / (a / up + b / down), -slope, hessian.copy()
        right[split] = spring * (for_a * a / up - for_b * b / down)
        np.einsum("ii->i", system)[split] += spring
        along = solved(system, right)
        if problem.columns > 1:  # a shift of all classes has no effect, and rounding would make it large
            open_ = (self.l1 == 0) & (self.l2 == 0)
            along[open_] -= along[open_].reshape(-1, problem.columns).mean(axis=1).repeat(problem.columns)
        felt = (hessian @ along)[split]
        to_a, to_b = (for_a - felt) * a / up, (for_b + felt) * b / down
        to_up, to_down = (barrier - a * up - up * to_a) / a, (barrier - b * down - down * to_b) / b
        self._step = along, to_a, to_b, to_up, to_down
        return float(total + right @ along)

    def move(self):
        """Take the step; shorten it until the objective with the barrier does not rise."""
        along, to_a, to_b, to_up, to_down = self._step
        t, now = min(_reach(self.a, to_a), _reach(self.b, to_b)), self._merit(0.0)
        while self._merit(t) > now + 1e-14 * abs(now) and t > 1e-10:
            t /= 2
        self.free = self.free + t * along
        self.a, self.b = self.a + t * to_a, self.b + t * to_b
        t = min(_reach(self.up, to_up), _reach(self.down, to_down))
        self.up, self.down = self.up + t * to_up, self.down + t * to_down

    def _merit(self, t):
        along, to_a, to_b, *_ = self._step
        a, b = self.a + t * to_a, self.b + t * to_b
        weights = self._weights(self.free + t * along, a, b)
        smooth = self.problem.loss(weights) + self.l2 @ weights.ravel() ** 2 / 2
        return smooth + self.l1[self.split] @ (a + b) - self.barrier * (np.log(a) + np.log(b)).sum()


def _reach(values, step):
    """Return the longest step <= 1 that leaves a hundredth of every value."""
    shrinking = step < 0
    return min(1.0, 0.99 * float((-values[shrinking] / step[shrinking]).min(initial=math.inf)))
