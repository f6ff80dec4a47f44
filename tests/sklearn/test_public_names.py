"""What users see: the public names, exactly, and types that a checker of theirs understands."""

import os
import subprocess
import sys

import pytest
from processes import ROOT

import shmps
from shmps import LogisticRegression, LogisticRegressionCV, callbacks, errors, mapped, report
from shmps.linear.parameters import DECLARED
from shmps.linear.path_parameters import PATH_DECLARED

METHODS = {
    "decision_function", "fit", "get_metadata_routing", "get_params", "model", "partial_fit", "predict",
    "predict_log_proba", "predict_proba", "score", "set_fit_request", "set_params", "set_partial_fit_request",
    "set_score_request",
}  # fmt: skip
LEARNED = {
    "classes_", "coef_", "history_", "intercept_", "n_features_in_", "n_iter_", "result_", "staleness_",
}  # fmt: skip


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_the_estimator_has_its_parameters_its_methods_and_what_it_learned():
    model = LogisticRegression(workers=1)
    assert public(model) == METHODS | set(DECLARED)
    model.fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    assert public(model) == METHODS | set(DECLARED) | LEARNED


def test_the_estimator_that_chooses_the_penalty_has_the_names_of_scikit_learns():
    model = LogisticRegressionCV(cv=2)
    methods = METHODS - {"partial_fit"}
    assert public(model) == methods | set(PATH_DECLARED)
    model.fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    learned = {"C_", "Cs_", "coefs_paths_", "l1_ratio_", "l1_ratios_", "scores_"}
    assert public(model) == methods | set(PATH_DECLARED) | learned | LEARNED - {"history_", "staleness_"}


def test_the_package_has_these_names():
    assert shmps.__all__ == [
        "ASYNC", "BOUNDED", "FTRL", "HOGWILD", "SGD", "SYNC", "AdaGrad", "Add", "Cluster", "Consistency",
        "Inline", "Journal", "KVWorker", "LogisticRegression", "LogisticRegressionCV", "Machines", "Model",
        "Push", "Ray", "Rehearsal", "Replace", "Step", "Updater", "__version__", "load", "mapped", "save",
        "simulate",
    ]  # fmt: skip
    assert callbacks.__all__ == ["Callback", "EarlyStopping", "History", "JsonLines", "ModelCheckpoint"]
    assert mapped.__all__ == ["convert", "describe", "load", "verify", "weights"]
    assert report.__all__ == ["write_report", "write_trace"]
    assert all(getattr(shmps, name) is not None for name in shmps.__all__)
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert {each.__name__ for each in kinds} == {*errors.__all__, "NamingParameters"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = shmps.nothing


SCRIPT = """
import numpy as np

import shmps
from shmps import SYNC, Cluster, KVWorker, LogisticRegression, Model, Step, Updater
from shmps.callbacks import Callback, EarlyStopping
from shmps.report import write_report

X, y = np.eye(4), np.array([0, 1, 0, 1])
model = LogisticRegression(workers=2, mode="async", callbacks=[EarlyStopping(3)]).fit(X, y)
shares: np.ndarray = LogisticRegression(checkpoint="kept").fit(X, y, sample_weight=y).predict_proba(X)
learned: Model = model.model()
shmps.save(learned, "m.shmps")
write_report(model.result_, "out.html")
shmps.report.write_trace(model.result_, "out.json")
shmps.mapped.convert("train.svm", "train.shmps")


def work(kv: KVWorker, steps: int) -> int:
    for step in range(steps):
        keys = np.array([step])
        kv.push(keys, kv.pull(keys) - 1.0)
    return kv.rank


class Descent(Updater):
    def update(
        self, keys: np.ndarray, gradient: np.ndarray, values: np.ndarray, state: np.ndarray, step: Step
    ) -> None:
        values -= gradient


with Cluster(1000, workers=2, consistency=SYNC, updater=Descent()) as cluster:
    ranks = cluster.run(work, 3)
"""
WRONG = {
    "LogisticRegression(worker=2)": 'Unexpected keyword argument "worker"',
    'LogisticRegression(workers="two")': 'incompatible type "str"; expected "int | None"',
    "LogisticRegression().plan()": 'has no attribute "plan"',
    "shmps.Wrong": 'Module has no attribute "Wrong"',
    'Cluster("many")': 'incompatible type "str"; expected "int"',
    "model.model() + 1": "Unsupported operand types",
}


def test_a_users_script_is_type_checked(tmp_path):
    pytest.importorskip("mypy")
    script, lines = tmp_path / "script.py", SCRIPT.count("\n")
    script.write_text(SCRIPT + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            ".cache",
            script,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    for number, (wrong, told) in enumerate(WRONG.items(), lines + 1):
        [error] = [line for line in errors if line.startswith(f"script.py:{number}:")]
        assert told in error, wrong
    assert len(errors) == len(WRONG), done.stdout
