"""Validation of labels. Messages keep the phrases that scikit-learn's `check_estimator` looks for."""

import numbers
from collections.abc import Set
from typing import Any

import numpy as np

from shmps.data.labels import classes_of, codes_of
from shmps.data.mapped import MappedLabels
from shmps.errors import DataError, UsageError, warn
from shmps.models.model import array_of, plain_labels
from shmps.sklearn.conventions import known_to_sklearn


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
    """The codes (rows,) of labels among `classes` (see `codes_of`); DataError for another label."""
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
    if not all(may_be_among(label, known) for label in strange):
        raise DataError(f"y has labels like those of training, {listed(known)}, found {listed(strange)}")
    if strange:
        warn(
            f"y has labels that training did not have, {listed(strange)}; these rows count as wrong",
        )
    return y


def may_be_among(label: Any, known: list[Any]) -> bool:
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
