"""Kill any process: no acknowledged push is lost or applied twice, and sync mode ends with the same bits."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, FTRL, SGD, SYNC, AdaGrad, Cluster, KVWorker, LogisticRegression
from shmps.data.rows import rows_of
from shmps.errors import NodeDied, WorkerFailed
from shmps.linear.minibatch_worker import train
from shmps.linear.plan import Plan
from shmps.ps.messages import SERVER, WORKER, Ping, Record, pack
from shmps.ps.scheduler.run import CONTINUE, RESPAWN
from shmps.system.failpoints import SCHEDULER_PLACES, SERVER_PLACES, TAIL_PLACES, WORKER_PLACES, Failpoint

KEYS, WORKERS, PUSHES = 12, 3, 12
MODES = {"sync": SYNC, "bounded": BOUNDED(2), "async": ASYNC}


def delta(rank, number):
    """Return keys and values of push `number` of worker `rank`: whole numbers, so that sums are exact."""
    random = np.random.default_rng([rank, number])
    keys = np.sort(random.choice(KEYS, 5, replace=False))
    return keys, random.integers(1, 1000, size=5).astype(float)


def add_deltas(kv):
    """Push in every form. A new life goes on after the last push that the one before had committed."""
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


def by_turns(points, others):
    """Pair points with `others`. Two neighbours, such as an early and a late visit to a place, take turns."""
    return [
        pytest.param(point, other, id=f"{point[1]}-{point[2]}-{point[3]}-{other}")
        for i, point in enumerate(points)
        for j, other in enumerate(others)
        if (i + i // 2 + j) % 2 == 0
    ]


def on_engines(points):
    """Pair points with modes: by turns on processes, all pairs on the inline engine, which is quick."""
    turns = [(*each.values, "processes") for each in by_turns(points, MODES)]
    every = [(point, mode, "inline") for point in points for mode in MODES]
    return [
        pytest.param(*each, id=f"{'-'.join(map(str, each[0][1:4]))}-{each[1]}-{each[2]}")
        for each in turns + every
    ]


@pytest.mark.parametrize(("point", "mode", "engine"), on_engines(FAILPOINTS))
def test_every_push_arrives_exactly_once_whichever_node_is_killed_wherever(point, mode, engine):
    with Cluster(
        KEYS,
        servers=2,
        workers=WORKERS,
        consistency=MODES[mode],
        failpoints=[Failpoint(*point)],
        engine=engine,
    ) as cluster:
        cluster.run(add_deltas, on_worker_death=RESPAWN)
        assert cluster.weights().tolist() == expected().tolist()
        assert cluster.ticks().tolist() == [PUSHES] * WORKERS
        [event] = cluster.events
        assert (event.role, event.rank) == (("scheduler", "server", "worker")[point[0]], 1)
        assert event.exit_code == -signal.SIGKILL and "died (killed by SIGKILL)" in str(event)


def assert_replica_is_the_partition(cluster):
    here, replica = cluster._parameters.here, cluster._parameters.replica
    for name, mine, theirs in zip(here._fields, here, replica, strict=True):
        assert name == "done" or mine.tobytes() == theirs.tobytes(), name
    # A run begins with all clocks at the largest one. The replica gets that with the next update.
    assert (here.done >= replica.done).all()


WITH_REPLICA = [
    *((SERVER, rank, place, visit) for place in TAIL_PLACES for rank in (0, 1) for visit in (1, 7)),
    *((SERVER, 1, place, 5) for place in SERVER_PLACES),
    (WORKER, 1, "worker: half announced", 5),
]


@pytest.mark.parametrize(("point", "mode", "engine"), on_engines(WITH_REPLICA))
def test_with_a_replica_every_push_arrives_once_and_in_both(point, mode, engine):
    with Cluster(
        KEYS,
        servers=2,
        workers=WORKERS,
        replicas=1,
        consistency=MODES[mode],
        failpoints=[Failpoint(*point)],
        engine=engine,
    ) as cluster:
        cluster.run(add_deltas, on_worker_death=RESPAWN)
        assert cluster.weights().tolist() == expected().tolist()
        assert len(cluster.events) == 1
        assert_replica_is_the_partition(cluster)


def test_a_slow_tail_holds_pushes_up_and_loses_none():
    """While the tail is stopped, more versions are under way than there are redo slots."""

    def work(kv, tail):
        if kv.rank == 0:
            os.kill(tail, signal.SIGSTOP)
        for number in range(1, PUSHES + 1):
            keys, values = delta(kv.rank, number)
            kv.start_push(keys, values)
            if number == 3 and kv.rank == 0:
                os.kill(tail, signal.SIGCONT)

    with Cluster(KEYS, servers=3, workers=WORKERS, replicas=1, consistency=ASYNC) as cluster:
        cluster.run(work, cluster.node_pids()[1])
        assert cluster.weights().tolist() == expected().tolist()
        assert_replica_is_the_partition(cluster)


@pytest.mark.parametrize("what", ["weights", "state"])
def test_a_damaged_partition_is_restored_from_its_replica(what):
    def push(kv, numbers):
        for number in numbers:
            kv.push(*delta(0, number))

    with Cluster(KEYS, servers=2, workers=1, replicas=1, consistency=ASYNC, updater=AdaGrad(0.1)) as cluster:
        cluster.run(push, range(1, 5))
        before = cluster.weights()
        assert cluster.replica_differences() == 0
        getattr(cluster._parameters, what).view(np.uint8).reshape(-1)[3] ^= 16
        assert cluster.replica_differences() == 1
        server = cluster._nodes.servers[0]
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.join()
        assert cluster.weights().tobytes() == before.tobytes()
        cluster.run(push, [5])
        assert_replica_is_the_partition(cluster)


TRAINING = Plan(batch_size=16, epochs=4, iterations=None, test_interval=3, intercept=True, seed=0)


def trained(failpoints=(), plan=TRAINING, updater=AdaGrad, replicas=0, **run):
    """Return the weights of a sync training with two servers, and the events of its nodes."""
    random = np.random.default_rng(1)
    X = scipy.sparse.random(150, KEYS - 1, density=0.3, format="csr", random_state=2)
    rows = rows_of(X, np.where(random.random(150) < 0.4, 1.0, -1.0))
    with Cluster(
        KEYS, servers=2, workers=WORKERS, max_workers=WORKERS + 1, consistency=SYNC,
        updater=updater(0.3, l2=0.01), failpoints=failpoints, replicas=replicas,
    ) as cluster:  # fmt: skip
        cluster.run(train, rows, (KEYS,), plan, on_worker_death=RESPAWN, **run)
        return cluster.weights().tobytes(), cluster.events


@functools.cache
def undisturbed(batch_size):
    plan = replace(TRAINING, batch_size=batch_size, epochs=20 if not batch_size else 4)
    return plan, trained(plan=plan)[0]


@pytest.mark.parametrize(("point", "batch_size"), by_turns(FAILPOINTS, [16, 0]))
def test_a_killed_sync_training_ends_with_the_bits_of_the_undisturbed_one(point, batch_size):
    plan, expected = undisturbed(batch_size)
    killed, events = trained([Failpoint(*point)], plan=plan)
    assert len(events) == 1 and killed == expected


@pytest.mark.parametrize("point", WITH_REPLICA, ids=lambda point: f"{point[1]}-{point[2]}-{point[3]}")
def test_a_killed_sync_training_with_a_replica_ends_with_the_same_bits(point):
    plan, expected = undisturbed(16)
    killed, events = trained([Failpoint(*point)], plan=plan, replicas=1)
    assert len(events) == 1 and killed == expected


@pytest.mark.parametrize("updater", [SGD, FTRL])
def test_a_killed_sync_training_with_a_newcomer_ends_with_the_same_bits(updater):
    plan = replace(TRAINING, elastic=True, epochs=3)
    expected, events = trained(plan=plan, updater=updater, join_at=1)
    assert [event.what for event in events] == ["joined"]
    points = [Failpoint(SERVER, 0, "server: half applied", 7), Failpoint(WORKER, 2, "worker: committed", 6)]
    for point in points:
        killed, events = trained([point], plan=plan, updater=updater, join_at=1)
        assert len(events) == 2 and killed == expected


def kill_a_node(cluster, random):
    pids = cluster.node_pids()
    with contextlib.suppress(ProcessLookupError):  # a worker that has finished
        os.kill(pids[random.integers(len(pids))], signal.SIGKILL)


@pytest.mark.parametrize("mode", MODES)
def test_every_push_arrives_exactly_once_whenever_a_node_is_killed(mode):
    random = np.random.default_rng(0)
    with Cluster(KEYS, servers=2, workers=WORKERS, consistency=MODES[mode]) as cluster:
        for round_ in range(1, 9):

            def report_and_add(kv):
                kv.report(None)
                add_deltas(kv)

            cluster.run(
                report_and_add,
                on_worker_death=RESPAWN,
                on_report=lambda rank, value: kill_a_node(cluster, random) if rank == 0 else None,
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
    def die(kv):
        if kv.rank == 1:
            os._exit(9)
        kv.barrier()

    with Cluster(4, workers=2) as cluster, pytest.raises(NodeDied, match=r"worker 1 .*exit code 9"):
        cluster.run(die, on_worker_death=RESPAWN)
    assert [event.outcome for event in cluster.events] == ["started again"] * 2


def test_the_death_of_the_last_worker_before_another_joins_is_an_error():
    def work(kv):
        for epoch in range(4):
            kv.ranks(epoch)
            if epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    with Cluster(4, workers=1, max_workers=2) as cluster, pytest.raises(NodeDied, match="worker 0"):
        cluster.run(work, on_worker_death=CONTINUE, join_at=3)


def test_a_respawned_worker_passes_the_barriers_that_have_opened():
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
    """A stopped node that is replaced must never write again."""

    def work(kv, pid):
        for number in range(kv.resumed + 1, PUSHES + 1):
            keys, values = delta(kv.rank, number)
            kv.push(keys, values)
            if number == 5 and kv.rank == 1:
                os.kill(pid or os.getpid(), signal.SIGSTOP)

    with Cluster(KEYS, servers=2, workers=WORKERS, consistency=SYNC, node_timeout=0.5) as cluster:
        server = cluster.node_pids()[0]
        cluster.run(work, server if role == "server" else 0, on_worker_death=RESPAWN)
        assert cluster.weights().tolist() == expected().tolist()
        # On a loaded machine another node may be silent for as long: it is replaced too.
        assert ("hung", role) in [(event.what, event.role) for event in cluster.events]


def test_a_worker_that_waits_or_beats_is_not_taken_for_hung():
    def work(kv):
        if kv.rank == 0:
            until = time.monotonic() + 2.0
            while time.monotonic() < until:
                kv.beat()
        kv.barrier()

    with Cluster(KEYS, workers=2, node_timeout=0.9) as cluster:
        cluster.run(work)
        assert cluster.events == []


SCRIPT = """
import os
import signal
import sys
from shmps import Cluster
from shmps.system.failpoints import arm
from test_recovery import KEYS, MODES, add_deltas

