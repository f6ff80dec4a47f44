"""scikit-learn's own checks of an estimator, and its tools around ours."""

import contextlib
import gc
import importlib.util
import pickle
import re
import subprocess
import sys
import unittest
import warnings

import numpy as np
import pytest
from problems import problem

from shmps import LogisticRegression, LogisticRegressionCV
from shmps.callbacks import EarlyStopping
from shmps.errors import NotConverged, UsageError

# The tests import scikit-learn when they run: see `conftest.LARGE`.
if importlib.util.find_spec("sklearn") is None:
    pytest.skip("scikit-learn is not installed", allow_module_level=True)

# The default estimator and LogisticRegressionCV take every check. The other solvers, penalties and updaters
# take the checks of what was learned, and of whether there is a `partial_fit`. Some cannot hold:
# - weight_equivalence asks two ways to one objective to agree in eight digits of each weight. A minibatch
#   cannot know that a row counts twice, and with L1 the weights agree to half the digits of the objective.
# - class_weight_cl gives a class 1e7 times the weight of the others: plain gradient steps are too slow.
# dist-lr applies the push that comes last: with one worker there is one order.
STEPS = {"solver": "minibatch", "iterations": 30, "batch_size": 0, "l2": 1e-5}
LEARNED = "train|_weight|idempotent|invariance|partial_fit|score_takes|after_fitting|proba|data_not_an"
NOT_SAME = f"^(?!.*weight_equivalence).*({LEARNED})"
SLOW = f"^(?!.*class_weight_cl).*({LEARNED})"
ESTIMATORS = [
    (LogisticRegression(), ""),
    (LogisticRegressionCV(Cs=3, cv=3), ""),
    (LogisticRegression(solver="lbfgs", workers=1), LEARNED),
    (LogisticRegression(multi_class="ovr"), LEARNED),
    (LogisticRegression(l1=1e-3), NOT_SAME),
    (LogisticRegression(C=1.0, l1_ratio=0.5), NOT_SAME),
    (LogisticRegression(solver="minibatch"), NOT_SAME),
    (LogisticRegression(learning_rate=1.0, **STEPS), LEARNED),
    (LogisticRegression(workers=1, learning_rate=1.0, updater="ftrl", **STEPS), LEARNED),
    (LogisticRegression(workers=1, updater="sgd", **STEPS), SLOW),
    (LogisticRegression(workers=1, updater="dist-lr", **STEPS), SLOW),
]


@pytest.mark.filterwarnings("ignore::shmps.errors.UnstableRate")
@pytest.mark.parametrize(("estimator", "those"), ESTIMATORS, ids=str)
def test_scikit_learns_checks_pass(estimator, those):
    from sklearn.utils.estimator_checks import estimator_checks_generator

    with warnings.catch_warnings(action="ignore"):  # that it does not inherit from BaseEstimator
        checks = list(estimator_checks_generator(estimator))
    names = []
    for clone, check in checks:
        name = f"{check.func.__name__}{check.keywords or ''}"
        if re.search(those, check.func.__name__):
            with contextlib.suppress(unittest.SkipTest):  # for want of another package
                try:
                    check(clone)
                except Exception as error:
                    error.add_note(f"in {name} of {estimator}")
                    raise
                names.append(name)
    assert len(names) > 10


def test_without_the_rows_of_before_lbfgs_has_no_partial_fit():
    assert not hasattr(LogisticRegression(solver="lbfgs"), "partial_fit")
    assert hasattr(LogisticRegression(), "partial_fit")
    assert "one epoch" in LogisticRegression.partial_fit.__doc__


def test_scikit_learns_check_of_the_names_of_columns_passes():
    pytest.importorskip("pandas")
    from sklearn.utils import estimator_checks as checks

    checks.check_dataframe_column_names_consistency("LogisticRegression", quick(learning_rate=1.0))


def test_who_silences_scikit_learns_convergence_warnings_silences_ours():
    from sklearn.exceptions import ConvergenceWarning

    with pytest.warns(ConvergenceWarning, match="raise iterations") as told:
        LogisticRegression(iterations=1).fit(X, Y)
    [warning] = (each.message for each in told if isinstance(each.message, NotConverged))
    assert isinstance(warning, ConvergenceWarning) and warning.parameters["iterations"] == 1


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
    from sklearn import base

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
    from joblib.externals import loky

    loky.get_reusable_executor().shutdown(wait=True)
    gc.collect()  # the semaphores are in a cycle of references


