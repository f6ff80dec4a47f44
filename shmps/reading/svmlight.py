"""Reader of svmlight / libsvm text: `label index:value index:value ... # comment`, one row a line.

Strict on purpose: a file that is not what it claims to be is refused with the place and the remedy, never
read as something else. Numbers come out rounded as Python's `float` does, to the last bit.

The text is cut at line ends, and its pieces are parsed at the same time, into their places in the same
arrays: rows and entries are counted first. How many pieces there are changes nothing in what comes out, nor
in what is told: the first fault of the file.
"""

import copy
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from shmps.cores import on_all_cores
from shmps.errors import DataError, OutOfSpace, UsageError
from shmps.reading import texts
from shmps.reading.block import Block
from shmps.reading.svmlight_faults import explained, shown, token
from shmps.reading.svmlight_kernels import FINE, INDEX_CEILING, census, parse

INT32_MAX = 2**31 - 1
PIECE = 1 << 19  # bytes: a millisecond to parse
BLOCK = 1 << 24  # bytes of text in memory at a time where it is read in blocks
CHUNK = 1 << 18


class _Parsed(NamedTuple):
    """What the parser says of a piece."""

    fault: int
    at: int  # offset of the fault
    row: int  # after the last
    entry: int  # after the last
    lates: int
    largest: int  # index, or base - 1


def read(
    path: str | os.PathLike[str], *, zero_based: bool = False, limit: int = INT32_MAX
) -> tuple[csr_matrix, np.ndarray]:
    """The file as X (n, largest index) float64 with 0-based columns, and labels y (n,) float64.

    Plain text, gzip, bzip2 or xz, told apart by their first bytes. The peak of memory is the text and what
    comes out of it (12 bytes a non-zero, 12 a row; 16 more for a number of over 18 digits); besides, of an
    archive the archive, and once more what comes out where blank lines, or colons in comments, had been
    counted as rows and non-zeros. Of a text without a newline at its end there are two for a moment before.

    Raises DataError `file:line:column: rule, found; remedy` (columns count bytes from 1), and OutOfSpace
    where memory does not suffice.
    """
    name = os.fsdecode(path)
    with _enough_memory(name):
        data = texts.read(name)
    return read_bytes(data, name, zero_based=zero_based, limit=limit)


def read_bytes(
    data: bytes | np.ndarray, name: str, *, zero_based: bool = False, limit: int = INT32_MAX
) -> tuple[csr_matrix, np.ndarray]:
    """As `read`, from the bytes of a file, (bytes,) uint8 if an array; `name` is for the messages."""
    _check_limit(limit)
    with _enough_memory(name):
        text = texts.text_of(data, name)
        X, y, _ = _parsed(text, texts.start(text, name), 0, name, 0 if zero_based else 1, limit)
    if not len(y):
        raise _no_rows(name)
    return X, y


def read_blocks(
    path: str | os.PathLike[str], *, zero_based: bool = False, limit: int = INT32_MAX
) -> Iterator[Block]:
    """As `read`, but some rows at a time, of about BLOCK bytes of text.

    The width of each X is that of its own rows. Memory: a few times BLOCK, or the longest line.
    """
    _check_limit(limit)
    name, lines, rows = os.fsdecode(path), 0, 0
    for text, taken in texts.blocks(name, BLOCK):
        with _enough_memory(name):
            start = 0 if lines else texts.start(text, name)
            X, y, count = _parsed(text, start, lines, name, 0 if zero_based else 1, limit)
        lines += count
        rows += len(y)
        yield Block(X, y, None, taken)
    if not rows:
        raise _no_rows(name)


def _check_limit(limit: int) -> None:
    if not 0 <= limit < INDEX_CEILING:
        raise UsageError(f"limit must be from 0 to 10**18 - 1, found {limit}; leave it at {INT32_MAX}")


def _no_rows(name: str) -> DataError:
    return DataError(f"{name}: a data file has at least one row, found none; check that this is the file")


def fit_columns(X: csr_matrix, num_features: int) -> tuple[csr_matrix, int]:
    """X (n, d) with exactly `num_features` columns, and how many non-zeros that dropped.

    Shares X's arrays where nothing is dropped.
    """
    if num_features < 0:
        raise UsageError(f"num_features must be 0 or more, found {num_features}; pass X.shape[1] of training")
    if getattr(X, "origin", {}) and X.shape[1] != num_features:
        raise DataError(
            f"rows of CSV, and hashed ones, have the {num_features} features of training, found "
            f"{X.shape[1]}; read the same columns, with the same --label (label) and --hash-bits (hash_bits)"
        )
    shape = (X.shape[0], num_features)
    if num_features >= X.shape[1]:
        fitted = copy.copy(X)  # not made of its arrays: of mapped data scipy would copy the indices
        fitted.resize(shape)
        return fitted, 0
    if getattr(X, "checked_when_read", False):
        X = X.in_memory()  # type: ignore[attr-defined]
    keep = X.indices < num_features
    kept_before = np.concatenate(([0], np.cumsum(keep)))
    fitted = csr_matrix((X.data[keep], X.indices[keep], kept_before[X.indptr]), shape=shape)
    return fitted, int(np.count_nonzero(X.data[~keep]))


