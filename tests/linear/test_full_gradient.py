"""Batch training: the optimum, the same bits whoever is killed, and what it refuses."""

import functools
import itertools
import os
import signal
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
from problems import watching

from shmps import BOUNDED, SGD, SYNC, Add, Cluster, LogisticRegression
from shmps.data.rows import rows_of
from shmps.engines.inline.private import PrivateInline
from shmps.errors import Diverged, NotConverged, UsageError
from shmps.linear import objective
from shmps.linear.full_gradient.curvature import solver_for
from shmps.linear.full_gradient.descent import Descent
from shmps.linear.full_gradient.layout import Asked, Layout
from shmps.linear.full_gradient.problem import (
    BINARY,
    ONE_AGAINST_REST,
    SOFTMAX,
    Ascent,
    Curvature,
    Gradient,
    Problem,
    Product,
    Sums,
)
from shmps.linear.full_gradient.rounds import Coordinator, contribute
from shmps.linear.full_gradient.searches import search_for
from shmps.linear.full_gradient.shard import Shard, by_length
from shmps.linear.full_gradient.smooth import SmoothSearch
from shmps.linear.settings import Settings
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import SERVER_PLACES, TAIL_PLACES, WORKER_PLACES, Failpoint
from shmps.updaters.add import Replace


def problem(rows=400, features=12, seed=0):
    random = np.random.default_rng(seed)
    X = scipy.sparse.random(rows, features, density=0.4, format="csr", random_state=seed)
    margins = X @ random.standard_normal(features) * 3 - 0.5
    return X, np.where(random.random(rows) < 1 / (1 + np.exp(-margins)), 1.0, -1.0)


def value_and_gradient(weights, X, y, l2, intercept):
    """And its gradient, in plain numpy."""
    if intercept:
        X = scipy.sparse.hstack([X, np.ones((len(y), 1))], format="csr")
    penalty = np.full(len(weights), l2)
    penalty[len(weights) - intercept :] = 0.0
    z = y * (X @ weights)
    slope = X.T @ (-y * scipy.special.expit(-z)) / len(y)
    return np.logaddexp(0, -z).mean() + penalty @ weights**2 / 2, slope + penalty * weights


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("features", [12, 600], ids=["whole curvature", "moments"])
def test_it_finds_the_optimum(intercept, features):
    X, y = problem(features=features)
    l2 = 0.01
    model = LogisticRegression(solver="lbfgs", l2=l2, fit_intercept=intercept, tol=1e-13, iterations=500)
    model.fit(X, y)
    found = np.append(model.coef_[0], model.intercept_) if intercept else model.coef_[0]
    best = scipy.optimize.minimize(
        value_and_gradient, np.zeros(len(found)), (X, y, l2, intercept), "L-BFGS-B", jac=True,
        options={"gtol": 1e-9, "ftol": 1e-15},
    )  # fmt: skip
    value, slope = value_and_gradient(found, X, y, l2, intercept)
    assert value == pytest.approx(best.fun, abs=1e-10) and np.abs(slope).max() < 1e-6
    assert model.result_.objectives[-1][1] == pytest.approx(value, abs=1e-12)
    assert model.n_iter_ == len(model.result_.objectives) < 500


ROWS, WIDE = rows_of(*problem()), rows_of(*problem(rows=60, features=600))
TASKS = {
    "L2": (ROWS, Problem.of(ROWS, (13,), BINARY, True, l2=0.01)),
    "elastic net": (ROWS, Problem.of(ROWS, (13,), BINARY, True, l2=1e-3, l1=0.01)),
    "L2, many features": (WIDE, Problem.of(WIDE, (601,), BINARY, True, l2=0.01)),
}


def descend(
    failpoints=(),
    servers=2,
    workers=None,
    most=100,
    on_barrier=lambda cluster, descent: None,
    task="L2",
    **options,
):
    """Return the bytes of the weights, and the deaths, of a training on a cluster."""
    rows, task = TASKS[task]
    workers = workers or (1 if task.ascends else 3)
    layout = Layout(task)
    descent = Descent(task, search_for(task, np.zeros(task.shape), 1e-13), 1e-13, most)
    first = Asked(descent.request, descent.weights, descent.gradients)
    with Cluster(
        layout.num_keys, servers=servers, workers=workers, updater=Replace(), initial=layout.initial(first),
        max_keys=layout.most_keys, failpoints=failpoints, **options,
    ) as cluster:  # fmt: skip
        coordinator = Coordinator(cluster, layout, descent)

        def meet():
            coordinator()
            on_barrier(cluster, descent)

        stats = cluster.run(contribute, rows, layout, 0, on_barrier=meet, on_worker_death=RESPAWN)
        assert all(each.iterations == descent.gradients for each in stats)
        return descent.best.tobytes(), cluster.events


