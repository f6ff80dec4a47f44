"""The redo log of a server with a memory of its own, which ends with it. Its tail, elsewhere, has a copy."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from shmps.ps.memory.parameters import Mirror, copy_each
from shmps.ps.server.redo_log import RedoLog, Slot


class PrivateRedoLog(RedoLog):
    """The slots are sent to the tail, and what the tail has is what it said: -1 as long as it said nothing.

    A version is durable once the tail has it: no push of it is acknowledged before, and no value is read. So
    nobody has seen what dies with a server.

    undo: what the last update has changed, as it was before. In sync mode a worker's new life may have to
    make a push again that this server has applied, from values that were before it: the push was not
    announced to all servers. One update is enough, since a worker waits for each push.

    is_replica: this is the log of the head, in the memory of its tail.
    """

    def __init__(self, parameters: Mirror, server: int, is_replica: bool = False):
        super().__init__(parameters, server)
        self._mirror = parameters
        whole = 0, parameters.shape.num_keys
        self._image = parameters.replica_of(server) if is_replica else parameters.part_of(server, *whole)
        self._undo = self._before_of(self.all_keys[:0])

    @property
    def is_durable(self) -> bool:  # type: ignore[override]
        return self.replicated >= self.version

    def of_head(self, head: int) -> "PrivateRedoLog":
        return PrivateRedoLog(self._mirror, head, is_replica=True)

    def forget_replica(self) -> None:
        self.note_replicated(-1)

    def note_replicated(self, version: int) -> None:
        if self._replica is not None:
            self._replica.versions[self._server] = version

    def prepare(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._undo = self._before_of(keys)
        return super().prepare(keys)

    def replicate(self, version: int) -> None:
        self._undo = self._before_of(self._keys(self._slots[version % self._ring]))
        super().replicate(version)

    def parcel(self, version: int) -> Sequence[np.ndarray]:
        slot = self._slots[version % self._ring]
        return self._contents(slot, slot.size[0])

    def accept(self, version: int, arrays: Sequence[np.ndarray]) -> None:
        slot = self._slots[version % self._ring]
        copy_each(arrays, self._contents(slot, int(arrays[0][0])))

    def _contents(self, slot: Slot, count: int) -> list[np.ndarray]:
        age, done, checksum = slot.progress
        keys = slot.keys[: count if count < len(slot.keys) else 0]
        words = [np.asarray(slot.size)[:1], age[:1], np.asarray(done), np.asarray(checksum)[:1]]
        return [*words, keys, slot.values[:count], slot.state[:count]]

    def image(self) -> Sequence[np.ndarray]:
        return [*(part.copy() for part in self._image), *self._undo]

    def take(self, image: Sequence[np.ndarray]) -> None:
        copy_each(image[: len(self._image)], self._image)
        self._undo = list(image[len(self._image) :])

    @contextlib.contextmanager
    def stepped_back(self) -> Iterator[None]:
        now, version = self._before_of(self._undo[0]), self.version
        self._put(self._undo)
        self._version[0] = version - 1
        try:
            yield
        finally:
            self._put(now)
            self._version[0] = version

    def _before_of(self, keys: np.ndarray) -> list[np.ndarray]:
        """Return these keys with what the image holds of them, and with its age."""
        weights, state, _, age, *_ = self._image
        places = keys - self._mine.start
        return [keys.copy(), weights[places], state[places], age.copy()]

    def _put(self, before: list[np.ndarray]) -> None:
        weights, state, _, age, *_ = self._image
        keys, values, states, age[:] = before
        weights[keys - self._mine.start], state[keys - self._mine.start] = values, states
