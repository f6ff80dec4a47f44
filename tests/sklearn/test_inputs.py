"""What `fit` checks its neighbours check too: all input ends in the right result or in a named error."""

import functools
import math
import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from shmps import LogisticRegression, mapped
from shmps.errors import DataError, NotNumbers, OutOfSpace, UsageError

RANDOM = np.random.default_rng(0)
X = np.round(RANDOM.normal(size=(60, 4)), 1) * (RANDOM.random((60, 4)) < 0.7)
Y = (X[:, 0] + 0.3 * RANDOM.normal(size=60) > 0).astype(int)
ONES = np.ones(60)


def model(**params):
    return LogisticRegression(**{"solver": "minibatch", "workers": 1, "iterations": 5} | params)


@pytest.fixture(scope="module")
def fitted():
    return model().fit(X, Y)


def with_duplicates():
    """X as COO, every entry in two halves."""
    whole = sp.coo_matrix(X)
    places = np.tile(whole.row, 2), np.tile(whole.col, 2)
    return sp.coo_matrix((np.tile(whole.data / 2, 2), places), X.shape)


def read_only():
    X_ = sp.csr_matrix(X)
    for array in (X_.data, X_.indices, X_.indptr):
        array.flags.writeable = False
    return X_


def big_endian():
    X_ = sp.csr_matrix(X)
    X_.data = X_.data.astype(">f8")
    return X_


SAME = {
    **{f"{kind}_{suffix}": functools.partial(getattr(sp, f"{kind}_{suffix}"), X)
       for kind in ("bsr", "coo", "csc", "dia", "dok", "lil") for suffix in ("matrix", "array")},
    "duplicates": with_duplicates,
    "read-only": read_only,
    "big-endian": big_endian,
    "dense big-endian": lambda: X.astype(">f8"),
    "strided": lambda: np.repeat(X, 2, axis=1)[:, ::2],
    "objects": lambda: X.astype(object),
    "text": lambda: X.astype(str),
    "list": X.tolist,
    "long double": lambda: X.astype(np.longdouble),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_every_form_of_a_matrix_is_predicted_alike(fitted, kind):
    np.testing.assert_array_equal(fitted.decision_function(SAME[kind]()), fitted.decision_function(X))


@pytest.mark.parametrize("kind", ["duplicates", "read-only", "big-endian", "objects", "dok_array"])
def test_every_form_of_a_matrix_is_learned_alike(fitted, kind):
    assert model().fit(SAME[kind](), Y).coef_.tobytes() == fitted.coef_.tobytes()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float16, np.float32])
def test_numbers_of_other_types_are_those_numbers(fitted, dtype):
    typed = (10 * X).astype(dtype)
    np.testing.assert_array_equal(fitted.predict(typed), fitted.predict(typed.astype(np.float64)))
    if dtype is not np.float16:  # which scipy does not have
        np.testing.assert_array_equal(fitted.predict(sp.csr_array(typed)), fitted.predict(typed))


def object_with(value):
    mixed = X.astype(object)
    mixed[3, 2] = value
    return mixed


