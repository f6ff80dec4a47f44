"""What a function on the cluster can do, and the errors that it gets when it breaks a rule."""

import fcntl
import mmap
import os
import resource
import signal
import threading
import time

import numpy as np
import pytest
from numba import njit
from processes import DEADLINE

from shmps import ASYNC, BOUNDED, SGD, SYNC, AdaGrad, Cluster, Updater
from shmps.errors import OutOfSpace, UpdaterFailed, UsageError, WorkerFailed
from shmps.ps.messages import SERVER

KEYS = 20


@pytest.fixture
def cluster():
    with Cluster(KEYS, servers=3, workers=3, consistency=ASYNC, max_keys=10) as made:
        yield made


def test_results_come_in_rank_order(cluster):
    assert cluster.run(lambda kv, word: (kv.rank, kv.num_workers, kv.num_servers, word), "x") == [
        (rank, 3, 3, "x") for rank in range(3)
    ]


def test_parameters_last_from_run_to_run(cluster):
    cluster.run(lambda kv: kv.push([2, 19], [1.0, 2.0]))
    assert cluster.run(lambda kv: kv.pull([2, 19]).tolist()) == [[3.0, 6.0]] * 3
    assert cluster.weights()[[2, 19]].tolist() == [3.0, 6.0]


@pytest.mark.parametrize("servers", [1, 3])
def test_values_may_go_as_float32_and_are_added_up_as_float64(servers):
    third = np.float32(1 / 3)

    def work(kv):
        for keys in (None, [2, 7, 19]):
            kv.push(keys, np.full(KEYS if keys is None else 3, 1 / 3))
        out = np.empty(KEYS, np.float32)
        kv.barrier()
        assert kv.pull(out=out) is not None and kv.pull([2]).dtype == out.dtype == np.float32
        with pytest.raises(UsageError, match="float32 array"):
            kv.pull(out=np.empty(KEYS))
        return out

    for consistency in (SYNC, ASYNC):
        with Cluster(KEYS, servers=servers, workers=3, consistency=consistency, dtype=np.float32) as cluster:
            for pulled in cluster.run(work):
                np.testing.assert_array_equal(pulled, cluster.weights().astype(np.float32))
            assert cluster.weights()[0] == 3 * np.float64(third)
            assert cluster.weights()[7] == 6 * np.float64(third)


def test_workers_are_processes_of_their_own(cluster):
    pids = cluster.run(lambda kv: os.getpid())
    assert len({*pids, os.getpid()}) == 4


@pytest.mark.parametrize("width", [1, 3])
def test_push_and_pull_all_or_some_keys(width):
    def work(kv):
        shape = (KEYS,) if width == 1 else (KEYS, width)
        values = np.arange(KEYS * width, dtype=float).reshape(shape)
        kv.push(None, values)
        some = np.array([0, 7, 13, 19])
        kv.push(some, values[some])
        everything, part, both = kv.pull(), kv.pull(some), kv.push_pull(some, values[some])
        assert everything.shape == shape and kv.pull([]).shape == (0, *shape[1:])
        np.testing.assert_array_equal(part, 2 * values[some])
        np.testing.assert_array_equal(everything[some], part)
        np.testing.assert_array_equal(both, 3 * values[some])
        np.testing.assert_array_equal(kv.look(some), both)
        np.testing.assert_array_equal(kv.look()[1:7], values[1:7])

    for servers in (1, 3):
        with Cluster(KEYS, width=width, servers=servers, workers=1) as one:
            one.run(work)


def test_a_timestamp_names_a_request_and_several_may_be_under_way(cluster):
    def work(kv):
        timestamps = [kv.start_push([kv.rank], [1.0]) for _ in range(40)]
        pull = kv.start_pull([kv.rank])
        assert timestamps == sorted(set(timestamps)) and pull > timestamps[-1]
        values = kv.wait(pull)
        for timestamp in timestamps:
            assert kv.wait(timestamp) is None
        return values.tolist()

    assert cluster.run(work) == [[40.0]] * 3


def test_a_pull_fills_the_array_it_is_given(cluster):
    def work(kv):
        out = np.empty(2)
        assert np.shares_memory(kv.pull([3, 4], out=out), out)
        return out.tolist()

    assert cluster.run(work) == [[0.0, 0.0]] * 3


