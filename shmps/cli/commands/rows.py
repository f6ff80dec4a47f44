"""The rows that a command reads, and the flags that say how a text is read."""

import argparse
from typing import Any

import numpy as np

from shmps.data import grammar, text_files
from shmps.data.dialect import Dialect
from shmps.errors import DataError, verbatim


def said(options: argparse.Namespace) -> Dialect:
    """Return how to read a text, by the flags of `arguments.add_reading`."""
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
    """Return the weights (rows,) from the file `path`, or the data's `own`; None if there are none.

    Raises DataError unless the file has one line per row, with a number >= 0.
    """
    if path is None:
        return own
    if own is not None:
        raise DataError(
            f"{verbatim(path)}: the weights of rows must come from one place, got some in the data; leave "
            f"{{sample_weight}} out",
            sample_weight=path,
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
            raise DataError.at(f"{path}:{number}", error) from None
    if len(weights) != rows:
        raise DataError(
            f"{path}: a file of weights must have a line for each of the {rows} rows, got {len(weights)}"
        )
    return np.array(weights)


def label_text(label: Any) -> str:
    """Return a label as text: 1, not 1.0."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
