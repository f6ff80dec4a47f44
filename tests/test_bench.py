"""The figures computed from curves and spreads; pages and figures come from the results files."""

import json
import re
import sys

import pytest

from bench import __main__ as bench
from bench import record, report
from bench.record import RESULTS, ratio
from bench.speed import load
from bench.story import curves
from shmps.data import svmlight


def curve(accuracy, log_loss=()):
    return {"accuracy": list(accuracy), "log_loss": list(log_loss)}


def test_a_fall_counts_from_the_best_since_the_mark_was_passed():
    assert curves.fall(curve([0.9, 0.2, 0.5]), above=0.95) == 0
    assert curves.fall(curve([0.5, 0.2, 0.84, 0.86, 0.70, 0.85]), above=0.83) == pytest.approx(0.16)
    assert curves.fall(curve([0.1, 0.2, 0.3]), above=0.15) == 0


def test_a_loss_that_only_goes_down_does_not_rise():
    assert curves.rise(curve([], [9, 1, 0.5, 0.4, 0.3, 0.2])) == 0
    assert curves.rise(curve([], [0.1, 0.2, 0.3, 0.4, 0.2, 0.5])) == pytest.approx(0.3)


def test_a_ratio_is_that_of_each_repeat():
    assert ratio([1, 8, 3], [2, 2, 3])["values"] == [0.5, 4, 1]


def test_every_benchmark_is_listed():
    lines = bench.listing().splitlines()
    assert [line.split()[0] for line in lines] == [*bench.BENCHMARKS, bench.REPORT]
    assert all(len(line.split()) > 3 for line in lines)


def test_an_unknown_benchmark_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        bench.main(["speed"])
    assert exit_.value.code == 2 and "NAME must be one of table, trace" in capsys.readouterr().err


def test_a_run_of_some_parts_keeps_the_others_and_says_of_which_run_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "_commit", lambda: {"hash": f"run {runs}", "dirty": False})
    for runs, results in enumerate(({"a": 1, "b": 1, "c": 1}, {"b": 2}, {"c": 3})):
        path = record.save("some", {f"setting {runs}": runs}, results, quick=False, partly=runs > 0)
    content = json.loads(path.read_text())
    assert content["results"] == {"a": 1, "b": 2, "c": 3} and len(content["settings"]) == 3
    assert content["commit"]["hash"] == "run 2"
    assert {name: run["commit"]["hash"] for name, run in content["kept"].items()} == {
        "a": "run 0",
        "b": "run 1",
    }


def test_only_known_parts_can_be_run_and_only_into_a_results_file(capsys, tmp_path, monkeypatch):
    assert bench.main(["simulate", "--parts", "study,nets"]) == 2
    assert "--parts must be some of study, networks" in capsys.readouterr().err
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    assert bench.main(["simulate", "--parts", "study"]) == 2
    assert "--parts needs a results file" in capsys.readouterr().err


def test_loading_says_by_name_which_peer_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr(load, "ROWS", 80)
    monkeypatch.setattr(load, "CHUNK", 10)
    settings, results = load.run(quick=True)
    assert results["skipped"] == ["scikit-learn"] and not load.failed(results)
    assert "Skipped: scikit-learn is not installed" in load.table(settings, results)
    assert [file["rows"] for file in results["files"]][1] == 10


def test_loading_fails_where_a_result_is_another_than_scikit_learns(monkeypatch):
    def other(path):
        X, y, *_ = svmlight.read(path)
        return X, y + 1

    monkeypatch.setattr(load, "_sklearn", lambda: (other, "0"))
    monkeypatch.setattr(load, "ROWS", 80)
    monkeypatch.setattr(load, "CHUNK", 10)
    settings, results = load.run(quick=True)
    assert load.failed(results) and "NO" in load.table(settings, results)


def test_the_pages_say_what_the_results_files_say():
    for path, text in report.pages(bench.BENCHMARKS).items():
        assert path.read_text() == text, f"{path} is not what `python -m bench report` makes"


def test_the_images_and_links_of_the_findings_exist():
    for page in report.TEMPLATES:
        targets = re.findall(r"\]\((?!http|#)([^)#]*)", page.read_text())
        assert targets and all((page.parent / target).is_file() for target in targets), page


@pytest.mark.parametrize(
    "name", [name for name, module in bench.BENCHMARKS.items() if hasattr(module, "figure")]
)
def test_every_figure_is_drawn_from_its_results_file(name, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / f"{name}.json").write_text((RESULTS / f"{name}.json").read_text())
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    drawn = report.draw(bench.BENCHMARKS[name], name)
    assert [path.suffix for path in drawn] == [".svg", ".png"]
    assert "</svg>" in drawn[0].read_text() and drawn[1].read_bytes().startswith(b"\x89PNG")


def test_the_published_rules_reproduce_what_was_published():
    """In the committed results, which the README shows."""
    rows = {
        (row["rules"], row["mode"]): row
        for row in report.load("table")["results"]["rows"]
        if row["tick_time_ms"]
    }
    sync, asynchronous = rows["dist-lr", "sync"], rows["dist-lr", "async"]
    assert abs(sync["accuracy"]["180"]["median"] - 0.827) <= 0.002
    assert sync["fall"]["max"] <= 0.005
    assert asynchronous["fall"]["min"] > 0.05
    assert asynchronous["delay_p50"]["min"] >= 2
    assert any(row["cures"] for row in report.load("cure")["results"]["rows"][2:])


def test_nothing_was_lost_or_left_in_the_committed_results():
    kill, leftovers, faults = (report.load(name)["results"] for name in ("kill", "leftovers", "faults"))
    assert kill["kills"] >= 5000 and report.load("kill")["settings"]["minutes"] >= 10
    assert sum(row["runs"] for row in leftovers["ends"] if row["method"] == "fork") >= 1000
    assert faults["schedules"] >= 100_000 and any("copied" in place for place in faults["crashes"]["server"])
    for name, results in (("kill", kill), ("leftovers", leftovers), ("faults", faults)):
        assert not bench.BENCHMARKS[name].failed(results)
