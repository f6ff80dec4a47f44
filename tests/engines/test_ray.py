"""Nodes as actors of Ray, on this machine alone. The protocol is tested without Ray: see `test_machines`."""

import numpy as np
import pytest

from shmps import SYNC, AdaGrad, Cluster, LogisticRegression, Ray
from shmps.engines.ray.placement import Placement
from shmps.errors import NodeDied, UsageError
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import Failpoint
from tests.engines.test_machines import KEYS, WORKERS, add_deltas, descend, expected

SMALL = {"cpus_per_worker": 0, "cpus_per_server": 0}


@pytest.fixture(scope="module")
def ray():
    """Ray on this machine, which the tests of this file share."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def cluster(**options):
    options = {"engine": Ray(**SMALL), "servers": 2, "replicas": 1} | options
    return Cluster(KEYS, workers=WORKERS, **options)


def test_a_cluster_counts_every_push_once_and_leaves_ray_running(ray):
    with cluster() as ours:
        assert ours.run(add_deltas) == [expected().sum()] * WORKERS
        ours.run(add_deltas)
        assert ours.weights().tolist() == (2 * expected()).tolist()
    assert ray.is_initialized()


@pytest.mark.parametrize(
    "failpoints",
    [
        (Failpoint(SERVER, 1, "server: committed", 4),),
        (
            Failpoint(SERVER, 0, "server: before answers", 7),
            Failpoint(WORKER, 2, "worker: half announced", 4),
        ),
    ],
    ids=["server", "server and worker"],
)
def test_a_killed_run_in_sync_mode_ends_with_the_bits_of_shared_memory(ray, failpoints):
    def weights(engine, points):
        deaths = []
        with cluster(engine=engine, failpoints=points, consistency=SYNC, updater=AdaGrad(0.1)) as ours:
            ours.run(descend, on_worker_death=RESPAWN, on_event=deaths.append)
            return ours.weights(), len(deaths)

    expected, _ = weights("inline", ())
    found, deaths = weights(Ray(**SMALL), failpoints)
    assert found.tobytes() == expected.tobytes() and deaths == len(failpoints)


def test_a_training_ends_with_the_bits_of_one_machine(ray):
    X = np.random.default_rng(0).normal(size=(300, 6))
    y = X @ np.arange(6) > 0
    for solver in ("minibatch", "lbfgs"):
        ours, theirs = (
            LogisticRegression(solver=solver, workers=2, servers=2, engine=engine).fit(X, y)
            for engine in (Ray(**SMALL), "inline")
        )
        assert ours.coef_.tobytes() == theirs.coef_.tobytes()


def test_a_server_without_a_replica_ends_the_run(ray):
    points = [Failpoint(SERVER, 1, "server: committed", 4)]
    with cluster(replicas=0, failpoints=points) as ours, pytest.raises(NodeDied, match="server 1 died"):
        ours.run(add_deltas, on_worker_death=RESPAWN)


def test_what_the_machines_lack_is_said_before_anything_waits_for_it(ray):
    with pytest.raises(UsageError, match="processors for its nodes, got 2 for 5"), cluster(engine=Ray()):
        pass
    with pytest.raises(UsageError, match="machines must be at most the 1"), cluster(engine=Ray(machines=2)):
        pass


def test_without_the_package_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'shmps\[ray\]'"), cluster():
        pass


def test_neighbouring_servers_are_on_different_machines_also_after_deaths():
    machines = ["a", "b", "c"]
    placement = Placement(machines, servers=3)
    assert [placement.place((SERVER, rank), machines) for rank in range(3)] == machines
    assert [placement.place((WORKER, rank), machines) for rank in range(4)] == ["a", "b", "c", "a"]
    # b dies: its server goes where no neighbour is, if there is such a machine.
    assert placement.place((SERVER, 1), ["a", "c"]) in ("a", "c")
    four = Placement([*machines, "d"], servers=3)
    for rank in range(3):
        four.place((SERVER, rank), four.machines)
    assert four.place((SERVER, 1), ["a", "c", "d"]) == "d"
    with pytest.raises(UsageError, match="alive, got none"):
        placement.place((WORKER, 0), [])
