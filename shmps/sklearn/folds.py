"""The rows on which each fold of a cross-validation trains, and those on which it is scored."""

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from shmps.errors import DataError, UsageError, verbatim, warn

FOLDS = 5  # if `cv` is None


def folds_of(
    cv: Any, X: Any, y: np.ndarray, importance: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each fold the rows to train on and the rows to score, as increasing row numbers.

    cv: the number of folds, a splitter of scikit-learn, or pairs (train, test). y (rows,): the labels.
    importance (rows,): of the rows; None: 1. Raises UsageError for another `cv`, DataError if a fold cannot
    train.
    """
    if cv is None or isinstance(cv, numbers.Integral):
        folds = FOLDS if cv is None else int(cv)
        tested = stratified(y, folds)
        pairs: list[Any] = [(tested != fold, tested == fold) for fold in range(folds)]
    elif hasattr(cv, "split") and not isinstance(cv, str):
        pairs = _split(cv, X, y)
    elif isinstance(cv, Iterable) and not isinstance(cv, str):
        pairs = list(cv)
    else:
        raise UsageError(f"{{cv}} must be {_FORMS}, got {{cv.value!r:.80}}", cv=cv)
    found = [_numbered(pair, len(y), cv) for pair in pairs]
    if not found:
        raise UsageError("{cv} must have a fold or more, got none in {cv.value!r:.80}", cv=cv)
    for number, (train, test) in enumerate(found):
        if importance is not None and not importance[test].any():
            raise DataError(
                f"{{cv}}: every fold must score a row of weight above zero, got none in fold {number}; "
                f"shuffle the rows, or drop those without weight",
                cv=cv,
            )
        labels = np.unique(y[train if importance is None else train[importance[train] > 0]])
        if len(labels) < 2:
            raise DataError(
                f"{{cv}}: every fold must train on two classes or more, got {len(labels)} in fold {number} "
                f"({verbatim(labels.tolist())}); shuffle the rows, or use fewer folds",
                cv=cv,
            )
    return found


_FORMS = "an integer >= 2, a splitter, or pairs (train, test) of row numbers"


def stratified(y: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold that scores each row, (rows,): folds of equal size, with equal shares of each class.

    The folds are those of scikit-learn's StratifiedKFold without shuffling. Where the rows of a class do not
    divide evenly, its folds with one row more are those that have them when all rows are dealt out in the
    order of their classes. Classes are in the order in which they first occur. A class's rows fill its folds
    one after another.
    """
    if folds < 2:
        raise UsageError("{cv} must be an integer >= 2, got {cv.value!r}", cv=folds)
    _, first, codes = np.unique(y, return_index=True, return_inverse=True)
    codes = first.argsort().argsort()[codes]
    counts = np.bincount(codes)
    if folds > counts.max():
        raise DataError(
            f"{{cv}} must be at most the number of members in each class, {counts.max()} in the largest, got "
            f"n_splits={folds}; use fewer folds",
            cv=folds,
        )
    if folds > counts.min():
        warn(f"The least populated class in y has only {counts.min()} members, which is less than cv={folds}")
    dealt = np.sort(codes)
    sizes = np.array([np.bincount(dealt[fold::folds], minlength=len(counts)) for fold in range(folds)])
    tested = np.empty(len(y), np.intp)
    for code in range(len(counts)):
        tested[codes == code] = np.repeat(np.arange(folds), sizes[:, code])
    return tested


def _split(cv: Any, X: Any, y: np.ndarray) -> list[Any]:
    try:
        return list(cv.split(X, y))
    except ValueError as error:
        raise UsageError(
            f"{{cv}} must split the rows, got {{cv.value!r:.80}}: {error}; if it takes groups, pass "
            f"cv=list(cv.split(X, y, groups))",
            cv=cv,
        ) from error


def _numbered(pair: Any, rows: int, cv: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of a fold, each (k,), sorted, from numbers or masks."""
    try:
        train, test = (np.arange(rows)[np.asarray(part) if len(part) else np.zeros(0, int)] for part in pair)
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{{cv}} must be {_FORMS}, got {{cv.value!r:.80}}: {error}", cv=cv) from error
    if not (len(train) and len(test)):
        raise UsageError("{cv} must have rows to train on and rows to score in every fold, got none", cv=cv)
    for part in (train, test):
        if len(np.unique(part)) < len(part):
            raise UsageError(
                "{cv} must have a row at most once among those to train on, and to score, of a fold; use "
                "sample_weight for rows that count more than once",
                cv=cv,
            )
    return np.sort(train), np.sort(test)