WRONG_X = {
    "nan": (np.where(X > 1, math.nan, X), DataError, "in the column 2"),
    "sparse inf": (sp.csc_array(np.where(X > 1, math.inf, X)), DataError, "nan or inf"),
    "None": (object_with(None), DataError, "nan or inf .* in the column 2"),
    "masked": (np.ma.masked_array(X, mask=X > 1), DataError, "nan or inf"),
    "empty text": (object_with(""), NotNumbers, "got '' in the column 2"),
    "word": (object_with("red"), NotNumbers, "got 'red' in the column 2"),
    "list in a cell": (object_with([1]), NotNumbers, r"got \[1\] in the column 2"),
    "huge": (object_with(10**400), NotNumbers, "in the column 2"),
    "complex": (X + 0j, DataError, "Complex data"),
    "complex in a cell": (object_with(1j), NotNumbers, "got 1j in the column 2"),
    "dates": (X.astype("M8[s]"), NotNumbers, "datetime64"),
    "ragged": ([[1.0, 2.0], [3.0]], DataError, "differ in length"),
    "no rows": (X[:0], DataError, r"0 sample\(s\)"),
    "no columns": (X[:, :0], DataError, r"0 feature\(s\)"),
    "one dimension": (X[0], DataError, "Reshape your data"),
    "sparse of one dimension": (sp.coo_array(X[0]), DataError, "Reshape your data"),
    "three dimensions": (X[None], DataError, "Reshape your data"),
    "nothing": (None, DataError, "got NoneType"),
    "bytes": (b"path", DataError, "got bytes"),
    "lists by name": ({"a": [1.0, 2.0]}, DataError, "a table, got dict"),
    "no file": ("no such file", DataError, "No such file"),
}
DOORS = {
    "fit": lambda X_, y: model().fit(X_, y),
    "first part": lambda X_, y: model().partial_fit(X_, y, classes=[0, 1]),
    "eval_set": lambda X_, y: model().fit(X, Y, eval_set=(X_, y)),
}
LATER = {
    "part": lambda fitted, X_, y: fitted.partial_fit(X_, y),
    "score": lambda fitted, X_, y: fitted.score(X_, y),
    "predict": lambda fitted, X_, y: fitted.predict(X_),
    "predict_proba": lambda fitted, X_, y: fitted.predict_proba(X_),
    "predict_log_proba": lambda fitted, X_, y: fitted.predict_log_proba(X_),
    "decision_function": lambda fitted, X_, y: fitted.decision_function(X_),
}


@pytest.mark.parametrize("wrong", WRONG_X)
def test_a_matrix_that_is_none_is_refused_at_every_door(fitted, wrong):
    X_, error, said = WRONG_X[wrong]
    y = None if isinstance(X_, str) else Y[: len(X_)] if isinstance(X_, np.ndarray) else Y
    for door in DOORS.values():
        with pytest.raises(error, match=said):
            door(X_, y)
    before = vars(fitted).copy()
    for door in LATER.values():
        with pytest.raises(error, match=said):
            door(fitted, X_, y)
    assert vars(fitted) == before


WRONG_Y = {
    "none": (None, "y is None"),
    "one": ([1], r"shape \(1,\)"),
    "short": (Y[1:], r"shape \(59,\)"),
    "a number": (1, "got int"),
    "sparse": (sp.csr_array(Y[:, None]), "got csr_array"),
    "one-hot": (np.eye(2)[Y], r"shape \(60, 2\)"),
    "ragged": ([[0, 1], [1]] * 30, "one label per row"),
    "two kinds": (np.array([1, "a"] * 30, object), "got the types int, str"),
    "two kinds in a list": ([1, "a"] * 30, "got the types int, str"),
    "text": (Y.astype(str), "got .*'0', '1'"),
    "nan": (np.where(Y == 1, math.nan, 0), "nan"),
    "masked": (np.ma.masked_array(Y, mask=Y == 1), "masked"),
}


@pytest.mark.parametrize("wrong", WRONG_Y)
def test_labels_that_are_none_are_refused_at_every_door(fitted, wrong):
    y, said = WRONG_Y[wrong]
    doors = [DOORS["first part"], DOORS["eval_set"]] + ([] if wrong == "text" else [DOORS["fit"]])
    for door in doors:
        with pytest.raises(DataError, match=said):
            door(X, y)
    for name in ("score", "part"):
        with pytest.raises(DataError, match=said):
            LATER[name](fitted, X, y)


def test_labels_may_not_be_infinite():
    with pytest.raises(DataError, match="inf"):
        model().fit(X, np.where(Y == 1, math.inf, 0))


def test_a_list_of_numbers_and_words_is_not_made_words_of():
    with pytest.raises(DataError, match="int, str"):
        model().partial_fit(X, Y, classes=[0, "1"])


def test_classes_of_a_first_part_may_be_a_set():
    assert model().partial_fit(X, Y, classes={1, 0}).classes_.tolist() == [0, 1]


def test_a_column_of_labels_is_scored_as_it_is_trained_on(fitted):
    with pytest.warns(UserWarning, match="column-vector"):
        assert fitted.score(X, Y[:, None]) == fitted.score(X, Y)
    assert fitted.score(X, Y == 1) == fitted.score(X, Y.tolist()) == fitted.score(X, Y)


