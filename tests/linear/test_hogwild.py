"""Updates in place: what they compute, what they are refused for, and what is left of the promises."""

import os
import signal

import numpy as np
import pytest
import scipy.sparse
from naive import FTRL as NaiveFTRL
from naive import SGD as NaiveSGD
from naive import AdaGrad as NaiveAdaGrad

from shmps import ASYNC, BOUNDED, FTRL, HOGWILD, SGD, SYNC, AdaGrad, Add, Cluster, Consistency, Step, Updater
from shmps.data.rows import rows_of
from shmps.errors import UsageError, WorkerFailed
from shmps.linear.settings import Settings
from shmps.sklearn.estimator import LogisticRegression

ROWS, FEATURES = 300, 12

RULES = {
    "sgd": (SGD(0.1), NaiveSGD, (0.1, 0.0)),
    "sgd l2": (SGD(0.1, l2=0.01), NaiveSGD, (0.1, 0.01)),
    "adagrad": (AdaGrad(0.1), NaiveAdaGrad, (0.1, 0.0)),
    "adagrad l2": (AdaGrad(0.1, l2=0.01), NaiveAdaGrad, (0.1, 0.01)),
    "ftrl": (FTRL(0.2), NaiveFTRL, (0.2, 0.0, 0.0)),
    "ftrl l1 l2": (FTRL(0.2, l1=0.003, l2=0.01), NaiveFTRL, (0.2, 0.003, 0.01)),
}


