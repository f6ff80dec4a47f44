"""The features that take part in a training: those that occur in its rows, or start with a nonzero weight.

The weight of any other feature starts at 0 and stays there: its gradient and its penalty are 0. Such features
are left out, so that memory and time depend on the features that occur and not on the largest index: most
hashed features are empty. Their weights are 0 in the result.

A training by minibatches has the same bits with and without them. L-BFGS has the same result up to rounding:
it sums products over all weights.
"""

from dataclasses import dataclass

import numpy as np

from shmps.data.rows import MappedRows, Rows
from shmps.ps.memory.parameters import Copy
from shmps.system.compiling import at, kernel
from shmps.system.memory import available_memory, own_memory

_LITTLE = 2**20  # bytes: asking the system for free memory takes as long as a small training
_PER_WEIGHT = 80  # bytes that leaving out a weight saves at least


@dataclass(frozen=True, eq=False)
class Columns:
    """The keys that take part: `kept` (k,), increasing, among the `num_keys` of the model; None: all keys.

    Whole arrays have a value for every key of the model, narrow arrays only for those in `kept`.
    """

    num_keys: int
    kept: np.ndarray | None = None

    @staticmethod
    def of(
        rows: Rows,
        start: np.ndarray,
        intercept: bool,
        least: int,
        restored: Copy | None,
        memory: int | None = None,
        few: int = 0,
    ) -> "Columns":
        """Choose the keys for a training on `rows` from the weights `start` (n,) or (n, classes), or from
        `restored`. Keep all keys unless leaving some out saves more memory than the rows' new indices take,
        or leaves at most `few`.

        intercept: whether the last key is the intercept's. least: the least number of keys to keep. memory:
        bytes that this process may use; None: half of the available memory. few: keys with which the training
        is quicker; 0: it does not depend on them.
        """
        num_keys, per_key = len(start), _PER_WEIGHT * start.size // len(start)
        cost = rows.nonzeros * (4 + 12 * isinstance(rows, MappedRows))  # mapped rows are copied into memory
        if num_keys * per_key <= cost and not 0 < few < num_keys:
            return Columns(num_keys)
        if memory is not None and cost > memory - own_memory():
            return Columns(num_keys)
        if memory is None and cost > _LITTLE and cost > available_memory() // 2:
            return Columns(num_keys)
        takes_part = np.zeros(num_keys, bool)
        for part in rows.parts():
            _mark(part.indptr, part.indices, takes_part)
        for weights in (start,) if restored is None else (restored.weights, restored.state):
            takes_part |= weights.reshape(num_keys, -1).any(axis=1)
        if intercept:
            takes_part[-1] = True
        missing = max(0, least - np.count_nonzero(takes_part))
        takes_part[np.flatnonzero(~takes_part)[:missing]] = True
        kept = np.flatnonzero(takes_part)
        worthwhile = (num_keys - len(kept)) * per_key > cost or len(kept) <= few < num_keys
        return Columns(num_keys, kept if worthwhile else None)

    def narrow(self, values: np.ndarray) -> np.ndarray:
        """Return the values (k, ...) of the keys that take part, from those of all keys (n, ...)."""
        return values if self.kept is None else values[self.kept]

    def whole(self, values: np.ndarray) -> np.ndarray:
        """Return values for all keys (n, ...): those of the keys that take part (k, ...), 0 elsewhere."""
        if self.kept is None:
            return values
        out = np.zeros((self.num_keys, *values.shape[1:]))
        out[self.kept] = values
        return out

    def narrow_copy(self, copy: Copy) -> Copy:
        return copy._replace(weights=self.narrow(copy.weights), state=self.narrow(copy.state))

    def whole_copy(self, copy: Copy) -> Copy:
        """Return the copy that a checkpoint stores; it does not depend on which features are left out."""
        return copy._replace(weights=self.whole(copy.weights), state=self.whole(copy.state))

    def rows(self, rows: Rows) -> Rows:
        """Return the rows with indices into `kept`, in memory; the same rows if all keys take part."""
        if self.kept is None:
            return rows
        if isinstance(rows, MappedRows):
            rows = rows.part(0, rows.num_rows)
        places, local = np.zeros(self.num_keys, np.int32), np.empty(len(rows.indices), np.int32)
        places[self.kept] = np.arange(len(self.kept))
        _look_up(rows.indices, places, local)
        local.flags.writeable = False  # see `data.rows_of`
        return rows._replace(indices=local)


@kernel
def _mark(indptr, indices, out):
    """out[j] = True for every index j of the rows."""
    for p in range(at(indptr[0]), at(indptr[-1])):
        out[at(indices[p])] = True


@kernel
def _look_up(indices, places, out):
    """out[p] = places[indices[p]]."""
    for p in range(len(indices)):
        out[p] = places[at(indices[p])]
