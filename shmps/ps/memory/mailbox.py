"""The mailboxes, in which workers and servers exchange keys and values; the redo log of a worker's pushes."""

import numpy as np

from shmps.ps.memory.layout import Shape
from shmps.ps.messages import ANSWER, PULL, Record, with_arrays

DENSE = -1  # the last slot; negative slots are for requests for all keys


class Mailbox:
    """The shared memory of one (worker, server) pair: the keys and values of a few requests.

    keys[slot] (room,) int64 and values[slot] (room, width) of a request with keys. A negative slot has values
    for the whole partition and no keys. rows[slot]: the rows that a pushed gradient is the mean of.

    Nodes that do not share memory have a mailbox each: `pack` and `take` carry a slot from one to the other.
    """

    def __init__(self, arrays: dict[str, np.ndarray], shape: Shape, worker: int, server: int):
        begin, end = shape.bounds[server], shape.bounds[server + 1]
        room = slice(shape.mailbox_bounds[server], shape.mailbox_bounds[server + 1])
        self.keys = [arrays["keys"][worker, slot, room] for slot in range(shape.slots)]
        self.values = [arrays["values"][worker, slot, room] for slot in range(shape.slots)]
        self.values += [values[begin:end] for values in arrays["all_values"][worker]]
        self.rows = arrays["rows"][worker]

    def pack(self, record: Record) -> Record:
        """Return a request, or an answer, with its part of the slot: views, until it is answered."""
        return with_arrays(record, self._contents(record))

    def take(self, record: Record) -> None:
        """Put what came with a request or an answer into its slot."""
        for mine, sent in zip(self._contents(record), record.arrays, strict=True):
            mine[:] = sent

    def _contents(self, record: Record) -> list[np.ndarray]:
        slot, part = record.slot, slice(record.size)
        if record.op == ANSWER:
            return [self.values[slot][part]]
        keys = [self.keys[slot][part]] if slot >= 0 else []
        return keys if record.op == PULL else [*keys, self.values[slot][part], self.rows[slot:][:1]]


class PushLog:
    """Which requests lie in a worker's mailboxes, so that the worker's successor can announce them.

    A push counts once `commit` has stored its number, which is after the slots of all servers are filled. In
    recorded runs the pulls since the last push are noted too: their slots keep the answers.
    """

    def __init__(self, arrays: dict[str, np.ndarray], worker: int):
        self._committed = arrays["committed"].data[worker:]
        self._numbers, self._rows = arrays["numbers"][worker], arrays["rows"][worker]
        self._sizes, self._versions = arrays["sizes"][worker], arrays["versions"][worker]
        self._pulls = arrays["pulls"][worker]
        self.slots = range(len(arrays["keys"][worker]))
        self.dense_slots = range(-len(arrays["all_values"][worker]), 0)

    @property
    def committed(self) -> int:
        """The number of the last committed push."""
        return self._committed[0]

    def clear(self, slot: int) -> None:
        """Forget the answered request in `slot`, before the slot is filled again."""
        self._numbers[slot] = self._pulls[slot] = 0

    def note(self, slot: int, number: int, rows: float, sizes: list[int], versions: list[int]) -> None:
        """Note push `number` in `slot`: `sizes` keys for each server, computed from their `versions`."""
        self._rows[slot] = rows
        self._sizes[slot], self._versions[slot] = sizes, versions
        self._numbers[slot] = number

    def note_pull(self, slot: int, place: int, sizes: list[int]) -> None:
        """Note a pull in a filled slot, of `sizes` keys for each server. place: see `schedule.place_of`."""
        self._sizes[slot] = sizes
        self._pulls[slot] = place

    def sizes(self, slot: int) -> list[int]:
        """Return the keys for each server of the request in a slot."""
        sizes: list[int] = self._sizes[slot].tolist()
        return sizes

    def pulls(self) -> dict[int, tuple[int, list[int]]]:
        """Return the noted pulls, slot and sizes by place, in order."""
        slots = (*self.slots, *self.dense_slots)
        noted = sorted((int(self._pulls[slot]), slot) for slot in slots if self._pulls[slot])
        return {place: (slot, self._sizes[slot].tolist()) for place, slot in noted}

    def commit(self, number: int) -> None:
        self._committed[0] = number

    def forget_uncommitted(self) -> None:
        """Forget what a former life noted and did not commit: this life makes those pushes again."""
        uncommitted = self._numbers > self.committed
        self._numbers[uncommitted] = self._pulls[uncommitted] = 0

    def resume(self, done: list[int]) -> tuple[int, list[tuple[int, int, list[int], list[int]]]]:
        """Return the number of the last push that counts, and the pushes to be announced again.

        done: the former lives' pushes that each server has applied.
        """
        self.forget_uncommitted()
        return max(*done, self.committed), self.pending(min(done))

    def pending(self, done: int) -> list[tuple[int, int, list[int], list[int]]]:
        """Return committed pushes above `done` in order: number, slot, sizes, versions."""
        found = [
            (int(self._numbers[slot]), slot, self._sizes[slot].tolist(), self._versions[slot].tolist())
            for slot in (*self.slots, *self.dense_slots)
            if done < self._numbers[slot] <= self.committed
        ]
        return sorted(found)


class LostLog(PushLog):
    """The log of a worker whose memory ends with it: a later life makes the pushes again.

    A push counts if all servers have applied it. A server that has applied more of them acknowledges those
    when they come again, and does not apply them again.
    """

    def resume(self, done: list[int]) -> tuple[int, list[tuple[int, int, list[int], list[int]]]]:
        return min(done), []
