"""A worker's requests alone: what its lives announce."""

import numpy as np
import pytest

from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import DENSE, Mailbox, PushLog
from shmps.ps.messages import ANSWER, PULL, PUSH, Record, Welcome
from shmps.ps.worker.requests import Requests
from shmps.system.failpoints import arm, simulated
from shmps.system.memory import carve

KEY = np.array([0])
ONE = np.ones((1, 1))


def begin_life(life, shape, arrays, recorded=False):
    """A new life of the worker, which the one server has welcomed; and what it announces at first."""
    requests = Requests(0, life, shape, [Mailbox(arrays, shape, 0, 0)], PushLog(arrays, 0), recorded)
    requests.welcome(0, 1, Welcome(pushes=0, version=0))
    return requests, [(record.number, record.slot) for _, record in requests.recover()]


class Killed(Exception):
    pass


def die(place):
    raise Killed


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("dense", [False, True])
def test_what_was_noted_but_not_committed_is_never_announced_by_a_later_life(dense, slots):
    shape = Shape(1, 1, 0, 1, 1, 1, slots=slots)
    fields = shape.mailbox_fields()
    memory = shape, carve(fields, bytearray(carve(fields)[1]))[0]
    keys = None if dense else KEY
    first, _ = begin_life(1, *memory)
    if slots > 1:
        first.start(PULL, KEY, None, [0, 1])
    with simulated(die), pytest.raises(Killed):
        arm("worker: before commit")
        first.start(PUSH, keys, ONE, [0, 1])
    second, announced = begin_life(2, *memory)
    assert announced == []
    slot = second.start(PUSH, keys, ONE, [0, 1]).slot  # the same push, committed; and then it is killed
    third, announced = begin_life(3, *memory)
    assert announced == [(1, slot)] and (slot == DENSE) == dense
    assert third.has_slot(dense) == (slots > 1 and not dense)


def test_a_life_that_pulls_other_keys_than_the_former_one_takes_another_slot():
    """In the same slot, the server would take the pull for the one that it has answered."""
    shape = Shape(2, 1, 0, 1, 1, 1, slots=2)
    fields = shape.mailbox_fields()
    memory = shape, carve(fields, bytearray(carve(fields)[1]))[0], True
    first, _ = begin_life(1, *memory)
    first.start(PULL, KEY, None, [0, 1])
    second, [(_, slot)] = begin_life(2, *memory)
    second.answer(Record(ANSWER, timestamp=second.timestamp, life=1))
    other = second.start(PULL, KEY + 1, None, [0, 1]).slot
    assert other != slot
    third, announced = begin_life(3, *memory)
    assert announced == [(0, other)] and third.start(PULL, KEY + 1, None, [0, 1]).slot == other
