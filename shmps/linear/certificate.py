"""A certificate: an upper bound of how far the objective at some weights is above the least one, by duality.

Fenchel's dual of  mean_i s_i loss_i(z_i) + g(W),  z_i = x_i W,  g(W) = l2/2 |W|^2 + l1 |W|_1:

    for every dual point q,  gap(q) = mean_i s_i KL(q_i || p_i) + sum_j g(w_j) + g*(v_j) - v_j w_j

where p_i are the probabilities of the classes at z_i, v_j = mean_i s_i (e_i - q_i) x_ij with the label as
e_i, and g* the conjugate of g. Every term is >= 0, so little cancels. The dual points are
q_i = (1 - c) e_i + c p_i, 0 < c <= 1. An intercept has g = 0, so v = 0 must hold for it: first minimise over
the intercepts alone.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse

from shmps.data.rows import Rows
from shmps.linear.full_gradient.problem import SOFTMAX, Problem

_MOST_STEPS = 100  # of Newton's method for the intercepts
_MOST_HALVINGS = 50  # of a step
_ROUNDING = float(np.finfo(float).eps)


def duality_gap(rows: Rows, weights: np.ndarray, problem: Problem) -> float:
    """Return an upper bound of the objective at `weights` minus the least objective.

    weights: (features,) or (features, classes), the intercepts last. The bound is infinite without a penalty,
    or if the intercepts have no finite optimum. Reads the rows twice.
    """
    if problem.l1 == problem.l2 == 0.0:
        return math.inf
    weights = weights.reshape(problem.shape)
    margins = np.concatenate([_matrix(part, problem) @ _own(weights, problem) for part in rows.parts()])
    importance = np.ones(rows.num_rows) if rows.importance is None else rows.importance
    if problem.loss == SOFTMAX:
        return _gap(rows, rows.labels.astype(int), importance, margins, weights, problem)
    classes = range(problem.classes)
    signs = (
        [rows.labels] if problem.classes == 1 else [np.where(rows.labels == c, 1.0, -1.0) for c in classes]
    )
    return sum(
        _gap(rows, sign, importance, margins[:, c : c + 1], weights[:, c : c + 1], problem)
        for c, sign in zip(classes, signs, strict=True)
    )


def _matrix(part: Rows, problem: Problem) -> scipy.sparse.csr_matrix:
    begin, end = part.indptr[0], part.indptr[-1]
    shape = part.num_rows, problem.features - problem.intercept
    return scipy.sparse.csr_matrix(
        (part.data[begin:end], part.indices[begin:end], part.indptr - begin), shape=shape
    )


def _own(weights: np.ndarray, problem: Problem) -> np.ndarray:
    """Return the weights that have a penalty."""
    return weights[: problem.features - problem.intercept]


def _gap(
    rows: Rows,
    labels: np.ndarray,
    importance: np.ndarray,
    margins: np.ndarray,
    weights: np.ndarray,
    problem: Problem,
) -> float:
    """Return the gap of one problem: softmax's, or one with the labels -1 and +1.

    margins (rows, columns) and weights (features, columns); margins leave out the intercepts.
    """
    share = importance / problem.rows
    parts = _softmax if problem.loss == SOFTMAX else _logistic
    excess = 0.0
    if problem.intercept:
        best = _best_intercepts(parts, margins, labels, share, weights[-1])
        if best is None:
            return math.inf
        excess = share @ (parts(margins + weights[-1], labels)[0] - parts(margins + best, labels)[0])
        margins = margins + best
    _, odds, slopes = parts(margins, labels)
    own, pull, begin = _own(weights, problem), np.zeros(_own(weights, problem).shape), 0
    for part in rows.parts():
        end = begin + part.num_rows
        pull -= _matrix(part, problem).T @ (share[begin:end, None] * slopes[begin:end])
        begin = end
    scales = [1.0] if problem.l2 > 0 else []
    if problem.l1 > 0:
        scales.append(min(1.0, problem.l1 / max(np.abs(pull).max(initial=0.0), problem.l1)))
    gaps = [share @ _divergences(odds, scale) + _penalty_gap(own, scale * pull, problem) for scale in scales]
    return max(float(excess), 0.0) + float(min(gaps))


def _logistic(margins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each row's loss, log odds of the wrong class, and slope by the margin (rows, 1)."""
    odds = -labels * margins[:, 0]
    return np.logaddexp(0.0, odds), odds, (-labels * _probability(odds))[:, None]


