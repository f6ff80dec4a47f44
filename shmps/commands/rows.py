"""Rows that a command is given by a path."""

import sys
from typing import Any

import numpy as np

from shmps.data import read
from shmps.errors import DataError
from shmps.reading import svmlight


def read_rows(name: str) -> tuple[Any, np.ndarray]:
    """X (rows, features) CSR and y (rows,) of a data file or mapped data; "-" is svmlight text on stdin.

    Raises DataError and OutOfSpace.
    """
    if name != "-":
        return read(name)
    if sys.stdin is None:
        raise DataError("-: data is read from stdin, found it closed; name a file")
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise DataError(f"-: data is read from stdin, found: {error.strerror}; name a file") from error
    return svmlight.read_bytes(data, "stdin")


def label_text(label: Any) -> str:
    """A label as people write it: 1, not 1.0."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
