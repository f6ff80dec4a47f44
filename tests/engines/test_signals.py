"""A signal at any step of a cluster's life: nothing stays behind or hangs, and the signal is delivered."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from processes import DEADLINE, children_of, nodes_of

import shmps
from shmps import ASYNC, Cluster, LogisticRegression
from shmps.cli import main as cli
from shmps.engines.processes.value_files import WorkerFiles
from shmps.errors import UsageError
from shmps.ps.scheduler.nodes import Nodes
from shmps.system import signals

PACKAGE = str(Path(shmps.__file__).parent)
MODULES = (
    "cluster", "ps/scheduler/scheduler", "ps/scheduler/run_state", "ps/scheduler/nodes",
    "ps/scheduler/deaths", "engines/processes/engine", "engines/processes/lifetime",
    "engines/processes/node", "engines/processes/value_files", "engines/processes/process", "system/signals",
)  # fmt: skip
OWN = {f"{PACKAGE}/{name}.py" for name in MODULES}
NUMBERS = (signal.SIGINT, signal.SIGTERM)
STRIDE = 101  # a run of the tests tries every 101st line: all lines would take minutes
X = np.random.default_rng(0).normal(size=(40, 3))
Y = X[:, 0] > 0


class Terminated(BaseException):
    """Raised by the handler of SIGTERM."""


def terminate(number, frame):
    raise Terminated


@contextmanager
def signal_at(step: int, number: int) -> Iterator[list[int]]:
    """Send this process a signal at the `step`-th line that it runs in a cluster's modules; yield a count."""
    lines = [0]

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in OWN:
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == step:
                os.kill(os.getpid(), number)
        return trace

    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(None)


def push_once(kv):
    kv.push(None, np.ones(4))


def a_cluster() -> None:
    with Cluster(4, servers=2, workers=1, consistency=ASYNC) as cluster:
        cluster.run(push_once)
        cluster.weights()


def a_cluster_in_which_handlers_are_set() -> None:
    with Cluster(4, servers=1, workers=1, consistency=ASYNC) as cluster:
        signal.signal(signal.SIGINT, interrupt)
        old = signal.signal(signal.SIGTERM, terminate_too)
        try:
            cluster.run(push_once)
        finally:
            signal.signal(signal.SIGTERM, old)


def interrupt(number, frame):
    raise KeyboardInterrupt


def terminate_too(number, frame):
    raise Terminated


def a_fit() -> None:
    LogisticRegression(solver="lbfgs", workers=1, iterations=1, tol=1.0).fit(X, Y)


def descriptors() -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(f"{each.name} {os.readlink(each)}")
        except OSError:  # the descriptor of the listing itself
            continue
    return sorted(found)


def lines_of(life: Callable[[], None]) -> int:
    with signal_at(0, 0) as lines:
        life()
    return lines[0]


@pytest.mark.parametrize("life", [a_cluster, a_cluster_in_which_handlers_are_set, a_fit])
def test_a_signal_at_any_line_leaves_nothing_behind_and_is_delivered(life):
    before = signal.signal(signal.SIGTERM, terminate)
    ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        life()
        open_before, children = descriptors(), children_of(os.getpid())
        first = os.getpid() % STRIDE
        steps = range(1 + first, lines_of(life), STRIDE)
        for step, number in zip(steps, itertools.cycle(NUMBERS), strict=False):
            heard = False
            signal.signal(signal.SIGINT, ctrl_c)
            with signal_at(step, number) as lines:
                try:
                    life()
                except (KeyboardInterrupt, Terminated):
                    heard = True
            assert signal.getsignal(signal.SIGTERM) is terminate, f"line {step}"
            assert signal.getsignal(signal.SIGINT) in (ctrl_c, interrupt), f"line {step}"
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(), f"line {step}"
            # The run may end before this line: how often the scheduler polls varies.
            assert heard == (lines[0] >= step), f"line {step}"
            assert children_of(os.getpid()) == children, f"line {step}"
            assert descriptors() == open_before, f"line {step}"
        life()  # no lock is left locked
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ctrl_c)


