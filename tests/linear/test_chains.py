"""Chains of fits: how they are shared among workers, and that a killed worker changes no bit."""

import numpy as np
import pytest
from problems import problem
from scipy.sparse import csr_matrix

from shmps import ASYNC, Cluster
from shmps.data.rows import rows_of
from shmps.linear.full_gradient.chains import (
    Chain,
    Penalty,
    Trainer,
    grouped,
    in_process,
    shares,
    train_chains,
)
from shmps.linear.full_gradient.problem import BINARY, Problem
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import Failpoint
from shmps.updaters.add import Replace

X, Y = problem()
ROWS = rows_of(csr_matrix(X), np.where(Y == 1, 1.0, -1.0))
TAKEN = np.arange(ROWS.num_rows) % 3 != np.arange(3)[:, None]
TRAINER = Trainer(*grouped(ROWS, TAKEN), Problem.of(ROWS, (7,), BINARY, True, l2=1.0), 1e-9, 100)
PENALTIES = tuple(Penalty(0.0, l2) for l2 in (1.0, 0.02, 0.015, 0.01))
CHAINS = [Chain(fold, tuple(range(4 * fold, 4 * fold + 4)), PENALTIES) for fold in range(3)]


def on_cluster(workers=2, servers=2, failpoints=()):
    with Cluster(
        12 * TRAINER.width, servers=servers, workers=workers, consistency=ASYNC, updater=Replace(),
        max_keys=TRAINER.width, failpoints=failpoints,
    ) as cluster:  # fmt: skip
        own = [CHAINS[rank::workers] for rank in range(workers)]
        cluster.run(train_chains, TRAINER, own, on_worker_death=RESPAWN)
        return cluster.weights().reshape(12, -1), cluster.events


def test_the_workers_learn_what_one_process_learns():
    alone = in_process(TRAINER, CHAINS, lambda done: None)
    assert (alone[:, -1] == 1).all()
    for workers, servers in ((1, 1), (2, 3), (3, 2)):
        assert np.array_equal(on_cluster(workers, servers)[0], alone)


@pytest.mark.parametrize(
    "point",
    [
        (WORKER, 0, "worker: before commit", 1),
        (WORKER, 0, "worker: before commit", 3),
        (WORKER, 0, "worker: before commit", 5),
        (WORKER, 1, "worker: answered", 2),
        (WORKER, 0, "worker: answered", 4),
        (WORKER, 0, "worker: half announced", 6),
        (SERVER, 1, "server: half applied", 3),
        (SERVER, 0, "server: committed", 2),
    ],
    ids=lambda point: f"{point[2]}-{point[3]}",
)
def test_whoever_is_killed_it_ends_with_the_bits_of_the_undisturbed_one(point):
    killed, events = on_cluster(failpoints=[Failpoint(*point)])
    assert len(events) == 1 and np.array_equal(killed, on_cluster()[0])


def test_few_chains_are_cut_so_that_every_worker_has_as_much_to_do():
    for folds, workers in ((5, 2), (5, 3), (5, 4), (3, 8), (1, 4), (20, 3), (1, 20)):
        chains = [
            Chain(fold, tuple(range(10 * fold, 10 * fold + 10)), (Penalty(0.0, fold),) * 10)
            for fold in range(folds)
        ]
        found = shares(chains, workers)
        pieces = [piece for own in found for piece in own]
        assert [number for piece in pieces for number in piece.numbers] == list(range(10 * folds))
        assert all(piece.penalties == (Penalty(0.0, piece.fold),) * len(piece.numbers) for piece in pieces)
        assert all(number // 10 == piece.fold for piece in pieces for number in piece.numbers)
        fits = [sum(len(piece.numbers) for piece in own) for own in found]
        assert max(fits) <= 1.1 * sum(fits) / workers + 0.5
        assert len(pieces) - folds < workers


def test_chains_that_can_be_shared_nearly_evenly_are_not_cut():
    assert shares(CHAINS, 3) == [[chain] for chain in CHAINS]
    assert shares(CHAINS * 7, 2) == [(CHAINS * 7)[:10], (CHAINS * 7)[10:]]