def problem(seed=0, rows=ROWS):
    """Sparse X (rows, FEATURES) and y of -1 and 1 from a planted model."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, FEATURES)) * (random.random((rows, FEATURES)) < 0.4)
    y = np.where(random.random(rows) < 1 / (1 + np.exp(-X @ random.normal(size=FEATURES))), 1.0, -1.0)
    return scipy.sparse.csr_matrix(X), y


def row_by_row(X, y, twin):
    """Weights after one step per row, and the mean loss on the way, in dense numpy."""
    weights, losses = np.zeros(X.shape[1]), []
    for tick, (x, label) in enumerate(zip(X, y, strict=True), 1):
        z = label * (x @ weights)
        losses.append(np.logaddexp(0, -z))
        weights = twin.update(weights, -label / (1 + np.exp(z)) * x, tick)
    return weights, np.mean(losses)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("intercept", [False, True])
def test_a_descent_is_a_step_per_row(name, intercept):
    updater, twin, numbers = RULES[name]
    X, y = problem()
    dense = X.toarray()
    if intercept:
        dense = np.hstack([dense, np.ones((ROWS, 1))])
    expected, expected_loss = row_by_row(dense, y, twin(*numbers, dense.shape[1]))
    weights = np.zeros((dense.shape[1], 1))
    state = np.zeros((dense.shape[1], 1, updater.state_width))
    loss = updater.descend(rows_of(X, y), intercept, weights, state, Step(1, 0.0))
    read = np.empty_like(weights)
    updater.read(np.arange(len(weights)), weights, state, updater.penalty(Step(1, 0.0)) * ROWS, read)
    np.testing.assert_allclose(read[:, 0], expected, rtol=1e-9, atol=1e-12)
    assert loss == pytest.approx(expected_loss, rel=1e-9)


@pytest.mark.parametrize(
    "updater",
    [SGD(0.5, l2=0.5, unpenalized=0), AdaGrad(0.5, l2=0.5, unpenalized=0), FTRL(0.5, l2=0.5, unpenalized=0)],
)
def test_the_unpenalized_key_is_found_in_place_too(updater):
    """A row with the keys 0 and 1, then many with key 2 alone: only key 1 owes something."""
    X = scipy.sparse.csr_matrix(np.vstack([[1.0, 1.0, 0.0], np.tile([0.0, 0.0, 1.0], (50, 1))]))
    weights, state = np.zeros((3, 1)), np.zeros((3, 1, updater.state_width))
    updater.descend(rows_of(X, np.ones(51)), False, weights, state, Step(1, 0.0))
    read = np.empty_like(weights)
    updater.read(np.arange(3), weights, state, 51 * updater.penalty(Step(1, 0.0)), read)
    assert read[0, 0] > 2 * read[1, 0] > 0


class Halving(Updater):
    state_width = 1

    def update(self, keys, gradient, values, state, step):
        values += gradient / 2 ** state[:, :, 0]
        state += 1


@pytest.mark.parametrize(
    "updater",
    [Add(), SGD(0.1, l2=0.1), AdaGrad(0.1, l2=0.1), FTRL(0.1, l1=0.01), Halving()],
    ids=lambda u: type(u).__name__,
)
@pytest.mark.parametrize("width", [1, 2])
def test_pushes_of_one_worker_in_place_are_those_through_servers(updater, width):
    def pushes():
        random = np.random.default_rng(3)
        for _ in range(20):
            keys = np.flatnonzero(random.random(FEATURES) < 0.4)
            yield keys, random.normal(size=len(keys) if width == 1 else (len(keys), width))

    def in_place(kv):
        for keys, values in pushes():
            kv.push_in_place(keys, values)
        return kv.look(np.arange(FEATURES)), kv.pull()

    def through_servers(kv):
        for keys, values in pushes():
            kv.push(keys, values)

    made = {"num_keys": FEATURES, "width": width, "workers": 1, "updater": updater}
    with Cluster(consistency=ASYNC, **made) as cluster:
        cluster.run(through_servers)
        expected = cluster.weights()
    with Cluster(consistency=HOGWILD, **made) as cluster:
        looked, pulled = cluster.run(in_place)[0]
        assert cluster.weights().tobytes() == looked.tobytes() == pulled.tobytes() == expected.tobytes()
        assert cluster.ticks().tolist() == [20]


def test_what_one_worker_writes_another_sees_and_owes():
    """Turn by turn, so that nothing is lost: the penalties of all workers count for all keys."""
    updates = 12

    def work(kv):
        for turn in range(updates):
            if turn % kv.num_workers == kv.rank:
                kv.push_in_place([turn % 2], [1.0])
            kv.barrier()
        return kv.look([0, 1, 2])

    twin, expected = NaiveSGD(0.1, 0.2, 3), np.full(3, 5.0)
    for turn in range(updates):
        expected = twin.update(expected, np.eye(3)[turn % 2], turn + 1)
    with Cluster(3, workers=3, consistency=HOGWILD, updater=SGD(0.1, l2=0.2), initial=5.0) as cluster:
        for seen in cluster.run(work):
            np.testing.assert_allclose(seen, expected, rtol=1e-12)
        np.testing.assert_allclose(cluster.weights(), expected, rtol=1e-12)
        assert cluster.ticks().tolist() == [4, 4, 4]


def test_a_restored_cluster_owes_what_was_owed():
    def work(kv, updates):
        for _ in range(updates):
            kv.push_in_place([0], [1.0])
        return kv.copy_of_parameters()

    made = {"num_keys": 2, "workers": 1, "servers": 1, "consistency": HOGWILD, "initial": 5.0}
    made |= {"updater": SGD(0.1, l2=0.2)}
    with Cluster(**made) as cluster:
        copy = cluster.run(work, 3)[0]
        cluster.run(work, 4)
        expected = cluster.weights()
    with Cluster(**made, restored=copy) as cluster:
        cluster.run(work, 4)
        np.testing.assert_allclose(cluster.weights(), expected, rtol=1e-14)
        assert cluster.ticks().tolist() == [7]


def test_a_look_can_not_be_written_to():
    with Cluster(3, workers=1, consistency=HOGWILD) as cluster:
        assert cluster.run(lambda kv: kv.look().flags.writeable) == [False]


@pytest.mark.parametrize("call", ["push", "push_pull", "start_push", "start_push_pull"])
def test_a_push_through_a_server_is_refused_where_workers_write(call):
    with (
        pytest.raises(WorkerFailed, match="push_in_place"),
        Cluster(3, workers=1, consistency=HOGWILD) as cluster,
    ):
        cluster.run(lambda kv: getattr(kv, call)([0], [1.0]))


@pytest.mark.parametrize("consistency", [SYNC, BOUNDED(1), ASYNC], ids=str)
def test_writing_in_place_is_refused_where_servers_own_the_values(consistency):
    with (
        pytest.raises(WorkerFailed, match="consistency=HOGWILD"),
        Cluster(3, workers=1, consistency=consistency) as cluster,
    ):
        cluster.run(lambda kv: kv.push_in_place([0], [1.0]))


def test_keys_and_values_are_checked_before_anything_is_written():
    def work(kv):
        for keys, values in (([2, 1], [1.0, 1.0]), ([3], [1.0]), ([0], [1.0, 2.0])):
            with pytest.raises(UsageError):
                kv.push_in_place(keys, values)

    with Cluster(3, workers=1, consistency=HOGWILD) as cluster:
        cluster.run(work)
        assert not cluster.weights().any() and cluster.ticks().tolist() == [0]


def test_no_replica_follows_what_workers_write():
    with pytest.raises(UsageError, match="replica"):
        Cluster(3, servers=2, consistency=HOGWILD, replicas=1)
    with pytest.raises(UsageError, match="replica"):
        Settings.of(LogisticRegression(servers=2, mode="hogwild", replicas=1))


@pytest.mark.parametrize("numbers", [(0, True), (3, False), (float("inf"), True)])
def test_updates_in_place_neither_wait_nor_are_held(numbers):
    with pytest.raises(UsageError, match="HOGWILD"):
        Consistency(*numbers, in_place=True)


@pytest.mark.parametrize("params", [{"updater": "dist-lr"}, {"updater": "sgd", "schedule": "1/(1+delay)"}])
def test_what_goes_by_pushes_is_refused_where_there_are_none(params):
    with pytest.raises(UsageError, match="need pushes"):
        Settings.of(LogisticRegression(mode="hogwild", **params))


def test_who_takes_a_dead_workers_place_goes_on_after_the_ticks_that_count(tmp_path):
    def work(kv):
        for tick in range(kv.resumed, 10):
            if kv.rank == 1 and tick == 4 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            kv.push_in_place([kv.rank], [1.0])
        return kv.resumed

    with Cluster(2, workers=2, consistency=HOGWILD) as cluster:
        assert cluster.run(work, on_worker_death="respawn") == [0, 4]
        assert cluster.weights().tolist() == [10.0, 10.0]
        assert cluster.ticks().tolist() == [10, 10]


@pytest.mark.parametrize("updater", ["sgd", "adagrad", "ftrl"])
def test_one_hogwild_worker_trains_row_by_row(updater):
    X, y = problem()
    model = LogisticRegression(
        workers=1, mode="hogwild", updater=updater, learning_rate=0.1, l2=0.01, batch_size=0, epochs=1,
        fit_intercept=False,
    ).fit(X, y)  # fmt: skip
    twins = {
        "sgd": NaiveSGD(0.1, 0.01, FEATURES),
        "adagrad": NaiveAdaGrad(0.1, 0.01, FEATURES, initial=1.0),
        "ftrl": NaiveFTRL(0.1, 0.0, 0.01, FEATURES),
    }
    expected, _ = row_by_row(X.toarray(), y, twins[updater])
    np.testing.assert_allclose(model.coef_[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("updater", ["sgd", "adagrad", "ftrl"])
def test_hogwild_learns_what_async_learns(updater):
    X, y = problem(rows=3000)
    models = [
        LogisticRegression(
            workers=3, mode=mode, updater=updater, batch_size=16, epochs=8, test_interval=5
        ).fit(X, y, eval_set=(X, y))
        for mode in ("async", "hogwild")
    ]
    losses = [model.result_.metrics.log_loss for model in models]
    assert abs(losses[0] - losses[1]) < 0.02 and losses[1] < 0.65
    result = models[1].result_
    assert result.settings["mode"] == "hogwild" and result.ticks == 3 * 8 * 63 and result.rows == 8 * 3000
    assert [progress.iteration for progress in result.history] == list(range(5, 8 * 63 + 1, 5))
    assert "nothing was pushed" in result.with_source("", "", 0.0).table()


def test_a_hogwild_training_goes_on_from_a_checkpoint(tmp_path):
    X, y = problem()
    settings = {"workers": 2, "mode": "hogwild", "batch_size": 10, "l2": 0.01}
    LogisticRegression(epochs=2, checkpoint=tmp_path, checkpoint_every=30, **settings).fit(X, y)
    more = LogisticRegression(epochs=3, resume=tmp_path, **settings).fit(X, y)
    assert more.result_.resumed >= 30 and more.result_.ticks == 3 * 30
