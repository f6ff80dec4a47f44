"""Rows in memory: labels, shards, minibatches."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from shmps.errors import DataError
from shmps.kernels import localize, take_rows
from shmps.memory import available_memory

_PIECE = 2**20  # numbers hashed at a time


class Rows(NamedTuple):
    """CSR rows with labels in {-1, +1}; row i is indptr[i] to indptr[i + 1] of indices and data."""

    indptr: np.ndarray  # (rows + 1,)
    indices: np.ndarray  # (non-zeros,)
    data: np.ndarray  # (non-zeros,) float64
    labels: np.ndarray  # (rows,) float64

    @property
    def num_rows(self) -> int:
        return len(self.labels)

    @property
    def nonzeros(self) -> int:
        return int(self.indptr[-1] - self.indptr[0])

    def part(self, begin: int, end: int) -> "Rows":
        """Rows begin to end: views, no copy."""
        return Rows(self.indptr[begin : end + 1], self.indices, self.data, self.labels[begin:end])


class Batch(NamedTuple):
    """Rows whose indices point into sorted unique `keys` (k,); keys None: into all weights."""

    keys: np.ndarray | None
    rows: Rows


def to_csr(X: Any) -> scipy.sparse.csr_matrix:
    """Any matrix as CSR with float64 values; what is CSR float64 already is not copied.

    Raises DataError if X is no matrix of numbers.
    """
    try:
        return scipy.sparse.csr_matrix(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"X is a matrix of numbers (rows, features), dense or sparse: {error}") from error


def rows_of(X: scipy.sparse.csr_matrix, labels: np.ndarray) -> Rows:
    return Rows(X.indptr, X.indices, X.data, labels)


def binary_labels(y: np.ndarray, name: str) -> tuple[np.ndarray, tuple[Any, Any]]:
    """Labels as -1.0 and +1.0 (rows,), and the two labels that they stand for, the smaller first.

    Raises DataError unless there are exactly two.
    """
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise DataError(f"{name}: labels have exactly two values, found nan; drop the rows without a label")
    classes = np.unique(y)
    if len(classes) != 2:
        found = ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
        raise DataError(
            f"{name}: labels have exactly two values, found {len(classes)} ({found}); "
            + (
                "keep two classes, or make it one against the rest"
                if len(classes) > 2
                else "add rows of a second class"
            )
        )
    negative, positive = classes.tolist()
    return np.where(y == classes[1], 1.0, -1.0), (negative, positive)


def fingerprint(rows: Rows, features: int) -> dict[str, Any]:
    """What tells this data from other data: sizes and a SHA-256."""
    digest = hashlib.sha256()
    for array, dtype in zip(rows, ("<i8", "<i8", "<f8", "<f8"), strict=True):
        for begin in range(0, len(array), _PIECE):
            digest.update(np.ascontiguousarray(array[begin : begin + _PIECE], dtype).data)
    sizes = {"features": features, "rows": rows.num_rows, "non-zeros": rows.nonzeros}
    return sizes | {"sha256": digest.hexdigest()}


def shard(rows: Rows, rank: int, workers: int) -> Rows:
    """The part of the rows that worker `rank` owns: contiguous, equal to within one row."""
    return rows.part(rows.num_rows * rank // workers, rows.num_rows * (rank + 1) // workers)


class Batches:
    """The batches of one shard, cut by (seed, rank), in an order by (seed, epoch, rank), and by the `ranks`
    that divide the rows.

    A size of 0 is the whole shard, in place. Others are localized when first visited, and kept for later
    epochs where memory allows: where the copies of all workers take less than half of what is available.
    `as_they_lie`: not localized, and cut without shuffling the rows first, so that they are read where they
    are and one after the other: twice as fast where there are many.
    """

    def __init__(
        self,
        rows: Rows,
        size: int,
        num_keys: int,
        intercept: bool,
        seed: int,
        rank: int,
        ranks: list[int],
        as_they_lie: bool = False,
    ):
        self._rows, self._size, self._num_keys, self._intercept = rows, size, num_keys, intercept
        # A division among others than ranks 0, 1, ... has streams of its own.
        self._own = [seed, rank, *(ranks if ranks != list(range(len(ranks))) else [])]
        self._kept: dict[int, Batch] = {}
        self._as_they_lie = as_they_lie or not size
        if not self._as_they_lie:
            # The leading 0 and 1 keep the two streams apart.
            self._shuffled = np.random.default_rng([0, *self._own]).permutation(rows.num_rows)
            self._seen = np.zeros(num_keys, np.int64)  # pages that are not touched take no memory
            self._mark = 0
            self._position = np.empty(num_keys, np.int32)
            self._keep = len(ranks) * 16 * rows.nonzeros < available_memory() // 2

    def __len__(self) -> int:
        return -(-self._rows.num_rows // self._size) if self._size else 1

    def epoch(self, number: int) -> Iterator[Batch]:
        """Every batch once."""
        order = range(1) if len(self) == 1 else self._order(number)
        for index in order:
            yield self[int(index)]

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([1, epoch, *self._own]).permutation(len(self))

    def __getitem__(self, index: int) -> Batch:
        if self._as_they_lie:
            size = self._size or self._rows.num_rows
            return Batch(None, self._rows.part(index * size, min((index + 1) * size, self._rows.num_rows)))
        batch = self._kept.get(index)
        if batch is None:
            batch = self._localized(index)
            if self._keep:
                self._kept[index] = batch
        return batch

    def _localized(self, index: int) -> Batch:
        chosen = self._shuffled[index * self._size : (index + 1) * self._size]
        indptr, indices, data = take_rows(self._rows.indptr, self._rows.indices, self._rows.data, chosen)
        self._mark += 1  # never the same twice: a batch that is not kept is localized again
        keys, local = localize(indices, self._seen, self._position, self._mark)
        if self._intercept:
            keys = np.append(keys, self._num_keys - 1)
        return Batch(keys, Rows(indptr, local, data, self._rows.labels[chosen]))


def most_keys(rows: Rows, size: int, num_keys: int) -> int:
    """A bound on the keys of a batch of `size` rows, the intercept's included."""
    lengths = np.diff(rows.indptr)
    longest = np.sort(lengths)[-size:] if size else lengths[:0]
    return min(num_keys, int(longest.sum()) + 1)
