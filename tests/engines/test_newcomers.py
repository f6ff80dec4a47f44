"""Workers that join a run: their barriers, their rows, and which workers wait meanwhile."""

import contextlib
import os
import signal

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, SYNC, Cluster, LogisticRegression
from shmps.ps.messages import SERVER, WORKER, Ping, Record, pack
from shmps.ps.scheduler.membership import Barrier
from shmps.ps.scheduler.run import CONTINUE, RESPAWN
from shmps.system.failpoints import Failpoint

KEYS, EPOCHS, WORKERS = 8, 8, 2
MODES = {"sync": SYNC, "bounded": BOUNDED(1), "async": ASYNC}


def count_epochs(kv, often=True):
    """Push 1 to the worker's own key in each of its epochs, and return these.

    often: two barriers in every epoch, else one in every other epoch.
    """
    mine = []
    kv.barrier()
    for epoch in range(EPOCHS):
        ranks = kv.ranks(epoch)
        if kv.rank not in ranks:
            if mine:
                break
            continue
        mine.append(epoch)
        again = len(mine) <= kv.resumed
        if not again:
            kv.push([kv.rank], [1.0])
        kv.report((epoch, tuple(ranks)))
        if often:
            kv.barrier("all")
            pushed = kv.look([0])
            kv.barrier()
            # Worker 0 is between the two barriers of this epoch too.
            assert again or pushed == epoch + 1
        elif epoch % 2:
            kv.barrier()
    return mine


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("often", [True, False], ids=["twice an epoch", "every other epoch"])
def test_a_newcomer_meets_the_others_at_the_barriers_of_its_epochs(mode, often):
    opened = []
    with Cluster(KEYS, workers=WORKERS, max_workers=3, consistency=MODES[mode]) as cluster:
        mine = cluster.run(count_epochs, often, join_at=4, on_barrier=lambda: opened.append(None))
        assert mine == [[*range(8)], [*range(8)], [4, 5, 6, 7]]
        assert cluster.weights()[:3].tolist() == [8.0, 8.0, 4.0]
        assert len(opened) == 1 + (2 * EPOCHS if often else EPOCHS // 2)


@pytest.mark.parametrize("mode", MODES)
def test_workers_that_a_callback_adds_and_removes_hold_no_barrier_up(mode):
    def on_report(rank, value):
        epoch, ranks = value
        taken.setdefault(epoch, ranks)
        if (rank, epoch) in ((0, 0), (0, 2)):
            assert cluster.add_worker() == 2 + epoch // 2
        if (rank, epoch) == (1, 4):
            cluster.remove_worker(1)

    taken = {}
    with Cluster(KEYS, workers=WORKERS, max_workers=4, consistency=MODES[mode]) as cluster:
        mine = cluster.run(count_epochs, on_report=on_report)
        assert taken[0] == (0, 1) and taken[EPOCHS - 1] == (0, 2, 3)
        for rank, epochs in enumerate(mine):
            assert epochs == [epoch for epoch in range(EPOCHS) if rank in taken[epoch]]
            assert cluster.weights()[rank] == len(epochs)


@pytest.mark.parametrize("policy", [RESPAWN, CONTINUE])
@pytest.mark.parametrize("rank", [1, 2], ids=["another", "the newcomer"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_no_worker_waits_for_ever_at_a_barrier_when_a_worker_dies_after_one_has_joined(mode, rank, policy):
    visit = 2 if rank == 2 else 6
    for place in ("worker: before commit", "worker: answered"):
        failpoint = Failpoint(WORKER, rank, place, visit)
        with Cluster(
            KEYS, workers=WORKERS, max_workers=3, consistency=MODES[mode], failpoints=[failpoint]
        ) as cluster:
            mine = cluster.run(count_epochs, join_at=4, on_worker_death=policy)
            assert [event.what for event in cluster.events] == ["joined", "died"]
            full = [8.0, 8.0, 4.0]
            if policy == RESPAWN:
                assert mine == [[*range(8)], [*range(8)], [4, 5, 6, 7]]
            else:
                assert mine[rank] is None
                full[rank] = visit - (place == "worker: before commit")
            assert cluster.weights()[:3].tolist() == full


def test_a_barrier_counts_from_the_epoch_at_which_a_worker_joins():
    def all_come(place, ranks):
        *first, last = ranks
        assert not any(barrier.enter(rank, place) for rank in first)
        assert barrier.enter(last, place) == dict.fromkeys(ranks, place)

    barrier = Barrier(range(2))
    for place in ((-1, 1), (0, 1), (1, 1), (1, 2)):
        all_come(place, [0, 1])
    barrier.add(2, epoch=2)
    for _ in range(2):  # lives of the newcomer
        for behind in ((-1, 1), (0, 1), (1, 2), (1, 3), (2, 0)):
            assert barrier.enter(2, behind) == {2: behind}
    all_come((2, 1), [1, 0, 2])
    assert barrier.enter(1, (1, 1)) == {1: (1, 1)}  # a new life that goes on with epoch 1
    assert not barrier.enter(0, (3, 1)) and not barrier.enter(2, (2, 2))  # whose function ends early
    assert barrier.finish(1) == {0: (3, 1), 2: (2, 2)}
    assert not barrier.enter(2, (3, 1)) and barrier.finish(2) == {}  # it died in the barrier and was given up
    all_come((3, 2), [0])
    assert barrier.openings == 7


@pytest.mark.parametrize("mode", ["sync", "async", "hogwild"])
@pytest.mark.parametrize("batch_size", [0, 10])
def test_a_newcomer_without_rows_leaves(mode, batch_size):
    settings = {"mode": mode, "batch_size": batch_size, "workers": 2, "iterations": 5}
    X, y = scipy.sparse.csr_matrix(np.eye(2)), [0, 1]
    alone, joined = (LogisticRegression(join_at=at, **settings).fit(X, y) for at in (None, 1))
    assert joined.n_iter_ == 5 and joined.result_.rows == 10
    if mode == "sync":
        assert joined.coef_.tobytes() == alone.coef_.tobytes()


def fill(pipe):
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, pack(Record.of(Ping())))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_server_that_hangs_with_its_pipe_full_is_replaced_while_a_worker_joins(mode):
    def work(kv, server):
        for epoch in range(4):
            if kv.rank == 0 and epoch == 1:
                os.kill(server, signal.SIGSTOP)
                fill(cluster._engine.inboxes.write_end((SERVER, 0)))
            if kv.rank in kv.ranks(epoch):
                kv.push([kv.rank], [1.0])

    with Cluster(
        KEYS, servers=2, workers=1, max_workers=2, consistency=MODES[mode], node_timeout=0.5
    ) as cluster:
        cluster.run(work, cluster.node_pids()[0], join_at=1)
        assert {event.what for event in cluster.events} == {"hung", "joined"}
        assert cluster.weights()[:2].tolist() == [4.0, 3.0]
