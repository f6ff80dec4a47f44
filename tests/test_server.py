"""The server's state machine alone: no process, no pipe, no clock."""

import numpy as np

from shmps import ASYNC, BOUNDED, SYNC, Add
from shmps.memory import carve
from shmps.messages import (
    ANSWER,
    BARRIER,
    LEAVE,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    START,
    WELCOME,
    WORKER,
    Record,
)
from shmps.server import Server
from shmps.store import DENSE, Mailbox, Parameters, Shape

WORKERS, KEYS = 3, 8


def in_plain_memory(fields):
    return carve(fields, bytearray(carve(fields)[1]))[0]


class Bench:
    """A server of one partition with the mailboxes of three workers, in this process."""

    def __init__(self, consistency, updater=None):
        self.updater = updater or Add()
        shape = Shape(KEYS, 1, self.updater.state_width, 1, WORKERS, KEYS)
        self.parameters = Parameters(shape, in_plain_memory(shape.parameter_fields()))
        arrays = in_plain_memory(shape.mailbox_fields())
        self.mailboxes = [Mailbox(arrays, shape, worker, 0) for worker in range(WORKERS)]
        self.consistency = consistency
        self.restart()
        self.server.handle(Record(START, size=WORKERS, run=1))

    def restart(self):
        self.server = Server(0, self.parameters, self.mailboxes, self.consistency, self.updater)

    def send(self, op, worker, number, keys=(0,), value=1.0, version=0, run=1, slot=0):
        """Send a request; the ranks that get an answer."""
        box = self.mailboxes[worker]
        if slot != DENSE:
            box.keys[slot][: len(keys)] = keys
        if op != PULL:
            box.values[slot][: len(keys)] = value
        box.rows[slot] = 1.0
        answers = self.server.handle(Record(op, worker, number, slot, len(keys), number, version, run))
        assert all(record.op == ANSWER for _, record in answers)
        return [rank for (_, rank), _ in answers]

    def weight(self, key=0):
        return self.parameters.weights[key, 0]


def test_a_start_welcomes_every_worker():
    answers = Bench(ASYNC).server.handle(Record(START, size=2, number=5, run=2))
    assert [address for address, _ in answers] == [(WORKER, 0), (WORKER, 1)]
    assert all(record.op == WELCOME and record.number == 5 and record.run == 2 for _, record in answers)


def test_async_applies_and_answers_a_push_on_arrival():
    server = Bench(ASYNC)
    assert server.send(PUSH, 1, 1) == [1]
    assert server.weight() == 1.0


def test_sync_holds_pushes_until_every_worker_has_pushed():
    server = Bench(SYNC)
    assert server.send(PUSH, 0, 1) == []
    assert server.send(PUSH, 2, 1) == []
    assert server.weight() == 0.0
    assert server.send(PUSH, 1, 1) == [0, 1, 2]
    assert server.weight() == 3.0
    assert server.server.version == 1


def test_a_fast_workers_second_push_waits_for_the_second_tick():
    server = Bench(SYNC)
    server.send(PUSH, 0, 1)
    server.send(PUSH, 0, 2, slot=1)
    server.send(PUSH, 1, 1)
    assert server.send(PUSH, 2, 1) == [0, 1, 2]
    assert server.weight() == 3.0


def test_a_pull_is_parked_until_the_slowest_worker_ticks():
    server = Bench(BOUNDED(1))
    server.send(PUSH, 0, 1)
    assert server.send(PULL, 0, 1) == [0]
    server.send(PUSH, 0, 2)
    assert server.send(PULL, 0, 2) == []
    assert server.send(PUSH, 1, 1) == [1]
    assert server.send(PUSH, 2, 1) == [2, 0]


def test_a_pull_that_follows_a_push_is_answered_after_its_tick():
    server = Bench(SYNC)
    assert server.send(PUSH_PULL, 0, 1) == []
    assert server.send(PUSH, 1, 1) == []
    assert server.send(PUSH, 2, 1) == [0, 1, 2]
    assert server.mailboxes[0].values[0][0, 0] == 3.0


