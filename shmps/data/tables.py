"""CSV: a table whose first line names its columns; one is the label, the others are features.

Without a header, columns are called by their numbers from 1. Features are numbered as their columns stand,
without those of the label and of the weights, and every cell is a number. Rows that are read for a model are
matched with the columns of training: by name, or by place where there is no header. Or features are hashed by
name, as in shmps.data.hashing: a cell that is a number is the feature `column` of that value,
any other, an empty one too, is the feature `column=cell`, for 1. Each cell speaks for itself, whatever else
is in its column: so the same row becomes the same features in every file. A row is what
`FeatureHasher(2**bits).transform([{"age": 39, "job": "nurse"}])` makes of it, to the bit.

Labels are all numbers or all text. Cells may be quoted; spaces around them do not count, and they end in the
line they began in. pyarrow parses them, and its numbers are rounded as Python's `float` does; what it refuses
is looked at line by line, to say where and why.
"""

import csv
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import hashing, texts
from shmps.data.block import Block, NamedMatrix
from shmps.data.dialect import Dialect
from shmps.data.grammar import NUMBER
from shmps.errors import DataError, UsageError

BLOCK = hashing.BLOCK  # bytes of text in memory at a time
LABEL = "label"  # the column of the labels where nothing else is said
_MOST_SHOWN = 40  # characters of a cell
_MOST_LISTED = 10  # columns of a table
_MISSING = r"^$|^[+-]?(?i:nan|inf|infinity)$"  # in the column of the labels
_LF, _CR = b"\n\r"
_DELIMITERS = (";", "\t", "|", ",")  # looked for where a line is not what it should be
_SPELLED = {"\\t": "\t", "tab": "\t"}  # what is hard to type in a shell
_TSV = re.compile(r"\.tsv(\.(gz|bz2|xz))?$", re.IGNORECASE)


class _Columns(NamedTuple):
    """The columns of a file, by their places, and how they were found."""

    names: list[str]  # of all columns
    features: list[int]  # in the order of training
    label: int | None
    weight: int | None
    dialect: Dialect


def read_blocks(
    path: str | os.PathLike[str], how: Dialect, labelled: bool = True, hasher: Any = None
) -> Iterator[Block]:
    """Rows of a table, some at a time; features are the feature columns, or what `hasher` makes of them.

    how: `columns`, where they are known, are the feature columns of training, and the rows get their order.
    labelled: whether the columns of labels and weights must exist; without labels y is nan. The `origin` of
    each X is `how` with the columns found: label and weight_column are None where there is no such column.

    Packed files as for `svmlight.read`. Raises DataError `file:line: rule, found; remedy`, and UsageError
    where pyarrow is not installed or the delimiter is not a character.
    """
    _must_have_pyarrow()
    name, columns, lines, rows, numeric = os.fsdecode(path), None, 0, 0, None
    how = dataclasses.replace(how, delimiter=_delimiter(how.delimiter, name))
    for text, taken in texts.blocks(name, BLOCK):
        start = texts.start(text, name) if columns is None else 0
        texts.check(text, name, lines)
        if columns is None:
            end = int(np.argmax(text == _LF))
            columns = _columns(text[start:end].tobytes(), name, how, labelled)
            if how.header is not False:
                start, lines = end + 1, 1
            text = text[start:]
        cells = _cells(text, name, lines, columns)
        if cells.num_rows:
            block = _Cells(cells, columns, text, name, lines)
            X = NamedMatrix(block.matrix(hasher))
            X.origin = columns.dialect
            y, numeric = block.labels(numeric, labelled)
            yield Block(X, y, block.weights(), taken)
        rows += cells.num_rows
        lines += int(np.count_nonzero(text == _LF))
    if not rows:
        raise DataError(f"{name}: a data file has at least one row, found none; check that this is the file")


def _delimiter(delimiter: str | None, name: str) -> str:
    """The character between cells: where it is not said, a tab in .tsv files, else a comma."""
    if delimiter is None:
        return "\t" if _TSV.search(name) else ","
    delimiter = _SPELLED.get(delimiter, delimiter)
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise UsageError(
            "{delimiter} must be one ASCII character, and no quote or line end, got {delimiter.value!r}; for "
            "example ; or tab",
            delimiter=delimiter,
        )
    return delimiter


def _must_have_pyarrow() -> None:
    try:
        import pyarrow.csv  # noqa: F401
    except ImportError as error:
        raise UsageError(f"CSV needs pyarrow, which reads it ({error}); pip install 'shmps[csv]'") from error


