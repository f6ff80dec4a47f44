"""No index reaches beyond its matrix: every door looks, in memory and on the disk."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from shmps import LogisticRegression
from shmps.errors import DataError

ROWS, FEATURES = 60, 12
FAR = 2**31 - 1


def matrix(seed=0):
    X = scipy.sparse.random(ROWS, FEATURES, density=0.4, format="csr", random_state=seed)
    return X, np.where(np.arange(ROWS) % 2, 1.0, -1.0)


@pytest.fixture(scope="module")
def trained():
    return LogisticRegression(workers=1, epochs=1).fit(*matrix())


def put(name, place, value):
    """Changes one entry after scipy has looked."""

    def change(X):
        array = getattr(X, name).copy()
        array[place] = value
        setattr(X, name, array)

    return change


def data_cut_short(X):
    X.data = X.data[:-1]


BROKEN: dict[str, tuple[str, Any]] = {
    "the intercept's index": ("csr", put("indices", 5, FEATURES)),
    "a far index": ("csr", put("indices", 5, FAR)),
    "a negative index": ("csr", put("indices", 5, -1)),
    "pointers that fall": ("csr", put("indptr", 3, 0)),
    "pointers that start late": ("csr", put("indptr", 0, 1)),
    "pointers beyond the end": ("csr", put("indptr", -1, 10_000)),
    "fewer values than indices": ("csr", data_cut_short),
    "a row of csc": ("csc", put("indices", 5, FAR)),
    "a column of csc": ("csc", put("indptr", 3, 10_000)),
    "a block's index": ("bsr", put("indices", 1, FAR)),
    "a row of coo": ("coo", put("row", 5, ROWS)),
    "a column of coo": ("coo", put("col", 5, -1)),
    "a column of lil": ("lil", lambda X: X.rows[3].__setitem__(0, FEATURES)),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_index_outside_of_x_is_refused_at_every_door(broken, trained):
    kind, change = BROKEN[broken]
    X, y = matrix()
    X = X.asformat(kind)
    change(X)
    model = trained.model()
    doors = {
        "fit": lambda: LogisticRegression(workers=1).fit(X, y),
        "eval_set": lambda: LogisticRegression(workers=1).fit(*matrix(), eval_set=(X, y)),
        "partial_fit": lambda: LogisticRegression(workers=1).partial_fit(X, y, classes=[-1, 1]),
        "predict": lambda: trained.predict(X),
        "score": lambda: trained.score(X, y),
        "a model": lambda: model.predict_proba(X),
    }
    for door in doors.values():
        with pytest.raises(DataError, match=r"X(\.\w+)? must "):
            door()


def test_an_entry_outside_is_named():
    X, y = matrix()
    X.indices[7] = FEATURES
    with pytest.raises(DataError, match=r"^X.indices must be from 0 to 11, got 12 in entry 7 \(from 0\)$"):
        LogisticRegression(workers=1).fit(X, y)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_what_lies_within_is_taken(index, trained):
    X, _ = matrix()
    expected = trained.decision_function(X)
    for kind in ("csr", "csc", "bsr", "coo", "lil", "dok", "dia"):
        other = X.asformat(kind)
        for name in {"indices", "indptr"} & vars(other).keys():
            setattr(other, name, getattr(other, name).astype(index))
        np.testing.assert_allclose(trained.decision_function(other), expected)
    spare = X.copy()  # room behind the last entry is nobody's
    spare.indices, spare.data = np.append(X.indices, index(FAR)), np.append(X.data, 1.0)
    np.testing.assert_array_equal(trained.decision_function(spare), expected)