with Cluster(KEYS, servers=2, workers=2, consistency=MODES[sys.argv[2]]) as cluster:
    def killed(rank, value):
        arm(sys.argv[1])
        os.kill(cluster.node_pids()[1], signal.SIGKILL)

    def work(kv):
        kv.report(None)
        while True:
            kv.push(None, [1.0] * KEYS)
            kv.barrier()
    cluster.run(work, on_report=killed)
"""


@pytest.mark.parametrize(("place", "mode"), [*zip(SCHEDULER_PLACES, MODES, strict=True)])
def test_if_the_scheduler_dies_all_nodes_end(place, mode, tmp_path):
    from processes import alive, children_of

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script, place, mode], stderr=subprocess.PIPE, text=True, env=environment,
    ) as parent:  # fmt: skip
        nodes = set()
        while parent.poll() is None:
            nodes |= set(children_of(parent.pid))
        assert parent.returncode == -signal.SIGKILL, parent.stderr.read()
        while any(map(alive, nodes)):
            pass


def test_skipping_minibatches_that_are_done_is_a_sign_of_life(monkeypatch):
    beats = []
    monkeypatch.setattr(KVWorker, "beat", lambda kv: beats.append(None))

    def skip(kv, *args):
        train(kv, *args)
        return len(beats)

    random = np.random.default_rng(0)
    rows = rows_of(scipy.sparse.csr_matrix(random.random((60, KEYS))), np.where(np.arange(60) % 2, 1.0, -1.0))
    plan = replace(TRAINING, iterations=50, intercept=False, test_interval=0)
    with Cluster(KEYS, servers=1, workers=1, updater=SGD(0.1)) as cluster:
        copy = cluster.copy_of_parameters()._replace(ticks=np.array([50]))
    with Cluster(KEYS, servers=1, workers=1, updater=SGD(0.1), restored=copy) as cluster:
        assert cluster.run(skip, rows, (KEYS,), plan) == [50]


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
                assert by_epoch.setdefault(epoch, ranks) == ranks  # all workers agree
        for rank, taken in enumerate(results):
            assert [epoch for epoch, _ in taken] == [e for e, ranks in by_epoch.items() if rank in ranks]
        assert by_epoch[0] == (0, 1)
        total = sum(len(ranks) for ranks in by_epoch.values())
        assert cluster.weights().tolist() == [float(total)] * KEYS
        assert next(event.what for event in cluster.events) == "joined"


def test_pushes_of_a_run_that_was_broken_off_are_not_taken_for_those_of_the_next():
    def break_off(kv):
        if kv.rank == 0:
            for _ in range(4):
                kv.start_push([0], [1000.0])
        raise RuntimeError("broken off")

    def push_twos(kv):
        for _ in range(kv.resumed, 4):
            kv.push([0], [1.0])

    failpoint = Failpoint(WORKER, 0, "worker: answered", 3)
    with Cluster(KEYS, servers=1, workers=2, consistency=SYNC) as cluster:
        with contextlib.suppress(WorkerFailed):
            cluster.run(break_off)
        before = cluster.weights()[0]
        cluster._engine.failpoints = (failpoint,)
        cluster.run(push_twos, on_worker_death=RESPAWN)
        assert cluster.weights()[0] - before == 8.0


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("place", ["server: record taken", "server: committed", "server: after answers"])
def test_a_server_that_dies_after_a_worker_has_joined_lets_it_in_again(mode, place):
    def work(kv):
        for epoch in range(12):
            if kv.rank in kv.ranks(epoch) and epoch - (2 if kv.rank == 2 else 0) >= kv.resumed:
                kv.push([kv.rank], [1.0])

    for visit in (3, 7, 11):
        with Cluster(
            KEYS, servers=2, workers=2, max_workers=3, consistency=MODES[mode],
            failpoints=[Failpoint(SERVER, 1, place, visit)],
        ) as cluster:  # fmt: skip
            cluster.run(work, on_worker_death=RESPAWN, join_at=2)
            assert cluster.weights()[:3].tolist() == [12.0, 12.0, 10.0]
            assert [event.what for event in cluster.events if event.role == "server"] == ["died"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_worker_that_joins_does_its_part(mode):
    X = scipy.sparse.random(120, 5, density=0.5, format="csr", random_state=2)
    y = np.arange(120) % 2
    result = LogisticRegression(
        workers=2, mode=mode, batch_size=10, epochs=4, join_at=2, random_state=1
    ).fit(X, y).result_  # fmt: skip
    assert "deaths" not in result.table()
    if mode == "sync":
        assert result.rows == 4 * 120
    else:  # a worker that was an epoch ahead at the join did this epoch with a shard of two
        assert 4 * 120 <= result.rows <= 4 * 120 + 60


def test_a_worker_that_is_removed_before_it_joins_never_joins():
    def work(kv):
        return [kv.ranks(epoch) for epoch in range(4) if kv.report(epoch) is None]

    with Cluster(KEYS, workers=1, max_workers=3, consistency=ASYNC) as cluster:

        def add_and_remove(rank, epoch):
            if epoch == 0:
                cluster.remove_worker(cluster.add_worker())

        assert cluster.run(work, on_report=add_and_remove) == [[[0]] * 4]


def test_no_node_is_taken_for_hung_while_the_scheduler_does_not_look():
    """A long callback, or Ctrl-Z in the terminal, does not count as silence of the nodes."""

    def work(kv):
        kv.report(None)
        kv.barrier()

    with Cluster(KEYS, workers=2, node_timeout=0.5) as cluster:
        cluster.run(work, on_report=lambda rank, value: time.sleep(0.8))
        assert cluster.events == []


def test_a_server_whose_replacement_was_interrupted_is_replaced_later(monkeypatch):
    from shmps.ps.scheduler.nodes import Nodes

    launch, interrupts = Nodes.launch, [1]

    def interrupted(nodes, role, *args):
        if role == SERVER and interrupts:
            interrupts.pop()
            raise KeyboardInterrupt
        launch(nodes, role, *args)

    def work(kv, pid):
        kv.push(None, np.ones(KEYS))
        if kv.rank == 0:
            os.kill(pid, signal.SIGKILL)
        kv.barrier()
        kv.push(None, np.ones(KEYS))

    with Cluster(KEYS, servers=1, workers=2, consistency=ASYNC) as cluster:
        monkeypatch.setattr(Nodes, "launch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.run(work, cluster.node_pids()[0])
        monkeypatch.undo()
        before = cluster.weights()
        cluster.run(lambda kv: kv.push(None, np.ones(KEYS)))
        assert (cluster.weights() - before).tolist() == [2.0] * KEYS


@pytest.mark.parametrize("visit", [5, 6, 7], ids=["unread", "just read", "after its first push"])
def test_a_servers_successor_knows_of_a_worker_that_has_joined(visit):
    """The fifth record that a server takes says that the second worker joins."""

    def work(kv):
        for epoch in range(4):
            if kv.rank in kv.ranks(epoch):
                kv.push(None, np.ones(KEYS))

    failpoint = Failpoint(SERVER, 1, "server: record taken", visit)
    with Cluster(KEYS, servers=2, workers=1, max_workers=2, failpoints=[failpoint]) as cluster:
        cluster.run(work, join_at=1)
        assert cluster.weights().tolist() == [4.0 + 3.0] * KEYS
        assert [event.what for event in cluster.events] == ["joined", "died"]


def test_a_dead_workers_full_inbox_stops_nobody():
    def work(kv):
        kv.report(None)
        add_deltas(kv)

    with Cluster(KEYS, servers=2, workers=WORKERS, consistency=SYNC) as cluster:

        def fill_and_kill(rank, value):
            if rank == 1 and not cluster.events:
                worker = cluster._nodes.workers[1].process
                os.kill(worker.pid, signal.SIGSTOP)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        os.write(cluster._engine.inboxes.write_end((WORKER, 1)), pack(Record.of(Ping())))
                os.kill(worker.pid, signal.SIGKILL)

        cluster.run(work, on_report=fill_and_kill, on_worker_death=RESPAWN)
        assert cluster.weights().tolist() == expected().tolist()
        assert [event.what for event in cluster.events] == ["died"]
