"""The command line as a person uses it: what it prints, what it ends with, and what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import DEADLINE, ROOT, alive, children_of, on_terminal

from shmps.cli import main as cli
from shmps.data import datasets
from shmps.models import formats
from shmps.models.model import Model

SMALL = ["--data", "synth:a9a", "--workers", "2", "--epochs", "2"]
has_a9a = (datasets.data_folder() / "a9a").exists()


def command(*arguments, program=("run.py",), **options):
    environment = os.environ | options.pop("environment", {})
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        **options,
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A proxy that refuses: no test reaches the network."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A training file, and a model learned from it."""
    folder = tmp_path_factory.mktemp("cli")
    lines = [f"{1 if i % 3 else 0} {1 + i % 3}:1 {4 + i % 5}:0.5" for i in range(60)]
    (folder / "train.svm").write_text("\n".join(lines))
    done = command(
        "--data", folder / "train.svm", "--workers", 2, "--epochs", 40, "--model", folder / "model"
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_table_says_everything():
    done = command(*SMALL, "--async")
    assert done.returncode == 0
    rows = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert rows == [
        "data",
        "mode",
        "workers, servers",
        "updater",
        "penalty",
        "ticks",
        "wall seconds",
        "accuracy",
        "log-loss",
        "AUC",
        "samples/s",
        "non-zeros/s",
        "delay p50, p99, max",
        "workers' time",
        "note",
    ]
    assert re.search(r"load .*, compile .*, start .*, train ", done.stdout)
    assert re.search(r"accuracy +0\.8\d+ on the test rows \(majority 0\.7\d+\)", done.stdout)
    assert re.search(r"computing \d+%, waiting \d+%, sleeping \d+%, talking \d+%", done.stdout)
    assert "\r" not in done.stderr  # no bar: stderr is no terminal


def test_json_is_one_object_and_nothing_else(shmps):
    done = shmps("train", *SMALL, "--bound", 3, "--json")
    result = json.loads(done.stdout)
    assert result["settings"]["mode"] == "bounded 3"
    assert 0.8 < result["metrics"]["accuracy"] < 0.9 and result["metrics"]["baseline"] > 0.7
    assert set(result["seconds"]) == {"load", "compile", "start", "train"}
    assert set(result["shares"]) == {"computing", "waiting", "sleeping", "talking"}
    assert sum(result["delays"]["histogram"]) == result["ticks"]


def test_quiet_prints_nothing(shmps):
    done = shmps("train", *SMALL, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_log_lines_are_those_of_dist_lr_and_leave_stdout_to_json(shmps):
    done = shmps("train", *SMALL, "--log", "--json", "--test-interval", 20)
    lines = [line for line in done.stderr.splitlines() if "Iteration" in line]
    told = [re.fullmatch(r"\d\d:\d\d:\d\d Iteration (\d+), accuracy: (0\.\d+)", line) for line in lines]
    history = json.loads(done.stdout)["history"]
    assert [line.groups() for line in told] == [
        (str(at["iteration"]), f"{at['metrics']['accuracy']:g}") for at in history
    ]
    assert [at["iteration"] for at in history] == list(range(20, 129, 20))


def test_a_log_of_lbfgs_has_a_line_per_round(shmps):
    done = shmps("train", "--data", "synth:a9a", "--iterations", 4, "--log", "--json")
    told = [line.split()[2] for line in done.stderr.splitlines() if "Iteration" in line]
    assert told == ["1,", "2,", "3,", "4,"]
    assert [at["iteration"] for at in json.loads(done.stdout)["history"]] == [1, 2, 3, 4]
    none = shmps("train", "--data", "synth:a9a", "--iterations", 4, "--log", "--test-interval", 0)
    assert none.returncode == 0 and "Iteration" not in none.stderr


def shown_on_a_terminal(*flags):
    """What a training writes to stderr."""
    return on_terminal([sys.executable, "run.py", *SMALL, *flags], columns=160)


def test_a_terminal_gets_a_bar():
    shown = shown_on_a_terminal("--epochs", "30")
    assert "accuracy 0." in shown and "delay " in shown and "samples/s" in shown and "%|" in shown


def test_the_bar_of_lbfgs_counts_rounds_and_promises_no_total():
    shown = on_terminal([sys.executable, "run.py", *SMALL[:4]], columns=160)
    assert "0 rounds [" in shown and "%|" not in shown


def test_without_a9a_and_network_the_generated_set_is_used_and_this_is_said(tmp_path):
    done = command("--workers", 2, "--epochs", 1, environment={"SHMPS_DATA_DIR": str(tmp_path)})
    assert done.returncode == 0
    first_line = done.stderr.splitlines()[0]
    assert "generated" in first_line and "a9a" in first_line
    assert re.search(r"data +synth:a9a", done.stdout) and first_line in done.stdout


def test_naming_a9a_never_falls_back(tmp_path):
    done = command("--data", "a9a", environment={"SHMPS_DATA_DIR": str(tmp_path)})
    assert done.returncode == 3 and done.stdout == ""
    assert str(tmp_path) in done.stderr and "https://" in done.stderr


@pytest.mark.skipif(not has_a9a, reason="a9a is not in $SHMPS_DATA_DIR or data/")
@pytest.mark.parametrize("mode", [["--sync"], ["--async"], ["--bound", "4"], ["--hogwild"]], ids=" ".join)
def test_default_settings_reach_the_accuracy_of_a9a(shmps, mode):
    done = shmps("train", "--workers", 4, "--data", "a9a", "--json", *mode)
    assert json.loads(done.stdout)["metrics"]["accuracy"] >= 0.845


def test_the_generated_set_is_learned_to_within_a_hundredth_of_the_best_there_is(shmps):
    result = json.loads(shmps("train", "--data", "synth:a9a", "--json").stdout)
    best = float(re.search(r"more than (0\.\d+) accuracy", result["note"])[1])
    assert result["data"] == "synth:a9a" and result["measured_on"] == "test"
    assert abs(result["metrics"]["accuracy"] - best) <= 0.01


@pytest.fixture
def opposites(tmp_path):
    """A model with the weights 2 and -1 and an intercept of 0.25, and four rows."""
    formats.save(Model(np.array([2.0, -1.0]), 0.25, (-1.0, 1.0)), tmp_path / "model")
    (tmp_path / "rows.svm").write_text("1 1:1\n1 2:1\n1\n1 1:1 2:3\n")
    return tmp_path / "model", tmp_path / "rows.svm"


def test_probabilities_are_those_of_the_larger_label(shmps, opposites):
    done = shmps("predict", *opposites, "--proba")
    margins = np.array([2.25, -0.75, 0.25, -0.75])
    printed = [float(chance) for chance in done.stdout.split()]
    np.testing.assert_allclose(printed, 1 / (1 + np.exp(-margins)), rtol=1e-15)


def test_a_model_predicts_labels_and_probabilities(shmps, files):
    labels = shmps("predict", files / "model", files / "train.svm")
    assert labels.returncode == 0 and set(labels.stdout.split()) == {"0", "1"}
    chances = shmps("predict", files / "model", files / "train.svm", "--proba")
    assert [float(chance) > 0.5 for chance in chances.stdout.split()] == [
        label == "1" for label in labels.stdout.split()
    ]


def test_predict_says_how_much_of_the_data_the_model_does_not_know(shmps, files):
    (files / "wide.svm").write_text("1 1:1 99:1\n")
    done = shmps("predict", files / "model", files / "wide.svm")
    assert done.returncode == 0 and "dropped 1 non-zeros" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--workers", 0], 2, "--workers must be an integer >= 1, got 0"),
        (["--workers", "two"], 2, "invalid int value"),
        (
            ["--servers", 500, "--epochs", 1],
            2,
            "--servers must be at most the number of keys, 124, since each owns one, got 500",
        ),
        (["--learning-rate", -1], 2, "--learning-rate must be a finite number > 0"),
        (["--learning-rate", "nan"], 2, "--learning-rate must be a finite number > 0"),
        (["--l2", -1], 2, "--l2 must be a finite number >= 0"),
        (
            ["--l1", 0.1, "--epochs", 1],
            2,
            "--l1 needs --updater ftrl with minibatches, got 0.1 with --updater adagrad",
        ),
        (
            ["--schedule", "1/t"],
            2,
            "--schedule needs --updater sgd, got --schedule 1/t with --updater adagrad",
        ),
        (["--bound", -1], 2, "--bound must be an integer >= 0, got -1"),
        (["--batch-size", -1], 2, "--batch-size must be"),
        (["--epochs", 0], 2, "--epochs must be"),
        (["--seed", -1], 2, "--seed must be"),
        (["--slow-worker", "fast"], 2, "RANK:FACTOR"),
        (["--model", "-"], 3, "-: a model must be written to a file, got -"),
        (["--report", "-"], 3, "-: a report must be written to a file, got -"),
        (["--timeline", "-"], 3, "-: a timeline must be written to a file, got -"),
        (["--slow-worker", "7:2"], 2, "--slow-worker must name a rank below --workers 2, got rank 7"),
        (["--memory", "1K"], 6, "M for 32,561 rows and 124 keys in this process, got 1K; allow more"),
        (["--sync", "--async"], 2, "not allowed with"),
        (["--async", "--bound", 1], 2, "not allowed with"),
        (["--epochs", 1, "--iterations", 1], 2, "not allowed with"),
        (["--updater", "adam"], 2, "invalid choice"),
        (["--data", "no/such/file"], 3, "no/such/file"),
        (["--data", "tests"], 3, "mapped data must be a folder with meta.json"),
        (["--format", "npz"], 2, "--format must come with a model to write"),
        (["--data", "synth:b9b"], 3, "synth:b9b"),
        (["--data", "README.md"], 3, "README.md:3:7: a feature must be index:value"),
    ],
)
def test_bad_input_is_an_error_with_its_exit_code_and_no_traceback(shmps, arguments, code, words):
    done = shmps("train", *([] if "--data" in arguments else ["--data", "synth:a9a"]), *arguments)
    assert done.returncode == code and words in done.stderr and done.stdout == ""


