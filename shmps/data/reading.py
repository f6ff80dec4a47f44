"""Rows from a path: a file, a folder of mapped data, or standard input.

shmps.data.readers chooses the format of a file.
"""

import dataclasses
import os
import sys
from typing import Any

from shmps.data import mapped, readers
from shmps.data.dialect import Dialect
from shmps.data.format import Block
from shmps.errors import DataError, UsageError, verbatim


def read(
    path: str | os.PathLike[str],
    how: Dialect = Dialect(),  # noqa: B008  immutable
    *,
    labelled: bool = True,
) -> Block:
    """Return the rows of a file, of a folder of mapped data, or of standard input, whose path is "-".

    `dialect.origin_of(X)` says how they were read. labelled: whether each row must have a label; without one
    y is nan.

    Raises DataError, OutOfSpace, and UsageError for a folder that was made for other features than `how` asks
    for.
    """
    if path == "-":
        if sys.stdin is None:
            raise DataError("-: standard input must be open to read data from it, got it closed; name a file")
        path = "/dev/stdin"
    if not os.path.isdir(path):
        return readers.read(path, how, labelled=labelled)
    X, y = mapped.load(path)
    how.check_folder(X.origin, os.fspath(path))
    return Block(X, y, mapped.weights(path), 0)


def as_training(
    path: str | os.PathLike[str],
    training: Dialect,
    said: Dialect = Dialect(),  # noqa: B008  immutable
) -> Dialect:
    """Return how to read the rows at a path for a model whose training rows were read as `training`.

    said: the options that the caller gives for these rows, which count more.
    """
    if os.path.isdir(path):  # it may have been made of a file in another format than that of training
        return said.over(Dialect(hash_bits=training.hash_bits))
    known = dataclasses.replace(training, keep_names=None, names=None)
    format = readers.format_of(path, said.over(known))
    return said.over(known.only(format.options))


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
        raise UsageError(
            f"y must be None for {os.fspath(X)}, which has the labels, got y as well; leave it out"
        )
    block = read(X, how, labelled=labelled)
    if block.weights is not None and sample_weight is not None:
        raise UsageError(
            f"the weights of the rows must come from one place, got {{sample_weight}} and those in "
            f"{verbatim(os.fspath(X))}; leave out one or the other",
            sample_weight=sample_weight,
        )
    return block.X, block.y, sample_weight if block.weights is None else block.weights
