"""A node that is killed or stopped while it boots blocks nothing, and no node outlives its parent."""

import contextlib
import io
import itertools
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tqdm
from processes import DEADLINE, alive, children_of, nodes_of

from shmps import ASYNC, Cluster
from shmps.engines.processes.process import NodeProcess
from shmps.errors import NodeDied, OutOfSpace
from shmps.system import failpoints

METHODS = ("spawn", "forkserver")
SCRIPT = """
import os, signal, sys
import numpy as np
from shmps import ASYNC, Cluster

method, number, marks = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def work(kv, large):
    kv.report(os.getpid())
    for _ in range(20):
        kv.push(None, np.ones(9))
    return len(large)

if __name__ == "__main__":
    with Cluster(9, servers=1, workers=2, consistency=ASYNC, start_method=method) as cluster:
        ready = lambda rank, pid: print("ready", flush=True)
        results = cluster.run(work, np.zeros(2**20), on_worker_death="respawn", on_report=ready)
        print(results, cluster.weights().tolist() == [40.0] * 9, flush=True)
elif number and not os.path.exists(marks):
    # A node, or the fork server, boots. Only the first gets the signal.
    open(marks, "w").close()
    print("booting", os.getpid(), flush=True)
    os.kill(os.getpid(), number)
"""


def descendants(pid: int) -> list[int]:
    own = children_of(pid)
    return own + [each for child in own for each in descendants(child)]


@contextmanager
def running(tmp_path, method: str, number: int) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", method, str(int(number)), tmp_path / "marks"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        yield script


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + DEADLINE
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_is_killed_while_it_boots_is_replaced(method, tmp_path):
    with running(tmp_path, method, signal.SIGKILL) as script:
        output, errors = script.communicate(timeout=DEADLINE)
    assert output.splitlines()[-1] == "[1048576, 1048576] True", (output, errors)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_is_stopped_while_it_boots_does_not_stop_the_end(method, ending, tmp_path):
    with running(tmp_path, method, signal.SIGSTOP) as script:
        assert script.stdout.readline().startswith("booting")
        nodes = descendants(script.pid)
        script.send_signal(ending)
        until_gone([*nodes, script.pid])


@pytest.mark.parametrize("method", METHODS)
def test_nodes_that_are_stopped_do_not_outlive_their_parent(method, tmp_path):
    with running(tmp_path, method, 0) as script:
        assert script.stdout.readline() == "ready\n"
        nodes = descendants(script.pid)
        for pid in nodes:
            os.kill(pid, signal.SIGSTOP)
        script.kill()
        until_gone(nodes)


def push_often(kv, count):
    kv.report(None)
    for _ in range(count):
        kv.push(None, np.ones(4))


def test_nodes_survive_the_death_of_the_fork_server():
    with Cluster(4, servers=1, workers=2, consistency=ASYNC, start_method="forkserver") as cluster:
        before, killed = cluster.node_pids(), []

        def kill_fork_server(rank, value):
            for pid in children_of(os.getpid()):
                if set(before) <= set(children_of(pid)) and not killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        cluster.run(push_often, 200, on_report=kill_fork_server)
        assert killed and cluster.events == [] and cluster.node_pids() == before
        cluster.run(push_often, 10)  # its nodes come from another fork server
        assert cluster.weights().tolist() == [420.0] * 4
    assert not any(map(alive, before))


def push_after_a_barrier(kv, count):
    """Return only after the scheduler has reached its loop, which opens the barrier."""
    kv.barrier()
    push_often(kv, count)


@pytest.mark.parametrize("stranger", [False, True])
def test_an_exit_code_that_other_code_takes_is_no_error(stranger, monkeypatch):
    """Another thread starts a process, or waits for any child, right after a node was started and ended."""
    death, killed = NodeProcess.death, []

    def end_first(process):
        if not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if stranger else os.WNOWAIT))
            multiprocessing.active_children()
        return death(process)

    with Cluster(4, servers=1, workers=1) as cluster:
        monkeypatch.setattr(NodeProcess, "death", end_first)
        cluster.run(push_after_a_barrier, 3, on_worker_death="respawn")
        assert [event.exit_code for event in cluster.events] == [255 if stranger else -signal.SIGKILL]
        assert cluster.weights().tolist() == [3.0] * 4


