"""What people hand to the estimator, checked: X, y, weights of rows and classes, what to hold out.

The words in quotes below are those by which scikit-learn's checks know an error.
"""

import numbers
import warnings
from typing import Any

import numpy as np
import scipy.sparse

from shmps.conventions import known_to_sklearn
from shmps.data import Rows, classes_of, codes_of, is_finite, opened, rows_of, to_csr
from shmps.errors import DataError, NotNumbers, UsageError
from shmps.models import array_of, plain_labels

_MOST_NAMES = 5  # of each kind, in an error


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
        X = to_csr(X, name)
    except DataError as error:
        if isinstance(error.__cause__, TypeError):
            raise NotNumbers(str(error)) from error.__cause__
        raise
    if not is_finite(X):
        raise DataError(f"values of {name} are finite, found nan or inf (NaN, infinity); drop or impute them")
    return X


def names_of(X: Any) -> np.ndarray | None:
    """The names of the features (features,), if X is a table whose `columns` are named by strings.

    Raises DataError if only some of them are.
    """
    names = np.asarray(getattr(X, "columns", ()), dtype=object)
    kinds = sorted({type(name).__name__ for name in names})
    if len(kinds) > 1 and "str" in kinds:
        raise DataError(
            f"columns of X are named by strings, all or none, found names of the types {kinds}; "
            f"X.columns.astype(str) are strings"
        )
    return names if kinds == ["str"] else None


def check_names(X: Any, known: np.ndarray | None) -> None:
    """Raises DataError if X's features have other names than those that `fit` saw, or another order.

    Warns if only the one or the other has names.
    """
    names = names_of(X)
    if names is None and known is not None:
        said = "X does not have valid feature names, but LogisticRegression was fitted with feature names"
        warnings.warn(said, stacklevel=4)
    elif names is not None and known is None:
        said = "X has feature names, but LogisticRegression was fitted without feature names"
        warnings.warn(said, stacklevel=4)
    elif names is not None and known is not None and names.tolist() != known.tolist():
        raise DataError(_other_names(set(names), set(known)))


def _other_names(names: set[str], known: set[str]) -> str:
    lines = ["The feature names should match those that were passed during fit."]
    for what, those in (
        ("Feature names unseen at fit time:", names - known),
        ("Feature names seen at fit time, yet now missing:", known - names),
    ):
        if those:
            first = [f"- {name}" for name in sorted(those)[:_MOST_NAMES]]
            lines += [what, *first, *["- ..."][: len(those) > _MOST_NAMES]]
    if names == known:
        lines.append("Feature names must be in the same order as they were in fit.")
    return "\n".join(lines) + "\n"


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
    """The codes (rows,) of labels among `classes` (see `data.codes_of`); DataError for another label."""
    known = classes.tolist()
    among = set(known)  # there may be many
    strange = [label for label in classes_of(y) if label not in among]
    if strange:
        raise DataError(f"{name} has labels of training, {listed(known)}, found {listed(strange)}")
    return codes_of(y, known)


def listed(labels: list[Any]) -> str:
    """All, or where there are many of them, the first."""
    return str(labels) if len(labels) <= 10 else f"[{', '.join(map(repr, labels[:10]))}, ...]"


def named_classes(classes: Any) -> np.ndarray:
    """What the first call of `partial_fit` names, sorted. Raises UsageError unless there are two or more."""
    found = np.array([] if classes is None else classes_of(np.asarray(classes)))
    if len(found) < 2:
        raise UsageError(
            f"the first call of partial_fit names two classes or more, found classes={classes!r:.80}"
        )
    return array_of(plain_labels(found))


