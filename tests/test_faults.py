"""The nodes under a simulated transport: all is as promised, and not so without any part of the protocol."""

import pytest

from bench import __main__ as bench
from bench.schedule import SYNC, Schedule, failure
from shmps.messages import ENTER, PUSH, PUSH_PULL, START, Record
from shmps.redo import Redo
from shmps.requests import Requests
from shmps.scheduler import Scheduler
from shmps.server import Server
from shmps.store import Log
from shmps.worker import KVWorker

SCHEDULES, MOST = 2_000, 500


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


# What the protocol consists of, left out one at a time.


def without_done(monkeypatch):
    """A push that is announced again is applied again."""
    push = Server._push

    def push_again(self, record):
        done = self._parameters.done[self.rank]
        done[record.sender] = min(done[record.sender], record.number - 1)
        push(self, record)

    for op in (PUSH, PUSH_PULL):
        monkeypatch.setitem(Server._from_worker, op, push_again)


def without_the_redo_slot(monkeypatch):
    """What a server that died had half applied stays so."""
    monkeypatch.setattr(Redo, "recover", lambda self: True)


def without_lives(monkeypatch):
    """Everybody takes what was sent by or to a former life."""
    handle, answer, take_in = Server.handle, Requests.answer, KVWorker._take_in

    def handle_any(self, record):
        life = self._lives.get(record.sender) if record.op in self._from_worker else record.life
        return handle(self, record._replace(to=self.life, life=life or record.life))

    def answer_any(self, record):
        return answer(self, record._replace(life=self._lives[record.sender]))

    def take_in_any(self, records):
        take_in(self, [record._replace(to=self._life) for record in records])

    monkeypatch.setattr(Server, "handle", handle_any)
    monkeypatch.setattr(Requests, "answer", answer_any)
    monkeypatch.setattr(KVWorker, "_take_in", take_in_any)


def without_announcing_again(monkeypatch):
    welcome = Requests.welcome
    monkeypatch.setattr(Requests, "welcome", lambda self, record: welcome(self, record)[:0])


@pytest.mark.parametrize(
    "mutant", [without_done, without_the_redo_slot, without_lives, without_announcing_again]
)
def test_without_any_part_of_the_protocol_something_goes_wrong(mutant, monkeypatch):
    mutant(monkeypatch)
    assert any(failure(Schedule(seed)) for seed in range(MOST))


# What a server's successor is told of those who had joined.


def without_who_joined(monkeypatch):
    tell = Scheduler._tell_of_worker

    def tell_a_successor(self, run, server):
        known = [worker for worker in run.entered if worker < run.workers]
        self._send_server(server, Record(START, size=len(known)))
        for worker in known:
            tell(self, run, server, worker)

    monkeypatch.setattr(Scheduler, "_tell_of_run", tell_a_successor)


def without_the_tick_at_which_they_joined(monkeypatch):
    send = Scheduler._send_server

    def forgetful(self, server, record):
        send(self, server, record._replace(number=0) if record.op == ENTER else record)

    monkeypatch.setattr(Scheduler, "_send_server", forgetful)


def without_waiting_for_all(monkeypatch):
    start = Server._start

    def hasty(self, record):
        start(self, record._replace(size=0))

    monkeypatch.setitem(Server._from_scheduler, START, hasty)


def with_a_newcomer(seed):
    """A schedule that makes much of it."""
    schedule = Schedule(seed)
    schedule.consistency, schedule.lag, schedule.crashes_left = SYNC, 0.7, 4
    return schedule


@pytest.mark.parametrize(
    "mutant", [without_who_joined, without_the_tick_at_which_they_joined, without_waiting_for_all]
)
def test_a_successor_has_to_know_who_joined_and_when_before_anything_else(mutant, monkeypatch):
    mutant(monkeypatch)
    newcomers = (seed for seed in range(4 * MOST) if Schedule(seed).join_at is not None)
    assert any(failure(with_a_newcomer(seed)) for seed in newcomers)


def with_many_deaths(seed):
    schedule = Schedule(seed)
    schedule.crashes_left, schedule.haste = 8, 0.15
    return schedule


def test_what_a_life_did_not_commit_has_to_be_forgotten(monkeypatch):
    monkeypatch.setattr(Log, "forget_uncommitted", lambda self: None)
    assert any(failure(with_many_deaths(seed)) for seed in range(4 * MOST))