def test_labels_that_training_did_not_have_count_as_wrong_with_a_warning(fitted):
    right = (fitted.predict(X) == Y).sum()
    with pytest.warns(UserWarning, match=r"did not have, \[7\]"):
        assert fitted.score(np.vstack([X, X[:1]]), np.append(Y, 7)) == pytest.approx(right / 61)


WRONG_WEIGHTS = {
    "short": ONES[1:],
    "column": ONES[:, None],
    "negative": -ONES,
    "nan": math.nan * ONES,
    "zero": 0 * ONES,
    "masked": np.ma.masked_array(ONES, mask=ONES > 0),
    "complex": 1j + ONES,
    "dates": ONES.astype("M8[s]"),
    "words": ["a"] * 60,
    "sparse": sp.csr_array(ONES[:, None]),
}


@pytest.mark.parametrize("wrong", WRONG_WEIGHTS)
def test_weights_that_are_none_are_refused_at_every_door(fitted, wrong):
    for door in (model().fit, functools.partial(model().partial_fit, classes=[0, 1]), fitted.score):
        with pytest.raises(DataError, match="sample_weight"):
            door(X, Y, sample_weight=WRONG_WEIGHTS[wrong])


def test_weights_are_the_third_argument_and_the_rest_has_names(fitted):
    weights = np.where(Y == 1, 3.0, 1.0)
    assert (
        model().fit(X, Y, weights).coef_.tobytes() == model().fit(X, Y, sample_weight=weights).coef_.tobytes()
    )
    assert fitted.score(X, Y, weights) == fitted.score(X, Y, sample_weight=3 * weights)
    with pytest.raises(TypeError, match="positional"):
        model().fit(X, Y, None, (X, Y))


@pytest.mark.parametrize(
    "wrong", [(X,), (X, Y, ONES, Y), [(X, Y)], {"X": X}, X[:2]], ids=lambda each: type(each).__name__
)
def test_an_eval_set_is_a_pair_or_has_weights_besides(wrong):
    with pytest.raises(UsageError, match=r"eval_set must be \(X, y\)"):
        model().fit(X, Y, eval_set=wrong)


class Watches:
    def on_evaluation(self, progress):
        pass


class Broken:
    on_evaluation = 3


@pytest.mark.parametrize(
    "callbacks", [Watches(), [Watches], [Broken()], (each for each in [Watches()]), "abc", 3, 0], ids=repr
)
def test_callbacks_are_a_list_of_objects_with_methods_of_a_callback(callbacks):
    with pytest.raises(UsageError, match="callbacks"):
        model(callbacks=callbacks).fit(X, Y)


def test_more_features_than_memory_holds_is_said_with_numbers():
    wide = sp.csr_matrix((ONES, (np.arange(60), np.arange(60) * 2**27)), shape=(60, 2**34))
    for solver in ("minibatch", "lbfgs"):
        with pytest.raises(OutOfSpace, match=r"17,179,869,184 features need at least [\d,]+ MiB.* hash"):
            model(solver=solver).fit(wide, Y)


# --- tables of pandas ---


def table(**columns):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(dict(zip("abcd", X.T, strict=True)) | columns)


def nullable(values, dtype):
    return pytest.importorskip("pandas").array(values, dtype=dtype)


@pytest.mark.parametrize(
    ("values", "dtype"), [([1, None], "Int64"), ([True, None], "boolean"), ([1.5, None], object)], ids=str
)
def test_a_missing_value_beside_floats_is_missing_and_its_column_named(fitted, values, dtype):
    missing = table(c=nullable(values * 30, dtype))
    for door in (lambda: model().fit(missing, Y), lambda: fitted.predict(missing)):
        with pytest.raises(DataError, match=r"nan or inf .* in the column 'c'"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model has no names
            door()


@pytest.mark.parametrize("dtype", [object, "category", "str"])
def test_a_column_of_text_is_named(dtype):
    words = pytest.importorskip("pandas").Series(["red", "blue"] * 30).astype(dtype)
    with pytest.raises(NotNumbers, match=r"got 'red' in the column 'c'.*encode"):
        model().fit(table(c=words), Y)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "bool"])