@functools.cache
def undisturbed(task):
    return descend(task=task)[0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("servers", [1, 5])
def test_any_number_of_servers_comes_to_the_same_bits(servers, task):
    assert descend(servers=servers, task=task)[0] == undisturbed(task)


@pytest.mark.parametrize("task", ["L2", "elastic net"])
@pytest.mark.parametrize(
    "point",
    [
        (SERVER, 1, "server: record taken", 8),
        (SERVER, 1, "server: slot written", 3),
        (SERVER, 1, "server: committed", 1),
        (SERVER, 1, "server: half applied", 4),
        (SERVER, 1, "server: after answers", 9),
        (WORKER, 1, "worker: slots half filled", 1),
        (WORKER, 0, "worker: before commit", 4),
        (WORKER, 1, "worker: half announced", 1),
        (WORKER, 2, "worker: announced", 4),
        (WORKER, 1, "worker: answered", 5),
    ],
    ids=lambda point: f"{point[2]}-{point[3]}",
)
def test_whoever_is_killed_it_ends_with_the_bits_of_the_undisturbed_one(point, task):
    killed, events = descend([Failpoint(*point)], task=task)
    assert len(events) == 1 and killed == undisturbed(task)


@pytest.mark.parametrize("task", ["L2", "elastic net"])
@pytest.mark.parametrize("visit", [4, 17])
@pytest.mark.parametrize("rank", [0, 1])  # server 0 has what the scheduler writes
@pytest.mark.parametrize("place", [*SERVER_PLACES, *TAIL_PLACES, *WORKER_PLACES])
def test_nodes_with_memories_of_their_own_end_with_the_same_bits(place, rank, visit, task):
    point = Failpoint(WORKER if place in WORKER_PLACES else SERVER, rank, place, visit)
    killed, _ = descend([point], task=task, engine=PrivateInline(), replicas=1)
    assert killed == undisturbed(task)


def test_a_worker_that_dies_after_the_last_round_has_done_all_of_them():
    def kill(cluster, descent):
        if descent.request is None:
            os.kill(cluster.node_pids()[1], signal.SIGKILL)

    killed, events = descend(servers=1, workers=1, most=4, on_barrier=kill)
    assert len(events) == 1 and killed == descend(servers=1, workers=1, most=4)[0]


@pytest.mark.parametrize(
    ("number", "task"),
    [
        *itertools.product(range(1, 9), ["L2", "elastic net"]),
        *((n, "L2, many features") for n in range(1, 7)),
    ],
)
def test_a_worker_may_die_after_any_round(number, task):
    """Between a gradient and the curvature at the same weights too: it computes the gradient again.

    So too between two requests for dual ascent: it makes the passes of the first one again.
    """
    rounds = []

    def kill(cluster, descent):
        rounds.append(descent.request)
        if len(rounds) == number:
            os.kill(cluster.node_pids()[-1], signal.SIGKILL)

    killed, events = descend(on_barrier=kill, task=task)
    assert len(events) == 1 and killed == undisturbed(task)


def test_auto_is_lbfgs_where_it_can_be():
    X, y = problem()
    auto = LogisticRegression(solver="auto", l2=0.01).fit(X, y)
    assert auto.result_.settings["solver"] == "lbfgs" and "lbfgs" in auto.result_.table()
    assert "checkpoint" not in auto.result_.settings  # where it was kept makes no other model
    for other in ({"mode": "async"}, {"updater": "ftrl", "l1": 0.1}, {"join_at": 1}, {"learning_rate": 0.2}):
        result = LogisticRegression(solver="auto", iterations=5, **other).fit(X, y).result_
        assert result.settings["solver"] == "minibatch" and not result.objectives


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "async"}, "got mode='async'"),
        ({"l1": 0.1, "updater": "ftrl"}, "got updater='ftrl'; leave that out"),
        ({"join_at": 2, "slow_worker": (0, 2.0)}, r"got slow_worker=\(0, 2.0\), join_at=2"),
        ({"checkpoint": "folder"}, "got checkpoint='folder'"),
        ({"learning_rate": 0.5, "epochs": 2}, "got learning_rate=0.5, epochs=2; leave that out"),
        ({"updater": "sgd", "schedule": "1/t"}, "got updater='sgd', schedule='1/t'"),
        ({"batch_size": 0}, "got batch_size=0"),
    ],
)
def test_what_does_not_go_with_it_is_named(settings, said):
    with pytest.raises(UsageError, match=said):
        Settings.of(LogisticRegression(solver="lbfgs", **settings))


