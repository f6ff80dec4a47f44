"""Rows that a command is given by a path, and how its flags say that a text is read."""

import argparse
from typing import Any

import numpy as np

from shmps.errors import DataError
from shmps.reading import texts
from shmps.reading.dialect import Dialect


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
    text = texts.text_of(texts.read("/dev/stdin" if path == "-" else path), path)
    lines = text[texts.start(text, path) :].tobytes().split()
    weights = np.array([_weight(line, f"{path}:{number}") for number, line in enumerate(lines, 1)])
    if len(weights) != rows:
        raise DataError(
            f"{path}: a file of weights has a line for each of the {rows} rows, found {len(weights)}"
        )
    return weights


def _weight(text: bytes, place: str) -> float:
    try:
        weight = float(text) if text.isascii() and b"_" not in text else -1.0
    except ValueError:
        weight = -1.0
    if not 0 <= weight < np.inf:
        found = text[:40].decode("utf-8", "backslashreplace")
        raise DataError(
            f"{place}: a weight is a finite number from 0 up, one a line, found {found!r}; correct it"
        )
    return weight


def label_text(label: Any) -> str:
    """A label as people write it: 1, not 1.0."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
