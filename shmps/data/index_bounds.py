"""Check that the indices of a sparse matrix lie within its shape: kernels and scipy's products do not look.

The check is one pass at memory speed: 6 % of a gradient over the same rows. scipy's own, `check_format`,
knows only the compressed formats, names no entry, and changes X (it prunes spare room and may cast indices).
"""

import itertools
from typing import Any

import numpy as np

from shmps.errors import DataError

_PIECE = 2**20  # entries per step: the temporary arrays stay small

_COMPRESSED = ("csr", "csc", "bsr")


def must_lie_within(X: Any, name: str = "X") -> None:
    """Raise DataError if a sparse X has an index outside its shape, or pointers that break their rules.

    scipy checks the arrays only when it makes X of them; a caller may change them afterwards. A dense X is
    not checked, nor one that is `checked_when_read` (see `mapped.MappedMatrix`).
    """
    if getattr(X, "checked_when_read", False):
        return
    kind = getattr(X, "format", None)
    if kind == "coo":
        for axis, indices, size in (("row", X.row, X.shape[0]), ("column", X.col, X.shape[1])):
            if len(indices) != len(X.data):
                raise DataError(
                    f"{name} must have one {axis} index per value, got {len(indices)} of {len(X.data)}"
                )
            if fault := index_fault(indices, size):
                raise DataError(f"{name} must have {axis} indices {fault}")
    elif kind == "lil":
        indices = np.fromiter(itertools.chain.from_iterable(X.rows), np.int64)
        if fault := index_fault(indices, X.shape[1]):
            raise DataError(f"{name} must have column indices {fault}")
    elif kind in _COMPRESSED:
        rows, columns = X.shape
        if kind == "bsr":
            rows, columns = rows // X.blocksize[0], columns // X.blocksize[1]
        if kind == "csc":
            rows, columns = columns, rows
        stored = min(len(X.indices), len(X.data))
        if len(X.indptr) != rows + 1:
            raise DataError(f"{name}.indptr must have {rows + 1} entries, got {len(X.indptr)}")
        if fault := pointer_fault(X.indptr, stored):
            raise DataError(f"{name}.indptr must {fault}")
        if fault := index_fault(X.indices[: X.indptr[-1]], columns):
            raise DataError(f"{name}.indices must be {fault}")


def pointer_fault(indptr: np.ndarray, most: int, first: int = 0) -> str:
    """Describe the error in the pointers (rows + 1,) of the rows from `first` on; "" if there is none.

    most: the number of entries. The pointer of row 0 must be 0.
    """
    if indptr.dtype.kind not in "iu":
        return f"be integers, got {indptr.dtype}"
    if first == 0 and indptr[0] != 0:
        return f"start at 0, got {indptr[0]}"
    if indptr[0] < 0:
        return f"be 0 or more, got {indptr[0]} in row {first} (from 0)"
    for begin in range(0, len(indptr) - 1, _PIECE):
        piece = indptr[begin : begin + _PIECE + 1]
        falls = piece[1:] < piece[:-1]
        if falls.any():
            row = int(falls.argmax())
            return (
                f"never fall, got {piece[row + 1]} after {piece[row]} in row {first + begin + row} (from 0)"
            )
    return f"end at {most} or below, got {indptr[-1]}" if indptr[-1] > most else ""


def index_fault(indices: np.ndarray, size: int, first: int = 0) -> str:
    """Describe the first wrong one of indices (k,) into `size` columns; "" if there is none.

    first: the number of the first entry, for the message.
    """
    if indices.dtype.kind not in "iu":
        return f"integers, got {indices.dtype}"
    unsigned = indices.view(f"u{indices.dtype.itemsize}")  # an index below 0 becomes one of the largest
    for begin in range(0, len(indices), _PIECE):
        piece = unsigned[begin : begin + _PIECE]
        if piece.max() >= size:
            place = begin + int(piece.argmax())
            return f"from 0 to {size - 1}, got {indices[place]} in entry {first + place} (from 0)"
    return ""
