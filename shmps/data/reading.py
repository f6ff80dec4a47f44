"""Rows from a path, read as the training rows were."""

import dataclasses
import os
import sys
from typing import Any

import numpy as np
import scipy.sparse

from shmps.data import mapped, readers, svmlight, tables
from shmps.data.block import Block
from shmps.data.dialect import Dialect
from shmps.errors import DataError, UsageError


def read(
    path: str | os.PathLike[str],
    how: Dialect = Dialect(),  # noqa: B008  immutable
    *,
    labelled: bool = True,
) -> Block:
    """The rows of a text (by `readers.read`), of a folder of mapped data (`mapped.load`), or of "-", stdin.

    How they were read is `origin_of(X)`. labelled: whether each row must have a label; without one y is nan.

    Raises UsageError for a folder that was made for other features than are asked for.
    """
    if path == "-":
        if sys.stdin is None:
            raise DataError("-: data is read from stdin, found it closed; name a file")
        path = "/dev/stdin"
    if not os.path.isdir(path):
        return readers.read(path, how, labelled=labelled)
    X, y = mapped.load(path)
    how.check_folder(X.origin, os.fspath(path))
    return Block(X, y, mapped.weights(path), 0)


def origin_of(X: Any) -> Dialect:
    """Return how the rows X were read; an empty Dialect for a matrix that was not read."""
    return getattr(X, "origin", Dialect())


def names_of(X: Any) -> np.ndarray | None:
    """The names of the features (features,), where X was read from columns with names, or is a table whose
    `columns` are named by strings.

    Raises DataError if only some of them are.
    """
    if (read_names := origin_of(X).feature_names) is not None:
        return np.array(read_names, dtype=object)
    names = np.asarray(getattr(X, "columns", ()), dtype=object)
    kinds = sorted({type(name).__name__ for name in names})
    if len(kinds) > 1 and "str" in kinds:
        raise DataError(
            f"columns of X are named by strings, all or none, found names of the types {kinds}; "
            f"X.columns.astype(str) are strings"
        )
    return names if kinds == ["str"] else None


def with_names(origin: Dialect, names: np.ndarray | None) -> Dialect:
    """How rows were read; of a table in memory with `names` (features,), that its columns have these."""
    if names is None or origin.columns is not None:
        return origin
    return dataclasses.replace(origin, columns=tuple(names.tolist()))


def matched(X: Any, training: Dialect, num_features: int) -> tuple[scipy.sparse.csr_matrix, int]:
    """Return X (n, d) with the `num_features` columns of training, and the number of non-zeros dropped.

    Raises DataError if the names of the columns differ from those in `training`, or if X is from CSV or
    hashed text and has another number of columns.
    """
    found = origin_of(X).columns
    if found is not None and training.columns is not None:
        if set(found) != set(training.columns):
            raise DataError(tables.other_columns(found, training.columns))
        if found != training.columns and training.hash_bits is None:
            raise DataError(
                f"mapped rows have the columns of training in the order {tables.listed(training.columns)}, "
                f"found {tables.listed(found)}; give the text itself, or convert it with that order"
            )
    if origin_of(X).fixes_width and X.shape[1] != num_features:
        raise DataError(
            f"rows of CSV, and hashed ones, have the {num_features} features of training, found "
            f"{X.shape[1]}; read the same columns, with the same --label (label) and --hash-bits (hash_bits)"
        )
    return svmlight.fit_columns(X, num_features)


def as_training(
    path: str | os.PathLike[str],
    training: Dialect,
    said: Dialect = Dialect(),  # noqa: B008  immutable
) -> Dialect:
    """Return how to read the rows at a path for a model whose training rows were read as `training`.

    said: what the caller says of these rows, which counts more.
    """
    if os.path.isdir(path):  # made of text that may have been another than that of training
        return said.over(Dialect(hash_bits=training.hash_bits))
    how = said.over(dataclasses.replace(training, keep_names=None, names=None))
    if said.zero_based is None and (how.hash_bits is not None or readers.is_csv(path, how)):
        return dataclasses.replace(how, zero_based=None)  # it was said of svmlight text
    return how


def opened(
    X: Any,
    y: Any,
    sample_weight: Any = None,
    how: Dialect = Dialect(),  # noqa: B008  immutable
    labelled: bool = True,
) -> tuple[Any, Any, Any]:
    """Return X, y and the rows' weights unchanged; if X is a path, read them from there (see `read`)."""
    if not isinstance(X, str | os.PathLike):
        return X, y, sample_weight
    if y is not None:
        raise UsageError(f"the labels of {os.fspath(X)} are in it, found y as well; leave it out")
    block = read(X, how, labelled=labelled)
    if block.weights is not None and sample_weight is not None:
        raise UsageError(
            f"the weights of the rows come from one place, found sample_weight and those in {os.fspath(X)}; "
            f"leave out one or the other"
        )
    return block.X, block.y, sample_weight if block.weights is None else block.weights
