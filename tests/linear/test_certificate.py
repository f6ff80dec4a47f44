"""The duality gap bounds the distance to the least objective, which SciPy finds on dense matrices."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from scipy.special import logsumexp

from shmps.data.rows import rows_of
from shmps.linear.certificate import duality_gap
from shmps.linear.full_gradient.problem import BINARY, ONE_AGAINST_REST, SOFTMAX, Problem

PENALTIES = [(0.05, 0.0), (0.0, 0.02), (0.01, 0.02), (0.02, 1e-6)]
LOSSES = [BINARY, ONE_AGAINST_REST, SOFTMAX]


def a_problem(loss, intercept, l2, l1, scales=1.0, importance=None):
    rng = np.random.default_rng(7)
    X = scipy.sparse.csr_matrix(np.where(rng.random((60, 5)) < 0.6, rng.normal(size=(60, 5)), 0.0) * scales)
    score = X.toarray() / scales @ rng.normal(size=(5, 3)) + rng.normal(size=(60, 3)) + [1.0, 0.0, -0.5]
    labels = np.where(score[:, 0] > 0, 1.0, -1.0) if loss == BINARY else score.argmax(axis=1).astype(float)
    rows = rows_of(X, labels, importance)
    shape = (5 + intercept,) if loss == BINARY else (5 + intercept, 3)
    return rows, Problem.of(rows, shape, loss, intercept, l2, l1), X.toarray()


def objective(dense, rows, problem, weights):
    """The objective, from its definition."""
    weights = weights.reshape(problem.shape)
    own = weights[:-1] if problem.intercept else weights
    margins = dense @ own + (weights[-1] if problem.intercept else 0.0)
    if problem.loss == BINARY:
        losses = np.logaddexp(0, -rows.labels * margins[:, 0])
    elif problem.loss == ONE_AGAINST_REST:
        signs = np.where(rows.labels[:, None] == np.arange(problem.classes), 1, -1)
        losses = np.logaddexp(0, -signs * margins).sum(axis=1)
    else:
        losses = logsumexp(margins, axis=1) - margins[np.arange(len(dense)), rows.labels.astype(int)]
    importance = 1.0 if rows.importance is None else rows.importance
    return (importance * losses).mean() + problem.l2 / 2 * (own**2).sum() + problem.l1 * np.abs(own).sum()


def minimised(dense, rows, problem):
    """The optimum by SciPy, with w = p - q, p >= 0, q >= 0, which makes the L1 penalty smooth."""
    size, free = problem.size, problem.classes * problem.intercept

    def halves(both):
        return both[:size] - both[size:]

    def smooth(both):
        weights = halves(both)
        excess = both.sum() - both[size - free : size].sum() - both[2 * size - free :].sum()
        loss = objective(dense, rows, problem, weights)
        own = weights[: size - free]
        return loss - problem.l1 * np.abs(own).sum() + problem.l1 * excess

    bounds = [(0, None)] * (size - free) + [(None, None)] * free
    bounds += [(0, None)] * (size - free) + [(0, 0)] * free
    found = scipy.optimize.minimize(
        smooth, np.zeros(2 * size), method="L-BFGS-B", bounds=bounds,
        options={"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-15, "gtol": 1e-9},
    )  # fmt: skip
    return halves(found.x)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_the_gap_bounds_the_distance_everywhere_and_is_small_at_the_optimum(loss, intercept, l1, l2):
    rows, problem, dense = a_problem(loss, intercept, l2, l1)
    best = minimised(dense, rows, problem)
    least = objective(dense, rows, problem, best)
    for noise in (1.0, 0.1, 1e-3):
        weights = best + noise * np.random.default_rng(1).normal(size=best.shape)
        distance = objective(dense, rows, problem, weights) - least
        assert duality_gap(rows, weights, problem) >= distance * (1 - 1e-6)
    assert duality_gap(rows, best, problem) <= 1e-4 * least
