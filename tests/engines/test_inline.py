"""The inline engine: all nodes in this process, equal bits in every run, virtual time, the same promises."""

import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, Cluster, Inline, LogisticRegression, Machines, Updater
from shmps.errors import NodeDied, OutOfSpace, UpdaterFailed, UsageError, WorkerFailed
from shmps.ps.messages import WORKER
from shmps.ps.scheduler.run import CONTINUE, RESPAWN
from shmps.system.failpoints import Failpoint

KEYS = 12

pytestmark = pytest.mark.filterwarnings("ignore::shmps.errors.NotConverged")


@pytest.fixture
def cluster():
    with Cluster(KEYS, servers=2, workers=3, consistency=ASYNC, engine=Inline()) as made:
        yield made


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(3)
    X = scipy.sparse.random(600, 30, 0.2, format="csr", random_state=3)
    return X, (X @ random.normal(size=30) + random.normal(size=600) / 3 > 0).astype(int)


def trained(problem, **parameters):
    given = {"workers": 3, "solver": "minibatch", "epochs": 2, "batch_size": 32, "engine": "inline"}
    return LogisticRegression(**(given | parameters)).fit(*problem)


@pytest.mark.parametrize("mode", ["sync", "bounded", "async", "hogwild"])
def test_equal_seeds_give_equal_bits_in_every_mode(problem, mode):
    machines = Machines(variation=0.5, hiccups=0.2)
    given = {"mode": mode, "bound": 1 if mode == "bounded" else None}
    first, again, other = (
        trained(problem, engine=Inline(machines, seed=seed), **given) for seed in (1, 1, 2)
    )
    assert first.coef_.tobytes() == again.coef_.tobytes()
    assert (first.coef_.tobytes() == other.coef_.tobytes()) == (mode == "sync")
    assert first.result_.seconds["train"] == again.result_.seconds["train"] != other.result_.seconds["train"]


@pytest.mark.parametrize("solver", ["minibatch", "lbfgs"])
def test_sync_training_ends_with_the_bits_of_processes(problem, solver):
    given = {"workers": 3, "servers": 2, "solver": solver, "tol": 1e-3}
    given |= {"epochs": 2} if solver == "minibatch" else {}
    inline, processes = (
        LogisticRegression(engine=engine, **given).fit(*problem) for engine in ("inline", "processes")
    )
    assert inline.coef_.tobytes() == processes.coef_.tobytes()
    assert inline.model().settings["engine"] == "inline"


def test_workers_take_turns_where_nobody_has_to_wait_for_another(problem):
    assert trained(problem, mode="async").result_.delays.p50 == 2  # with three workers


def test_time_is_virtual(cluster):
    def work(kv):
        began = kv.now()
        kv.sleep(3600 * (1 + kv.rank))
        kv.push([0], [1.0])
        return kv.now() - began

    began = time.monotonic()
    assert np.allclose(cluster.run(work), [3600, 7200, 10800], rtol=1e-6)
    assert time.monotonic() - began < 1000 and cluster.now() > 10800


def test_a_slow_worker_is_slower_by_its_factor_in_virtual_time(problem):
    machines = Machines(latency=0, push=0, pull=0, key=0, minibatch=1, nonzero=0)
    seconds = [
        trained(problem, engine=Inline(machines), iterations=10, epochs=None, **given).result_.seconds[
            "train"
        ]
        for given in ({}, {"slow_worker": (1, 3)}, {"tick_time": 2000})
    ]
    assert np.allclose(seconds, [10, 30, 20], rtol=1e-9)


def test_requests_take_the_time_that_the_machines_say():
    machines = Machines(latency=1, bandwidth=64, push=10, pull=20, key=100)

    def work(kv):
        times = [kv.now()]
        kv.push([3], [1.0])  # 64 + 8 + 8 bytes; the answer has 64
        times.append(kv.now())
        kv.pull([3])  # 64 + 8 bytes; the answer has 64 + 8
        times.append(kv.now())
        return np.diff(times)

    with Cluster(KEYS, servers=1, workers=1, engine=Inline(machines)) as cluster:
        [(push, pull)] = cluster.run(work)
    assert push == pytest.approx((1 + 80 / 64) + (10 + 100) + (1 + 64 / 64))
    assert pull == pytest.approx((1 + 72 / 64) + (20 + 100) + (1 + 72 / 64))


def test_a_function_that_raises_ends_the_run_and_not_the_cluster(cluster):
    def work(kv):
        if kv.rank == 1:
            raise ValueError("no")
        kv.barrier()

    with pytest.raises(WorkerFailed, match="no") as failure:
        cluster.run(work)
    assert isinstance(failure.value.__cause__, ValueError)
    assert cluster.run(lambda kv: kv.rank) == [0, 1, 2]


def test_a_worker_that_is_killed_is_told_started_again_or_given_up():
    def work(kv):
        for _ in range(kv.resumed, 4):
            kv.push([kv.rank], [1.0])

    def cluster():
        point = Failpoint(WORKER, 1, "worker: announced", 2)
        return Cluster(KEYS, servers=2, workers=3, engine=Inline(), failpoints=[point])

    with cluster() as made, pytest.raises(NodeDied, match="worker 1"):
        made.run(work)
    for policy, pushes in ((RESPAWN, 4), (CONTINUE, 2)):
        with cluster() as made:
            made.run(work, on_worker_death=policy)
            assert made.weights()[:3].tolist() == [4, pushes, 4]
            assert [event.exit_code for event in made.events] == [-signal.SIGKILL]


