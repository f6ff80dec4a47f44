"""scikit-learn's own checks of an estimator, and its tools around ours. None of them is excused."""

import subprocess
import sys
import warnings

import pytest

from shmps import LogisticRegression

checks = pytest.importorskip("sklearn.utils.estimator_checks")

with warnings.catch_warnings(action="ignore"):  # that it does not inherit from BaseEstimator
    with_checks = checks.parametrize_with_checks(
        [LogisticRegression(workers=workers, iterations=30, learning_rate=1.0) for workers in (1, 2)]
    )


@with_checks
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_importing_shmps_does_not_import_scikit_learn():
    code = (
        "import shmps, sys; assert 'sklearn' not in sys.modules; print(shmps.LogisticRegression(workers=3))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "LogisticRegression(workers=3)\n"
