"""The pulls that a server may not answer yet, by what they wait for: an event looks only at what it frees."""

import heapq
import itertools
from collections.abc import Sequence

from shmps.ps.messages import Record


class Parked:
    """Parked pulls. A pull waits for a push of its own worker first, then for the server's progress."""

    def __init__(self) -> None:
        self._behind_push: dict[int, list[Record]] = {}  # by worker
        self._by_need: list[tuple[float, int, Record]] = []  # a heap; pulls of equal need as they came
        self._number = itertools.count().__next__

    def __bool__(self) -> bool:
        return bool(self._by_need or self._behind_push)

    def behind_push(self, pull: Record) -> None:
        """Park a pull until the next push of its worker is applied."""
        self._behind_push.setdefault(pull.sender, []).append(pull)

    def until(self, needed: float, pull: Record) -> None:
        """Park a pull until the progress is `needed`; see `Consistency.progress`."""
        heapq.heappush(self._by_need, (needed, self._number(), pull))

    def freed(self, applied: Sequence[Record], progress: float) -> list[Record]:
        """Return the pulls that waited for one of these pushes, or for at most this progress. Forget them."""
        freed: list[Record] = []
        for push in applied:
            freed += self._behind_push.pop(push.sender, ())
        while self._by_need and self._by_need[0][0] <= progress:
            freed.append(heapq.heappop(self._by_need)[2])
        return freed
