"""Kill anything: no acknowledged push lost, none applied twice, and in sync mode the same bits in the end."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, FTRL, SGD, SYNC, AdaGrad, Cluster
from shmps.data import rows_of
from shmps.failpoints import SERVER_PLACES, WORKER_PLACES, Failpoint
from shmps.messages import SERVER, WORKER
from shmps.runs import CONTINUE, RESPAWN
from shmps.trainer import Plan, train

KEYS, WORKERS, PUSHES = 12, 3, 12
MODES = {"sync": SYNC, "bounded": BOUNDED(2), "async": ASYNC}


def delta(rank, number):
    """What worker `rank` adds with its push `number`: keys and whole numbers, so that sums are exact."""
    random = np.random.default_rng([rank, number])
    keys = np.sort(random.choice(KEYS, 5, replace=False))
    return keys, random.integers(1, 1000, size=5).astype(float)


def add_deltas(kv):
    """Pushes of every form; a new life goes on after what the last one had committed."""
    for number in range(kv.resumed + 1, PUSHES + 1):
        keys, values = delta(kv.rank, number)
        if number % 3 == 0:
            kv.start_push(keys, values)
        elif number % 3 == 1:
            kv.push_pull(keys, values)
        else:
            kv.push(keys, values)
            kv.pull(keys)


def expected(ranks=range(WORKERS)):
    total = np.zeros(KEYS)
    for rank in ranks:
        for number in range(1, PUSHES + 1):
            keys, values = delta(rank, number)
            total[keys] += values
    return total


FAILPOINTS = [
    *((SERVER, 1, place, visit) for place in SERVER_PLACES for visit in (2, 9)),
    *((WORKER, 1, place, visit) for place in WORKER_PLACES for visit in (1, 8)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("point", FAILPOINTS, ids=lambda point: f"{point[2]}-{point[3]}")
def test_every_push_arrives_exactly_once_whoever_is_killed_wherever(point, mode):
    with Cluster(
        KEYS, servers=2, workers=WORKERS, consistency=MODES[mode], failpoints=[Failpoint(*point)]
    ) as cluster:
        cluster.run(add_deltas, on_worker_death=RESPAWN)
        assert cluster.weights().tolist() == expected().tolist()
        assert cluster.ticks().tolist() == [PUSHES] * WORKERS
        [event] = cluster.events
        assert (event.role, event.rank) == (("scheduler", "server", "worker")[point[0]], 1)
        assert event.exit_code == -signal.SIGKILL and "died (killed by SIGKILL)" in str(event)


TRAINING = Plan(batch_size=16, epochs=4, iterations=None, test_interval=3, intercept=True, seed=0)


def trained(failpoints=(), plan=TRAINING, updater=AdaGrad, **run):
    """The weights of a sync training with two servers, and what happened to nodes."""
    random = np.random.default_rng(1)
    X = scipy.sparse.random(150, KEYS - 1, density=0.3, format="csr", random_state=2)
    rows = rows_of(X, np.where(random.random(150) < 0.4, 1.0, -1.0))
    with Cluster(
        KEYS, servers=2, workers=WORKERS, max_workers=WORKERS + 1, consistency=SYNC,
        updater=updater(0.3, l2=0.01), failpoints=failpoints,
    ) as cluster:  # fmt: skip
        cluster.run(train, rows, KEYS, plan, on_worker_death=RESPAWN, **run)
        return cluster.weights().tobytes(), cluster.events


@pytest.mark.parametrize("batch_size", [16, 0])
@pytest.mark.parametrize("point", FAILPOINTS, ids=lambda point: f"{point[2]}-{point[3]}")
def test_a_killed_sync_training_ends_with_the_bits_of_the_undisturbed_one(point, batch_size):
    plan = replace(TRAINING, batch_size=batch_size, epochs=20 if not batch_size else 4)
    undisturbed, _ = trained(plan=plan)
    killed, events = trained([Failpoint(*point)], plan=plan)
    assert len(events) == 1 and killed == undisturbed


@pytest.mark.parametrize("updater", [SGD, FTRL])
def test_it_does_so_with_every_updater_and_a_worker_that_joins(updater):
    plan = replace(TRAINING, elastic=True, epochs=3)
    undisturbed, events = trained(plan=plan, updater=updater, join_at=1)
    assert [event.what for event in events] == ["joined"]
    points = [Failpoint(SERVER, 0, "server: half applied", 7), Failpoint(WORKER, 2, "worker: committed", 6)]
    for point in points:
        killed, events = trained([point], plan=plan, updater=updater, join_at=1)
        assert len(events) == 2 and killed == undisturbed


def kill_somebody(cluster, random):
    nodes = [*cluster._scheduler._servers.values(), *cluster._scheduler._workers.values()]
    with contextlib.suppress(ProcessLookupError):  # a worker that has finished
        os.kill(nodes[random.integers(len(nodes))].process.pid, signal.SIGKILL)


@pytest.mark.parametrize("mode", MODES)
def test_every_push_arrives_exactly_once_whenever_somebody_is_killed(mode):
    random = np.random.default_rng(0)
    with Cluster(KEYS, servers=2, workers=WORKERS, consistency=MODES[mode]) as cluster:
        for round_ in range(1, 9):

            def report_and_add(kv):
                kv.report(None)
                add_deltas(kv)

            cluster.run(
                report_and_add,
                on_worker_death=RESPAWN,
                on_report=lambda rank, value: kill_somebody(cluster, random) if rank == 0 else None,
            )
            assert cluster.weights().tolist() == (round_ * expected()).tolist()
        assert cluster.events


def test_a_workers_committed_pushes_are_completed_when_the_others_go_on():
    place = "worker: half announced"
    with Cluster(
        KEYS, servers=2, workers=WORKERS, consistency=SYNC, failpoints=[Failpoint(WORKER, 1, place, 9)]
    ) as cluster:
        results = cluster.run(add_deltas_and_count, on_worker_death=CONTINUE)
        assert results[1] is None and results[0] == results[2] == PUSHES
        pushes = int(cluster.ticks()[1])
        assert 0 < pushes < PUSHES
        total = expected([0, 2])
        for number in range(1, pushes + 1):
            keys, values = delta(1, number)
            total[keys] += values
        assert cluster.weights().tolist() == total.tolist()


def add_deltas_and_count(kv):
    add_deltas(kv)
    kv.flush()
    return int(kv.ticks()[kv.rank])


def test_a_worker_that_dies_again_and_again_is_given_up_with_its_exit_code():
    from shmps.errors import NodeDied

    def die(kv):
        if kv.rank == 1:
            os._exit(9)
        kv.barrier()

    with Cluster(4, workers=2) as cluster, pytest.raises(NodeDied, match=r"worker 1 .*exit code 9"):
        cluster.run(die, on_worker_death=RESPAWN)
    assert [event.outcome for event in cluster.events] == ["started again"] * 2


def test_a_worker_that_is_back_passes_the_barriers_that_have_opened():
    def work(kv):
        for number in range(6):
            kv.barrier("all" if number % 2 else "workers")
            if number >= kv.resumed:
                kv.push([kv.rank], [1.0])

    failpoint = Failpoint(WORKER, 1, "worker: announced", 4)
    with Cluster(KEYS, workers=2, consistency=ASYNC, failpoints=[failpoint]) as cluster:
        cluster.run(work, on_worker_death=RESPAWN)
        assert cluster.weights()[:2].tolist() == [6.0, 6.0]


@pytest.mark.parametrize("role", ["server", "worker"])
def test_a_node_that_hangs_is_killed_before_another_takes_its_place(role):
    """Stopped, replaced, and then woken up: it must not write a second time."""

    def work(kv, pid):
        for number in range(kv.resumed + 1, PUSHES + 1):
            keys, values = delta(kv.rank, number)
            kv.push(keys, values)
            if number == 5 and kv.rank == 1:
                os.kill(pid or os.getpid(), signal.SIGSTOP)

    with Cluster(KEYS, servers=2, workers=WORKERS, consistency=SYNC, node_timeout=0.5) as cluster:
        server = cluster._scheduler._servers[0].process.pid
        cluster.run(work, server if role == "server" else 0, on_worker_death=RESPAWN)
        assert cluster.weights().tolist() == expected().tolist()
        [event] = cluster.events
        assert (event.what, event.role) == ("hung", role)


def test_who_waits_or_beats_is_not_taken_for_hung():
    def work(kv):
        if kv.rank == 0:
            until = time.monotonic() + 2.0
            while time.monotonic() < until:
                kv.beat()
        kv.barrier()

    import time

    with Cluster(KEYS, workers=2, node_timeout=0.4) as cluster:
        cluster.run(work)
        assert cluster.events == []


SCRIPT = """
import sys
from shmps import Cluster
from shmps.failpoints import arm
from test_recovery import KEYS, add_deltas