@pytest.mark.usefixtures("workers_of_joblib_end")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_grid_search_on_two_cores_finds_what_it_finds_on_one(backend, tmp_path):
    import joblib
    from sklearn import model_selection as selection
    from sklearn import pipeline, preprocessing

    pipe = pipeline.make_pipeline(preprocessing.StandardScaler(), quick())
    grid = {"logisticregression__l2": [1.0, 1e-4], "logisticregression__updater": ["sgd", "adagrad"]}
    alone = selection.GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, Y)
    with joblib.parallel_config(backend=backend, temp_folder=tmp_path):
        found = selection.GridSearchCV(pipe, grid, cv=2, error_score="raise", n_jobs=2).fit(X, Y)
    scores = [search.cv_results_["mean_test_score"].tolist() for search in (alone, found)]
    assert scores[0] == scores[1] and found.best_params_ == alone.best_params_
    assert same(found.best_estimator_[-1], alone.best_estimator_[-1])


def test_a_daemonic_worker_is_told_what_to_use_instead():
    import joblib
    from sklearn import model_selection as selection

    with joblib.parallel_backend("multiprocessing"), pytest.raises(UsageError, match="loky"):
        selection.cross_val_score(quick(), X, Y, cv=2, n_jobs=2, error_score="raise")


def test_it_can_be_bagged_though_that_gives_rows_no_weight():
    from sklearn import ensemble

    bag = ensemble.BaggingClassifier(LogisticRegression(), n_estimators=3, random_state=0).fit(X, Y)
    assert bag.score(X, Y) > 0.7 and bag.predict_log_proba(X).shape == (len(X), 2)


def test_a_fold_may_lack_a_class_that_has_a_weight():
    from sklearn import model_selection as selection

    labels = np.where(np.arange(len(Y)) == 3, 2, Y)
    model = quick(class_weight={0: 1.0, 1: 2.0, 2: 9.0})
    with pytest.warns(UserWarning, match=r"did not have, \[2\]"):
        scores = selection.cross_val_score(model, X, labels, cv=selection.KFold(2), error_score="raise")
    assert (scores > 0.5).all()


def test_it_can_be_calibrated_with_weights_of_the_rows():
    from sklearn import calibration

    weights = np.where(Y == 1, 3.0, 1.0)
    plain, weighted = (
        calibration.CalibratedClassifierCV(quick(), cv=2).fit(X, Y, sample_weight=each)
        for each in (None, weights)
    )
    assert weighted.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.05


def test_weights_are_routed_where_they_are_asked_for():
    import sklearn
    from sklearn import base, pipeline, preprocessing

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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_iter": 100}, "takes no max_iter: max_iter is called iterations or epochs here"),
        ({"n_jobs": 2}, "n_jobs is called workers here"),
        ({"penalty": "l1"}, "C and l1_ratio, or l1 and l2, give the penalty here; an infinite C is none"),
        ({"dual": True, "eta0": 1}, "takes no dual, eta0: there is no dual form here; leave it out; eta0 is"),
        ({"power_t": 0.5}, "schedule='1/sqrt(t)' is its value 0.5 here, schedule='1/t' is 1"),
        ({"epoch": 3}, "takes no epoch: epochs is near"),
        ({"frobnicate": 3}, "takes no frobnicate: the parameters are workers, servers, "),
    ],
    ids=str,
)
def test_a_parameter_of_another_program_is_told_as_it_is_here(given, told):
    with pytest.raises(TypeError, match=re.escape(told)):
        LogisticRegression(**given)
    with pytest.raises(UsageError, match="LogisticRegression takes no "):
        LogisticRegression().set_params(**given)


@pytest.mark.parametrize("solver", ["liblinear", "saga", "newton-cg"])
def test_a_solver_of_another_program_is_told_those_that_are_here(solver):
    from sklearn.base import clone

    model = clone(LogisticRegression(solver=solver))  # as scikit-learn wants it, `fit` complains
    with pytest.raises(UsageError, match=f"solver must be one of auto, lbfgs, minibatch, got '{solver}'"):
        model.fit([[1.0], [2.0]], [0, 1])


def test_a_notebook_shows_the_parameters_and_the_last_training(monkeypatch):
    model = LogisticRegression(C=2.0, class_weight={"<b>": 1.0})
    shown = model._repr_html_()
    assert (
        "<code>LogisticRegression(C=2.0, class_weight={&#x27;&lt;b&gt;&#x27;: 1.0})</code>, not fitted"
        in shown
    )
    assert '<th scope="row">early_stopping</th><td>None</td>' in shown
    model = LogisticRegression().fit(X, Y)
    assert "fitted" in model._repr_html_() and model.result_._repr_html_() in model._repr_html_()
    assert repr(model.result_) == model.result_.table() and "log-loss" in repr(model.result_)
    assert not repr(model.result_).startswith("data")  # which only files have


@pytest.mark.parametrize("fitted", [False, True])
def test_the_diagram_of_a_pipeline_has_the_estimator(fitted):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=2.0))
    if fitted:
        pipeline.fit(X, Y)
    assert "LogisticRegression(C=2.0)" in pipeline._repr_html_()
