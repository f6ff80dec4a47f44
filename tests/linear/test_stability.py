"""The stable learning rate: against the recurrence it is about, dense eigenvalues, and real trainings."""

import warnings

import numpy as np
import pytest
from naive import loss_and_gradient
from scipy.optimize import minimize

from shmps import LogisticRegression
from shmps.data.rows import rows_of, to_csr
from shmps.errors import UnstableRate
from shmps.linear.stability import curvature, stable_rate


def delayed_descent(rate, steepness, delay, steps=20_000):
    """|w| at the end of w[t + 1] = w[t] - rate * steepness * w[t - delay], begun at 1."""
    past = [1.0] * (delay + 1)
    for _ in range(steps):
        past = [*past[1:], past[-1] - rate * steepness * past[0]]
        if abs(past[-1]) > 1e6:
            break
    return abs(past[-1])


@pytest.mark.parametrize("delay", range(9))
def test_delayed_descent_settles_below_the_limit_and_grows_above_it(delay):
    limit = stable_rate(0.7, delay)
    assert delayed_descent(0.98 * limit, 0.7, delay) < 1e-3
    assert delayed_descent(1.02 * limit, 0.7, delay) > 1e3


def test_without_curvature_every_rate_is_stable():
    assert stable_rate(0.0, 3) == np.inf


def problem(rows=1500, features=5):
    random = np.random.default_rng(0)
    X = (random.random((rows, features)) < 0.4) * random.normal(1, 0.3, size=(rows, features))
    y = np.where(random.random(rows) < 1 / (1 + np.exp(-X @ random.normal(size=features) + 0.5)), 1.0, -1.0)
    return X, y


def one_class_after_the_other(rows=8192):
    X, _ = problem(rows)
    return X, np.where(np.arange(rows) % 2, 1.0, -1.0)


def rows_that_sum_to_zero():
    X, y = problem()
    return X - X.mean(axis=1, keepdims=True), y


def separable():
    X, _ = problem()
    return X, np.where(X @ [1.0, -2.0, 3.0, 0.5, -1.0] > 0.3, 1.0, -1.0)


def exact_curvature(X, y, intercept, l2):
    """By dense linear algebra, at the minimum."""
    penalty = np.full(X.shape[1] + intercept, l2)
    if intercept:
        X, penalty[-1] = np.hstack([X, np.ones((len(X), 1))]), 0.0

    def objective(w):
        loss, slope = loss_and_gradient(X, y, w)
        return loss + penalty / 2 @ w**2, slope + penalty * w

    p = 1 / (1 + np.exp(-X @ minimize(objective, np.zeros(X.shape[1]), jac=True).x))
    return np.linalg.eigvalsh(X.T * (p * (1 - p)) @ X / len(y) + np.diag(penalty)).max()


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("swung", [0.0, 5.0])
@pytest.mark.parametrize(
    ("data", "l2"),
    [
        (problem, 0.0),
        (problem, 0.1),
        (one_class_after_the_other, 0.0),
        (rows_that_sum_to_zero, 0.0),
        (separable, 0.1),
        (separable, 0.01),
    ],
)
def test_the_curvature_is_the_largest_eigenvalue_at_the_minimum_wherever_training_ended(
    data, l2, swung, intercept
):
    X, y = data()
    start = np.full(X.shape[1] + intercept, swung)
    found = curvature(rows_of(to_csr(X), y), start, intercept, l2)
    assert found == pytest.approx(exact_curvature(X, y, intercept, l2), rel=0.1)


def test_of_wide_data_nothing_is_said():
    X, y = problem(rows=40, features=60)
    assert curvature(rows_of(to_csr(X), y), np.zeros(60), False, 0.0) is None
    model = descent(100.0).fit(X, y)
    assert model.result_.stability is None


def descent(rate, mode="async", **more):
    """Four workers that overlap: delays of three versions. They may start 100 ms apart."""
    return LogisticRegression(
        workers=4, mode=mode, updater="sgd", batch_size=0, iterations=40, learning_rate=rate,
        fit_intercept=False, l2=0.0, tick_time=5 if mode == "async" else 0, **more,
    )  # fmt: skip


def test_a_rate_above_the_limit_for_the_measured_delay_is_said_once_with_a_stable_one():
    X, y = problem()
    with pytest.warns(UnstableRate, match="stable up to a learning rate of") as said:
        result = descent(100.0).fit(X, y).result_
    [message] = [str(each.message) for each in said if each.category is UnstableRate]
    found = result.stability
    assert found.delay == result.delays.p50 >= 2
    assert found.limit == pytest.approx(stable_rate(found.curvature, found.delay))
    assert f"learning rate of {found.limit:.3g}" in message
    assert f"{found.limit:.3g}" in result.table()


@pytest.mark.parametrize(
    "model",
    [
        descent(0.01),
        descent(1.0, mode="sync"),  # no delay: a sync step may be longer
        LogisticRegression(workers=2, updater="adagrad", learning_rate=100.0, epochs=1),
    ],
    ids=["low", "sync", "adagrad"],
)
def test_a_stable_rate_is_not_spoken_of(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnstableRate)
        model.fit(*problem())


def test_the_limit_of_a_staleness_aware_rate_allows_for_its_shorter_steps():
    stability = descent(0.01, schedule="1/(1+delay)").fit(*problem()).result_.stability
    shorter = 1 + stability.delay
    assert stability.limit == pytest.approx(shorter * stable_rate(stability.curvature, stability.delay))


def test_where_a_bound_holds_workers_up_the_largest_delays_count():
    """Steps of several workers from the same weights add up: bounded 0 is no better than async."""
    model = LogisticRegression(
        workers=4, mode="bounded", bound=0, updater="sgd", batch_size=0, iterations=12, learning_rate=0.01,
        fit_intercept=False, l2=0.0, tick_time=5,
    ).fit(*problem())  # fmt: skip
    result = model.result_
    assert result.stability.delay == result.delays.p99 >= 2
