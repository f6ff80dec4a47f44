"""Rows that a command is given by a path, and how its flags say that a text is read."""

import argparse
from typing import Any

import numpy as np

from shmps.data import grammar, text_files
from shmps.data.dialect import Dialect
from shmps.errors import DataError


def said(options: argparse.Namespace) -> Dialect:
    """How a text is read, by the flags of `arguments.add_reading`."""
    return Dialect(
        zero_based=options.zero_based,
        label=options.label,
        delimiter=options.delimiter,
        header=options.header,
        weight_column=options.weight_column,
        hash_bits=options.hash_bits,
        keep_names=getattr(options, "keep_names", None),
    )


def weights_of(path: str | None, own: np.ndarray | None, rows: int) -> np.ndarray | None:
    """The rows' weights (rows,): those of the file `path`, or the data's `own`; None where both have none.

    Raises DataError unless the file has a number from 0 up in each line, and a line for each row.
    """
    if path is None:
        return own
    if own is not None:
        raise DataError(
            f"{path}: the weights of rows come from one place, found some in the data; leave --weights out"
        )
    text = text_files.text_of(text_files.read("/dev/stdin" if path == "-" else path), path)
    start = text_files.start(text, path)
    text_files.check(text, path)
    weights = []
    for number, line in enumerate(text[start:].tobytes().split(b"\n"), 1):
        try:
            if word := grammar.decoded(line).strip(" \t\r"):
                weights.append(grammar.weight(word))
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if len(weights) != rows:
        raise DataError(
            f"{path}: a file of weights has a line for each of the {rows} rows, found {len(weights)}"
        )
    return np.array(weights)


def label_text(label: Any) -> str:
    """A label as people write it: 1, not 1.0."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