@pytest.mark.parametrize("wrong", [{"solver": "newton"}, {"solver": "lbfgs", "tol": 0}])
def test_wrong_settings_of_its_own_are_refused(wrong):
    with pytest.raises(UsageError, match=r"solver must be one of|tol"):
        Settings.of(LogisticRegression(**wrong))


def test_it_begins_where_it_is_told_and_ends_after_the_rounds_it_is_given():
    X, y = problem()
    best = LogisticRegression(solver="lbfgs", l2=0.01, tol=1e-12).fit(X, y)
    again = LogisticRegression(solver="lbfgs", l2=0.01).fit(
        X, y, coef_init=best.coef_[0], intercept_init=best.intercept_
    )
    assert again.result_.objectives[0][1] == pytest.approx(best.result_.objectives[-1][1], abs=1e-12)
    assert again.n_iter_ == 1  # there is nothing left to do
    far = LogisticRegression(solver="lbfgs", l2=0.01).fit(X, y, coef_init=np.full(12, 1e6))
    assert far.result_.objectives[-1][1] == pytest.approx(best.result_.objectives[-1][1], rel=1e-6)
    seen = []
    settings = {"iterations": 3, "test_interval": 1, "callbacks": [watching(seen.append)]}
    ended = r"it used all its 3 rounds. The objective is about \S+ of it above"
    with pytest.warns(NotConverged, match=ended):
        short = LogisticRegression(solver="lbfgs", **settings).fit(X, y)
    assert short.n_iter_ == 3 and [progress.iteration for progress in seen] == [1, 2, 3]
    assert np.isfinite(short.coef_).all()


@pytest.mark.parametrize("columns", [12, 600], ids=["whole curvature", "moments"])
def test_values_whose_squares_overflow_are_an_error(columns):
    X, y = problem(features=columns)
    with pytest.raises(Diverged, match="scale the features to about 1"):
        LogisticRegression(solver="lbfgs").fit(X * 1e200, y)


def test_features_without_a_row_and_without_a_penalty_stay_at_zero():
    X, y = problem(features=30)
    X = scipy.sparse.hstack([X, scipy.sparse.csr_matrix((400, 3))], format="csr")
    for extra in (0, 600):  # the whole curvature, the moments
        wide = scipy.sparse.hstack([X, scipy.sparse.csr_matrix((400, extra))], format="csr")
        model = LogisticRegression(solver="lbfgs", l2=0.0).fit(wide, y)
        assert np.isfinite(model.coef_).all() and not model.coef_[0, 30:].any()


def one_hot(rows, levels, seed=1):
    """Two features with so many levels each: together with an intercept they depend on each other."""
    random = np.random.default_rng(seed)
    found = random.integers(0, levels, (rows, 2))
    columns = (found + np.array([0, levels])).ravel()
    X = scipy.sparse.csr_matrix((np.ones(2 * rows), columns, np.arange(0, 2 * rows + 1, 2)))
    return X, np.where(random.random(rows) < 0.3 + 0.4 * found[:, 0] / levels, 1.0, -1.0)


@pytest.mark.parametrize("levels", [3, 10])
def test_features_that_depend_on_each_other_need_no_penalty(levels):
    X, y = one_hot(30_000, levels)
    model = LogisticRegression(solver="lbfgs", l2=0.0, tol=1e-9).fit(X, y)
    value, slope = value_and_gradient(np.append(model.coef_[0], model.intercept_), X, y, 0.0, True)
    assert value < 0.69 and np.abs(slope).max() < 1e-4


def test_the_units_of_the_features_do_not_matter():
    X, y = problem()
    units = np.logspace(-6, 6, 12)
    plain, scaled = (
        LogisticRegression(solver="lbfgs", l2=0.0, tol=1e-6, fit_intercept=False).fit(rows, y)
        for rows in (X, (X @ scipy.sparse.diags(units)).tocsr())
    )
    assert scaled.coef_[0] * units == pytest.approx(plain.coef_[0], rel=1e-3)


