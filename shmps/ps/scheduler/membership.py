"""Which workers take part in a run: barriers, and the division of the rows. State machines without I/O.

The scheduler asks them, and sends the records.
"""

# Where a worker is in its function: the last epoch that it asked for, and the number of barriers since.
Place = tuple[int, int]
BEGINNING: Place = (-1, 0)  # no epoch yet


class Barrier:
    """Opens when all workers that have not finished are inside.

    A worker waits only at a place beyond the last one that its rank has passed. A respawned worker runs its
    function again, and comes to barriers that its rank has passed. A newcomer runs the function from the
    start, and comes to barriers of epochs before its own; it counts as having passed them.
    """

    def __init__(self, ranks: range):
        self._passed = dict.fromkeys(ranks, BEGINNING)  # by rank, without the workers that have finished
        self._inside: dict[int, Place] = {}
        self.openings = 0

    def enter(self, rank: int, place: Place) -> dict[int, Place]:
        """Let a worker wait; return the workers to release, by rank with their places."""
        if place <= self._passed[rank]:
            return {rank: place}
        self._inside[rank] = place
        return self._advance()

    def add(self, rank: int, epoch: int) -> None:
        """Let a newcomer take part from the first barrier of `epoch` on."""
        self._passed[rank] = epoch, 0

    def finish(self, rank: int) -> dict[int, Place]:
        """Stop waiting for a worker; return the workers to release."""
        self._passed.pop(rank, None)
        self._inside.pop(rank, None)
        return self._advance()

    def _advance(self) -> dict[int, Place]:
        if not self._inside or not self._passed.keys() <= self._inside.keys():
            return {}
        released, self._inside = self._inside, {}
        self._passed |= released
        self.openings += 1
        return released


class Division:
    """Which ranks share the rows in each epoch.

    A change takes effect in the first epoch that no worker has asked for yet.
    """

    def __init__(self, ranks: range):
        self._from = [(0, list(ranks))]  # epoch, ranks
        self._begun = -1
        self._joining: list[tuple[int, int]] = []  # rank, earliest epoch
        self._leaving: set[int] = set()

    def join(self, rank: int, earliest: int = 0) -> None:
        self._joining.append((rank, earliest))

    def leave(self, rank: int) -> None:
        """Leave a rank out from the next epoch on."""
        coming = [rank for rank, _ in self._joining]
        self._joining = [(other, earliest) for other, earliest in self._joining if other != rank]
        if rank not in coming:
            self._leaving.add(rank)

    def ask(self, epoch: int) -> list[int]:
        """Begin `epoch` unless it has begun; return the ranks that join with it."""
        joined: list[int] = []
        if epoch > self._begun:
            self._begun = epoch
            joined = [rank for rank, earliest in self._joining if earliest <= epoch]
            if joined or self._leaving:
                self._joining = [(rank, earliest) for rank, earliest in self._joining if earliest > epoch]
                ranks = [rank for rank in (*self._from[-1][1], *joined) if rank not in self._leaving]
                self._from.append((epoch, sorted(ranks)))
                self._leaving = set()
        return joined

    def ranks(self, epoch: int) -> list[int]:
        return next(ranks for first, ranks in reversed(self._from) if first <= epoch)

    @property
    def latest(self) -> list[int]:
        """The ranks that share the rows once all changes have taken effect."""
        ranks = (*self._from[-1][1], *(rank for rank, _ in self._joining))
        return [rank for rank in ranks if rank not in self._leaving]
