"""Checked reads of mapped data.

A mapping of a file that is cut short ends the process by SIGBUS. A read of such a file returns too few bytes,
which is an error with a message. So a process that others depend on (evaluation, prediction) reads, and
workers map.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shmps.data import npy
from shmps.data.index_bounds import index_fault, pointer_fault
from shmps.errors import DataError

PART = 2**18  # non-zeros that are read at a time: they stay in the cache
_ROWS = 2**16  # rows whose pointers are read at a time

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # indptr from 0, indices, data


class MappedReader(NamedTuple):
    """Reads the arrays of a folder of mapped data. Methods raise DataError for a missing or damaged file."""

    folder: str
    meta: dict[str, Any]  # as `mapped.describe` returns it

    @property
    def num_rows(self) -> int:
        return self.meta["rows"]

    def file(self, name: str) -> Path:
        return Path(self.folder, f"{name}.npy")

    def must_be_whole(self) -> None:
        """Check the sizes and headers of the files."""
        for name, array in self.meta["arrays"].items():
            npy.must_be_whole(self.file(name), array["dtype"], array["count"])

    def entries(self, name: str, begin: int, end: int) -> np.ndarray:
        """Return the entries begin to end - 1 of an array."""
        array = self.meta["arrays"][name]
        return npy.read(self.file(name), array["dtype"], array["count"], begin, end)

    def pointers(self, begin: int, end: int) -> np.ndarray:
        """Return indptr[begin : end + 1], checked."""
        # One more: the last pointer must not exceed the next one.
        found = self.entries("indptr", begin, min(end + 2, self.num_rows + 1))
        self._check_pointers(found, begin)
        return found[: end - begin + 1]

    def rows(self, begin: int, end: int) -> Arrays:
        """Return the rows begin to end - 1, checked."""
        return self._rows(self.pointers(begin, end))

    def parts(self, most: int = PART) -> Iterator[tuple[int, int, Arrays]]:
        """Yield all rows in order, as begin, end and rows(begin, end).

        A part has one row, or at most `most` non-zeros.
        """
        for first in range(0, self.num_rows, _ROWS):
            pointers = self.pointers(first, min(first + _ROWS, self.num_rows))
            begin, rows = 0, len(pointers) - 1
            while begin < rows:
                end = max(begin + 1, int(np.searchsorted(pointers, pointers[begin] + most, "right")) - 1)
                yield first + begin, first + end, self._rows(pointers[begin : end + 1])
                begin = end

    def check(self, indptr: np.ndarray, indices: np.ndarray, begin: int, beat: Callable[[], None]) -> None:
        """Check mapped pointers from row `begin` on, and the mapped `indices` between them.

        Calls `beat` after each part, as a sign of life.
        """
        self.must_be_whole()
        self._check_pointers(indptr, begin)
        for first in range(int(indptr[0]), int(indptr[-1]), npy.AT_ONCE):
            self._check_indices(indices[first : min(first + npy.AT_ONCE, int(indptr[-1]))], first)
            beat()

    def _rows(self, pointers: np.ndarray) -> Arrays:
        first, last = int(pointers[0]), int(pointers[-1])
        indices = self.entries("indices", first, last)
        self._check_indices(indices, first)
        return pointers - first, indices, self.entries("data", first, last)

    def _check_pointers(self, pointers: np.ndarray, begin: int) -> None:
        nonzeros = self.meta["nonzeros"]
        told = pointer_fault(pointers, nonzeros, begin)
        if not told and begin + len(pointers) == self.num_rows + 1 and pointers[-1] != nonzeros:
            told = f"end at {nonzeros}, got {pointers[-1]}"
        if told:
            raise DataError(
                f"{self.file('indptr')}: row pointers must {told}; it is damaged: convert the data again"
            )

    def _check_indices(self, indices: np.ndarray, first: int) -> None:
        if told := index_fault(indices, self.meta["features"], first):
            raise DataError(
                f"{self.file('indices')}: indices must be {told}; it is damaged: convert the data again"
            )
