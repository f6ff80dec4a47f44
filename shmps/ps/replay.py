"""Replay: the consistency that repeats the schedule of a run, to the bit.

A server at version v answers the pulls that the schedule has at v. When all of them are answered, it applies
the push that the schedule has at v + 1. Whatever comes before its turn is held or parked. So it makes no
difference how fast the workers are, and who dies on the way.
"""

from dataclasses import dataclass, field

from shmps.errors import UsageError
from shmps.ps.consistency import Consistency, Position, Standing
from shmps.ps.memory.layout import Shape
from shmps.ps.messages import Record
from shmps.ps.schedule import Schedule

_REMEDY = "replay the function, the data and the settings that were recorded"


@dataclass(frozen=True, eq=False)
class Replay(Consistency):
    """The order of a recorded run, of the mode that `bound` and `hold_pushes` say.

    shape: servers, workers, keys, width.
    """

    recorded: bool = True
    schedule: Schedule = field(kw_only=True, repr=False)
    shape: tuple[int, int, int, int] = field(kw_only=True)

    @property
    def completes_pushes(self) -> bool:
        """Whether a new life of a worker waits for the pushes of the former one before it does anything.

        The function may not have waited for them. Then a server may apply them only after later pulls of the
        worker at other servers. In sync mode the worker looks, and must wait.
        """
        return self.hold_pushes

    def next_update(self, held: list[Record], at: Standing) -> list[Record]:
        here = self.schedule.at(at.rank)
        arrived = {(push.sender, push.number): push for push in held}
        update = []
        for push in here.update(at.version + 1):
            found = arrived.get((int(push["worker"]), int(push["number"])))
            if found is None:
                return []
            update.append(found)
        for pull in here.due(at.version):
            place = Position(int(pull["worker"]), int(pull["number"]), int(pull["turn"]))
            if not at.has_answered(place):
                return []
        return update

    def progress(self, at: Standing) -> float:
        """Return what parked pulls wait for: the version of the server."""
        return at.version

    def needed(self, pull: Record, at: Standing) -> float:
        place = Position(pull.sender, pull.number, pull.turn)
        # No push depends on a pull that the schedule lacks: see `must_allow`. A pull that comes too late is
        # none that the function made in the recorded run: the digest will tell.
        return self.schedule.at(at.rank).version_of(place) or 0

    def delay(self, push: Record, at: Standing) -> int:
        update = self.schedule.at(at.rank).update(at.version + 1)
        return int(update["delay"][update["worker"] == push.sender][0])

    def must_allow(self, worker: int, number: int, turn: int | None) -> None:
        last = self.schedule.last.get(worker, 0)
        if turn is None:
            if number > last:
                raise UsageError(
                    f"a replay must make the pushes of the journal, got push {number} of worker {worker}, of "
                    f"which it has {last}; {_REMEDY}"
                )
        elif number < last and self.schedule.at(0).version_of(Position(worker, number, turn)) is None:
            raise UsageError(
                f"a replay must make the pulls of the journal, got pull {turn + 1} of worker {worker} after "
                f"push {number}, which it lacks; {_REMEDY}"
            )

    def must_be_complete(self, worker: int, pushes: int) -> None:
        last = self.schedule.last.get(worker, 0)
        if pushes < last:
            raise UsageError(
                f"a replay must make the pushes of the journal, got the end of worker {worker} after "
                f"{pushes} of {last}; {_REMEDY}"
            )

    def pulls_at_the_end(self, worker: int, pushes: int) -> int:
        """Return how many pulls a worker makes at least between its last push and its end.

        It may have died after them in the recorded run, and not have made them again. Servers wait for them.
        """
        pulls = self.schedule.pulls
        last = pulls[(pulls["worker"] == worker) & (pulls["number"] == pushes)]
        return int(last["turn"].max()) + 1 if len(last) else 0

    def stops(self, worker: int, pushes: int, asked: bool) -> bool:
        return pushes >= self.schedule.stops.get(worker, pushes + 1)

    def must_fit(self, shape: Shape, workers: int) -> None:
        wanted = dict(zip(("servers", "workers", "num_keys", "width"), self.shape, strict=True))
        got = {
            "servers": shape.servers,
            "workers": workers,
            "num_keys": shape.num_keys,
            "width": shape.width,
        }
        if wanted != got or shape.workers != workers:
            raise UsageError(
                f"a replay must have the nodes and keys of the journal, {wanted}, got {got} and "
                f"max_workers={shape.workers}; pass those of the journal"
            )
