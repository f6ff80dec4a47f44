"""The server's state machine alone: no process, no pipe, no clock."""

import dataclasses

import numpy as np
import pytest

from shmps import ASYNC, BOUNDED, SYNC, Add, Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import DENSE, Mailbox
from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import (
    ANSWER,
    PULL,
    PUSH,
    PUSH_PULL,
    SCHEDULER,
    WORKER,
    Enter,
    Leave,
    Record,
    Settle,
    Settled,
    Start,
    Welcome,
)
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.server import Server
from shmps.system.memory import carve

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
        self.life = self.first_life = 0
        self.restart()
        self.start()

    def restart(self):
        """A successor, in a life of its own."""
        self.life += 1
        redo = RedoLog(self.parameters, 0)
        self.server = Server(
            0, self.life, self.parameters, redo, self.mailboxes, self.consistency, self.updater
        )

    def start(self, tick=0):
        """A run with new lives of all workers; what is sent because of it."""
        self.first_life += 100
        self.tell(Start(WORKERS))
        return [
            answer
            for worker in range(WORKERS)
            for answer in self.tell(Enter(worker, self.first_life + worker, tick))
        ]

    def tell(self, message):
        """Handle a message of the scheduler; return the records to send."""
        return self.server.handle(Record.of(message, to=self.life))

    def send(self, op, worker, number, keys=(0,), value=1.0, version=0, life=None, slot=0):
        """Send a request; the ranks that get an answer."""
        box = self.mailboxes[worker]
        if slot != DENSE:
            box.keys[slot][: len(keys)] = keys
        if op != PULL:
            box.values[slot][: len(keys)] = value
        box.rows[slot] = 1.0
        life = self.first_life + worker if life is None else life
        answers = self.server.handle(
            Record(op, worker, number, slot, len(keys), number, version, life, self.life)
        )
        assert all(record.op == ANSWER for _, record in answers)
        return [rank for (_, rank), _ in answers]

    def weight(self, key=0):
        return self.parameters.weights[key, 0]


def test_a_start_welcomes_every_worker():
    server = Bench(ASYNC)
    answers = server.start(tick=5)
    assert [address for address, _ in answers] == [(WORKER, worker) for worker in range(WORKERS)]
    for worker, (_, record) in enumerate(answers):
        assert record.message == Welcome(pushes=5, version=0)
        assert (record.life, record.to) == (server.life, server.first_life + worker)


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


@pytest.mark.parametrize(("pushes", "answered"), [(2, True), (3, False)])
def test_a_pull_is_answered_up_to_the_bound(pushes, answered):
    for consistency, expected in (BOUNDED(2), [0] * answered), (ASYNC, [0]):
        server = Bench(consistency)
        for number in range(pushes):
            server.send(PUSH, 0, number + 1)
        assert server.send(PULL, 0, pushes) == expected


def test_a_server_looks_only_at_the_parked_pulls_that_it_frees():
    @dataclasses.dataclass(frozen=True)
    class Counting(Consistency):
        asked: list = dataclasses.field(default_factory=list, compare=False)

        def needed(self, pull, server):
            self.asked.append(pull)
            return super().needed(pull, server)

    consistency, pulls = Counting(0), 100
    server = Bench(consistency)
    for number in range(1, pulls + 1):
        server.send(PUSH, 0, number)
        assert server.send(PULL, 0, number) == []
    for number in range(1, pulls + 1):
        assert server.send(PUSH, 1, number) == [1]
        assert server.send(PUSH, 2, number) == [2, 0]
    assert len(consistency.asked) == 2 * pulls  # once to park it, once to answer it


def test_a_parked_pull_is_answered_when_the_slowest_worker_leaves():
    server = Bench(BOUNDED(0))
    server.send(PUSH, 0, 1)
    server.send(PUSH, 1, 1)
    assert server.send(PULL, 0, 1) == []
    assert [rank for (_, rank), _ in server.tell(Leave(2))] == [0]


def test_a_parked_pull_waits_for_a_worker_that_comes_in_later_at_an_earlier_clock():
    server = Bench(BOUNDED(1))
    server.tell(Leave(2))
    for number in (1, 2):
        server.send(PUSH, 0, number)
    assert server.send(PULL, 0, 2) == []
    server.tell(Enter(2, 999, tick=0))
    assert server.send(PUSH, 1, 1) == [1]
    assert server.send(PUSH, 2, 1, life=999) == [2, 0]


