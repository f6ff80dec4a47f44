"""The network of an inline cluster in virtual time, and what its machines do."""

import collections

from shmps.engines.inline.machines import Machines
from shmps.ps.messages import ANSWER, PULL, PUSH, PUSH_PULL, RECORD_BYTES, SERVER, WORKER, Address, Record


class Machine:
    """One machine at work: from when on it is free, and what it did so far.

    sends, receives, handles: the virtual second from which on it can send, receive, and handle a record.
    sent: bytes. records: sent. busy: seconds of serving (a server) or computing (a worker). receiving:
    seconds in which its link took bytes.
    """

    __slots__ = ("busy", "handles", "receives", "receiving", "records", "sends", "sent")

    def __init__(self) -> None:
        self.sends = self.receives = self.handles = self.busy = self.receiving = 0.0
        self.sent = self.records = 0


class Network:
    """When a record arrives, and when a server has finished with it.

    A machine sends its records one after the other, and receives them one after the other; a server handles
    them in the order of their arrival. All this is decided when a record is sent.

    now: virtual seconds at the last look. machines: by address.
    """

    def __init__(self, machines: Machines, key_bytes: int, value_bytes: int):
        self.now = 0.0
        self.machines: dict[Address, Machine] = collections.defaultdict(Machine)
        self._latency, self._seconds_of_byte = machines.latency, 1 / machines.bandwidth
        self._service = {
            PUSH: (machines.push, machines.key),
            PULL: (machines.pull, machines.key),
            PUSH_PULL: (machines.push + machines.pull, 2 * machines.key),
        }
        # Of a request with keys, and of one for all keys: the bytes that each key adds to a record.
        self._bytes = {PUSH: (key_bytes + value_bytes, value_bytes), PULL: (key_bytes, 0)}
        self._bytes[PUSH_PULL] = self._bytes[PUSH]
        self._value_bytes = value_bytes
        self._pulls: set[tuple[Machine, int, int]] = set()  # unanswered: server, worker, timestamp

    def arrival(self, now: float, sender: Machine, addressee: Machine, worker: int, record: Record) -> float:
        """Return when the addressee has the record; a server, when it has finished with it.

        worker: the rank of the worker that sends a request or gets an answer.
        """
        op, size = record.op, RECORD_BYTES
        if op == ANSWER:
            pull = sender, worker, record.timestamp
            if pull in self._pulls:
                self._pulls.discard(pull)
                size += record.size * self._value_bytes
        elif op in self._bytes:
            size += record.size * self._bytes[op][record.slot < 0]
            if op != PUSH:
                self._pulls.add((addressee, worker, record.timestamp))
        sender.records += 1
        sender.sent += size
        time = now + self._latency
        if self._seconds_of_byte:
            seconds = size * self._seconds_of_byte
            begin = sender.sends if sender.sends > now else now
            sender.sends = begin + seconds
            # The addressee's link takes the bytes as they come, after those of earlier records.
            time = max(begin + self._latency, addressee.receives) + seconds
            addressee.receives = time
            addressee.receiving += seconds
        if addressee.handles > time:
            time = addressee.handles
        if op in self._service:
            request, key = self._service[op]
            seconds = request + key * record.size
            addressee.busy += seconds
            time += seconds
        addressee.handles = time  # so records arrive in the order in which they were sent
        return time

    def round_trip(self, now: float, worker: int, sizes: list[int]) -> float:
        """Return when a worker has the answers to a pull of so many keys of each server."""
        me, last = self.machines[WORKER, worker], now
        for rank, size in enumerate(sizes):
            server, record = self.machines[SERVER, rank], Record(PULL, worker, -1, 0, size)
            asked = self.arrival(now, me, server, worker, record)
            last = max(last, self.arrival(asked, server, me, worker, record._replace(op=ANSWER)))
        return last
