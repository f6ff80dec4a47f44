"""The post of the scheduler, which introduces the nodes to each other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from shmps.engines.wire.greeting import Endpoint
from shmps.engines.wire.post import ENDED, INTRODUCE, WirePost
from shmps.ps.messages import SCHEDULER, WORKER, Address, Record, with_arrays


class Hub(WirePost):
    """See `WirePost`. on_sign: called with the address and the life of a node that sends something."""

    def __init__(self, *args: Any, on_sign: Callable[[Address, int], None], **options: Any):
        super().__init__((SCHEDULER, 0), 0, *args, **options)
        self._on_sign = on_sign
        self._endpoints: dict[Address, Endpoint] = {}
        self._broken: list[tuple[int, int]] = []

    def greeted(self, address: Address, endpoint: Endpoint) -> None:
        """Introduce a node to all others, and all others to it. Workers do not need each other."""
        if not self.meet(address, endpoint):
            return
        self._endpoints[address] = endpoint
        for other, place in list(self._endpoints.items()):
            if other != address and (other[0], address[0]) != (WORKER, WORKER):
                self.send(other, _introduction(address, endpoint, place.life))
                self.send(address, _introduction(other, place, endpoint.life))

    def forget(self, address: Address) -> None:
        super().forget(address)
        self._endpoints.pop(address, None)

    def take_broken(self) -> list[tuple[int, int]]:
        """Return the pairs of lives between which a connection has ended since the last call."""
        broken, self._broken = self._broken, []
        return broken

    def hears(self, life: int) -> bool:
        """Return whether this life of a node may still be heard."""
        greetings = [incoming.greeting for incoming in self._incoming.values()]
        return any(greeting is not None and greeting.endpoint.life == life for greeting in greetings)

    def heard(self, address: Address, life: int) -> None:
        self._on_sign(address, life)

    def lost(self, address: Address, life: int) -> None:
        """Note that a connection with a node has ended. The crew will tell if the node has."""
        self._broken.append((self.life, life))

    def handle(self, address: Address, record: Record) -> None:
        if record.op == ENDED:
            self._broken.append((record.number, record.size))
        else:
            super().handle(address, record)


def _introduction(address: Address, endpoint: Endpoint, to: int) -> Record:
    host = np.frombuffer(endpoint.host.encode(), np.uint8)
    return with_arrays(Record(INTRODUCE, 0, *address, endpoint.life, endpoint.port, to=to), [host])