# The first line.


def _columns(line: bytes, name: str, how: Dialect, labelled: bool) -> _Columns:
    """The columns of a file by the first line. Raises DataError where they are not what `how` asks for."""
    place = f"{name}:1"
    delimiter = how.delimiter or ","
    cells = [cell.strip() for cell in _row(line, place, delimiter)]
    label = how.label or LABEL
    if how.header is False:
        if how.weight_column is not None:
            how = dataclasses.replace(how, weight_column=_place(how.weight_column, len(cells)))
        label, names = _numbered(len(cells), place, how)
    else:
        names = cells
        _check_header(names, place)
    places = {each: at for at, each in enumerate(names)}
    shown = listed(names)
    if how.weight_column == label:
        raise DataError(
            f"{place}: labels and weights must be two columns, got {label!r} for both; name another "
            f"with --label (label=...) or --weight-column (weight_column=...)"
        )
    hint = _other_delimiter(line, len(cells), delimiter)
    for what, column, flag in (("labels", label, "label"), ("weights", how.weight_column, "weight-column")):
        if labelled and column is not None and column not in places:
            raise DataError(
                f"{place}: the {what} are in the column {column!r}, found the columns {shown}; "
                + (hint or f"name theirs with --{flag} ({flag.replace('-', '_')}=...)" + _or_no_header(how))
            )
    others = [each for each in names if each not in (label, how.weight_column)]
    if not others:
        raise DataError(f"{place}: columns beside the label's are features, found none; {hint or 'add some'}")
    features = others if how.columns is None else list(how.columns)
    if set(features) != set(others):
        raise DataError(f"{place}: {other_columns(others, features)}" + f"; {hint}" * bool(hint))
    weight = how.weight_column if how.weight_column in places else None
    there = label if label in places else None
    found = dataclasses.replace(how, label=there, weight_column=weight, columns=tuple(features))
    label_at, weight_at = (None if each is None else places[each] for each in (there, weight))
    return _Columns(names, [places[each] for each in features], label_at, weight_at, found)


def _check_header(names: list[str], place: str) -> None:
    if not any(names) or all(re.match(NUMBER, each) for each in names):
        raise DataError(
            f"{place}: the first line of CSV names the columns, found {listed(names)}; add such a line, or "
            f"say that there is none: --no-header (header=False)"
        )
    if "" in names:
        raise DataError(
            f"{place}: every column has a name, found none for column {names.index('') + 1}; name it (or, if "
            f"it is pandas's index, write without: to_csv(index=False))"
        )
    twice = [each for each, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{place}: names of columns differ, found {_shown(twice[0])} twice; rename one")


def _numbered(count: int, place: str, how: Dialect) -> tuple[str, list[str]]:
    """The number of the labels' column, and those of all columns, of a table without a header."""
    if how.label is None:
        raise DataError(
            f"{place}: without a header the labels' column is called by its number, found none; name it with "
            f"--label (label=...): 1 is the first of {count} columns, -1 the last"
        )
    names = [str(number) for number in range(1, count + 1)]
    label = _place(how.label, count)
    if how.columns is None and label not in names:
        raise DataError(
            f"{place}: without a header the labels' column is called by its number from 1 to {count}, found "
            f"{how.label!r}; 1 is the first, -1 the last"
        )
    if how.columns is None:
        return label, names
    trained_on = {*how.columns, label, how.weight_column} - {None}
    if count == len(how.columns) < len(trained_on):
        return label, list(how.columns)  # rows for a model, without labels and weights: the others close up
    if count != len(trained_on):  # which are missing cannot be known
        raise DataError(
            f"{place}: rows without a header must have the {len(trained_on)} columns of training, or its "
            f"{len(how.columns)} features alone, got {count} columns; add or remove columns"
        )
    return label, names


def _place(number: str, count: int) -> str:
    """A column's number from 1, where one below 0 counts from the last."""
    return str(count + 1 + int(number)) if re.fullmatch("-[0-9]{1,9}", number) else number


def other_columns(found: Sequence[str], training: Sequence[str]) -> str:
    """What is wrong where the feature columns of some rows are not those of training."""
    here, there = set(found), set(training)
    lacking = [each for each in training if each not in here]
    strange = [each for each in found if each not in there]
    told = [f"{what} {listed(those)}" for what, those in (("no", lacking), ("also", strange)) if those]
    return (
        f"rows have the columns of training, {listed(training)}, in any order; found {' and '.join(told)}; "
        f"rename, add or remove columns"
    )


def listed(names: Sequence[str]) -> str:
    """Names of columns, for a message: the first of many."""
    more = f", ... ({len(names):,} columns)" if len(names) > _MOST_LISTED else ""
    return ", ".join(map(_shown, names[:_MOST_LISTED])) + more


def _or_no_header(how: Dialect) -> str:
    return "" if how.header is False else ", or say that line 1 is a row: --no-header (header=False)"


def _other_delimiter(line: bytes, count: int, delimiter: str) -> str:
    """What to do where another delimiter makes more columns of a line."""
    for other in _DELIMITERS:
        if other != delimiter and line.count(other.encode()) >= count:
            shown = "tab" if other == "\t" else other
            return (
                f"the columns look separated by {shown!r}: say so with --delimiter {shown!r} (delimiter=...)"
            )
    return ""


def _row(line: bytes, place: str, delimiter: str) -> list[str]:
    """The cells of a line; none of a blank one. Raises DataError where it is no row."""
    try:
        cells = next(csv.reader([line.removesuffix(b"\r").decode() + "\n"], delimiter=delimiter))
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
            pyarrow.csv.ParseOptions(delimiter=columns.dialect.delimiter),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False
            ),
        )
        if cells.num_rows == len(ends) - np.count_nonzero(blank):
            return cells
    except pyarrow.ArrowInvalid as invalid:
        error = invalid
    _refuse_rows(text, name, lines, columns)
    raise DataError(f"{name}: CSV is a row of cells a line, found: {error}; check what wrote it")


