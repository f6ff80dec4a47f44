"""What the nodes share: parameters, the servers' books and mailboxes, as arrays in shared memory."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.kernels import gather
from shmps.memory import Fields, NamelessMemory, carve
from shmps.messages import WORKER
from shmps.updaters import Updater

DENSE = -1  # the slot of a request for all keys: the last one
RING = 4
DELAY_BINS = 4096  # the last one counts every delay from there up


@dataclass(frozen=True)
class Shape:
    """The sizes that lay out the shared arrays."""

    num_keys: int
    width: int
    state_width: int
    servers: int
    workers: int
    max_keys: int
    replicas: int = 0
    slots: int = 4  # requests with keys that a worker may have under way
    dtype: type = np.float64  # of values in a mailbox; those of parameters are float64

    @property
    def bounds(self) -> list[int]:
        """Server s owns the keys [bounds[s], bounds[s + 1])."""
        return [self.num_keys * s // self.servers for s in range(self.servers + 1)]

    @property
    def mailbox_bounds(self) -> list[int]:
        """Server s finds a slot's keys at [mailbox_bounds[s], mailbox_bounds[s + 1])."""
        bounds = self.bounds
        sizes = [min(self.max_keys, bounds[s + 1] - bounds[s]) for s in range(self.servers)]
        return [sum(sizes[:s]) for s in range(self.servers + 1)]

    def state_of(self, rows: np.ndarray) -> np.ndarray:
        """State as it is stored, (k, width * m), as an updater sees it, (k, width, m)."""
        return rows.reshape(len(rows), self.width, self.state_width)

    def parameter_fields(self) -> Fields:
        servers, workers, ring = self.servers, self.workers, self.ring
        return {
            **self._image_fields("", self.num_keys),
            **self._image_fields("replica_", self.num_keys if self.replicas else 0),
            "delays": (np.int64, (servers, DELAY_BINS)),
            "strides": (np.float64, (workers,)),
            # The redo slots: `ring` per server, over its own range of keys.
            "redo_committed": (np.int64, (servers,)),
            "redo_count": (np.int64, (ring, servers)),
            "redo_age": (np.float64, (ring, servers)),
            "redo_checksum": (np.int64, (ring, servers)),
            "redo_done": (np.int64, (ring, servers, workers)),
            "redo_keys": (np.int64, (ring, self.num_keys)),
            "redo_values": (np.float64, (ring, self.num_keys, self.width)),
            "redo_state": (np.float64, (ring, self.num_keys, self.width * self.state_width)),
        }

    def _image_fields(self, prefix: str, n: int) -> Fields:
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "weights": (np.float64, (n, self.width)),
            "state": (np.float64, (n, self.width * self.state_width)),
            "versions": (np.int64, (self.servers,)),
            "ages": (np.float64, (self.servers,)),
            "done": (np.int64, (self.servers, self.workers)),
            "checksums": (np.int64, (self.servers,)),
        }
        return {prefix + name: field for name, field in shapes.items()}

    @property
    def ring(self) -> int:
        """Redo slots of a server: those that the replica does not have yet must stay."""
        return RING if self.replicas else 1

    def mailbox_fields(self) -> Fields:
        workers, slots, room = self.workers, self.slots, self.mailbox_bounds[-1]
        return {
            "beats": (np.int64, (self.servers + workers,)),
            "committed": (np.int64, (workers,)),
            "stopping": (np.int64, (1,)),
            "numbers": (np.int64, (workers, slots + 1)),
            "sizes": (np.int64, (workers, slots + 1, self.servers)),
            "versions": (np.int64, (workers, slots + 1, self.servers)),
            "rows": (np.float64, (workers, slots + 1)),
            "keys": (np.int64, (workers, slots, room)),
            "values": (self.dtype, (workers, slots, room, self.width)),
            "all_values": (self.dtype, (workers, self.num_keys, self.width)),
        }


class Mailbox:
    """The shared memory of one (worker, server) pair: the keys and values of a few requests.

    `keys[slot]` (room,) and `values[slot]` (room, width); slot `DENSE` has values for the whole partition
    and needs no keys; `rows[slot]` is how many rows a pushed gradient is the mean of.
    """

    def __init__(self, arrays: dict[str, np.ndarray], shape: Shape, worker: int, server: int):
        begin, end = shape.bounds[server], shape.bounds[server + 1]
        room = slice(shape.mailbox_bounds[server], shape.mailbox_bounds[server + 1])
        self.keys = [arrays["keys"][worker, slot, room] for slot in range(shape.slots)]
        self.values = [arrays["values"][worker, slot, room] for slot in range(shape.slots)]
        self.values.append(arrays["all_values"][worker, begin:end])
        self.rows = arrays["rows"][worker]


