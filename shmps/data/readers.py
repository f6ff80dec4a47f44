"""The formats of files, and the one place that chooses among them.

    path, Dialect        "rows.csv.gz", Dialect(label="y")
      |  format_of       the first of FORMATS whose `sniff` is true
      v
    Format               Csv, NamedText, Svmlight
      |  read_blocks     bytes (text_files: unpacked, cut at line ends) -> numbers and labels (grammar)
      v
    Block, Block, ...    X, y and weights of some rows; X.origin is the Dialect that was found
      |-- Reader         one at a time: `mapped.convert` writes them to a folder
      '-- read           all rows as one Block -- rows_of --> Rows, which training uses

A format is one module with a subclass of `Format`, and one line in FORMATS. Parquet would be
shmps/data/parquet.py, and the line `Parquet(),` before NamedText. What is no file (standard input, a folder
of mapped data) is the matter of reading.py.
"""

import os
from collections.abc import Iterator, Sequence

from shmps.data.csv import Csv
from shmps.data.dialect import Dialect, origin_of
from shmps.data.format import INT32_MAX, Block, Format
from shmps.data.named_text import NamedText
from shmps.data.svmlight import Svmlight
from shmps.errors import UsageError, verbatim

FORMATS: Sequence[Format] = (
    Csv(),
    NamedText(),
    Svmlight(),  # the last: it takes every file
)


def format_of(path: str | os.PathLike[str], how: Dialect) -> Format:
    """Return the format of a file."""
    name = os.fsdecode(path)
    return next(format for format in FORMATS if format.sniff(name, how))


class Reader:
    """The rows of a file, some at a time; `found` is how they were read, complete after the last block."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        how: Dialect,
        *,
        limit: int = INT32_MAX,
        labelled: bool = True,
    ):
        self.found = how
        self._format = _checked_format(path, how)
        self._path, self._limit, self._labelled = os.fsdecode(path), limit, labelled

    def __iter__(self) -> Iterator[Block]:
        blocks = self._format.read_blocks(self._path, self.found, labelled=self._labelled, limit=self._limit)
        for block in blocks:
            self.found = origin_of(block.X)
            yield block


def read(path: str | os.PathLike[str], how: Dialect, *, labelled: bool = True) -> Block:
    """Return all rows of a file. Raises DataError, OutOfSpace and UsageError."""
    return _checked_format(path, how).read(os.fsdecode(path), how, labelled=labelled)


def _checked_format(path: str | os.PathLike[str], how: Dialect) -> Format:
    """Return the format of a file. Raises UsageError for an option that its reader would ignore."""
    format = format_of(path, how)
    if how.keep_names and how.hash_bits is None:
        raise UsageError(
            "{keep_names} must come with {hash_bits}, whose names it keeps, got {hash_bits.given}; set "
            "{hash_bits}, or leave {keep_names} out",
            keep_names=True,
            hash_bits=None,
        )
    for name, value in how.given_options().items():
        if name not in format.options:
            raise UsageError(
                f"{verbatim(os.fsdecode(path))}: {format.name} must be read without {{{name}}}, got "
                f"{{{name}.given}}; leave it out",
                **{name: value},
            )
    return format
