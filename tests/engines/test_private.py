"""Nodes with memories of their own, on the inline engine: the same bits, and what dies with a memory."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, FTRL, HOGWILD, SYNC, AdaGrad, Cluster, Inline, LogisticRegression
from shmps.engines.inline.private import PrivateInline
from shmps.errors import NodeDied, UsageError
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import SERVER_PLACES, TAIL_PLACES, WORKER_PLACES, Failpoint

KEYS, PUSHES = 10, 4

pytestmark = pytest.mark.filterwarnings("ignore::shmps.errors.NotConverged")


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(3)
    X = scipy.sparse.random(300, 20, 0.3, format="csr", random_state=3)
    margins = X @ random.normal(size=20) + random.normal(size=300) / 3
    return X, np.digitize(margins, [-0.5, 0.5])


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 2, "batch_size": 32, "replicas": 1, "checkpoint_every": 2},
        {"epochs": 2, "batch_size": 32, "updater": "ftrl", "l1": 1e-3, "test_interval": 2},
        {"epochs": 3, "batch_size": 0},
        {"epochs": 2, "batch_size": 32, "join_at": 1},
        {"solver": "lbfgs", "tol": 1e-2},
        {"solver": "lbfgs", "tol": 1e-2, "l1": 1e-3},
    ],
    ids=str,
)
def test_sync_training_ends_with_the_bits_of_one_memory(problem, given, tmp_path):
    X, y = problem
    given = {"workers": 3, "servers": 2, "solver": "minibatch"} | given
    if "checkpoint_every" in given:
        given["checkpoint"] = str(tmp_path)
    one, private = (
        LogisticRegression(engine=engine, **given).fit(X, y) for engine in (Inline(), PrivateInline())
    )
    assert one.coef_.tobytes() == private.coef_.tobytes()
    assert one.result_.ticks == private.result_.ticks and one.result_.delays == private.result_.delays


@pytest.mark.parametrize("consistency", [SYNC, BOUNDED(1), ASYNC], ids=str)
@pytest.mark.parametrize("replicas", [0, 1])
def test_every_way_to_read_brings_what_servers_have(consistency, replicas):
    def work(kv):
        kv.push([2, 7], [1.0, 2.0])
        kv.push_pull(None, np.ones(KEYS))
        kv.barrier("all")
        copy = kv.copy_of_parameters()
        return kv.pull([2, 7]), kv.read([2, 7]), kv.look([2, 7]), kv.look()[[2, 7]], copy.weights[[2, 7], 0]

    given = {"servers": 2, "workers": 3, "max_keys": 4, "consistency": consistency, "replicas": replicas}
    with Cluster(KEYS, engine=PrivateInline(), **given) as cluster:
        for run in (1, 2):
            results = cluster.run(work)
            expected = cluster.weights()[[2, 7]]
            assert expected.tolist() == [6 * run, 9 * run]
            assert np.all(np.array(results) == expected)
            assert cluster.ticks().tolist() == [2 * run] * 3
            assert cluster.delays().sum() == 12 * run and cluster.replica_differences() == 0


def test_a_callback_sees_and_writes_what_servers_have():
    seen = []

    def work(kv):
        for _ in range(3):
            kv.push([1], [1.0])
            kv.barrier("all")
        return kv.pull([1]).tolist()

    def on_barrier():
        seen.append(cluster.weights()[1])
        cluster.write([10.0 + seen[-1]], begin=1)

    with Cluster(KEYS, servers=2, workers=2, engine=PrivateInline()) as cluster:
        assert cluster.run(work, on_barrier=on_barrier) == [[36.0]] * 2
    assert seen == [2.0, 14.0, 26.0]


def test_a_stop_reaches_workers_that_only_look_at_the_flag():
    def work(kv):
        kv.report(0)
        while not kv.stopping:
            kv.sleep(1.0)
        return kv.rank

    with Cluster(KEYS, workers=3, engine=PrivateInline()) as cluster:
        assert cluster.run(work, on_report=lambda rank, value: rank == 2 and cluster.stop()) == [0, 1, 2]


def learn(kv):
    """Push what follows from what was read, of all servers."""
    for number in range(kv.resumed, PUSHES):
        random = np.random.default_rng([kv.rank, number])
        keys = np.sort(random.choice(KEYS, 4, replace=False))
        known = kv.read(keys).sum()
        kv.push(keys, np.sin(known + random.normal(size=4)))


def learned(engine, updater, *points):
    given = {"servers": 3, "workers": 3, "replicas": 1, "updater": updater, "failpoints": points}
    with Cluster(KEYS, engine=engine, **given) as cluster:
        cluster.run(learn, on_worker_death=RESPAWN)
        assert len(cluster.events) <= len(points) and cluster.replica_differences() == 0
        return cluster.weights().tobytes(), cluster.ticks().tolist()


@pytest.mark.parametrize("updater", [AdaGrad(0.1), FTRL(0.1, l1=0.01)], ids=["AdaGrad", "FTRL"])
def test_sync_bits_survive_a_death_at_every_place(updater):
    undisturbed = learned(Inline(), updater)
    places = [(SERVER, place) for place in SERVER_PLACES + TAIL_PLACES]
    places += [(WORKER, place) for place in WORKER_PLACES]
    for (role, place), visit in itertools.product(places, (1, 3, 6)):
        point = Failpoint(role, 1, place, visit)
        assert learned(PrivateInline(), updater, point) == undisturbed, point


def test_a_worker_that_announced_its_push_to_some_servers_makes_it_again_from_the_same_values():
    points = [Failpoint(WORKER, rank, "worker: half announced", visit) for rank, visit in ((0, 1), (2, 5))]
    assert learned(PrivateInline(), AdaGrad(0.1), *points) == learned(Inline(), AdaGrad(0.1))


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_partition_that_nobody_has_ends_the_run(replicas):
    points = [Failpoint(SERVER, rank, "server: applied", 2) for rank in range(2 * replicas + 1)]
    given = {"servers": 3, "workers": 2, "replicas": replicas, "failpoints": points}
    with Cluster(KEYS, engine=PrivateInline(), **given) as cluster:
        with pytest.raises(NodeDied, match=r"server \d died"):
            cluster.run(learn, on_worker_death=RESPAWN)
        with pytest.raises(NodeDied, match=r"server \d died"):
            cluster.weights()


@pytest.mark.parametrize("given", [{"consistency": HOGWILD}, {"record": True}], ids=str)
def test_what_needs_one_memory_is_refused(given):
    with (
        pytest.raises(UsageError, match="memories of their own take no hogwild workers and record no run"),
        Cluster(KEYS, engine=PrivateInline(), **given),
    ):
        pass
