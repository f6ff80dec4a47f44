"""Chain replication (van Renesse & Schneider, OSDI 2004), chains of length two. A state machine without I/O.

Every server is the head of its own partition and the tail of its predecessor's:

    head: apply version v, then Ship(v) ------> tail: copy redo slot v into the replica
    head: acknowledge the push  <-------------- tail: Shipped(v)

The tail refuses a gap. After a death, both neighbours learn of the new life by a Peer message, and the tail
is brought up to date from the head's redo slots.

Servers that do not share memory send the slot with the Ship. There a new tail has nothing: it is sent an
Image of the partition. And a new head has nothing: it asks its tail for an Image (see `Successor`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import SERVER, Delivery, Image, Record, Ship, Shipped, with_arrays
from shmps.ps.server.redo_log import RedoLog
from shmps.system.failpoints import reach


class Chain:
    """What a server sends to its two neighbours. Methods return the records to send.

    head, tail: the neighbours' ranks; -1 without a replica. Nothing is sent to a neighbour before its life is
    known.
    """

    def __init__(self, rank: int, life: int, parameters: Parameters, redo: RedoLog):
        servers = parameters.shape.servers
        self.head = self.tail = -1
        self._rank, self._life, self._redo = rank, life, redo
        self._lives: dict[int, int] = {}  # of neighbours
        if parameters.shape.replicas:
            self.head, self.tail = (rank - 1) % servers, (rank + 1) % servers
            self._of_head = redo.of_head(self.head)

    def meet(self, neighbour: int, life: int) -> bool:
        """Note the life of a neighbour; return whether it is a new one."""
        is_new = life > self._lives.get(neighbour, 0)
        if is_new:
            self._lives[neighbour] = life
        return is_new

    def knows(self, record: Record) -> bool:
        """Return whether the record comes from the known life of a neighbour."""
        return record.life == self._lives.get(record.sender)

    # As the head.

    def ship(self, version: int) -> list[Delivery]:
        """Ask the tail to copy our redo slot of `version`."""
        if self.tail not in self._lives:
            return []
        return self._send(self.tail, Ship(version), self._redo.parcel(version))

    def ship_from(self, version: int) -> list[Delivery]:
        """Ask the tail to copy every later version; if it has none, all that we have."""
        if version < 0:
            image = Image(self._rank, self._redo.version)
            return self._send(self.tail, image, self._redo.image())
        versions = range(version + 1, self._redo.version + 1)
        return [delivery for later in versions for delivery in self.ship(later)]

    # As the tail.

    def ask(self) -> list[Delivery]:
        """Tell the head which version the replica has, and ask for the rest."""
        return self._send(self.head, Shipped(self._of_head.replicated, wants_rest=1))

    def copy(self, version: int, slot: Sequence[np.ndarray]) -> list[Delivery]:
        """Copy the head's version unless the replica has it. Refuse a gap: the head ships it again."""
        if version == self._of_head.replicated + 1:
            self._of_head.accept(version, slot)
            self._of_head.replicate(version)
            reach("tail: copied")
        if version > self._of_head.replicated:
            return []
        return self._send(self.head, Shipped(version, wants_rest=0))

    def take(self, version: int, image: Sequence[np.ndarray]) -> list[Delivery]:
        """Begin a replica with an image of the head."""
        self._of_head.take(image)
        return self._send(self.head, Shipped(version, wants_rest=0))

    def image_of_head(self) -> list[Delivery]:
        """Give a new head, which has nothing, what its replica holds."""
        image = Image(self.head, self._of_head.replicated)
        return self._send(self.head, image, self._of_head.image())

    def _send(self, neighbour: int, message: Any, arrays: Sequence[np.ndarray] = ()) -> list[Delivery]:
        record = Record.of(message, self._rank, self._life, to=self._lives[neighbour])
        return [((SERVER, neighbour), with_arrays(record, arrays))]
