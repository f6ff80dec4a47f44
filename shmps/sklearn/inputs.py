"""Input validation of the estimator: X, y, weights of rows and classes, rows to hold out.

Messages keep the phrases that scikit-learn's `check_estimator` looks for.
"""

import numbers
import os
from collections.abc import Set
from typing import Any

import numpy as np
import scipy.sparse

from shmps.data.dialect import Dialect
from shmps.data.mapped import MappedLabels
from shmps.data.numeric import column_name, dense_of, floats_of
from shmps.data.rows import (
    Rows,
    as_training,
    classes_of,
    codes_of,
    is_finite,
    matched,
    names_of,
    opened,
    rows_of,
    to_csr,
)
from shmps.errors import DataError, OutOfSpace, UsageError, warn
from shmps.models.model import array_of, plain_labels
from shmps.sklearn.conventions import known_to_sklearn
from shmps.system.memory import available_memory

_MOST_NAMES = 5  # of each kind, in an error
_COPIES = 4  # of all weights, at least, in this process


def matrix_of(X: Any, name: str = "X") -> scipy.sparse.csr_matrix:
    """X (rows, features) as CSR with float64 values, all finite. Raises DataError if it is not that."""
    given = X
    if not scipy.sparse.issparse(X):
        X = dense_of(X, name)
    if len(X.shape) != 2:
        raise DataError(
            f"{name} is a matrix (rows, features), found shape {X.shape}. Reshape your data: reshape(-1, 1) "
            f"if it is one feature, reshape(1, -1) if it is one row"
        )
    if X.dtype.kind == "c":
        raise DataError(f"{name} has real values. Complex data not supported, found {X.dtype}")
    for count, what in zip(X.shape, ("sample(s)", "feature(s)"), strict=True):
        if not count:
            raise DataError(f"{name}: 0 {what} (shape={X.shape}) while a minimum of 1 is required.")
    X = to_csr(X, name)
    if not is_finite(X):
        first = int(X.indices[np.flatnonzero(~np.isfinite(X.data))[0]])
        raise DataError(
            f"values of {name} are finite, found nan or inf (NaN, infinity) in the column "
            f"{column_name(given, first)}; drop or impute them"
        )
    return X


def opened_again(
    X: Any, y: Any, sample_weight: Any, features: int, origin: Dialect, labelled: bool = True
) -> tuple[Any, Any, Any]:
    """Return X, y and the rows' weights unchanged; if X is a path, read them from there.

    The rows are read as the training rows were (`origin`), with the same number of `features`: non-zeros of
    further features are dropped with a warning. labelled: whether the rows must have labels.
    """
    if not isinstance(X, str | os.PathLike):
        return X, y, sample_weight
    rows, y, weights = opened(X, y, sample_weight, as_training(X, origin), labelled)
    rows, dropped = matched(rows, origin, features)
    if dropped:
        warn(
            f"{dropped} non-zeros of {os.fspath(X)} lie beyond the {features} features of training and were "
            f"dropped",
        )
    return rows, y, weights


def check_names(X: Any, known: np.ndarray | None) -> None:
    """Raises DataError if X's features have other names than those that `fit` saw, or another order.

    Warns if only the one or the other has names.
    """
    names = names_of(X)
    if names is None and known is not None:
        said = "X does not have valid feature names, but LogisticRegression was fitted with feature names"
        warn(said)
    elif names is not None and known is None:
        said = "X has feature names, but LogisticRegression was fitted without feature names"
        warn(said)
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
    y = _array_of_labels(y, name)
    if y.shape == (rows, 1) and rows > 1:
        warn(
            f"A column-vector {name} was passed when a 1d array was expected; pass {name}.ravel()",
            known_to_sklearn(UserWarning, "DataConversionWarning"),
        )
        y = y[:, 0]
    if y.shape != (rows,):
        raise DataError(f"{name} has one label per row: {rows} rows, found shape {y.shape}")
    return y


