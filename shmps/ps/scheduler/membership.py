"""Who takes part in a run: barriers, the division of the rows, and when a death is one too many.

State machines without I/O; the scheduler does what they decide.
"""

_MOST_DEATHS = 3  # without progress in between

Place = tuple[int, int]  # where a worker is in its function: the last epoch it asked for, barriers since
BEGINNING: Place = (-1, 0)  # no epoch yet


class Barrier:
    """Opens when all workers that have not finished are in it.

    A worker waits only at a place beyond the last one that its rank has passed. A respawned worker runs its
    function again, and so comes to barriers that it has passed. A newcomer runs the function from the start,
    and so comes to barriers of epochs before its own: it counts as having passed them, as the others have.
    """

    def __init__(self, ranks: range):
        self._passed = dict.fromkeys(ranks, BEGINNING)  # of the workers that have not finished
        self._inside: dict[int, Place] = {}
        self.openings = 0

    def enter(self, rank: int, place: Place) -> dict[int, Place]:
        """A worker arrives; the workers to be released, by rank with their places."""
        if place <= self._passed[rank]:
            return {rank: place}
        self._inside[rank] = place
        return self._advance()

    def add(self, rank: int, epoch: int) -> None:
        """A newcomer takes part from the first barrier after the workers ask for `epoch`."""
        self._passed[rank] = epoch, 0

    def finish(self, rank: int) -> dict[int, Place]:
        """Nobody waits for this worker any more; the workers to be released."""
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
    """Which ranks divide the rows, by epoch. Changes hold from the first epoch that nobody has asked for."""

    def __init__(self, ranks: range):
        self._from = [(0, list(ranks))]  # epoch, ranks
        self._begun = -1
        self._joining: list[tuple[int, int]] = []  # rank, earliest epoch
        self._leaving: set[int] = set()

    def join(self, rank: int, earliest: int = 0) -> None:
        self._joining.append((rank, earliest))

    def leave(self, rank: int) -> None:
        """From now on, or from the next epoch on, it is not to be counted on."""
        coming = [rank for rank, _ in self._joining]
        self._joining = [(other, earliest) for other, earliest in self._joining if other != rank]
        if rank not in coming:
            self._leaving.add(rank)

    def ask(self, epoch: int) -> list[int]:
        """Somebody asks who divides the rows in `epoch`; the ranks that come in because of it."""
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
        """Who will divide the rows when all changes hold."""
        ranks = (*self._from[-1][1], *(rank for rank, _ in self._joining))
        return [rank for rank in ranks if rank not in self._leaving]


class Deaths:
    """Counts the deaths of each node since it last made progress."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}  # node -> progress, deaths at it

    def one_too_many(self, role: int, rank: int, progress: int) -> bool:
        """A node has died at `progress`, a number that grows; whether to give it up."""
        before, deaths = self._seen.get((role, rank), (-1, 0))
        deaths = deaths + 1 if progress == before else 1
        self._seen[role, rank] = progress, deaths
        return deaths >= _MOST_DEATHS
