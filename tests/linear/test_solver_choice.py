"""Which solver a training gets, and that a model which is worse than none is said to be."""

import json

import numpy as np
import pytest
import scipy.sparse

from shmps.cli import commands
from shmps.cli.commands.train import _settings
from shmps.data.rows import rows_of
from shmps.errors import UsageError, WorseThanConstant
from shmps.linear.objective import log_loss, measure
from shmps.linear.parameters import DECLARED
from shmps.linear.settings import Settings
from shmps.models.metrics import constant_log_loss
from shmps.sklearn.estimator import LogisticRegression

EFFECTIVE = {name: each.unset for name, each in DECLARED.items() if each.unset is not None}
MINIBATCHES = [
    *({name: value} for name, value in EFFECTIVE.items()), {"learning_rate": 0.1},
    {"mode": "async"}, {"mode": "hogwild"}, {"mode": "bounded", "bound": 2}, {"updater": "ftrl", "l1": 0.1},
    {"slow_worker": (0, 2.0)}, {"tick_time": 1.0}, {"join_at": 1}, {"on_worker_death": "continue"},
    {"replicas": 1, "servers": 2}, {"checkpoint": "folder"}, {"resume": "folder"},
]  # fmt: skip
FULL = [
    {}, {"mode": "sync"}, {"iterations": 5}, {"tol": 1e-3}, {"l1": 0.0}, {"on_worker_death": "fail"},
    {"early_stopping": True}, {"memory": "1G"}, {"test_interval": 3}, {"random_state": 1},
]  # fmt: skip


@pytest.mark.parametrize("params", MINIBATCHES, ids=str)
def test_what_only_minibatches_have_selects_them_also_at_the_value_that_holds(params):
    assert not Settings.of(LogisticRegression(**params)).by_lbfgs()
    with pytest.raises(UsageError, match="solver='lbfgs' takes the same full steps"):
        Settings.of(LogisticRegression(solver="lbfgs", **params))


@pytest.mark.parametrize("params", FULL, ids=str)
def test_all_else_is_solved_by_lbfgs(params):
    assert Settings.of(LogisticRegression(**params)).by_lbfgs()
    assert not Settings.of(LogisticRegression(solver="minibatch", **params)).by_lbfgs()


@pytest.mark.parametrize(
    ("flags", "by_lbfgs"),
    [
        ("", True), ("--sync", True), ("--iterations 9 --l2 0.1", True), ("--solver minibatch", False),
        ("--workers 4 --async", False), ("--hogwild", False), ("--bound 3", False), ("--epochs 10", False),
        ("--batch-size 256", False), ("--rule adagrad", False), ("--schedule constant", False),
        ("--learning-rate 0.1", False), ("--config c.toml", False),
    ],
)  # fmt: skip
def test_flags_that_are_given_count_also_at_their_defaults(tmp_path, monkeypatch, flags, by_lbfgs):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text("epochs = 10\n")
    assert _settings(commands.parser().parse_args(["train", *flags.split()])).by_lbfgs() == by_lbfgs


def problem(positive=0.05, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(300, 4)), (random.random(300) < positive).astype(int)


def test_the_values_that_hold_are_in_the_result_and_the_parameters_stay_as_given():
    random = np.random.default_rng(0)
    rows = 2 * 20 * EFFECTIVE["batch_size"]  # with fewer, a batch of a worker has fewer rows
    X, y = random.normal(size=(rows, 4)), (random.random(rows) < 0.4).astype(int)
    model = LogisticRegression(solver="minibatch").fit(X, y)
    names = [*EFFECTIVE, "learning_rate"]
    held = {name: model.result_.settings[name] for name in names}
    assert held == EFFECTIVE | {"learning_rate": None}
    assert {model.get_params()[name] for name in names} == {None}
    given = LogisticRegression(**EFFECTIVE).fit(X, y)
    assert (given.coef_ == model.coef_).all() and given.result_.settings["solver"] == "minibatch"
    assert LogisticRegression().fit(X, y).result_.settings["solver"] == "lbfgs"


def test_parts_go_on_by_minibatches_and_with_the_state_of_an_updater_that_is_named_later():
    X, y = problem(0.4)
    model, named = (LogisticRegression().partial_fit(X, y, classes=[0, 1]) for _ in range(2))
    assert model.result_.settings["solver"] == "minibatch" and model.result_.settings["epochs"] == 1
    named.set_params(updater="adagrad")
    assert (model.partial_fit(X, y).coef_ == named.partial_fit(X, y).coef_).all()