def test_callbacks_run_once_inside_the_next_call(cluster):
    def work(kv):
        called = []
        push = kv.start_push([0], [1.0], callback=lambda values: called.append(values))
        pull = kv.start_pull([5], callback=lambda values: called.append(values.tolist()))
        nested = kv.start_pull([6], callback=lambda values: called.append(kv.pull([7]).tolist()))
        for timestamp in (push, pull, nested):
            kv.wait(timestamp)
        kv.pull([1])
        kv.barrier()
        return called

    for called in cluster.run(work):
        assert len(called) == 3 and None in called and called.count([0.0]) == 2


def test_a_callback_that_is_never_waited_for_runs_before_the_function_ends(cluster):
    def work(kv):
        kv.start_push([0], [1.0], callback=lambda values: kv.report("called"))

    reports = []
    cluster.run(work, on_report=lambda rank, value: reports.append((rank, value)))
    assert sorted(reports) == [(rank, "called") for rank in range(3)]


def test_reports_arrive_in_order_and_whole(cluster):
    def work(kv):
        for number in range(20):
            kv.report((number, np.full(10_000, number)))

    numbers = {rank: [] for rank in range(3)}

    def on_report(rank, value):
        assert (value[1] == value[0]).all() and value[1].flags.writeable
        numbers[rank].append(value[0])

    cluster.run(work, on_report=on_report)
    assert all(seen == list(range(20)) for seen in numbers.values())


@pytest.mark.parametrize("group", ["workers", "all"])
def test_a_barrier_holds_all_workers_until_the_last_comes(cluster, group):
    def work(kv):
        for generation in range(1, 30):
            if kv.rank == generation % 3:  # another worker is the last to come each time
                while kv.look([0, 1, 2]).sum() < 3 * generation - 1:
                    pass
            kv.push([kv.rank], [1.0])
            kv.barrier(group)
            assert (kv.look([0, 1, 2]) >= generation).all()
            kv.barrier(group)

    cluster.run(work)


def test_the_barrier_of_all_nodes_opens_after_the_servers_handled_all_requests(cluster):
    def work(kv):
        kv.start_push([kv.rank], [1.0])
        kv.barrier("all")
        return kv.look([0, 1, 2]).tolist()

    assert cluster.run(work) == [[1.0] * 3] * 3


def test_a_worker_that_has_finished_holds_no_barrier_up(cluster):
    cluster.run(lambda kv: kv.barrier() if kv.rank else None)


def test_the_output_of_a_worker_is_seen(cluster, capfd):
    cluster.run(lambda kv: print(f"worker {kv.rank} was here"))
    assert sorted(capfd.readouterr().out.splitlines()) == [f"worker {rank} was here" for rank in range(3)]


def test_initial_values():
    for initial, expected in ((0.5, [0.5] * KEYS), (np.arange(KEYS), list(range(KEYS)))):
        with Cluster(KEYS, workers=1, initial=initial) as made:
            assert made.weights().tolist() == expected


@njit
def _with_momentum(gradient, values, velocity, rate, momentum):
    for i in range(values.shape[0]):
        for d in range(values.shape[1]):
            velocity[i, d, 0] = momentum * velocity[i, d, 0] + gradient[i, d]
            values[i, d] -= rate * velocity[i, d, 0]


class Momentum(Updater):
    state_width = 1

    def update(self, keys, gradient, values, state, step):
        _with_momentum(gradient, values, state, 0.1, 0.9)


def test_an_updater_of_a_user():
    def work(kv):
        for _ in range(3):
            kv.push([4], [1.0])

    with Cluster(KEYS, workers=1, updater=Momentum()) as made:
        made.run(work)
        assert made.weights()[4] == pytest.approx(-0.1 * (1 + 1.9 + 2.71))


def test_an_updater_that_raises_is_named_with_its_server_and_what_it_raised():
    class Broken(Momentum):
        def update(self, keys, gradient, values, state, step):
            raise KeyError("velocity")

    with pytest.raises(
        UpdaterFailed, match=r"updater Broken raised KeyError\('velocity'\) in server 0"
    ) as failure:
        Cluster(KEYS, updater=Broken())
    assert isinstance(failure.value.__cause__, KeyError)


def test_an_updater_that_returns_values_instead_of_changing_them_is_refused():
    class Returning(Momentum):
        def update(self, keys, gradient, values, state, step):
            return values - gradient

    with pytest.raises(
        UpdaterFailed, match="must change values and state in place and return None, got ndarray"
    ):
        Cluster(KEYS, updater=Returning())


