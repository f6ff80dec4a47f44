"""The records that nodes exchange: 64 bytes each. Arrays lie in mailboxes, which both sides see.

    worker     PUSH, PULL, PUSH_PULL, LOOK                   -> server     its keys lie in a mailbox slot
    server     ANSWER, SIGHT, Welcome                        -> worker
    worker     AtBarrier, AskRanks, Report, Result, Failed   -> scheduler
    scheduler  Release, Sharer, HandedOver, Died, Ping, Stop -> worker
    scheduler  Start, Enter, Leave, Settle, Peer, Ping, Write -> server
    server     Settled, Lost                                 -> scheduler
    server     Ship, AskImage, Image                         -> its tail   the next server, with its replica
    server     Shipped, Image                                -> its head

Nodes that do not share memory send the arrays with the record, as a `Parcel`. LOOK, SIGHT, AskImage, Image,
Lost, Write and Stop are for such nodes alone.

A request and its answer use the fields of `Record`. Every other record carries a message: a tuple of at most
five integers, which lie in the record's fields `timestamp` to `version`. A new message is a class here, an
entry in MESSAGES, and a handler in its receiver: `Server`, the worker's `Client`, `RunState` or `Scheduler`.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # it imports NumPy, and `--help` must not
    import numpy as np

PUSH, PULL, PUSH_PULL, LOOK, ANSWER, SIGHT = range(1, 7)

SCHEDULER, SERVER, WORKER = range(3)
ROLES = ("scheduler", "server", "worker")
WORKERS, ALL = "workers", "all"
GROUPS = (WORKERS, ALL)

_STRUCT = struct.Struct("<2i7q")
RECORD_BYTES = _STRUCT.size

Address = tuple[int, int]  # role, rank


class Start(NamedTuple):
    """A run begins, or goes on after the death of this server's predecessor.

    The server waits until `workers` workers have entered before it applies or answers anything.
    """

    workers: int


class Enter(NamedTuple):
    """A worker enters, or a new life of it, at the tick that it has reached in this run or at `tick`."""

    worker: int
    life: int
    tick: int


class Leave(NamedTuple):
    """A worker has finished."""

    worker: int


class Settle(NamedTuple):
    """Answer with Settled when all earlier records are handled.

    image: 1 if nodes that do not share memory have to send their parameters, too.
    """

    question: int
    image: int = 0


class Settled(NamedTuple):
    question: int
    image: int = 0


class Peer(NamedTuple):
    """A server that shares a replica with the addressee has this life."""

    server: int
    life: int


class Ship(NamedTuple):
    """Copy the head's update `version` from its redo slot into the replica."""

    version: int


class Shipped(NamedTuple):
    """The tail has all updates up to `version`. It asks for the rest if `wants_rest` is 1."""

    version: int
    wants_rest: int


class AskImage(NamedTuple):
    """The sender follows a server that has died: send it the replica of its partition."""


class Image(NamedTuple):
    """A copy of the partition of `server` comes with this record; there is none if `version` is -1."""

    server: int
    version: int


class Lost(NamedTuple):
    """The sender follows a server that has died, and nobody has a copy of the partition."""


class Write(NamedTuple):
    """Values of the keys begin to end - 1 come with this record. They replace those of the server."""

    begin: int
    end: int


class Welcome(NamedTuple):
    """A server knows the addressee's life. It has applied `pushes` of its pushes, and stands at `version`."""

    pushes: int
    version: int


class AtBarrier(NamedTuple):
    """A worker waits at its barrier `number` (1, 2, ...) since it asked for `epoch`."""

    epoch: int
    number: int


class Release(NamedTuple):
    """That barrier is open."""

    epoch: int
    number: int


class AskRanks(NamedTuple):
    """A worker at `tick` asks which ranks share the rows in `epoch`. The answer is one Sharer for each."""

    epoch: int
    tick: int


