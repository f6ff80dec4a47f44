"""Bounds and clocks: as values, and as processes that race."""

import math

import numpy as np
import pytest

from shmps import ASYNC, BOUNDED, SYNC, Add, Cluster, Consistency, LogisticRegression
from shmps.errors import UsageError
from shmps.ps.consistency import VectorClock

TICKS = 60


def test_the_modes_are_values():
    assert str(SYNC) == "sync" and str(ASYNC) == "async" and str(BOUNDED(3)) == "bounded 3"
    assert BOUNDED(3) == BOUNDED(3) != BOUNDED(4)
    assert BOUNDED(0) != SYNC  # a fast worker's push would leak into a slow worker's pull


@pytest.mark.parametrize("bound", [-1, 1.5, math.inf, math.nan, True, "2", None])
def test_a_bound_counts_ticks(bound):
    with pytest.raises(UsageError, match="bound must be an integer >= 0"):
        BOUNDED(bound)


@pytest.mark.parametrize("bound", [-1, math.nan])
def test_a_bound_below_zero_is_refused(bound):
    with pytest.raises(UsageError, match="bound must be 0 or more ticks"):
        Consistency(bound)


def test_the_slowest_is_the_least_of_those_present():
    clock = VectorClock()
    clock.start([4, 4, 4])
    clock.tick(0, 6)
    clock.tick(1, 5)
    assert clock.slowest == 4
    clock.leave(2)
    assert clock.slowest == 5
    clock.tick(2, 9)  # who has left does not come back by a late tick
    clock.leave(0)
    clock.leave(1)
    assert clock.slowest == math.inf


def test_the_slowest_follows_every_tick_whoever_makes_it():
    random, clock, ticks = np.random.default_rng(0), VectorClock(), dict.fromkeys(range(5), 2)
    clock.start([2] * 5)
    for _ in range(300):
        rank = int(random.integers(5))
        ticks[rank] += 1
        clock.tick(rank, ticks[rank])
        assert clock.slowest == min(ticks.values())


def own_clock_under_own_key(kv):
    """Every worker counts its ticks under its own key, so that a pull shows all clocks of that instant."""
    keys, seen = np.arange(kv.num_workers), []
    tick = np.zeros(kv.num_workers)
    tick[kv.rank] = 1.0
    for clock in range(TICKS):
        clocks = kv.pull(keys)
        seen.append((clock, clocks.min()))
        kv.start_push(keys, tick)
    return seen


@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("servers", [1, 2])
def test_no_pull_is_answered_beyond_the_bound(bound, servers):
    with Cluster(4, servers=servers, workers=4, consistency=BOUNDED(bound), updater=Add()) as cluster:
        for seen in cluster.run(own_clock_under_own_key):
            assert all(clock - slowest <= bound for clock, slowest in seen)


@pytest.mark.parametrize("bound", [1, 4])
def test_a_worker_gets_as_far_ahead_as_the_bound_and_no_further(bound):
    def race(kv):
        keys, mine = np.arange(2), np.eye(2)[kv.rank]
        if kv.rank == 1:  # slow: ticks once, when worker 0 has already asked for more than it may have
            while kv.look()[0] < bound + 1:
                pass
            kv.push(keys, mine)
            return None
        for _ in range(bound):
            kv.push(keys, mine)
        ahead = kv.pull(keys)
        kv.push(keys, mine)
        parked = kv.pull(keys)
        return ahead.tolist(), parked.tolist()

    with Cluster(2, servers=1, workers=2, consistency=BOUNDED(bound)) as cluster:
        ahead, parked = cluster.run(race)[0]
    assert ahead == [bound, 0]
    assert parked == [bound + 1, 1]  # answered when worker 1 had ticked, not before


@pytest.mark.parametrize("consistency", [ASYNC, BOUNDED(2), SYNC], ids=str)
@pytest.mark.parametrize("servers", [1, 3])
def test_every_push_arrives_exactly_once(consistency, servers):
    num_keys = 50

    def pushes(rank):
        random = np.random.default_rng(rank)
        for _ in range(TICKS):
            keys = np.flatnonzero(random.random(num_keys) < 0.3)
            yield keys, random.integers(-1000, 1000, len(keys)).astype(float)

    def work(kv):
        for keys, values in pushes(kv.rank):
            kv.start_push(keys, values)

    expected = np.zeros(num_keys)
    for rank in range(4):
        for keys, values in pushes(rank):
            expected[keys] += values
    with Cluster(num_keys, servers=servers, workers=4, consistency=consistency) as cluster:
        cluster.run(work)
        assert cluster.weights().tolist() == expected.tolist()
        assert cluster.delays().sum() == 4 * TICKS * servers
        assert cluster.ticks().tolist() == [TICKS] * 4


def test_unequal_numbers_of_pushes_end_by_themselves():
    def work(kv):
        for _ in range(3 * kv.rank):
            kv.push(None, np.ones(5))

    for consistency in (SYNC, BOUNDED(0), ASYNC):
        with Cluster(5, workers=3, consistency=consistency) as cluster:
            cluster.run(work)
            assert cluster.weights().tolist() == [9.0] * 5


def test_a_held_tick_has_no_delay_and_a_late_push_has():
    def work(kv):
        kv.pull()
        kv.barrier()
        kv.push(None, np.ones(5))

    for consistency, delays in ((SYNC, [2]), (ASYNC, [1, 1])):
        with Cluster(5, servers=1, workers=2, consistency=consistency) as cluster:
            cluster.run(work)
            assert cluster.delays()[:2].tolist()[: len(delays)] == delays


@pytest.mark.parametrize("batch_size", [0, 25, 500])  # whole shards, minibatches, one minibatch a shard
@pytest.mark.parametrize(("mode", "bound"), [("async", None), ("bounded", 0)])
def test_of_one_worker_every_pull_has_its_own_pushes_and_none_is_late(mode, bound, batch_size):
    random = np.random.default_rng(0)
    X, y = random.random((100, 8)), random.integers(0, 2, 100)

    def fit(mode, bound=None):
        alone = LogisticRegression(
            workers=1, servers=2, mode=mode, bound=bound, updater="sgd", learning_rate=0.5,
            batch_size=batch_size, epochs=7, test_interval=2,
        )  # fmt: skip
        return alone.fit(X, y, eval_set=(X, y))

    late, serial = fit(mode, bound), fit("sync")
    assert late.coef_.tobytes() == serial.coef_.tobytes()
    assert [p.metrics for p in late.result_.history] == [p.metrics for p in serial.result_.history]
    assert late.result_.delays.histogram == serial.result_.delays.histogram and not late.result_.delays.max
