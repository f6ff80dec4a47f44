"""What travels through the pipes: records of 64 bytes. Arrays never do, they lie in the mailboxes."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

# worker -> server
PUSH, PULL, PUSH_PULL = range(1, 4)
# server -> worker
ANSWER, WELCOME = range(4, 6)
# scheduler -> server: a run, or its going on, in which `size` workers come in before anything is done;
# worker `slot` comes in, in its life `timestamp`, at tick `number` or where it has got to in this run; it has
# finished; and: answer when all that came before is handled (`number` is given back)
START, ENTER, LEAVE, SETTLE = range(6, 10)
# server -> scheduler
SETTLED = 10
# a worker comes to its barrier `number` since it asked for epoch `version`; answered with RELEASE
BARRIER, RELEASE = range(11, 13)
# worker -> scheduler (size: bytes in its outlet, number: from where); it answers each report with READ
REPORT, RESULT, FAILED, READ = range(13, 17)
# worker -> scheduler: who divides the rows in epoch `number`? It stands at tick `version`. The scheduler
# answers with one PART per rank: this is number `number` of `size`, rank `slot`
EPOCH, PART = range(17, 19)
# scheduler -> worker: a node is gone for good (slot: its role, size: its rank, number: its exit code)
DIED = 19
# scheduler -> node: show a sign of life
PING = 20
# scheduler -> server: server `slot`, with which it shares a replica, has the life `timestamp`
PEER = 21
# server -> server: our update `version` is to be copied into our replica; it is in (size: 1: send the rest)
SHIP, SHIPPED = range(22, 24)

SCHEDULER, SERVER, WORKER = range(3)
ROLES = ("scheduler", "server", "worker")
WORKERS, ALL = "workers", "all"
GROUPS = (WORKERS, ALL)

_STRUCT = struct.Struct("<2i7q")
RECORD_BYTES = _STRUCT.size


class Record(NamedTuple):
    """One record: 64 bytes, so that a write is atomic (64 <= PIPE_BUF).

    A life is the incarnation of a node: every process of a cluster has another one, later ones larger. What
    was sent by or to a dead process is known by it, and dropped.
    """

    op: int
    sender: int = 0  # rank within its role, which the op tells
    timestamp: int = 0  # the request, numbered by the worker that made it
    slot: int = 0  # mailbox slot in which its keys and values lie
    size: int = 0  # keys for this server; elsewhere as said above
    number: int = 0  # of a push: 1, 2, ... for its worker; of a pull: the pushes before it
    version: int = 0  # of a push: the version it was computed from; of an answer: the version read
    life: int = 0  # of the sender
    to: int = 0  # the life of the addressee


Address = tuple[int, int]  # role, rank
Message = tuple[Address, Record]


def pack(record: Iterable[int]) -> bytes:
    return _STRUCT.pack(*record)


def unpack(data: bytes) -> list[Record]:
    return [Record(*fields) for fields in _STRUCT.iter_unpack(data)]