X, Y = problem()
STEEP = {"solver": "minibatch", "learning_rate": 100.0, "epochs": 1, "batch_size": 20}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            STEEP,
            "updater='adagrad', learning_rate=100; scale the features to about 1, lower the learning_rate",
        ),
        (STEEP | {"mode": "async"}, "solver='auto'"),
        (STEEP | {"mode": "hogwild"}, "learning_rate=100"),
        (STEEP | {"mode": "bounded", "bound": 1, "updater": "sgd", "l2": 0.0}, "updater='sgd'"),
        (STEEP | {"early_stopping": True}, "on the training rows"),
        ({"fit_intercept": False}, "solver='lbfgs'; learn an intercept with fit_intercept=True"),
    ],
    ids=str,
)
def test_a_model_that_is_worse_than_none_is_said_to_be(params, said):
    with pytest.warns(WorseThanConstant, match="worse than none") as told:
        result = LogisticRegression(**params).fit(X, Y).result_
    [message] = [str(each.message) for each in told if each.category is WorseThanConstant]
    assert said in message and f"{result.training_log_loss:.4g}" in message
    assert (
        f"{result.constant_log_loss:.4g}" in message and result.training_log_loss > result.constant_log_loss
    )


@pytest.mark.parametrize("length", ["epochs", "iterations"])
def test_the_advice_of_a_bad_model_names_the_length_that_was_given(length):
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    model = LogisticRegression(workers=1, learning_rate=100.0, **{length: 1})
    with pytest.warns(WorseThanConstant, match=f"raise {length}, or"):
        model.fit(X, y)


@pytest.mark.filterwarnings("error::shmps.errors.WorseThanConstant")
def test_a_model_that_is_not_worse_is_not():
    """Whatever the test rows say, and whether the features tell anything; of parts nobody knows."""
    for y in (Y, Y % 2 + (np.arange(300) % 3 == 0), np.arange(300) % 2):
        LogisticRegression().fit(np.zeros((300, 1)), y)
        LogisticRegression().fit(X, y, eval_set=(X[:5], y[:5]), sample_weight=1 + np.arange(300) % 7)
    LogisticRegression().fit(X, Y, eval_set=(X[Y == 1], Y[Y == 1]))
    LogisticRegression(learning_rate=100.0).partial_fit(X, Y, classes=[0, 1])


def test_the_loss_on_the_training_rows_is_told_beside_that_on_the_test_rows():
    result = LogisticRegression().fit(X, Y, eval_set=(X[:50], Y[:50])).result_
    assert result.training_log_loss == LogisticRegression().fit(X, Y).result_.metrics.log_loss
    assert result.to_dict()["constant_log_loss"] == pytest.approx(constant_log_loss(np.where(Y, 1.0, -1.0)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_constant_model_is_measured_as_others_are(classes, weighted):
    """An intercept alone, of each class's log-odds, has its loss; `log_loss` finds what `measure` does."""
    random = np.random.default_rng(1)
    rows, labels = 70_000, random.choice(classes, 70_000, p=[0.7, 0.2, 0.1] if classes == 3 else [0.9, 0.1])
    importance = random.random(rows) if weighted else None
    codes = labels.astype(float) if classes == 3 else np.where(labels == 1, 1.0, -1.0)
    some = rows_of(scipy.sparse.csr_matrix((rows, 2)), codes, importance)
    shares = np.bincount(labels, importance, classes) / (rows if importance is None else importance.sum())
    odds = np.log(shares / (1 - shares))
    weights = np.zeros((3, classes) if classes == 3 else 3)
    weights[-1] = odds if classes == 3 else odds[1]
    expected = measure(some, weights, True).log_loss
    assert constant_log_loss(codes, importance) == pytest.approx(expected, rel=1e-12)
    weights[:-1] = 1.0
    some = some._replace(
        indptr=np.arange(rows + 1), indices=random.integers(0, 2, rows), data=random.normal(size=rows)
    )
    assert log_loss(some, weights, True) == pytest.approx(measure(some, weights, True).log_loss, rel=1e-12)


def test_the_command_line_says_it_in_flags(shmps, tmp_path):
    """UCI Adult from CSV is like this: amounts to 100,000 beside ones, hashed by name."""
    random = np.random.default_rng(2)
    amounts, jobs = random.integers(0, 100_000, 400), random.choice(["nurse", "smith"], 400)
    lines = [f"{a},{j},{int(a > 70_000)}" for a, j in zip(amounts, jobs, strict=True)]
    (tmp_path / "people.csv").write_text("\n".join(["gain,job,income", *lines]) + "\n")
    flags = "--data", tmp_path / "people.csv", "--label", "income", "--hash-bits", 8, "--workers", 2, "--json"
    steep = shmps("train", *flags, "--learning-rate", 0.1, "--no-intercept")
    assert steep.returncode == 0 and json.loads(steep.stdout)["training_log_loss"] > 1
    [said] = [line for line in steep.stderr.splitlines() if "worse than none" in line]
    assert "lower the --learning-rate" in said and "--intercept" in said and "--solver auto" in said
    plain = shmps("train", *flags)
    assert plain.returncode == 0 and "worse than none" not in plain.stderr
    assert json.loads(plain.stdout)["metrics"]["accuracy"] > 0.95
