"""inspect, predict, convert, data and bench: what they show, and where it comes from."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, stdin

from shmps import LogisticRegression
from shmps.cli.commands import bench
from shmps.data import named_sets
from shmps.linear.settings import Settings
from shmps.models import formats
from shmps.models.model import Model

MODEL = Model(np.array([2.0, -1.0, 0.0, 0.5]), 0.25, (-1.0, 1.0), {"mode": "async", "bound": None})
ROWS = "1 1:1\n1 2:1\n1 4:1\n-1 1:1 2:3\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    formats.save(MODEL, "model")
    (tmp_path / "rows.svm").write_text(ROWS)
    return tmp_path


# predict


def test_rows_from_stdin_are_as_those_from_a_file(shmps):
    expected = shmps("predict", "model", "rows.svm")
    for data in (ROWS.encode(), gzip.compress(ROWS.encode())):
        Path("packed").write_bytes(data)
        with stdin("packed"):
            assert shmps("predict", "model", "-").stdout == expected.stdout == "1\n-1\n1\n-1\n"


def test_how_good_the_predictions_are_goes_to_stderr_where_the_labels_are_the_models(shmps, here):
    done = shmps("predict", "model", "rows.svm")
    assert done.stderr == "accuracy 0.7500 (majority 0.7500), log-loss 0.5027, AUC 0.8333\n"
    assert shmps("predict", "model", "rows.svm", "--quiet").stderr == ""
    (here / "rows.svm").write_text(ROWS.replace("-1 ", "7 "))
    done = shmps("predict", "model", "rows.svm")
    assert (done.returncode, done.stdout) == (0, "1\n-1\n1\n-1\n")
    assert "no metrics" in done.stderr and done.stderr.count("\n") == 1


def test_predictions_go_into_a_file_whole_or_not_at_all(shmps, here):
    shown = shmps("predict", "model", "rows.svm", "--proba")
    done = shmps("predict", "model", "rows.svm", "--proba", "--output", "chances")
    assert done.stdout == "" and (here / "chances").read_text() == shown.stdout
    refused = shmps("predict", "model", "rows.svm", "--output", "no/where")
    assert refused.returncode == 3 and "must exist and be writable" in refused.stderr
    assert shmps("predict", "model", "rows.svm", "--output", "/dev/full").returncode == 3


@pytest.mark.parametrize("name", formats.FORMATS)
def link(source, target):
    os.link(source, target)


def symlink(source, target):
    os.symlink(source, target)


@pytest.mark.parametrize("name", ["same", "./same", link, symlink], ids=str)
@pytest.mark.parametrize(
    "line",
    [
        ["train", "--data", "rows.svm", "--model"],
        ["train", "--data", "rows.svm", "--report"],
        ["train", "--data", "rows.svm", "--timeline"],
        ["train", "--data", "model", "--test", "rows.svm", "--model"],
        ["train", "--config", "rows.svm", "--model"],
        ["predict", "model", "rows.svm", "--output"],
        ["predict", "rows.svm", "model", "--output"],
    ],
    ids=lambda line: " ".join(line),
)
def test_no_output_takes_the_place_of_an_input(shmps, here, name, line):
    (here / "rows.svm").write_text("")  # an empty configuration is one
    target = name.replace("same", "rows.svm") if isinstance(name, str) else "other"
    if not isinstance(name, str):
        name(here / "rows.svm", here / "other")
    done = shmps(*line, target)
    assert done.returncode == 3 and "which this command reads or writes too" in done.stderr, done.stderr
    assert (here / "rows.svm").read_text() == ""


def test_no_output_takes_the_place_of_a_part_of_mapped_data_of_stdin_or_of_another(shmps, here, monkeypatch):
    words = "which this command reads or writes too"
    shmps("convert", "rows.svm", "d")
    before = (here / "d" / "data.npy").read_bytes()
    assert words in shmps("train", "--data", "d", "--model", "d/data.npy").stderr
    assert words in shmps("predict", "model", "d", "--output", "d/data.npy").stderr
    assert (here / "d" / "data.npy").read_bytes() == before
    assert words in shmps("train", "--data", "rows.svm", "--model", "x", "--report", "./x").stderr
    monkeypatch.setenv("SHMPS_DATA_DIR", str(here))
    assert words in shmps("train", "--model", "a9a.t").stderr
    with open("rows.svm") as rows:
        told = subprocess.run(
            [sys.executable, "-m", "shmps", "predict", "model", "-", "--output", "rows.svm"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=rows,
            capture_output=True,
            text=True,
        )
    assert told.returncode == 3 and words in told.stderr


@pytest.mark.parametrize("name", formats.FORMATS)
def test_models_of_every_format_predict_the_same(shmps, name):
    formats.save(MODEL, "other", name)
    assert shmps("predict", "other", "rows.svm").stdout == "1\n-1\n1\n-1\n"


def test_labels_that_a_format_can_not_hold_are_refused_before_training(shmps, here):
    (here / "halves").write_text("0.5 1:1\n1.5 2:1\n" * 9)
    flags = ["--data", "halves", "--epochs", 10**9, "--quiet"]
    done = shmps("train", *flags, "--model", "m.liblinear")
    assert done.returncode == 3 and "whole numbers of 32 bits, got 0.5" in done.stderr
    assert not (here / "m.liblinear").exists()


def test_softmax_is_refused_for_liblinear_before_training_and_the_remedy_works(shmps, here):
    (here / "three").write_text("3 1:0.5 4:0.1\n-1 2:1\n7 3:1 4:0.1\n" * 20)
    flags = ["--data", "three", "--quiet", "--model", "m.liblinear"]
    done = shmps("train", *flags, "--solver", "lbfgs", "--iterations", 10**9)
    assert done.returncode == 3 and "train with --multi-class ovr, or save in another" in done.stderr
    assert not (here / "m.liblinear").exists()
    assert shmps("train", *flags, "--multi-class", "ovr").returncode == 0
    assert shmps("predict", "m.liblinear", "three").stdout == "3\n-1\n7\n" * 20


def test_more_than_two_labels_are_trained_shown_and_predicted(shmps, here):
    (here / "three").write_text("3 1:0.5 4:0.1\n-1 2:1\n7 3:1 4:0.1\n" * 20)
    assert shmps("train", "--data", "three", "--solver", "lbfgs", "--model", "m", "--quiet").returncode == 0
    shown = shmps("inspect", "m").stdout
    assert "the one of -1, 3, 7 whose margin is the largest" in shown
    assert {("1", "3"), ("2", "-1"), ("3", "7")} <= {tuple(line.split()[::2]) for line in shown.splitlines()}
    done = shmps("predict", "m", "three")
    assert done.stdout == "3\n-1\n7\n" * 20 and "accuracy 1.0000 (majority 0.3333)" in done.stderr
    shares = np.array(
        [line.split() for line in shmps("predict", "m", "three", "--proba").stdout.splitlines()]
    )
    assert shares.shape == (60, 3) and shares[:3].astype(float).argmax(axis=1).tolist() == [1, 0, 2]
    np.testing.assert_allclose(shares.astype(float).sum(axis=1), 1)


@pytest.mark.parametrize("kind", ["multinomial", "ovr", None])
def test_probabilities_of_more_than_two_labels_are_of_the_models_kind(shmps, here, kind):
    settings = {} if kind is None else {"multi_class": kind}  # None: of an older version
    weights = np.array([[2.0, -1.0, 0.0, 0.5], [0.0, 1.0, -1.0, 0.0], [-2.0, 0.5, 1.0, 0.0]])
    model = Model(weights, [0.5, 0.0, -0.5], (-1, 1, 2), settings)
    formats.save(model, "three")
    done = shmps("predict", "three", "rows.svm", "--proba")
    shares = np.array([line.split() for line in done.stdout.splitlines()]).astype(float)
    rows = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 3, 0, 0]])
    margins = rows @ weights.T + model.intercept
    expected = np.exp(margins) if kind == "multinomial" else 1 / (1 + np.exp(-margins))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, expected, rtol=1e-12)
    loss = -np.log(expected[range(4), [1, 1, 1, 0]]).mean()
    assert f"log-loss {loss:.4f}" in done.stderr
    told = "softmax of the margins" if kind == "multinomial" else "of each class against the rest"
    assert f"proba      {told}" in shmps("inspect", "three").stdout
    assert json.loads(shmps("inspect", "three", "--json").stdout)["proba"].startswith(told)
    assert json.loads(shmps("inspect", "model", "--json").stdout)["proba"] is None


# inspect


def test_a_model_is_shown_with_its_largest_weights_and_a_histogram(shmps):
    shown = shmps("inspect", "model", "--top", 2).stdout
    assert "features   4, 3 weights other than 0" in shown and "mode async" in shown
    lines = shown.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:1] == ["feature"])
    assert [line.split() for line in lines[first + 1 : first + 4]] == [["1", "+2"], ["2", "-1"], []]
    assert shown.count("#" * 40) == 3  # three bins have one weight, the others none


def test_a_model_is_one_json_object(shmps):
    found = json.loads(shmps("inspect", "model", "--json").stdout)
    assert found["largest"] == [
        {"feature": 1, "label": 1.0, "weight": 2.0},
        {"feature": 2, "label": 1.0, "weight": -1.0},
        {"feature": 4, "label": 1.0, "weight": 0.5},
    ]
    assert found["intercept"] == 0.25 and found["labels"] == [-1.0, 1.0]
    assert sum(found["histogram"]["counts"]) == 3 and found["settings"] == MODEL.settings


@pytest.mark.parametrize("weights", [[], [0.0], [1.0]])
def test_models_of_hardly_any_weights_are_shown_too(shmps, weights):
    formats.save(Model(np.array(weights), 0.0, ("no", "ja ü"), {}), "small")
    done = shmps("inspect", "small")
    assert done.returncode == 0 and "'ja ü' where the margin is above 0" in done.stdout
    assert "not kept" in done.stdout


def test_data_is_shown_alike_as_text_and_as_mapped_data(shmps, here):
    assert (
        shmps("convert", "rows.svm", "rows.shmps").stdout == "rows.shmps: 4 rows, 4 features, 5 non-zeros\n"
    )
    shown = [shmps("inspect", name).stdout.splitlines() for name in ("rows.svm", "rows.shmps")]
    assert shown[0][1:] == shown[1][1:]
    assert shown[0] == [
        "data       rows.svm (text)",
        "rows       4",
        "features   4",
        "non-zeros  5, 1.2 a row",
        "density    0.312",
        "labels     -1 in 1 rows, 1 in 3 rows",
    ]
    objects = [json.loads(shmps("inspect", name, "--json").stdout) for name in ("rows.svm", "rows.shmps")]
    assert objects[0] | {"data": "", "kind": ""} == objects[1] | {"data": "", "kind": ""}
    assert objects[0]["labels"] == {"-1": 1, "1": 3}


def test_verify_finds_a_changed_byte(shmps, here):
    shmps("convert", "rows.svm", "rows.shmps")
    assert "every byte as it was written" in shmps("inspect", "rows.shmps", "--verify").stdout
    array = here / "rows.shmps" / "data.npy"
    changed = bytearray(array.read_bytes())
    changed[-1] ^= 1
    array.chmod(0o644)
    array.write_bytes(changed)
    assert shmps("inspect", "rows.shmps").returncode == 0
    refused = shmps("inspect", "rows.shmps", "--verify")
    assert refused.returncode == 3 and "data.npy" in refused.stderr


# convert


def test_mapped_data_trains_and_predicts_as_the_text_does(shmps, here):
    text = "".join(f"{i % 2} {1 + i % 3}:1 {4 + i % 5}:0.5\n" for i in range(60))
    (here / "text").write_text(text)
    shmps("convert", "text", "data.shmps")
    for name in ("text", "data.shmps"):
        flags = ["--data", name, "--workers", 2, "--memory", "1G", "--model", f"{name}.model", "--quiet"]
        assert shmps("train", *flags).returncode == 0
    assert formats.load("text.model").coefficients.tobytes() == (
        formats.load("data.shmps.model").coefficients.tobytes()
    )
    predicted = [shmps("predict", "text.model", name).stdout for name in ("text", "data.shmps")]
    assert predicted[0] == predicted[1] != ""


def test_names_of_features_are_hashed(shmps, here):
    pytest.importorskip("sklearn")
    (here / "named").write_text("1 job=nurse age:3\n0 job=cook\n")
    assert shmps("convert", "named", "named.shmps", "--hash-bits", 10).returncode == 0
    shown = shmps("inspect", "named.shmps").stdout
    assert "features   1,024" in shown and "hashed into 10 bits" in shown
    assert (
        "--hash-bits must be an integer from 1 to"
        in shmps("convert", "named", "other", "--hash-bits", 0).stderr
    )


@pytest.mark.parametrize(
    ("size", "found"),
    [("600M", 600 << 20), ("1.5G", 3 << 29), ("2GiB", 2 << 30), ("64kb", 64 << 10), ("12345", 12345)],
)
def test_a_size_is_read_in_binary_units(size, found):
    assert Settings.of(LogisticRegression(memory=size)).plan().memory == found


@pytest.mark.parametrize("size", ["M", "-1M", "1X", "1e9", "nan", "٣M", "9" * 400])
def test_another_size_is_a_usage_error(shmps, size):
    done = shmps("train", f"--memory={size}")
    assert done.returncode == 2 and "600M" in done.stderr


# data


def known(monkeypatch, here):
    """One known set, of two files, which `file:` has."""
    (here / "web").mkdir()
    (here / "web" / "a9a").write_text(ROWS)
    source = replace(
        named_sets.SOURCES["a9a"],
        url=(here / "web" / "a9a").as_uri(),
        sha256=hashlib.sha256(ROWS.encode()).hexdigest(),
        size=len(ROWS),
    )
    monkeypatch.setattr(named_sets, "SOURCES", {"a9a": source, "a9a.t": source})


def test_known_sets_are_listed_and_fetched(shmps, here, monkeypatch):
    known(monkeypatch, here)
    before = shmps("data", "--data-dir", "sets").stdout
    assert "sets/a9a.t  not there" in before and "CC BY 4.0" in before and "synth:a9a" in before
    fetched = shmps("data", "fetch", "a9a", "--data-dir", "sets")
    assert fetched.stdout.splitlines() == ["sets/a9a", "sets/a9a.t"]
    assert (here / "sets" / "a9a").read_text() == ROWS
    after = json.loads(shmps("data", "--json", "--data-dir", "sets").stdout)
    assert [part["there"] for part in after[0]["files"]] == [True, True]
    (here / "sets" / "a9a").write_text("1 1:2\n")
    wrong = shmps("data", "fetch", "a9a", "--data-dir", "sets")
    assert wrong.returncode == 3 and "sha256 must be" in wrong.stderr


def test_a_set_that_is_not_known_can_not_be_fetched(shmps):
    done = shmps("data", "fetch", "b9b")
    assert done.returncode == 2 and "a9a" in done.stderr


# bench


def test_bench_takes_the_place_of_this_process_and_passes_all_on(shmps, monkeypatch):
    class Gone(Exception):
        pass

    def taken(program, line, environment):
        assert line == [sys.executable, "-m", "bench", "kill", "--quick"]
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
        raise Gone

    monkeypatch.setattr(os, "execve", taken)
    with pytest.raises(Gone):
        shmps("bench", "kill", "--quick")


def test_bench_of_an_installed_package_says_where_it_runs(shmps, monkeypatch, here):
    monkeypatch.setattr(bench, "ROOT", here)
    done = shmps("bench", "kill")
    assert done.returncode == 2 and "checkout" in done.stderr and "python -m bench" in done.stderr
