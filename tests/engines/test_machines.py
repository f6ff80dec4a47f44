"""Nodes that share no memory: the promises of one machine hold. Real processes and real connections."""

import os
import signal

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, HOGWILD, SYNC, AdaGrad, Cluster, LogisticRegression
from shmps.engines.wire.local import Rehearsal
from shmps.errors import NodeDied, UsageError, WorkerFailed
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import Failpoint

KEYS, WORKERS, PUSHES = 40, 3, 8
MODES = {"sync": SYNC, "bounded": BOUNDED(1), "async": ASYNC}


def delta(rank, number):
    """Return keys and values of push `number` of a worker: whole numbers, so that sums are exact."""
    random = np.random.default_rng([rank, number])
    keys = np.sort(random.choice(KEYS, 9, replace=False))
    return keys, random.integers(1, 1000, size=9).astype(float)


def add_deltas(kv):
    for number in range(kv.resumed + 1, PUSHES + 1):
        keys, values = delta(kv.rank, number)
        if number % 2:
            kv.push_pull(keys, values)
        else:
            kv.push(keys, values)
            kv.pull(keys)
    kv.barrier()
    return kv.pull().sum()


def descend(kv):
    """Push gradients that depend on what was pulled: in sync mode another order would show."""
    for number in range(1, PUSHES + 1):
        keys, values = delta(kv.rank, number)
        if number > kv.resumed:
            kv.push(keys, 0.1 * kv.pull(keys) + values / 100)


def cluster(mode="sync", engine=None, servers=2, **options):
    options = {"replicas": 1} | options
    engine = Rehearsal() if engine is None else engine
    return Cluster(KEYS, servers=servers, workers=WORKERS, consistency=MODES[mode], engine=engine, **options)


def expected():
    total = np.zeros(KEYS)
    for rank in range(WORKERS):
        for number in range(1, PUSHES + 1):
            keys, values = delta(rank, number)
            total[keys] += values
    return total


@pytest.mark.parametrize("mode", MODES)
def test_a_cluster_counts_every_push_once_and_runs_again(mode):
    with cluster(mode) as ours:
        assert ours.run(add_deltas) == [expected().sum()] * WORKERS
        assert ours.weights().tolist() == expected().tolist()
        assert ours.ticks().tolist() == [PUSHES] * WORKERS
        assert ours.replica_differences() == 0
        ours.run(add_deltas)
        assert ours.weights().tolist() == (2 * expected()).tolist()


KILLS = [
    (Failpoint(SERVER, 1, "server: committed", 4),),
    (Failpoint(SERVER, 0, "server: applied", 6),),
    (Failpoint(SERVER, 1, "tail: copied", 3),),
    (Failpoint(WORKER, 1, "worker: half announced", 5),),
    (Failpoint(WORKER, 2, "worker: answered", 2),),
    # A machine: a server, and its workers with pushes that only this server has applied.
    (
        Failpoint(SERVER, 1, "server: before answers", 7),
        Failpoint(WORKER, 0, "worker: half announced", 4),
        Failpoint(WORKER, 2, "worker: half announced", 4),
    ),
]


def deaths_of(engine, failpoints, function, mode="sync", **options):
    """Return weights, and the deaths, of a run that nodes are killed in."""
    events = []
    with cluster(mode, engine, failpoints=failpoints, **options) as ours:
        ours.run(function, on_worker_death=RESPAWN, on_event=events.append)
        assert ours.replica_differences() == 0
        return ours.weights(), [event for event in events if event.what == "died"]


@pytest.mark.parametrize("failpoints", KILLS, ids=lambda points: "-".join(p.place for p in points))
def test_a_killed_run_in_sync_mode_ends_with_the_bits_of_shared_memory(failpoints):
    undisturbed, _ = deaths_of("inline", (), descend, updater=AdaGrad(0.1))
    weights, deaths = deaths_of(None, failpoints, descend, updater=AdaGrad(0.1))
    assert weights.tobytes() == undisturbed.tobytes()
    assert len(deaths) == len(failpoints)


@pytest.mark.parametrize("failpoints", KILLS[::2], ids=lambda points: "-".join(p.place for p in points))
def test_no_push_is_lost_or_applied_twice_in_async_mode(failpoints):
    weights, deaths = deaths_of(None, failpoints, add_deltas, "async")
    assert weights.tolist() == expected().tolist()
    assert deaths


