"""What happened to nodes while a cluster was running, as a person and a program read it."""

from dataclasses import dataclass, replace

from shmps.errors import how_it_ended


@dataclass(frozen=True)
class Event:
    """A death and what came of it, or a worker that came or went."""

    what: str  # "died", "hung", "joined", "left"
    role: str
    rank: int
    tick: int  # of the furthest worker
    exit_code: int | None = None
    outcome: str = ""
    seconds: float | None = (
        None  # from the death's notice until a server's successor was at work, a worker's ran
    )
    announced_again: int = 0  # pushes that the successor had to be told of
    at: float = 0.0  # time.monotonic(); in a training's result: seconds since it began

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