def importance_of(
    sample_weight: Any, class_weight: Any, codes: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """What each row's loss is multiplied by, (rows,): its own weight times its class's; None: all by 1.

    codes (rows,): see `data.codes_of`. Raises DataError for weights that are negative, not finite, or leave
    a class that has rows without weight; UsageError for a `class_weight` that is none.
    """
    weights = None if sample_weight is None else _row_weights(sample_weight, len(codes))
    if weights is None and class_weight is None:
        return None
    numbers = (codes > 0 if len(classes) == 2 else codes).astype(np.intp)
    weights = np.ones(len(codes)) if weights is None else weights
    if class_weight is not None:
        totals = np.bincount(numbers, weights, len(classes))
        weights = weights * np.array(_class_weights(class_weight, totals, classes))[numbers]
    without = np.bincount(numbers, weights, len(classes)) == 0
    without &= np.bincount(numbers, minlength=len(classes)) > 0
    if without.any():
        label = classes.tolist()[int(without.argmax())]
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
    """Of each class; `totals` (classes,): the sums of their rows' weights."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        return (totals.sum() / (len(totals) * np.where(totals > 0, totals, 1.0))).tolist()
    known = classes.tolist()
    if not isinstance(class_weight, dict) or not all(label in known for label in class_weight):
        raise UsageError(
            f"class_weight is 'balanced' or a dict of weights by label {listed(known)}; "
            f"found {class_weight!r:.80}"
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


def evaluated(X: Any, y: Any, classes: np.ndarray, features: int, names: np.ndarray | None) -> Rows:
    """Rows to evaluate on. Raises DataError for labels or columns that training did not have."""
    X, y = opened(X, y)
    check_names(X, names)
    X = matrix_of(X, "eval_set: X")
    if X.shape[1] != features:
        raise DataError(f"eval_set has the {features} features of X, found {X.shape[1]}")
    return rows_of(X, known_labels(labels_of(y, X.shape[0], "eval_set: y"), classes, "eval_set"))


def held_out(codes: np.ndarray, importance: np.ndarray | None, fraction: float, seed: int) -> np.ndarray:
    """Which rows to validate on, (rows,) bool: `fraction` of each class, drawn by `seed`.

    Of those alone that have some `importance` (rows,); None: all of them.

    Raises DataError if that leaves a class without a row to train on, or no row to validate on.
    """
    random = np.random.default_rng([2, seed])  # 0 and 1: the minibatches' streams
    chosen = np.zeros(len(codes), bool)
    for code in np.unique(codes):
        has = codes == code if importance is None else (codes == code) & (importance > 0)
        own = random.permutation(np.flatnonzero(has))
        count = round(fraction * len(own))
        if count == len(own):
            raise DataError(
                f"each class has a row to train on, found {len(own)} and validation_fraction={fraction:g}; "
                f"lower it"
            )
        chosen[own[:count]] = True
    if not chosen.any():
        raise DataError(
            f"there is a row to validate on, found none of {len(codes)}, validation_fraction={fraction:g}; "
            f"raise it, or leave early_stopping out"
        )
    return chosen


def initial(coef_init: Any, intercept_init: Any, features: int, intercept: bool, classes: int) -> np.ndarray:
    """Weights to start from, as they are trained (see `trained`); zero where None is given.

    Raises UsageError if they do not fit.
    """
    problems = 1 if classes == 2 else classes
    if coef_init is None and intercept_init is None:  # zeros that nobody writes to take no memory
        return np.zeros((features + intercept, problems) if problems > 1 else features + intercept)
    coef, own = np.zeros((problems, features)), np.zeros(problems)
    if coef_init is not None:
        coef = _numbers("coef_init", coef_init, coef.size).reshape(coef.shape)
        if problems > 1 and np.shape(coef_init) != coef.shape:
            raise UsageError(f"coef_init has the shape {coef.shape}, found {np.shape(coef_init)}")
    if intercept_init is not None:
        if not intercept:
            raise UsageError("an intercept_init needs fit_intercept=True, found False; leave it out")
        own = _numbers("intercept_init", intercept_init, problems)
    return trained(coef, own if intercept else None)


def trained(coef: np.ndarray, intercept: np.ndarray | None) -> np.ndarray:
    """The weights `coef` (problems, features) as they are trained: a row for every key, (n,) of one problem
    and (n, problems) of more; the intercept's (problems,) last, if there is one.
    """
    rows = coef.T if intercept is None else np.vstack([coef.T, intercept])
    return rows[:, 0] if len(coef) == 1 else np.ascontiguousarray(rows)


def _numbers(name: str, values: Any, count: int) -> np.ndarray:
    """Weights (count,) to start from; UsageError if they are not."""
    try:
        given = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        given = np.empty(0)
    if len(given) != count or not np.isfinite(given).all():
        raise UsageError(f"{name} is {count} finite numbers, found {values!r:.80}")
    return given
