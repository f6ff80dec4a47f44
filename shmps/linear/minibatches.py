"""Minibatches: which rows each has, their order, and which minibatches stay in memory."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from shmps.checks import as_size
from shmps.data.kernels import take_rows
from shmps.data.rows import Rows, lengths
from shmps.errors import OutOfSpace
from shmps.linear.kernels import localize
from shmps.linear.objective import CLASSES
from shmps.system.memory import available_memory, own_memory

PER_WEIGHT = 88  # bytes of a process per key: the weight, copies of it, and its scale
_PER_VALUE = 48  # bytes per value of a request: in the mailboxes, and in temporary copies
_PER_ROW = 24  # bytes per row: the margin, the margin sorted by class, and the row's place in the order
_PER_ROW_OF_CLASSES = 80  # with more than two classes: the largest margin, the probability and so on too,
_PER_CLASS = 8  # and the margin of each class among `CLASSES`
_PER_LEFT_OUT = 32  # bytes per weight of the model that is not trained: whole copies of the model
# Bytes per value of a minibatch. Two minibatches are localized: value and local index. A third is being
# localized: index and key too, and two arrays of the sort.
_PER_ENTRY = 2 * 12 + 44
_SPARE = 2**25  # bytes: small minibatches, and the part of mapped rows that is read at a time


class Batch(NamedTuple):
    """Rows whose indices point into the sorted unique `keys` (k,); keys None: into all weights."""

    keys: np.ndarray | None
    rows: Rows


class Batches:
    """The minibatches of one shard.

    (seed, rank) determines which rows each batch has, (seed, epoch, rank) their order in an epoch; after the
    rows were divided anew, the `ranks` that share them do so too.

    size: rows per batch; 0: the whole shard, read in place. Other batches are localized at the first visit,
    and kept for later epochs while memory allows: while this process has less than `memory` bytes of its own
    and shared memory; or, if `memory` is None, if the copies of all workers take less than half of the
    available memory.
    once: every batch is visited once, so none is kept.
    contiguous: cut batches of neighbouring rows and do not localize them, so that they are read in place and
    in sequence. This is twice as fast for many rows.
    problems: weights per key.
    always: keys (c,) that every localized batch has.
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
        contiguous: bool = False,
        memory: int | None = None,
        problems: int = 1,
        always: Any = (),
        once: bool = False,
    ):
        self._rows, self._size, self._num_keys, self._intercept = rows, size, num_keys, intercept
        # The ranks 0, 1, ... keep the streams of a training that never divided its rows anew.
        self._own = [seed, rank, *(ranks if ranks != list(range(len(ranks))) else [])]
        self._kept: dict[int, Batch] = {}
        self._contiguous = contiguous or not size
        self._always = np.asarray(always, rows.indices.dtype)
        if not self._contiguous:
            # The leading 0 and 1 keep the two streams apart.
            self._shuffled = np.random.default_rng([0, *self._own]).permutation(rows.num_rows)
            if once:
                self._room: float = 0
            elif memory is not None:
                entries = most_entries(rows, size)
                taken = num_keys * PER_WEIGHT + min(num_keys, entries + 1) * _PER_VALUE
                least = problems * taken + entries * _PER_ENTRY + _SPARE
                self._room = memory - own_memory() - least
            else:
                fits = len(ranks) * 16 * rows.nonzeros < available_memory() // 2
                self._room = math.inf if fits else 0

    def __len__(self) -> int:
        return -(-self._rows.num_rows // self._size) if self._size else 1

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield every batch once, in the order of epoch `number`."""
        order = range(1) if len(self) == 1 else self._order(number)
        for index in order:
            yield self[int(index)]

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([1, epoch, *self._own]).permutation(len(self))

    def __getitem__(self, index: int) -> Batch:
        if self._contiguous:
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
        wanted = np.append(indices, self._always) if len(self._always) else indices
        keys, local = localize(wanted, self._num_keys)
        if self._intercept:
            keys = np.append(keys, self._num_keys - 1)
        own = None if self._rows.importance is None else self._rows.importance[chosen]
        return Batch(keys, Rows(indptr, local[: len(indices)], data, self._rows.labels[chosen], own))


def most_entries(rows: Rows, size: int) -> int:
    """Return a bound on the values of a batch of `size` rows: the sum over the longest rows."""
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
    """Raise OutOfSpace if a training on the rows certainly needs more than `memory` bytes in one process.

    per_weight: bytes per weight in the process with the most of them; each key has `problems` weights.
    requested: most keys of a request, if `per_weight` does not include them. entries: most values of a
    minibatch. left_out: weights of the model that are not trained.
    """
    if memory is None:
        return
    per_row = _PER_ROW
    if problems > 1:
        per_row = _PER_ROW_OF_CLASSES + _PER_CLASS * min(problems, CLASSES)
    taken = problems * (num_keys * per_weight + requested * _PER_VALUE)
    taken += entries * _PER_ENTRY + left_out * _PER_LEFT_OUT
    least = own_memory() + rows.num_rows * per_row + taken + _SPARE
    if memory < least:
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
