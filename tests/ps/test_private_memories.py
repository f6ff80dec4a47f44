"""Servers with memories of their own: nothing is known elsewhere before two of them have it."""

import contextlib

import numpy as np
import pytest

from bench.faults.private import PrivateSchedule
from bench.faults.schedule import failure
from shmps import ASYNC, SYNC, Add
from shmps.engines.private import Memory, server_in
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import LostLog, Mailbox
from shmps.ps.messages import (
    ANSWER,
    PULL,
    PUSH,
    SERVER,
    AskImage,
    Enter,
    Image,
    Lost,
    Peer,
    Record,
    Settle,
    Settled,
    Shipped,
    Start,
    Welcome,
    with_arrays,
)
from shmps.ps.server.private_redo_log import PrivateRedoLog
from shmps.ps.server.redo_log import start_replica
from shmps.ps.server.replication import Chain
from shmps.ps.worker.requests import Requests

SHAPE = Shape(num_keys=4, width=1, state_width=0, servers=2, workers=2, max_keys=2, replicas=1)
HEAD, TAIL = 0, 1  # whose partition and whose replica the tests look at: keys 0 and 1


class Ring:
    """Two servers, each the tail of the other. Records from one to the other wait in `lines`."""

    def __init__(self, consistency=ASYNC):
        self.consistency, self.initial = consistency, Memory(SHAPE).parameters
        start_replica(self.initial)
        self.lives, self.last_life = {}, 0
        self.memories, self.servers, self.lines = {}, {}, {HEAD: [], TAIL: []}  # by addressee
        for rank in (HEAD, TAIL):
            self.begin(rank)
        for rank in (HEAD, TAIL):
            self.introduce(rank)
            self.tell(rank, Start(2))
            for worker in (0, 1):
                self.tell(rank, Enter(worker, 100 + worker, 0))
        self.deliver_all()

    def begin(self, rank):
        """Let a server begin, or its successor."""
        first = None if rank in self.lives else self.initial.first_of(rank)
        self.last_life += 1
        self.lives[rank], self.memories[rank] = self.last_life, Memory(SHAPE)
        given = self.memories[rank], rank, self.last_life, self.consistency, Add(), first
        self.servers[rank] = server_in(*given)

    def introduce(self, rank):
        self.tell(rank, Peer(1 - rank, self.lives[1 - rank]))

    def replace(self, rank):
        """A server dies. Its successor and its neighbour learn of each other."""
        self.begin(rank)
        self.introduce(1 - rank)
        self.introduce(rank)

    def handle(self, rank, record):
        """Let a server handle a record; return what it sends to others than its neighbour."""
        answers = self.servers[rank].handle(record)
        for (role, to), answer in answers:
            if role == SERVER:
                self.lines[to].append(with_arrays(answer, [array.copy() for array in answer.arrays]))
        return [answer for (role, _), answer in answers if role != SERVER]

    def tell(self, rank, message):
        return self.handle(rank, Record.of(message, to=self.lives[rank]))

    def deliver(self, rank):
        """Deliver what waits for a server; return what it sends to others than its neighbour."""
        waiting, self.lines[rank] = self.lines[rank], []
        return [answer for record in waiting for answer in self.handle(rank, record)]

    def deliver_all(self):
        answers = []
        while any(self.lines.values()):
            answers += self.deliver(HEAD) + self.deliver(TAIL)
        return answers

    def request(self, op, worker, number, value=1.0, version=0):
        """Send the head a request for key 0."""
        record = Record(op, worker, number, 0, 1, number, version, 100 + worker, self.lives[HEAD])
        arrays = [np.array([0]), np.array([[value]]), np.ones(1)]
        return self.handle(HEAD, with_arrays(record, arrays[:1] if op == PULL else arrays))

    def weight(self):
        return float(self.memories[HEAD].parameters.weights[0, 0])

    def waiting(self, rank, kind):
        return [record for record in self.lines[rank] if type(record.message) is kind]


def messages(answers):
    return [ANSWER if record.op == ANSWER else type(record.message) for record in answers]


def test_a_push_is_acknowledged_and_a_value_is_read_when_the_tail_has_the_version():
    ring = Ring()
    assert ring.request(PUSH, 0, 1) == []
    assert ring.request(PULL, 1, 0) == []
    assert ring.weight() == 1.0
    answers = ring.deliver_all()
    assert [(record.op, record.timestamp, record.version) for record in answers] == [
        (ANSWER, 1, 1),
        (ANSWER, 0, 1),
    ]
    pull = answers[1]
    box = Mailbox(ring.memories[HEAD].arrays, SHAPE, 1, HEAD)
    assert box.pack(pull).arrays[0].tolist() == [[1.0]]
    assert len(ring.request(PULL, 1, 0)) == 1  # at once


def test_what_a_worker_and_the_scheduler_are_told_of_a_version_waits_for_the_tail_too():
    ring = Ring()
    ring.request(PUSH, 0, 1)
    assert ring.tell(HEAD, Enter(1, 201, 0)) == [] and ring.tell(HEAD, Settle(1)) == []
    assert messages(ring.deliver_all()) == [ANSWER, Welcome, Settled]


