"""Validation of labels. Messages keep the phrases that scikit-learn's `check_estimator` looks for."""

import numbers
from collections.abc import Set
from typing import Any

import numpy as np

from shmps.data.labels import Labels, classes_of, codes_of, encoded
from shmps.data.mapped import MappedLabels
from shmps.errors import DataError, UsageError, warn
from shmps.models.model import array_of, plain_labels
from shmps.sklearn.conventions import known_to_sklearn

_MANY_CLASSES, _FEW_ROWS = 100, 10  # more classes with fewer rows each are probably names or amounts


def labels_of(y: Any, rows: int, name: str = "y") -> np.ndarray:
    """Return y (rows,) as an array. Raises DataError unless it has one label per row."""
    if y is None:
        raise DataError(
            "LogisticRegression requires y to be passed, but the target y is None; only the path of a data "
            "file brings its own labels"
        )
    array: np.ndarray = _array_of_labels(y, name)
    if array.shape == (rows, 1) and rows > 1:
        warn(
            f"A column-vector {name} was passed when a 1d array was expected; pass {name}.ravel()",
            known_to_sklearn(UserWarning, "DataConversionWarning"),
        )
        array = array[:, 0]
    if array.shape != (rows,):
        got = f"shape {array.shape}" if array.shape else type(y).__name__
        raise DataError(f"{name} must have one label per row: {rows} rows, got {got}")
    return array


def _array_of_labels(y: Any, name: str) -> np.ndarray:
    if isinstance(y, MappedLabels):
        return y
    if np.ma.is_masked(y):
        raise DataError(f"{name}: labels must name classes, got masked ones; drop the rows without a label")
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise DataError(f"{name} must have one label per row, got a list of lists: {error}") from error
    if array.dtype.kind == "U" and not hasattr(y, "dtype"):
        return np.asarray(y, dtype=object)  # NumPy would turn 1 beside a string into "1"
    return array


def training_labels(y: Any, rows: int) -> Labels:
    """Return the labels y (rows,) of training as codes and plain classes. `Labels` are taken as they are."""
    labels = y if isinstance(y, Labels) else encoded(labels_of(y, rows), "y")
    classes = len(labels.classes)
    if classes > _MANY_CLASSES and rows < _FEW_ROWS * classes:
        warn(
            f"y has {classes:,} classes in {rows:,} rows, and each has weights of its own; if these are not "
            f"classes, name another column of labels"
        )
    return Labels(labels.codes, plain_labels(labels.classes))


def known_codes(y: Any, rows: int, classes: np.ndarray, name: str) -> np.ndarray:
    """Return the codes (rows,) of the labels y (rows,) among `classes`, see `codes_of`.

    The codes of `Labels` are taken as they are. Raises DataError for a label that is not among the classes.
    """
    if isinstance(y, Labels):
        return y.codes
    y, known = labels_of(y, rows, name), classes.tolist()
    among = set(known)  # there may be many
    strange = [label for label in classes_of(y) if label not in among]
    if strange:
        raise DataError(f"{name}: labels must be those of training, {listed(known)}, got {listed(strange)}")
    return codes_of(y, known)


def scored_labels(y: Any, rows: int, classes: np.ndarray) -> np.ndarray:
    """Return y (rows,), the labels to compare predictions with.

    Warn of labels that training did not have, since a fold may lack a class. Raises DataError for missing
    labels, and for text where `classes` are numbers, or the reverse.
    """
    labels, known = labels_of(y, rows), classes.tolist()
    among = set(known)
    strange = [label for label in classes_of(labels) if label not in among]
    if any(label != label for label in strange):
        raise DataError("y: labels must name classes, got nan; drop the rows without a label")
    if not all(may_be_among(label, known) for label in strange):
        raise DataError(f"y must have labels like those of training, {listed(known)}, got {listed(strange)}")
    if strange:
        warn(f"y has labels that training did not have, {listed(strange)}; these rows count as wrong")
    return labels


def may_be_among(label: Any, known: list[Any]) -> bool:
    """Return whether `label` and some of the known labels are text, or are numbers."""
    if isinstance(label, str):
        return any(isinstance(each, str) for each in known)
    return isinstance(label, numbers.Real) and any(isinstance(each, numbers.Real) for each in known)


def listed(labels: list[Any]) -> str:
    """Return the labels as text; of many, the first ten."""
    return str(labels) if len(labels) <= 10 else f"[{', '.join(map(repr, labels[:10]))}, ...]"


def named_classes(classes: Any) -> np.ndarray:
    """Return the classes that `partial_fit` is given first, sorted. Raises UsageError for fewer than two."""
    classes = list(classes) if isinstance(classes, Set) else classes
    found = np.array([] if classes is None else classes_of(_array_of_labels(classes, "classes")))
    if len(found) < 2:
        raise UsageError(
            f"classes must name two classes or more in the first call of partial_fit, got {classes!r:.80}"
        )
    return array_of(plain_labels(found))
