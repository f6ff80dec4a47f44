"""The redo log: after-images beside the partition, so that an update is applied wholly or not at all."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from shmps.ps.kernels import digest, gather, scatter
from shmps.ps.memory.parameters import Image, Parameters
from shmps.system.failpoints import reach


class Progress(NamedTuple):
    """The age, the applied pushes and the checksum that go with an update, in place or in a redo slot."""

    age: np.ndarray  # (1,)
    done: memoryview  # (workers,); items are Python integers
    checksum: memoryview  # (1,)

    @staticmethod
    def of(ages: np.ndarray, done: np.ndarray, checksums: np.ndarray, server: int) -> "Progress":
        """Return views of one server's entries."""
        return Progress(ages[server:], done[server].data, checksums.data[server:])

    def copy_from(self, other: "Progress") -> None:
        self.age[0], self.done[:], self.checksum[0] = other.age[0], other.done, other.checksum[0]


class Slot(NamedTuple):
    """The after-image of one update to a server's partition: the first `size[0]` entries of each array."""

    keys: np.ndarray  # (n,); not filled if the update has all keys of the partition
    values: np.ndarray  # (n, width)
    state: np.ndarray  # (n, width * m)
    state_of_values: np.ndarray  # `state` as (n, width, m)
    size: memoryview  # (1,)
    progress: Progress