def test_a_node_survives_the_death_of_the_fork_server_right_after_its_start(monkeypatch):
    """A node that runs must not get a successor."""
    death, killed = NodeProcess.death, []

    def end_fork_server_first(process):
        while not killed and len(os.listdir(f"/proc/{process.pid}/task")) < 2:
            pass  # the node starts the thread that watches its parent after the byte of the fork server
        if not killed:
            killed.extend(pid for pid in children_of(os.getpid()) if process.pid in children_of(pid))
            os.kill(killed[0], signal.SIGKILL)
            until_gone(killed)
        return death(process)

    with Cluster(4, servers=1, workers=1, start_method="forkserver") as cluster:
        monkeypatch.setattr(NodeProcess, "death", end_fork_server_first)
        cluster.run(push_often, 3)
        assert killed and cluster.events == []
        assert cluster.weights().tolist() == [3.0] * 4


@pytest.mark.parametrize("method", METHODS)
def test_a_new_interpreter_that_cannot_be_started_is_a_named_error_and_leaves_nothing(method):
    """The script has a session of its own: a signal to its process group would end the tests too."""
    done = run(
        f"""
import errno, os, subprocess
from shmps import Cluster
from shmps.errors import OutOfSpace

def open_files():
    return len(os.listdir("/proc/self/fd"))

def no_process(*args, **named):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

subprocess.Popen = no_process
before = open_files()
for _ in range(2):
    try:
        with Cluster(4, servers=1, workers=1, start_method={method!r}):
            pass
    except OutOfSpace as error:
        print("too many processes" in str(error), open_files() - before)
"""
    )
    assert done.stdout == "True 0\n" * 2, (done.returncode, done.stderr)


def test_ctrl_c_while_the_fork_server_is_started_waits_until_it_is_known():
    """Otherwise nothing would reap the server, and it would stay a zombie."""
    done = run(
        """
import os, signal
from shmps import Cluster
from shmps.engines.processes import fork_server as module

start = module.start_interpreter

def interrupted(*args):
    child = start(*args)
    os.kill(os.getpid(), signal.SIGINT)
    return child

module.start_interpreter = interrupted
try:
    Cluster(4, servers=1, workers=1, start_method="forkserver")
except KeyboardInterrupt:
    print(module.fork_server._requests is not None)
"""
    )
    assert done.stdout == "True\n", (done.returncode, done.stderr)


def test_a_node_whose_descriptor_cannot_be_received_is_a_named_error_and_leaves_nothing(monkeypatch):
    receive = socket.recv_fds

    def no_descriptor_left(*args):
        answer, descriptors, *more = receive(*args)
        for each in descriptors:
            os.close(each)
        return answer, [], *more

    monkeypatch.setattr(socket, "recv_fds", no_descriptor_left)
    with pytest.raises(OutOfSpace, match="too many open files"):
        Cluster(4, servers=1, workers=1, start_method="forkserver").__enter__()
    until_gone(nodes_of(os.getpid()))


