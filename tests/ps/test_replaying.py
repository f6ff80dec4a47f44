"""Recorded and repeated runs as state machines alone, under crashes both times; what a schedule must be."""

import numpy as np
import pytest

from bench.faults.recorded import repeated
from shmps.engines.inline.channels import Events
from shmps.ps.consistency import Position
from shmps.ps.messages import PULL, PUSH, Record
from shmps.ps.schedule import EVENT, PULLS, PUSHES, Schedule, ServerSchedule
from shmps.ps.server.recorder import StreamRecorder
from shmps.ps.server.server import Server

SCHEDULES, MOST = 100, 200


def test_every_recorded_schedule_is_repeated_to_the_bit_whoever_dies():
    failures = {seed: what for seed in range(SCHEDULES) if (what := repeated(seed))}
    assert not failures


def without_the_notes_of_answers(monkeypatch):
    """A successor answers again what was answered: at a later version."""
    monkeypatch.setattr(StreamRecorder, "version_of", lambda self, pull: None)


def without_dropping_the_note_of_an_update_that_was_not_committed(monkeypatch):
    monkeypatch.setattr(Events, "cut", lambda self, size: None)
    recover = StreamRecorder.__init__
    monkeypatch.setattr(StreamRecorder, "__init__", lambda self, stream, _: recover(self, stream, 10**6))


def without_waiting_for_pulls(monkeypatch):
    """A server goes on to the next version as soon as the push is there."""
    monkeypatch.setattr(ServerSchedule, "due", lambda self, version: self.pulls[:0])


def without_going_on_after_a_pull(monkeypatch):
    monkeypatch.setitem(Server._from_worker, PULL, Server._pull)


@pytest.mark.parametrize(
    "mutant",
    [
        without_the_notes_of_answers,
        without_dropping_the_note_of_an_update_that_was_not_committed,
        without_waiting_for_pulls,
        without_going_on_after_a_pull,
    ],
)
def test_without_any_part_of_the_recording_something_goes_wrong(mutant, monkeypatch):
    mutant(monkeypatch)
    assert any(repeated(seed) for seed in range(MOST))


def test_an_event_takes_16_bytes_and_a_successor_finds_all_of_them():
    stream = Events()
    first = StreamRecorder(stream, committed=0)
    pull = Record(PULL, sender=2, number=0, slot=-1, version=1)
    push = Record(PUSH, sender=2, number=1, slot=3)
    first.note_answer(pull, 0)
    first.note_update(1, [push], [0])
    first.note_update(2, [push._replace(number=2)], [70_000])
    assert len(stream.read()) == 3 * EVENT.itemsize == 48
    second = StreamRecorder(stream, committed=1)  # the server died before it committed version 2
    assert len(stream.read()) == 32
    assert second.version_of(pull) == 0 and second.version_of(pull._replace(slot=0)) is None
    assert second.version_of(pull._replace(version=0)) is None
    assert second.has_answered(Position(2, 0, 1), 0) and not second.has_answered(Position(2, 0, 1), 1)
    second.note_answer(pull._replace(number=1, version=0), 1)
    assert StreamRecorder(stream, committed=1).has_answered(Position(2, 1, 0), 1)
    schedule = Schedule.of([stream.read()], [1], {})
    assert schedule.pushes.tolist() == [(0, 1, 2, 1, 0)]
    assert schedule.pulls.tolist() == [(0, 0, 2, 0, 1), (0, 1, 2, 1, 0)]


def schedule_of(pushes, pulls):
    return Schedule(np.array(pushes, PUSHES), np.array(pulls, PULLS), {})


@pytest.mark.parametrize(
    ("pushes", "pulls", "fault"),
    [
        ([(0, 1, 0, 1, 0), (0, 2, 1, 1, 1)], [(0, 0, 0, 0, 0)], ""),
        ([(1, 1, 0, 1, 0)], [], "pushes must name a server below 1, got 1"),
        ([(0, 1, 2, 1, 0)], [], "pushes must name a worker below 2, got 2"),
        ([(0, 2, 0, 1, 0)], [], "versions of server 0 must be 1, 2, ..., got a gap"),
        ([(0, 1, 0, 2, 0), (0, 2, 0, 1, 0)], [], "must have the pushes 1, 2, ... of worker 0"),
        ([(0, 1, 0, 1, 1)], [], "delays at server 0 must be less than the version"),
        ([(0, 1, 0, 1, 0)], [(0, 0, 0, 1, 0)], "a pull of worker 0 at server 0 must come after"),
        # Worker 0 pulls at a version that is there only after its next push.
        ([(0, 1, 0, 1, 0)], [(0, 1, 0, 0, 0)], "no run could have this order"),
    ],
)
def test_a_schedule_that_no_run_could_have_has_a_fault(pushes, pulls, fault):
    found = schedule_of(pushes, pulls).fault(servers=1, workers=2, awaited=True)
    assert found.startswith(fault) if not fault else fault in found, found
