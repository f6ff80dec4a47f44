"""scikit-learn's own checks of an estimator, and its tools around ours. None of the checks is excused."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from test_estimator import problem

from shmps import LogisticRegression
from shmps.callbacks import EarlyStopping
from shmps.errors import UsageError

sklearn = pytest.importorskip("sklearn", minversion="1.6")
import joblib  # noqa: E402
from joblib.externals import loky  # noqa: E402
from sklearn import base, calibration, pipeline, preprocessing  # noqa: E402
from sklearn import model_selection as selection  # noqa: E402
from sklearn.utils import estimator_checks as checks  # noqa: E402

with warnings.catch_warnings(action="ignore"):  # that it does not inherit from BaseEstimator
    with_checks = checks.parametrize_with_checks(
        [LogisticRegression(workers=workers, iterations=30, learning_rate=1.0) for workers in (1, 2)]
    )


@with_checks
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_scikit_learns_check_of_the_names_of_columns_passes():
    pytest.importorskip("pandas")
    checks.check_dataframe_column_names_consistency("LogisticRegression", quick(learning_rate=1.0))


def test_importing_shmps_does_not_import_scikit_learn():
    code = (
        "import shmps, sys; assert 'sklearn' not in sys.modules; print(shmps.LogisticRegression(workers=3))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "LogisticRegression(workers=3)\n"


# --- its tools ---

X, Y = problem()


def quick(**params):
    return LogisticRegression(epochs=2, **params)


def same(one, other):
    return one.coef_.tobytes() == other.coef_.tobytes() and one.intercept_ == other.intercept_


def test_a_clone_has_copies_of_the_parameters_and_nothing_that_was_learned():
    model = quick(class_weight={1: 2.0}, callbacks=[EarlyStopping(3)]).fit(X, Y)
    clone = base.clone(model)
    assert not hasattr(clone, "coef_") and clone.callbacks[0] is not model.callbacks[0]
    assert same(clone.fit(X, Y), model)


def test_a_pickle_predicts_the_same():
    model = quick(early_stopping=True).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.history_ == model.history_


@pytest.fixture
def workers_of_joblib_end():
    yield
    loky.get_reusable_executor().shutdown(wait=True)


@pytest.mark.usefixtures("workers_of_joblib_end")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_grid_search_on_two_cores_finds_what_it_finds_on_one(backend, tmp_path):
    pipe = pipeline.make_pipeline(preprocessing.StandardScaler(), quick())
    grid = {"logisticregression__l2": [1.0, 1e-4], "logisticregression__updater": ["sgd", "adagrad"]}
    alone = selection.GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, Y)
    with joblib.parallel_config(backend=backend, temp_folder=tmp_path):
        found = selection.GridSearchCV(pipe, grid, cv=2, error_score="raise", n_jobs=2).fit(X, Y)
    scores = [search.cv_results_["mean_test_score"].tolist() for search in (alone, found)]
    assert scores[0] == scores[1] and found.best_params_ == alone.best_params_
    assert same(found.best_estimator_[-1], alone.best_estimator_[-1])


def test_a_daemonic_worker_is_told_what_to_use_instead():
    with joblib.parallel_backend("multiprocessing"), pytest.raises(UsageError, match="loky"):
        selection.cross_val_score(quick(), X, Y, cv=2, n_jobs=2, error_score="raise")


def test_it_can_be_calibrated_with_weights_of_the_rows():
    weights = np.where(Y == 1, 3.0, 1.0)
    plain, weighted = (
        calibration.CalibratedClassifierCV(quick(), cv=2).fit(X, Y, sample_weight=each)
        for each in (None, weights)
    )
    assert weighted.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.05


def test_weights_are_routed_where_they_are_asked_for():
    weights = np.where(Y == 1, 3.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = quick().set_fit_request(sample_weight=True)
        routed = pipeline.make_pipeline(preprocessing.MaxAbsScaler(), base.clone(asked))
        routed.fit(X, Y, sample_weight=weights)
        scaled = preprocessing.MaxAbsScaler().fit_transform(X)
        assert same(routed[-1], quick().fit(scaled, Y, sample_weight=weights))
        unasked = pipeline.make_pipeline(preprocessing.MaxAbsScaler(), quick())
        with pytest.raises(ValueError, match="sample_weight"):
            unasked.fit(X, Y, sample_weight=weights)