class Sharer(NamedTuple):
    """One of `sharers` ranks that share the rows; a single record with 0 if there is none."""

    rank: int
    sharers: int


class Report(NamedTuple):
    """A value lies in the worker's channel for reports: `size` bytes at `offset`."""

    size: int
    offset: int


class HandedOver(NamedTuple):
    """The scheduler has given a report of this worker to the caller of `run`."""


class Result(NamedTuple):
    """The function has returned; its result lies in the channel for the outcome."""

    size: int


class Failed(NamedTuple):
    """The function has raised; the exception lies in the channel for the outcome."""

    size: int


class Died(NamedTuple):
    """A node has died and is not replaced."""

    role: int
    rank: int
    exit_code: int


class Ping(NamedTuple):
    """Show a sign of life."""


class Stop(NamedTuple):
    """`Cluster.stop` was called."""


MESSAGES: tuple[type, ...] = (
    Start, Enter, Leave, Settle, Settled, Peer, Ship, Shipped, Welcome, AtBarrier, Release, AskRanks, Sharer,
    Report, HandedOver, Result, Failed, Died, Ping, AskImage, Image, Lost, Write, Stop,
)  # fmt: skip
_PAYLOAD = 5  # fields of a record that a message may use
_KINDS: dict[int, Any] = dict(enumerate(MESSAGES, SIGHT + 1))
_OPS = {kind: op for op, kind in _KINDS.items()}


class Record(NamedTuple):
    """One record: 64 bytes, so that a write is atomic (64 <= PIPE_BUF).

    A life is the incarnation of a node. Every node that a cluster launches has another one, and later ones
    are larger. The addressee drops records that were sent by or to a former life.
    """

    op: int
    sender: int = 0  # rank; the op implies the role
    timestamp: int = 0  # number of the request, counted by the worker that made it
    slot: int = 0  # mailbox slot of the keys and values; of a look: the first key
    # Keys for this server; of an answer: the values that it has in the slot; of a look: keys of all servers.
    size: int = 0
    number: int = 0  # of a push: 1, 2, ... for its worker; of a pull: the pushes before it
    # Of a push: the version it was computed from; of a pull: the pulls since that push; of an answer: the
    # version read.
    version: int = 0
    life: int = 0  # of the sender
    to: int = 0  # the life of the addressee

    @property
    def arrays(self) -> "Sequence[np.ndarray]":
        """The arrays that the record carries; only a `Parcel` has some."""
        return ()

    @staticmethod
    def of(message: Any, sender: int = 0, life: int = 0, to: int = 0) -> "Record":
        """Return the record that carries `message`, an instance of one of MESSAGES."""
        fields = (*message, *(0,) * (_PAYLOAD - len(message)))
        return Record._make((_OPS[type(message)], sender, *fields, life, to))

    @property
    def turn(self) -> int:
        """The pulls that the worker has made between its last push and this pull."""
        return self.version if self.op == PULL else 0

    @property
    def message(self) -> Any:
        """The message that this record carries. Not for requests and their answers."""
        kind = _KINDS[self.op]
        return kind(*self[2 : 2 + len(kind._fields)])


Record.arrays = ()  # type: ignore[assignment,method-assign]  # to look is faster than to call


class Parcel(Record):
    """A record that carries arrays, between nodes that do not share memory."""

    arrays: "Sequence[np.ndarray]"  # type: ignore[assignment]


def with_arrays(record: Record, arrays: "Sequence[np.ndarray]") -> Record:
    """Return a record that carries these arrays, if there are any."""
    if not arrays:
        return record
    parcel = Parcel._make(record)
    parcel.arrays = arrays
    return parcel


Delivery = tuple[Address, Record]  # a record and where it goes


def pack(record: Iterable[int]) -> bytes:
    return _STRUCT.pack(*record)


def unpack(data: bytes) -> list[Record]:
    return list(map(Record._make, _STRUCT.iter_unpack(data)))
