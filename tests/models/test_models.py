"""Models: the arguments that they take, and their predictions."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from shmps.errors import DataError, UsageError
from shmps.models.model import Model

SMALL = Model(np.array([0.5, -0.0, 1 / 3]), -0.1, (-1, 1), {"lambda1": 1e-4, "mode": "async"})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.array([0, 1], dtype=np.int8), (0, 1)),
        ((np.float32(-1), np.float32(1)), (-1.0, 1.0)),
        ((np.bool_(False), np.bool_(True)), (False, True)),
        (np.array(["ham", "spam"]), ("ham", "spam")),
    ],
)
def test_numpy_labels_become_python_ones(given, kept):
    labels = Model(np.zeros(1), 0.0, given, {}).labels
    assert [(type(label), label) for label in labels] == [(type(label), label) for label in kept]


def test_settings_are_a_copy_as_json_gives_them_back():
    given: dict[str, Any] = {"hosts": ("a", "b"), "rate": np.float32(0.5), "seed": np.int64(3), "list": []}
    settings = Model(np.zeros(1), 0.0, (0, 1), given).settings
    given["list"].append(1)
    assert settings == {"hosts": ["a", "b"], "rate": 0.5, "seed": 3, "list": []}


@pytest.mark.parametrize(
    ("change", "evidence"),
    [
        ({"coefficients": [[1.0]]}, r"\(1, 1\)"),
        ({"coefficients": 1.0}, r"\(\)"),
        ({"coefficients": ["x"]}, "numbers"),
        ({"intercept": None}, "None"),
        ({"intercept": "x"}, "'x'"),
        ({"labels": (0,)}, r"\(0,\)"),
        ({"labels": (0, 1, 2)}, "one for each label, got an array of shape"),
        ({"labels": (0, 1, 2), "coefficients": np.zeros((2, 1))}, r"\(2, 1\)"),
        ({"labels": (0, 1, 2), "coefficients": np.zeros((3, 1))}, "one for each label, got 0.0"),
        ({"labels": (0, 1, 0)}, r"\(0, 1, 0\)"),
        ({"labels": (1, 1)}, r"\(1, 1\)"),
        ({"labels": (1, True)}, r"\(1, True\)"),
        ({"labels": (0, math.nan)}, "nan"),
        ({"labels": (0, None)}, "None"),
        ({"labels": (b"a", b"b")}, "b'a'"),
        ({"labels": None}, "None"),
        ({"labels": "ab"}, "'ab'"),
        ({"settings": None}, "NoneType"),
        ({"settings": {"a": {1, 2}}}, "set"),
        ({"settings": {(1, 2): 3}}, "tuple"),
    ],
)
def test_a_model_that_breaks_a_rule_is_refused_with_the_evidence(change, evidence):
    with pytest.raises(UsageError, match=evidence):
        Model(**{"coefficients": np.zeros(1), "intercept": 0.0, "labels": (0, 1), "settings": {}} | change)


def test_settings_that_contain_themselves_are_refused():
    settings: dict[str, Any] = {}
    settings["self"] = settings
    with pytest.raises(UsageError, match="JSON"):
        Model(np.zeros(1), 0.0, (0, 1), settings)


def naive_margins(model, rows):
    return [
        sum(x * w for x, w in zip(row, model.coefficients, strict=True)) + model.intercept for row in rows
    ]


FORMS = {
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "csc_matrix": sp.csc_matrix,
    "csr float32": lambda rows: sp.csr_matrix(rows, dtype=np.float32),
    "dense": lambda rows: rows,
    "list": lambda rows: rows.tolist(),
    "int": lambda rows: rows.astype(np.int64),
    "object": lambda rows: rows.astype(object),
}


@pytest.mark.parametrize("form", FORMS)
def test_predictions_of_every_form_of_data_agree_with_one_row_at_a_time(form):
    rows = np.random.default_rng(0).integers(-2, 3, (50, 4)).astype(float)
    model = Model(np.array([0.5, -1.5, 0.25, 0.0]), -0.5, ("no", "yes"), {})
    X, margins = FORMS[form](rows), naive_margins(model, rows)
    assert 0.0 in margins  # a margin of exactly 0 is negative
    assert model.decision_function(X).tolist() == margins
    assert model.predict(X).tolist() == ["yes" if margin > 0 else "no" for margin in margins]
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (50, 2)
    np.testing.assert_allclose(probabilities[:, 1], [1 / (1 + math.exp(-m)) for m in margins], rtol=1e-14)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize("margin", [1e-9, 1.0, 40.0, 100.0, 700.0, 1e4, 1e300])
def test_small_probabilities_keep_their_digits_on_both_sides(margin):
    model = Model(np.ones(1), 0.0, (0, 1), {})
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise"):
        warnings.simplefilter("error")
        probabilities = model.predict_proba(np.array([[-margin], [margin]]))
    # exp of a negative number has full relative precision.
    small = math.exp(-margin) / (1 + math.exp(-margin))
    assert probabilities[0, 1] == probabilities[1, 0] == pytest.approx(small, rel=1e-14)
    assert probabilities[0, 0] == probabilities[1, 1] == pytest.approx(1 - small, rel=1e-14)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("make", [np.zeros, sp.csr_matrix])
def test_no_rows_and_one_row_are_data_too(rows, make):
    X = make((rows, 3))
    assert SMALL.decision_function(X).shape == SMALL.predict(X).shape == (rows,)
    assert SMALL.predict_proba(X).shape == (rows, 2)


@pytest.mark.parametrize("method", ["decision_function", "predict_proba", "predict"])
@pytest.mark.parametrize("make", [np.zeros, sp.csr_matrix, lambda shape: np.zeros(shape).tolist()])
@pytest.mark.parametrize("columns", [2, 4])
def test_another_number_of_columns_is_refused_with_both_numbers(method, make, columns):
    with pytest.raises(UsageError, match=f"model's 3 features, got {columns} columns"):
        getattr(SMALL, method)(make((5, columns)))


def test_a_vector_is_not_data():
    with pytest.raises(UsageError, match=r"shape \(3,\)"):
        SMALL.predict(np.zeros(3))


def test_a_model_does_not_change():
    with pytest.raises(AttributeError):
        SMALL.intercept = 1.0  # type: ignore[misc]


def test_predictions_agree_with_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    y = np.where(X[:, 0] + rng.normal(size=200) > 0, "yes", "no")
    theirs = linear.LogisticRegression().fit(X, y)
    mine = Model(theirs.coef_[0], theirs.intercept_[0], theirs.classes_, {})
    assert mine.predict(X).tolist() == theirs.predict(X).tolist()
    np.testing.assert_allclose(mine.decision_function(X), theirs.decision_function(X), rtol=1e-12)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)


@pytest.mark.parametrize(
    "X",
    [
        [[1.0, math.nan]],
        [[1.0, None]],
        [[1.0, "x"]],
        [[1.0], [1.0, 2.0]],
        [[1.0, 2j]],
        [[1.0, 10**400]],
        sp.csr_array([[1.0, math.inf]]),
        sp.csc_array([[1.0, 2j]]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_a_model_refuses_what_the_estimator_does(X, method):
    with pytest.raises(DataError):
        getattr(Model(np.array([1.0, -1.0]), 0.5, (0, 1)), method)(X)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", [np.array, np.asmatrix, sp.csr_matrix, sp.lil_array, sp.dok_matrix, list])
def test_a_model_predicts_the_same_for_every_kind_of_matrix(kind):
    rows = [[1.0, 2.0], [0.0, -3.0]]
    model = Model(np.array([1.0, -1.0]), 0.5, (0, 1))
    assert model.decision_function(kind(rows)).tolist() == [-0.5, 3.5]
