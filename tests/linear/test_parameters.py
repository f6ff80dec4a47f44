"""A parameter is declared once: all else comes from the declaration, for Python and for the command line."""

import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from problems import watching
from processes import ROOT

from shmps import AdaGrad, LogisticRegression
from shmps.cli import commands
from shmps.cli.commands.train import _settings
from shmps.data import labels
from shmps.errors import Named, UsageError
from shmps.linear.parameters import DECLARED, minibatch_only
from shmps.linear.settings import Settings

X, Y = np.eye(4), np.array([0, 1, 0, 1])
FLAGS = {name: each for name, each in DECLARED.items() if each.flag is not None}


def parsed(*flags):
    return commands.parser().parse_args(["train", *flags])


def test_the_constructor_is_that_of_the_declarations():
    parameters = inspect.signature(LogisticRegression).parameters
    assert {name: each.default for name, each in parameters.items()} == {
        name: each.default for name, each in DECLARED.items()
    }


def test_the_docstring_has_every_parameter_and_names_others_as_python_does():
    table = LogisticRegression.__doc__.split("Parameters\n----------\n")[1].split("\nAttributes\n")[0]
    assert re.findall(r"^(\w+) : ", table, re.MULTILINE) == list(DECLARED)
    assert "{" not in re.sub(r'\{"[^}]*"\}', "", table) and "--" not in table
    assert 'mode : {"sync", "async", "bounded", "hogwild"}, default="sync"\n' in table


