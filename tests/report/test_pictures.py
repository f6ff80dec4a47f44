"""The pictures as the command line is asked for them, and the live panel."""

import json
import re
import subprocess
import sys

import pytest
from processes import DEADLINE, ROOT, on_terminal

from shmps.linear.result import Delays, Evaluation
from shmps.models.metrics import Metrics
from shmps.ps.events import Event
from shmps.report import live

TRAIN = [sys.executable, "run.py", "--data", "synth:a9a", "--workers", "2", "--epochs", "2"]


def in_terminal(*arguments):
    """What `run.py` with these arguments shows in a terminal as wide as 100 characters."""
    return re.sub(r"\x1b\[[\d;?]*\w", "", on_terminal([*TRAIN, *arguments], columns=100))  # colours, moves


def test_train_writes_a_report_and_a_timeline(tmp_path):
    page, trace = tmp_path / "out.html", tmp_path / "out.json"
    done = subprocess.run(
        [*TRAIN, "--report", page, "--timeline", trace, "--live", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the live panel needs a terminal") == 1
    result = json.loads(done.stdout)
    assert "timeline" not in result and "timeline" not in result["settings"]
    assert f"{result['metrics']['accuracy']:.4f} on the test rows" in page.read_text()
    slices = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
    assert {"compute", "push"} <= {event["name"] for event in slices}


def test_where_a_picture_can_not_be_written_is_said_before_training(tmp_path):
    done = subprocess.run(
        [*TRAIN, "--report", tmp_path / "out.html", "--timeline", tmp_path / "missing" / "out.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 3 and done.stdout == ""
    assert f"got {tmp_path / 'missing'}" in done.stderr and "rows," not in done.stderr


def test_the_live_panel_shows_the_curves_while_it_runs():
    pytest.importorskip("rich")
    shown = in_terminal("--live", "--epochs", "20")
    assert re.search(r"ticks +[\d,]+ of [\d,]+", shown) and "╭─ synth:a9a: sync, workers: 2" in shown
    assert re.search(r"accuracy +0\.\d{4} +[▁▂▃▄▅▆▇█]+", shown)
    assert "samples/s" in shown and "versions" in shown


def test_without_rich_the_bar_takes_the_panels_place(monkeypatch):
    told = []
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert live.panel("title", told.append) is None
    assert len(told) == 1 and "pip install 'shmps[live]'" in told[0]


def test_the_panel_says_what_happened_above_itself(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    panel = live.panel("a [bold]title", print)
    with panel:
        for number in range(3):
            metrics = Metrics(0.8 + number / 100, 0.76, float("nan"), 0.9)
            panel.on_evaluation(
                Evaluation(number, 1.0, number, metrics, Delays(1, 2, 3, [1, 1, 1, 1]), 1234.0)
            )
        panel.on_event(Event("died", "worker", 1, 5, -9, "started again", 0.004))
        panel.on_progress(50, 100)
        shown = capsys.readouterr().err  # while it runs
    assert "worker 1 died (killed by SIGKILL) at tick 5: started again" in shown
    assert "a [bold]title" in shown and "50 of 100" in shown and "▁▅█" in shown and "1,234 samples/s" in shown


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([float("nan")], ""),
        ([1, 1], "▁▁"),
        ([0, 1, float("inf"), 0.5], "▁█ ▅"),
        (range(8), "▁▂▃▄▅▆▇█"),
    ],
)
def test_a_curve_goes_from_the_least_to_the_most(values, drawn):
    assert live.curve(values) == drawn
