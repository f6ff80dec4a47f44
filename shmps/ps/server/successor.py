"""A server whose predecessor's memory is gone. A state machine without I/O, as `Server` is.

    scheduler: Peer(tail) --> AskImage ------> tail: no more ships of the predecessor
    a Server of that image <-- Image <-------- the replica

The tail learns of the new life before it sends the image. So the image is all that former lives will ever
have added: a Ship of theirs that comes later is refused.
"""

from collections.abc import Callable

from shmps.ps.messages import (
    SCHEDULER,
    SERVER,
    AskImage,
    Delivery,
    Image,
    Lost,
    Peer,
    Record,
    Settle,
)
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.server import Server


class Successor:
    """Keeps all records until it has the image, then is the server that handles them.

    tail: the rank of the server that keeps the replica; -1 without one.
    make_server: makes the server once the image is in place.
    """

    def __init__(self, rank: int, life: int, redo: RedoLog, tail: int, make_server: Callable[[], Server]):
        self.handle: Callable[[Record], list[Delivery]] = self._wait
        self._rank, self._life, self._redo = rank, life, redo
        self._tail, self._tails_life = tail, 0
        self._make_server = make_server
        self._kept: list[Record] = []

    def _wait(self, record: Record) -> list[Delivery]:
        """Handle one record while there is no image; return the records to send."""
        if record.to != self._life:
            return []
        message = record.message  # no worker sends a request to this life before the server has welcomed it
        if type(message) is Image and record.life == self._tails_life and message.server == self._rank:
            return self._lost() if message.version < 0 else self._begin(record)
        if type(message) is AskImage:  # of a replica that died with the predecessor
            none = Image(record.sender, -1)
            return [((SERVER, record.sender), Record.of(none, self._rank, self._life, to=record.life))]
        self._kept.append(record)
        if type(message) is Peer and message.server == self._tail:
            self._tails_life = message.life
            ask = Record.of(AskImage(), self._rank, self._life, to=message.life)
            return [((SERVER, self._tail), ask)]
        return self._lost() if self._tail < 0 and type(message) is Settle else []

    def _lost(self) -> list[Delivery]:
        return [((SCHEDULER, 0), Record.of(Lost(), self._rank, self._life))]

    def _begin(self, image: Record) -> list[Delivery]:
        self._redo.take(image.arrays)
        self.handle = self._make_server().handle
        return [answer for record in self._kept for answer in self.handle(record)]
