"""Inboxes: one pipe per node, whose write end every other node holds.

No cycle of full pipes can stop the cluster. A write never blocks: what a pipe will not take is kept and
tried again while the writer goes on reading its own inbox. And the kept records are few, since a worker has
at most as many requests under way as its mailbox has slots, and a server only ever answers a request.
"""

import collections
import os
import select
import time
from multiprocessing import reduction

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

_SPIN = 100e-6  # seconds
_SLEEPS = 1000  # waits without spinning, where a core is wanted by others
_AT_ONCE = 1024 * RECORD_BYTES


class Inboxes:
    """The pipes of a whole cluster, made before any node is started and inherited by all of them."""

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
    """One node's inbox, and its way to the inboxes of the others."""

    def __init__(self, inboxes: Inboxes, address: Address):
        self.inbox = inboxes.read_end(address)
        self._inboxes = inboxes
        self._kept: dict[Address, collections.deque[bytes]] = {}
        self._behind: list[tuple[int, Address, Record]] = []  # see `send_behind`
        self._arrivals = select.poll()
        self._arrivals.register(self.inbox, select.POLLIN)
        self._sleeps = 0

    def send(self, address: Address, record: Record) -> None:
        """Write `record` to the inbox at `address` now, or keep it until that pipe takes it; never blocks."""
        self._write(address, pack(record))

    def send_all(self, deliveries: list[Delivery]) -> None:
        """Like `send` for each, but what goes to one address goes in one write, and wakes it once."""
        parcels: dict[Address, bytes] = {}
        for address, record in deliveries:
            parcels[address] = parcels.get(address, b"") + pack(record)
        for address, data in parcels.items():
            for first in range(0, len(data), select.PIPE_BUF):  # which a pipe takes whole or not at all
                self._write(address, data[first : first + select.PIPE_BUF])

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        """Like `send`, but keep `record` until nothing is kept for nodes of `role`."""
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
        if address in self._kept:  # records of one sender arrive in the order they were sent
            self._kept[address].append(data)
            return
        try:
            os.write(self._inboxes.write_end(address), data)
        except BlockingIOError:
            self._kept[address] = collections.deque([data])

    def receive(self) -> list[Record]:
        """The records in the inbox, at least one: waits for it.

        It yields the processor for a moment before it sleeps: waking an idle core can take longer than
        the answer (`python -m bench requests`). Where others want the core it sleeps at once, for a while:
        who sleeps is woken when an answer comes, who yields waits for others' time slices to end.
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
        return unpack(os.read(self.inbox, _AT_ONCE))

    def receive_nowait(self) -> list[Record]:
        """The records in the inbox, perhaps none."""
        return unpack(os.read(self.inbox, _AT_ONCE)) if self._poll(0) else []

    def _poll(self, timeout: int | None) -> bool:
        """Whether the inbox has records; waits for them, or until a full pipe takes more."""
        ready = select.poll()
        ready.register(self.inbox, select.POLLIN)
        for address in self._kept:
            ready.register(self._inboxes.write_end(address), select.POLLOUT)
        descriptors = {descriptor for descriptor, _ in ready.poll(timeout)}
        self._retry()
        return self.inbox in descriptors

    def flush(self) -> None:
        """Wait until everything is written: the last thing a node does."""
        while self._kept:
            self._poll(None)

    def _retry(self) -> None:
        """Write what was kept, as far as the pipes take it now."""
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