def test_a_lack_of_memory_gives_advice_that_the_command_can_follow(shmps, monkeypatch, tmp_path):
    (tmp_path / "wide").write_text("1 2147483647:1\n-1 1:1\n" * 4)
    monkeypatch.setattr("shmps.sklearn.start.available_memory", lambda: 2**34)
    done = shmps("train", "--data", tmp_path / "wide")
    assert done.returncode == 6 and "2,147,483,647 features need at least 65,536 MiB" in done.stderr
    assert "correct the largest index" in done.stderr and "--hash-bits" in done.stderr

    def read(*arguments):
        raise MemoryError

    monkeypatch.setattr("shmps.data.reading.read", read)
    done = shmps("inspect", tmp_path / "wide")
    assert done.returncode == 6 and "out of memory; free some" in done.stderr and "--b" not in done.stderr


def test_a_damaged_model_is_refused(shmps, files):
    damaged = files / "damaged"
    damaged.write_bytes((files / "model").read_bytes()[:-1])
    done = shmps("predict", damaged, files / "train.svm")
    assert done.returncode == 3 and str(damaged) in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_can_not_be_written_is_said(shmps, files):
    done = shmps("train", *SMALL, "--model", files / "no" / "folder" / "model")
    assert done.returncode == 3 and "Traceback" not in done.stderr


