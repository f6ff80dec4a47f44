"""The updater of dist-lr against the original's loop in plain numpy."""

import numpy as np
import pytest
from test_server import Bench

from shmps import ASYNC, SGD, SYNC, LogisticRegression
from shmps.ps.messages import PUSH
from shmps.updaters.dist_lr import DistLR, c_random

ROWS, FEATURES, ITERATIONS, C = 400, 9, 60, 1.0


@pytest.fixture(scope="module")
def problem():
    """Return dense rows of ones and zeros, with a column of zeros, and y in {0, 1}."""
    random = np.random.default_rng(3)
    X = (random.random((ROWS, FEATURES)) < 0.3) * 1.0
    X[:, 4] = 0.0
    y = (random.random(ROWS) < 1 / (1 + np.exp(-2 * X @ random.normal(size=FEATURES)))) * 1.0
    return X, y


def recomputed(X, y, iterations):
    """Return the weights, and the accuracies after every iteration, of the original's loop for one worker."""
    weights, accuracies = c_random(FEATURES), []
    for _ in range(iterations):
        gradient = X.T @ (1 / (1 + np.exp(-X @ weights)) - y) / len(y) + C * weights / len(y)
        weights = weights - 1.0 * gradient / 1  # learning rate 1, one worker
        accuracies.append(np.mean((X @ weights > 0) == y))
    return weights, accuracies


def test_a_sync_run_with_one_worker_is_the_originals_loop(problem):
    X, y = problem
    model = LogisticRegression(
        workers=1, updater="dist-lr", batch_size=0, iterations=ITERATIONS, l2=C / ROWS,
        fit_intercept=False, test_interval=1,
    ).fit(X, y)  # fmt: skip
    weights, accuracies = recomputed(X, y, ITERATIONS)
    np.testing.assert_allclose(model.coef_[0], weights, rtol=0, atol=1e-13)
    assert [progress.metrics.accuracy for progress in model.result_.history] == accuracies


def test_weights_start_at_the_numbers_of_the_c_library():
    # The first numbers of rand() in the GNU C library for the seed 1, which srand(0) sets too.
    assert (c_random(3) * 0x7FFFFFFF).round().tolist() == [1804289383, 846930886, 1681692777]
    assert len(c_random(123)) == 123 and 0 <= c_random(10_000).min() <= c_random(10_000).max() <= 1


def test_of_a_held_tick_the_last_to_arrive_alone_is_applied_divided_by_the_workers():
    server = Bench(SYNC, DistLR(1.0))
    for tick, order in enumerate([(0, 1, 2), (2, 0, 1)], start=1):
        for worker in order:
            server.send(PUSH, worker, tick, value=float(10 * tick + worker))
    assert server.weight() == pytest.approx(-(12 + 21) / 3)


def test_the_penalty_of_a_held_tick_is_divided_by_the_workers_too():
    server = Bench(SYNC, DistLR(0.5, l2=0.3))
    server.parameters.weights[:] = 4.0
    for worker in range(3):
        server.send(PUSH, worker, 1, value=0.0)
    assert server.weight() == pytest.approx(4.0 * (1 - 0.5 * 0.3 / 3))


def test_async_applies_every_push_at_the_full_rate():
    server = Bench(ASYNC, DistLR(1.0))
    for worker in range(3):
        server.send(PUSH, worker, 1, value=1.0 + worker)
    assert server.weight() == -6.0


def test_a_staleness_aware_step_is_shorter_by_its_delay():
    server = Bench(ASYNC, SGD(1.0, schedule="1/(1+delay)"))
    for worker in range(3):  # all computed from version 0: delays of 0, 1, 2
        server.send(PUSH, worker, 1, value=1.0, version=0)
    assert server.weight() == pytest.approx(-(1 + 1 / 2 + 1 / 3))
