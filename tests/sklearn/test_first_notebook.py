"""The first notebook of a scikit-learn user, section by section, with no line that is there for us alone.

A warning is an error: the user would stop at it.
"""

import importlib.util
import pickle

import numpy as np
import pytest

import shmps
from shmps import LogisticRegression

# The tests import scikit-learn when they run: see `conftest.LARGE`.
if importlib.util.find_spec("sklearn") is None or importlib.util.find_spec("pandas") is None:
    pytest.skip("scikit-learn or pandas is not installed", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("error")

SUBJECTS = {
    "harbour": "ship harbour anchor sail crew storm mast tide captain deck",
    "kitchen": "flour oven butter knife recipe salt onion stove bake spoon",
    "garden": "soil seed rose spade rain leaf beetle compost hedge bloom",
}


def sentences(count=240):
    """Return sentences of nine words, most of them about one subject, and the subjects."""
    random, subjects = np.random.default_rng(0), np.array(list(SUBJECTS))
    y = subjects[np.arange(count) % len(subjects)]
    common = ["the", "a", "of", "and", "in", "with", "old", "new", "small", "she", "he", "saw", "took"]
    return [
        " ".join(
            random.choice(SUBJECTS[subject].split() if random.random() < 0.4 else common) for _ in range(9)
        )
        for subject in y
    ], y


def passengers(count=600):
    """Return a table with numbers, categories and gaps, and whether each passenger came back."""
    import pandas as pd

    random = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "age": np.where(random.random(count) < 0.1, np.nan, random.normal(40, 12, count).round()),
            "fare": random.lognormal(3, 1, count).round(2),
            "port": random.choice(["Bari", "Split", "Kotor"], count),
            "cabin": random.choice(["A", "B", "C", "D"], count),
        }
    )
    margins = 0.5 * np.log(table["fare"]) - 1.5 + 1.5 * (table["port"] == "Bari") - (table["cabin"] == "D")
    return table, (random.random(count) < 1 / (1 + np.exp(-margins))).astype(int)


def test_iris():
    import pandas as pd
    from sklearn import linear_model
    from sklearn.datasets import load_iris
    from sklearn.metrics import classification_report, confusion_matrix, log_loss
    from sklearn.model_selection import cross_val_score, train_test_split

    X, y = load_iris(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = LogisticRegression().fit(X_train, y_train)
    assert model.score(X_test, y_test) > 0.94
    assert log_loss(y_test, model.predict_proba(X_test)) < 0.2
    assert "accuracy" in classification_report(y_test, model.predict(X_test))
    assert confusion_matrix(y_test, model.predict(X_test)).trace() >= 36
    weights = pd.DataFrame(model.coef_, index=model.classes_, columns=model.feature_names_in_)
    assert weights.shape == (3, 4) and weights.columns[0] == "sepal length (cm)"
    assert cross_val_score(LogisticRegression(), X, y, cv=5).mean() > 0.94
    theirs = linear_model.LogisticRegression(tol=1e-8, max_iter=10_000).fit(X_train, y_train)
    ours = LogisticRegression(C=1.0).fit(X_train, y_train)
    np.testing.assert_allclose(ours.predict_proba(X_test), theirs.predict_proba(X_test), atol=0.01)


def test_breast_cancer():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    assert LogisticRegression().fit(X_train, y_train).score(X_test, y_test) > 0.92
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(scaled, X, y, scoring="roc_auc").mean() > 0.98
    search = GridSearchCV(scaled, {"logisticregression__C": [0.01, 0.1, 1, 10, 100]}).fit(X_train, y_train)
    assert search.score(X_test, y_test) > 0.95 and search.best_params_["logisticregression__C"] < 100
    calibrated = CalibratedClassifierCV(scaled, cv=3).fit(X_train, y_train)
    assert roc_auc_score(y_test, calibrated.predict_proba(X_test)[:, 1]) > 0.98


def test_cross_validation_along_a_path():
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    if not hasattr(shmps, "LogisticRegressionCV"):
        pytest.skip("there is no LogisticRegressionCV yet")
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = shmps.LogisticRegressionCV(Cs=5, cv=3).fit(X, y)
    assert len(model.Cs_) == 5 and (np.diff(model.Cs_) > 0).all()
    assert np.ravel(model.C_)[0] in model.Cs_
    scores, paths = (
        each if isinstance(each, np.ndarray) else each[model.classes_[1]]
        for each in (model.scores_, model.coefs_paths_)
    )
    assert np.squeeze(scores).shape == (3, 5) and np.squeeze(paths).shape[:2] == (3, 5)
    assert model.coef_.shape == (1, 30) and model.score(X, y) > 0.97


def test_text():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    texts, subjects = sentences()
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, subjects)
    assert model.predict(["the captain left the harbour", "she took salt and flour"]).tolist() == [
        "harbour",
        "kitchen",
    ]
    assert cross_val_score(model, texts, subjects, cv=3).mean() > 0.9
    words, classifier = model[0].get_feature_names_out(), model[-1]
    strongest = words[classifier.coef_[list(classifier.classes_).index("garden")].argsort()[-5:]]
    assert set(strongest) <= set(SUBJECTS["garden"].split())