class Log:
    """A worker's redo log: which pushes lie in its mailboxes, so that whoever takes over can announce them.

    A push counts once `commit` has stored its number, which is after the slots of all servers are filled.
    """

    def __init__(self, arrays: dict[str, np.ndarray], worker: int):
        self._committed, self._worker = arrays["committed"], worker
        self._numbers, self._rows = arrays["numbers"][worker], arrays["rows"][worker]
        self._sizes, self._versions = arrays["sizes"][worker], arrays["versions"][worker]

    @property
    def slots(self) -> list[int]:
        """Those of requests with keys; `DENSE` comes after them."""
        return list(range(len(self._numbers) - 1))

    @property
    def committed(self) -> int:
        """The number of the last push that is whole."""
        return int(self._committed[self._worker])

    def clear(self, slot: int) -> None:
        """Before the slot is filled anew: what lies in it was answered."""
        self._numbers[slot] = 0

    def note(self, slot: int, number: int, rows: float, sizes: list[int], versions: list[int]) -> None:
        """Push `number` lies in `slot`: `sizes` keys for each server, computed from their `versions`."""
        self._rows[slot] = rows
        for server, (size, version) in enumerate(zip(sizes, versions, strict=True)):
            self._sizes[slot, server], self._versions[slot, server] = size, version
        self._numbers[slot] = number

    def commit(self, number: int) -> None:
        self._committed[self._worker] = number

    def forget_uncommitted(self) -> None:
        """What a former life noted and did not commit: the next makes those pushes anew, in any slots."""
        self._numbers[self._numbers > self.committed] = 0

    def pending(self, done: int) -> list[tuple[int, int, list[int], list[int]]]:
        """Committed pushes above `done` in order: number, slot, sizes, versions."""
        found = [
            (int(self._numbers[slot]), slot, self._sizes[slot].tolist(), self._versions[slot].tolist())
            for slot in (*self.slots, DENSE)
            if done < self._numbers[slot] <= self.committed
        ]
        return sorted(found)


class Overview:
    """What the scheduler reads of the nodes while they work."""

    def __init__(self, parameters: "Parameters", arrays: dict[str, np.ndarray]):
        self._parameters = parameters
        self._beats, self._committed = arrays["beats"], arrays["committed"]
        self._numbers, self._stopping = arrays["numbers"], arrays["stopping"]

    def stop(self, stopping: bool = True) -> None:
        """Have `kv.stopping` be that, in all workers."""
        self._stopping[0] = stopping

    @property
    def tick(self) -> int:
        """That of the furthest worker."""
        return int(self._parameters.done.max())

    def version(self, server: int) -> int:
        return int(self._parameters.versions[server])

    def clock(self, worker: int) -> int:
        """Pushes that all servers have applied."""
        return int(self._parameters.done[:, worker].min())

    def unapplied(self, server: int) -> int:
        """Committed pushes that this server has not applied."""
        return int(np.maximum(self._committed - self._parameters.done[server], 0).sum())

    def unacknowledged(self, worker: int) -> int:
        """Its committed pushes that not all servers have applied."""
        return max(int(self._committed[worker]) - self.clock(worker), 0)

    def forget_commits(self) -> None:
        """Of a run that was broken off: nobody goes on with them."""
        self._committed[:] = 0
        self._numbers[:] = 0

    def beats(self, role: int, rank: int) -> int:
        return int(self._beats[rank + (self._parameters.shape.servers if role == WORKER else 0)])


class Pulse:
    """A node's sign of life, a count that only it raises; and whether it was asked to end what it does."""

    def __init__(self, arrays: dict[str, np.ndarray], shape: Shape, role: int, rank: int):
        place = rank + (shape.servers if role == WORKER else 0)
        self._beats, self._stopping = arrays["beats"].data[place:], arrays["stopping"].data

    @property
    def stopping(self) -> bool:
        return self._stopping[0] != 0

    def beat(self) -> None:
        self._beats[0] += 1


