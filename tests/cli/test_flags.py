"""Flags from a file, and errors that call parameters as the flags that set them."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from shmps import Machines
from shmps.cli import commands
from shmps.errors import UsageError

DATA = ["--data", "rows.svm", "--json", "--quiet"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.svm").write_text("".join(f"{i % 2} {1 + i % 3}:1\n" for i in range(30)))
    return tmp_path


def configured(text, *flags):
    """What a file of flags and the command line become."""
    with open("c.toml", "w") as file:
        file.write(text)
    return commands.parser().parse_args(["train", *flags, "--config", "c.toml"])


ALL = """
data = "x.svm"
workers = 3
learning-rate = 0.25
l2 = 1e-3
slow-worker = "0:5"
hogwild = true
intercept = true
quiet = false
rule = "sgd"
memory = "1M"
"""


def test_a_file_gives_flags_of_every_kind():
    options = configured(ALL)
    assert (options.data, options.workers, options.learning_rate, options.l2) == ("x.svm", 3, 0.25, 1e-3)
    assert (options.slow_worker, options.mode, options.updater) == ((0, 5.0), "hogwild", "sgd")
    assert (options.fit_intercept, options.quiet, options.memory) == (True, False, "1M")
    assert options.batch_size is None  # what neither says


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--asink", "unrecognized arguments: --asink; --async is near"),
        ("--batch_size=3", "unrecognized arguments: --batch_size=3; --batch_size is --batch-size here"),
        ("--workers=x", "argument --workers: invalid int value: 'x'"),
        ("x y", "unrecognized arguments: y"),
        ("--data x y", "argument TRAIN: not allowed with argument --data"),
        ("x --data y", "argument --data: not allowed with argument TRAIN"),
        ("--data x --lr 0.1", "unrecognized arguments: --lr; --lr is --learning-rate here"),
        ("-q", "unrecognized arguments: -q; -q is --quiet here"),
        ("--model=", "argument --model: must not be empty, got ''; name a value, or leave it out"),
    ],
)
def test_a_wrong_flag_is_told_in_a_line_with_the_nearest(capsys, argument, told):
    with pytest.raises(SystemExit) as ended:
        commands.parser().parse_args(["train", *argument.split()])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"shmps train: error: {told}; see shmps train --help\n"


def test_every_field_of_the_machines_is_a_flag_that_names_its_default(capsys):
    fields = dataclasses.fields(Machines)
    given = [word for each in fields for word in (f"--{each.name}", "7")]
    options = commands.parser().parse_args(["simulate", *given])
    assert all(getattr(options, f"machine_{each.name}") == 7 for each in fields)
    with pytest.raises(SystemExit):
        commands.parser().parse_args(["simulate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(re.search(rf"--{each.name} .*?\(default: {each.default:g}\)", told) for each in fields)


def test_the_flags_are_known_without_numpy():
    asked = "import sys; from shmps.cli import commands; commands.parser(); print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True) == "False\n"


def test_a_flag_that_is_on_by_default_is_switched_off():
    assert configured("").fit_intercept is True
    assert configured("intercept = false").fit_intercept is False
    assert configured("intercept = false", "--intercept").fit_intercept is True


@pytest.mark.parametrize(
    "flags",
    [
        "x --workers 3 --quiet",
        "--workers 3 x --quiet",
        "--workers 3 --quiet x",
        "--workers=3 --quiet --data x",
    ],
)
def test_the_rows_are_an_argument_or_a_flag(flags):
    options = commands.parser().parse_args(["train", *flags.split()])
    assert (options.data, options.workers, options.quiet) == ("x", 3, True)
    assert commands.parser().parse_args(["train", "--model", "m", "-"]).data == "-"
    assert commands.parser().parse_args(["train"]).data is None


def test_an_argument_takes_the_place_of_the_data_in_a_file():
    assert configured('data = "y"', "--quiet", "x").data == "x"
    assert configured('data = "y"').data == "y"


@pytest.mark.parametrize("flags", [["--workers", "4"], ["--workers=4"]])
def test_flags_go_on_top(flags):
    assert configured("workers = 2\nseed = 7", *flags).workers == 4
    assert configured("workers = 2\nseed = 7", *flags).random_state == 7


@pytest.mark.parametrize("flag", [["--sync"], ["--async"], ["--bound", "3"]])
@pytest.mark.parametrize("key", ["async = true", "bound = 8", "hogwild = true"])
def test_a_flag_takes_the_place_of_what_it_excludes(flag, key):
    plain = commands.parser().parse_args(["train", *flag])
    options = configured(key, *flag)
    assert (options.mode, options.bound) == (plain.mode, plain.bound)


def test_the_settings_in_force_are_in_the_result_and_in_the_model(shmps):
    with open("c.toml", "w") as file:
        file.write('workers = 2\nepochs = 3\nl2 = 0.5\nmodel = "m"\nasync = true\n')
    done = shmps("train", *DATA, "--config", "c.toml", "--epochs", 1)
    settings = json.loads(done.stdout)["settings"]
    assert {name: settings[name] for name in ("workers", "epochs", "l2", "mode")} == {
        "workers": 2, "epochs": 1, "l2": 0.5, "mode": "async",
    }  # fmt: skip
    assert json.loads(shmps("inspect", "m", "--json").stdout)["settings"] == settings


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("node_timeout = 3", 2, "c.toml: .*got 'node_timeout'; the nearest one is 'node-timeout'"),
        ("learning-rat = 3", 2, "'learning-rate'"),
        ("model = ''", 2, "c.toml: argument --model: must not be empty, got ''"),
        ("lr = 0.1", 2, "got 'lr'; the nearest one is 'learning-rate'"),
        ("config = 'x'", 2, "got 'config'; the nearest one is '(?!config)"),
        ("config = 'c.toml'", 2, "got 'config'"),
        ("help = true", 2, "got 'help'"),
        ("'' = 1", 2, "got ''"),
        ("[train]\nworkers = 2", 2, "got 'train'"),
        ("workers = 'two'", 2, "c.toml: argument --workers: invalid int value: 'two'"),
        ("workers = [2]", 2, "c.toml: workers must be one number or text"),
        ("workers = true", 2, "c.toml: workers must be one number or text"),
        ("async = 1", 2, "c.toml: async must be true or false, got 1"),
        ("async = true\nbound = 3", 2, "c.toml: argument --bound: not allowed with argument --async"),
        ("updater = 'adam'", 2, "c.toml: argument --updater.*: invalid choice"),
        ("l2 = -1", 2, "--l2 must be a finite number >= 0"),
        ("workers = ", 3, "c.toml: a configuration must be TOML"),
        (f"workers = {'1' * 5000}", 3, "c.toml: a configuration must be TOML.*digits"),
        (f"workers = 0x{'f' * 5000}", 2, "c.toml: workers must be one number or text, got too many digits"),
        (f"async = 0b{'1' * 50_000}", 2, "c.toml: async must be one number or text, got too many digits"),
        (f"workers = [0x{'f' * 5000}]", 2, "c.toml: workers must be one number or text, got too many digits"),
        ("workers = 1979-02-30", 3, "c.toml: a configuration must be TOML"),
        ("workers = 1979-02-20", 2, "c.toml: workers must be one number or text"),
        ("workers = inf", 2, "c.toml: argument --workers: invalid int value: 'inf'"),
        ("workers = nan", 2, "c.toml: argument --workers: invalid int value: 'nan'"),
        ("a = " + "[" * 100_000, 3, "c.toml: a configuration must be TOML"),
        ("\0", 3, "c.toml: a configuration must be TOML"),
        ('checkpoint = "a\\u0000b"', 2, "c.toml: checkpoint must have no null byte"),
    ],
)
def test_a_file_that_breaks_a_rule_is_named_with_the_key(shmps, text, code, words):
    with open("c.toml", "w") as file:
        file.write(text)
    done = shmps("train", "--config", "c.toml", *DATA)
    assert done.returncode == code and re.search(words, done.stderr), done.stderr


@pytest.mark.parametrize("make", ["missing", "folder", "binary"])
def test_what_is_no_configuration_is_refused(shmps, here, make):
    if make == "folder":
        (here / "c").mkdir()
    elif make == "binary":
        (here / "c").write_bytes(bytes(range(256)))
    done = shmps("train", "--config", "c", *DATA)
    assert done.returncode == 3 and done.stderr.startswith("shmps: c: ")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--lr 0.1", "--lr is --learning-rate here"),
        ("--learning_rate 0.1", "--learning_rate is --learning-rate here"),
        ("-C 1", "-C is --C here"),
        ("-c 1", "-c is --C here"),
        (
            "--penalty l1",
            "--C and --l1-ratio, or --l1 and --l2, give the penalty here; an infinite --C is none",
        ),
        ("--dual", "there is no dual form here; leave it out"),
        ("--verbose", "--verbose is --log or --live here"),
        ("--n_jobs 2", "--n_jobs is --workers here"),
        ("--max-iter=3", "--max-iter is --iterations or --epochs here"),
        ("--output m", "--output is --model here"),
        ("--random-state 3", "--random-state is --seed here"),
        ("--sep ;", "--sep is --delimiter here"),
        ("-b 18", "-b is --hash-bits here"),
        ("--learn 3", "--learning-rate is near"),
        ("--wrokers 3", "--workers is near"),
        ("--frobnicate", "arguments: --frobnicate; see"),
    ],
)
def test_a_flag_of_another_program_is_told_as_it_is_here(wrong, told, shmps):
    done = shmps("train", *wrong.split())
    assert done.returncode == 2 and told in done.stderr, done.stderr


# Errors.

FLAGS = commands.parser().parse_args(["train"]).flags


@pytest.mark.parametrize(
    ("message", "parameters", "told"),
    [
        ("{node_timeout} must be", {"node_timeout": 3}, "--node-timeout must be"),
        ("{l1} needs {updater:'ftrl'}, got {l1.given}", {"l1": 0.1, "updater": "sgd"},
         "--l1 needs --updater ftrl, got --l1 0.1"),
        ("got {random_state.value}", {"random_state": 3}, "got 3"),
        ("use {mode:'bounded'}, not {mode.given}", {"mode": "async"}, "use --bound, not --async"),
        ("needs {fit_intercept:True}, got {fit_intercept.given}", {"fit_intercept": False},
         "needs --intercept, got --no-intercept"),
        ("got {checkpoint.given}, {slow_worker.given}", {"checkpoint": None, "slow_worker": (7, 2.0)},
         "got no --checkpoint, --slow-worker (7, 2.0)"),
        ("lower {alpha}", {"alpha": 3}, "lower --learning-rate"),
        ("{callbacks} and {header.given}", {"callbacks": 3, "header": False}, "callbacks and --no-header"),
        ("no {template", {}, "no {template"),
    ],
)  # fmt: skip
def test_parameters_are_called_by_their_flags(message, parameters, told):
    assert UsageError(message, **parameters).told(FLAGS) == told


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--resume", "none"], "none: --resume must name a folder with a whole checkpoint, got none"),
        (
            ["--checkpoint", "rows.svm/kept"],
            "the folder of checkpoints must be one to make or",
        ),
        (["--checkpoint", "rows.svm"], "the folder of checkpoints must be one to make or"),
        (["--model", "no/where"], "the folder of a model must exist and be writable"),
    ],
)
def test_folders_are_looked_at_before_the_data(shmps, flags, words):
    done = shmps("train", "--data", "./none.svm", *flags)
    assert done.returncode == 3 and words in done.stderr and "none.svm" not in done.stderr


def test_the_advice_of_a_solver_names_flags(shmps, here):
    (here / "steep.svm").write_text("1 1:9\n1 1:1 2:1\n0 2:5\n0 1:-3\n" * 5)
    done = shmps("train", "--data", "steep.svm", "--solver", "lbfgs", "--iterations", 1, "--workers", 1)
    assert done.returncode == 0 and "--tol 1e-06" in done.stderr
