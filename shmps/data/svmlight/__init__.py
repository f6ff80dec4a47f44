"""Reader of svmlight / libsvm text: `label index:value index:value ... # comment`, one row a line.

Rows may start in other ways too, see shmps.data.svmlight.heads. Strict on purpose: a file that is not what
it claims to be is refused with the place and the remedy, never read as something else. Numbers come out
rounded as Python's `float` does, to the last bit.

The text is cut at line ends, and its pieces are parsed at the same time, into their places in the same
arrays: rows and entries are counted first. How many pieces there are changes nothing in what comes out, nor
in what is told: the first fault of the file.
"""

import copy
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import grammar, texts
from shmps.data.block import Block
from shmps.data.svmlight.faults import explained, token, word
from shmps.data.svmlight.heads import Head, WrongHead, of_text
from shmps.data.svmlight.kernels import FEATURE, FINE, INDEX_CEILING, NUMBER, WORD, census, parse
from shmps.errors import DataError, OutOfSpace, UsageError
from shmps.system.parallel import parallel_map

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
    path: str | os.PathLike[str],
    *,
    zero_based: bool = False,
    limit: int = INT32_MAX,
    labelled: bool = True,
    weighted: bool = False,
) -> Block:
    """The file as one Block: X (n, largest index) float64 with 0-based columns, labels, and weights if rows
    have them.

    labelled: whether every row must have a label; else no row may have one, and y is nan. weighted: whether
    the labels of the training rows had weights (see shmps.data.svmlight.heads).

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
    return read_bytes(data, name, zero_based=zero_based, limit=limit, labelled=labelled, weighted=weighted)


def read_bytes(
    data: bytes | np.ndarray,
    name: str,
    *,
    zero_based: bool = False,
    limit: int = INT32_MAX,
    labelled: bool = True,
    weighted: bool = False,
) -> Block:
    """As `read`, from the bytes of a file, (bytes,) uint8 if an array; `name` is for the messages."""
    reader = _Reader(name, zero_based, limit, labelled, weighted)
    with _enough_memory(name):
        text = texts.text_of(data, name)
        block = reader.block(text, len(data))
    reader.end()
    return block


def read_blocks(
    path: str | os.PathLike[str],
    *,
    zero_based: bool = False,
    limit: int = INT32_MAX,
    labelled: bool = True,
    weighted: bool = False,
) -> Iterator[Block]:
    """As `read`, but some rows at a time, of about BLOCK bytes of text.

    The width of each X is that of its own rows. Memory: a few times BLOCK, or the longest line.
    """
    reader = _Reader(os.fsdecode(path), zero_based, limit, labelled, weighted)
    for text, taken in texts.blocks(reader.name, BLOCK):
        with _enough_memory(reader.name):
            block = reader.block(text, taken)
        yield block
    reader.end()


def fit_columns(X: csr_matrix, num_features: int) -> tuple[csr_matrix, int]:
    """X (n, d) with exactly `num_features` columns, and how many non-zeros that dropped.

    Shares X's arrays where nothing is dropped.
    """
    if num_features < 0:
        raise UsageError(f"num_features must be 0 or more, found {num_features}; pass X.shape[1] of training")
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
    except OutOfSpace:
        raise
    except MemoryError as error:
        raise OutOfSpace(
            f"{name}: reading takes a few times the size of the text in memory, and there is not enough; "
            f"free some, or read a part of the file"
        ) from error


class _Reader:
    """A file that is read from its start to its end; `base` is the smallest index, and becomes column 0."""

    def __init__(self, name: str, zero_based: bool, limit: int, labelled: bool, weighted: bool):
        if not 0 <= limit < INDEX_CEILING:
            raise UsageError(f"limit must be from 0 to 10**18 - 1, found {limit}; leave it at {INT32_MAX}")
        self.name, self.base, self.limit = name, 0 if zero_based else 1, limit
        self.labelled, self.weighted = labelled, weighted
        self.head: Head | None = None  # how all rows start; None: there was no row
        self.lines = self.rows = 0  # that were read

    def end(self) -> None:
        if not self.rows:
            raise DataError(
                f"{self.name}: a data file has at least one row, found none; check that this is the file"
            )

    def block(self, text: np.ndarray, taken: int) -> Block:
        """The rows of the next part of the file."""
        start = 0 if self.lines else texts.start(text, self.name)
        cuts = _cuts(text, start)
        begins, ends = cuts[:-1], cuts[1:]
        counts = np.array(
            [(0, 0, 0), *parallel_map(lambda begin, end: census(text[begin:end]), begins, ends)]
        )
        if counts[:, 2].any():
            texts.refuse_strange(text, self.name, self.lines)
        # Where each piece's rows and entries go, and how many there are in all: at most, since blank lines
        # and the colons of comments are counted too.
        (*first_rows, most_rows), (*first_entries, most_entries) = counts[:, :2].cumsum(axis=0).T.tolist()
        index_type = np.int32 if max(self.limit, most_entries) <= INT32_MAX else np.int64
        head = self._head_of(text, start)
        labels, weights = head.columns(most_rows)
        numbers = labels if head.form == NUMBER else np.empty(0)
        lengths = np.empty(most_rows, index_type)
        values, indices = np.empty(most_entries), np.empty(most_entries, index_type)
        late = np.empty((most_rows + most_entries, 2), np.int64)  # takes memory where it is written only
        lates = [late[row + entry :] for row, entry in zip(first_rows, first_entries, strict=True)]

        def parse_piece(begin: int, end: int, row: int, entry: int, late: np.ndarray) -> _Parsed:
            place = text, begin, end, self.base, self.limit, head.form, row, entry
            return _Parsed(*parse(*place, numbers, lengths, indices, values, late))

        pieces = parallel_map(parse_piece, begins, ends, first_rows, first_entries, lates)
        for piece, late in zip(pieces, lates, strict=True):
            # Before the fault is told: a late number that overflows stands earlier in the file.
            self._finish(late[: piece.lates], text, head, values, labels, weights)
            if piece.fault != FINE:
                found = token(text, piece.at)
                labelled = head.form != FEATURE
                self._refuse(text, piece.at, explained(piece.fault, found, self.base, self.limit, labelled))
        row_ends, entry_ends = [piece.row for piece in pieces], [piece.entry for piece in pieces]
        labels, lengths = (_closed_up(array, first_rows, row_ends) for array in (labels, lengths))
        if weights is not None:
            weights = _closed_up(weights, first_rows, row_ends)
        values, indices = (_closed_up(array, first_entries, entry_ends) for array in (values, indices))
        indptr = np.zeros(len(labels) + 1, index_type)
        np.cumsum(lengths, out=indptr[1:])
        columns = max([piece.largest + 1 - self.base for piece in pieces], default=0)
        X = csr_matrix((values, indices, indptr), shape=(len(labels), columns))
        X.has_canonical_format = True  # strictly increasing indices were checked; scipy need not look again
        self.lines += most_rows
        self.rows += len(labels)
        return Block(X, labels, weights, taken)

    def _head_of(self, text: np.ndarray, start: int) -> Head:
        """How the rows of the file start: as its first row."""
        if self.head is None:
            try:
                self.head = of_text(text, start, self.base, self.labelled, self.weighted)
            except WrongHead as error:
                self._refuse(text, error.at, str(error))
        return self.head or Head(float)

    def _finish(
        self,
        late: np.ndarray,
        text: np.ndarray,
        head: Head,
        values: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None,
    ) -> None:
        """Fill in what Python reads, numbers and starts of rows; late is (k, 2) int64: offset, slot."""
        for begin in range(0, len(late), CHUNK):  # in parts: a list takes ten times the memory of an array
            for offset, slot in late[begin : begin + CHUNK].tolist():
                try:
                    if slot < 0 and head.form == WORD:
                        labels[~slot], weight = head.parse(word(text, offset))
                        if weights is not None:
                            weights[~slot] = weight
                    else:
                        column, place = (values, slot) if slot >= 0 else (labels, ~slot)
                        column[place] = grammar.finite("number", token(text, offset).decode(), "")
                except ValueError as error:
                    self._refuse(text, offset, str(error))

    def _refuse(self, text: np.ndarray, at: int, why: str) -> NoReturn:
        raise DataError(f"{texts.place(text, self.name, at, self.lines)}: {why}") from None


def _cuts(text: np.ndarray, start: int) -> list[int]:
    """Where the pieces of text[start:] begin, and the end: line starts at least PIECE apart."""
    cuts = [start]
    while cuts[-1] < text.size:
        last = min(cuts[-1] + PIECE, text.size) - 1
        cuts.append(next(line_end.end() for line_end in re.finditer(rb"\n", text.data[last:])) + last)
    return cuts


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
