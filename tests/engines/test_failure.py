"""When a node dies, no node hangs, all that wait learn which one died and how, and nothing stays behind."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core import event
from processes import DEADLINE, alive, children_of

from shmps import ASYNC, SYNC, Cluster, LogisticRegression
from shmps.errors import Diverged, NodeDied, WorkerFailed
from shmps.system.memory import NamelessMemory


def wait_for_death(kv, folder):
    """Wait until worker 0 dies; the other workers record the error that they get."""
    try:
        kv.barrier()
        if kv.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            kv.push(None, np.ones(4))
            kv.barrier()
    except NodeDied as error:
        Path(folder, f"told-{kv.rank}").write_text(str(error))
        raise


@pytest.mark.parametrize("consistency", [SYNC, ASYNC], ids=str)
def test_the_death_of_a_worker_reaches_all_workers_that_wait(consistency, tmp_path):
    with (
        Cluster(4, servers=2, workers=3, consistency=consistency) as cluster,
        pytest.raises(
            NodeDied, match=r"worker 0 died \(killed by SIGKILL\).*start the training again"
        ) as death,
    ):
        cluster.run(wait_for_death, tmp_path)
    assert (death.value.role, death.value.rank, death.value.node_exit_code) == ("worker", 0, -signal.SIGKILL)
    told = [path.read_text() for path in sorted(tmp_path.glob("told-*"))]
    assert len(told) == 2 and all("worker 0 died (killed by SIGKILL)" in text for text in told)


def test_a_dead_workers_function_is_not_run_again_and_the_cluster_goes_on(tmp_path):
    def die(kv):
        Path(tmp_path, f"{kv.rank}-{os.getpid()}").touch()
        kv.barrier()  # otherwise a worker may learn of the death before it runs its function
        if kv.rank == 1:
            os._exit(7)
        kv.barrier()

    with Cluster(4, workers=2) as cluster:
        with pytest.raises(NodeDied, match=r"worker 1 died \(ended with exit code 7\)"):
            cluster.run(die)
        assert len(list(tmp_path.iterdir())) == 2
        assert cluster.run(lambda kv: kv.rank) == [0, 1]


def test_a_server_that_dies_between_two_runs_is_replaced_and_keeps_everything():
    with Cluster(4, servers=2, workers=1, consistency=ASYNC) as cluster:
        cluster.run(lambda kv: kv.push(None, np.arange(4.0)))
        for question in (cluster.weights, cluster.ticks, cluster.versions, cluster.delays):
            server = cluster._nodes.servers[0]
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.join()
            question()
            assert cluster._nodes.servers[0].process.is_alive()
            cluster.run(lambda kv: kv.push(None, np.ones(4)))
        assert cluster.weights().tolist() == [4.0, 5.0, 6.0, 7.0]
        assert [event.what for event in cluster.events] == ["died"] * 4


def test_a_worker_that_makes_no_request_does_not_delay_the_error():
    def busy(kv):
        if kv.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            pass

    with Cluster(4, workers=2) as cluster, pytest.raises(NodeDied, match="worker 0"):
        cluster.run(busy)


def test_a_worker_that_cannot_map_the_parameters_reports_why(monkeypatch):
    """As with a limit on the address space (ulimit -v). The exception reaches the caller."""

    def refuse(memory):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with Cluster(4, workers=1) as cluster:
        monkeypatch.setattr(NamelessMemory, "read_only", refuse)
        with pytest.raises(WorkerFailed) as failure:
            cluster.run(lambda kv: kv.rank)
        assert isinstance(failure.value.__cause__, OSError)
        monkeypatch.undo()
        assert cluster.run(lambda kv: kv.rank) == [0]


def test_an_interrupt_in_the_caller_ends_the_workers_and_goes_on():
    def report_for_ever(kv):
        while True:
            kv.report(kv.rank)

    def interrupt(rank, value):
        raise KeyboardInterrupt

    with Cluster(4, workers=2) as cluster:
        with pytest.raises(KeyboardInterrupt):
            cluster.run(report_for_ever, on_report=interrupt)
        assert cluster.run(lambda kv: kv.rank) == [0, 1]


@pytest.mark.parametrize("moment", range(4))
def test_an_interrupt_while_nodes_start_loses_none_of_them(moment, monkeypatch):
    """The interrupt comes before or after the start of a worker's process."""
    from shmps.engines.processes.node import Node

    start, calls = Node.start, []

    def interrupted(node):
        calls.append(node)
        if len(calls) == moment // 2 + 1 and not moment % 2:
            os.kill(os.getpid(), signal.SIGINT)
        start(node)
        if len(calls) == moment // 2 + 1 and moment % 2:
            os.kill(os.getpid(), signal.SIGINT)

    with Cluster(4, workers=2) as cluster:
        monkeypatch.setattr(Node, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.run(lambda kv: kv.barrier())
        monkeypatch.undo()
        assert cluster.run(lambda kv: kv.rank) == [0, 1]


def test_divergence_is_named_with_its_iteration():
    X = np.full((10, 1), 1e200)
    y = np.arange(10) % 2
    with pytest.raises(Diverged, match=r"at iteration \d+ of worker \d.*lower the learning rate"):
        LogisticRegression(updater="sgd", learning_rate=1e200, l2=0, batch_size=1).fit(X, y)


def test_a_server_that_dies_again_and_again_ends_the_run(capfd):
    from shmps import Add

    caller = os.getpid()

    class Broken(Add):
        def update(self, keys, gradient, values, state, step):
            if step.tick > 2 and os.getpid() != caller:  # not in the warm-up
                raise RuntimeError("broken on purpose")

    def work(kv):
        for _ in range(3):
            kv.push([0], [1.0])

    with (
        Cluster(4, servers=1, workers=1, updater=Broken()) as cluster,
        pytest.raises(NodeDied, match="exit code 1"),
    ):
        cluster.run(work)
    assert len(cluster.events) == 2  # two servers were replaced; the third death was one too many
    outcome = capfd.readouterr().err.splitlines()[-1]
    assert "the updater Broken raised RuntimeError('broken on purpose') in server 0" in outcome


SCRIPT = """
import os, sys, threading
import numpy as np
from shmps import ASYNC, SYNC, Cluster

def work(kv):
    while True:
        kv.push(None, np.ones(5))
        if kv.look()[0] > 50:
            kv.report(os.getpid())

def main():
    with Cluster(5, servers=2, workers=2, consistency={mode}) as cluster:
        cluster.run(work, on_report=lambda rank, pid: print(pid, flush=True))

if {threaded}:
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
else:
    main()
"""


@pytest.mark.parametrize(
    ("number", "threaded", "mode"),
    [
        (signal.SIGKILL, False, "SYNC"),
        (signal.SIGKILL, True, "ASYNC"),
        (signal.SIGTERM, False, "ASYNC"),
        (signal.SIGINT, False, "SYNC"),
    ],
)
def test_nothing_outlives_the_parent(number, threaded, mode, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(mode=mode, threaded=threaded))
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert int(parent.stdout.readline())  # the run is going on
        nodes = children_of(parent.pid)
        assert len(nodes) == 4
        parent.send_signal(number)
        deadline = time.monotonic() + DEADLINE
        while any(map(alive, nodes)):
            assert time.monotonic() < deadline, "nodes outlive their parent"
        parent.communicate(timeout=DEADLINE)


def test_ctrl_c_from_the_terminal_shows_one_traceback_only(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(mode="SYNC", threaded=False))
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert int(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the nodes too
        _, errors = parent.communicate(timeout=DEADLINE)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")


def test_a_function_that_exits_the_process_is_a_death_or_a_failure():
    def leave(kv):
        sys.exit(3)

    with Cluster(4, workers=2) as cluster, pytest.raises((WorkerFailed, NodeDied)):
        cluster.run(leave)


STOPPED = """
import os, signal, sys, time
from shmps import ASYNC, Cluster

def work(kv):
    kv.report(os.getpid())
    kv.barrier()
    time.sleep(1000)

def stop(rank, pid):
    os.kill(pid, signal.SIGSTOP)
    print(pid, flush=True)

with Cluster(5, servers=1, workers=1, consistency=ASYNC) as cluster:
    cluster.run(work, on_report=stop)
"""


def test_a_stopped_node_does_not_outlive_its_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STOPPED)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert int(parent.stdout.readline())
        nodes = children_of(parent.pid)
        assert len(nodes) == 2
        parent.kill()
        deadline = time.monotonic() + DEADLINE
        while any(map(alive, nodes)):
            assert time.monotonic() < deadline, "a stopped node outlives its parent"


@pytest.mark.filterwarnings("ignore:nodes are forked while other threads")
def test_an_interrupt_that_another_thread_takes_loses_no_node_that_is_being_started(monkeypatch):
    threading.Thread(target=(done := threading.Event()).wait, daemon=True).start()
    fork, pids = os.fork, []

    def fork_and_interrupt():
        pid = fork()
        if pid:
            pids.append(pid)
            if len(pids) == 2:
                os.kill(os.getpid(), signal.SIGINT)
        return pid

    try:
        with Cluster(4, servers=1, workers=2) as cluster:
            monkeypatch.setattr(os, "fork", fork_and_interrupt)
            with pytest.raises(KeyboardInterrupt):
                cluster.run(lambda kv: time.sleep(1000))
            monkeypatch.undo()
        assert len(pids) == 2 and not any(map(alive, pids))
    finally:
        done.set()


class Interrupting(event.Listener):
    def on_start(self, event):
        os.kill(os.getpid(), signal.SIGINT)

    def on_end(self, event):
        pass


def test_an_interrupt_while_a_kernel_is_compiled_waits_until_it_is():
    @njit
    def increased(x):
        return x + 1

    with event.install_listener("numba:compile", Interrupting()), pytest.raises(KeyboardInterrupt):
        increased(1)
    assert len(increased.signatures) == 1
