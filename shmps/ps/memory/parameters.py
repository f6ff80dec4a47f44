"""The parameters in shared memory: weights, updater state, clocks and versions; their replica."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from shmps.errors import UsageError
from shmps.ps.memory.layout import Shape
from shmps.ps.updater import Updater


class Image(NamedTuple):
    """All partitions: the parameters themselves, or their replica."""

    weights: np.ndarray  # (n, width)
    state: np.ndarray  # (n, width * m)
    versions: np.ndarray  # (servers,)
    ages: np.ndarray  # (servers,)
    done: np.ndarray  # (servers, workers): number of the last push applied
    checksums: np.ndarray  # (servers,) of weights and state

    @staticmethod
    def of(arrays: dict[str, np.ndarray], prefix: str) -> "Image":
        return Image(*(arrays[prefix + name] for name in Image._fields))

    def copy_from(self, other: "Image") -> None:
        for mine, theirs in zip(self, other, strict=True):
            mine[:] = theirs


class Copy(NamedTuple):
    """A copy of the parameters from which a cluster can go on; of one instant if no server was writing."""

    weights: np.ndarray  # (n, width); they may owe a penalty
    state: np.ndarray  # (n, width * m)
    ages: np.ndarray  # (servers,)
    versions: np.ndarray  # (servers,)
    ticks: np.ndarray  # (workers,): number of each worker's last push that all servers have applied

    def must_fit(self, shape: Shape, workers: int) -> None:
        """Raise UsageError if a cluster of this shape cannot go on from the copy."""
        got = self.weights.shape, self.state.shape, self.ticks.shape
        wanted = (shape.num_keys, shape.width), (shape.num_keys, shape.width * shape.state_width), (workers,)
        if got != wanted:
            raise UsageError(
                f"restored must have weights, state and ticks of the shapes {wanted}, got {got}; use the "
                f"num_keys, width, updater and workers of the copy"
            )


class Parameters:
    """Weights (n, width), updater state (n, width * m), and clocks and versions of each server, as arrays.

    In hogwild mode each worker writes a column of `done` and an entry of `strides` (workers,), the penalty of
    its updates, so that no two workers write the same number.

    is_mirror: whether other nodes write elsewhere, and what they wrote has to come by records (see `Mirror`).
    """

    is_mirror = False

    def __init__(self, shape: Shape, arrays: dict[str, np.ndarray]):
        self.shape = shape
        self.arrays = arrays
        self.here, self.replica = Image.of(arrays, ""), Image.of(arrays, "replica_")
        self.weights, self.state, self.versions, self.ages, self.done, _ = self.here
        self.delays, self.strides = arrays["delays"], arrays["strides"]
        # Workers may have no right to write: kernels that read compile for one type of arrays.
        self._read_only = self.weights.view(), shape.state_of(self.state).view()
        for array in self._read_only:
            array.flags.writeable = False

    def standing(self, server: int, image: bool) -> list[np.ndarray]:
        """Return what a server has to send the scheduler of its parameters: nothing in shared memory."""
        return []

    def copy(self, workers: int) -> Copy:
        ticks = self.done[:, :workers].min(axis=0)
        return Copy(self.weights.copy(), self.state.copy(), self.ages.copy(), self.versions.copy(), ticks)

    def restore(self, copy: Copy) -> None:
        """Put the copy in place. With another number of servers all get the greatest age, as in sync mode."""
        self.weights[:], self.state[:] = copy.weights, copy.state
        same = len(copy.ages) == len(self.ages)
        self.ages[:] = copy.ages if same else copy.ages.max()
        self.versions[:] = copy.versions if same else copy.versions.max()
        self.done[:, : len(copy.ticks)] = copy.ticks
        self.strides[0] = self.ages[0]

    def tick_in_place(self, worker: int, number: int, penalty: float) -> None:
        """Note tick `number` of a worker, which raises the age by `penalty`.

        The sum is computed anew each time: if two workers do it at once, the next tick corrects it.
        """
        self.strides[worker] += penalty
        self.ages[:] = self.strides.sum()
        self.done[:, worker] = number

    def replica_differences(self) -> int:
        """Return the number of keys whose weights or state differ in the replica; 0 without a replica."""
        if not self.shape.replicas:
            return 0
        differs = np.zeros(len(self.weights), bool)
        for mine, copy in ((self.weights, self.replica.weights), (self.state, self.replica.state)):
            differs |= (mine.view(np.int64) != copy.view(np.int64)).any(axis=1)
        return int(differs.sum())

    def values(self, begin: int, end: int, updater: Updater) -> np.ndarray:
        """Return a copy of the values of the keys begin to end - 1, (k, width), with no penalty owed."""
        out = self.weights[begin:end].copy()
        if updater.lazy:
            for server, (first, last) in enumerate(itertools.pairwise(self.shape.bounds)):
                first, last = max(begin, first), min(end, last)
                if first < last:
                    self.read(np.arange(first, last), server, updater, out[first - begin : last - begin])
        return out

    def read(self, keys: np.ndarray, server: int, updater: Updater, out: np.ndarray) -> None:
        """Copy the values of `keys` (k,) of one server into `out` (k, width), with no penalty owed."""
        weights, state = self._read_only
        updater.read(keys, weights, state, float(self.ages[server]), out)


class Mirror(Parameters):
    """The parameters as a node sees them that shares no memory: what servers have sent of theirs.

    A server is right about its own partition, and about the replica that it keeps.
    """

    is_mirror = True

    def __init__(self, shape: Shape, arrays: dict[str, np.ndarray]):
        super().__init__(shape, arrays)
        self.replica.versions[:] = -1  # there is none yet

    def begin(self, initial: "Mirror", server: int) -> None:
        """Take what the first life of a server begins with: its partition, and the replica of its head."""
        everything, head = (0, self.shape.num_keys), (server - 1) % self.shape.servers
        copy_each(initial.part_of(server, *everything), self.part_of(server, *everything))
        if self.shape.replicas:
            copy_each(initial.part_of(head, *everything), self.replica_of(head))

    def part_of(self, server: int, begin: int, end: int) -> list[np.ndarray]:
        """Return views of what a server holds of the keys begin to end - 1, and of its clocks and version."""
        first, last = self.shape.bounds[server], self.shape.bounds[server + 1]
        keys = slice(min(max(begin, first), last), max(min(end, last), first))
        return [part[keys] for part in self.here[:2]] + [part[server:][:1] for part in self.here[2:]]

    def standing(self, server: int, image: bool) -> list[np.ndarray]:
        """Return views of clocks, version and delays of a server; if `image`, also of all that it holds."""
        shape = self.shape
        part = self.part_of(server, 0, shape.num_keys if image else 0)
        replica = self.replica_of((server - 1) % shape.servers) if image and shape.replicas else []
        return [*part, self.delays[server], *replica]

    def replica_of(self, server: int) -> list[np.ndarray]:
        """Return views of the replica of a server's partition, which the next server keeps."""
        keys = slice(self.shape.bounds[server], self.shape.bounds[server + 1])
        return [part[keys] for part in self.replica[:2]] + [part[server:][:1] for part in self.replica[2:]]


def copy_each(sources: Iterable[np.ndarray], targets: Iterable[np.ndarray]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target[:] = source
