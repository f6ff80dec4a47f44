"""Minibatches: which rows, in which order, and what of them is kept in memory."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shmps.checks import as_size
from shmps.data.kernels import take_rows
from shmps.data.rows import Rows, lengths
from shmps.errors import OutOfSpace
from shmps.linear.kernels import localize
from shmps.system.memory import available_memory, own_memory

PER_WEIGHT = 80  # bytes of a process for every key: its weight, copies of it, its place in a minibatch
_PER_VALUE = 48  # bytes for every one of a request, which is in mailboxes and in copies on their way
_PER_ROW = 24  # bytes for every row: its margin, sorted by class, and its place in the order
_PER_ROW_OF_CLASSES = 80  # its largest margin, its probability and the like too
_PER_LEFT_OUT = 32  # bytes for every weight of the model that is not trained: whole copies of the model
# Bytes for every value of a minibatch: of two that are localized value and local index, of a third on its way
# index and key besides.
_PER_ENTRY = 2 * 12 + 28
_SPARE = 2**25  # bytes: small minibatches, and what is read of mapped rows at a time


class Batch(NamedTuple):
    """Rows whose indices point into sorted unique `keys` (k,); keys None: into all weights."""

    keys: np.ndarray | None
    rows: Rows


class Batches:
    """The batches of one shard, cut by (seed, rank), in an order by (seed, epoch, rank), and by the `ranks`
    that divide the rows.

    A size of 0 is the whole shard, in place. Others are localized when first visited, and kept for later
    epochs where memory allows: while this process has less than `memory` bytes of its own and shared, or if
    that is None where the copies of all workers take less than half of what is available.
    `problems`: weights that every key has.
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
        memory: int | None = None,
        problems: int = 1,
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
            if memory is not None:
                entries = most_entries(rows, size)
                taken = num_keys * PER_WEIGHT + min(num_keys, entries + 1) * _PER_VALUE
                least = problems * taken + entries * _PER_ENTRY + _SPARE
                self._room: float = memory - own_memory() - least
            else:
                fits = len(ranks) * 16 * rows.nonzeros < available_memory() // 2
                self._room = math.inf if fits else 0

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
            size = sum(array.nbytes for array in (batch.keys, *batch.rows) if array is not None)
            if size <= self._room:
                self._room -= size
                self._kept[index] = batch
        return batch

    def _localized(self, index: int) -> Batch:
        chosen = self._shuffled[index * self._size : (index + 1) * self._size]
        indptr, indices, data = take_rows(self._rows.indptr, self._rows.indices, self._rows.data, chosen)
        self._mark += 1  # never the same twice: a batch that is not kept is localized again
        keys, local = localize(indices, self._seen, self._position, self._mark)
        if self._intercept:
            keys = np.append(keys, self._num_keys - 1)
        own = None if self._rows.importance is None else self._rows.importance[chosen]
        return Batch(keys, Rows(indptr, local, data, self._rows.labels[chosen], own))


def most_entries(rows: Rows, size: int) -> int:
    """A bound on the values of a batch of `size` rows: those of the longest rows."""
    longest = np.empty(0, np.int64)
    for part in lengths(rows) if size else ():
        longest = np.sort(np.append(longest, part))[-size:]
    return int(longest.sum())


def must_fit(
    memory: int | None,
    rows: Rows,
    num_keys: int,
    problems: int,
    per_weight: int,
    requested: int = 0,
    entries: int = 0,
    left_out: int = 0,
) -> None:
    """Raises OutOfSpace if a training on the rows takes more than `memory` bytes of a process in any case.

    per_weight: bytes that the process with the most of them has for each of the `problems` weights of a key.
    requested: keys of a request at most, if that is not in it. entries: values of a minibatch at most.
    left_out: weights of the model that are not trained.
    """
    per_row = _PER_ROW if problems == 1 else _PER_ROW_OF_CLASSES
    taken = problems * (num_keys * per_weight + requested * _PER_VALUE)
    taken += entries * _PER_ENTRY + left_out * _PER_LEFT_OUT
    least = own_memory() + rows.num_rows * per_row + taken + _SPARE
    if memory is not None and memory < least:
        what, remedy = f"{rows.num_rows:,} rows and {num_keys:,} keys", "allow more"
        if entries * _PER_ENTRY > _SPARE:
            what = f"{rows.num_rows:,} rows, {num_keys:,} keys and minibatches of {entries:,} values"
            remedy = "allow more, or a smaller {batch_size}"
        raise OutOfSpace(
            f"{{memory}} must be at least {-(-least // 2**20)}M for {what} in this process, got "
            f"{{memory.value}}; {remedy}",
            memory=as_size(memory),
            batch_size=None,
        )
