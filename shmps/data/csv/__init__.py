"""Reader of CSV: a table with one row a line; one column has the labels, the others are features.

The first line names the columns; without a header, columns are known by their numbers from 1. Features are
numbered in the order of their columns, without those of the label and of the weights, and every cell must be
a number. Rows that are read for a model are matched with the columns of training: by name, or by place where
there is no header.

With `hash_bits` features are hashed by name, as in shmps.data.hashing: a cell that is a number is the feature
`column` with that value; any other cell, an empty one too, is the feature `column=cell` with value 1. A
cell's feature does not depend on other cells of its column: the same row becomes the same features in every
file.

Labels are all numbers or all text. Cells may be quoted; spaces around them do not count; a cell ends in the
line where it began. header.py reads the first line; cells.py has pyarrow parse the others, in blocks.
"""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

from shmps.data import text_files
from shmps.data.csv.header import Columns, columns_of
from shmps.data.dialect import Dialect
from shmps.data.format import Block, Format, no_rows, with_origin
from shmps.data.hashing import Hasher
from shmps.errors import UsageError

BLOCK = 1 << 22  # bytes of text in memory at a time; as Python strings (hashed) it takes thirty times as many
_LF = ord("\n")
_SUFFIX = re.compile(r"\.[ct]sv(\.(gz|bz2|xz))?$", re.IGNORECASE)
_TSV = re.compile(r"\.tsv(\.(gz|bz2|xz))?$", re.IGNORECASE)
_SPELLED = {"\\t": "\t", "tab": "\t"}  # a tab is hard to type in a shell


class Csv(Format):
    """Files whose names end with .csv or .tsv (.csv.gz, ...), and others if an option of tables is given."""

    name = "CSV"
    options = frozenset({
        "label", "delimiter", "header", "weight_column", "hash_bits", "keep_names", "columns",
    })  # fmt: skip

    def sniff(self, path: str, how: Dialect) -> bool:
        return how.has_table_options or _SUFFIX.search(path) is not None

    def read_blocks(self, path: str, how: Dialect, *, labelled: bool, limit: int) -> Iterator[Block]:
        """Yield the rows of a file (see `Format`).

        how: `columns`, if known, are the feature columns of training, in whose order the rows are read.
        labelled: whether the columns of labels and weights must exist. In the origin of each X, label and
        weight_column are None if there is no such column.

        Raises UsageError if pyarrow is not installed or the delimiter is not a character.
        """
        _must_have_pyarrow()
        from shmps.data.csv.cells import Cells  # not above: it imports pyarrow

        how = dataclasses.replace(how.only(self.options), delimiter=_delimiter(how.delimiter, path))
        hasher = None if how.hash_bits is None else Hasher(how.hash_bits, how.keep_names)
        columns: Columns | None = None
        lines, rows, numeric = 0, 0, None
        for text, taken in text_files.blocks(path, BLOCK):
            start = 0 if columns else text_files.start(text, path)
            text_files.check(text, path, lines)
            if columns is None:
                end = int(np.argmax(text == _LF))
                columns = columns_of(text[start:end].tobytes(), path, how, labelled)
                if how.header is not False:
                    start, lines = end + 1, 1
                text = text[start:]
            cells = Cells(text, path, lines, columns)
            if cells.num_rows:
                X = cells.features() if hasher is None else cells.hashed(hasher)
                y, numeric = cells.labels(numeric, labelled)
                origin = dataclasses.replace(columns.dialect, names=None if hasher is None else hasher.names)
                yield with_origin(Block(X, y, cells.weights(), taken), origin)
            rows += cells.num_rows
            lines += int(np.count_nonzero(text == _LF))
        if not rows:
            raise no_rows(path)


def _delimiter(delimiter: str | None, path: str) -> str:
    """Return the character between cells: if none is given, a tab in .tsv files, else a comma."""
    if delimiter is None:
        return "\t" if _TSV.search(path) else ","
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
        raise UsageError(
            f"CSV needs pyarrow, which parses it, got no such package ({error}); pip install 'shmps[csv]'"
        ) from error
