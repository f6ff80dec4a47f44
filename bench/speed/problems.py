"""Training problems as other solvers state them: their objective, their optimum, and a proof of it.

    l2       1/2 |w|^2 + C sum_i log(1 + exp(-y_i x_i.w))
    l1       |w|_1     + C sum_i log(1 + exp(-y_i x_i.w))
    softmax  1/2 |W|^2 + C sum_i (log sum_k exp(x_i.W_k) - x_i.W_(y_i))
    rest     the sum of the l2 problems of each class against the rest

No problem has an intercept: some solvers penalise the intercept, and others do not.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import entr, log_softmax, softmax

_DENSE = 2000  # the most weights for which Newton's method factorises the Hessian
_STEPS = 200  # of Newton's method, at most
_ROUNDING = 1e-12  # relative decreases of the objective below this may be rounding errors


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class Problem:
    """X: CSR (rows, features); y: (rows,), -1 and +1, or classes from 0 on (softmax, rest)."""

    X: Any
    y: np.ndarray
    kind: str
    C: float

    def parts(self) -> list["Problem"]:
        """Return the binary problems: itself, or one per class."""
        if self.kind != "rest":
            return [self]
        labels = (np.where(self.y == label, 1.0, -1.0) for label in np.unique(self.y))
        return [replace(self, y=y, kind="l2") for y in labels]

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of shmps's LogisticRegression for it."""
        strength = 1 / (self.C * len(self.y))
        penalty = {"l1": strength, "l2": 0.0} if self.kind == "l1" else {"l2": strength}
        classes = {"softmax": "multinomial", "rest": "ovr"}
        chosen = {"multi_class": classes[self.kind]} if self.kind in classes else {}
        return {"fit_intercept": False} | penalty | chosen

    def objective(self, weights: np.ndarray) -> float:
        """weights: (features,), or with classes (features, classes)."""
        if self.kind == "rest":
            return sum(part.objective(weights[:, k]) for k, part in enumerate(self.parts()))
        penalty = np.abs(weights).sum() if self.kind == "l1" else 0.5 * np.square(weights).sum()
        return float(penalty + self.C * self._losses(self.X @ weights).sum())

    def gap(self, weights: np.ndarray) -> float:
        """Return the duality gap: an upper bound of how far the objective is above the optimum."""
        if self.kind == "rest":
            return sum(part.gap(weights[:, k]) for k, part in enumerate(self.parts()))
        slopes = self.C * self._slopes(self.X @ weights)
        gradient = self.X.T @ slopes
        if self.kind != "l1":
            return 0.5 * float(np.square(weights + gradient).sum())
        share = np.abs(slopes) / self.C / max(1.0, np.abs(gradient).max())
        return self.objective(weights) - self.C * float((entr(share) + entr(1 - share)).sum())

    def weakest_l1(self) -> float:
        """Return C at lambda_max: the largest C at which the optimum of the l1 problem is 0."""
        return 1 / float(np.abs(self.X.T @ self._slopes(np.zeros(len(self.y)))).max())

    def _losses(self, margins: np.ndarray) -> np.ndarray:
        if self.kind == "softmax":
            return -log_softmax(margins, axis=1)[np.arange(len(self.y)), self.y]
        return np.logaddexp(0.0, -self.y * margins)

    def _slopes(self, margins: np.ndarray) -> np.ndarray:
        """Return the derivatives of the losses by the margins."""
        if self.kind == "softmax":
            return softmax(margins, axis=1) - (np.arange(margins.shape[1]) == self.y[:, None])
        return -self.y / (1 + np.exp(np.minimum(self.y * margins, 700.0)))


def newton(problem: Problem, start: np.ndarray) -> np.ndarray:
    """Return the optimum by Newton's method from `start`, in plain NumPy.

    l1: `start` must have the signs of the optimum; the weights that are 0 in it stay 0. The gap of the result
    tells whether this was so.
    """
    if problem.kind == "rest":
        return np.column_stack([newton(part, start[:, k]) for k, part in enumerate(problem.parts())])
    if problem.kind != "l1":
        return _newton(problem, start, np.zeros_like(start))
    kept = np.flatnonzero(start)
    found = np.zeros_like(start)
    found[kept] = _newton(replace(problem, X=problem.X[:, kept]), start[kept], np.sign(start[kept]))
    return found


def _newton(problem: Problem, weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """signs: of the weights, for l1."""
    ridge, last = float(problem.kind != "l1"), np.inf
    for _ in range(_STEPS):
        margins, before = problem.X @ weights, problem.objective(weights)
        gradient = ridge * weights + signs + problem.C * (problem.X.T @ problem._slopes(margins))
        step = _solved(problem, margins, ridge, gradient)
        promised = float(np.vdot(gradient, step))
        if promised <= _ROUNDING * before and promised > 0.1 * last:
            break  # only rounding errors are left
        length, last = 1.0, promised
        while problem.objective(weights - length * step) > before * (1 + 1e-15) - 1e-4 * length * promised:
            length /= 2
        if length < _ROUNDING:
            break
        weights = weights - length * step
    return weights


def _solved(problem: Problem, margins: np.ndarray, ridge: float, gradient: np.ndarray) -> np.ndarray:
    """Return the inverse of the Hessian times `gradient`."""
    X, C, shape = problem.X, problem.C, gradient.shape
    chances = softmax(margins, axis=1) if problem.kind == "softmax" else 1 / (1 + np.exp(-margins))
    chances = chances.reshape(len(chances), -1)
    if gradient.size <= _DENSE:
        hessian = C * _hessian(X, chances)
        hessian[np.diag_indices_from(hessian)] += ridge
        scale = 1 / np.sqrt(hessian.diagonal())  # features differ by 1e6 and more
        hessian *= scale[:, None] * scale
        hessian[np.diag_indices_from(hessian)] += 1e-12  # two features may be equal
        solution = scale * scipy.linalg.solve(hessian, scale * gradient.T.ravel(), assume_a="pos")
        return solution.reshape(shape[::-1]).T

    def product(flat: np.ndarray) -> np.ndarray:
        direction = flat.reshape(X.shape[1], -1)
        changes = chances * (X @ direction)
        less = changes.sum(axis=1, keepdims=True) if problem.kind == "softmax" else changes
        return (ridge * direction + C * (X.T @ (changes - chances * less))).ravel()

    diagonal = ridge + C * (X.multiply(X).T @ (chances * (1 - chances))).ravel()
    inverse = LinearOperator((gradient.size,) * 2, lambda flat: flat.ravel() / diagonal)
    operator = LinearOperator((gradient.size,) * 2, product)
    return cg(operator, gradient.ravel(), rtol=1e-6, maxiter=2000, M=inverse)[0].reshape(shape)


def _hessian(X: Any, chances: np.ndarray) -> np.ndarray:
    """Return the Hessian of the losses, class after class; chances: (rows, 1 or classes)."""
    rows = X.toarray() if X.nnz > 0.2 * np.prod(X.shape) else X
    classes, n = chances.shape[1], X.shape[1]
    hessian = np.empty((classes, n, classes, n))
    for j in range(classes):
        for k in range(j + 1):
            factors = chances[:, j] * ((j == k) - chances[:, k])
            block = rows.T @ (scipy.sparse.diags_array(factors) @ rows)
            hessian[j, :, k] = block.toarray() if scipy.sparse.issparse(block) else block
            hessian[k, :, j] = hessian[j, :, k].T
    return hessian.reshape(classes * n, classes * n)