def test_an_exception_reaches_the_caller_with_rank_and_traceback(cluster):
    def fail_here(kv):
        if kv.rank == 1:
            raise KeyError("lost")
        kv.barrier()

    with pytest.raises(WorkerFailed, match="raised in worker 1") as failure:
        cluster.run(fail_here)
    assert failure.value.rank == 1 and "in fail_here" in str(failure.value)
    assert isinstance(failure.value.__cause__, KeyError)
    assert cluster.run(lambda kv: kv.pull([0]).tolist()) == [[0.0]] * 3  # the cluster goes on


def test_an_exception_that_cannot_be_pickled_reaches_the_caller_as_text(cluster):
    def fail(kv):
        class Local(Exception):
            pass

        raise Local("only here")

    with pytest.raises(WorkerFailed, match="only here"):
        cluster.run(fail)


def test_last_words_do_not_overwrite_a_report_that_is_not_read_yet(cluster):
    def report_and_fail(kv):
        kv.report(np.arange(100_000))
        raise ValueError("after the report")

    with pytest.raises(WorkerFailed, match="after the report"):
        cluster.run(report_and_fail)


class Odd(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one, two):
        super().__init__(one)


def test_an_exception_that_cannot_be_unpickled_reaches_the_caller_as_text(cluster):
    def fail(kv):
        raise Odd("strange", 2)

    with pytest.raises(WorkerFailed, match="Odd: strange"):
        cluster.run(fail)


def test_a_run_that_failed_leaves_no_push_behind_for_the_next():
    def fail(kv):
        if kv.rank == 1:
            raise ValueError
        for _ in range(3):
            kv.start_push([0], [100.0])  # held: worker 1 never ticks
        kv.barrier()

    with Cluster(KEYS, workers=2, consistency=SYNC) as made:
        with pytest.raises(WorkerFailed):
            made.run(fail)
        made.run(lambda kv: kv.push([0], [1.0]))
        assert made.weights()[0] == 2.0


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda kv: kv.push([3, 2], [1, 1]), r"sorted and unique, got 2 at position 1 after 3"),
        (lambda kv: kv.push([2, 2], [1, 1]), r"sorted and unique, got 2"),
        (lambda kv: kv.pull([-1]), r"lie in \[0, 20\), got -1"),
        (lambda kv: kv.pull([1, 20]), r"lie in \[0, 20\), got 20 at position 1"),
        (lambda kv: kv.look([1, 20]), r"lie in \[0, 20\), got 20"),
        (lambda kv: kv.pull([1.5]), r"keys must be \(k,\) int64, got .*float64"),
        (lambda kv: kv.pull([[1]]), r"keys must be \(k,\) int64, got shape \(1, 1\)"),
        (lambda kv: kv.push([1, 2], [1.0]), r"values must have the shape \(2,\), got \(1,\)"),
        (lambda kv: kv.push(None, [1.0]), r"values must have the shape \(20,\)"),
        (lambda kv: kv.push([1], ["x"]), r"values must be float64, got dtype"),
        (lambda kv: kv.push([1], [1j]), r"values must be float64, got dtype complex128"),
        (lambda kv: kv.push([1], [1.0], rows=0), "rows must be a finite number > 0"),
        (lambda kv: kv.pull(np.arange(11)), r"at most max_keys=10, got 11; raise max_keys"),
        (
            lambda kv: kv.pull([1], out=np.empty(2)),
            r"out must be a contiguous, writeable float64 array of shape \(1,\)",
        ),
        (
            lambda kv: kv.push_pull([1], [1.0], out=[0.0]),
            r"out must be a contiguous, writeable float64 array",
        ),
        (lambda kv: kv.wait(99), r"timestamp must be one that this worker got"),
        (lambda kv: kv.barrier("servers"), r"servers have no barrier"),
        (lambda kv: kv.barrier("everyone"), r"got 'everyone'"),
    ],
)
def test_a_wrong_request_is_refused_with_rule_and_evidence(cluster, call, rule):
    def work(kv):
        if kv.rank == 0:
            with pytest.raises(UsageError, match=rule):
                call(kv)
        kv.push([0], [1.0])

    cluster.run(work)
    assert cluster.weights()[0] == 3.0  # nothing of the refused request was applied, and nothing is lost


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"num_keys": 0}, "num_keys"),
        ({"width": 0}, "width"),
        ({"servers": 0}, "servers"),
        ({"workers": 0}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"servers": 21}, "servers must be at most the number of keys, 20"),
        ({"max_keys": 0}, "max_keys"),
        ({"dense_slots": -1}, "dense_slots"),
        ({"max_workers": 1}, "max_workers must be at least workers=4"),
        ({"consistency": "sync"}, "consistency must be SYNC, BOUNDED"),
        ({"updater": SGD}, "updater must be an instance"),
        ({"initial": np.zeros(3)}, r"initial must be a number or an array \(20, 1\)"),
        ({"start_method": "thread"}, "start_method"),
    ],
)
def test_a_wrong_setting_is_refused(arguments, rule):
    with pytest.raises(UsageError, match=rule):
        Cluster(**{"num_keys": KEYS} | arguments)