def test_a_pathlib_path_in_sys_path_stops_no_node(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/nowhere")])
    with Cluster(4, servers=1, workers=1, start_method="spawn") as cluster:
        cluster.run(push_often, 1)


def test_a_thread_that_replaces_a_server_ends_before_the_cluster():
    before = children_of(os.getpid())
    replacing, ended = threading.Event(), threading.Event()

    def pause(place):
        replacing.set()
        ended.wait(0.3)  # the block ends while a server is replaced, unless it waits

    def ask():
        with contextlib.suppress(Exception):  # the block may end before the call reads
            cluster.ticks()

    with failpoints.simulated(pause):
        with Cluster(4, servers=1, workers=1, start_method="fork") as cluster:
            os.kill(cluster.node_pids()[0], signal.SIGKILL)
            until_gone(cluster.node_pids())
            failpoints.arm("scheduler: before successor")
            thread = threading.Thread(target=ask)
            thread.start()
            replacing.wait()
        ended.set()
        thread.join()
    assert children_of(os.getpid()) == before


def test_threads_that_ask_replace_a_dead_server_once():
    with Cluster(4, servers=1, workers=1, start_method="fork") as cluster:
        for deaths in range(1, 6):
            cluster.run(push_often, 3)  # three deaths without progress would be too many
            os.kill(cluster.node_pids()[0], signal.SIGKILL)
            until_gone(cluster.node_pids())
            together, seen = threading.Barrier(3), []

            def ask(together=together, seen=seen):
                together.wait()
                seen.append((cluster.ticks().tolist(), cluster.weights().tolist()))

            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert seen == [([3 * deaths], [3.0 * deaths] * 4)] * 3
            assert len(cluster.events) == deaths


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        start_new_session=True,
    )


def test_a_program_ends_although_a_daemonic_thread_trains():
    done = run("""
import os, threading
from shmps import ASYNC, Cluster

going = threading.Event()

def work(kv):
    kv.report(None)
    while True:
        kv.push(None, [1.0] * 4)

def train():
    with Cluster(4, servers=1, workers=2, consistency=ASYNC, start_method="fork") as cluster:
        cluster.run(work, on_report=lambda rank, value: going.set(), on_worker_death="respawn")

threading.Thread(target=train, daemon=True).start()
going.wait()
print("ends")
""")
    assert (done.stdout, done.returncode) == ("ends\n", 0), done.stderr


def test_a_thread_that_computes_goes_on_beside_a_fit():
    """A fork would wait for ever in OpenBLAS, or end the threads of OpenBLAS during a product."""
    done = run("""
import threading
import numpy as np
from shmps import LogisticRegression

X = np.random.default_rng(0).normal(size=(60, 3))
y = X[:, 0] > 0
products, enough = [], threading.Event()

def compute():
    square = np.random.default_rng(0).normal(size=(400, 400))
    while not enough.is_set():
        products.append(square @ square)
        del products[:-1]
        turns.release()

turns = threading.Semaphore(0)
thread = threading.Thread(target=compute)
thread.start()
print(LogisticRegression(workers=1, solver="lbfgs").fit(X, y).score(X, y) > 0.8)
while turns.acquire(blocking=False):
    pass
for _ in range(3):
    turns.acquire()
enough.set()
thread.join()
""")
    assert done.stdout == "True\n", done.stderr


def test_a_cluster_warns_that_a_fork_beside_other_threads_may_hang():
    waits = threading.Event()
    thread = threading.Thread(target=waits.wait)
    thread.start()
    try:
        with pytest.warns(RuntimeWarning, match="other threads"):
            Cluster(4)
        Cluster(4, start_method="fork")
    finally:
        waits.set()
        thread.join()


def test_threads_of_progress_bars_do_not_compute(monkeypatch):
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 10)  # `cli.main` sets 0, which starts no thread
    with tqdm.tqdm(total=1, disable=False, file=io.StringIO()):
        assert any(isinstance(thread, tqdm.TMonitor) for thread in threading.enumerate())
        with warnings.catch_warnings(action="error"):
            Cluster(4)


def leave_the_block_in_a_fork(cluster: Cluster) -> None:
    with cluster:
        if not (pid := os.fork()):
            sys.exit(7)  # leaves the with blocks
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        cluster.run(push_often, 1, on_report=lambda rank, value: fork_in_a_callback())
        assert cluster.weights().tolist() == [1.0] * 4 and cluster.events == []