class Store:
    """The shared arrays of a cluster; to be closed.

    Servers write `parameters`; workers only read them, unless they update in place. Raises OutOfSpace if they
    do not fit in memory.
    """

    def __init__(self, shape: Shape):
        self.shape = shape
        sizes = [carve(fields)[1] for fields in (shape.parameter_fields(), shape.mailbox_fields())]
        # One piece, so that one look at the available memory decides.
        self._memory = NamelessMemory(sum(sizes))
        self._cut = sizes[0]

    def parameters(self, writable: bool = False) -> "Parameters":
        buffer = self._memory.all() if writable else self._memory.read_only()
        return Parameters(self.shape, carve(self.shape.parameter_fields(), buffer)[0])

    def mailboxes(self) -> dict[str, np.ndarray]:
        return carve(self.shape.mailbox_fields(), self._memory.all()[self._cut :])[0]

    def close(self) -> None:
        self._memory.close()


class Image(NamedTuple):
    """All partitions with their servers' books: the parameters themselves, or their replica."""

    weights: np.ndarray  # (n, width)
    state: np.ndarray  # (n, width * m)
    versions: np.ndarray  # (servers,)
    ages: np.ndarray  # (servers,)
    done: np.ndarray  # (servers, workers): the last push applied
    checksums: np.ndarray  # (servers,) of weights and state

    @staticmethod
    def of(arrays: dict[str, np.ndarray], prefix: str) -> "Image":
        return Image(*(arrays[prefix + name] for name in Image._fields))

    def copy_from(self, other: "Image") -> None:
        for mine, theirs in zip(self, other, strict=True):
            mine[:] = theirs


class Copy(NamedTuple):
    """Of the parameters and books, at one instant if no server was writing: what a cluster can go on from."""

    weights: np.ndarray  # (n, width), with whatever penalty they owe
    state: np.ndarray  # (n, width * m)
    ages: np.ndarray  # (servers,)
    versions: np.ndarray  # (servers,)
    ticks: np.ndarray  # (workers,): of each worker's pushes the last that all servers have applied


class Parameters:
    """Weights (n, width), updater state (n, width * m) and each server's books, as arrays.

    Where workers update in place, each writes its own column of `done`, and in `strides` (workers,) what
    penalty its own updates came to: so no two write the same number.
    """

    def __init__(self, shape: Shape, arrays: dict[str, np.ndarray]):
        self.shape = shape
        self.arrays = arrays
        self.here, self.replica = Image.of(arrays, ""), Image.of(arrays, "replica_")
        self.weights, self.state, self.versions, self.ages, self.done, _ = self.here
        self.delays, self.strides = arrays["delays"], arrays["strides"]

    def copy(self, workers: int) -> Copy:
        ticks = self.done[:, :workers].min(axis=0)
        return Copy(self.weights.copy(), self.state.copy(), self.ages.copy(), self.versions.copy(), ticks)

    def restore(self, copy: Copy) -> None:
        """With another number of servers, all are taken to be as old as the oldest: in sync mode they are."""
        self.weights[:], self.state[:] = copy.weights, copy.state
        same = len(copy.ages) == len(self.ages)
        self.ages[:] = copy.ages if same else copy.ages.max()
        self.versions[:] = copy.versions if same else copy.versions.max()
        self.done[:, : len(copy.ticks)] = copy.ticks
        self.strides[0] = self.ages[0]

    def tick_in_place(self, worker: int, number: int, penalty: float) -> None:
        """Tick `number` of this worker has raised the age by `penalty`.

        The ages are added up anew every time: where two do it at once the next tick puts it right.
        """
        self.strides[worker] += penalty
        self.ages[:] = self.strides.sum()
        self.done[:, worker] = number

    def replica_differences(self) -> int:
        """Keys under which weights or state are other bits in the replica; none without one."""
        if not self.shape.replicas:
            return 0
        differs = np.zeros(len(self.weights), bool)
        for mine, copy in ((self.weights, self.replica.weights), (self.state, self.replica.state)):
            differs |= (mine.view(np.int64) != copy.view(np.int64)).any(axis=1)
        return int(differs.sum())

    def read(self, keys: np.ndarray, server: int, updater: Updater, out: np.ndarray) -> None:
        """The values under `keys` (k,) of one server into `out` (k, width), with no penalty owed."""
        gather(self.weights, keys, out)
        if updater.lazy:
            state = np.empty((len(keys), self.state.shape[1]))
            gather(self.state, keys, state)
            updater.catch_up(keys, out, self.shape.state_of(state), float(self.ages[server]))
