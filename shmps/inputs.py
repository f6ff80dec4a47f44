"""What people hand to the estimator, checked: X, y, weights of rows and classes, what to hold out.

The words in quotes below are those by which scikit-learn's checks know an error.
"""

import numbers
import warnings
from typing import Any

import numpy as np
import scipy.sparse

from shmps.conventions import known_to_sklearn
from shmps.data import Rows, classes_of, is_finite, opened, rows_of, signs, to_csr
from shmps.errors import DataError, NotNumbers, UsageError


def matrix_of(X: Any, name: str = "X") -> scipy.sparse.csr_matrix:
    """X (rows, features) as CSR with float64 values, all finite. Raises DataError if it is not that."""
    if not hasattr(X, "shape"):
        X = np.asarray(X)
    if len(X.shape) != 2:
        raise DataError(
            f"{name} is a matrix (rows, features), found shape {X.shape}. Reshape your data: reshape(-1, 1) "
            f"if it is one feature, reshape(1, -1) if it is one row"
        )
    if getattr(X, "dtype", np.dtype(object)).kind == "c":
        raise DataError(f"{name} has real values. Complex data not supported, found {X.dtype}")
    for count, what in zip(X.shape, ("sample(s)", "feature(s)"), strict=True):
        if not count:
            raise DataError(f"{name}: 0 {what} (shape={X.shape}) while a minimum of 1 is required.")
    try:
        X = to_csr(X)
    except DataError as error:
        if isinstance(error.__cause__, TypeError):
            raise NotNumbers(str(error)) from error.__cause__
        raise
    if not is_finite(X):
        raise DataError(f"values of {name} are finite, found nan or inf (NaN, infinity); drop or impute them")
    return X


def labels_of(y: Any, rows: int, name: str = "y") -> np.ndarray:
    """y (rows,) as an array. Raises DataError unless it has one label per row."""
    if y is None:
        raise DataError(
            "LogisticRegression requires y to be passed, but the target y is None; a matrix needs labels, "
            "only the path of a data file brings its own"
        )
    y = np.asanyarray(y)  # mapped labels stay what they are
    if y.shape == (rows, 1) and rows > 1:
        warnings.warn(
            f"A column-vector {name} was passed when a 1d array was expected; pass {name}.ravel()",
            known_to_sklearn(UserWarning, "DataConversionWarning"),
            stacklevel=4,
        )
        y = y[:, 0]
    if y.shape != (rows,):
        raise DataError(f"{name} has one label per row: {rows} rows, found shape {y.shape}")
    return y


