"""Clusters in a random order, with crashes: all is as promised, but not without any part of the protocol."""

import pytest
from mutants import (
    without_announcing_again,
    without_done,
    without_lives,
    without_the_epoch_at_which_they_joined,
    without_the_redo_slot,
    without_the_tick_at_which_they_joined,
    without_waiting_for_all,
    without_waiting_for_the_servers_pipes,
    without_who_joined,
)

from bench import __main__ as bench
from bench.faults.schedule import SYNC, Schedule, failure
from shmps.ps.memory.mailbox import PushLog

SCHEDULES, MOST = 500, 500


def test_every_push_is_applied_exactly_once_in_every_schedule():
    failures = {seed: what for seed in range(SCHEDULES) if (what := failure(Schedule(seed)))}
    assert not failures, "python -m bench faults --seed N tells what happened"


def test_a_seed_replays_exactly():
    for seed in range(10):
        first, second = [], []
        assert not failure(Schedule(seed, first.append)) and not failure(Schedule(seed, second.append))
        assert first == second and len(first) > 20


def test_a_seed_is_replayed_from_the_command_line(capsys):
    assert bench.main(["faults", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "a run:" in told and told.endswith("all as promised\n")
    with pytest.raises(SystemExit) as exit_:
        bench.main(["table", "--seed", "3"])
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    "mutant", [without_done, without_the_redo_slot, without_lives, without_announcing_again]
)
def test_without_any_part_of_the_protocol_something_goes_wrong(mutant, monkeypatch):
    mutant(monkeypatch)
    assert any(failure(Schedule(seed)) for seed in range(MOST))


def with_a_newcomer(seed):
    """A schedule that makes much of it."""
    schedule = Schedule(seed)
    schedule.consistency, schedule.lag, schedule.crashes_left = SYNC, 0.7, 4
    return schedule


@pytest.mark.parametrize(
    "mutant",
    [
        without_who_joined,
        without_the_tick_at_which_they_joined,
        without_waiting_for_all,
        without_waiting_for_the_servers_pipes,
        without_the_epoch_at_which_they_joined,
    ],
)
def test_servers_and_barriers_have_to_know_who_joined_and_when_before_anything_else(mutant, monkeypatch):
    mutant(monkeypatch)
    newcomers = (seed for seed in range(4 * MOST) if Schedule(seed).join_at is not None)
    assert any(failure(with_a_newcomer(seed)) for seed in newcomers)


def with_many_deaths(seed):
    schedule = Schedule(seed)
    schedule.crashes_left, schedule.haste = 8, 0.15
    return schedule


def test_what_a_life_did_not_commit_has_to_be_forgotten(monkeypatch):
    monkeypatch.setattr(PushLog, "forget_uncommitted", lambda self: None)
    assert any(failure(with_many_deaths(seed)) for seed in range(4 * MOST))