def test_a_successor_has_what_its_tail_had_and_no_former_life_adds_to_it():
    ring = Ring()
    ring.request(PUSH, 0, 1)
    ring.deliver_all()
    ring.request(PUSH, 0, 2)
    late = ring.lines.pop(TAIL)  # the Ship of the second push
    ring.lines[TAIL] = []
    ring.replace(HEAD)
    ring.deliver_all()
    assert ring.weight() == 1.0  # the second was not acknowledged
    ring.lines[TAIL] += late
    ring.deliver_all()
    replica = ring.memories[TAIL].parameters.replica
    assert replica.weights[0, 0] == 1.0 and replica.versions[HEAD] == 1


def test_a_life_that_its_tail_has_not_heard_of_introduces_itself_with_its_question():
    ring = Ring()
    ring.begin(HEAD)
    ring.introduce(HEAD)
    assert len(ring.waiting(TAIL, AskImage)) == 1
    ring.deliver_all()
    ring.introduce(TAIL)  # later
    ring.deliver_all()
    assert ring.memories[HEAD].parameters.versions[HEAD] == 0
    assert ring.request(PULL, 1, 0) == []  # no run has begun here


def test_a_new_tail_gets_an_image_and_until_then_nothing_leaves():
    ring = Ring()
    ring.request(PUSH, 0, 1)
    ring.deliver_all()
    ring.replace(TAIL)
    assert ring.request(PULL, 1, 0) == [] and ring.request(PUSH, 0, 2) == []
    assert len(ring.waiting(HEAD, Image)) == 0
    answers = ring.deliver_all()
    assert messages(answers) == [ANSWER, ANSWER]
    assert ring.memories[TAIL].parameters.replica.weights[0, 0] == 2.0
    assert ring.memories[TAIL].parameters.replica.done[HEAD].tolist() == [2, 0]


def test_a_successor_whose_tail_has_nothing_says_that_the_partition_is_lost():
    ring = Ring()
    ring.begin(TAIL)
    ring.begin(HEAD)
    for rank in (HEAD, TAIL):
        ring.introduce(rank)
    answers = ring.deliver_all()
    assert messages(answers) == [Lost, Lost]


@pytest.mark.parametrize("dies", [None, HEAD, TAIL])
def test_a_push_that_is_made_again_starts_from_what_was_before_it(dies):
    ring = Ring(SYNC)
    for number in (1, 2):
        for worker in (0, 1):
            ring.request(PUSH, worker, number)
        ring.deliver_all()
    for rank in () if dies is None else (dies,):
        ring.replace(rank)
        ring.tell(rank, Start(2))
        for worker in (0, 1):
            ring.tell(rank, Enter(worker, 100 + worker, 0))
        ring.deliver_all()
    if dies == TAIL:
        ring.replace(HEAD)
        ring.tell(HEAD, Start(2))
        for worker in (0, 1):
            ring.tell(HEAD, Enter(worker, 100 + worker, 0))
        ring.deliver_all()
    box = Mailbox(ring.memories[HEAD].arrays, SHAPE, 0, HEAD)
    for number, version, value in ((1, 1, 2.0), (2, 2, 4.0)):
        [answer] = ring.request(PULL, 0, number)
        assert (answer.version, box.pack(answer).arrays[0].item()) == (version, value)
    assert ring.weight() == 4.0


def test_a_new_life_resumes_where_all_servers_are():
    memory = Memory(SHAPE)
    boxes = [Mailbox(memory.arrays, SHAPE, 0, server) for server in range(2)]
    requests = Requests(0, 7, SHAPE, boxes, LostLog(memory.arrays, 0))
    for server, pushes in enumerate((3, 2)):
        requests.welcome(server, 1, Welcome(pushes, version=0))
    assert requests.recover() == [] and requests.pushes == 2


# The whole, in a random order.


def test_every_push_is_applied_exactly_once_in_every_schedule():
    failures = {-seed: what for seed in range(100) if (what := failure(PrivateSchedule(seed)))}
    assert not failures, "python -m bench faults --seed N tells what happened"


def without_the_fence(monkeypatch):
    """The tail takes what a former life of the head ships after its successor has the image."""
    monkeypatch.setattr(Chain, "knows", lambda self, record: record.sender in self._lives)


def without_the_image(monkeypatch):
    """A new tail gets no image, and goes on from nothing."""

    def begin(self, image, arrays):
        self._of_head._replica.versions[self.head] = image.version
        return self._send(self.head, Shipped(image.version, wants_rest=0))

    monkeypatch.setitem(Chain._handlers, Image, begin)


def resuming_at_the_most(monkeypatch):
    """A new life does not make the push again that some server lacks."""
    monkeypatch.setattr(LostLog, "resume", lambda self, done: (max(done), []))


def without_the_values_before(monkeypatch):
    """A push is made again from values that it has changed already."""
    monkeypatch.setattr(PrivateRedoLog, "stepped_back", lambda self: contextlib.nullcontext())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "mutant", [without_the_fence, without_the_image, resuming_at_the_most, without_the_values_before]
)
def test_without_any_part_of_the_protocol_something_goes_wrong(mutant, monkeypatch, capsys):
    mutant(monkeypatch)
    assert any(failure(PrivateSchedule(seed)) for seed in range(400))
