"""Inboxes: one pipe per node. Every other node holds the write end, and writes records of 64 bytes.

    scheduler --+
    worker 0 ---+--> os.write: a record whole, or not at all --> inbox of server 0 --> os.read --> server 0
    worker 1 ---+                |                                    (a pipe)         many records
    server 1 ---+                | the pipe is full
                                 v
                    kept by the sender's `Post`, per address; each `receive`, `receive_nowait` and
                    `flush` of the sender tries again

No cycle of full pipes can stop the cluster. A write never blocks: the sender keeps the records that a full
pipe refuses, and goes on reading its own inbox. The kept records are few: a worker has at most as many
requests under way as its mailbox has slots. A server sends answers to these requests and, with replicas, as
many ships as the ring of redo slots holds.
"""

import collections
import os
import select
import time
from collections.abc import Callable
from multiprocessing import reduction

from shmps.engines.processes.boot import input_poll
from shmps.ps.messages import (
    RECORD_BYTES,
    SCHEDULER,
    SERVER,
    WORKER,
    Address,
    Delivery,
    Record,
    pack,
    unpack,
)

_SPIN = 100e-6  # seconds that `receive` spins before it sleeps
_SLEEPS = 1000  # calls of `receive` that sleep at once after other processes wanted the core
_READ_BYTES = 1024 * RECORD_BYTES


class Inboxes:
    """The pipes of a cluster: made before the first node is started, and inherited by all nodes."""

    def __init__(self, servers: int, workers: int):
        addresses = [
            (SCHEDULER, 0),
            *((SERVER, s) for s in range(servers)),
            *((WORKER, w) for w in range(workers)),
        ]
        self._pipes: dict[Address, tuple[int, int]] = {}
        try:
            for address in addresses:
                self._pipes[address] = _, write_end = os.pipe()
                os.set_blocking(write_end, False)
        except OSError:
            self.close()
            raise

    def read_end(self, address: Address) -> int:
        return self._pipes[address][0]

    def write_end(self, address: Address) -> int:
        return self._pipes[address][1]

    def close(self) -> None:
        for ends in self._pipes.values():
            for end in ends:
                os.close(end)
        self._pipes = {}

    def __getstate__(self):
        return {address: tuple(map(reduction.DupFd, ends)) for address, ends in self._pipes.items()}

    def __setstate__(self, state):
        self._pipes = {address: tuple(end.detach() for end in ends) for address, ends in state.items()}


class Post:
    """One node's inbox, and its access to the inboxes of the others (`shmps.ps.engine.Post`)."""

    def __init__(self, inboxes: Inboxes, address: Address):
        self.inbox = inboxes.read_end(address)
        self._inboxes = inboxes
        self._kept: dict[Address, collections.deque[bytes]] = {}
        self._behind: list[tuple[int, Address, Record]] = []  # see `send_behind`
        self._arrivals = input_poll(self.inbox)
        self._sleeps = 0

    def send(self, address: Address, record: Record) -> None:
        """Write `record` to the inbox of `address`, or keep it until the pipe has room; never block."""
        self._write(address, pack(record))

    def send_all(self, deliveries: list[Delivery]) -> None:
        """Send several records. Those to one address go in one write, which wakes the addressee once."""
        if len(deliveries) == 1:
            self.send(*deliveries[0])
            return
        data_for: dict[Address, bytes] = {}
        for address, record in deliveries:
            data_for[address] = data_for.get(address, b"") + pack(record)
        for address, data in data_for.items():
            # A pipe takes a write of up to PIPE_BUF bytes whole, or not at all.
            for first in range(0, len(data), select.PIPE_BUF):
                self._write(address, data[first : first + select.PIPE_BUF])

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        """Send `record` once no record is kept for a node of `role`."""
        self._behind.append((role, address, record))
        self._send_behind()

    def _send_behind(self) -> None:
        roles = {role for role, _ in self._kept}
        behind, self._behind = self._behind, []
        for role, address, record in behind:
            if role in roles:
                self._behind.append((role, address, record))
            else:
                self.send(address, record)

    def _write(self, address: Address, data: bytes) -> None:
        if address in self._kept:  # the records of one sender arrive in the order of its calls
            self._kept[address].append(data)
            return
        try:
            os.write(self._inboxes.write_end(address), data)
        except BlockingIOError:
            self._kept[address] = collections.deque([data])

    def receive(self) -> list[Record]:
        """Wait for records and return them: one or more.

        Spin for a moment before sleeping, and yield the core meanwhile: to wake an idle core can take longer
        than the answer does (`python -m bench requests`). If other processes want the core, sleep at once in
        the next `_SLEEPS` calls: an answer wakes a sleeper, but a process that has yielded waits until the
        time slices of the others end.
        """
        if self._sleeps:
            self._sleeps -= 1
        else:
            spin_until = time.perf_counter() + _SPIN
            while not self._arrivals.poll(0) and time.perf_counter() < spin_until:
                os.sched_yield()
            if time.perf_counter() > spin_until + _SPIN:
                self._sleeps = _SLEEPS
        while self._kept and not self._poll(None):
            pass
        return unpack(os.read(self.inbox, _READ_BYTES))

    def receive_until(self, condition: Callable[[], bool], take: Callable[[list[Record]], None]) -> None:
        while not condition():
            take(self.receive())

    def receive_nowait(self) -> list[Record]:
        """Return the records in the inbox, perhaps none."""
        return unpack(os.read(self.inbox, _READ_BYTES)) if self._poll(0) else []

    def _poll(self, timeout: int | None) -> bool:
        """Write kept records as soon as a full pipe has room; return whether the inbox has records.

        timeout: milliseconds to wait for either; None: until one of them comes.
        """
        ready = select.poll()
        ready.register(self.inbox, select.POLLIN)
        for address in self._kept:
            ready.register(self._inboxes.write_end(address), select.POLLOUT)
        descriptors = {descriptor for descriptor, _ in ready.poll(timeout)}
        self._retry()
        return self.inbox in descriptors

    def flush(self) -> None:
        """Wait until every kept record is written. A node does this last."""
        while self._kept:
            self._poll(None)

    def _retry(self) -> None:
        """Write the kept records for which the pipes have room now."""
        for address, kept in list(self._kept.items()):
            try:
                while kept:
                    os.write(self._inboxes.write_end(address), kept[0])
                    kept.popleft()
            except BlockingIOError:
                continue
            del self._kept[address]
        if self._behind:
            self._send_behind()
