"""Chain replication (van Renesse & Schneider, OSDI 2004), chains of length two. A state machine without I/O.

Every server is the head of its own partition and the tail of its predecessor's:

    head: apply version v, then Ship(v) ------> tail: copy redo slot v into the replica
    head: acknowledge the push  <-------------- tail: Shipped(v)

The tail refuses a gap. After a death, both neighbours learn of the new life by a Peer message, and the tail
is brought up to date from the head's redo slots.

Servers that do not share memory send the slot with the Ship. There a new tail has nothing: it is sent an
Image of the partition. And a new head has nothing: it asks its tail for an Image (see `Successor`).
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import SERVER, AskImage, Delivery, Image, Record, Ship, Shipped, with_arrays
from shmps.ps.server.redo_log import RedoLog
from shmps.system.failpoints import reach

Arrays = Sequence[np.ndarray]


class Chain:
    """What a server and its two neighbours tell each other. Methods return the records to send.

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

    def meet(self, neighbour: int, life: int) -> list[Delivery]:
        """Note the life of a neighbour. The tail tells its head what it has, and asks for the rest."""
        if life <= self._lives.get(neighbour, 0):
            return []
        self._lives[neighbour] = life
        if neighbour == self.tail:
            self._redo.forget_replica()
        if neighbour != self.head:
            return []
        return self._send(self.head, Shipped(self._of_head.replicated, wants_rest=1))

    def take_in(self, record: Record, message: Any) -> list[Delivery]:
        """Handle a record of a neighbour; drop that of a former life.

        A later life than the known one introduces itself: its record may come before the scheduler's Peer.
        """
        if (handler := self._handlers.get(type(message))) is None:
            return []
        introduction = self.meet(record.sender, record.life)
        return introduction + handler(self, message, record.arrays) if self.knows(record) else []

    def knows(self, record: Record) -> bool:
        """Return whether the record comes from the known life of a neighbour."""
        return record.life == self._lives.get(record.sender)

    @property
    def is_whole(self) -> bool:
        """Whether this server has the replica of its head."""
        return self.head < 0 or self._of_head.replicated >= 0

    # As the head.

    def ship(self, version: int) -> list[Delivery]:
        """Ask the tail to copy our redo slot of `version`."""
        if self.tail not in self._lives:
            return []
        return self._send(self.tail, Ship(version), self._redo.parcel(version))

    def _shipped(self, shipped: Shipped, _: Arrays) -> list[Delivery]:
        """Note what the tail has. If it asks for the rest, ship it, or an image if it has none."""
        self._redo.note_replicated(shipped.version)
        if not shipped.wants_rest:
            return []
        if shipped.version < 0:
            image = Image(self._rank, self._redo.version)
            return self._send(self.tail, image, self._redo.image())
        versions = range(shipped.version + 1, self._redo.version + 1)
        return [delivery for later in versions for delivery in self.ship(later)]

    # As the tail.

    def _copy(self, ship: Ship, slot: Arrays) -> list[Delivery]:
        """Copy the head's version unless the replica has it. Refuse a gap: the head ships it again."""
        version = ship.version
        if version == self._of_head.replicated + 1:
            self._of_head.accept(version, slot)
            self._of_head.replicate(version)
            reach("tail: copied")
        if version > self._of_head.replicated:
            return []
        return self._send(self.head, Shipped(version, wants_rest=0))

    def _begin(self, image: Image, arrays: Arrays) -> list[Delivery]:
        """Begin the replica with an image of the head's partition."""
        self._of_head.take(arrays)
        return self._send(self.head, Shipped(image.version, wants_rest=0))

    def _give(self, _: AskImage, nothing: Arrays) -> list[Delivery]:
        """Give a new head, which has nothing, the replica of its partition."""
        image = Image(self.head, self._of_head.replicated)
        return self._send(self.head, image, self._of_head.image())

    _handlers: ClassVar[dict[type, Callable[..., list[Delivery]]]] = {
        Ship: _copy, Shipped: _shipped, AskImage: _give, Image: _begin,
    }  # fmt: skip

    def _send(self, neighbour: int, message: Any, arrays: Arrays = ()) -> list[Delivery]:
        record = Record.of(message, self._rank, self._life, to=self._lives[neighbour])
        return [((SERVER, neighbour), with_arrays(record, arrays))]