def test_a_pull_of_sync_mode_waits_for_the_tick_of_its_own_push():
    server = Bench(SYNC)
    server.send(PUSH, 0, 1)
    assert server.send(PULL, 0, 1, slot=1) == []
    server.send(PUSH, 1, 1)
    assert server.send(PUSH, 2, 1) == [0, 1, 2, 0]
    assert server.mailboxes[0].values[1][0, 0] == 3.0


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
    answers = server.tell(Leave(2))
    assert [rank for (_, rank), _ in answers] == [0, 1]


def test_a_push_held_of_one_who_has_left_is_in_no_tick():
    server = Bench(SYNC)
    server.send(PUSH, 2, 1, value=100.0)
    server.tell(Leave(2))
    assert server.send(PUSH, 0, 1) == []
    assert server.send(PUSH, 1, 1) == [0, 1]
    assert server.weight() == 2.0


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


def test_a_record_of_a_former_life_is_dropped():
    server = Bench(ASYNC)
    former = server.first_life
    server.start()
    assert server.send(PUSH, 0, 1, life=former) == []
    predecessor, successor = server.life, server.life + 1
    server.restart()
    server.start()
    server.life = predecessor
    assert server.send(PUSH, 0, 1) == []
    assert server.weight() == 0.0
    server.life = successor
    assert server.send(PUSH, 0, 1) == [0]


def test_a_new_run_forgets_what_the_last_one_left_held():
    server = Bench(SYNC)
    server.send(PUSH, 0, 1, value=100.0)
    server.start()
    for worker in range(WORKERS):
        server.send(PUSH, worker, 1)
    assert server.weight() == 3.0


def test_a_successor_stands_where_its_predecessor_stood_and_asks_for_what_was_held():
    server = Bench(SYNC)
    for worker in range(WORKERS):
        server.send(PUSH, worker, 1)
    server.send(PUSH, 0, 2)  # held when the server dies
    server.restart()
    welcomes = server.start()
    assert [record.message.pushes for _, record in welcomes] == [1, 1, 1]
    for worker in (0, 1, 2):
        server.send(PUSH, worker, 2)
    assert server.weight() == 6.0


def test_a_worker_that_is_back_has_nothing_held_or_parked():
    server = Bench(BOUNDED(0))
    server.send(PUSH, 0, 1)
    assert server.send(PULL, 0, 1) == []  # parked: it is ahead
    [(address, record)] = server.tell(Enter(0, 999, tick=0))
    assert address == (WORKER, 0) and (record.message.pushes, record.to) == (1, 999)
    server.send(PUSH, 1, 1)
    assert server.send(PUSH, 2, 1) == [2]  # the pull of the dead is not answered
    held = Bench(SYNC)
    held.send(PUSH, 0, 1, value=100.0)
    held.tell(Enter(0, 999, tick=0))
    held.send(PUSH, 0, 1, life=999)
    held.send(PUSH, 1, 1)
    held.send(PUSH, 2, 1)
    assert held.weight() == 3.0


def test_nothing_is_done_before_all_workers_of_the_run_have_come_in():
    server = Bench(SYNC)
    server.tell(Start(2))
    server.tell(Enter(0, 901, tick=0))
    assert server.send(PUSH, 0, 1, life=901) == []
    server.tell(Enter(1, 902, tick=0))
    assert server.weight() == 0.0
    assert server.send(PUSH, 1, 1, life=902) == [0, 1]


def test_a_worker_that_comes_in_at_a_later_tick_holds_nobody_up_before_it():
    server = Bench(SYNC)
    server.tell(Leave(2))
    server.tell(Enter(2, 999, tick=2))
    for tick in (1, 2):
        server.send(PUSH, 0, tick)
        assert server.send(PUSH, 1, tick) == [0, 1]
    server.send(PUSH, 0, 3)
    assert server.send(PUSH, 1, 3) == []  # from the third tick on it counts
    assert server.send(PUSH, 2, 3, life=999) == [0, 1, 2]
    assert server.weight() == 7.0


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


def test_it_says_when_it_has_handled_what_came_before():
    server = Bench(ASYNC)
    [(address, record)] = server.tell(Settle(7))
    assert address == (SCHEDULER, 0) and (record.message, record.life) == (Settled(7), server.life)


def test_all_keys_need_no_list():
    server = Bench(ASYNC)
    assert server.send(PUSH, 0, 1, keys=range(KEYS), slot=DENSE) == [0]
    assert server.parameters.weights[:, 0].tolist() == [1.0] * KEYS


def test_a_successor_finishes_an_update_that_was_committed():
    server = Bench(ASYNC)
    redo = RedoLog(server.parameters, 0)
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
    values, _ = RedoLog(server.parameters, 0).prepare(np.array([2]))
    values[:] = 7.0
    server.restart()
    assert server.weight(2) == 0.0 and server.server.version == 0