def classes_of(y, classes):
    return (np.arange(len(y)) % classes).astype(float) if classes > 1 else y


def curvatures(X, weights, classes, loss):
    """The curvatures p (1 - p) of each row and class, in plain numpy; X with a column of ones."""
    margins = X @ weights
    shares = scipy.special.softmax(margins, axis=1) if loss == SOFTMAX else scipy.special.expit(margins)
    return shares * (1 - shares) / len(X)


@pytest.mark.parametrize(("classes", "loss"), [(1, BINARY), (3, ONE_AGAINST_REST), (3, SOFTMAX)])
@pytest.mark.parametrize("features", [12, 600], ids=["whole", "moments"])
def test_the_curvature_is_that_of_the_rows_at_the_last_weights(features, classes, loss):
    X, y = problem(rows=90, features=features)
    X = scipy.sparse.csr_matrix(  # one more row, that has a key twice
        (np.append(X.data, [2.0, 3.0]), np.append(X.indices, [4, 4]), np.append(X.indptr, X.nnz + 2)),
        (91, features),
    )
    rows = rows_of(X, classes_of(np.append(y, 1.0), classes))
    shape = (features + 1, classes)[: 1 + (classes > 1)]
    task = Problem.of(rows, shape, loss, True, 0.0)
    weights = np.random.default_rng(0).standard_normal(task.shape) / 5
    sums, own = Sums.of(task), Shard(task, rows, 0)
    own.answer(Gradient(weights), weights, sums)
    own.answer(Curvature(1.0, 0), weights, sums)
    dense = np.hstack([X.toarray(), np.ones((91, 1))])
    each = curvatures(dense, weights, classes, loss)
    assert sums.masses == pytest.approx(each.sum(axis=0))
    for c in range(classes):
        weighted = dense.T * each[:, c]
        if task.whole:
            half = sums.halves[c]
            assert half + half.T == pytest.approx(weighted @ dense)
        else:
            assert sums.means[:, c] == pytest.approx(weighted.sum(axis=1))
            assert sums.squares[:90, c] != pytest.approx(0)
    respawned = Sums.of(task)
    Shard(task, rows, 0).answer(Curvature(1.0, 0), weights, respawned)  # which never saw the gradient
    assert (respawned.second == sums.second).all()
    vector = np.random.default_rng(1).standard_normal(task.shape)
    Shard(task, rows, 0).answer(Product(vector), weights, respawned)
    ends = []
    for sign in (-1e-5, 1e-5):
        own.answer(Gradient(weights + sign * vector), weights + sign * vector, sums)
        ends.append(sums.gradient.copy())
    assert respawned.product == pytest.approx((ends[1] - ends[0]) / 2e-5, abs=1e-7)
    assert 0 < respawned.lost < (vector * respawned.product).sum()


def test_a_sample_of_the_rows_has_the_curvature_of_all_on_average():
    X, y = problem(rows=500)
    rows = rows_of(X, y)
    task = Problem.of(rows, (13,), BINARY, True, 0.0)
    weights, sums, own = np.full((13, 1), 0.3), Sums.of(task), Shard(task, rows, 0)
    own.answer(Gradient(weights), weights, sums)
    own.answer(Curvature(1.0, 0), weights, sums)
    whole, squares = sums.halves.copy(), sums.squares.copy()
    mean = np.zeros_like(whole)
    for number in range(400):
        own.answer(Curvature(0.1, number), weights, sums)
        assert (sums.squares == squares).all()  # exact in every sample
        assert (sums.halves != 0).sum() <= (whole != 0).sum()
        mean += sums.halves / 400
    assert mean == pytest.approx(whole, abs=0.03 * np.abs(whole).max())


