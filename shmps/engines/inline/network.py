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
        in_request = key_bytes + value_bytes
        # Seconds of service, and per key; bytes per key, and per key of a record for all keys.
        self._costs = {
            PUSH: (machines.push, machines.key, in_request, value_bytes),
            PULL: (machines.pull, machines.key, key_bytes, 0),
            PUSH_PULL: (machines.push + machines.pull, 2 * machines.key, in_request, value_bytes),
            ANSWER: (0.0, 0.0, value_bytes, value_bytes),
        }

    def arrival(self, now: float, sender: Machine, addressee: Machine, record: Record) -> float:
        """Return when the addressee has the record; a server, when it has finished with it."""
        size, service = RECORD_BYTES, 0.0
        if costs := self._costs.get(record.op):
            request, key, key_bytes, dense_bytes = costs
            service = request + key * record.size
            size += record.size * (key_bytes if record.slot >= 0 else dense_bytes)
        if record.arrays:
            size = RECORD_BYTES + sum(array.nbytes for array in record.arrays)
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
        addressee.busy += service
        addressee.handles = time = time + service  # so records arrive in the order in which they were sent
        return time

    def round_trip(self, now: float, worker: int, sizes: list[int]) -> float:
        """Return when a worker has the answers to a pull of so many keys of each server."""
        me, last = self.machines[WORKER, worker], now
        for rank, size in enumerate(sizes):
            server, record = self.machines[SERVER, rank], Record(PULL, worker, -1, 0, size)
            asked = self.arrival(now, me, server, record)
            last = max(last, self.arrival(asked, server, me, record._replace(op=ANSWER)))
        return last
