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
from shmps.linear.settings import Settings
from shmps.sklearn.labels import known_codes
from shmps.sklearn.weights import row_weights

_MOST_NAMES = 5  # of each kind, in an error


def matrix_of(X: Any, name: str = "X") -> scipy.sparse.csr_matrix:
    """Return X (rows, features) as CSR with finite float64 values. Raises DataError if X is anything else."""
    given = X
    if not scipy.sparse.issparse(X):
        X = dense_of(X, name)
    if not X.shape:
        raise DataError(
            f"{name} must be a matrix (rows, features), dense, sparse or a table, got {type(given).__name__}"
        )
    if len(X.shape) != 2:
        raise DataError(
            f"{name} must be a matrix (rows, features), got shape {X.shape}. Reshape your data: "
            f"reshape(-1, 1) if it is one feature, reshape(1, -1) if it is one row"
        )
    if X.dtype.kind == "c":
        raise DataError(f"{name} must have real values. Complex data not supported, got {X.dtype}")
    for count, what in zip(X.shape, ("sample(s)", "feature(s)"), strict=True):
        if not count:
            raise DataError(f"{name}: 0 {what} (shape={X.shape}) while a minimum of 1 is required.")
    X = to_csr(X, name)
    if not is_finite(X):
        first = int(X.indices[np.flatnonzero(~np.isfinite(X.data))[0]])
        raise DataError(
            f"values of {name} must be finite, got nan or inf (NaN, infinity) in the column "
            f"{column_name(given, first)}; drop or impute them"
        )
    return X


def opened_again(
    X: Any, y: Any, sample_weight: Any, features: int, origin: Dialect, labelled: bool = True
) -> tuple[Any, Any, Any]:
    """Return X, y and the rows' weights unchanged; if X is a path, read them from there.

    The rows are read as the training rows were (`origin`), with the same number of `features`. Non-zeros of
    other features are dropped with a warning. labelled: whether the rows must have labels.
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
    """Raise DataError if the names of X's features, or their order, differ from those that `fit` saw.

    Warn if only one of the two has names.
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
    """Return the message for features with other names, in scikit-learn's words."""
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
    """Return the rows to evaluate on from (X, y), (X, y, weights) or a path.

    Raises DataError for labels or columns that training did not have, UsageError for anything else.
    """
    if isinstance(eval_set, str | os.PathLike):
        eval_set = eval_set, None
    if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
        raise UsageError(f"eval_set must be (X, y), (X, y, sample_weight) or a path, got {eval_set!r:.80}")
    own = eval_set[2] if len(eval_set) == 3 else None
    X, y, weights = opened_again(eval_set[0], eval_set[1], own, features, origin)
    check_names(X, names)
    X = matrix_of(X, "eval_set: X")
    if X.shape[1] != features:
        raise DataError(f"eval_set must have the {features} features of X, got {X.shape[1]}")
    codes = known_codes(y, X.shape[0], classes, "eval_set")
    return rows_of(X, codes, None if weights is None else row_weights(weights, X.shape[0]))


def split(rows: Rows, settings: Settings) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows to validate on, for early stopping."""
    if settings.memory is not None:
        raise UsageError(
            "{early_stopping} copies the rows it trains on, got {memory.given} too; pass an eval_set",
            early_stopping=True,
            memory=settings.memory,
        )
    chosen = held_out(rows.labels, rows.importance, settings.validation_fraction, settings.random_state)
    return rows.taken(np.flatnonzero(~chosen)), rows.taken(np.flatnonzero(chosen))


def held_out(codes: np.ndarray, importance: np.ndarray | None, fraction: float, seed: int) -> np.ndarray:
    """Choose the rows to validate on, (rows,) bool: `fraction` of each class, drawn by `seed`.

    Only rows with an `importance` (rows,) above 0 are drawn; None: all rows. Raises DataError if a class is
    left without a row to train on, or if there is no row to validate on.
    """
    random = np.random.default_rng([2, seed])  # 0 and 1 are the streams of the minibatches
    chosen = np.zeros(len(codes), bool)
    for code in np.unique(codes):
        has = codes == code if importance is None else (codes == code) & (importance > 0)
        own = random.permutation(np.flatnonzero(has))
        count = round(fraction * len(own))
        if count == len(own):
            raise DataError(
                f"each class must keep a row to train on, got a class of {len(own)} and "
                f"validation_fraction={fraction:g}; lower it"
            )
        chosen[own[:count]] = True
    if not chosen.any():
        raise DataError(
            f"there must be a row to validate on, got none of {len(codes)} with "
            f"validation_fraction={fraction:g}; raise it, or leave early_stopping out"
        )
    return chosen
