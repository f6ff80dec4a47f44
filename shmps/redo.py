"""An update whole or not at all: after-images beside the partition, and on their way to its replica."""

import itertools

import numpy as np

from shmps.failpoints import reach
from shmps.kernels import digest, gather, scatter
from shmps.store import Image, Parameters


class Redo:
    """The redo slots of one server, a ring of them: that of version v is v modulo its length.

    1. `prepare` brings the before-image of the keys into the next slot, and the updater turns it into the
       after-image. 2. `commit` notes the new books and stores the new version in one aligned 8-byte store,
       made in Python between two calls, so that no compiler can move it. 3. `apply` copies everything into
       place, the version last. A successor that finds a committed version above the applied one repeats 3.

    With a replica the next server does 3 again, into its copy, once it is told of the version. A slot is not
    used anew before that.
    """

    def __init__(self, parameters: Parameters, server: int):
        shape = parameters.shape
        self._mine = slice(shape.bounds[server], shape.bounds[server + 1])
        self._parameters, self._server, self._ring = parameters, server, shape.ring
        self._here, self._replica = parameters.here, parameters.replica if shape.replicas else None
        self._arrays = parameters.arrays
        self._slots = [
            tuple(self._arrays[f"redo_{name}"][slot, self._mine] for name in ("keys", "values", "state"))
            for slot in range(self._ring)
        ]
        self._before = 0

    @property
    def version(self) -> int:
        return int(self._here.versions[self._server])

    @property
    def committed(self) -> int:
        return int(self._arrays["redo_committed"][self._server])

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
        all_keys, all_values, all_state = self._slots[(self.version + 1) % self._ring]
        count = len(keys)
        values, state = all_values[:count], all_state[:count]
        all_keys[:count] = keys
        gather(self._here.weights, keys, values)
        gather(self._here.state, keys, state)
        if self._replica is not None:
            self._before = digest(keys, values, state)
        return values, self._parameters.shape.state_of(state)

    def commit(self, count: int, age: float, done: dict[int, int]) -> None:
        """The first `count` entries are the after-image; `done`: the last push applied, by worker."""
        version = self.version + 1
        slot, server, arrays = version % self._ring, self._server, self._arrays
        if self._replica is not None:
            after = digest(*(array[:count] for array in self._slots[slot]))
            total = int(self._here.checksums[server]) - self._before + after
            arrays["redo_checksum"][slot, server] = (total + 2**63) % 2**64 - 2**63  # as 64 bits wrap
        arrays["redo_count"][slot, server] = count
        arrays["redo_age"][slot, server] = age
        books = arrays["redo_done"][slot, server]
        books[:] = self._here.done[server]
        for rank, number in done.items():
            books[rank] = number
        reach("server: slot written")
        arrays["redo_committed"][server] = version
        reach("server: committed")

    def apply(self) -> None:
        """Copy the committed after-image into place; may be repeated."""
        self._copy(self.committed, self._here)

    def replicate(self, version: int) -> None:
        """Copy the after-image of the replica's next version into it; may be repeated."""
        assert self._replica is not None
        self._copy(version, self._replica)

    def _copy(self, version: int, image: Image) -> None:
        slot, server, arrays = version % self._ring, self._server, self._arrays
        count = arrays["redo_count"][slot, server]
        keys, values, state = (array[:count] for array in self._slots[slot])
        scatter(values, keys, image.weights)
        reach("server: half applied" if image is self._here else "tail: half applied")
        scatter(state, keys, image.state)
        image.ages[server] = arrays["redo_age"][slot, server]
        image.done[server] = arrays["redo_done"][slot, server]
        image.checksums[server] = arrays["redo_checksum"][slot, server]
        image.versions[server] = version

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
        done = self._here.done[self._server].copy()
        for version in range(self.replicated + 1, self.committed + 1):
            self._copy(version, self._here)
        self._here.done[self._server] = done
        return self.sound

    @property
    def sound(self) -> bool:
        """Whether weights and state are those that the books were written for."""
        return checksum(self._here, self._mine) == int(self._here.checksums[self._server])


def start_replica(parameters: Parameters) -> None:
    """Before any server is at work: the replica and the checksums become those of the partitions."""
    for server, (begin, end) in enumerate(itertools.pairwise(parameters.shape.bounds)):
        parameters.here.checksums[server] = checksum(parameters.here, slice(begin, end))
    parameters.replica.copy_from(parameters.here)


def checksum(image: Image, part: slice) -> int:
    """Of the weights and the state of some keys: a sum, so that an update changes it by what it changes."""
    return digest(np.arange(part.start, part.stop), image.weights[part], image.state[part])
