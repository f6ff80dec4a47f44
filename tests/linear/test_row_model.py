"""The quadratic model that reads the rows by columns, and the L1 search with it."""

import numpy as np
import pytest
import scipy.sparse

from shmps.data.rows import rows_of
from shmps.linear.full_gradient.problem import (
    BINARY,
    ONE_AGAINST_REST,
    SOFTMAX,
    Gradient,
    Point,
    Problem,
    Sums,
)
from shmps.linear.full_gradient.quadratic import Task
from shmps.linear.full_gradient.row_model import RowModel
from shmps.linear.full_gradient.searches import search_for
from shmps.linear.full_gradient.shard import Shard
from shmps.linear.full_gradient.transposed import transposed

ROWS, FEATURES = 60, 40


def sets(kind, classes, seed=0):
    """Return X and y; onehot: the features of a field add up to 1, and other fields to the same."""
    rng = np.random.default_rng(seed)
    if kind == "onehot":
        X = np.hstack([np.eye(FEATURES // 4)[rng.integers(0, FEATURES // 4, ROWS)] for _ in range(4)])
    else:
        X = rng.exponential(size=(ROWS, FEATURES)) * (rng.random((ROWS, FEATURES)) < 0.2)
    y = rng.integers(0, classes, ROWS).astype(float)
    return scipy.sparse.csr_matrix(X), 2 * y - 1 if classes == 2 else y


def problem_of(rows, classes, intercept, l1, l2=0.0):
    loss = BINARY if classes == 2 else ONE_AGAINST_REST
    shape = (FEATURES + intercept, *(() if classes == 2 else (classes,)))
    return Problem.of(rows, shape, loss, intercept, l2, l1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_minimum_is_that_of_the_dense_model(classes, intercept, weighted):
    rng = np.random.default_rng(1)
    X, y = sets("text", classes)
    importance = rng.exponential(size=ROWS) if weighted else None
    rows = rows_of(X, y, importance)
    problem = problem_of(rows, classes, intercept, l1=0.002, l2=0.01)
    weights = rng.normal(size=problem.shape) * (rng.random(problem.shape) < 0.3)
    sums = Sums.of(problem)
    Shard(problem, rows, 0).compute_gradient(weights, sums)
    point = Point(weights, 0.0, sums.gradient + problem.penalty * weights, sums.masses)
    model = RowModel(problem, transposed(problem, [rows.part(0, 25), rows.part(25, ROWS)]))
    keys = np.arange(problem.size)[:: 1 if intercept else 2]
    model.renew(weights, keys, 0.0)
    thresholds = np.full(problem.shape, problem.l1)
    if intercept:
        thresholds[-1] = 0.0
    damping, stiffness = rng.random(problem.shape) / 100 * (thresholds > 0), 2.0
    found, decrease = model.minimum(Task(point, thresholds, damping, stiffness, 1e-9, 1e-16))

    dense = np.hstack([X.toarray(), np.ones((ROWS, int(intercept)))])
    shares = (np.ones(ROWS) if importance is None else importance)[:, None] / ROWS
    p = 1 / (1 + np.exp(-dense @ weights))
    step = found - weights
    curved = dense.T @ (shares * p * (1 - p) * (dense @ step)) + problem.penalty * step + damping * step
    slopes = (point.gradient + stiffness * curved).ravel()[keys]
    own, l1 = found.ravel()[keys], thresholds.ravel()[keys]
    beyond = np.where(own != 0, np.abs(slopes + l1 * np.sign(own)), np.maximum(np.abs(slopes) - l1, 0))
    assert beyond.max() < 1e-6
    assert not step.ravel()[np.setdiff1d(np.arange(problem.size), keys)].any()
    change = (point.gradient * step + stiffness / 2 * step * curved).sum()
    change += (thresholds * (np.abs(found) - np.abs(weights))).sum()
    assert decrease == pytest.approx(-change, rel=1e-6)


def searched(rows, problem, tolerance, by_columns):
    columns = transposed(problem, [rows])
    assert columns is not None
    search = search_for(problem, np.zeros(problem.shape), tolerance, rows=columns if by_columns else None)
    shard, sums = Shard(problem, rows, 0), Sums.of(problem)
    steps, gradients, request = search.steps(), 0, None
    try:
        request = next(steps)
        while True:
            weights = request.weights if isinstance(request, Gradient) else search.best.weights
            gradients += isinstance(request, Gradient)
            shard.answer(request, weights, sums)
            request = steps.send(sums)
    except StopIteration:
        return search.best.value, gradients


@pytest.mark.parametrize("kind", ["text", "onehot"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("tolerance", [0.1, 1e-3, 1e-6])
def test_the_search_that_reads_rows_ends_within_the_tolerance(kind, classes, intercept, tolerance):
    rows = rows_of(*sets(kind, classes))
    for l1 in 3e-3, 3e-5:
        problem = problem_of(rows, classes, intercept, l1)
        least, _ = searched(rows, problem, 1e-12, by_columns=False)
        value, gradients = searched(rows, problem, tolerance, by_columns=True)
        assert value <= least * (1 + tolerance)
        assert gradients <= 40


def test_the_rows_are_read_where_features_are_many_and_non_zeros_are_few():
    rows = rows_of(*sets("text", 2))
    assert transposed(problem_of(rows, 2, False, 0.1), [rows]) is not None
    assert transposed(problem_of(rows, 2, False, 0.0, l2=0.1), [rows]) is None
    few = rows_of(scipy.sparse.csr_matrix(np.ones((ROWS, 4))), rows.labels)
    assert transposed(Problem.of(few, (4,), BINARY, False, 0.0, 0.1), [few]) is None
    softmax = Problem.of(rows, (FEATURES, 3), SOFTMAX, False, 0.0, 0.1)
    assert transposed(softmax, [rows]) is None