def test_nullable_numbers_without_gaps_are_numbers(dtype):
    ones = nullable([0, 1] * 30, dtype)
    learned = [model().fit(table(c=column), Y).coef_ for column in (ones, np.tile([0.0, 1.0], 30))]
    assert learned[0].tobytes() == learned[1].tobytes()


LABELS = {
    "table": lambda pandas: pandas.DataFrame({"y": Y}),
    "series with another index": lambda pandas: pandas.Series(Y, index=range(100, 160)),
    "categories": lambda pandas: pandas.Categorical(np.array(["no", "yes"])[Y]),
    "strings": lambda pandas: pandas.Series(np.array(["no", "yes"])[Y], dtype="string"),
    "Int64": lambda pandas: pandas.Series(Y, dtype="Int64"),
    "boolean": lambda pandas: pandas.Series(Y == 1, dtype="boolean"),
    "matrix": lambda pandas: np.asmatrix(Y).T,
    "big-endian": lambda pandas: Y.astype(">i2"),
}


@pytest.mark.filterwarnings("ignore:A column-vector", "ignore:the matrix subclass")
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_form_are_learned_and_scored(fitted, kind):
    y = LABELS[kind](pytest.importorskip("pandas"))
    found = model().fit(X, y)
    assert found.coef_.tobytes() == fitted.coef_.tobytes()
    assert found.score(X, y) == fitted.score(X, Y)


@pytest.mark.parametrize("dtype", ["Int64", "string", "category"])
def test_a_missing_label_is_refused_in_training_and_in_scoring(fitted, dtype):
    y = pytest.importorskip("pandas").Series([0, None, 1] * 20).astype(dtype)
    for door in (lambda: model().fit(X, y), lambda: fitted.score(X, y)):
        with pytest.raises(DataError, match=r"without a label|labels of|labels like"):
            door()


# --- paths ---


def svmlight(path, X_, y):
    rows = (
        " ".join([str(label), *(f"{at + 1}:{row[at]}" for at in np.flatnonzero(row))])
        for row, label in zip(X_, y, strict=True)
    )
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_path_is_predicted_scored_and_gone_on_with_as_it_is_trained_on(tmp_path):
    path = svmlight(tmp_path / "rows", X, Y)
    mapped.convert(path, tmp_path / "rows.shmps")
    found = model().fit(path)
    for rows in (path, str(path), tmp_path / "rows.shmps"):
        assert found.predict(rows).tolist() == found.predict(X).tolist()
        assert found.predict_proba(rows).tolist() == found.predict_proba(X).tolist()
        assert found.decision_function(rows).tolist() == found.decision_function(X).tolist()
        assert found.score(rows) == found.score(X, Y)
        with pytest.raises(UsageError, match="y must be None"):
            found.score(rows, Y)
    parts = model().partial_fit(path, classes=[0.0, 1.0]).partial_fit(path)
    arrays = model().partial_fit(X, Y, classes=[0, 1]).partial_fit(X, Y)
    assert parts.coef_.tobytes() == arrays.coef_.tobytes()


def test_a_path_with_fewer_features_is_padded_and_what_lies_beyond_is_dropped_with_a_warning(tmp_path):
    train, fewer = svmlight(tmp_path / "train", X, Y), svmlight(tmp_path / "fewer", X[:, :3], Y)
    more = svmlight(tmp_path / "more", np.hstack([X, ONES[:, None]]), Y)
    padded = np.where(np.arange(4) < 3, X, 0)
    found = model(test_interval=2).fit(train, eval_set=fewer)
    assert found.result_.metrics.accuracy == found.score(fewer) == found.score(padded, Y)
    with pytest.warns(UserWarning, match="60 non-zeros of .*more lie beyond the 4 features"):
        assert found.predict(more).tolist() == found.predict(X).tolist()