def test_who_has_left_holds_nobody_up():
    server = Bench(SYNC)
    server.send(PUSH, 0, 1)
    server.send(PUSH, 1, 1)
    answers = server.server.handle(Record(LEAVE, 2, run=1))
    assert [rank for (_, rank), _ in answers] == [0, 1]


def test_a_push_is_never_applied_twice_and_is_acknowledged_again():
    server = Bench(ASYNC)
    assert server.send(PUSH, 0, 1) == [0]
    assert server.send(PUSH, 0, 1) == [0]
    assert server.weight() == 1.0


def test_a_held_push_that_comes_again_is_held_once():
    server = Bench(SYNC)
    for worker in (0, 0, 1, 2):
        server.send(PUSH, worker, 1)
    assert server.weight() == 3.0


def test_a_push_after_a_gap_waits_to_be_announced_again():
    server = Bench(ASYNC)
    assert server.send(PUSH, 0, 2) == []
    assert server.weight() == 0.0
    assert server.send(PUSH, 0, 1) == [0]
    assert server.send(PUSH, 0, 2) == [0]
    assert server.weight() == 2.0


def test_a_record_of_an_earlier_run_is_dropped():
    server = Bench(ASYNC)
    server.server.handle(Record(START, size=WORKERS, run=2))
    assert server.send(PUSH, 0, 1, run=1) == []
    assert server.weight() == 0.0


def test_a_new_run_forgets_what_the_last_one_left_held():
    server = Bench(SYNC)
    server.send(PUSH, 0, 1, value=100.0)
    server.server.handle(Record(START, size=WORKERS, run=2))
    for worker in range(WORKERS):
        server.send(PUSH, worker, 1, run=2)
    assert server.weight() == 3.0


def test_a_push_without_a_key_ticks_all_the_same():
    server = Bench(SYNC)
    server.send(PUSH, 0, 1, keys=())
    server.send(PUSH, 1, 1, keys=())
    assert server.send(PUSH, 2, 1, keys=(3,)) == [0, 1, 2]
    assert server.weight(3) == 1.0


def test_the_delay_is_the_versions_between_a_pull_and_its_push():
    server = Bench(ASYNC)
    server.send(PUSH, 0, 1, version=0)
    server.send(PUSH, 1, 1, version=0)
    server.send(PUSH, 2, 1, version=0)
    server.send(PUSH, 0, 2, version=3)
    assert server.parameters.delays[0, :3].tolist() == [2, 1, 1]


def test_a_barrier_is_answered_after_what_came_before():
    [(address, record)] = Bench(ASYNC).server.handle(Record(BARRIER, size=1, number=4, run=1))
    assert address == (SCHEDULER, 0) and record.op == BARRIER


def test_all_keys_need_no_list():
    server = Bench(ASYNC)
    assert server.send(PUSH, 0, 1, keys=range(KEYS), slot=DENSE) == [0]
    assert server.parameters.weights[:, 0].tolist() == [1.0] * KEYS


def test_a_successor_finishes_an_update_that_was_committed():
    server = Bench(ASYNC)
    redo = server.parameters.redo_slot(0)
    values, _ = redo.prepare(np.array([2, 5]))
    values[:] = 7.0
    redo.commit(2, 1.0, {1: 1})
    assert server.weight(2) == 0.0
    server.restart()
    assert (server.weight(2), server.weight(5)) == (7.0, 7.0)
    assert server.parameters.done[0].tolist() == [0, 1, 0]
    assert server.server.version == 1


def test_a_successor_drops_an_update_that_was_not_committed():
    server = Bench(ASYNC)
    values, _ = server.parameters.redo_slot(0).prepare(np.array([2]))
    values[:] = 7.0
    server.restart()
    assert server.weight(2) == 0.0 and server.server.version == 0