def known_labels(y: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    """-1.0 and +1.0 (rows,) for the first and second of `classes` (2,); DataError for another label."""
    strange = [label for label in classes_of(y) if label not in classes.tolist()]
    if strange:
        raise DataError(f"{name} has the labels of y, {classes.tolist()}, found {strange}")
    return signs(y, classes[1])


def two_of(classes: Any) -> list[Any]:
    """What the first call of `partial_fit` names, sorted. Raises UsageError unless there are two."""
    found = [] if classes is None else np.unique(classes).tolist()
    if len(found) != 2:
        raise UsageError(f"the first call of partial_fit names two classes, found classes={classes!r:.80}")
    return found


def importance_of(
    sample_weight: Any, class_weight: Any, labels: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """What each row's loss is multiplied by, (rows,): its own weight times its class's; None: all by 1.

    labels (rows,): -1 and +1. Raises DataError for weights that are negative, not finite, or leave a class
    that has rows without weight; UsageError for a `class_weight` that is none.
    """
    weights = None if sample_weight is None else _row_weights(sample_weight, len(labels))
    if class_weight is not None:
        own = np.ones(len(labels)) if weights is None else weights
        totals = np.array([own[labels < 0].sum(), own[labels > 0].sum()])
        factors = _class_weights(class_weight, totals, classes)
        weights = own * np.where(labels > 0, factors[1], factors[0])
    if weights is None:
        return None
    for label, sign in zip(classes.tolist(), (-1.0, 1.0), strict=True):
        if (labels == sign).any() and not weights[labels == sign].any():
            raise DataError(f"each class has rows of weight above zero, found none of class {label!r}")
    return weights


def _row_weights(sample_weight: Any, rows: int) -> np.ndarray:
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty((0, 0))
    if weights.ndim == 0:
        weights = np.full(rows, weights)
    if weights.shape != (rows,):
        raise DataError(f"sample_weight has one number per row: {rows}, found shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("sample_weight is finite and not negative in every row, found a row where it is not")
    if not weights.any():
        raise DataError("sample_weight is above zero in some row, found zero weight in all")
    return weights


def _class_weights(class_weight: Any, totals: np.ndarray, classes: np.ndarray) -> list[float]:
    """Of both classes; `totals` (2,): the sums of their rows' weights."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        return (totals.sum() / (2 * np.where(totals > 0, totals, 1.0))).tolist()
    known = classes.tolist()
    if not isinstance(class_weight, dict) or not all(label in known for label in class_weight):
        raise UsageError(
            f"class_weight is 'balanced' or a dict of weights by label {known}; found {class_weight!r:.80}"
        )
    weights = [class_weight.get(label, 1.0) for label in known]
    if not all(isinstance(weight, numbers.Real) and 0 <= float(weight) < np.inf for weight in weights):
        raise UsageError(f"class_weight has finite numbers from 0 up, found {class_weight!r:.80}")
    return [float(weight) for weight in weights]


def relative(rows: Rows) -> Rows:
    """The same with a mean importance of 1: the mean loss over the rows is then the weighted mean."""
    if rows.importance is None:
        return rows
    return rows._replace(importance=rows.importance * (rows.num_rows / rows.importance.sum()))


def evaluated(X: Any, y: Any, classes: np.ndarray, features: int) -> Rows:
    """Rows to evaluate on. Raises DataError for labels or columns that training did not have."""
    X, y = opened(X, y)
    X = matrix_of(X, "eval_set: X")
    if X.shape[1] != features:
        raise DataError(f"eval_set has the {features} features of X, found {X.shape[1]}")
    return rows_of(X, known_labels(labels_of(y, X.shape[0], "eval_set: y"), classes, "eval_set"))


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which rows to validate on, (rows,) bool: `fraction` of each class, drawn by `seed`.

    Raises DataError if that leaves a class without a row to train on, or no row to validate on.
    """
    random = np.random.default_rng([2, seed])  # 0 and 1: the minibatches' streams
    chosen = np.zeros(len(labels), bool)
    for sign in (-1.0, 1.0):
        own = random.permutation(np.flatnonzero(labels == sign))
        count = round(fraction * len(own))
        if count == len(own):
            raise DataError(
                f"each class has a row to train on, found {len(own)} and validation_fraction={fraction:g}; "
                f"lower it"
            )
        chosen[own[:count]] = True
    if not chosen.any():
        raise DataError(
            f"there is a row to validate on, found none of {len(labels)}, validation_fraction={fraction:g}; "
            f"raise it, or leave early_stopping out"
        )
    return chosen


def _numbers(name: str, values: Any, count: int) -> np.ndarray:
    """Weights (count,) to start from; UsageError if they are not."""
    try:
        given = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        given = np.empty(0)
    if len(given) != count or not np.isfinite(given).all():
        raise UsageError(f"{name} is {count} finite numbers, found {values!r:.80}")
    return given


def initial(coef_init: Any, intercept_init: Any, features: int, intercept: bool) -> np.ndarray:
    """Weights to start from, the intercept's last if there is one; zero where None is given.

    Raises UsageError if they do not fit.
    """
    start = np.zeros(features + intercept)
    if coef_init is not None:
        start[:features] = _numbers("coef_init", coef_init, features)
    if intercept_init is not None:
        if not intercept:
            raise UsageError("an intercept_init needs fit_intercept=True, found False; leave it out")
        start[features:] = _numbers("intercept_init", intercept_init, 1)
    return start
