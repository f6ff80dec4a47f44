"""Rows with their labels, in memory, in shared memory or mapped from the disk; shards of them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from shmps.data import mapped
from shmps.data.index_bounds import must_lie_within
from shmps.data.kernels import take_rows
from shmps.data.mapped import MappedLabels, MappedMatrix
from shmps.data.mapped_reader import MappedReader
from shmps.errors import DataError
from shmps.system.container import sha256
from shmps.system.memory import Fields, NamelessMemory, carve

PIECE = 2**20  # entries per step: temporary arrays stay small
_FEW = 64  # rows are read one by one if at most one in _FEW is taken


class Rows(NamedTuple):
    """Rows in CSR: row i is indptr[i] to indptr[i + 1] of indices and data.

    Labels are -1 and +1; with more than two classes, the numbers of the classes from 0.
    """

    indptr: np.ndarray  # (rows + 1,) int64
    indices: np.ndarray  # (non-zeros,)
    data: np.ndarray  # (non-zeros,) float64
    labels: np.ndarray  # (rows,) float64
    importance: np.ndarray | None = None  # (rows,) the factor of each row's loss; None: 1

    @property
    def num_rows(self) -> int:
        return len(self.labels)

    @property
    def nonzeros(self) -> int:
        return int(self.indptr[-1] - self.indptr[0])

    def part(self, begin: int, end: int) -> "Rows":
        """Return rows begin to end - 1, as views without a copy."""
        own = None if self.importance is None else self.importance[begin:end]
        return Rows(self.indptr[begin : end + 1], self.indices, self.data, self.labels[begin:end], own)

    def example(self) -> "Rows":
        """Return row 0 with an importance of 1: arrays of the types of all rows, to compile kernels on."""
        one = self.part(0, 1)
        return one if one.importance is None else one._replace(importance=np.ones(1))

    def share(self, begin: int, end: int, beat: Callable[[], None]) -> "Rows":
        """As `part`, for a worker that visits the rows again and again; calls `beat` while it takes long."""
        return self.part(begin, end)

    def parts(self) -> Iterator["Rows"]:
        """Yield all rows in order, some at a time, for one visit."""
        yield self

    def lengths(self, begin: int, end: int) -> np.ndarray:
        """Return the number of non-zeros of each of the rows begin to end - 1."""
        return np.diff(self.indptr[begin : end + 1])

    def taken(self, places: np.ndarray) -> "Rows":
        """Return a copy of the rows at `places` (k,), which increase."""
        indptr, indices, data = take_rows(self.indptr, self.indices, self.data, places)
        own = None if self.importance is None else self.importance[places]
        return Rows(indptr, indices, data, self.labels[places], own)

    def must_be_whole(self) -> None:
        """Raise DataError if the files of the rows have been cut short."""

    def against_rest(self, number: int) -> "Rows":
        """Return the rows with the label +1 if it is the class `number`, else -1."""
        return self._replace(labels=np.where(self.labels == number, 1.0, -1.0))

    def sums(self) -> list[str]:
        """Return the SHA-256 of each array."""
        return [sha256(array) for array in self if array is not None]


class MappedRows(Rows):
    """All rows of a folder of mapped data.

    Another process gets the name of the folder, so that no process has a copy; labels that are not
    `as_stored` there, and importance, are pickled with it.

    A worker's `share` is mapped, and checked once. All other methods read: if a file is cut short, the
    process that others depend on gets an error instead of SIGBUS.
    """

    stored: MappedReader
    as_stored: bool

    @property
    def nonzeros(self) -> int:
        return self.stored.meta["nonzeros"]

    def part(self, begin: int, end: int) -> Rows:
        return self._read(begin, end, self.stored.rows(begin, end))

    def share(self, begin: int, end: int, beat: Callable[[], None]) -> Rows:
        part = super().part(begin, end)
        self.stored.check(part.indptr, part.indices, begin, beat)
        return part

    def parts(self) -> Iterator[Rows]:
        return itertools.starmap(self._read, self.stored.parts())

    def _read(self, begin: int, end: int, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Rows:
        for array in arrays:
            array.flags.writeable = False  # see `rows_of`
        own = None if self.importance is None else self.importance[begin:end]
        return Rows(*arrays, self.labels[begin:end], own)

    def lengths(self, begin: int, end: int) -> np.ndarray:
        return np.diff(self.stored.pointers(begin, end))

    def taken(self, places: np.ndarray) -> Rows:
        if len(places) * _FEW < self.num_rows:
            parts = [self.part(place, place + 1) for place in places.tolist()]
        else:
            parts, first = [], 0
            for part in self.parts():
                begin, end = np.searchsorted(places, (first, first + part.num_rows))
                parts.append(part.taken(places[begin:end] - first))
                first += part.num_rows
        ends = np.cumsum([0, *(part.nonzeros for part in parts)])
        indptr = np.concatenate(
            [[0], *(part.indptr[1:] + end for part, end in zip(parts, ends[:-1], strict=True))]
        )
        indices, data = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
        own = None if self.importance is None else self.importance[places]
        return Rows(indptr, indices, data, self.labels[places], own)

    def _replace(self, **changes: Any) -> "MappedRows":
        rows = super()._replace(**changes)
        rows.stored, rows.as_stored = self.stored, self.as_stored and "labels" not in changes
        return rows

    def must_be_whole(self) -> None:
        self.stored.must_be_whole()

    def sums(self) -> list[str]:
        arrays = self.stored.meta["arrays"]
        return [arrays[name]["sha256"] for name in self._fields[:3]] + [
            sha256(array) for array in self[3:] if array is not None
        ]

    def __reduce__(self):
        return _map_rows, (self.stored.folder, None if self.as_stored else self.labels, self.importance)


class SharedRows(Rows):
    """Rows in shared memory: a process that was not forked maps them and needs no copy."""

    memory: NamelessMemory
    fields: Fields

    def __reduce__(self):
        return _rows_in, (self.memory, self.fields)


def shared(rows: Rows) -> Rows:
    """Return the rows in a form in which other processes need no copy. Raises OutOfSpace."""
    if isinstance(rows, MappedRows):
        return rows
    arrays = {name: array for name, array in rows._asdict().items() if array is not None}
    fields = {name: (array.dtype.type, array.shape) for name, array in arrays.items()}
    memory = NamelessMemory(carve(fields)[1])
    for name, array in carve(fields, memory.all())[0].items():
        array[:] = arrays[name]
    return _rows_in(memory, fields)


def _rows_in(memory: NamelessMemory, fields: Fields) -> Rows:
    rows = SharedRows(**carve(fields, memory.read_only())[0])
    rows.memory, rows.fields = memory, fields
    return rows


def _map_rows(folder: str, labels: np.ndarray | None, importance: np.ndarray | None) -> Rows:
    X, y = mapped.load(folder)
    return rows_of(X, y if labels is None else labels, importance)


def to_csr(X: Any, name: str = "X") -> scipy.sparse.csr_matrix:
    """Return a matrix as CSR with float64 values; a matrix in that form is not copied.

    Raises DataError if X is no matrix of numbers, or has an index outside its shape.
    """
    if isinstance(X, MappedMatrix) and X.meta:
        return X  # scipy would copy the indices, to give them the width of the pointers
    must_lie_within(X, name)  # first: scipy's conversions write to the places that the indices give
    if scipy.sparse.issparse(X) and X.dtype.kind in "iuf":
        X = X.astype(np.float64, copy=False)  # scipy adds up entries with equal indices in the type of X
    try:
        return scipy.sparse.csr_matrix(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} must be a matrix of numbers (rows, features), dense or sparse, got: {error}"
        ) from error


def is_finite(X: scipy.sparse.csr_matrix) -> bool:
    """Whether all values are finite. Those of mapped data are: `convert` checked them."""
    if isinstance(X, MappedMatrix) and X.meta:
        return True
    return all(np.isfinite(X.data[begin : begin + PIECE]).all() for begin in range(0, X.nnz, PIECE))


def rows_of(X: scipy.sparse.csr_matrix, labels: np.ndarray, importance: np.ndarray | None = None) -> Rows:
    """Return X and the codes (rows,) of its labels as read-only Rows.

    Pointers become int64; values are not copied.
    """
    indptr, indices, data, own = (
        array.view() for array in (np.asarray(X.indptr, np.int64), X.indices, X.data, np.asarray(labels))
    )
    for view in (indptr, indices, data, own):
        view.flags.writeable = False  # as mapped arrays are: kernels compile for one type of arrays
    if not (isinstance(X, MappedMatrix) and X.meta):
        return Rows(indptr, indices, data, own, importance)
    rows = MappedRows(indptr, indices, data, own, importance)
    rows.stored = X.reader
    rows.as_stored = isinstance(labels, MappedLabels) and labels.folder == X.folder
    return rows


def fingerprint(rows: Rows, features: int, classes: Sequence[Any]) -> dict[str, Any]:
    """Return what identifies the data: sizes, labels, and the SHA-256 of each array."""
    sizes = {"features": features, "rows": rows.num_rows, "non-zeros": rows.nonzeros}
    return sizes | {"classes": list(classes), "sha256": rows.sums()}


def shard(rows: Rows, rank: int, workers: int, beat: Callable[[], None] = lambda: None) -> Rows:
    """Return the rows that worker `rank` owns: contiguous, of equal number to within one row.

    Raises DataError for mapped rows that are damaged. That check may take long: it calls `beat` meanwhile.
    """
    return rows.share(rows.num_rows * rank // workers, rows.num_rows * (rank + 1) // workers, beat)


def lengths(rows: Rows) -> Iterator[np.ndarray]:
    """Yield the number of non-zeros of each row, some rows at a time."""
    for begin in range(0, rows.num_rows, PIECE):
        yield rows.lengths(begin, min(begin + PIECE, rows.num_rows))
