"""Rows that a command is given by a path."""

import sys
from typing import Any

import numpy as np

from shmps.errors import DataError


def read_rows(
    name: str, label: str | None, hash_bits: int | None, labelled: bool = True
) -> tuple[Any, np.ndarray]:
    """X (rows, features) CSR and y (rows,) of what `read` finds at the path `name`; "-" is a text on stdin.

    Raises as `read`.
    """
    from shmps.data import read
    from shmps.reading import svmlight

    if name != "-" or (label, hash_bits) != (None, None):
        path = "/dev/stdin" if name == "-" else name
        return read(path, label=label, hash_bits=hash_bits, labelled=labelled)
    if sys.stdin is None:
        raise DataError("-: data is read from stdin, found it closed; name a file")
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise DataError(f"-: data is read from stdin, found: {error.strerror}; name a file") from error
    X, y, *_ = svmlight.read_bytes(data, "stdin", labelled=labelled)
    return X, y


def label_text(label: Any) -> str:
    """A label as people write it: 1, not 1.0."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
