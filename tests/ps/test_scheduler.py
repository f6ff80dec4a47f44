"""The scheduler alone, on an engine that a test writes: no process, no pipe, and a clock that a test sets."""

import numpy as np
import pytest

from shmps import Add
from shmps.errors import NodeDied, WorkerFailed
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Status
from shmps.ps.messages import (
    SERVER,
    WORKER,
    AskRanks,
    AtBarrier,
    Died,
    Enter,
    Failed,
    Leave,
    Peer,
    Ping,
    Record,
    Release,
    Result,
    Settle,
    Settled,
    Sharer,
    Start,
)
from shmps.ps.scheduler.nodes import Nodes
from shmps.ps.scheduler.run import RESPAWN, Run
from shmps.ps.scheduler.scheduler import Scheduler
from shmps.system.memory import carve


class Node:
    pid = 0

    def __init__(self, role, rank, life):
        self.role, self.rank, self.life = role, rank, life
        self.exit_code, self.killed, self.closed = None, False, False

    def kill(self):
        self.killed = True
        self.exit_code = -9

    def join(self, seconds=None): ...

    def close(self):
        self.closed = True


class Engine:
    """Plays a list of functions, one at each `wait`. It notes launches and the messages that are sent."""

    is_own = True

    def __init__(self):
        self.post = self.clock = self
        self.time, self.turns = 0.0, []
        self.launched, self.sent = [], []

    def now(self):
        return self.time

    def launch(self, role, rank, life, body, *args):
        self.launched.append(Node(role, rank, life))
        return self.launched[-1]

    def send(self, address, record):
        self.sent.append((address, record.message))
        if isinstance(record.message, Settle):
            node = self.last(*address)
            self.turns.append(
                lambda: ([Record.of(Settled(record.message.question), node.rank, node.life)], [])
            )

    def send_behind(self, role, address, record):
        self.send(address, record)

    def wait(self, seconds):
        self.time += 0.1
        return self.turns.pop(0)() or ([], [])

    def last(self, role, rank):
        return [node for node in self.launched if (node.role, node.rank) == (role, rank)][-1]

    def told(self, role, rank):
        """The messages that a node got, forgotten afterwards."""
        found = [message for address, message in self.sent if address == (role, rank)]
        self.sent = [(address, message) for address, message in self.sent if address != (role, rank)]
        return found


class Channels:
    """What every worker wrote."""

    value = None

    def __init__(self):
        self.reports = self.outcome = self

    def read(self, size, offset=0):
        return self.value


class Cluster:
    """A scheduler with two servers and workers, whose nodes are names."""

    def __init__(self, node_timeout=None, workers=2):
        shape = Shape(8, 1, Add().state_width, 2, workers + 1, 8)
        arrays = [
            carve(f, bytearray(carve(f)[1]))[0] for f in (shape.parameter_fields(), shape.mailbox_fields())
        ]
        self.parameters, self.mailboxes = Parameters(shape, arrays[0]), arrays[1]
        self.engine, self.events, self.channels = Engine(), [], Channels()
        self.scheduler = Scheduler(Nodes(self.engine, Status(self.parameters, arrays[1])), 2, node_timeout)
        for rank in range(2):
            self.scheduler.start_server(rank, print)
        self.workers = workers

    def run(self, *turns, policy=RESPAWN):
        self.engine.turns += turns
        return self.scheduler.run(
            Run(
                workers=self.workers,
                tick=0,
                channels=[self.channels] * (self.workers + 1),
                body=print,
                function=print,
                args=(),
                on_report=print,
                on_pause=lambda: None,
                on_event=self.events.append,
                on_worker_death=policy,
            )
        )

    def say(self, rank, message):
        """A worker sends a message."""
        return lambda: ([Record.of(message, rank, self.engine.last(WORKER, rank).life)], [])

    def finish(self):
        return [self.say(rank, Result(1)) for rank in range(self.workers)]

    def die(self, role, rank):
        def turn():
            node = self.engine.last(role, rank)
            node.exit_code = -9
            return [], [node]

        return turn

    def check(self, role, rank, *messages):
        """A turn in which a node has been told just these messages since the last check."""

        def turn():
            told = self.engine.told(role, rank)
            assert told == list(messages), told

        return turn


def lives(cluster, role):
    return [cluster.engine.last(role, rank).life for rank in range(2)]


def test_a_run_starts_its_workers_and_tells_the_servers_who_takes_part():
    cluster = Cluster()
    cluster.engine.sent.clear()
    assert cluster.run(*cluster.finish()) == [None, None]
    first, second = lives(cluster, WORKER)
    for server in range(2):
        told = cluster.engine.told(SERVER, server)
        assert told[:3] == [Start(2), Enter(0, first, 0), Enter(1, second, 0)]
        assert told[3:5] == [Leave(0), Leave(1)] and isinstance(told[5], Settle) and len(told) == 6
    workers = [node for node in cluster.engine.launched if node.role == WORKER]
    assert len(workers) == 2 and all(node.killed and node.closed for node in workers)