def test_the_finally_blocks_of_a_killed_worker_run_and_cannot_use_the_cluster(cluster):
    seen = []

    def work(kv):
        try:
            kv.barrier()
        finally:
            kv.push([0], [1.0])
            seen.append(kv.rank)

    def stop():
        raise LookupError

    with pytest.raises(LookupError):
        cluster.run(work, on_barrier=stop)
    assert seen == [] and cluster.weights()[0] == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shmps")]


@pytest.mark.parametrize("waits", [True, False])
def test_ctrl_c_ends_workers_that_wait_and_workers_that_compute(cluster, waits):
    def work(kv):
        if kv.rank == 2:
            os.kill(os.getpid(), signal.SIGINT)
        while kv.rank == 2 and not waits:
            pass
        kv.sleep(1e-3)
        while waits:
            kv.push([0], [1.0])

    with pytest.raises(KeyboardInterrupt):
        cluster.run(work)
    assert cluster.run(lambda kv: kv.push([1], [1.0]) or kv.rank) == [0, 1, 2]
    assert cluster.weights()[1] == 3


def test_workers_that_all_wait_are_told():
    def work(kv):
        if kv.rank == 0:
            kv.barrier()
        else:
            kv.push([0], [1.0])
            kv.pull([0])  # beyond the bound, until worker 0 pushes

    with (
        Cluster(KEYS, workers=2, consistency=BOUNDED(0), engine=Inline()) as cluster,
        pytest.raises(UsageError, match="wait for each other for ever"),
    ):
        cluster.run(work)


def test_workers_join_leave_and_stop():
    def work(kv):
        for epoch in range(100):
            if kv.rank not in kv.ranks(epoch):
                if kv.rank < 3:
                    return epoch
                continue
            if kv.stopping:
                return epoch
            kv.push([kv.rank], [1.0])
            if kv.rank == 0:
                kv.report(epoch)
            kv.barrier()
        return 100

    with Cluster(KEYS, workers=3, max_workers=4, consistency=ASYNC, engine="inline") as cluster:

        def on_report(rank, epoch):
            if epoch == 2:
                assert cluster.add_worker() == 3
                cluster.remove_worker(1)
            if epoch == 6:
                cluster.stop()

        ended = cluster.run(work, on_report=on_report)
        assert len(ended) == 4 and 3 <= ended[1] <= 4 and 7 <= ended[0] < 100
        assert [event.what for event in cluster.events] == ["left", "joined"]


def test_reports_are_copies_and_looks_are_read_only(cluster):
    def work(kv):
        values = np.zeros(3)
        kv.report(values)
        values += 1
        with pytest.raises(ValueError, match="read-only"):
            kv.look()[0] = 1
        return values

    reports = []
    assert np.all(cluster.run(work, on_report=lambda rank, value: reports.append(value)) == np.ones(3))
    assert len(reports) == 3 and not np.any(reports)


def test_many_workers_run_in_one_process():
    with Cluster(KEYS, servers=2, workers=300, consistency=ASYNC, engine=Inline()) as cluster:
        cluster.run(lambda kv: kv.push_pull([3, 8], [1.0, 2.0]))
        assert cluster.weights()[[3, 8]].tolist() == [300, 600]


def test_the_memory_goes_with_the_cluster():
    with Cluster(KEYS, workers=2, engine=Inline()) as cluster:
        cluster.run(lambda kv: kv.push([1], [1.0]))
        arrays = cluster._parameters.weights, cluster._engine._arrays["keys"]
        owners = [weakref.ref(array.base.base.obj) for array in arrays]
        del arrays
    assert all(owner() is None for owner in owners)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (
            {"engine": "spoon"},
            UsageError,
            "engine must be 'processes', 'inline', 'ray', an Inline, Ray or Rehearsal, got 'spoon'",
        ),
        ({"engine": "inline", "start_method": "fork"}, UsageError, "start_method and node_timeout must be"),
        ({"engine": Inline(), "node_timeout": 5}, UsageError, "start_method and node_timeout must be"),
        ({"engine": "inline", "num_keys": 10**13}, OutOfSpace, "must fit in memory"),
    ],
)
def test_what_the_engine_does_not_take_is_refused_by_name(given, error, said):
    with pytest.raises(error, match=said), Cluster(**({"num_keys": KEYS} | given)):
        pass


def test_a_training_refuses_what_only_processes_have(problem):
    for given in ({"start_method": "fork"}, {"node_timeout": 5.0}):
        with pytest.raises(UsageError, match=f"{next(iter(given))}.* are of processes"):
            trained(problem, **given)
    with pytest.raises(UsageError, match=r"engine must be one of processes, inline, ray, or a shmps\.Inline"):
        trained(problem, engine="spoon")


@pytest.mark.parametrize(
    ("given", "said"),
    [({"latency": -1}, "latency"), ({"bandwidth": 0}, "bandwidth"), ({"stragglers": 2}, "stragglers")],
)
def test_machines_that_cannot_be_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        Machines(**given)


def test_an_updater_that_fails_is_named():
    class Failing(Updater):
        def update(self, keys, gradient, values, state, step):
            raise ZeroDivisionError

    with pytest.raises(UpdaterFailed, match="Failing"):
        Cluster(KEYS, updater=Failing(), engine="inline")