def test_warnings_name_the_line_that_called(tmp_path, fitted):
    more = svmlight(tmp_path / "more", np.hstack([X, ONES[:, None]]), Y)
    rare = (np.arange(60) < 3).astype(int)
    calls = [
        lambda: LogisticRegression(iterations=1).fit(X, Y),  # NotConverged
        lambda: model(learning_rate=100.0, fit_intercept=False).fit(X, rare),  # WorseThanConstant
        lambda: model(class_weight={5: 2.0}).fit(X, Y),
        lambda: model().partial_fit(X, Y[:, None], classes=[0, 1]),
        lambda: fitted.score(more),
        lambda: fitted.predict(more),
        lambda: fitted.score(X, Y + 1),
    ]
    for call in calls:
        with pytest.warns(UserWarning) as told:
            call()
        assert {each.filename for each in told} == {__file__}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_csv_is_read_as_it_was_in_training_and_needs_no_labels_to_be_predicted(tmp_path):
    pytest.importorskip("pyarrow.csv")
    lines = ["label,a,b,c,d", *(",".join(map(str, [y, *row])) for y, row in zip(Y, X, strict=True))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    (tmp_path / "bare.csv").write_text("\n".join(line.split(",", 1)[1] for line in lines))
    found = model().fit(tmp_path / "rows.csv", eval_set=tmp_path / "rows.csv")
    assert found.score(tmp_path / "rows.csv") == found.result_.metrics.accuracy == found.score(X, Y)
    assert found.predict(tmp_path / "bare.csv").tolist() == found.predict(X).tolist()
    with pytest.raises(DataError, match="labels must be in the column 'label'"):
        found.score(tmp_path / "bare.csv")


# --- probabilities ---


@pytest.mark.parametrize("classes", [2, 3])
def test_logarithms_of_probabilities_are_exact_where_the_probabilities_round_to_zero(classes):
    found = model().fit(X, Y if classes == 2 else np.arange(60) % 3)
    np.testing.assert_allclose(found.predict_log_proba(X), np.log(found.predict_proba(X)), rtol=1e-12)
    found.coef_ = 1e4 * found.coef_
    far = found.predict_log_proba(X)
    assert np.isfinite(far).all() and far.min() < -800 and (far <= 0).all()


@pytest.mark.parametrize(
    ("size", "said"), [(1e308, "a finite sum, got weights up to 1e\\+308"), (5e-324, "a larger")]
)
@pytest.mark.parametrize(
    "use",
    [
        lambda X, y, weights: LogisticRegression(workers=1).fit(X, y, weights),
        lambda X, y, weights: LogisticRegression(workers=1).fit(X, y, eval_set=(X, y, weights)),
        lambda X, y, weights: LogisticRegression(workers=1).partial_fit(X, y, [0, 1], weights),
        lambda X, y, weights: LogisticRegression(workers=1).fit(X, y).score(X, y, weights),
        lambda X, y, weights: LogisticRegression(workers=1, class_weight={0: weights[0], 1: weights[1]}).fit(
            X, y
        ),
    ],
    ids=["fit", "eval_set", "partial_fit", "score", "class_weight"],
)
def test_weights_have_a_sum_that_can_be_divided_by(use, size, said):
    X, y = np.eye(4), np.array([0, 1, 0, 1])
    with pytest.raises(DataError, match=f"must have {said}"):
        use(X, y, np.full(4, size))


@pytest.mark.parametrize("kind", [sp.coo_matrix, sp.coo_array])
def test_counts_of_one_place_add_up_beyond_their_type(kind):
    halves = kind((np.full(4, 100, np.int8), ([0, 0, 1, 1], [0, 0, 1, 1])), (2, 2))
    whole = np.diag([200.0, 200.0])
    learned = [model().fit(each, [0, 1]).coef_.tolist() for each in (halves, whole)]
    assert learned[0] == learned[1]


def test_a_warm_start_does_not_guess_which_of_two_columns_with_one_name_is_which():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["a", "a", "b"])
    y = np.arange(20) % 2
    model = LogisticRegression(warm_start=True).fit(X, y).fit(X, y)
    for other in ["b", "a", "a"], ["a", "b", "b"]:
        with pytest.raises(DataError, match="the names must differ"):
            model.fit(X.set_axis(other, axis=1), y)