with Cluster(KEYS, servers=2, workers=2) as cluster:
    def killed(rank, value):
        print("going", flush=True)
        arm(sys.argv[1])

    def work(kv):
        kv.report(None)
        while True:
            kv.push(None, [1.0] * KEYS)
            kv.barrier()
    cluster.run(work, on_report=killed)
"""


def test_if_the_scheduler_dies_everyone_goes(tmp_path):
    from processes import alive, children_of

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script, "scheduler: record taken"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as parent:  # fmt: skip
        nodes = set()
        while parent.poll() is None:
            nodes |= set(children_of(parent.pid))
        assert parent.returncode == -signal.SIGKILL, parent.stderr.read()
        while any(map(alive, nodes)):
            pass


def test_workers_join_and_leave_with_an_epoch_at_one_tick_for_all():
    def work(kv):
        taken = []
        for epoch in range(6):
            ranks = kv.ranks(epoch)
            if kv.rank not in ranks:
                if taken:
                    break
                continue
            taken.append((epoch, tuple(ranks)))
            kv.push(None, np.ones(KEYS))
            kv.report(epoch)
        return taken

    with Cluster(KEYS, servers=2, workers=2, max_workers=3, consistency=SYNC) as cluster:

        def on_report(rank, epoch):
            if (rank, epoch) == (0, 0):
                assert cluster.add_worker() == 2
            if (rank, epoch) == (2, 3):
                cluster.remove_worker(0)

        results = cluster.run(work, on_report=on_report)
        by_epoch = {}
        for taken in results:
            for epoch, ranks in taken:
                assert by_epoch.setdefault(epoch, ranks) == ranks  # everyone says the same
        for rank, taken in enumerate(results):
            assert [epoch for epoch, _ in taken] == [e for e, ranks in by_epoch.items() if rank in ranks]
        assert by_epoch[0] == (0, 1)
        total = sum(len(ranks) for ranks in by_epoch.values())
        assert cluster.weights().tolist() == [float(total)] * KEYS
        assert next(event.what for event in cluster.events) == "joined"


@pytest.mark.parametrize("visit", [3, 4, 5], ids=["unread", "just read", "after its first push"])
def test_a_servers_successor_knows_of_a_worker_that_has_joined(visit):
    """The third record that a server takes is that the second worker comes in."""

    def work(kv):
        for epoch in range(4):
            if kv.rank in kv.ranks(epoch):
                kv.push(None, np.ones(KEYS))

    failpoint = Failpoint(SERVER, 1, "server: record taken", visit)
    with Cluster(KEYS, servers=2, workers=1, max_workers=2, failpoints=[failpoint]) as cluster:
        cluster.run(work, join_at=1)
        assert cluster.weights().tolist() == [4.0 + 3.0] * KEYS
        assert [event.what for event in cluster.events] == ["joined", "died"]