@contextmanager
def _enough_memory(name: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise OutOfSpace(
            f"{name}: reading takes a few times the size of the text in memory, and there is not enough; "
            f"free some, or read a part of the file"
        ) from error


def _parsed(
    text: np.ndarray, start: int, lines: int, name: str, base: int, limit: int
) -> tuple[csr_matrix, np.ndarray, int]:
    """X, y and the number of lines of text[start:], before which there are so many `lines` in the file.

    `base` is the smallest index allowed, and becomes column 0.
    """
    cuts = _cuts(text, start)
    begins, ends = cuts[:-1], cuts[1:]
    counts = np.array([(0, 0, 0), *on_all_cores(lambda begin, end: census(text[begin:end]), begins, ends)])
    if counts[:, 2].any():
        texts.refuse_strange(text, name, lines)
    # Where each piece's rows and entries go, and how many there are in all: at most, since blank lines and
    # the colons of comments are counted too.
    (*first_rows, most_rows), (*first_entries, most_entries) = counts[:, :2].cumsum(axis=0).T.tolist()
    index_type = np.int32 if max(limit, most_entries) <= INT32_MAX else np.int64
    labels, lengths = np.empty(most_rows), np.empty(most_rows, index_type)
    values, indices = np.empty(most_entries), np.empty(most_entries, index_type)
    late = np.empty((most_rows + most_entries, 2), np.int64)  # takes memory where it is written only
    lates = [late[row + entry :] for row, entry in zip(first_rows, first_entries, strict=True)]

    def parse_piece(begin: int, end: int, row: int, entry: int, late: np.ndarray) -> _Parsed:
        place = text, begin, end, base, limit, row, entry
        return _Parsed(*parse(*place, labels, lengths, indices, values, late))

    pieces = on_all_cores(parse_piece, begins, ends, first_rows, first_entries, lates)
    for piece, late in zip(pieces, lates, strict=True):
        # Before the fault is told: a late number that overflows stands earlier in the file.
        _finish(late[: piece.lates], text, name, lines, values, labels)
        if piece.fault != FINE:
            why = explained(piece.fault, token(text, piece.at), base, limit)
            raise DataError(f"{texts.place(text, name, piece.at, lines)}: {why}")
    row_ends, entry_ends = [piece.row for piece in pieces], [piece.entry for piece in pieces]
    labels, lengths = (_closed_up(array, first_rows, row_ends) for array in (labels, lengths))
    values, indices = (_closed_up(array, first_entries, entry_ends) for array in (values, indices))
    indptr = np.zeros(len(labels) + 1, index_type)
    np.cumsum(lengths, out=indptr[1:])
    columns = max([piece.largest + 1 - base for piece in pieces], default=0)
    X = csr_matrix((values, indices, indptr), shape=(len(labels), columns))
    X.has_canonical_format = True  # strictly increasing indices were checked; scipy need not look again
    return X, labels, most_rows


def _cuts(text: np.ndarray, start: int) -> list[int]:
    """Where the pieces of text[start:] begin, and the end: line starts at least PIECE apart."""
    cuts = [start]
    while cuts[-1] < text.size:
        last = min(cuts[-1] + PIECE, text.size) - 1
        cuts.append(next(line_end.end() for line_end in re.finditer(rb"\n", text.data[last:])) + last)
    return cuts


def _finish(
    late: np.ndarray, text: np.ndarray, name: str, lines: int, values: np.ndarray, labels: np.ndarray
) -> None:
    """Fill in the numbers that Python's float() is needed for; late is (k, 2) int64: offset, slot."""
    for begin in range(0, len(late), CHUNK):  # in parts: a list takes ten times the memory of an array
        for offset, slot in late[begin : begin + CHUNK].tolist():
            found = token(text, offset)
            number = float(found)
            if math.isinf(number):
                place = texts.place(text, name, offset, lines)
                raise DataError(f"{place}: numbers must fit in a float64, found {shown(found)}; rescale it")
            if slot >= 0:
                values[slot] = number
            else:
                labels[~slot] = number


def _closed_up(array: np.ndarray, begins: Sequence[int], ends: Sequence[int]) -> np.ndarray:
    """The parts array[begin:end] without the gaps between them and what is after the last.

    In place; then a copy where there were any, so that the rest is freed.
    """
    size = 0
    for begin, end in zip(begins, ends, strict=True):
        if begin > size:
            array[size : size + end - begin] = array[begin:end]
        size += end - begin
    return array if len(array) == size else array[:size].copy()