def test_labels_of_a_file_are_refused_under_its_name(shmps, files):
    (files / "one.svm").write_text("1 1:1\n" * 9)
    (files / "strange.svm").write_text("0 1:1\n5 1:1\n")
    one = shmps("train", "--data", files / "one.svm")
    assert one.returncode == 3 and f"{files / 'one.svm'}: labels must be of two classes or more" in one.stderr
    strange = shmps("train", "--data", files / "train.svm", "--test", files / "strange.svm")
    assert strange.returncode == 3 and "strange.svm" in strange.stderr and "[5.0]" in strange.stderr


def test_large_labels_are_written_in_full(shmps, files):
    (files / "dates.svm").write_text("20240101 1:1\n20240102 2:1\n" * 20)
    shmps("train", "--data", files / "dates.svm", "--workers", 1, "--quiet", "--model", files / "dates")
    predicted = shmps("predict", files / "dates", files / "dates.svm")
    assert set(predicted.stdout.split()) == {"20240101", "20240102"}


def test_divergence_ends_with_5_and_says_what_to_try(shmps, tmp_path):
    data = tmp_path / "huge.svm"
    data.write_text("0 1:1e200\n1 1:1e200\n" * 20)
    done = shmps(
        "train", "--data", data, "--updater", "sgd", "--l2", 0, "--learning-rate", 1e200, "--batch-size", 1
    )
    assert done.returncode == 5
    assert re.search(r"at iteration \d+", done.stderr) and "lower the learning rate" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_traceback(files):
    lines = "\n".join(["1 1:1"] * 50_000)
    (files / "long.svm").write_text(lines)
    arguments = ["predict", str(files / "model"), str(files / "long.svm")]
    predict = f"import sys; from shmps.cli.main import main; sys.exit(main({arguments}))"
    with subprocess.Popen(
        [sys.executable, "-c", predict], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_a_table_that_nobody_reads_is_no_traceback(files):
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "run.py", "--data", files / "train.svm", "--workers", "2"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        errors = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in errors and b"BrokenPipe" not in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_with_its_exit_code_and_writes_the_model_so_far(number, code, tmp_path):
    endless = [
        "--model",
        str(tmp_path / "m"),
        "--data",
        "synth:a9a",
        "--workers",
        "2",
        "--epochs",
        "1000000",
        "--log",
        "--test-interval",
        "5",
    ]
    with subprocess.Popen(
        [sys.executable, "run.py", *endless],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while "Iteration" not in process.stderr.readline():
            pass
        nodes = children_of(process.pid)
        assert len(nodes) == 3
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == code and "Traceback" not in errors
    written, ended = errors.splitlines()[-2:]
    iteration = re.fullmatch(rf"shmps: the model after iteration ([\d,]+) is in {tmp_path}/m", written)
    assert iteration and int(iteration[1].replace(",", "")) >= 5 and ended.startswith("shmps: stopped by ")
    assert np.any(formats.load(tmp_path / "m").coefficients)
    deadline = time.monotonic() + DEADLINE
    while any(map(alive, nodes)):
        assert time.monotonic() < deadline


def test_help_speaks_of_the_things_by_their_names(shmps):
    done = shmps("train", "--help")
    assert done.returncode == 0
    for word in ("shard", "push, pull", "tick", "bound", "delay", "updater", "exit codes"):
        assert word in done.stdout


def test_a_model_is_kept_though_there_is_no_room_for_the_table(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "run.py", *SMALL, "--model", tmp_path / "model"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert done.returncode == 6 and "Traceback" not in done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]
    assert formats.load(tmp_path / "model").num_features == 123


def test_a_model_path_that_is_no_file_is_refused_before_training(shmps, tmp_path):
    done = shmps("train", *SMALL, "--model", tmp_path)
    assert (done.returncode, done.stdout) == (3, "") and "regular file" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_changes_nothing(closed, tmp_path):
    line = f"{sys.executable} run.py {' '.join(SMALL)} --model {tmp_path / 'model'} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (tmp_path / "model").exists()


def test_a_substitute_is_said_even_when_quiet(shmps, tmp_path):
    done = shmps("train", "--quiet", "--epochs", 1, "--data-dir", tmp_path)
    assert done.returncode == 0 and "a9a is not in the data folder" in done.stderr
    (tmp_path / "file").touch()
    refused = shmps("train", "--epochs", 1, "--data-dir", tmp_path / "file")
    assert refused.returncode == 3 and "the data folder must be a folder" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--batch-size", 10**30], 2),
        (["--batch-size", 10**15], 0),
        (["--slow-worker", "0:1e300"], 2),
        (["--tick-time", "1e300"], 2),
        (["--mode", "foo"], 2),  # no abbreviation of --model
    ],
)
def test_strange_sizes_and_flags_are_told_or_taken(shmps, arguments, code):
    done = shmps("train", *SMALL, *arguments)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr


