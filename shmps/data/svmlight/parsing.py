"""The parser of a file of svmlight text: it counts, cuts and parses text, and makes a Block of the arrays.

The text is cut at line ends into pieces that are parsed at the same time, into parts of the same arrays: rows
and entries are counted first. The number of pieces changes neither the rows nor the error: the first fault of
the file is told.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import grammar, text_files
from shmps.data.format import INT32_MAX, Block, no_rows
from shmps.data.svmlight.kernels import FEATURE, FINE, INDEX_CEILING, NUMBER, WORD, census, parse
from shmps.data.svmlight.messages import explained, token, word
from shmps.data.svmlight.row_start import RowStart, WrongRowStart, row_start_of
from shmps.errors import DataError, UsageError
from shmps.system.parallel import parallel_map

PIECE = 1 << 19  # bytes: a millisecond to parse
_CHUNK = 1 << 18  # numbers that Python reads at a time: a list takes ten times the memory of an array


class _Piece(NamedTuple):
    """The result of `kernels.parse` for a piece of the text."""

    fault: int
    at: int  # offset of the fault
    row: int  # after the last
    entry: int  # after the last
    lates: int
    largest: int  # index, or base - 1


@dataclass
class _Arrays:
    """The rows of a text: each piece fills a part of these arrays."""

    labels: np.ndarray
    weights: np.ndarray | None
    lengths: np.ndarray  # entries of each row
    indices: np.ndarray
    values: np.ndarray

    def close_up(self, first_rows: list[int], first_entries: list[int], pieces: list[_Piece]) -> None:
        """Take out the gaps behind the pieces, which had been counted too large."""
        rows = first_rows, [piece.row for piece in pieces]
        entries = first_entries, [piece.entry for piece in pieces]
        self.labels, self.lengths = _closed_up(self.labels, *rows), _closed_up(self.lengths, *rows)
        if self.weights is not None:
            self.weights = _closed_up(self.weights, *rows)
        self.values, self.indices = _closed_up(self.values, *entries), _closed_up(self.indices, *entries)

    def matrix(self, columns: int) -> csr_matrix:
        indptr = np.zeros(len(self.labels) + 1, self.indices.dtype)
        np.cumsum(self.lengths, out=indptr[1:])
        X = csr_matrix((self.values, self.indices, indptr), shape=(len(self.labels), columns))
        X.has_canonical_format = True  # the kernel checks that indices increase; scipy need not look again
        return X


class Parser:
    """Parses a file from its start to its end, part by part."""

    def __init__(self, name: str, zero_based: bool, limit: int, labelled: bool, weighted: bool):
        if not 0 <= limit < INDEX_CEILING:
            raise UsageError(f"limit must be from 0 to 10**18 - 1, got {limit}; leave it at {INT32_MAX}")
        self.name = name
        self._base, self._limit = 0 if zero_based else 1, limit  # the smallest index, which becomes column 0
        self._labelled, self._weighted = labelled, weighted
        self._row_start: RowStart | None = None  # of all rows; None: there was no row
        self._lines = self._rows = 0  # that were read

    def block(self, text: np.ndarray, taken: int) -> Block:
        """Parse the next part of the file."""
        start = 0 if self._lines else text_files.start(text, self.name)
        cuts = _cuts(text, start)
        (*first_rows, most_rows), (*first_entries, most_entries) = self._count(text, cuts)
        row_start = self._row_start_of(text, start)
        arrays = self._arrays(row_start, most_rows, most_entries)
        pieces = self._parse(text, cuts, row_start, first_rows, first_entries, arrays)
        arrays.close_up(first_rows, first_entries, pieces)
        columns = max([piece.largest + 1 - self._base for piece in pieces], default=0)
        self._lines += most_rows
        self._rows += len(arrays.labels)
        return Block(arrays.matrix(columns), arrays.labels, arrays.weights, taken)

    def end(self) -> None:
        """Raise DataError if the file had no row."""
        if not self._rows:
            raise no_rows(self.name)

    def _count(self, text: np.ndarray, cuts: list[int]) -> tuple[list[int], list[int]]:
        """Return the number of rows, and of entries, before each piece, and in all.

        These are upper bounds: blank lines and the colons of comments count too.
        """
        counts = parallel_map(lambda begin, end: census(text[begin:end]), cuts[:-1], cuts[1:])
        totals = np.array([(0, 0, 0), *counts])
        if totals[:, 2].any():
            text_files.refuse_strange(text, self.name, self._lines)
        rows, entries = totals[:, :2].cumsum(axis=0).T.tolist()
        return rows, entries

    def _row_start_of(self, text: np.ndarray, start: int) -> RowStart:
        """Return how the rows of the file start: as its first row does."""
        if self._row_start is None:
            try:
                self._row_start = row_start_of(text, start, self._base, self._labelled, self._weighted)
            except WrongRowStart as error:
                self._refuse(text, error.at, error.fault)
        return self._row_start or RowStart(float)

    def _arrays(self, row_start: RowStart, most_rows: int, most_entries: int) -> _Arrays:
        index_type = np.int32 if max(self._limit, most_entries) <= INT32_MAX else np.int64
        return _Arrays(
            *row_start.columns(most_rows),
            lengths=np.empty(most_rows, index_type),
            indices=np.empty(most_entries, index_type),
            values=np.empty(most_entries),
        )

    def _parse(
        self,
        text: np.ndarray,
        cuts: list[int],
        row_start: RowStart,
        first_rows: list[int],
        first_entries: list[int],
        arrays: _Arrays,
    ) -> list[_Piece]:
        """Parse all pieces into the arrays. Raises DataError for the first fault of the file."""
        numbers = arrays.labels if row_start.form == NUMBER else np.empty(0)
        # For what Python reads afterwards; takes memory only where it is written.
        late = np.empty((len(arrays.labels) + len(arrays.values), 2), np.int64)
        lates = [late[row + entry :] for row, entry in zip(first_rows, first_entries, strict=True)]

        def parse_piece(begin: int, end: int, row: int, entry: int, late: np.ndarray) -> _Piece:
            place = text, begin, end, self._base, self._limit, row_start.form, row, entry
            return _Piece(*parse(*place, numbers, arrays.lengths, arrays.indices, arrays.values, late))

        pieces = parallel_map(parse_piece, cuts[:-1], cuts[1:], first_rows, first_entries, lates)
        for piece, late in zip(pieces, lates, strict=True):
            # Before the fault is told: a late number that overflows stands earlier in the file.
            self._finish(late[: piece.lates], text, row_start, arrays)
            if piece.fault != FINE:
                found, labelled = token(text, piece.at), row_start.form != FEATURE
                fault = explained(piece.fault, found, self._base, self._limit, labelled)
                self._refuse(text, piece.at, fault)
        return pieces

    def _finish(self, late: np.ndarray, text: np.ndarray, row_start: RowStart, arrays: _Arrays) -> None:
        """Fill in what Python reads: numbers, and starts of rows; late is (k, 2) int64: offset, slot."""
        labels, weights, values = arrays.labels, arrays.weights, arrays.values
        for begin in range(0, len(late), _CHUNK):
            for offset, slot in late[begin : begin + _CHUNK].tolist():
                try:
                    if slot < 0 and row_start.form == WORD:
                        labels[~slot], weight = row_start.parse(word(text, offset))
                        if weights is not None:
                            weights[~slot] = weight
                    else:
                        column, place = (values, slot) if slot >= 0 else (labels, ~slot)
                        column[place] = grammar.finite("number", token(text, offset).decode(), "")
                except ValueError as error:
                    self._refuse(text, offset, error)

    def _refuse(self, text: np.ndarray, at: int, fault: ValueError) -> NoReturn:
        raise DataError.at(text_files.place(text, self.name, at, self._lines), fault) from None


def _cuts(text: np.ndarray, start: int) -> list[int]:
    """Return where the pieces of text[start:] begin, and the end: line starts at least PIECE apart."""
    cuts = [start]
    while cuts[-1] < text.size:
        last = min(cuts[-1] + PIECE, text.size) - 1
        cuts.append(next(line_end.end() for line_end in re.finditer(rb"\n", text.data[last:])) + last)
    return cuts


def _closed_up(array: np.ndarray, begins: Sequence[int], ends: Sequence[int]) -> np.ndarray:
    """Return the parts array[begin:end] without the gaps between them and what is after the last.

    The parts move in place; if there were gaps, the result is a copy, so that the rest is freed.
    """
    size = 0
    for begin, end in zip(begins, ends, strict=True):
        if begin > size:
            array[size : size + end - begin] = array[begin:end]
        size += end - begin
    return array if len(array) == size else array[:size].copy()