def test_a_server_without_a_replica_ends_the_run():
    points = [Failpoint(SERVER, 1, "server: committed", 4)]
    with cluster(replicas=0, failpoints=points) as ours, pytest.raises(NodeDied, match="server 1 died"):
        ours.run(add_deltas, on_worker_death=RESPAWN)


def stop_server(kv):
    for number in range(kv.resumed + 1, PUSHES + 1):
        keys, values = delta(kv.rank, number)
        kv.push(keys, values)
        if number == 3 and kv.rank == 0:
            kv.report("stop it")


def test_a_server_that_hangs_is_replaced_and_does_no_harm_when_it_comes_back():
    with cluster(node_timeout=1.0) as ours:
        hung = ours.node_pids()[0]
        ours.run(stop_server, on_report=lambda *_: os.kill(hung, signal.SIGSTOP))
        assert ours.weights().tolist() == expected().tolist()


def cut_off(kv):
    """Let worker 1 lose its connection to server 0, once: both go on living."""
    for number in range(kv.resumed + 1, PUSHES + 1):
        keys, values = delta(kv.rank, number)
        kv.push(keys, values)
        if number == 4 and kv.rank == 1:
            kv._client._post.forget((SERVER, 0))


def test_a_worker_that_is_cut_off_from_a_server_is_replaced():
    weights, [death] = deaths_of(None, (), cut_off)
    assert (death.role, death.rank) == ("worker", 1)
    assert weights.tolist() == expected().tolist()


def fail(kv):
    kv.barrier()
    if kv.rank == 1:
        raise ValueError("no luck")
    kv.barrier()


def test_an_exception_in_a_worker_reaches_the_caller_and_ends_the_run():
    with cluster() as ours, pytest.raises(WorkerFailed, match="no luck"):
        ours.run(fail)


def count_up(kv):
    while not kv.stopping:
        kv.push([kv.rank], [1.0])
        kv.report(kv.pushes)
    return kv.pushes


def test_reports_arrive_and_stop_is_told():
    counts = []

    def hear(rank, value):
        counts.append(value)
        if len(counts) == 50:
            ours.stop()

    with cluster("async") as ours:
        pushes = ours.run(count_up, on_report=hear)
        assert ours.weights()[:WORKERS].tolist() == pushes


def by_epochs(kv):
    """Push once in each epoch; tell who shares the rows."""
    told = []
    for epoch in range(6):
        ranks = kv.ranks(epoch)
        if kv.rank in ranks:
            kv.push([epoch], [1.0])
        told.append(len(ranks))
    return told


@pytest.mark.parametrize("repeat", range(3))
def test_every_server_knows_a_worker_that_joins_before_the_next_push(repeat):
    with cluster(max_workers=4) as ours:
        told = ours.run(by_epochs, join_at=2)
        assert told[0] == [3, 3, 4, 4, 4, 4]
        assert ours.weights()[:6].tolist() == [3, 3, 4, 4, 4, 4]


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "minibatch", "epochs": 2, "replicas": 1},
        {"solver": "minibatch", "epochs": 2, "updater": "ftrl", "l1": 1e-3},
        {"solver": "lbfgs"},
    ],
    ids=["adagrad", "ftrl", "lbfgs"],
)
def test_a_training_ends_with_the_bits_of_one_machine(options):
    random = np.random.default_rng(0)
    X = scipy.sparse.random(400, 30, 0.2, format="csr", random_state=random)
    y = np.digitize(X @ random.standard_normal(30) + 0.3 * random.standard_normal(400), [-0.3, 0.3])
    ours, theirs = (
        LogisticRegression(workers=3, servers=2, engine=engine, **options).fit(X, y)
        for engine in (Rehearsal(), "inline")
    )
    assert ours.coef_.tobytes() == theirs.coef_.tobytes()


@pytest.mark.parametrize("options", [{"consistency": HOGWILD}, {"record": True}])
def test_what_needs_shared_memory_is_refused(options):
    ours = Cluster(KEYS, engine=Rehearsal(), **options)
    with pytest.raises(UsageError, match="nodes with memories of their own"), ours:
        pass
