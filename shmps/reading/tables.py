"""CSV: a table whose first line names its columns; one is the label, the others are features.

Features are numbered as their columns stand, the label's left out, and every cell is a number. Or they are
hashed by name, as in shmps.reading.hashing: a cell that is a number is the feature `column` of that value,
any other, an empty one too, is the feature `column=cell`, for 1. Each cell speaks for itself, whatever else
is in its column: so the same row becomes the same features in every file. A row is what
`FeatureHasher(2**bits).transform([{"age": 39, "job": "nurse"}])` makes of it, to the bit.

Cells may be quoted; spaces around them do not count, and they end in the line they began in. pyarrow parses
them, and its numbers are rounded as Python's `float` does; what it refuses is looked at line by line, to say
where and why.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
from scipy.sparse import csr_matrix

from shmps.errors import DataError, UsageError
from shmps.reading import hashing, texts
from shmps.reading.block import Block
from shmps.reading.grammar import NUMBER

BLOCK = hashing.BLOCK  # bytes of text in memory at a time
LABEL = "label"  # the column of the labels where nothing else is said
_MOST_SHOWN = 40  # characters of a cell, columns of a table
_LF, _CR = b"\n\r"


class _Columns(NamedTuple):
    """What the first line names."""

    names: list[str]
    label: int | None  # which of them has the labels

    @property
    def features(self) -> list[int]:
        return [at for at in range(len(self.names)) if at != self.label]


def read_blocks(
    path: str | os.PathLike[str],
    label: str | None = None,
    hash_bits: int | None = None,
    labelled: bool = True,
) -> Iterator[Block]:
    """Rows of a table, some at a time; features are the columns without the label, or 2**hash_bits.

    label: the column of the labels; None: LABEL. labelled: whether there must be one; without it y is nan.

    Packed files as for `svmlight.read`. Raises DataError `file:line: rule, found; remedy`, and UsageError
    where pyarrow, or for hash_bits scikit-learn, is not installed.
    """
    _must_have_pyarrow()
    hasher = None if hash_bits is None else hashing.make_hasher(hash_bits)
    name, columns, lines, rows = os.fsdecode(path), None, 0, 0
    for text, taken in texts.blocks(name, BLOCK):
        start = texts.start(text, name) if columns is None else 0
        texts.check(text, name, lines)
        if columns is None:
            end = int(np.argmax(text == _LF))
            columns = _columns(text[start:end].tobytes(), name, label or LABEL, labelled)
            text, lines = text[end + 1 :], 1
        cells = _cells(text, name, lines, columns)
        if cells.num_rows:
            block = _Cells(cells, columns, text, name, lines)
            yield Block(block.matrix(hasher), block.labels(), None, taken)
        rows += cells.num_rows
        lines += int(np.count_nonzero(text == _LF))
    if not rows:
        raise DataError(f"{name}: a data file has at least one row, found none; check that this is the file")


def _must_have_pyarrow() -> None:
    try:
        import pyarrow.csv  # noqa: F401
    except ImportError as error:
        raise UsageError(f"CSV needs pyarrow, which reads it ({error}); pip install 'shmps[csv]'") from error


# The first line.


def _columns(line: bytes, name: str, label: str, labelled: bool) -> _Columns:
    place = f"{name}:1"
    names = [cell.strip() for cell in _row(line, place)]
    shown = ", ".join(map(_shown, names[:_MOST_SHOWN])) + (", ..." if len(names) > _MOST_SHOWN else "")
    if not any(names) or all(re.match(NUMBER, each) for each in names):
        raise DataError(f"{place}: the first line of CSV names the columns, found {shown}; add such a line")
    if "" in names:
        raise DataError(
            f"{place}: every column has a name, found none for column {names.index('') + 1}; name it (or, if "
            f"it is pandas's index, write without: to_csv(index=False))"
        )
    twice = [each for each, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{place}: names of columns differ, found {_shown(twice[0])} twice; rename one")
    if labelled and label not in names:
        raise DataError(
            f"{place}: the labels are in the column {label!r}, found the columns {shown}; name theirs with "
            f"--label (label=...)"
        )
    if names == [label]:
        raise DataError(f"{place}: columns beside the label's are features, found none; add some")
    return _Columns(names, names.index(label) if label in names else None)


def _row(line: bytes, place: str) -> list[str]:
    """The cells of a line; none of a blank one. Raises DataError where it is no row."""
    try:
        cells = next(csv.reader([line.removesuffix(b"\r").decode() + "\n"]))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: text must be ASCII or UTF-8, found {error}; convert it with: iconv -f LATIN1 -t UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(f"{place}: a line is a row of cells, found: {error}; correct it") from None
    if cells and cells[-1].endswith("\n"):
        raise DataError(
            f"{place}: a cell ends in the line that it began in, found an open quote; close it, or take the "
            f"line ends out of the cells"
        )
    return cells


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _MOST_SHOWN else cell[:_MOST_SHOWN] + "...")


# Rows.


def _cells(text: np.ndarray, name: str, lines: int, columns: _Columns) -> Any:
    """The cells of a text as a pyarrow.Table of strings; `lines` of the file precede it."""
    import pyarrow
    import pyarrow.csv

    ends = np.flatnonzero(text == _LF)
    lengths = np.diff(ends, prepend=-1) - 1
    blank = (lengths == 0) | ((lengths == 1) & (text[ends - 1] == _CR))
    names = [str(at) for at in range(len(columns.names))]
    if blank.all():
        return pyarrow.table({each: pyarrow.array([], pyarrow.string()) for each in names})
    error: Exception | None = None
    try:
        cells = pyarrow.csv.read_csv(
            pyarrow.BufferReader(pyarrow.py_buffer(text)),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=text.size, column_names=names),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False
            ),
        )
        if cells.num_rows == len(ends) - np.count_nonzero(blank):
            return cells
    except pyarrow.ArrowInvalid as invalid:
        error = invalid
    _refuse_rows(text, name, lines, len(columns.names))
    raise DataError(f"{name}: CSV is a row of cells a line, found: {error}; check what wrote it")


def _refuse_rows(text: np.ndarray, name: str, lines: int, count: int) -> None:
    """Raises DataError for the first line that is no row of `count` cells."""
    for number, line in enumerate(text[:-1].tobytes().split(b"\n"), lines + 1):
        cells = _row(line, f"{name}:{number}")
        if cells and len(cells) != count:
            raise DataError(
                f"{name}:{number}: a row has a cell for each of the {count} columns that line 1 names, found "
                f"{len(cells)}; correct it"
            )


class _Cells(NamedTuple):
    """Some rows: their `cells`, and the `text` that they were, which `lines` of the file precede."""

    cells: Any
    columns: _Columns
    text: np.ndarray
    name: str
    lines: int

    def labels(self) -> np.ndarray:
        """(n,) float64; nan where no column has them."""
        if self.columns.label is None:
            return np.full(self.cells.num_rows, np.nan)
        labels = _numbers(_trimmed(self.cells[self.columns.label]))
        if np.isnan(labels).any():
            row = int(np.argmax(np.isnan(labels)))
            self._refuse(row, self.columns.label, "a label", "encode classes as numbers, such as 0 and 1")
        return labels

    def matrix(self, hasher: Any) -> csr_matrix:
        """(n, features); features by their places where `hasher` is None."""
        return self.features() if hasher is None else self.hashed(hasher)

    def features(self) -> csr_matrix:
        """(n, columns) by their places."""
        import pyarrow

        # As one long column: there may be more columns than rows, and each call takes its time.
        chunks = [chunk for at in self.columns.features for chunk in self.cells[at].chunks]
        dense = _numbers(_trimmed(pyarrow.chunked_array(chunks))).reshape(-1, self.cells.num_rows).T
        if np.isnan(dense).any():
            row, at = np.unravel_index(np.argmax(np.isnan(dense)), dense.shape)
            remedy = "correct it, or hash text by --hash-bits (hash_bits=...)"
            self._refuse(int(row), self.columns.features[at], "a cell", remedy)
        return csr_matrix(dense)

    def hashed(self, hasher: Any) -> csr_matrix:
        """(n, 2**bits) by their names."""
        named = [_pairs(self.columns.names[at], _trimmed(self.cells[at])) for at in self.columns.features]
        return csr_matrix(hasher.transform(zip(*named, strict=True)))

    def _refuse(self, row: int, at: int, what: str, remedy: str) -> NoReturn:
        lines = self.text[:-1].tobytes().split(b"\n")
        line = [number for number, line in enumerate(lines, 1) if line.strip(b"\r")][row]
        raise DataError(
            f"{self.name}:{self.lines + line}: {what} in the column {self.columns.names[at]!r} is a finite "
            f"number, found {_shown(self.cells[at][row].as_py())}; {remedy}"
        )


def _trimmed(cells: Any) -> Any:
    import pyarrow.compute

    return pyarrow.compute.utf8_trim_whitespace(cells)


def _numbers(cells: Any) -> np.ndarray:
    """(n,) float64; nan for a cell that is no finite number."""
    import pyarrow.compute

    is_number = pyarrow.compute.match_substring_regex(cells, NUMBER)
    numbers = pyarrow.compute.if_else(is_number, cells, "nan").cast("float64").to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _pairs(column: str, cells: Any) -> list[tuple[str, float]]:
    """The feature that each cell is, and its value."""
    encoded = cells.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary
    words = zip(distinct.to_pylist(), _numbers(distinct).tolist(), strict=True)
    pairs = [(column, number) if number == number else (f"{column}={word}", 1.0) for word, number in words]
    return [pairs[at] for at in encoded.indices.to_pylist()]
