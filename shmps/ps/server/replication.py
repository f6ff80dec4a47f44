"""Replication by chain (van Renesse & Schneider, OSDI 2004), of length two; a state machine without I/O.

Every server is the head of its own partition and the tail of its predecessor's.
"""

from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import SERVER, SHIP, SHIPPED, Message, Record
from shmps.ps.server.redo_log import RedoLog
from shmps.system.failpoints import reach


class Chain:
    """What a server and its two neighbours tell each other. Methods return what is to be sent.

    head, tail: their ranks; -1 without a replica. A tail is told nothing before we have met it.
    """

    def __init__(self, rank: int, life: int, parameters: Parameters, redo: RedoLog):
        servers = parameters.shape.servers
        self.head = self.tail = -1
        self._rank, self._life, self._redo = rank, life, redo
        self._lives: dict[int, int] = {}  # of neighbours
        if parameters.shape.replicas:
            self.head, self.tail = (rank - 1) % servers, (rank + 1) % servers
            self._of_head = RedoLog(parameters, self.head)

    def meet(self, neighbour: int, life: int) -> None:
        self._lives[neighbour] = life

    def knows(self, record: Record) -> bool:
        """Whether it is from the life of a neighbour that we have met."""
        return record.life == self._lives.get(record.sender)

    # As the head.

    def ship(self, version: int) -> list[Message]:
        """Tell the tail that our redo slot of `version` is to be copied."""
        if self.tail not in self._lives:
            return []
        ship = Record(SHIP, self._rank, version=version, life=self._life, to=self._lives[self.tail])
        return [((SERVER, self.tail), ship)]

    def ship_from(self, version: int) -> list[Message]:
        """All later than that."""
        versions = range(version + 1, self._redo.version + 1)
        return [message for later in versions for message in self.ship(later)]

    # As the tail.

    def ask(self) -> list[Message]:
        """Tell the head what we have, and ask for the rest."""
        have = self._shipped(self._of_head.replicated, self._lives[self.head])
        return [((SERVER, self.head), have._replace(size=1))]

    def copy(self, ship: Record) -> list[Message]:
        """Copy the head's version, unless it is in; a gap is refused, it will be shipped again."""
        if ship.version == self._of_head.replicated + 1:
            self._of_head.replicate(ship.version)
            reach("tail: copied")
        if ship.version > self._of_head.replicated:
            return []
        return [((SERVER, ship.sender), self._shipped(ship.version, ship.life))]

    def _shipped(self, version: int, to: int) -> Record:
        return Record(SHIPPED, self._rank, version=version, life=self._life, to=to)
