"""A recorded training is repeated to the bit, whoever dies; under other settings it keeps the order."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from shmps import ASYNC, BOUNDED, HOGWILD, SYNC, AdaGrad, Cluster, Journal, LogisticRegression
from shmps.cli.main import main
from shmps.data.rows import rows_of
from shmps.errors import DataError, ReplayDiffers, UsageError, WorkerFailed
from shmps.journal import CONTAINER
from shmps.linear.minibatch_worker import train
from shmps.linear.plan import Iterate, Plan
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.schedule import Schedule
from shmps.ps.scheduler.run import CONTINUE, RESPAWN
from shmps.system.failpoints import Failpoint

KEYS = 12
PLAN = Plan(batch_size=16, epochs=6, iterations=None, test_interval=3, intercept=True, seed=0)


def some_rows():
    random = np.random.default_rng(1)
    X = scipy.sparse.random(200, KEYS - 1, density=0.3, format="csr", random_state=2)
    return X, np.where(random.random(200) < 0.4, 1.0, -1.0)


X, Y = some_rows()


def trained(consistency, workers, servers, kills=(), plan=PLAN, replicas=0, **params):
    """Return the journal of a training, its curve, and the number of deaths."""
    curve = {}

    def keep(rank, iterate):
        curve.setdefault(iterate.iteration, iterate)

    with Cluster(
        KEYS,
        servers=servers,
        workers=workers,
        consistency=consistency,
        updater=AdaGrad(0.3, l2=0.01),
        failpoints=[Failpoint(*kill) for kill in kills],
        dense_slots=3,
        replicas=replicas,
        **params,
    ) as cluster:
        cluster.run(train, rows_of(X, Y), (KEYS,), plan, on_report=keep, on_worker_death=RESPAWN)
        return cluster.journal(), [as_bits(iterate) for iterate in curve.values()], len(cluster.events)


def as_bits(iterate: Iterate):
    return iterate.iteration, iterate.ticks, iterate.weights.tobytes()


RUNS = {
    "one worker": (ASYNC, 1, 1, [], []),
    "six workers, three servers": (ASYNC, 6, 3, [], []),
    "bounded": (BOUNDED(2), 4, 2, [], []),
    "a server that had noted an update": (ASYNC, 3, 2, [(SERVER, 1, "server: update noted", 9)], []),
    "a server that had committed it": (BOUNDED(0), 3, 1, [(SERVER, 0, "server: committed", 9)], []),
    "a server that had noted an answer": (ASYNC, 2, 2, [(SERVER, 0, "server: answer noted", 9)], []),
    "a worker that had reported": (ASYNC, 3, 2, [(WORKER, 0, "worker: slots half filled", 12)], []),
    "deaths in both": (
        BOUNDED(1), 4, 2,
        [(WORKER, 1, "worker: announced", 7), (SERVER, 0, "server: half applied", 5)],
        [(WORKER, 0, "worker: answered", 9), (SERVER, 1, "server: answer noted", 7)],
    ),
    "deaths in the replay": (
        ASYNC, 5, 3, [],
        [(WORKER, 2, "worker: half announced", 6), (SERVER, 2, "server: update noted", 8)],
    ),
    "sync": (SYNC, 3, 2, [(SERVER, 1, "server: update noted", 4)], [(WORKER, 1, "worker: committed", 3)]),
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_a_replay_ends_with_the_bits_of_the_run_and_has_the_same_curve(run, tmp_path):
    mode, workers, servers, first, second = RUNS[run]
    journal, curve, deaths = trained(mode, workers, servers, first, record=True)
    journal.save(tmp_path / "j")
    known = Journal.open(tmp_path / "j")
    assert deaths == len(first) and len(curve) >= 6
    again, repeated, deaths = trained(known.consistency, workers, servers, second)
    assert deaths == len(second)
    assert (again.digest, repeated) == (journal.digest, curve)
    assert again.pushes.tolist() == journal.pushes.tolist() == known.pushes.tolist()
    assert again.pulls.tolist() == known.pulls.tolist()


@pytest.mark.parametrize("replicas", [0, 1])
def test_whole_shards_and_replicas_are_repeated_too(replicas):
    plan = Plan(batch_size=0, epochs=12, iterations=None, test_interval=4, intercept=True, seed=0)
    journal, curve, _ = trained(ASYNC, 3, 2, plan=plan, replicas=replicas, record=True)
    kill = [(WORKER, 1, "worker: committed", 4)]
    again, repeated, deaths = trained(journal.consistency, 3, 2, kill, plan=plan, replicas=1 - replicas)
    assert (again.digest, repeated, deaths) == (journal.digest, curve, 1)


# The estimator.

PARAMS = {"mode": "async", "workers": 3, "servers": 2, "batch_size": 20, "epochs": 3, "learning_rate": 0.3}


def recorded(path, **params):
    return LogisticRegression(record=path, **PARAMS | {"updater": "sgd"} | params).fit(X, Y)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.journal"


def test_a_replay_takes_its_settings_from_the_journal(path):
    first = recorded(path, class_weight={1.0: 2, -1.0: 1}, l2=0.01, test_interval=4)
    again = LogisticRegression(replay=path).fit(X, Y)
    assert again.coef_.tobytes() == first.coef_.tobytes()
    assert again.result_.settings == first.result_.settings and again.result_.delays == first.result_.delays
    assert str(again.result_.replayed) == f"the same bits as {path}" in again.result_.table()
    assert json.dumps(again.result_.to_dict()["replayed"]["same"]) == "true"
    assert first.result_.replayed is None


def test_the_same_order_under_another_rate_updater_and_penalty(path, recwarn):
    first = recorded(path)
    again = LogisticRegression(replay=path, learning_rate=0.25, record=path.with_suffix(".2")).fit(X, Y)
    assert again.result_.replayed.differing == {"learning_rate": (0.3, 0.25)}
    assert "other bits than" in again.result_.table() and again.result_.delays == first.result_.delays
    one, two = Journal.open(path), Journal.open(path.with_suffix(".2"))
    assert one.pushes.tolist() == two.pushes.tolist() and one.digest != two.digest
    other = LogisticRegression(replay=path, updater="adagrad", C=3).fit(X, Y)
    assert set(other.result_.replayed.differing) == {"updater", "l2"}
    assert not any(isinstance(each.message, ReplayDiffers) for each in recwarn)


def test_early_stopping_ends_a_replay_where_it_ended_the_run(path):
    first = recorded(path, epochs=300, early_stopping=True, n_iter_no_change=1, tol=0.05)
    again = LogisticRegression(replay=path).fit(X, Y)
    assert Journal.open(path).stops and first.n_iter_ < 100
    assert [each.metrics for each in again.history_] == [each.metrics for each in first.history_]
    assert again.coef_.tobytes() == first.coef_.tobytes() and again.result_.replayed.same


def test_a_training_that_is_broken_off_leaves_a_journal(path):
    class Stop:
        def on_evaluation(self, evaluation):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        recorded(path, callbacks=[Stop()])
    assert not Journal.open(path).complete and len(Journal.open(path).pushes)


def in_a_killed_program(record, callback):
    """Fork; train in the child, which `callback` is to kill."""
    child = os.fork()
    if not child:
        try:
            recorded(record, callbacks=[callback], test_interval=1)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_program_that_is_killed_leaves_what_was_recorded_until_then(path, capsys):
    class Kill:
        def on_evaluation(self, evaluation):
            if evaluation.iteration == 3:
                os.kill(os.getpid(), signal.SIGKILL)

    in_a_killed_program(path, Kill())
    folder = f"{path}.unfinished"
    journal = Journal.open(folder)
    assert not path.exists() and not journal.complete and journal.settings["learning_rate"] == 0.3
    assert {(0, 0), (0, 1), (0, 2)} <= set(journal.pulls[["worker", "number"]].tolist())
    assert main(["inspect", folder]) == 0 and "it was killed" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"got only .*run\.journal\.unfinished, .*name that folder"):
        LogisticRegression(replay=path).fit(X, Y)
    with pytest.raises(UsageError, match=r"training that came to its end, got one that was broken off"):
        LogisticRegression(replay=folder).fit(X, Y)
    for damaged in (b"", b"\xff" * 40):
        (Path(folder) / "events-1").write_bytes(damaged)
        with pytest.raises(DataError, match=r"events-1: .*bytes of events"):
            Journal.open(folder)
    recorded(path)  # it replaces the folder
    assert Journal.open(path).complete and not os.path.exists(folder)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"workers": 2}, r"workers of the recorded run, 3, got 2; leave it out"),
        ({"batch_size": 30}, r"batch_size of the recorded run, 20, got 30"),
        ({"mode": "bounded", "bound": 2}, r"mode of the recorded run, async, got bounded"),
        ({"random_state": 5}, r"random_state of the recorded run, 0, got 5"),
        ({"join_at": 1}, r"workers that stay from the start to the end, got join_at=1"),
        ({"on_worker_death": "continue"}, r"got on_worker_death='continue'"),
        ({"resume": "folder"}, r"got resume='folder'"),
    ],
)
def test_what_would_change_the_order_is_refused_by_name(params, told, path):
    recorded(path)
    with pytest.raises(UsageError, match=told):
        LogisticRegression(replay=path, **params).fit(X, Y)


def test_other_rows_are_refused_and_other_starts_told(path):
    recorded(path)
    with pytest.raises(DataError, match="rows of the journal, got rows 200 there and 199 here"):
        LogisticRegression(replay=path).fit(X[:-1], Y[:-1])
    with pytest.raises(DataError, match="got one content there and another here"):
        LogisticRegression(replay=path).fit(X * 2, Y)
    again = LogisticRegression(replay=path).fit(X, Y, coef_init=np.ones(KEYS - 1))
    assert list(again.result_.replayed.differing) == ["start"]


def test_hogwild_and_parts_of_rows_cannot_be_recorded(path):
    with pytest.raises(UsageError, match=r"updates that follow one another, .*got mode='hogwild'"):
        LogisticRegression(record=path, mode="hogwild").fit(X, Y)
    with pytest.raises(UsageError, match="which update in place, in no order"):
        Cluster(KEYS, consistency=HOGWILD, record=True)
    with pytest.raises(UsageError, match="no journal, got record="):
        LogisticRegression(record=path).partial_fit(X, Y, classes=[-1, 1])


# The file.


def test_every_damage_of_a_journal_is_an_error(path):
    recorded(path, epochs=1, workers=1, servers=1)
    data = path.read_bytes()
    for place in range(0, len(data), 13):
        for damaged in data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]:
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"run\.journal: .*got"):
                Journal.open(path)
    path.write_bytes(data.replace(b'{"format": 1', b'{"format": 2', 1))
    with pytest.raises(DataError, match="up to format 1, got the newer format 2; upgrade shmps"):
        Journal.open(path)
    assert CONTAINER.format == 1


def test_a_journal_with_two_updates_exchanged_ends_with_another_digest_that_is_told(path):
    recorded(path, servers=1)
    journal = Journal.open(path)
    for place in range(5, len(journal.pushes) - 1):
        pushes = journal.pushes.copy()
        for name in "worker", "number":
            pushes[name][[place, place + 1]] = pushes[name][[place + 1, place]]
        changed = Schedule(pushes, journal.pulls, {})
        if not changed.fault(1, 3, awaited=True):
            break
    replace(journal, schedule=changed).save(path)
    with pytest.warns(ReplayDiffers, match="replay must end with the digest of the journal, got another one"):
        again = LogisticRegression(replay=path).fit(X, Y)
    assert not again.result_.replayed.same and not again.result_.replayed.differing


def test_an_order_that_no_run_could_have_is_refused(path):
    recorded(path, servers=1)
    journal = Journal.open(path)
    journal.pulls["version"][-1] = 0
    journal.save(path)
    with pytest.raises(DataError, match=r"a pull of worker . at server 0 must come after the worker's push"):
        LogisticRegression(replay=path).fit(X, Y)


# Functions of users.


def add_pulled(kv, pushes):
    for _ in range(pushes):
        values = kv.pull([0, 1])
        kv.start_push([0, 1], values + 1)


def test_a_function_that_makes_other_requests_is_told_so(path):
    with Cluster(2, workers=2, servers=1, consistency=ASYNC, record=True) as cluster:
        cluster.run(add_pulled, 3)
        journal = cluster.journal()
        with pytest.raises(UsageError, match="must run one function, got a second"):
            cluster.run(add_pulled, 3)
    with pytest.raises(UsageError, match="name the journal of a training"):
        journal.save(path)
        LogisticRegression(replay=path).fit(X, Y)
    for pushes, told in (
        (2, r"the end of worker \d after 2 of 3"),
        (4, r"push 4 of worker \d, of which it has 3"),
    ):
        with Cluster(2, workers=2, servers=1, consistency=journal.consistency) as cluster:
            with pytest.raises(WorkerFailed) as failed:
                cluster.run(add_pulled, pushes)
            with pytest.raises(UsageError, match=told):
                raise failed.value.__cause__
    with pytest.raises(UsageError, match="the nodes and keys of the journal"):
        Cluster(2, workers=3, servers=1, consistency=journal.consistency)


@pytest.mark.parametrize("engine", ["processes", "inline"])
def test_a_run_that_goes_on_can_be_read(path, engine):
    seen = []

    def work(kv):
        kv.push([0], [1.0])
        kv.report(None)

    def on_report(rank, _):
        seen.append(Journal.open(f"{path}.unfinished"))

    with Cluster(2, workers=2, servers=1, consistency=ASYNC, record=path, engine=engine) as cluster:
        cluster.run(work, on_report=on_report)
        assert len(cluster.journal().pushes) == len(seen[-1].pushes) == 2
    assert os.listdir(path.parent) == []
    with pytest.raises(UsageError, match="came to its end, got one that was broken off"):
        _ = seen[-1].consistency


def test_a_recorded_worker_reads_by_pulls_and_keeps_their_slots():
    def look(kv):
        with pytest.raises(UsageError, match="a look belongs to no version"):
            kv.look()
        assert kv.read().tolist() == [0.0, 0.0]
        for _ in range(4):
            kv.pull([0])
        with pytest.raises(UsageError, match="slots of a recorded Cluster must be above the pulls"):
            kv.pull([0])

    with Cluster(2, workers=1, servers=1, consistency=ASYNC, record=True) as cluster:
        for refused in {"on_worker_death": CONTINUE}, {"join_at": 1}:
            with pytest.raises(UsageError, match="the workers of a recorded run must stay"):
                cluster.run(look, **refused)
        cluster.run(look)
        assert len(cluster.journal().pulls) == 5
    with Cluster(2, workers=1, servers=1) as cluster, pytest.raises(UsageError, match="record=True"):
        cluster.journal()


def test_a_journal_is_shown(path, capsys):
    recorded(path)
    journal = Journal.open(path)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"{len(journal.pushes)} pushes, {len(journal.pulls)} pulls" in shown and "200 rows" in shown
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes_per_event"] < 80 and found["delays"]["max"] == journal.pushes["delay"].max()
    pandas = pytest.importorskip("pandas")
    events = journal.to_pandas()
    assert isinstance(events, pandas.DataFrame) and len(events) == len(journal.pushes) + len(journal.pulls)
    assert journal.delays.sum() == len(journal.pushes)