def run_script(tmp_path, text: str, *arguments: str, **how) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, timeout=DEADLINE, **how
    )


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_the_command_ends_with_one_line_wherever_a_signal_comes(number, tmp_path, monkeypatch, capsys):
    """A signal ends `shmps train` in its own process as it ends `fit`: the handlers are `cli._stop`."""
    (tmp_path / "data.svm").write_text("".join(f"{label} 1:{label}\n" for label in (0, 1) * 20))
    arguments = ["train", "--data", str(tmp_path / "data.svm"), "--workers", "1", "--epochs", "1", "--quiet"]
    before = {each: signal.getsignal(each) for each in NUMBERS}

    def life():
        try:
            return cli.main(arguments)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    life()
    open_before = descriptors()
    for step in range(5, lines_of(life), 2 * STRIDE):
        with signal_at(step, number) as lines:
            code = life()
        assert code == (128 + number if lines[0] >= step else 0), f"line {step}"
        assert descriptors() == open_before, f"line {step}"
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_and_sigterm_at_once_give_one_line(tmp_path):
    done = run_script(
        tmp_path,
        """
import os, signal, sys
from shmps.cli import main as cli
from shmps.cli.commands import data

def both(options):
    numbers = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

data.run = both
sys.exit(cli.main(["data"]))
""",
    )
    assert done.returncode in (130, 143) and done.stderr.count("\n") == 1, done.stderr


def test_the_command_keeps_its_exit_code_when_signals_come_while_python_ends(tmp_path):
    """Python drops its handlers before the process ends, and threads of libraries block no signal."""
    done = run_script(
        tmp_path,
        """
import atexit, ctypes, os, signal, sys, threading, time
from shmps.cli import command, main as cli

def while_python_ends(self):
    for number in (signal.SIGINT, signal.SIGTERM):
        libc.signal(number, 0) if signal.getsignal(number) is not signal.SIG_IGN else None
        os.kill(os.getpid(), number)

libc = ctypes.CDLL(None)
cli.main = lambda arguments: 7
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
atexit.register(while_python_ends, None)
sys.exit(command.main())
""",
    )
    assert (done.returncode, done.stderr) == (7, "")


def test_a_storm_of_signals_raises_the_first(tmp_path):
    done = run_script(
        tmp_path,
        """
import os, signal, threading, time
from shmps import ASYNC, Cluster

ending = threading.Event()

def storm():
    while not ending.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.0005)

def outlive():
    # The end of Python itself is not tested here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ending.set()

try:
    with Cluster(4, servers=2, workers=2, consistency=ASYNC) as cluster:
        threading.Thread(target=storm, daemon=True).start()
        cluster.run(lambda kv: [kv.push([0], [1.0]) for _ in range(10**9)])
except KeyboardInterrupt:
    try:
        outlive()
    except KeyboardInterrupt:
        outlive()
    print(cluster._running.locked(), [name for name in os.listdir("/proc/self/fd") if int(name) > 3])
    print(open(f"/proc/self/task/{os.getpid()}/children").read().split())
""",
    )
    assert done.stdout.splitlines() == ["False []", "[]"], (done.stdout, done.stderr)


def test_a_signal_is_delivered_in_a_callback_at_the_end_of_a_run(tmp_path):
    """The callback gets the death of a server while the run waits for the successor."""
    done = run_script(
        tmp_path,
        """
import os, signal
from shmps import ASYNC, Cluster

def work(kv, server):
    kv.push(None, [1.0] * 4)
    os.kill(server, signal.SIGKILL)

def on_event(event):
    print(cluster.ticks(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("not reached")

try:
    with Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method="fork") as cluster:
        cluster.run(work, cluster.node_pids()[0], on_event=on_event)
except KeyboardInterrupt:
    print("heard")
""",
    )
    assert done.stdout == "[1]\nheard\n", done.stderr


@pytest.fixture
def while_closed(monkeypatch):
    """A function that has another function called while a cluster is cleaned up."""

    def call(function):
        close = Nodes.close
        monkeypatch.setattr(Nodes, "close", lambda nodes: (function(), close(nodes)))

    return call