def test_too_many_keys_for_the_memory_are_refused_up_front():
    with pytest.raises(OutOfSpace, match="MiB are available"), Cluster(2**42):
        pass


def test_a_cluster_is_used_inside_its_with_block():
    made = Cluster(KEYS)
    with pytest.raises(UsageError, match="with block"):
        made.run(lambda kv: None)


def importable(kv):
    kv.push(None, np.ones(KEYS))
    return kv.rank


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_other_start_methods(start_method):
    with Cluster(KEYS, servers=1, workers=2, start_method=start_method, updater=AdaGrad(l2=0.1)) as made:
        assert made.run(importable) == [0, 1]
        assert (made.weights() != 0).all()


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("consistency", [SYNC, BOUNDED(1), ASYNC], ids=str)
def test_more_requests_than_slots_never_stop_a_worker(consistency, slots):
    def work(kv):
        for number in range(200):
            kv.start_push([number % KEYS], [1.0])
            kv.start_pull([number % KEYS], callback=lambda values: None)
            if number % 50 == 0:
                kv.start_push(None, np.ones(KEYS))
                kv.start_pull(callback=lambda values: None)
        kv.barrier("all")

    with Cluster(KEYS, servers=2, workers=4, consistency=consistency, slots=slots, dense_slots=slots) as made:
        made.run(work)
        assert made.weights().sum() == 800.0 + 16 * KEYS


def test_without_dense_slots_keys_have_to_be_named():
    def work(kv):
        for all_keys in (kv.pull, lambda: kv.push(None, np.ones(KEYS))):
            with pytest.raises(UsageError, match="dense_slots of the Cluster must be at least 1"):
                all_keys()
        return kv.push_pull(np.arange(KEYS), np.ones(KEYS)).tolist()

    with Cluster(KEYS, workers=1, dense_slots=0) as made:
        assert made.run(work) == [[1.0] * KEYS]


def test_a_report_does_not_wait_for_the_callback_of_the_one_before():
    def work(kv):
        for number in range(3):
            kv.report(number)
        kv.push([0], [1.0])

    handled = []

    def on_report(rank, number):
        while not handled and not cluster.ticks()[0]:  # the push after the last report
            assert time.monotonic() < deadline
        handled.append(number)

    deadline = time.monotonic() + DEADLINE
    with Cluster(4, servers=1, workers=1, consistency=ASYNC) as cluster:
        cluster.run(work, on_report=on_report)
    assert handled == [0, 1, 2]


def test_a_cluster_has_one_run_at_a_time(cluster):
    def again(rank, value):
        with pytest.raises(UsageError, match="another run goes on"):
            cluster.run(lambda kv: None)

    assert cluster.run(lambda kv: kv.report(kv.rank), on_report=again) == [None] * 3
    with pytest.raises(UsageError, match="must not be in use"):
        cluster.__enter__()
    assert cluster.run(lambda kv: kv.rank) == [0, 1, 2]


def test_the_parameters_stand_still_after_a_run_that_was_broken_off():
    """Weights read after the run contain the pushes that a stopped server had not handled when it ended."""

    def work(kv, server):
        kv.barrier()
        os.kill(server, signal.SIGSTOP)
        for _ in range(3):
            kv.start_push(None, np.ones(KEYS))
        raise RuntimeError("broken off")

    with Cluster(KEYS, servers=1, workers=1, consistency=ASYNC) as cluster:
        server = cluster.node_pids()[0]
        timer = threading.Timer(0.5, os.kill, (server, signal.SIGCONT))
        timer.start()
        with pytest.raises(WorkerFailed, match="broken off"):
            cluster.run(work, server)
        assert cluster.weights().tolist() == [3.0] * KEYS
        timer.join()


def test_a_server_that_never_settles_does_not_hold_up_the_end_of_a_run():
    def work(kv, server):
        kv.barrier()
        os.kill(server, signal.SIGSTOP)
        raise RuntimeError("broken off")

    with Cluster(KEYS, servers=1, workers=1, consistency=ASYNC) as cluster:
        with pytest.raises(WorkerFailed, match="broken off"):
            cluster.run(work, cluster.node_pids()[0])
        assert cluster.run(lambda kv: kv.rank) == [0]  # the run waits for a successor
        assert [event.what for event in cluster.events] == ["hung"]


