"""What travels through the pipes: records of 64 bytes. Arrays never do, they lie in the mailboxes."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

# worker -> server
PUSH, PULL, PUSH_PULL, LEAVE = range(1, 5)
# server -> worker
ANSWER, WELCOME = range(5, 7)
# scheduler -> server
START = 7
# a node joins a barrier (size: its group); the scheduler answers with RELEASE
BARRIER, RELEASE = range(8, 10)
# worker -> scheduler (size: bytes in its outlet, number: from where); it answers a report with READ (size)
REPORT, RESULT, FAILED, READ = range(10, 14)
# scheduler -> worker: a node is gone (slot: its role, size: its rank, number: its exit code)
DIED = 14

SCHEDULER, SERVER, WORKER = range(3)
ROLES = ("scheduler", "server", "worker")
WORKERS, ALL = "workers", "all"
GROUPS = (WORKERS, ALL)

_STRUCT = struct.Struct("<8q")
RECORD_BYTES = _STRUCT.size


class Record(NamedTuple):
    """One record: eight 64-bit integers, so that a write is atomic (64 <= PIPE_BUF)."""

    op: int
    sender: int = 0  # rank within its role, which the op tells
    timestamp: int = 0  # the request, numbered by the worker that made it
    slot: int = 0  # mailbox slot in which its keys and values lie
    size: int = 0  # keys for this server; elsewhere as said above
    number: int = 0  # of a push: 1, 2, ... for its worker; of a pull: the pushes before it
    version: int = 0  # of a push: the version it was computed from; of an answer: the version read
    run: int = 0  # the incarnation of the worker: records of earlier ones are dropped


def pack(record: Iterable[int]) -> bytes:
    return _STRUCT.pack(*record)


def unpack(data: bytes) -> list[Record]:
    return [Record(*fields) for fields in _STRUCT.iter_unpack(data)]