def test_a_dead_server_is_followed_by_one_that_is_told_all_of_its_neighbour_and_of_the_run():
    cluster = Cluster()
    before = lives(cluster, SERVER)

    def check():
        other, life = lives(cluster, SERVER)[0], lives(cluster, SERVER)[1]
        assert life > before[1] and other == before[0]
        first, second = lives(cluster, WORKER)
        told = cluster.engine.told(SERVER, 1)
        assert told[-6:-1] == [Peer(0, other), Start(2), Enter(0, first, 0), Enter(1, second, 0), Leave(0)]
        assert Peer(1, life) in cluster.engine.told(SERVER, 0)

    first, second = cluster.finish()
    cluster.run(first, cluster.die(SERVER, 1), check, second)
    [event] = cluster.events
    assert (event.what, event.role, event.rank, event.outcome) == ("died", "server", 1, "recovered")


def test_a_silent_node_is_pinged_then_killed_and_replaced_only_after_its_exit():
    cluster = Cluster(node_timeout=1.0)
    beats = cluster.mailboxes["beats"]
    beats[:] = 1
    launched = []

    def beat(but):
        def turn():
            beats[[place for place in range(len(beats)) if place != but]] += 1

        return turn

    def still_one():
        launched.append([node.rank for node in cluster.engine.launched if node.role == SERVER])
        assert cluster.engine.last(SERVER, 1).killed
        assert cluster.engine.told(SERVER, 1).count(Ping()) == 1
        assert Ping() not in cluster.engine.told(SERVER, 0)
        return [], [cluster.engine.last(SERVER, 1)]

    silent = [beat(but=1) for _ in range(12)]
    cluster.run(beat(but=None), *silent, still_one, *cluster.finish())
    assert launched == [[0, 1]]
    assert [event.what for event in cluster.events] == ["hung"]


def test_a_worker_that_dies_three_times_without_progress_ends_the_run():
    cluster = Cluster()
    die = cluster.die(WORKER, 0)
    with pytest.raises(NodeDied):
        cluster.run(die, die, die)
    assert Died(WORKER, 0, -9) in cluster.engine.told(WORKER, 1)
    assert len(cluster.events) == 2


def test_progress_between_deaths_starts_their_count_again():
    cluster = Cluster()
    done = cluster.parameters.done

    def progress():
        done[:, 0] += 1

    die = cluster.die(WORKER, 0)
    cluster.run(die, die, progress, die, die, *cluster.finish())
    assert len(cluster.events) == 4 and np.all(done[:, 0] == 1)


def test_a_barrier_opens_when_all_workers_are_inside():
    cluster = Cluster()
    cluster.run(
        cluster.say(0, AtBarrier(-1, 1)),
        cluster.check(WORKER, 0),
        cluster.say(1, AtBarrier(-1, 1)),
        cluster.check(WORKER, 0, Release(-1, 1)),
        cluster.check(WORKER, 1, Release(-1, 1)),
        *cluster.finish(),
    )


def test_a_message_of_a_former_life_is_dropped():
    cluster = Cluster()
    old = []

    def remember():
        old.append(cluster.engine.last(WORKER, 0).life)

    def late():
        return [Record.of(AtBarrier(-1, 1), 0, old[0])], []

    cluster.run(
        remember,
        cluster.die(WORKER, 0),
        late,
        cluster.say(1, AtBarrier(-1, 1)),
        cluster.check(WORKER, 1),
        *cluster.finish(),
    )


def test_a_newcomer_enters_at_the_tick_of_the_worker_that_asks_first():
    cluster = Cluster()

    def join():
        cluster.scheduler.run_state.division.join(2)

    def check():
        life = cluster.engine.last(WORKER, 2).life
        for server in range(2):
            assert Enter(2, life, 5) in cluster.engine.told(SERVER, server)

    cluster.run(
        join,
        cluster.say(1, AskRanks(epoch=3, tick=5)),
        cluster.check(WORKER, 1, Sharer(0, 3), Sharer(1, 3), Sharer(2, 3)),
        check,
        *cluster.finish(),
        cluster.say(2, Result(1)),
    )
    assert [event.what for event in cluster.events] == ["joined"]


def test_an_exception_of_the_function_ends_the_run_with_its_rank():
    cluster = Cluster()
    cluster.channels.value = ValueError("mine"), "a traceback"
    with pytest.raises(WorkerFailed, match="worker 1") as failure:
        cluster.run(cluster.say(1, Failed(1)))
    assert isinstance(failure.value.__cause__, ValueError)


def test_the_next_call_waits_for_servers_after_a_run_that_failed():
    cluster = Cluster()
    with pytest.raises(NodeDied):
        cluster.run(*[cluster.die(WORKER, 0)] * 3)
    asked = [message for _, message in cluster.engine.sent if isinstance(message, Settle)]
    cluster.scheduler.check_servers()
    assert len(asked) == 2 and cluster.engine.turns == []


def test_a_node_that_hung_is_reported_as_hung_though_its_successor_comes_with_the_next_call():
    cluster = Cluster(node_timeout=1.0)
    beats, launch = cluster.mailboxes["beats"], cluster.engine.launch
    beats[:] = 1

    def beat_but_one():
        beats[[0, 2, 3]] += 1

    def beat_all():
        beats[:] += 1

    def no_process(*args):
        raise OSError("no process is left")

    def ended():
        cluster.engine.launch = no_process
        return [], [cluster.engine.last(SERVER, 1)]

    with pytest.raises(OSError, match="no process"):
        cluster.run(beat_all, *[beat_but_one] * 12, ended)
    cluster.engine.launch = launch
    cluster.scheduler.check_servers()
    assert [event.what for event in cluster.scheduler.events] == ["hung"]