def test_reports_take_no_more_memory_than_their_limit():
    def work(kv):
        most = 0
        for _ in range(40):
            kv.report(bytes(2**22))
            most = max(most, kv._client.reports.bytes)
        return most

    with Cluster(KEYS, servers=1, workers=1) as cluster:
        [most] = cluster.run(work, on_report=lambda rank, value: time.sleep(0.002))
    assert most <= 2**26 + 2**22 + 100


def test_workers_that_report_without_end_wait_for_the_callbacks():
    """Callbacks get reports while more arrive. A worker waits if many of its reports are not handed over."""
    handed_over = np.frombuffer(mmap.mmap(-1, 16), np.int64)

    def work(kv):
        most = 0
        for number in range(5_000):
            kv.report(number)
            most = max(most, number - int(handed_over[kv.rank]))
        return most

    def on_report(rank, number):
        handed_over[rank] += 1

    with Cluster(KEYS, servers=1, workers=2) as cluster:
        assert max(cluster.run(work, on_report=on_report)) <= 256
    assert handed_over.tolist() == [5_000, 5_000]


def test_no_push_is_overtaken_by_the_barrier_after_it():
    workers, pushes = 26, 4

    def work(kv, server):
        kv.barrier()  # the server has let all workers in
        if kv.rank == 0:
            os.kill(server, signal.SIGSTOP)  # its pipe fills
        kv.barrier()
        for _ in range(pushes):
            kv.start_push([0], [1.0])
        if kv.rank == 0:
            os.kill(server, signal.SIGCONT)
        kv.barrier("all")
        return float(kv.look()[0])

    with Cluster(1, servers=1, workers=workers, consistency=ASYNC) as cluster:
        fcntl.fcntl(cluster._engine.inboxes.write_end((SERVER, 0)), fcntl.F_SETPIPE_SZ, 4096)
        pid = cluster.node_pids()[0]
        assert cluster.run(work, pid) == [workers * pushes] * workers


def test_shortages_of_descriptors_are_named_and_leave_no_memory_behind():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir("/proc/self/fd")))
    free = [number for number in range(len(used) + 60) if number not in used]
    for left in range(2, 40, 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[left], hard))
        try:
            with pytest.raises(OutOfSpace, match="descriptors"), Cluster(4, servers=1, workers=8) as cluster:
                cluster.run(lambda kv: None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # A fixture checks after every test that no memory stays open.


def test_an_error_that_names_a_value_that_is_not_picklable_reaches_the_caller():
    def work(kv):
        kv.push([0], [1.0], rows=lambda: 1)

    with Cluster(4, servers=1, workers=1) as cluster, pytest.raises(WorkerFailed) as failure:
        cluster.run(work)
    assert isinstance(failure.value.__cause__, UsageError) and "rows must be" in str(failure.value.__cause__)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (lambda kv: kv.push([0], [1.0], rows="many"), "rows must be a finite number > 0"),
        (lambda kv: kv.wait("first"), "timestamp must be one that this worker got"),
        (lambda kv: kv.start_pull([0], callback=3), "callback must be a function"),
        (lambda kv: kv.push([0, 1], [[1.0], [1.0, 2.0]]), "values must be one array of numbers"),
    ],
)
def test_an_argument_that_is_no_number_or_function_is_refused_by_name(request_, said):
    def work(kv):
        with pytest.raises(UsageError, match=said):
            request_(kv)

    with Cluster(4, servers=1, workers=1) as cluster:
        cluster.run(work)


def test_a_callback_that_raised_is_not_called_again():
    """Three reports wait, and the callback raises at the second."""
    seen, timers = [], []

    def work(kv):
        for number in range(3):
            kv.report(number)
        kv.push(None, np.ones(KEYS))
        kv.barrier()

    def on_report(rank, number):
        seen.append(number)
        while not cluster.ticks()[0]:
            pass  # then all three have been sent
        if number == 1:
            server = cluster.node_pids()[0]
            os.kill(server, signal.SIGSTOP)  # so that the scheduler has time for the third
            timers.append(threading.Timer(0.3, os.kill, (server, signal.SIGCONT)))
            timers[0].start()
            raise ZeroDivisionError

    with Cluster(KEYS, servers=1, workers=1, consistency=ASYNC) as cluster:
        with pytest.raises(ZeroDivisionError):
            cluster.run(work, on_report=on_report)
        timers[0].join()
        assert seen == [0, 1]