def _refuse_rows(text: np.ndarray, name: str, lines: int, columns: _Columns) -> None:
    """Raises DataError for the first line that has not a cell for each of the columns."""
    count, delimiter = len(columns.names), columns.dialect.delimiter or ","
    for number, line in enumerate(text[:-1].tobytes().split(b"\n"), lines + 1):
        cells = _row(line, f"{name}:{number}", delimiter)
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

    def labels(self, numeric: bool | None, labelled: bool) -> tuple[np.ndarray, bool | None]:
        """(n,) float64, or of text objects, and whether they are numbers, as `numeric` says of those before.

        Where there need not be labels, nan stands for what is missing.
        """
        import pyarrow.compute

        at = self.columns.label
        if at is None:
            return np.full(self.cells.num_rows, np.nan), numeric
        cells = _trimmed(self.cells[at])
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
        """(n,) float64; None where no column has them."""
        if self.columns.weight is None:
            return None
        weights = _numbers(_trimmed(self.cells[self.columns.weight]))
        if not (weights >= 0).all():
            row = int(np.argmin(weights >= 0))
            self._refuse(row, self.columns.weight, "a weight", "a finite number from 0 up", "correct it")
        return weights

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
            remedy = "correct it, or hash text with --hash-bits 18 (hash_bits=18), or leave the column out"
            self._refuse(int(row), self.columns.features[at], "a cell", "a finite number", remedy)
        return csr_matrix(dense)

    def hashed(self, hasher: Any) -> csr_matrix:
        """(n, 2**bits) by their names."""
        named = [_pairs(self.columns.names[at], _trimmed(self.cells[at])) for at in self.columns.features]
        return csr_matrix(hasher.transform(zip(*named, strict=True)))

    def _refuse(self, row: int, at: int, what: str, rule: str, remedy: str) -> NoReturn:
        lines = self.text[:-1].tobytes().split(b"\n")
        line = [number for number, line in enumerate(lines, 1) if line.strip(b"\r")][row]
        raise DataError(
            f"{self.name}:{self.lines + line}: {what} in the column {self.columns.names[at]!r} is "
            f"{rule}, found {_shown(self.cells[at][row].as_py())}; {remedy}"
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


def _objects(cells: Any) -> np.ndarray:
    """(n,) of str; equal ones are the same object."""
    encoded = cells.combine_chunks().dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()]


def _pairs(column: str, cells: Any) -> list[tuple[str, float]]:
    """The feature that each cell is, and its value."""
    encoded = cells.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary
    words = zip(distinct.to_pylist(), _numbers(distinct).tolist(), strict=True)
    pairs = [(column, number) if number == number else (f"{column}={word}", 1.0) for word, number in words]
    return [pairs[at] for at in encoded.indices.to_pylist()]