def _softmax(margins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each row's loss, log odds of any wrong class, and slopes by the margins (rows, classes)."""
    each = np.arange(len(labels))
    ahead = margins - margins[each, labels][:, None]
    ahead[each, labels] = -math.inf
    highest = ahead.max(axis=1)
    odds = highest + np.log(np.exp(ahead - highest[:, None]).sum(axis=1))
    losses = np.logaddexp(0.0, odds)
    slopes = np.exp(ahead - losses[:, None])
    slopes[each, labels] = -_probability(odds)
    return losses, odds, slopes


def _probability(odds: np.ndarray) -> np.ndarray:
    """Return p with log(p / (1 - p)) = odds."""
    return np.exp(-np.logaddexp(0.0, -odds))


def _divergences(odds: np.ndarray, scale: float) -> np.ndarray:
    """Return KL(q_i || p_i), (rows,), for q = (1 - c) e + c p, from the log odds of a wrong class under p."""
    if scale == 1.0:
        return np.zeros(len(odds))
    wrong = scale * _probability(odds)
    return wrong * math.log(scale) + (1.0 - wrong) * np.logaddexp(0.0, math.log1p(-scale) + odds)


def _penalty_gap(weights: np.ndarray, pull: np.ndarray, problem: Problem) -> float:
    """Return sum_j g(w_j) + g*(v_j) - v_j w_j. Without l2, |v_j| <= l1 must hold, up to rounding.

    With v = a + r, where |a| <= l1, a term is  l1 |w| - a w + l2/2 (w - r / l2)^2.
    """
    beyond = pull - pull.clip(-problem.l1, problem.l1)
    linear = problem.l1 * np.abs(weights) - (pull - beyond) * weights
    if problem.l2 == 0.0:
        return float(linear.sum())
    return float((linear + (problem.l2 * weights - beyond) ** 2 / (2 * problem.l2)).sum())


def _best_intercepts(
    parts: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
    margins: np.ndarray,
    labels: np.ndarray,
    share: np.ndarray,
    start: np.ndarray,
) -> np.ndarray | None:
    """Return the intercepts (columns,) at the minimum of the loss, by Newton's method; None without one."""
    columns = margins.shape[1]
    seen = np.bincount((labels > 0).astype(int) if columns == 1 else labels, share, max(columns, 2))
    if not seen.all():
        return None
    best, (losses, odds, slopes) = start, parts(margins + start, labels)
    for _ in range(_MOST_STEPS):
        value, gradient = share @ losses, share @ slopes
        step = -np.linalg.lstsq(_intercepts_hessian(odds, slopes, labels, share), gradient)[0]
        least = 1e-4 * (gradient @ step)
        for shorter in range(_MOST_HALVINGS):
            trial = best + 0.5**shorter * step
            losses, odds, slopes = parts(margins + trial, labels)
            if share @ losses <= value + 0.5**shorter * least + _ROUNDING * value:
                break
        if np.abs(share @ slopes).max() >= np.abs(gradient).max() and -least <= _ROUNDING * value:
            break
        best = trial
    return best


def _intercepts_hessian(
    odds: np.ndarray, slopes: np.ndarray, labels: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Return the second derivatives of the loss by the intercepts, (columns, columns)."""
    if slopes.shape[1] == 1:
        return np.array([[share @ (_probability(odds) * _probability(-odds))]])
    probabilities = slopes.copy()
    probabilities[np.arange(len(labels)), labels] += 1.0
    weighted = share[:, None] * probabilities
    return np.diag(weighted.sum(axis=0)) - probabilities.T @ weighted