def test_one_hot():
    from sklearn.base import clone
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    X, y = passengers()
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "fare"]),
        (OneHotEncoder(handle_unknown="ignore"), ["port", "cabin"]),
    )
    model = make_pipeline(columns, LogisticRegression()).fit(X, y)
    assert cross_val_score(model, X, y).mean() > max(y.mean(), 1 - y.mean()) + 0.05
    weights = dict(zip(model[:-1].get_feature_names_out(), model[-1].coef_[0], strict=True))
    assert weights["onehotencoder__port_Bari"] > weights["onehotencoder__port_Split"]
    X_new = X[:3].assign(port="Hvar")
    assert clone(model).fit(X, y).predict(X_new).shape == (3,)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_an_imbalanced_set():
    from sklearn.datasets import make_classification
    from sklearn.metrics import average_precision_score, balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split

    X, y = make_classification(4000, weights=[0.98], class_sep=1.5, flip_y=0, random_state=0)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    plain, balanced = (
        LogisticRegression(class_weight=weight).fit(X_train, y_train) for weight in (None, "balanced")
    )
    recall = [balanced_accuracy_score(y_test, model.predict(X_test)) for model in (plain, balanced)]
    assert recall[1] > 0.85 and recall[1] > recall[0] - 0.02
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_predict(LogisticRegression(), X, y, cv=folds, method="decision_function")
    assert average_precision_score(y, scores) > 0.5
    weighted = LogisticRegression().fit(X_train, y_train, sample_weight=np.where(y_train == 1, 40.0, 1.0))
    assert weighted.predict(X_test).mean() > plain.predict(X_test).mean()


def test_what_a_cell_shows():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(class_weight="balanced")
    assert repr(model) == "LogisticRegression(class_weight='balanced')"
    pipeline = make_pipeline(StandardScaler(), model)
    assert "class_weight" in model._repr_html_() and "LogisticRegression" in pipeline._repr_html_()


def test_the_tools_around_it():
    from sklearn.datasets import load_wine
    from sklearn.ensemble import StackingClassifier, VotingClassifier
    from sklearn.feature_selection import RFE, SelectFromModel
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import learning_curve
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = LogisticRegression()
    assert SelectFromModel(model).fit(X, y).get_support().sum() < 13
    assert SelectFromModel(LogisticRegression(l1=0.05)).fit(X, y).get_support().sum() < 13
    assert RFE(model, n_features_to_select=4, step=3).fit(X, y).score(X, y) > 0.9
    assert OneVsRestClassifier(model).fit(X, y).score(X, y) > 0.97
    mixed = [("linear", model), ("tree", DecisionTreeClassifier(random_state=0))]
    assert VotingClassifier(mixed, voting="soft").fit(X, y).score(X, y) > 0.97
    assert StackingClassifier(mixed, LogisticRegression(), cv=3).fit(X, y).score(X, y) > 0.97
    assert learning_curve(model, X, y, cv=3, shuffle=True, random_state=0)[2].mean() > 0.9
    assert (
        permutation_importance(model.fit(X, y), X, y, n_repeats=2, random_state=0).importances_mean.max() > 0
    )
