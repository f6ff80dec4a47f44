"""LogisticRegressionCV: the fits of the folds, what is chosen by them, and what is learned in the end."""

import importlib.util
import warnings

import numpy as np
import pytest
from problems import problem
from scipy.sparse import csr_matrix

from shmps import LogisticRegression, LogisticRegressionCV
from shmps.errors import DataError, NotConverged, UsageError
from shmps.sklearn.folds import folds_of

CS = [0.01, 1.0, 100.0]
BINARY = problem()
CLASSES = BINARY[0], BINARY[1] + (BINARY[0][:, 0] > 0.3)
WEIGHTS = np.random.default_rng(1).uniform(0.2, 2.0, len(BINARY[1]))


def separate(X, y, train, C, weights=None, **given):
    """Return the model of one fold and penalty alone."""
    own = np.ones(len(y)) if weights is None else weights
    l2 = 1 / (C * own[train].sum())
    return LogisticRegression(l2=l2, tol=1e-12, iterations=1000, **given).fit(
        X[train], y[train], None if weights is None else weights[train]
    )


@pytest.mark.parametrize("nodes", [{}, {"workers": 3, "servers": 2}], ids=["in process", "on workers"])
@pytest.mark.parametrize(
    ("data", "given"),
    [
        (BINARY, {}),
        (BINARY, {"fit_intercept": False}),
        (CLASSES, {}),
        (CLASSES, {"multi_class": "ovr"}),
    ],
    ids=["binary", "without intercept", "softmax", "one against rest"],
)
def test_each_fit_is_that_of_a_training_on_the_rows_of_its_fold(data, given, nodes):
    X, y = data
    model = LogisticRegressionCV(Cs=CS, cv=4, tol=1e-12, iterations=1000, **given, **nodes).fit(X, y)
    classes, intercept = (3 if y.max() == 2 else 1), given.get("fit_intercept", True)
    assert model.coefs_paths_.shape == (4, 1, 3, classes, X.shape[1] + intercept)
    assert model.scores_.shape == model.n_iter_.shape == (4, 1, 3)
    for fold, (train, test) in enumerate(folds_of(4, X, y)):
        for place, C in enumerate(CS):
            alone, own = separate(X, y, train, C, **given), model.coefs_paths_[fold, 0, place]
            assert own[:, : X.shape[1]] == pytest.approx(alone.coef_, abs=2e-4)
            if intercept:
                assert own[:, -1] == pytest.approx(alone.intercept_, abs=2e-4)
            assert model.scores_[fold, 0, place] == pytest.approx(alone.score(X[test], y[test]), abs=0.021)


def test_rows_and_classes_have_weights_in_every_fold():
    X, y = CLASSES
    given = {"Cs": CS, "cv": 3, "tol": 1e-12, "iterations": 1000, "scoring": "neg_log_loss"}
    model = LogisticRegressionCV(class_weight={1: 3.0}, **given).fit(X, y, WEIGHTS)
    own = WEIGHTS * np.where(y == 1, 3.0, 1.0)
    for fold, (train, test) in enumerate(folds_of(3, X, y)):
        alone = separate(X, y, train, 1.0, own)
        assert model.coefs_paths_[fold, 0, 1][:, :-1] == pytest.approx(alone.coef_, abs=2e-4)
        logs = alone.predict_log_proba(X[test])[np.arange(len(test)), y[test]]
        assert model.scores_[fold, 0, 1] == pytest.approx(np.average(logs, weights=WEIGHTS[test]), abs=1e-4)


def test_the_penalty_that_scores_best_is_trained_on_all_rows():
    X, y = BINARY
    model = LogisticRegressionCV(Cs=CS[::-1], scoring="neg_log_loss").fit(X, y)
    best = model.scores_.mean(axis=(0, 1)).argmax()
    assert CS[::-1][best] == model.C_ and model.Cs_.tolist() == CS[::-1] and model.l1_ratio_ == 0
    final = LogisticRegression(l2=1 / (model.C_ * len(y))).fit(X, y)
    assert model.coef_ == pytest.approx(final.coef_, abs=1e-2)
    assert np.array_equal(model.predict(X), final.predict(X))
    assert model.model().settings["l2"] == pytest.approx(1 / (model.C_ * len(y)))


def test_of_equal_scores_the_strongest_penalty_is_chosen():
    X, y = BINARY
    assert LogisticRegressionCV(Cs=[10.0, 0.1, 1.0], scoring=lambda *_: 0.5).fit(X, y).C_ == 0.1


