"""Input validation of the estimator: X, names of columns, rows to evaluate on and to hold out.

Messages keep the phrases that scikit-learn's `check_estimator` looks for.
"""

import os
from typing import Any

import numpy as np
import scipy.sparse

from shmps.data.dialect import Dialect
from shmps.data.matching import matched, names_of
from shmps.data.numeric import column_name, dense_of
from shmps.data.reading import as_training, opened
from shmps.data.rows import Rows, is_finite, rows_of, to_csr
from shmps.errors import DataError, UsageError, warn
from shmps.sklearn.labels import known_labels, labels_of
from shmps.sklearn.weights import row_weights

_MOST_NAMES = 5  # of each kind, in an error


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
        raise DataError(other_names(set(names), set(known)))


def other_names(names: set[str], known: set[str]) -> str:
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
