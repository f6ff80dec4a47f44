"""What a format of files implements, and the blocks of rows that its reader yields."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.sparse
from scipy.sparse import csr_matrix

from shmps.data.dialect import Dialect
from shmps.errors import DataError

INT32_MAX = 2**31 - 1  # the default limit of indices


class Block(NamedTuple):
    """Some rows of a file, in the order of the file.

    The labels of a file are numbers in every row (float64), text in every row (object, of str), or missing in
    every row (float64, all nan); a file that mixes them is refused.
    """

    X: csr_matrix  # (n, features) float64; `dialect.origin_of(X)` says how it was read
    y: np.ndarray  # (n,) float64, or object of str
    weights: np.ndarray | None  # (n,) float64, finite, >= 0: the factor of each row's loss; None: 1
    taken: int  # bytes of the file that have been read so far


class Format(ABC):
    """A format of files of rows: how to recognise a file, and how to read it.

    Readers raise DataError (`file:line: rule, got ...; remedy`), OutOfSpace and UsageError.
    """

    name: ClassVar[str]  # for messages
    options: ClassVar[frozenset[str]]  # the fields of Dialect that the reader obeys

    @abstractmethod
    def sniff(self, path: str, how: Dialect) -> bool:
        """Return whether a file is in this format, by its name, its first bytes, or what `how` asks for.

        A pipe must not be read for that: its bytes would be lost.
        """

    @abstractmethod
    def read_blocks(self, path: str, how: Dialect, *, labelled: bool, limit: int) -> Iterator[Block]:
        """Yield the rows of a file, some at a time, in bounded memory.

        The origin of each X is `how` with what the file itself says. labelled: whether each row must have a
        label; without one y is nan. limit: the largest index that the file may name.
        """

    def read(self, path: str, how: Dialect, *, labelled: bool) -> Block:
        """Return all rows of a file."""
        return stacked(self.read_blocks(path, how, labelled=labelled, limit=INT32_MAX))


class FileMatrix(csr_matrix):
    """X (rows, features) of a file: an ordinary csr_matrix that knows how it was read.

    The result of an operation has the same class, but an empty origin.
    """

    origin: Dialect = Dialect()


def with_origin(block: Block, origin: Dialect) -> Block:
    """Return the block with a FileMatrix that has this origin; the arrays are not copied."""
    X = FileMatrix(block.X)
    X.has_canonical_format = block.X.has_canonical_format
    X.origin = origin
    return block._replace(X=X)


def stacked(blocks: Iterable[Block]) -> Block:
    """Return all rows of some blocks of the same width, with the origin of the last."""
    parts = list(blocks)
    X = scipy.sparse.vstack([part.X for part in parts], format="csr")
    y = np.concatenate([part.y for part in parts])
    last = parts[-1]
    return with_origin(Block(X, y, _weights(parts), last.taken), last.X.origin)


def _weights(blocks: list[Block]) -> np.ndarray | None:
    """Return the weights of all rows; None if no block has any."""
    if all(block.weights is None for block in blocks):
        return None
    parts = [np.ones(len(block.y)) if block.weights is None else block.weights for block in blocks]
    return np.concatenate(parts)


def no_rows(path: str) -> DataError:
    return DataError(f"{path}: a data file must have at least one row, got none; check that this is the file")
