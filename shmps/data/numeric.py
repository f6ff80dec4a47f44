"""Convert arrays, lists and tables in memory to numbers; an error names the column and the value."""

import math
from typing import Any

import numpy as np

from shmps.errors import DataError, NotNumbers

_ERRORS = (TypeError, ValueError, OverflowError)


def floats_of(values: Any) -> np.ndarray:
    """Return real numbers as float64, with nan for masked ones and for None.

    Raises TypeError, ValueError or OverflowError for anything else.
    """
    array: Any = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.dtype.kind not in "biufOSU":
        raise TypeError(f"values must be real numbers, got {array.dtype}")
    return np.ma.filled(array.astype(np.float64), np.nan)


def dense_of(X: Any, name: str) -> np.ndarray:
    """Return a dense X as an array; (rows, features) of objects or text become float64.

    Text that is a number becomes that number, a missing value nan. An array of numbers is not copied, and an
    array of another shape is returned unchanged. Raises NotNumbers for a value that is no number, with the
    name of its column; DataError for rows of different lengths.
    """
    masked = isinstance(X, np.ma.MaskedArray)
    try:
        array = X if masked else np.asarray(X)
    except ValueError as error:
        raise DataError(
            f"{name} must be a matrix (rows, features), got rows that differ in length"
        ) from error
    if array.ndim != 2 or (array.dtype.kind in "biufc" and not masked):
        return array
    # scipy would take None and "" for zeros, and the real part of a complex number.
    floats = np.empty(array.shape)
    for number, column in enumerate(array.T):
        try:
            floats[:, number] = _column(column)
        except _ERRORS as error:
            raise NotNumbers(
                f"{name} must be a matrix of numbers (rows, features), got {_strange(column)!r:.80} in the "
                f"column {column_name(X, number)}: {error}; encode the column as numbers, or leave it out"
            ) from error
    return floats


def column_name(X: Any, number: int) -> str:
    """Return a column of X for a message: the table's own name, else the number."""
    columns = getattr(X, "columns", None)
    return f"{number} (from 0)" if columns is None else repr(columns[number])


def _column(values: np.ndarray) -> np.ndarray:
    """As `floats_of`, and with nan for pandas's NA."""
    try:
        return floats_of(values)
    except TypeError:
        if values.dtype.kind != "O":
            raise
        return floats_of([math.nan if type(value).__name__ == "NAType" else value for value in values])


def _strange(column: np.ndarray) -> Any:
    """Return the first value that is no number."""
    for value in column.tolist():
        try:
            float(value)
        except _ERRORS:
            if type(value).__name__ != "NAType":
                return value
    return column.tolist()[0]
