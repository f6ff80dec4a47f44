"""What a row's loss is multiplied by: its own weight times its class's."""

import numbers
from typing import Any

import numpy as np

from shmps.data.numeric import floats_of
from shmps.data.rows import Rows
from shmps.errors import DataError, UsageError, warn
from shmps.sklearn.labels import listed, may_be_among


def importance_of(
    sample_weight: Any, class_weight: Any, codes: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """What each row's loss is multiplied by, (rows,): its own weight times its class's; None: all by 1.

    codes (rows,): see `data.labels.codes_of`. Raises DataError for weights that are negative, not finite, or
    leave a class that has rows without weight; UsageError for a `class_weight` that is none.
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
    if not isinstance(class_weight, dict) or not all(may_be_among(label, known) for label in class_weight):
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
