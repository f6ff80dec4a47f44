"""The importance of rows: the weight of the row times the weight of its class."""

from typing import Any

import numpy as np

from shmps.checks import number
from shmps.data.numeric import floats_of
from shmps.data.rows import Rows
from shmps.errors import DataError, UsageError, verbatim, warn
from shmps.sklearn.labels import listed, may_be_among


def importance_of(
    sample_weight: Any, class_weight: Any, codes: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """Return the factor of each row's loss, (rows,): the row's weight times that of its class. None: all 1.

    codes (rows,): see `data.labels.codes_of`. Raises DataError for weights that are negative, not finite, or
    zero for all rows of a class; UsageError for a wrong `class_weight`.
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
        raise DataError(f"each class must have rows of weight above zero, got none of class {label!r}")
    return weights


def row_weights(sample_weight: Any, rows: int) -> np.ndarray:
    """Return `sample_weight` as (rows,) float64. Raises DataError for anything else."""
    try:
        weights = floats_of(sample_weight)
    except (TypeError, ValueError, OverflowError) as error:
        raise _error(f"have one number per row: {rows}, got no numbers: {error}") from error
    if weights.ndim == 0:
        weights = np.full(rows, weights)
    if weights.shape != (rows,):
        raise _error(f"have one number per row: {rows}, got shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise _error("be finite and not negative in every row, got a row where it is not")
    if not weights.any():
        raise _error("be above zero in some row, got zero weight in all")
    _must_have_a_sum(weights)
    return weights


def _error(must: str) -> DataError:
    return DataError(f"{{sample_weight}} must {verbatim(must)}", sample_weight=None)


def _must_have_a_sum(weights: np.ndarray) -> None:
    """Raise DataError if the sum overflows float64, or is so small that rows / sum overflows."""
    with np.errstate(over="ignore"):
        total = weights.sum()
        fits = total == 0 or np.isfinite([total, len(weights) / total]).all()
    if not fits:
        raise DataError(
            f"{{sample_weight}} times {{class_weight}} must have {'a larger' if total < 1 else 'a finite'} "
            f"sum, got weights up to {weights.max():g}; divide them by their largest",
            sample_weight=None,
            class_weight=None,
        )


def _class_weights(class_weight: Any, totals: np.ndarray, classes: np.ndarray) -> list[float]:
    """Return the weight of each class. totals (classes,): the sums of the weights of their rows."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        balanced: np.ndarray = totals.sum() / (len(totals) * np.where(totals > 0, totals, 1.0))
        return [float(weight) for weight in balanced]
    known = classes.tolist()
    if not isinstance(class_weight, dict) or not all(may_be_among(label, known) for label in class_weight):
        raise UsageError(
            f"{{class_weight}} must be 'balanced' or a dict of weights by label {verbatim(listed(known))}, "
            f"got {{class_weight.value!r:.80}}",
            class_weight=class_weight,
        )
    if class_weight and not any(label in known for label in class_weight):
        warn(
            f"class_weight changes nothing: it names {listed(list(class_weight))}, and none of the labels "
            f"{listed(known)}",
        )
    weights = [class_weight.get(label, 1.0) for label in known]
    if any(number(least=0).broken(weight) for weight in weights):
        raise UsageError(
            "{class_weight} must have finite numbers >= 0, got {class_weight.value!r:.80}",
            class_weight=class_weight,
        )
    return [float(weight) for weight in weights]


def relative(rows: Rows) -> Rows:
    """Return the rows with a mean importance of 1: the mean loss over them is then the weighted mean."""
    if rows.importance is None:
        return rows
    return rows._replace(importance=rows.importance * (rows.num_rows / rows.importance.sum()))