def test_what_the_moments_tell_is_solved_for_exactly():
    random = np.random.default_rng(0)
    task = Problem(BINARY, 600, 1, 100, True, 0.1)
    sums, masses = Sums.of(task), np.array([0.2])
    sums.means[:] = random.standard_normal((600, 1)) * masses
    sums.squares[:] = sums.means**2 / masses + random.random((600, 1))
    sums.squares[-1] = sums.means[-1] = masses  # the intercept's feature
    matrix = np.diag((sums.squares - sums.means**2 / masses + task.penalty)[:, 0])
    matrix += sums.means @ sums.means.T / masses
    values = random.standard_normal((600, 1))
    assert solver_for(task, sums, masses)(values) == pytest.approx(
        np.linalg.solve(matrix, values), rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize("intercept", [True, False])
def test_dual_ascent_comes_to_the_optimum_with_a_penalty_on_the_intercept_too(intercept):
    X, y = problem(rows=60, features=600)
    importance, shape = np.random.default_rng(1).random(60) * 2, (600 + intercept, 1)
    task, rows = Problem(BINARY, *shape, rows=60, intercept=intercept, l2=0.01), rows_of(X, y, importance)
    own, sums, seen = Shard(task, rows, 0), Sums.of(task), []
    for passes in (1, 3, 300):
        own.answer(Ascent(passes, 0.01), np.zeros(shape), sums)
        seen.append(sums.first.tobytes())
    weights, columns = sums.gradient[:, 0], np.hstack([X.toarray(), np.ones((60, int(intercept)))])
    pull = importance * y * scipy.special.expit(-y * (columns @ weights)) / 60
    assert columns.T @ pull == pytest.approx(0.01 * weights, abs=1e-9)
    Shard(task, rows, 0).answer(Ascent(3, 0.01), np.zeros(shape), sums)  # respawned: all passes at once
    assert sums.first.tobytes() == seen[1]


def test_dual_ascent_saves_gradients_where_rows_are_texts():
    random = np.random.default_rng(1)
    words = random.zipf(1.1, (400, 40)) % 4000
    X = scipy.sparse.csr_matrix(
        (np.full(16_000, 40**-0.5), words.ravel(), np.arange(0, 16_001, 40)), (400, 4000)
    )
    X.sum_duplicates()
    margins = X @ random.standard_normal(4000)
    y, text = margins > np.median(margins), LogisticRegression(solver="lbfgs", C=1000, tol=1e-3)
    assert 2 * text.fit(X, y).n_iter_ < text.fit(X, y, coef_init=np.full(4000, 1e-9)).n_iter_


def test_rows_sorted_by_length_are_the_same_rows():
    random = np.random.default_rng(0)
    X = scipy.sparse.csr_matrix(random.random((9000, 12)) * (random.random((9000, 12)) < 0.4))
    rows = rows_of(X, np.where(random.random(9000) < 0.5, 1.0, -1.0), random.random(9000))
    ordered = by_length(rows)
    lengths = np.diff(ordered.indptr)
    assert (np.diff(lengths) >= 0).all() and len(set(lengths)) > 3

    def contents(rows):
        X = scipy.sparse.csr_matrix((rows.data, rows.indices, rows.indptr), (9000, 12)).toarray()
        return sorted(map(tuple, np.column_stack([X, rows.labels, rows.importance]).tolist()))

    assert contents(ordered) == contents(rows)


def test_counts_and_an_intercept_are_no_long_way():
    random = np.random.default_rng(0)
    X = random.poisson(1.0, (2000, 600)).astype(float)  # every row lies far from 0, in the same direction
    y = X @ random.standard_normal(600) + 10 * random.standard_normal(2000) > 0
    model = LogisticRegression(solver="lbfgs", l2=0.1).fit(X, y)
    assert model.n_iter_ <= 16  # 35 by the squares alone


def drive(search, function, most=200):
    """Answer the search with a function that returns value and gradient, and a Hessian; return its gradients.

    The function has the shape of a problem with the curvature of a whole matrix.
    """
    sums, steps, gradients = Sums.of(search.problem), search.steps(), 0
    request, weights = next(steps), None
    while gradients < most:
        if isinstance(request, Gradient):
            weights, gradients = request.weights, gradients + 1
            sums.loss, slope, matrix = function(weights[:, 0])
            sums.gradient[:, 0] = slope
            sums.masses[:] = 1.0
        else:
            sums.halves[0] = matrix / 2
            sums.squares[:, 0] = np.diag(matrix)
        try:
            request = steps.send(sums)
        except StopIteration:
            return gradients
    raise AssertionError("the search has not ended")


@pytest.mark.parametrize("factor", [1.0, 50.0, 1 / 50], ids=["exact", "steps too short", "steps too long"])
def test_the_search_finds_the_minimum_of_a_quadratic(factor):
    random = np.random.default_rng(0)
    root = random.standard_normal((20, 20))
    matrix, target = root @ root.T + np.eye(20), random.standard_normal(20)

    def quadratic(weights):
        away = weights - target
        return 1.0 + 0.5 * away @ matrix @ away, matrix @ away, factor * matrix

    search = SmoothSearch(Problem(BINARY, 20, 1, 100, False, 0.0), np.zeros((20, 1)), 1e-14)
    assert drive(search, quadratic) <= {1.0: 4}.get(factor, 100)
    assert search.best.weights[:, 0] == pytest.approx(target, abs=1e-6)


def test_it_ends_where_rounding_lets_nothing_go_down():
    search = SmoothSearch(Problem(BINARY, 1, 1, 100, False, 0.0), np.ones((1, 1)), 1e-300)
    drive(search, lambda weights: (0.1, np.ones(1), np.eye(1)))  # flat, and said to fall
    assert search.stuck and search.best.weights == [[1.0]]


def test_values_are_written_while_all_workers_wait():
    def work(kv):
        seen = []
        for _ in range(3):
            seen.append(kv.look()[:2].tolist())
            kv.push([2], [1.0])
            kv.barrier("all")
        return seen

    with Cluster(3, servers=2, workers=3, consistency=SYNC, updater=Add()) as cluster:
        rounds = []

        def on_barrier():
            rounds.append(cluster.weights(2)[0])
            cluster.write([rounds[-1], -1.0])

        assert cluster.run(work, on_barrier=on_barrier) == [[[0.0, 0.0], [3.0, -1.0], [6.0, -1.0]]] * 3
        assert rounds == [3.0, 6.0, 9.0]
        assert cluster.weights().tolist() == [9.0, -1.0, 9.0]


def test_a_barrier_that_opens_since_another_has_finished_is_told_of_too():
    def work(kv):
        for _ in range(2 - kv.rank):
            kv.barrier("all")

    calls = []
    with Cluster(3, workers=2) as cluster:
        cluster.run(work, on_barrier=lambda: calls.append(None))
    assert len(calls) == 2


def test_a_feature_that_no_sampled_row_has_is_not_thought_flat():
    random = np.random.default_rng(0)
    X = np.zeros((6000, 64))
    X[:, :60] = random.random((6000, 60)) < 0.5
    y = np.where(random.random(6000) < 1 / (1 + np.exp(-X[:, :60] @ random.standard_normal(60) / 2)), 1, -1)
    X[random.integers(0, 6000, (2, 4)), range(60, 64)] = 1.0  # two rows each
    assert Problem.of(rows_of(scipy.sparse.csr_matrix(X), y), (64,), BINARY, False, 1e-6).share < 0.5
    model = LogisticRegression(solver="lbfgs", l2=1e-6, fit_intercept=False).fit(X, y)
    assert model.n_iter_ <= 15


@pytest.mark.parametrize("features", [13, 600])
def test_many_rows_are_visited_with_signs_of_life(features, monkeypatch):
    X, y = problem(features=features - 1)
    rows, beats = rows_of(X, y), []
    task = Problem.of(rows, (features,), BINARY, True, 0.0)
    weights, once, pieces = np.full(task.shape, 0.1), Sums.of(task), Sums.of(task)
    Shard(task, rows, 0).answer(Curvature(0.3, 1), weights, once)
    monkeypatch.setattr(objective, "_PIECE", 100)
    Shard(task, rows, 0, lambda: beats.append(None)).answer(Curvature(0.3, 1), weights, pieces)
    assert pieces.first == pytest.approx(once.first) and pieces.second == pytest.approx(once.second)
    assert len(beats) >= 4


def test_values_that_do_not_fit_or_belong_to_an_updater_are_not_written():
    with Cluster(3, workers=1) as cluster:
        for values, begin in (([1.0], 3), ([1.0] * 4, 0), ([1.0], -1)):
            with pytest.raises(UsageError, match="keys must lie in 0 to 2"):
                cluster.write(values, begin)
    with (
        Cluster(3, workers=1, updater=SGD(0.1, l2=0.1)) as cluster,
        pytest.raises(UsageError, match="without a replica"),
    ):
        cluster.write([1.0])
    with (
        Cluster(4, workers=1, consistency=BOUNDED(1), replicas=1) as cluster,
        pytest.raises(UsageError, match="without a replica"),
    ):
        cluster.write([1.0])


def hard(kind, seed):
    """X and y of a kind on which the slope along the step says too little."""
    random = np.random.default_rng([seed, 22])
    shapes = {"wide": (60, 400), "tall": (1500, 30), "huge row": (40, 7), "low rank": (150, 520)}
    rows, features = shapes.get(kind, (400, 50))
    X = random.standard_normal((rows, features))
    if kind == "low rank":  # and too wide for a matrix, until many steps were taken
        X = random.standard_normal((rows, 20)) @ random.standard_normal((20, features)) + 1e-3 * X
    margins = X @ random.standard_normal(features) / np.sqrt(features) * 3
    if kind == "alike":  # columns that are nearly others
        X = np.hstack([X, X + 1e-3 * random.standard_normal(X.shape)])
    elif kind == "unscaled":
        X *= 10 ** random.uniform(-1, 1, features)
    elif kind == "far from 0":
        X += 10 ** random.uniform(0, 6, features)
    elif kind == "huge row":
        X[0] *= 1e6
    elif kind == "large rows":  # which make the curvature, until they are classified well
        X *= 10 ** random.uniform(-3, 3, (rows, 1))
    elif kind == "separable":
        margins *= 1e3
    elif kind == "unbalanced":
        margins -= 5.0
    y = np.where(random.random(rows) < scipy.special.expit(margins), 1.0, -1.0)
    y[:2] = 1.0, -1.0
    return scipy.sparse.csr_matrix(X), y


def least_objective(X, y, l2, intercept, start):
    """By Newton's method, halving its steps."""
    weights, X1 = start, np.hstack([X.toarray(), np.ones((len(y), int(intercept)))])
    for _ in range(50):
        value, slope = value_and_gradient(weights, X, y, l2, intercept)
        shares = scipy.special.expit(X1 @ weights)
        curvature = (X1.T * (shares * (1 - shares))) @ X1 / len(y) + l2 * np.eye(len(weights))
        curvature[-1, -1] -= l2 * intercept
        step = np.linalg.solve(curvature, slope)
        if step @ slope < 1e-11 * value:
            return value
        while value_and_gradient(weights - step, X, y, l2, intercept)[0] > value:
            step /= 2
        weights = weights - step
    raise AssertionError("Newton's method has not ended")


@pytest.mark.filterwarnings("ignore::shmps.errors.WorseThanConstant")
@pytest.mark.parametrize(
    "kind",
    [
        "wide",
        "tall",
        "alike",
        "low rank",
        "unscaled",
        "far from 0",
        "large rows",
        "huge row",
        "separable",
        "unbalanced",
    ],
)
def test_what_ends_without_a_warning_is_within_tol(kind):
    for seed, (intercept, tol, l2) in enumerate(
        [(False, 1e-6, 1e-3), (True, 1e-6, 1e-4), (False, 1e-3, 1e-3)]
    ):
        X, y = hard(kind, seed)
        model = LogisticRegression(workers=1, l2=l2, fit_intercept=intercept, tol=tol, iterations=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotConverged)
            model.fit(X, y)
        found = np.append(model.coef_[0], model.intercept_) if intercept else model.coef_[0]
        value = value_and_gradient(found, X, y, l2, intercept)[0]
        assert value - least_objective(X, y, l2, intercept, found) <= tol * value, (kind, seed)


def test_the_whole_hessian_solves_what_takes_many_steps():
    random = np.random.default_rng(0)
    many = np.cumsum(random.standard_normal((560, 520)), axis=1)  # features that depend on their neighbours
    scaled = random.standard_normal((16, 11)) * 10 ** random.uniform(-4, 4, 11)
    for X, classes, rounds in ((many, 2, 200), (scaled, 5, 60)):
        y = np.where(X[:, -1] > np.median(X[:, -1]), 1, 0) if classes == 2 else random.integers(0, 5, len(X))
        model = LogisticRegression(workers=1, l2=1e-3).fit(X, y)
        assert model.n_iter_ <= rounds  # before: all 500, with a warning, and 100


def test_a_penalty_that_overflows_is_as_good_as_none():
    X, y = problem()
    for l2 in (5e-324, 1e-300):
        with np.errstate(over="ignore"):
            model = LogisticRegression(solver="lbfgs", l2=l2, iterations=200).fit(X, y)
        assert model.score(X, y) > 0.7 and np.isfinite(model.coef_).all()