def test_the_first_signal_is_the_last_that_counts(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(cli.Terminated):
            cli._stop(signal.SIGTERM, None)
        assert all(signal.getsignal(number) is cli._ignore for number in before)
        with pytest.raises(KeyboardInterrupt):
            cli._stop(signal.SIGINT, None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_when_all_is_said_no_signal_counts(shmps):
    assert shmps("train", *SMALL, "--quiet").returncode == 0
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is cli._ignore


def test_a_server_that_is_stopped_does_not_stop_the_end(tmp_path):
    with subprocess.Popen(
        [sys.executable, "run.py", *SMALL[:4], "--solver", "minibatch", "--iterations", "100000000", "--log"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as parent:  # fmt: skip
        while "Iteration" not in parent.stderr.readline():
            pass
        server = min(children_of(parent.pid))
        os.kill(server, signal.SIGSTOP)
        parent.send_signal(signal.SIGTERM)
        _, errors = parent.communicate(timeout=DEADLINE)
    assert parent.returncode == 143 and "stopped by SIGTERM" in errors and not alive(server)


def test_a_log_that_finds_no_room_costs_no_training(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "run.py", *SMALL, "--log", "--model", tmp_path / "model"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert done.returncode == 0 and "accuracy" in done.stdout and (tmp_path / "model").exists()


def test_a_rate_that_swings_is_said_once_and_dist_lr_is_a_rule(shmps):
    done = command(
        "--data", "synth:a9a", "--async", "--rule", "dist-lr", "--learning-rate", 50, "--batch-size", 0,
        "--iterations", 12, "--tick-time", 5,
    )  # fmt: skip
    assert done.returncode == 0 and "updater              dist-lr" in done.stdout
    assert len(re.findall(r"^shmps: .*stable up to a learning rate of \d", done.stderr, re.MULTILINE)) == 1
    assert "UnstableRate" not in done.stderr  # a sentence, not Python's form of a warning


def test_that_numba_compiles_is_said_once(tmp_path):
    """A training would take seconds to compile: the file that it would leave is put there instead."""
    program = (
        "from shmps.linear.kernels import gradient; from shmps.system.compiling import announce; "
        "announce(gradient); print(gradient.stats.cache_path)"
    )
    command = [sys.executable, "-c", program]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
    assert first.stderr == "numba compiles the kernels: once on this machine, some seconds\n"
    folder = Path(first.stdout.strip())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernels.gradient-56.py311.nbi").touch()
    again = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
    assert again.stderr == ""
