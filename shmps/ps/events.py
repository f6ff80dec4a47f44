"""Events: deaths, joins and leaves of nodes while a cluster is running."""

from dataclasses import dataclass, replace

from shmps.errors import how_it_ended


@dataclass(frozen=True)
class Event:
    """A death and its outcome, or a worker that joined or left. `str(event)` is a line of a log."""

    what: str  #: "died", "hung", "joined", "left"
    role: str
    rank: int
    tick: int  #: of the furthest worker
    exit_code: int | None = None
    outcome: str = ""
    seconds: float | None = None  #: from the notice of the death until the successor was at work
    announced_again: int = 0  #: pushes that were announced again to the successor
    at: float = 0.0  #: seconds on the engine's clock, in the result of a training since its start

    def took(self, seconds: float) -> "Event":
        return replace(self, seconds=seconds)

    def __str__(self) -> str:
        line = f"{self.role} {self.rank} {self.what}"
        if self.exit_code is not None:
            line += f" ({how_it_ended(self.exit_code)})"
        line += f" at tick {self.tick}"
        if self.outcome:
            line += f": {self.outcome}"
        if self.seconds is not None:
            pushes = f"{self.announced_again} push{'es' * (self.announced_again != 1)}"
            line += f" in {1000 * self.seconds:.0f} ms, {pushes} announced again"
        return line
