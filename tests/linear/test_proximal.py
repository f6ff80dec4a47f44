"""The search with an L1 penalty ends at the optimum, which other solvers find too, with exact zeros."""

import itertools

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from shmps.data.rows import rows_of
from shmps.linear.certificate import duality_gap
from shmps.linear.full_gradient import proximal
from shmps.linear.full_gradient.layout import Asked, Layout
from shmps.linear.full_gradient.problem import (
    BINARY,
    ONE_AGAINST_REST,
    SOFTMAX,
    Block,
    Gradient,
    Problem,
    Sums,
)
from shmps.linear.full_gradient.searches import search_for
from shmps.linear.full_gradient.shard import Shard

MOST_REQUESTS = 1000


def searched(rows, problem, tolerance=1e-9, shards=1, lives=False):
    """Run the search to its end. lives: each answer comes from a shard that has just been respawned."""
    cuts = [len(rows.labels) * s // shards for s in range(shards + 1)]

    def respawned():
        return [Shard(problem, rows.part(*cut), cut[0]) for cut in itertools.pairwise(cuts)]

    own, search = respawned(), search_for(problem, np.zeros(problem.shape), tolerance)
    layout = Layout(problem)
    steps, total, part = search.steps(), Sums.of(problem), Sums.of(problem)
    request, weights = next(steps), search.best.weights
    for number in range(1, MOST_REQUESTS):
        own = respawned() if lives else own
        if isinstance(request, Gradient):
            weights = request.weights
        asked = layout.read(layout.write(Asked(request, weights, number)))
        total.first[:], total.second[:] = 0.0, 0.0
        for shard in own:
            shard.answer(asked.request, asked.weights, part)
            if isinstance(request, Gradient):
                total.first += part.first
            else:
                count = request.count(problem)
                total.second[:count] += part.second[:count]
        try:
            request = steps.send(total)
        except StopIteration:
            return search
    raise AssertionError("the search has not ended")


def a_problem(X, y, l1, l2=0.0, loss=BINARY, intercept=True, importance=None):
    X = scipy.sparse.csr_matrix(X)
    rows = rows_of(X, y, importance)
    shape = (X.shape[1] + intercept, *(() if loss == BINARY else (int(y.max()) + 1,)))
    return rows, Problem.of(rows, shape, loss, intercept, l2, l1)


def scaled(load):
    X, y = load(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y.astype(float)


def text_like(rows=300, features=2000, seed=0):
    """Rare features, more of them than rows: nearly separable."""
    rng = np.random.default_rng(seed)
    X = scipy.sparse.random(
        rows, features, 0.02, "csr", random_state=rng, data_rvs=lambda size: rng.exponential(size=size)
    )
    y = np.where(X @ rng.normal(size=features) + 0.3 * rng.normal(size=rows) > 0.2, 1.0, -1.0)
    return X, y


def least_penalty_of_zeros(rows, problem):
    """The l1 from which on all weights but the intercept are 0."""
    dense = scipy.sparse.csr_matrix((rows.data, rows.indices, rows.indptr)).toarray()
    share = np.mean(rows.labels > 0) if problem.intercept else 0.5
    return np.abs(dense.T @ (share - (rows.labels > 0))).max() / len(dense)


CANCER = scaled(load_breast_cancer)[0], np.where(load_breast_cancer().target == 1, 1.0, -1.0)
SETS = {"cancer": CANCER, "text": text_like()}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("part", [0.3, 0.03, 0.003])
def test_the_objective_is_that_of_liblinear(name, part):
    X, y = SETS[name]
    rows, problem = a_problem(X, y, 1.0, intercept=False)
    l1 = part * least_penalty_of_zeros(rows, problem)
    rows, problem = a_problem(X, y, l1, intercept=False)
    search = searched(rows, problem)
    theirs = LogisticRegression(
        l1_ratio=1, solver="liblinear", C=1 / (l1 * len(y)), tol=1e-8, max_iter=10**5, fit_intercept=False
    ).fit(X, y)
    weights = theirs.coef_[0]
    least = np.logaddexp(0, -y * (X @ weights)).mean() + l1 * np.abs(weights).sum()
    assert search.best.value == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("loss", [ONE_AGAINST_REST, SOFTMAX])
@pytest.mark.parametrize("load", [load_iris, load_wine])
@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_duality_gap_of_problems_with_several_classes_is_within_the_tolerance(loss, load, l2, intercept):
    rows, problem = a_problem(*scaled(load), 0.01, l2, loss, intercept)
    search = searched(rows, problem, 1e-12)
    assert duality_gap(rows, search.best.weights, problem) <= 1e-5 * search.best.value


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("l1", "l2"), [(1e-2, 0.0), (1e-2, 1e-2), (1e-4, 1e-4)])
def test_the_end_meets_the_optimality_conditions_with_exact_zeros(name, l1, l2):
    rows, problem = a_problem(*SETS[name], l1, l2)
    best = searched(rows, problem, 1e-12).best
    weights, slopes = best.weights[:-1, 0], best.gradient[:-1, 0]
    zero = weights == 0
    assert zero.any() and not zero.all()
    assert (np.abs(slopes[zero]) <= l1 * (1 + 1e-4)).all()
    np.testing.assert_allclose(slopes[~zero], -l1 * np.sign(weights[~zero]), rtol=1e-3)
    assert abs(best.gradient[-1, 0]) <= 1e-3 * l1


@pytest.mark.parametrize("name", SETS)
def test_a_penalty_above_the_steepest_gradient_leaves_the_intercept_alone(name):
    rows, problem = a_problem(*SETS[name], 1.0)
    l1 = least_penalty_of_zeros(rows, problem)
    rows, problem = a_problem(*SETS[name], 1.0001 * l1)
    best = searched(rows, problem, 1e-12).best
    share = np.mean(rows.labels > 0)
    assert not best.weights[:-1].any()
    assert best.weights[-1, 0] == pytest.approx(np.log(share / (1 - share)), rel=1e-4)
    rows, problem = a_problem(*SETS[name], 0.9 * l1)
    assert searched(rows, problem).best.weights[:-1].any()


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_features_of_any_scale(scale):
    X, y = CANCER
    least = searched(*a_problem(X, y, 0.01), 1e-12).best.value
    rows, problem = a_problem(X * scale, y, 0.01 * scale)
    search = searched(rows, problem, 1e-12)
    assert search.best.value == pytest.approx(least, rel=1e-10)
    assert duality_gap(rows, search.best.weights, problem) <= 1e-5 * least


def test_more_non_zeros_than_a_block_takes(monkeypatch):
    rows, problem = a_problem(*SETS["text"], 3e-3)
    least = searched(rows, problem).best.value
    monkeypatch.setattr(proximal, "_MOST_NONZEROS", 20)
    monkeypatch.setattr(proximal, "_LEAST_KEYS", 16)
    monkeypatch.setattr(proximal, "MOST_KEYS", 32)
    search = searched(rows, problem, 1e-6)
    assert np.count_nonzero(search.best.weights) > 32
    assert search.best.value == pytest.approx(least, rel=1e-6)


def test_the_importance_of_a_row_is_that_of_its_copies():
    X, y = CANCER
    copies = np.random.default_rng(0).integers(1, 4, size=len(y))
    rows, problem = a_problem(X, y, 0.01 * copies.mean(), importance=copies.astype(float))
    weighted = searched(rows, problem, 1e-12).best.weights
    rows, problem = a_problem(np.repeat(X, copies, axis=0), np.repeat(y, copies), 0.01)
    np.testing.assert_allclose(weighted, searched(rows, problem, 1e-12).best.weights, atol=1e-5)


@pytest.mark.parametrize("loss", [BINARY, SOFTMAX])
def test_respawned_workers_give_the_same_bits(loss):
    X, y = text_like() if loss == BINARY else scaled(load_wine)
    rows, problem = a_problem(X, y, 2e-3, loss=loss)
    undisturbed = searched(rows, problem, 1e-6, shards=3).best.weights
    respawned = searched(rows, problem, 1e-6, shards=3, lives=True).best.weights
    assert undisturbed.tobytes() == respawned.tobytes()


def test_a_block_of_all_rows_is_the_hessian():
    X, y = scaled(load_wine)
    rows, problem = a_problem(X, y, 0.01, loss=SOFTMAX)
    weights = np.random.default_rng(0).normal(size=problem.shape)
    keys = np.sort(np.random.default_rng(1).choice(problem.size - 3, 10, replace=False))
    keys = np.concatenate([keys, np.arange(problem.size - 3, problem.size)])
    sums, shard, step = Sums.of(problem), Shard(problem, rows, 0), 1e-6
    shard.answer(Block(keys, np.inf, 0, 0.0), weights, sums)
    lower = sums.block(len(keys)).copy()

    def gradient(moved):
        shard.answer(Gradient(moved), moved, sums)
        return sums.gradient.ravel()[keys].copy()

    for place, key in enumerate(keys):
        move = np.zeros(problem.size)
        move[key] = step
        move = move.reshape(problem.shape)
        column = (gradient(weights + move) - gradient(weights - move)) / (2 * step)
        np.testing.assert_allclose(lower[place:, place], column[place:], atol=1e-7)
