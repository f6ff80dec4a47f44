"""Reader of svmlight / libsvm text: `label index:value index:value ... # comment`, one row a line.

Rows may start in other ways too, see row_start.py. The reader is strict on purpose: it refuses a file that
breaks a rule, with the place and the remedy, and never reads it as something else. Numbers are rounded as
Python's `float` rounds them, to the last bit.

    text_files     bytes -> text
    parsing        text -> pieces, cut at line ends; counts rows and entries
    row_start      the first row -> how all rows start
    kernels        pieces -> arrays, on all cores
    messages       a token that breaks a rule -> the error
"""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from shmps.data import text_files
from shmps.data.dialect import Dialect
from shmps.data.format import INT32_MAX, Block, Format, with_origin
from shmps.data.svmlight.parsing import Parser
from shmps.errors import OutOfSpace

BLOCK = 1 << 24  # bytes of text in memory at a time if it is read in blocks


class Svmlight(Format):
    """svmlight text: any file that is in no other format."""

    name = "svmlight text"
    options = frozenset({"zero_based", "weighted"})

    def sniff(self, path: str, how: Dialect) -> bool:
        return True

    def read_blocks(self, path: str, how: Dialect, *, labelled: bool, limit: int) -> Iterator[Block]:
        base, weighted = bool(how.zero_based), bool(how.weighted)
        for block in read_blocks(path, zero_based=base, limit=limit, labelled=labelled, weighted=weighted):
            yield self._with_origin(block, how)

    def read(self, path: str, how: Dialect, *, labelled: bool) -> Block:
        # The whole text at once: in blocks it takes longer, and the rows are copied once more.
        base, weighted = bool(how.zero_based), bool(how.weighted)
        return self._with_origin(read(path, zero_based=base, labelled=labelled, weighted=weighted), how)

    def _with_origin(self, block: Block, how: Dialect) -> Block:
        found = how.only(self.options)
        if block.weights is not None:
            found = dataclasses.replace(found, weighted=True)
        return block if found == Dialect() else with_origin(block, found)


def read(
    path: str | os.PathLike[str],
    *,
    zero_based: bool = False,
    limit: int = INT32_MAX,
    labelled: bool = True,
    weighted: bool = False,
) -> Block:
    """Return the rows of a file: X (n, largest index) float64 with columns from 0, labels, weights if any.

    limit: the largest index allowed. labelled: whether every row must have a label; else no row may have one,
    and y is nan. weighted: whether the labels of the training rows had weights (see row_start.py).

    The first bytes tell whether a file is plain text, gzip, bzip2 or xz. The peak of memory is the text and
    the rows (12 bytes a non-zero, 12 a row; 16 more for a number of over 18 digits), and besides: of an
    archive the archive; the rows once more if blank lines, or colons in comments, had been counted as rows
    and non-zeros; for a moment the text once more if no newline ends it.

    Raises DataError `file:line:column: rule, got ...; remedy` (columns count bytes from 1), and OutOfSpace if
    memory does not suffice.
    """
    name = os.fsdecode(path)
    with _enough_memory(name):
        data = text_files.read(name)
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
    parser = Parser(name, zero_based, limit, labelled, weighted)
    with _enough_memory(name):
        text = text_files.text_of(data, name)
        block = parser.block(text, len(data))
    parser.end()
    return block


def read_blocks(
    path: str | os.PathLike[str],
    *,
    zero_based: bool = False,
    limit: int = INT32_MAX,
    labelled: bool = True,
    weighted: bool = False,
) -> Iterator[Block]:
    """As `read`, but yield some rows at a time, of about BLOCK bytes of text.

    The width of each X is that of its own rows. Memory: a few times BLOCK, or the longest line.
    """
    parser = Parser(os.fsdecode(path), zero_based, limit, labelled, weighted)
    for text, taken in text_files.blocks(parser.name, BLOCK):
        with _enough_memory(parser.name):
            block = parser.block(text, taken)
        yield block
    parser.end()


@contextmanager
def _enough_memory(name: str) -> Iterator[None]:
    try:
        yield
    except OutOfSpace:
        raise
    except MemoryError as error:
        raise OutOfSpace(
            f"{name}: memory must hold a few times the size of the text, got too little; free some, or read "
            f"a part of the file"
        ) from error