def fork_in_a_callback() -> None:
    if not (pid := os.fork()):
        sys.exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_fork_of_the_program_that_leaves_the_block_leaves_the_nodes_alone(method):
    program = os.getpid()
    try:
        leave_the_block_in_a_fork(Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method=method))
    finally:
        if os.getpid() != program:
            error = sys.exc_info()[1]
            os._exit(error.code if isinstance(error, SystemExit) else 1)


def in_a_script(tmp_path, text: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        start_new_session=True,
    )


def test_a_fork_server_that_cannot_be_started_is_a_named_shortage(tmp_path):
    """No other process is killed instead. The script has a process group of its own."""
    done = in_a_script(
        tmp_path,
        """
import errno, os, subprocess
from shmps import Cluster
from shmps.errors import OutOfSpace

def fail(*args, **named):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

start, subprocess.Popen = subprocess.Popen, fail
cluster = Cluster(4, servers=1, workers=1, start_method="forkserver")
try:
    with cluster:
        pass
except OutOfSpace as error:
    print("ulimit -u" in str(error))
subprocess.Popen = start
with cluster:
    print(cluster.weights().tolist())
""",
    )
    assert done.stdout.splitlines() == ["True", "[0.0, 0.0, 0.0, 0.0]"], (done.returncode, done.stderr)


def test_a_fork_server_without_room_for_a_process_is_a_named_shortage():
    def life() -> None:
        with Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method="forkserver") as cluster:
            cluster.run(push_often, 1)
            servers.update(parent_of(pid) for pid in cluster.node_pids())

    def parent_of(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])

    servers: set[int] = set()
    life()
    (server,) = servers
    limits = resource.prlimit(server, resource.RLIMIT_NOFILE)
    missing, open_there = 0, len(os.listdir(f"/proc/{server}/fd"))
    for room in itertools.count(1, 2):  # too few for a request, or for the pipe of the server
        resource.prlimit(server, resource.RLIMIT_NOFILE, (open_there + room, limits[1]))
        try:
            life()
            break
        except OutOfSpace as error:
            assert "ulimit -n" in str(error)
            missing += 1
    resource.prlimit(server, resource.RLIMIT_NOFILE, limits)
    assert missing > 4 and servers == {server}


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_ignores_sigchld_can_use_clusters(method, tmp_path):
    done = in_a_script(
        tmp_path,
        f"""
import os, signal
import numpy as np
from shmps import ASYNC, Cluster

def work(kv):
    kv.push(None, np.ones(4))

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(2):
        with Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method={method!r}) as cluster:
            cluster.run(work)
            print(cluster.weights().tolist())
""",
    )
    assert done.stdout.splitlines() == ["[1.0, 1.0, 1.0, 1.0]"] * 2 and done.stderr == ""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_start_with_too_few_descriptors_leaves_none_open(method):
    def life() -> None:
        with Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method=method) as cluster:
            cluster.run(push_often, 1)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    life()
    before, limits = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    missing = 0
    for room in itertools.count(2, 1 if method == "fork" else 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, limits[1]))
        try:
            life()
            break
        except OutOfSpace:
            missing += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert descriptors() == before, room
    assert missing > 2


def test_a_node_that_can_start_no_thread_ends_with_its_parent_or_names_the_shortage(monkeypatch, capfd):
    def fail(*args):
        raise RuntimeError("can't start new thread")

    def life() -> None:
        with Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method="fork") as cluster:
            cluster.run(push_often, 1)

    def life_of_a_thread() -> None:
        with pytest.raises(NodeDied, match="ulimit -u"):
            life()
        ended.append(True)

    ended: list[bool] = []
    monkeypatch.setattr("shmps.engines.processes.node._thread", SimpleNamespace(start_new_thread=fail))
    life()  # the kernel's signal ends these nodes with their parent
    thread = threading.Thread(target=life_of_a_thread)
    thread.start()
    thread.join()
    assert ended
    assert capfd.readouterr().err == ""
