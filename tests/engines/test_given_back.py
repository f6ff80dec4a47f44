"""A request that raises gives back what it took: slots, numbers, memory, values."""

import os
import resource

import numpy as np
import pytest

from shmps import ASYNC, BOUNDED, SYNC, Cluster
from shmps.errors import OutOfSpace, UsageError

KEYS, SLOTS = 6, 2
TOO_LARGE = 1e300  # for float32


@pytest.fixture(params=[SYNC, BOUNDED(1), ASYNC], ids=str)
def cluster(request):
    with Cluster(
        KEYS, servers=2, workers=2, consistency=request.param, slots=SLOTS, dtype=np.float32
    ) as made:
        yield made


def everything_works(kv):
    """Make more requests than slots, of every form. Each worker adds 1 to every key, 2 * SLOTS times."""
    for number in range(2 * SLOTS):
        kv.start_push(None if number % 2 else np.arange(KEYS), np.ones(KEYS))
        kv.pull(None if number % 2 else [0])
    kv.barrier("all")


@pytest.mark.parametrize(
    "request_",
    [
        lambda kv, keys, values: kv.push(keys, values),
        lambda kv, keys, values: kv.start_push(keys, values, callback=print),
        lambda kv, keys, values: kv.push_pull(keys, values),
    ],
    ids=["push", "start_push", "push_pull"],
)
def test_a_push_whose_values_do_not_fit_the_dtype_leaves_no_slot_taken(cluster, request_):
    """The last value belongs to the last server: the slot of the first server is filled by then."""

    def work(kv):
        values = np.ones(KEYS)
        values[-1] = TOO_LARGE
        for keys in (None, np.arange(KEYS)) * (SLOTS + 1):
            with np.errstate(over="raise"), pytest.raises(FloatingPointError):
                request_(kv, keys, values)
        everything_works(kv)

    cluster.run(work)
    assert cluster.weights().tolist() == [2.0 * 2 * SLOTS] * KEYS


def test_a_pull_for_whose_values_there_is_no_memory_leaves_no_slot_taken(cluster):
    def work(kv):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shmps.ps.worker.requests.np.empty", no_memory)
            for keys in (None, [0]) * (SLOTS + 1):
                with pytest.raises(MemoryError):
                    kv.pull(keys)
        everything_works(kv)

    def no_memory(*args):
        raise MemoryError

    cluster.run(work)
    assert cluster.weights().tolist() == [2.0 * 2 * SLOTS] * KEYS


def test_a_callback_that_raises_takes_no_slot_and_loses_no_other_request(cluster):
    def work(kv):
        def fail(values):
            raise ZeroDivisionError

        for _ in range(SLOTS + 1):
            called = []
            plain, kept = kv.start_pull(), kv.start_pull([0, 1], callback=called.append)
            failing = kv.start_pull([0], callback=fail)
            with pytest.raises(ZeroDivisionError):
                kv.wait(failing)
            assert kv.wait(plain).tolist() == [0.0] * KEYS
            kv.wait(kept)
            assert [values.tolist() for values in called] == [[0.0] * 2]
        kv.barrier()
        everything_works(kv)

    cluster.run(work)
    assert cluster.weights().tolist() == [2.0 * 2 * SLOTS] * KEYS


def test_a_refused_out_rows_or_callback_leaves_no_slot_taken(cluster):
    def work(kv):
        for _ in range(SLOTS + 1):
            for out in (np.empty(KEYS), np.empty(1, np.float32), [0.0], np.empty(2 * KEYS, np.float32)[::2]):
                with pytest.raises(UsageError, match="out must be"):
                    kv.pull(out=out)
            with pytest.raises(UsageError, match="rows"):
                kv.push([0], [1.0], rows=np.nan)
            with pytest.raises(UsageError, match="callback"):
                kv.start_push([0], [1.0], callback="print")
        everything_works(kv)

    cluster.run(work)
    assert cluster.weights().tolist() == [2.0 * 2 * SLOTS] * KEYS


def test_a_report_that_cannot_be_written_leaves_nothing_behind():
    """Neither bytes in the file, which would hold memory, nor an entry among the reports that wait."""

    def work(kv):
        def blocks():
            return os.fstat(kv._client.reports._channel._descriptor).st_blocks

        kv.report("before")
        for _ in range(3):
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
            with pytest.raises(OutOfSpace, match="ulimit -f"):
                kv.report(np.ones(2**18))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with pytest.raises(Exception, match="pickle"):
                kv.report(lambda: None)
        assert blocks() * 512 < 2**20
        kv.report("after")

    reports = []
    with Cluster(KEYS, servers=1, workers=1) as cluster:
        cluster.run(work, on_report=lambda rank, value: reports.append(value))
    assert reports == ["before", "after"]