class RedoLog:
    """The redo slots of one server, a ring: version v lies in slot v modulo the length.

    1. `prepare` copies the before-image of the keys into the next slot. The updater turns it into the
       after-image.
    2. `commit` notes age, applied pushes and checksum. Then it stores the new version in one aligned 8-byte
       store, made in Python between two calls, so that no compiler can move it.
    3. `apply` copies the slot into place, the version last.

    A successor that finds a committed version above the applied one repeats step 3. With a replica the next
    server does step 3 too, into its copy, once it is told of the version; the slot is not used again before.

    A push makes three copies: of the gradient into the mailbox, and those of steps 1 and 3. A pull makes two,
    into the mailbox and out of it.

    is_durable: whether the version survives the death of this server, so that others may see it. In shared
    memory every version does. See `PrivateRedoLog` for servers with a memory of their own.
    """

    is_durable: bool = True

    def __init__(self, parameters: Parameters, server: int):
        shape, arrays = parameters.shape, parameters.arrays
        self._mine = slice(shape.bounds[server], shape.bounds[server + 1])
        self.all_keys = np.arange(self._mine.start, self._mine.stop)
        self._parameters, self._server, self._ring = parameters, server, shape.ring
        self._here, self._replica = parameters.here, parameters.replica if shape.replicas else None
        self._progress = self._progress_of(self._here)
        self._version = self._here.versions.data[server:]
        self._committed = arrays["redo_committed"].data[server:]
        self._slots = [self._slot(parameters, number) for number in range(self._ring)]
        self._stateful = shape.state_width > 0
        self._before = 0

    def _progress_of(self, image: Image) -> Progress:
        return Progress.of(image.ages, image.done, image.checksums, self._server)

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
            Progress.of(age, done, checksum, self._server),
        )

    @property
    def version(self) -> int:
        """The number of updates applied."""
        return self._version[0]

    @property
    def age(self) -> float:
        """The penalty accrued."""
        return self._progress.age.item(0)

    @property
    def done(self) -> memoryview:
        """The number of the last push applied, by worker."""
        return self._progress.done

    @property
    def committed(self) -> int:
        return self._committed[0]

    @property
    def replicated(self) -> int:
        """The version of the replica; without a replica the version itself."""
        return self.version if self._replica is None else int(self._replica.versions[self._server])

    @property
    def replica_is_current(self) -> bool:
        return self._replica is None or self.replicated == self.version

    @property
    def has_room(self) -> bool:
        """Whether the replica has what lies in the next slot."""
        return self._replica is None or self.version - self.replicated < self._ring

    def prepare(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copy values (k, width) and state (k, width, m) of `keys` into the next slot; return its views."""
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
        """Commit the first `count` entries of the slot. done: the push of each worker in this update."""
        version = self.version + 1
        slot = self._slots[version % self._ring]
        progress, slot.size[0] = slot.progress, count
        if self._replica is not None:
            after = digest(self._keys(slot), slot.values, slot.state)
            total = self._progress.checksum[0] - self._before + after
            progress.checksum[0] = (total + 2**63) % 2**64 - 2**63  # as 64 bits wrap
        progress.age[0], progress.done[:] = age, self._progress.done
        for rank, number in done.items():
            progress.done[rank] = number
        reach("server: slot written")
        self._committed[0] = version
        reach("server: committed")

    def apply(self) -> None:
        """Copy the committed after-image into place. It may be repeated."""
        self._copy(self.committed, self._here, self._progress, "server: half applied")

    def replicate(self, version: int) -> None:
        """Copy the after-image of the replica's next version into the replica. It may be repeated."""
        assert self._replica is not None
        self._copy(version, self._replica, self._progress_of(self._replica), "tail: half applied")

    def _copy(self, version: int, image: Image, progress: Progress, half: str) -> None:
        slot = self._slots[version % self._ring]
        keys = self._keys(slot)
        scatter(slot.values, keys, image.weights)
        reach(half)
        if self._stateful:
            scatter(slot.state, keys, image.state)
        progress.copy_from(slot.progress)
        image.versions[self._server] = version

    # What nodes that share memory need not send each other.

    def of_head(self, head: int) -> "RedoLog":
        """Return the log of another server, whose replica this one keeps."""
        return RedoLog(self._parameters, head)

    def forget_replica(self) -> None:
        """A new tail comes: it tells what it has."""

    def note_replicated(self, version: int) -> None:
        """Note that the tail has this version."""

    def parcel(self, version: int) -> Sequence[np.ndarray]:
        """Return the slot of a version as the arrays to send to the tail."""
        return ()

    def accept(self, version: int, arrays: Sequence[np.ndarray]) -> None:
        """Put the arrays that the head has sent into the slot of a version."""

    def image(self) -> Sequence[np.ndarray]:
        """Return a copy of the partition, or of the replica, as arrays to send."""
        return ()

    def take(self, image: Sequence[np.ndarray]) -> None:
        """Put an image in place."""

    @contextlib.contextmanager
    def stepped_back(self) -> Iterator[None]:
        """In the block, let a partition that ends with its server be as it was before its last update."""
        yield

    def recover(self) -> bool:
        """Apply what a predecessor had committed; return whether the partition is sound.

        With a replica, a damaged partition is restored from the replica and from the slots that the replica
        lacks. Without one, nothing is checked.
        """
        if self.committed > self.version:
            self.apply()
        if self._replica is None or self.sound:
            return True
        self._here.weights[self._mine] = self._replica.weights[self._mine]
        self._here.state[self._mine] = self._replica.state[self._mine]
        # A run may have begun since: its clocks are later than those in the slots.
        done = self.done.tolist()
        for version in range(self.replicated + 1, self.committed + 1):
            self._copy(version, self._here, self._progress, "server: half applied")
        self._here.done[self._server] = done
        return self.sound

    @property
    def sound(self) -> bool:
        """Whether weights and state have the noted checksum."""
        return checksum(self._here, self._mine) == self._progress.checksum[0]


def start_replica(parameters: Parameters) -> None:
    """Copy all partitions into the replica, and note their checksums. Call it before any server works."""
    for server, (begin, end) in enumerate(itertools.pairwise(parameters.shape.bounds)):
        parameters.here.checksums[server] = checksum(parameters.here, slice(begin, end))
    parameters.replica.copy_from(parameters.here)


def checksum(image: Image, part: slice) -> int:
    """Return the checksum of some keys: a sum over keys, so that an update reads only the keys it changes."""
    return digest(np.arange(part.start, part.stop), image.weights[part], image.state[part])