def test_without_refit_the_best_weights_of_the_folds_are_averaged():
    X, y = BINARY
    model = LogisticRegressionCV(Cs=CS, cv=3, refit=False, scoring="neg_log_loss").fit(X, y)
    best = model.scores_[:, 0].argmax(axis=1)
    assert pytest.approx(model.Cs_[best].mean()) == model.C_
    mean = np.mean([own[0, place, 0] for own, place in zip(model.coefs_paths_, best, strict=True)], axis=0)
    assert model.coef_[0].tolist() == mean[:-1].tolist() and model.intercept_[0] == mean[-1]
    assert model.score(csr_matrix(X), y) < 0 and model.model().settings == {"multi_class": "multinomial"}


def test_a_number_of_penalties_stands_for_scikit_learns():
    model = LogisticRegressionCV(Cs=4, cv=2).fit(*BINARY)
    assert model.Cs_ == pytest.approx([1e-4, 1e-4 * 10 ** (8 / 3), 1e-4 * 10 ** (16 / 3), 1e4])


def test_a_function_scores_the_rows_of_each_fold_with_their_weights():
    X, y = BINARY
    seen = []

    def scorer(estimator, X, y, sample_weight=None):
        seen.append((estimator.predict_proba(X).shape, len(y), sample_weight))
        return -float(len(seen))

    names = np.array(["no", "yes"])[y]
    model = LogisticRegressionCV(Cs=[1.0], cv=3, scoring=scorer).fit(X, names)
    assert seen == [((67, 2), 67, None)] * 3 and model.scores_.ravel().tolist() == [-1, -2, -3]
    assert model.score(X, names) == -4 and set(model.predict(X)) == {"no", "yes"}
    model.fit(X, names, WEIGHTS)
    assert seen[-1][2].tolist() == WEIGHTS[folds_of(3, X, names)[2][1]].tolist()


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_scorers_and_splitters_of_scikit_learn():
    from sklearn.model_selection import ShuffleSplit

    X, y = BINARY
    splitter = ShuffleSplit(4, random_state=0)
    names = "accuracy", "neg_log_loss", "roc_auc", "balanced_accuracy"
    models = [LogisticRegressionCV(Cs=CS, cv=splitter, scoring=name).fit(X, y) for name in names]
    assert all(model.scores_.shape == (4, 1, 3) for model in models)
    from sklearn.metrics import get_scorer

    for name, model in zip(names[:2], models, strict=False):
        assert model.score(X, y) == pytest.approx(get_scorer(name)(model, X, y))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Cs": 0}, "Cs must be an integer >= 1, or a list, each a finite number > 0, got 0"),
        ({"Cs": [1.0, -1.0]}, r"Cs must be .*, got \[1.0, -1.0\]"),
        ({"Cs": []}, "Cs must be"),
        ({"l1_ratios": [0.5, 1.5]}, "l1_ratios must be a list, each a finite number >= 0 and <= 1"),
        ({"refit": "yes"}, "refit must be True or False"),
        ({"cv": 1}, "cv must be an integer >= 2, got 1"),
        ({"scoring": "speed"}, "scoring must be accuracy, neg_log_loss, a name that scikit-learn knows"),
        ({"tol": 0}, "tol must be"),
    ],
)
def test_other_parameters_are_refused_before_the_estimator_changes(given, said):
    model = LogisticRegressionCV(**given)
    before = dict(vars(model))
    with pytest.raises(UsageError, match=said):
        model.fit(*BINARY)
    assert vars(model) == before


def test_an_error_leaves_what_was_learned():
    model = LogisticRegressionCV(Cs=CS, cv=2).fit(*BINARY)
    coef = model.coef_.copy()
    with pytest.raises(DataError, match="every fold must train on two classes"):
        model.set_params(cv=[([0, 1], [2])]).fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    assert np.array_equal(model.coef_, coef)


def test_fits_that_end_early_are_counted_in_one_warning():
    with pytest.warns(NotConverged, match="6 of 6 fits of the folds ended before .* tol=0.0001"):
        LogisticRegressionCV(Cs=CS, cv=2, iterations=1, refit=False).fit(*BINARY)
    with warnings.catch_warnings(action="error"):
        LogisticRegressionCV(Cs=CS, cv=2).fit(*BINARY)
