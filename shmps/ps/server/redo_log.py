"""An update whole or not at all: after-images beside the partition, and on their way to its replica."""

import itertools
from typing import NamedTuple

import numpy as np

from shmps.ps.kernels import digest, gather, scatter
from shmps.ps.memory.parameters import Image, Parameters
from shmps.system.failpoints import reach


class Books(NamedTuple):
    """What a server notes of an update, in place or in a redo slot."""

    age: np.ndarray  # (1,)
    done: memoryview  # (workers,); its items are Python's numbers, unlike numpy's
    checksum: memoryview  # (1,)

    @staticmethod
    def of(ages: np.ndarray, done: np.ndarray, checksums: np.ndarray, server: int) -> "Books":
        """Those of one server, out of everyone's."""
        return Books(ages[server:], done[server].data, checksums.data[server:])

    def copy_from(self, other: "Books") -> None:
        self.age[0], self.done[:], self.checksum[0] = other.age[0], other.done, other.checksum[0]


class Slot(NamedTuple):
    """The after-image of one update to a server's partition, in its first `size[0]` entries."""

    keys: np.ndarray  # (n,); not filled where it would be with all keys of the partition
    values: np.ndarray  # (n, width)
    state: np.ndarray  # (n, width * m)
    state_of_values: np.ndarray  # the same, (n, width, m)
    size: memoryview  # (1,)
    books: Books


class RedoLog:
    """The redo slots of one server, a ring of them: that of version v is v modulo its length.

    1. `prepare` brings the before-image of the keys into the next slot, and the updater turns it into the
       after-image. 2. `commit` notes the new books and stores the new version in one aligned 8-byte store,
       made in Python between two calls, so that no compiler can move it. 3. `apply` copies everything into
       place, the version last. A successor that finds a committed version above the applied one repeats 3.

    With a replica the next server does 3 again, into its copy, once it is told of the version. A slot is not
    used anew before that.

    So a push makes three copies: the worker's of the gradient, into its mailbox, and those of 1 and 3. A pull
    makes two, into the mailbox and out of it.
    """

    def __init__(self, parameters: Parameters, server: int):
        shape, arrays = parameters.shape, parameters.arrays
        self._mine = slice(shape.bounds[server], shape.bounds[server + 1])
        self.all_keys = np.arange(self._mine.start, self._mine.stop)
        self._server, self._ring = server, shape.ring
        self._here, self._replica = parameters.here, parameters.replica if shape.replicas else None
        self._books = self._books_of(self._here)
        self._version = self._here.versions.data[server:]
        self._committed = arrays["redo_committed"]
        self._slots = [self._slot(parameters, number) for number in range(self._ring)]
        self._stateful = shape.state_width > 0
        self._before = 0

    def _books_of(self, image: Image) -> Books:
        return Books.of(image.ages, image.done, image.checksums, self._server)

    def _slot(self, parameters: Parameters, number: int) -> Slot:
        keys, values, state, count, age, done, checksum = (
            parameters.arrays[f"redo_{name}"][number]
            for name in ("keys", "values", "state", "count", "age", "done", "checksum")
        )
        state, mine = state[self._mine], self._mine
        return Slot(
            keys[mine],
            values[mine],
            state,
            parameters.shape.state_of(state),
            count.data[self._server :],
            Books.of(age, done, checksum, self._server),
        )

    @property
    def version(self) -> int:
        """Updates applied."""
        return self._version[0]

    @property
    def age(self) -> float:
        """Penalty accrued."""
        return self._books.age.item(0)

    @property
    def done(self) -> memoryview:
        """Of each worker the last push applied."""
        return self._books.done

    @property
    def committed(self) -> int:
        return int(self._committed[self._server])

    @property
    def replicated(self) -> int:
        """The version up to which nothing is left to be told to the replica."""
        return self.version if self._replica is None else int(self._replica.versions[self._server])

    @property
    def replica_is_current(self) -> bool:
        return self._replica is None or self.replicated == self.version

    @property
    def has_room(self) -> bool:
        """Whether the next slot may be used."""
        return self._replica is None or self.version - self.replicated < self._ring

    def prepare(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies of values (k, width) and state (k, width, m) under `keys`, in the next slot."""
        slot, count = self._slots[(self.version + 1) % self._ring], len(keys)
        if count < len(slot.keys):
            slot.keys[:count] = keys
        gather(self._here.weights, keys, slot.values)
        if self._stateful:
            gather(self._here.state, keys, slot.state)
        if self._replica is not None:
            self._before = digest(keys, slot.values, slot.state)
        return slot.values[:count], slot.state_of_values[:count]

    def _keys(self, slot: Slot) -> np.ndarray:
        count = slot.size[0]
        return slot.keys[:count] if count < len(slot.keys) else self.all_keys

    def commit(self, count: int, age: float, done: dict[int, int]) -> None:
        """The first `count` entries are the after-image; `done`: the last push applied, by worker."""
        version = self.version + 1
        slot = self._slots[version % self._ring]
        books, slot.size[0] = slot.books, count
        if self._replica is not None:
            after = digest(self._keys(slot), slot.values, slot.state)
            total = self._books.checksum[0] - self._before + after
            books.checksum[0] = (total + 2**63) % 2**64 - 2**63  # as 64 bits wrap
        books.age[0], books.done[:] = age, self._books.done
        for rank, number in done.items():
            books.done[rank] = number
        reach("server: slot written")
        self._committed[self._server] = version
        reach("server: committed")

    def apply(self) -> None:
        """Copy the committed after-image into place; may be repeated."""
        self._copy(self.committed, self._here, self._books, "server: half applied")

    def replicate(self, version: int) -> None:
        """Copy the after-image of the replica's next version into it; may be repeated."""
        assert self._replica is not None
        self._copy(version, self._replica, self._books_of(self._replica), "tail: half applied")

    def _copy(self, version: int, image: Image, books: Books, half: str) -> None:
        slot = self._slots[version % self._ring]
        keys = self._keys(slot)
        scatter(slot.values, keys, image.weights)
        reach(half)
        if self._stateful:
            scatter(slot.state, keys, image.state)
        books.copy_from(slot.books)
        image.versions[self._server] = version

    def recover(self) -> bool:
        """What a server does first: finish what was committed; whether the partition is sound.

        With a replica a damaged partition is made anew, from that and from the slots it lacks; without one
        nothing is checked.
        """
        if self.committed > self.version:
            self.apply()
        if self._replica is None or self.sound:
            return True
        self._here.weights[self._mine] = self._replica.weights[self._mine]
        self._here.state[self._mine] = self._replica.state[self._mine]
        # Where a run has begun since, the books are later than those in the slots.
        done = self.done.tolist()
        for version in range(self.replicated + 1, self.committed + 1):
            self._copy(version, self._here, self._books, "server: half applied")
        self._here.done[self._server] = done
        return self.sound

    @property
    def sound(self) -> bool:
        """Whether weights and state are those that the books were written for."""
        return checksum(self._here, self._mine) == self._books.checksum[0]


def start_replica(parameters: Parameters) -> None:
    """Before any server is at work: the replica and the checksums become those of the partitions."""
    for server, (begin, end) in enumerate(itertools.pairwise(parameters.shape.bounds)):
        parameters.here.checksums[server] = checksum(parameters.here, slice(begin, end))
    parameters.replica.copy_from(parameters.here)


def checksum(image: Image, part: slice) -> int:
    """Of the weights and the state of some keys: a sum, so that an update changes it by what it changes."""
    return digest(np.arange(part.start, part.stop), image.weights[part], image.state[part])