def _array_of_labels(y: Any, name: str) -> np.ndarray:
    if isinstance(y, MappedLabels):
        return y
    if np.ma.is_masked(y):
        raise DataError(f"{name}: labels name classes, found masked ones; drop the rows without a label")
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise DataError(f"{name} has one label per row, found a list of lists: {error}") from error
    if array.dtype.kind == "U" and not hasattr(y, "dtype"):
        return np.asarray(y, dtype=object)  # else NumPy makes "1" of 1 beside a string
    return array


def known_labels(y: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    """The codes (rows,) of labels among `classes` (see `data.codes_of`); DataError for another label."""
    known = classes.tolist()
    among = set(known)  # there may be many
    strange = [label for label in classes_of(y) if label not in among]
    if strange:
        raise DataError(f"{name} has labels of training, {listed(known)}, found {listed(strange)}")
    return codes_of(y, known)


def scored_labels(y: Any, rows: int, classes: np.ndarray) -> np.ndarray:
    """y (rows,), the labels that predictions are compared with.

    Warns of labels that training did not have: a fold may lack a class. Raises DataError for missing labels,
    and for text where `classes` are numbers, or the reverse.
    """
    y, known = labels_of(y, rows), classes.tolist()
    among = set(known)
    strange = [label for label in classes_of(y) if label not in among]
    if any(label != label for label in strange):
        raise DataError("y: labels name classes, found nan; drop the rows without a label")
    if not all(_may_be_among(label, known) for label in strange):
        raise DataError(f"y has labels like those of training, {listed(known)}, found {listed(strange)}")
    if strange:
        warn(
            f"y has labels that training did not have, {listed(strange)}; these rows count as wrong",
        )
    return y


def _may_be_among(label: Any, known: list[Any]) -> bool:
    """Whether it is text, or a number, as some of the known labels are."""
    if isinstance(label, str):
        return any(isinstance(each, str) for each in known)
    return isinstance(label, numbers.Real) and any(isinstance(each, numbers.Real) for each in known)


def listed(labels: list[Any]) -> str:
    """All, or where there are many of them, the first."""
    return str(labels) if len(labels) <= 10 else f"[{', '.join(map(repr, labels[:10]))}, ...]"


def named_classes(classes: Any) -> np.ndarray:
    """What the first call of `partial_fit` names, sorted. Raises UsageError unless there are two or more."""
    classes = list(classes) if isinstance(classes, Set) else classes
    found = np.array([] if classes is None else classes_of(_array_of_labels(classes, "classes")))
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
    weights = None if sample_weight is None else row_weights(sample_weight, len(codes))
    if weights is None and class_weight is None:
        return None
    numbers = (codes > 0 if len(classes) == 2 else codes).astype(np.intp)
    weights = np.ones(len(codes)) if weights is None else weights
    if class_weight is not None:
        totals = np.bincount(numbers, weights, len(classes))
        weights = weights * np.array(_class_weights(class_weight, totals, classes))[numbers]
    _must_have_a_sum(weights)
    without = np.bincount(numbers, weights, len(classes)) == 0
    without &= np.bincount(numbers, minlength=len(classes)) > 0
    if without.any():
        label = classes.tolist()[int(without.argmax())]
        raise DataError(f"each class has rows of weight above zero, found none of class {label!r}")
    return weights


def row_weights(sample_weight: Any, rows: int) -> np.ndarray:
    try:
        weights = floats_of(sample_weight)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"sample_weight has one number per row: {rows}, found no numbers: {error}") from error
    if weights.ndim == 0:
        weights = np.full(rows, weights)
    if weights.shape != (rows,):
        raise DataError(f"sample_weight has one number per row: {rows}, found shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("sample_weight is finite and not negative in every row, found a row where it is not")
    if not weights.any():
        raise DataError("sample_weight is above zero in some row, found zero weight in all")
    _must_have_a_sum(weights)
    return weights


def _must_have_a_sum(weights: np.ndarray) -> None:
    """Raises DataError where the sum is beyond float64: all that is computed is divided by it."""
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not np.isfinite(total):
        raise DataError(
            f"sample_weight times class_weight must have a finite sum, got weights up to {weights.max():g}; "
            f"divide them by their largest"
        )


def _class_weights(class_weight: Any, totals: np.ndarray, classes: np.ndarray) -> list[float]:
    """Of each class; `totals` (classes,): the sums of their rows' weights."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        return (totals.sum() / (len(totals) * np.where(totals > 0, totals, 1.0))).tolist()
    known = classes.tolist()
    if not isinstance(class_weight, dict) or not all(_may_be_among(label, known) for label in class_weight):
        raise UsageError(
            f"class_weight is 'balanced' or a dict of weights by label {listed(known)}; "
            f"found {class_weight!r:.80}"
        )
    if class_weight and not any(label in known for label in class_weight):
        warn(
            f"class_weight changes nothing: it names none of the labels {listed(known)}, only "
            f"{listed(list(class_weight))}",
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


def evaluated(
    eval_set: Any, classes: np.ndarray, features: int, names: np.ndarray | None, origin: Dialect
) -> Rows:
    """Rows to evaluate on: (X, y), (X, y, weights) or a path. Raises DataError for labels or columns that
    training did not have, UsageError for something else.
    """
    if isinstance(eval_set, str | os.PathLike):
        eval_set = eval_set, None
    if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
        raise UsageError(f"eval_set is (X, y), (X, y, sample_weight) or a path, found {eval_set!r:.80}")
    own = eval_set[2] if len(eval_set) == 3 else None
    X, y, weights = opened_again(eval_set[0], eval_set[1], own, features, origin)
    check_names(X, names)
    X = matrix_of(X, "eval_set: X")
    if X.shape[1] != features:
        raise DataError(f"eval_set has the {features} features of X, found {X.shape[1]}")
    codes = known_labels(labels_of(y, X.shape[0], "eval_set: y"), classes, "eval_set")
    return rows_of(X, codes, None if weights is None else row_weights(weights, X.shape[0]))


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
    needed, available = 8 * _COPIES * problems * (features + 1), available_memory()
    if needed > available:
        classes_too = f" of {problems:,} classes" if problems > 1 else ""
        raise OutOfSpace(
            f"weights must fit in memory: those of {features:,} features{classes_too} need at least "
            f"{needed / 2**20:,.0f} MiB, found {available / 2**20:,.0f} MiB available; correct the largest "
            f"index if it is wrong, number the features without gaps, or hash them (hash_bits)"
        )
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


def warm(
    coef: Any, known: np.ndarray | None, names: np.ndarray | None, features: int, classes: int
) -> np.ndarray:
    """Return the coef_ of the fit before for the features of this one, which may be in another order.

    known, names: the features' names in the fit before and in this one, or None. Raises UsageError if the
    shape differs, DataError if the names do.
    """
    shape = 1 if classes == 2 else classes, features
    if np.shape(coef) != shape:
        raise UsageError(
            f"warm_start=True needs the features and classes of the fit before, whose coef_ has the shape "
            f"{np.shape(coef)}, found {features} features and {classes} classes; set warm_start=False"
        )
    if known is None or names is None or known.tolist() == names.tolist():
        return coef
    places = {name: place for place, name in enumerate(known.tolist())}
    if places.keys() != set(names):
        raise DataError(_other_names(set(names), set(known)))
    if len(places) < len(known):
        raise DataError(
            "warm_start=True matches the features by their names, which must differ; give the columns in the "
            "order of the fit before, or rename them"
        )
    return coef[:, [places[name] for name in names]]


def trained(coef: np.ndarray, intercept: np.ndarray | None) -> np.ndarray:
    """The weights `coef` (problems, features) as they are trained: a row for every key, (n,) of one problem
    and (n, problems) of more; the intercept's (problems,) last, if there is one.
    """
    rows = coef.T if intercept is None else np.vstack([coef.T, intercept])
    return rows[:, 0] if len(coef) == 1 else np.ascontiguousarray(rows)


def _numbers(name: str, values: Any, count: int) -> np.ndarray:
    """Weights (count,) to start from; UsageError if they are not."""
    try:
        given = floats_of(values).ravel()
    except (TypeError, ValueError, OverflowError):
        given = np.empty(0)
    if len(given) != count or not np.isfinite(given).all():
        raise UsageError(f"{name} is {count} finite numbers, found {values!r:.80}")
    return given
