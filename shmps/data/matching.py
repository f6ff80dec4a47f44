"""Match the columns of rows with those of training: their names, their order, their number."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data.dialect import Dialect, origin_of
from shmps.data.grammar import shown
from shmps.errors import DataError, UsageError

_MOST_LISTED = 10  # names of columns in a message


def names_of(X: Any) -> np.ndarray | None:
    """Return the names (features,) of the features; None if the columns of X have no names.

    X has names if it was read from columns with names, or is a table whose `columns` are strings. Raises
    DataError if only some of the `columns` are strings.
    """
    if (read_names := origin_of(X).feature_names) is not None:
        return np.array(read_names, dtype=object)
    names = np.asarray(getattr(X, "columns", ()), dtype=object)
    kinds = sorted({type(name).__name__ for name in names})
    if len(kinds) > 1 and "str" in kinds:
        raise DataError(
            f"columns of X must be named by strings, all or none, got names of the types {kinds}; use "
            f"X.columns.astype(str)"
        )
    return names if kinds == ["str"] else None


def with_names(origin: Dialect, names: np.ndarray | None) -> Dialect:
    """Return `origin` with the column `names` (features,) of a table in memory, if there are any.

    The columns that `origin` has already count more.
    """
    if names is None or origin.columns is not None:
        return origin
    return dataclasses.replace(origin, columns=tuple(names.tolist()))


def matched(X: Any, training: Dialect, num_features: int) -> tuple[csr_matrix, int]:
    """Return X (n, d) with the `num_features` columns of training, and the number of non-zeros dropped.

    Raises DataError if the names of the columns differ from those in `training`, or if X is from CSV or
    hashed text and has another number of columns.
    """
    found = origin_of(X).columns
    if found is not None and training.columns is not None:
        if set(found) != set(training.columns):
            raise DataError(other_columns(found, training.columns))
        if found != training.columns and training.hash_bits is None:
            raise DataError(
                f"mapped rows must have the columns of training in the order {listed(training.columns)}, "
                f"got {listed(found)}; give the text itself, or convert it with that order"
            )
    if origin_of(X).fixes_width and X.shape[1] != num_features:
        raise DataError(
            f"rows of CSV and hashed rows must have the {num_features} features of training, got "
            f"{X.shape[1]}; read the same columns, with the same {{label}} and {{hash_bits}}",
            label=None,
            hash_bits=None,
        )
    return fit_columns(X, num_features)


def fit_columns(X: csr_matrix, num_features: int) -> tuple[csr_matrix, int]:
    """Return X (n, d) with exactly `num_features` columns, and the number of non-zeros that this dropped.

    The result shares X's arrays unless entries are dropped.
    """
    if num_features < 0:
        raise UsageError(f"num_features must be >= 0, got {num_features}; pass X.shape[1] of training")
    shape = (X.shape[0], num_features)
    if num_features >= X.shape[1]:
        fitted = copy.copy(X)  # csr_matrix(arrays of X) would copy the indices of mapped data
        fitted.resize(shape)
        return fitted, 0
    if getattr(X, "checked_when_read", False):
        X = X.in_memory()  # type: ignore[attr-defined]
    keep = X.indices < num_features
    kept_before = np.concatenate(([0], np.cumsum(keep)))
    fitted = csr_matrix((X.data[keep], X.indices[keep], kept_before[X.indptr]), shape=shape)
    return fitted, int(np.count_nonzero(X.data[~keep]))


def other_columns(found: Sequence[str], training: Sequence[str]) -> str:
    """Describe how the feature columns of some rows differ from those of training, for an error."""
    here, there = set(found), set(training)
    lacking = [each for each in training if each not in here]
    strange = [each for each in found if each not in there]
    differences = [f"{what} {listed(names)}" for what, names in (("no", lacking), ("also", strange)) if names]
    return (
        f"rows must have the columns of training, {listed(training)}, in any order; "
        f"got {' and '.join(differences)}; rename, add or remove columns"
    )


def listed(names: Sequence[str]) -> str:
    """List names of columns for a message: the first few of many."""
    more = f", ... ({len(names):,} columns)" if len(names) > _MOST_LISTED else ""
    return ", ".join(map(shown, names[:_MOST_LISTED])) + more
