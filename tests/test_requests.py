"""A worker's requests alone: what its lives announce."""

import pytest

from shmps.mailbox import DENSE, Log
from shmps.memory import carve
from shmps.messages import PULL, PUSH, WELCOME, Record
from shmps.requests import Requests
from shmps.store import Shape


def begin_life(life, log):
    """A new life of the worker, which the one server has welcomed; and what it announces at first."""
    requests = Requests(0, life, log, servers=1)
    requests.welcome(Record(WELCOME, life=1, to=life))
    return requests, [(record.number, record.slot) for _, record in requests.recover()]


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("dense", [False, True])
def test_what_was_noted_but_not_committed_is_never_announced_by_a_later_life(dense, slots):
    fields = Shape(4, 1, 0, 1, 1, 4, slots=slots).mailbox_fields()
    log = Log(carve(fields, bytearray(carve(fields)[1]))[0], 0)
    first, _ = begin_life(1, log)
    if slots > 1:
        first.start(PULL, first.take_slot(dense=False), 1.0, [1], None, None)
    log.note(first.take_slot(dense), 1, 1.0, [1], [0])  # and then it is killed
    second, announced = begin_life(2, log)
    assert announced == []
    slot = second.take_slot(dense)
    second.start(PUSH, slot, 1.0, [1], None, None)  # the same push, committed; and then it is killed
    third, announced = begin_life(3, log)
    assert announced == [(1, slot)] and (slot == DENSE) == dense
    assert third.has_slot(dense) == (slots > 1 and not dense)