def test_a_signal_that_waits_is_delivered_in_the_main_thread_although_others_run_clusters(while_closed):
    turns, failure = threading.Semaphore(0), []

    def run_another():
        with Cluster(4, servers=1, workers=1, consistency=ASYNC, start_method="fork") as other:

            def on_pause():
                turns.release()
                if ended.is_set():
                    other.stop()

            try:
                other.run(push_until_stopped, on_pause=on_pause)
            except BaseException as error:
                failure.append(error)

    def interrupt():
        if threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), signal.SIGINT)
            while turns.acquire(blocking=False):
                pass
            for _ in range(2):
                assert turns.acquire(timeout=DEADLINE)

    while_closed(interrupt)
    ended, thread = threading.Event(), threading.Thread(target=run_another)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), Cluster(4, servers=1, workers=1, start_method="fork"):
            pass
    finally:
        ended.set()
        thread.join()
    assert failure == []


def push_until_stopped(kv):
    while not kv.stopping:
        kv.push([0], [1.0])


def test_a_signal_that_waited_goes_to_the_handler_that_was_set_when_it_came(while_closed):
    """Not to a handler that an earlier cluster found, nor to one that is set while the signal waits."""
    heard, before = [], signal.getsignal(signal.SIGUSR1)

    def handle(name):
        signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(name))

    def interrupt():
        os.kill(os.getpid(), signal.SIGUSR1)
        handle("later")

    while_closed(interrupt)
    try:
        for name in ("first", "second"):
            handle(name)
            with Cluster(4, servers=1, workers=1):
                pass
        assert heard == ["first", "second"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_raises_while_handlers_are_put_back_does_not_stop_the_others():
    @signals.held
    def put_back(passage):
        passage.close()
        while signals.waiting and signals.deliver():
            pass

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        for line in range(40):
            passage, lines = signals.Passage(), [0]

            def trace(frame, event, argument, line=line, lines=lines):
                if frame.f_code.co_filename != signals.__file__:
                    return None
                if event == "line":
                    lines[0] += 1
                    if lines[0] == line:
                        os.kill(os.getpid(), signal.SIGINT)
                return trace

            sys.settrace(trace)
            try:
                put_back(passage)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            assert signal.getsignal(signal.SIGTERM) is terminate, line
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, line
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_does_not_raise_is_run_while_a_run_goes_on():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with Cluster(4, servers=1, workers=1) as cluster:

            def report(kv):
                kv.report(None)
                kv.barrier()

            cluster.run(report, on_report=lambda rank, value: os.kill(os.getpid(), signal.SIGUSR1))
            assert heard == [signal.SIGUSR1]
        assert callable(signal.getsignal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_is_set_inside_the_block_stays():
    def mine(number, frame): ...

    before = signal.getsignal(signal.SIGINT)
    try:
        with Cluster(4, servers=1, workers=1) as cluster:
            signal.signal(signal.SIGINT, mine)
            cluster.run(push_once)
            assert signal.getsignal(signal.SIGINT) is mine
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_exception_that_leaves_the_block_ends_the_run_of_another_thread():
    failure = []

    def run_for_ever(cluster):
        try:
            cluster.run(lambda kv: [kv.push([0], [1.0]) for _ in range(10**9)])
        except UsageError as error:
            failure.append(str(error))

    with pytest.raises(KeyboardInterrupt), Cluster(4, servers=1, workers=1, start_method="fork") as cluster:
        thread = threading.Thread(target=run_for_ever, args=(cluster,))
        thread.start()
        while not cluster.ticks().any():
            pass
        raise KeyboardInterrupt
    thread.join()
    assert "block left" in failure[0]


@contextmanager
def handled(number: int, handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def report_and_wait(kv):
    kv.report(None)
    kv.barrier()


def test_a_handler_set_inside_the_block_may_call_the_one_before():
    heard = []

    def mine(number, frame):
        heard.append("mine")
        before(number, frame)

    with (
        handled(signal.SIGUSR1, lambda number, frame: heard.append("before")),
        Cluster(4, servers=1, workers=1) as cluster,
    ):
        before = signal.getsignal(signal.SIGUSR1)
        with handled(signal.SIGUSR1, mine):
            send = lambda rank, value: os.kill(os.getpid(), signal.SIGUSR1)  # noqa: E731
            cluster.run(report_and_wait, on_report=send)
    assert heard == ["mine", "before"]


def test_of_two_clusters_the_first_may_be_left_first():
    """The rest of the second one is still protected."""
    heard = []

    def signal_at_the_end(nodes, servers):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == []
        end(nodes, servers)

    end = Nodes._end
    with handled(signal.SIGUSR1, lambda number, frame: heard.append(number)):
        mine = signal.getsignal(signal.SIGUSR1)
        first, second = Cluster(4, servers=1, workers=1), Cluster(4, servers=1, workers=1)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Nodes, "_end", signal_at_the_end)
            second.__exit__(None, None, None)
        assert heard == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) is mine


def test_signals_that_wait_are_delivered_in_the_main_thread_alone(monkeypatch):
    """Another thread is in a run of its own meanwhile."""
    heard, turns, empty = [], threading.Semaphore(0), WorkerFiles.empty

    def go_on(kv):
        while not kv.stopping:
            kv.push([0], [1.0])

    def empty_after_a_signal(self):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(3):
            turns.acquire()
        empty(self)

    def note(number, frame):
        heard.append(threading.current_thread())

    with (
        handled(signal.SIGUSR1, note),
        Cluster(4, servers=1, workers=1, start_method="fork") as theirs,
        Cluster(4, servers=1, workers=1, start_method="fork") as ours,
    ):
        thread = threading.Thread(target=theirs.run, args=(go_on,), kwargs={"on_pause": turns.release})
        thread.start()
        turns.acquire()
        monkeypatch.setattr(WorkerFiles, "empty", empty_after_a_signal)
        ours.run(push_once)
        theirs.stop()
        thread.join()
    assert heard == [threading.main_thread()]


def test_a_callback_at_the_end_of_a_run_may_call_the_cluster_while_a_signal_waits(monkeypatch):
    end_workers, ticks, heard = Nodes.end_workers, [], []

    def end_and_kill(self):
        end_workers(self)
        if not heard and not ticks:
            os.kill(self.pids[0], signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(Nodes, "end_workers", end_and_kill)
    with (
        handled(signal.SIGUSR1, lambda number, frame: heard.append(number)),
        Cluster(4, servers=1, workers=1) as cluster,
    ):
        cluster.run(push_once, on_event=lambda event: ticks.append(cluster.ticks().tolist()))
        assert ticks == [[1]] and heard == [signal.SIGUSR1]


def test_a_handler_may_call_the_cluster_while_servers_are_replaced(monkeypatch):
    """The handler interrupts another call of the same thread."""
    ticks: list[list[int]] = []
    poll = signals.poll

    def signal_in_poll(ready, seconds):
        if not ticks:
            os.kill(os.getpid(), signal.SIGUSR1)
        return poll(ready, seconds)

    with Cluster(4, servers=1, workers=1) as cluster:
        with handled(signal.SIGUSR1, lambda number, frame: ticks.append(cluster.ticks().tolist())):
            os.kill(cluster.node_pids()[0], signal.SIGKILL)
            while not cluster.events:
                monkeypatch.setattr(signals, "poll", signal_in_poll)
                cluster.weights()
                monkeypatch.undo()
        assert ticks[0] == [0]


def test_a_callback_that_leaves_the_block_ends_the_run():
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(4, servers=1, workers=1))
        with pytest.raises(UsageError, match="block left"):
            cluster.run(report_and_wait, on_report=lambda rank, value: stack.close())
    with pytest.raises(UsageError, match="inside its with block"):
        cluster.ticks()


def test_calls_from_another_thread_while_the_block_is_left():
    clusters: list[Cluster] = []
    strange: list[BaseException] = []
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            try:
                if clusters:
                    clusters[-1].weights()
            except UsageError:
                continue
            except BaseException as error:
                strange.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for rank in (0, 1) * 4:
            with Cluster(4, servers=2, workers=1, start_method="fork") as cluster:
                clusters.append(cluster)
                os.kill(cluster.node_pids()[rank], signal.SIGKILL)
            assert nodes_of(os.getpid()) == []
    finally:
        ended.set()
        thread.join()
    assert strange == []