def test_the_help_has_every_flag_and_names_others_as_flags(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "{" not in re.sub(r"\{\w[^}]*\}", "", shown)
    for flag in (
        "--workers N worker processes (default: the usable cores, fewer where rows are few)",
        "with minibatches it needs --updater ftrl",
        "instead of --epochs",
    ):
        assert flag in shown
    selecting = shown.split("refuses it: ")[1].split(" exit codes")[0].split(", ")
    assert len(selecting) == len(minibatch_only()) and "--on-worker-death continue" in selecting
    assert selecting[:5] == ["--async", "--bound", "--hogwild", "--updater", "--learning-rate"]


def test_the_help_needs_no_numpy():
    program = """
import sys
from fractions import Fraction
from shmps.cli.main import main
assert main(["train", "--help"]) == 0
assert not {"numpy", "scipy", "numba"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def test_without_flags_the_command_line_trains_as_the_estimator_does():
    settings = _settings(parsed())
    assert {name: getattr(settings, name) for name in DECLARED} == LogisticRegression().get_params()
    options = vars(parsed())
    assert {name: options[name] for name in FLAGS} == {name: each.default for name, each in FLAGS.items()}


@pytest.mark.parametrize("name", DECLARED)
def test_a_default_obeys_the_rule_and_another_type_does_not(name):
    rule, default = DECLARED[name].rule, DECLARED[name].default
    rule.check(name, default)
    wrong = object()
    with pytest.raises(UsageError, match=f"^{name} must be .*, got <object") as caught:
        rule.check(name, wrong)
    assert caught.value.parameters == {name: wrong}
    with pytest.raises(UsageError, match=f"^{name} must be "):
        Settings.of(LogisticRegression(**{name: wrong}))


@pytest.mark.parametrize("name", DECLARED)
@pytest.mark.parametrize("wrong", [10**400, Fraction(-(10**400)), np.array([1, 2])], ids=type)
def test_values_that_raise_when_compared_or_converted_are_refused_too(name, wrong):
    with pytest.raises(UsageError, match=f"^{name} must be "):
        Settings.of(LogisticRegression(**{name: wrong}))


def test_a_rate_and_a_class_weight_beyond_float64_are_refused():
    with pytest.raises(UsageError, match="learning_rate must be a finite number > 0"):
        AdaGrad(10**400)
    with pytest.raises(UsageError, match="class_weight must have finite numbers >= 0"):
        LogisticRegression(class_weight={0: 10**400}).fit(X, Y)


def test_the_command_line_names_the_flag_of_a_parameter_that_breaks_a_rule(shmps):
    done = shmps("train", "--workers", 0)
    assert (done.returncode, done.stderr) == (2, "shmps: --workers must be an integer >= 1, got 0\n")


def test_a_parameter_is_added_in_its_declaration_alone(tmp_path):
    """A field more in `Parameters` is an argument, a flag, a check and a line of the docstring."""
    declared = (ROOT / "shmps" / "linear" / "parameters.py").read_text()
    before = "    callbacks: Sequence[Any] | None = parameter("
    new = (
        '    patience: int = parameter(\n        3, integer(least=1), "rounds of {epochs} to wait",\n    )\n'
    )
    program = f"""
import sys, types
import shmps.linear
module = sys.modules["shmps.linear.parameters"] = types.ModuleType("shmps.linear.parameters")
shmps.linear.parameters = module
exec(compile({declared.replace(before, new + before)!r}, "parameters.py", "exec"), vars(module))
from shmps import AdaGrad, LogisticRegression
from shmps.cli import commands
from shmps.cli.main import main
assert commands.parser().parse_args(["train", "--patience", "5"]).patience == 5
assert "patience : int, default=3\\n    Rounds of epochs to wait." in LogisticRegression.__doc__
assert LogisticRegression(patience=4).get_params()["patience"] == 4
main(["train", "--patience", "0"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "shmps: --patience must be an integer >= 1, got 0\n"


def test_a_rule_that_relates_parameters_names_each_with_its_value():
    with pytest.raises(UsageError) as caught:
        Settings.of(LogisticRegression(join_at=7, epochs=5))
    assert str(caught.value) == "join_at must be less than epochs=5, got 7; raise epochs or lower it"
    assert caught.value.parameters == {"join_at": 7, "epochs": 5}


def test_an_error_that_names_parameters_is_pickled_whole():
    error = UsageError("{workers} must be {{}}, got {workers.value!r:.9}", workers="x" * 20)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "workers must be {}, got 'xxxxxxxx" and again.args == error.args == (str(error),)
    assert again.parameters == error.parameters and again.told(Named) == str(again)


def test_settings_are_a_copy_with_a_seed():
    model = LogisticRegression(random_state=np.random.default_rng(3))
    first, second = Settings.of(model), Settings.of(model)
    assert isinstance(first.random_state, int) and first.random_state != second.random_state
    assert dataclasses.replace(first, epochs=3).epochs == 3 and model.epochs is None


@pytest.fixture
def counted(monkeypatch):
    """How often settings are checked, and labels encoded."""
    counts = {"checked": 0, "encoded": 0}
    check, codes_of = Settings._check_together, labels.codes_of

    def checked(settings):
        counts["checked"] += 1
        check(settings)

    def encoded(*args):
        counts["encoded"] += 1
        return codes_of(*args)

    monkeypatch.setattr(Settings, "_check_together", checked)
    monkeypatch.setattr(labels, "codes_of", encoded)
    return counts


def test_settings_are_checked_once_and_labels_encoded_once(counted, shmps, tmp_path):
    LogisticRegression(workers=1).fit(X, Y)
    assert counted == {"checked": 1, "encoded": 1}
    (tmp_path / "rows").write_text("0 1:1\n1 2:1\n" * 10)
    assert shmps("train", tmp_path / "rows", "--workers", 1, "--quiet").returncode == 0
    assert counted == {"checked": 2, "encoded": 2}


@pytest.mark.parametrize(
    ("params", "is_watched", "at"),
    [
        ({}, False, []),
        ({}, True, [2, 4, 6]),
        ({"test_interval": 0}, False, []),
        ({"test_interval": 0}, True, [2, 4, 6]),
        ({"test_interval": 4}, True, [4]),
        ({"test_interval": 4}, False, [4]),
        ({"n_iter_no_change": 100}, False, [2, 4, 6]),
        ({"n_iter_no_change": 100, "test_interval": 50}, False, [6]),
    ],
    ids=str,
)
def test_evaluations_are_made_once_per_epoch_if_something_uses_them(params, is_watched, at):
    X, y = np.eye(8), np.arange(8) % 2
    callbacks = [watching(lambda evaluation: None)] if is_watched else None
    model = LogisticRegression(workers=1, epochs=3, batch_size=4, callbacks=callbacks, **params)
    model.fit(X, y)
    assert [progress.iteration for progress in model.history_] == at
