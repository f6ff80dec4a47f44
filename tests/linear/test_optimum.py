"""A fit with the default solver ends within `tol` of the optimum, or warns: on sets easy and hard."""

import contextlib
import functools
import itertools
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from optimum import Problem, optimum
from sets import CLASSES, SETS, text

from shmps import LogisticRegression
from shmps.errors import NotConverged

ROUNDING = 1e-12  # of an objective


class Penalty(NamedTuple):
    l1: float  # as a share of the least l1 with which all weights are 0
    l2: float
    intercept: bool = True

    def __str__(self):
        return f"l1={self.l1:g},l2={self.l2:g}" + ("" if self.intercept else ",no-intercept")


PENALTIES = [
    Penalty(0, 1.0),
    Penalty(0, 1e-2),
    Penalty(0, 1e-4),
    Penalty(0, 1e-8),
    Penalty(0, 0),
    Penalty(0.5, 0),
    Penalty(0.1, 0),
    Penalty(0.01, 0),
    Penalty(0.001, 0),
    Penalty(0.1, 1e-2),
    Penalty(0.01, 1e-5),
    Penalty(0, 1e-4, False),
    Penalty(0.1, 0, False),
]
CASES = [
    pytest.param(make, penalty, multi_class, id=f"{make.__name__}-{penalty}-{multi_class}")
    for make, penalty in itertools.product(SETS, PENALTIES)
    for multi_class in (("multinomial", "ovr") if make in CLASSES else ("auto",))
]


class Rows(NamedTuple):
    X: object
    y: np.ndarray
    weights: np.ndarray | None = None

    def problems(self, penalty, l1, multi_class):
        """Return the problems whose objectives add up to that of the model, and their columns of weights."""
        classes = np.unique(self.y)
        labels = [self.y == each for each in classes] if multi_class == "ovr" else [self.y]
        return [Problem(self.X, y, self.weights, l1, penalty.l2, penalty.intercept) for y in labels]

    def most_l1(self):
        """Return the least l1 with which all weights but the intercept are 0."""
        problem = Problem(self.X, self.y, self.weights, 0, 0, False)
        constant = problem.shares @ problem.onehot * np.ones_like(problem.onehot)
        return float(np.abs(problem.slope(constant)).max())


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_blas():
    """The oracle's matrices are small: with two threads it takes five times as much processor time."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):  # it comes with scikit-learn
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(1, "blas"))
        yield


@functools.cache
def rows_of(make):
    rows = Rows(*make())
    return rows, rows.most_l1()


def fitted(rows, penalty, l1, **params):
    """Return the model's weights as columns (features + intercept, columns), and what the fit warned of."""
    model = LogisticRegression(l1=l1, l2=penalty.l2, fit_intercept=penalty.intercept, **params)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(rows.X, rows.y, rows.weights)
    coef = [model.coef_.T, model.intercept_[None]] if penalty.intercept else [model.coef_.T]
    return np.vstack(coef), [each.message for each in told]


def check(make, penalty, multi_class, tol):
    """Fit, and compare the objective with the bound that an oracle proves."""
    rows, most = rows_of(make)
    l1 = penalty.l1 * most
    problems = rows.problems(penalty, l1, multi_class)
    known = [optimum(each, tol / 100) for each in problems]
    best, bound = sum(each.value for each in known), sum(each.bound for each in known)
    assert bound <= best + ROUNDING and best * (1 - tol / 100) <= bound + ROUNDING, "the oracle must be exact"
    weights, told = fitted(rows, penalty, l1, multi_class=multi_class, tol=tol)
    assert np.isfinite(weights).all()
    columns = np.split(weights, len(problems), axis=1)
    found = sum(each.objective(own) for each, own in zip(problems, columns, strict=True))
    assert found >= bound - ROUNDING
    warned = any(isinstance(each, NotConverged) for each in told)
    assert warned or found - bound <= tol * bound, f"{found / bound - 1:.2g} above the optimum, silently"
    # Without a penalty there may be no optimum. Any other problem of this size is solved.
    assert not warned or not (penalty.l1 or penalty.l2), told


@pytest.mark.parametrize(("make", "penalty", "multi_class"), CASES)
def test_it_ends_within_tol_of_the_optimum_or_warns(make, penalty, multi_class):
    check(make, penalty, multi_class, LogisticRegression().tol)


@pytest.mark.parametrize("tol", [1e-3, 1e-9])
@pytest.mark.parametrize("penalty", [Penalty(0, 1e-3), Penalty(0.05, 0)], ids=str)
@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_tol_is_what_it_says(make, penalty, tol):
    check(make, penalty, "auto", tol)


@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_the_oracle_agrees_with_scikit_learn(l1):
    linear = pytest.importorskip("sklearn.linear_model")
    rows, _ = rows_of(text)
    l2, count = 0.01, len(rows.y)
    known = optimum(Problem(rows.X, rows.y, None, l1, l2, True), 1e-12)
    strength = {"C": 1 / (count * (l1 + l2)), "l1_ratio": l1 / (l1 + l2)}
    peer = linear.LogisticRegression(solver="saga", tol=1e-9, max_iter=10_000, **strength)
    peer.fit(rows.X, rows.y)
    np.testing.assert_allclose(known.weights[:-1], peer.coef_.T, atol=1e-5)
