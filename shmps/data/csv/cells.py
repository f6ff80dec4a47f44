"""The cells of CSV as labels, weights and features. pyarrow parses them.

Numbers are rounded as Python's `float` rounds them. Text that pyarrow refuses is parsed again line by line,
to tell where it breaks a rule.
"""

from typing import Any, NoReturn

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv
from scipy.sparse import csr_matrix

from shmps.data.csv.header import Columns, cells_of
from shmps.data.grammar import NUMBER, shown
from shmps.data.hashing import Hasher
from shmps.errors import DataError, verbatim

_MISSING = r"^$|^[+-]?(?i:nan|inf|infinity)$"  # in the column of the labels
_LF, _CR = b"\n\r"


class Cells:
    """The cells of some rows of a file.

    Made of a `text` without the header; `lines` lines of the file precede it.
    """

    def __init__(self, text: np.ndarray, path: str, lines: int, columns: Columns):
        self._text, self._path, self._lines, self._columns = text, path, lines, columns
        self._table = self._parsed()  # a pyarrow.Table of strings

    @property
    def num_rows(self) -> int:
        return self._table.num_rows

    def labels(self, numeric: bool | None, labelled: bool) -> tuple[np.ndarray, bool | None]:
        """Return the labels (n,), float64 or str objects, and whether the labels of the file are numbers.

        numeric: whether those of the rows before are; None if there are none. labelled: whether each row must
        have a label; else a missing one is nan.
        """
        at = self._columns.label
        if at is None:
            return np.full(self.num_rows, np.nan), numeric
        cells = _trimmed(self._table[at])
        numbers = _numbers(cells)
        missing = pyarrow.compute.match_substring_regex(cells, _MISSING).to_numpy()
        if not labelled:
            if not (np.isnan(numbers) & ~missing).any():
                return numbers, numeric
            return np.where(missing, np.nan, _objects(cells)), numeric
        if missing.any():
            remedy = "correct it, or leave the row out"
            self._refuse(int(missing.argmax()), at, "a label", "a number or text", remedy)
        numeric = not np.isnan(numbers[0]) if numeric is None else numeric
        strange = np.isnan(numbers) == numeric
        if strange.any():
            kind = "a number" if numeric else "text"
            rule = f"{kind}, as in the rows before (labels are all numbers or all text)"
            self._refuse(int(strange.argmax()), at, "a label", rule, "write all of them alike")
        return numbers if numeric else _objects(cells), numeric

    def weights(self) -> np.ndarray | None:
        """Return the weights (n,) float64; None if no column has them."""
        at = self._columns.weight
        if at is None:
            return None
        weights = _numbers(_trimmed(self._table[at]))
        if not (weights >= 0).all():
            self._refuse(int(np.argmin(weights >= 0)), at, "a weight", "a finite number >= 0", "correct it")
        return weights

    def features(self) -> csr_matrix:
        """Return X (n, feature columns)."""
        # As one long column: there may be more columns than rows, and each call of pyarrow takes its time.
        chunks = [chunk for at in self._columns.features for chunk in self._table[at].chunks]
        dense = _numbers(_trimmed(pyarrow.chunked_array(chunks))).reshape(-1, self.num_rows).T
        if np.isnan(dense).any():
            row, at = np.unravel_index(np.argmax(np.isnan(dense)), dense.shape)
            remedy = "correct it, or hash text with {hash_bits:18}, or leave the column out"
            self._refuse(int(row), self._columns.features[at], "a cell", "a finite number", remedy)
        return csr_matrix(dense)

    def hashed(self, hasher: Hasher) -> csr_matrix:
        """Return X (n, 2**bits): features hashed by the names of their columns."""
        columns = self._columns
        named = [_pairs(columns.names[at], _trimmed(self._table[at])) for at in columns.features]
        return hasher.transform(zip(*named, strict=True))

    def _parsed(self) -> Any:
        """Return the pyarrow.Table of the text. Raises DataError unless each line is blank or a row."""
        text, error = self._text, None
        ends = np.flatnonzero(text == _LF)
        lengths = np.diff(ends, prepend=-1) - 1
        blank = (lengths == 0) | ((lengths == 1) & (text[ends - 1] == _CR))
        names = [str(at) for at in range(len(self._columns.names))]
        if blank.all():
            return pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in names})
        try:
            table = pyarrow.csv.read_csv(
                pyarrow.BufferReader(pyarrow.py_buffer(text)),
                pyarrow.csv.ReadOptions(use_threads=False, block_size=text.size, column_names=names),
                pyarrow.csv.ParseOptions(delimiter=self._columns.dialect.delimiter),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False
                ),
            )
            if table.num_rows == len(ends) - np.count_nonzero(blank):
                return table
        except pyarrow.ArrowInvalid as invalid:
            error = invalid
        self._refuse_a_line()
        raise DataError(
            f"{self._path}: each line of CSV must be a row of cells, got: {error}; check what wrote the file"
        )

    def _refuse_a_line(self) -> None:
        """Raise DataError for the first line that has not a cell for each of the columns."""
        count, delimiter = len(self._columns.names), self._columns.dialect.delimiter or ","
        for number, line in enumerate(self._text[:-1].tobytes().split(b"\n"), self._lines + 1):
            cells = cells_of(line, f"{self._path}:{number}", delimiter)
            if cells and len(cells) != count:
                raise DataError(
                    f"{self._path}:{number}: a row must have a cell for each of the {count} columns of line "
                    f"1, got {len(cells)}; correct it"
                )

    def _refuse(self, row: int, at: int, what: str, rule: str, remedy: str) -> NoReturn:
        lines = self._text[:-1].tobytes().split(b"\n")
        line = [number for number, line in enumerate(lines, 1) if line.strip(b"\r")][row]
        place, column = f"{self._path}:{self._lines + line}", self._columns.names[at]
        got = f"{what} in the column {column!r} must be {rule}, got {shown(self._table[at][row].as_py())}"
        raise DataError(f"{verbatim(place)}: {verbatim(got)}; {remedy}", hash_bits=None)


def _trimmed(cells: Any) -> Any:
    return pyarrow.compute.utf8_trim_whitespace(cells)


def _numbers(cells: Any) -> np.ndarray:
    """Return the numbers (n,) float64 of cells; nan for a cell that is no finite number."""
    is_number = pyarrow.compute.match_substring_regex(cells, NUMBER)
    numbers = pyarrow.compute.if_else(is_number, cells, "nan").cast("float64").to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _objects(cells: Any) -> np.ndarray:
    """Return the cells (n,) as str; equal ones are the same object."""
    encoded = cells.combine_chunks().dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()]


def _pairs(column: str, cells: Any) -> list[tuple[str, float]]:
    """Return the name and the value of the feature that each cell is."""
    encoded = cells.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary
    words = zip(distinct.to_pylist(), _numbers(distinct).tolist(), strict=True)
    pairs = [(column, number) if number == number else (f"{column}={word}", 1.0) for word, number in words]
    return [pairs[at] for at in encoded.indices.to_pylist()]
