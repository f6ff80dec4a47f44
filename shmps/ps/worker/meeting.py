"""A worker's progress through epochs and barriers, and the ranks it asks for. A state machine without I/O."""

from shmps.ps.messages import AskRanks, AtBarrier, Release, Sharer
from shmps.ps.scheduler.membership import BEGINNING, Place


class Meeting:
    """The worker's side of barriers and of the division of the rows."""

    def __init__(self) -> None:
        self._place = self._released = BEGINNING
        self._ranks: list[int] = []
        self._expected = -1  # ranks; -1: not known yet

    def enter_barrier(self) -> tuple[AtBarrier, Place]:
        """Return the message to the scheduler, and the barrier's place."""
        epoch, number = self._place
        self._place = epoch, number + 1
        return AtBarrier(*self._place), self._place

    def has_opened(self, place: Place) -> bool:
        return self._released >= place

    def release(self, message: Release) -> None:
        self._released = message.epoch, message.number

    def ask(self, epoch: int, tick: int) -> AskRanks:
        """Begin an epoch, or ask again; return the message to the scheduler."""
        if epoch > self._place[0]:
            self._place = epoch, 0
        self._ranks, self._expected = [], -1
        return AskRanks(epoch, tick)

    @property
    def ranks(self) -> list[int] | None:
        """The ranks that share the rows in the epoch; None until all of them have arrived."""
        return self._ranks if len(self._ranks) == self._expected else None

    def take(self, message: Sharer) -> None:
        self._expected = message.sharers
        self._ranks += [message.rank] * (message.sharers > 0)
