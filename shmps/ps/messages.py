"""The records that nodes exchange: 64 bytes each. Arrays never travel with them; they lie in mailboxes.

    worker     PUSH, PULL, PUSH_PULL                         -> server     its keys lie in a mailbox slot
    server     ANSWER, Welcome                               -> worker
    worker     AtBarrier, AskRanks, Report, Result, Failed   -> scheduler
    scheduler  Release, Sharer, HandedOver, Died, Ping       -> worker
    scheduler  Start, Enter, Leave, Settle, Peer, Ping       -> server
    server     Settled                                       -> scheduler
    server     Ship                                          -> its tail   the next server, with its replica
    server     Shipped                                       -> its head

A request and its answer use the fields of `Record`. Every other record carries a message: a tuple of at most
five integers, which lie in the record's fields `timestamp` to `version`. A new message is a class here, an
entry in MESSAGES, and a handler in its receiver: `Server`, the worker's `Client`, `RunState` or `Scheduler`.
"""

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

PUSH, PULL, PUSH_PULL, ANSWER = range(1, 5)

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
    """Answer with Settled when all earlier records are handled."""

    question: int


class Settled(NamedTuple):
    question: int


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


MESSAGES: tuple[type, ...] = (
    Start, Enter, Leave, Settle, Settled, Peer, Ship, Shipped, Welcome, AtBarrier, Release, AskRanks, Sharer,
    Report, HandedOver, Result, Failed, Died, Ping,
)  # fmt: skip
_PAYLOAD = 5  # fields of a record that a message may use
_KINDS: dict[int, Any] = dict(enumerate(MESSAGES, ANSWER + 1))
_OPS = {kind: op for op, kind in _KINDS.items()}


class Record(NamedTuple):
    """One record: 64 bytes, so that a write is atomic (64 <= PIPE_BUF).

    A life is the incarnation of a node. Every node that a cluster launches has another one, and later ones
    are larger. The addressee drops records that were sent by or to a former life.
    """

    op: int
    sender: int = 0  # rank; the op implies the role
    timestamp: int = 0  # number of the request, counted by the worker that made it
    slot: int = 0  # mailbox slot of the keys and values
    size: int = 0  # keys for this server
    number: int = 0  # of a push: 1, 2, ... for its worker; of a pull: the pushes before it
    # Of a push: the version it was computed from; of a pull: the pulls since that push; of an answer: the
    # version read.
    version: int = 0
    life: int = 0  # of the sender
    to: int = 0  # the life of the addressee

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


Delivery = tuple[Address, Record]  # a record and where it goes


def pack(record: Iterable[int]) -> bytes:
    return _STRUCT.pack(*record)


def unpack(data: bytes) -> list[Record]:
    return [Record(*fields) for fields in _STRUCT.iter_unpack(data)]
