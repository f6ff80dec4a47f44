"""What came out of a training: figures, and how a person or a program reads them."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from shmps.errors import WorseThanConstant
from shmps.linear.account import Account, Spans
from shmps.linear.stability import Stability
from shmps.linear.text import table
from shmps.models.metrics import Metrics
from shmps.ps.events import Event


@dataclass(frozen=True)
class Delays:
    """Versions between a pull and its push, over all (push, server) pairs."""

    p50: int
    p99: int
    max: int
    histogram: list[int]

    def __str__(self) -> str:
        if not self.histogram:
            return "none counted: updates were made in place"
        return f"{self.p50}, {self.p99}, {self.max} versions"

    @staticmethod
    def of(histogram: np.ndarray) -> "Delays":
        """From counts by delay (bins,); all zero if nothing was pushed."""
        seen = np.flatnonzero(histogram)
        if not len(seen):
            return Delays(0, 0, 0, [])
        shares = np.cumsum(histogram) / histogram.sum()
        return Delays(
            int(np.searchsorted(shares, 0.5)),
            int(np.searchsorted(shares, 0.99)),
            int(seen[-1]),
            histogram[: seen[-1] + 1].tolist(),
        )


@dataclass(frozen=True)
class Progress:
    """One evaluation while the training went on."""

    iteration: int  # of worker 0
    seconds: float
    ticks: int  # of all workers
    metrics: Metrics
    delays: Delays
    samples_per_second: float  # of all workers, since the start


@dataclass(frozen=True)
class Result:
    """The figures of one training; seconds are wall time."""

    settings: dict[str, Any]
    metrics: Metrics
    measured_on: str  # "test" or "training"
    ticks: int  # of all workers together
    rows: int  # visits
    nonzeros: int
    seconds: dict[str, float]  # load, compile, start, train
    shares: dict[str, float]  # of the workers' time: computing, waiting, talking, sleeping
    delays: Delays
    history: list[Progress]
    events: list[Event]
    stability: Stability | None  # for updaters whose steps are the gradient times one rate
    objectives: list[tuple[float, float]] = field(default_factory=list)  # of lbfgs's rounds: seconds, value
    resumed: int = 0  # ticks that a checkpoint had; of the figures above only `ticks` has them
    timeline: dict[int, Spans] | None = None  # what every worker did when, since the start; by rank
    training_log_loss: float = math.nan  # of the model, on the rows that it was trained on
    constant_log_loss: float = math.nan  # there, of the model that gives every row the classes' shares
    data: str = ""
    note: str = ""

    @property
    def samples_per_second(self) -> float:
        return self.rows / max(self.seconds["train"], 1e-9)

    @property
    def nonzeros_per_second(self) -> float:
        return self.nonzeros / max(self.seconds["train"], 1e-9)

    @property
    def advice(self) -> WorseThanConstant | None:
        """What to do about a model that is worse than none on the training rows; None if it is not.

        The difference must be more than `tol`, by which a solver may miss the constant model itself.
        """
        settings, loss, constant = self.settings, self.training_log_loss, self.constant_log_loss
        if math.isnan(constant) or loss <= constant * (1 + settings["tol"]):
            return None
        do = "scale the features to about 1, "
        if self.objectives:
            got, do = "{solver:'lbfgs'}", do + "or raise {iterations}"
        else:
            got = "{updater.given}, {learning_rate.given}"
            do += "lower the {learning_rate}, raise {epochs}, or leave minibatches for {solver:'auto'}"
        if not settings["fit_intercept"]:
            do = f"learn an intercept with {{fit_intercept:True}}, {do}"
        names = "solver", "iterations", "updater", "learning_rate", "epochs", "fit_intercept"
        return WorseThanConstant(
            f"the model is worse than none: its log-loss on the training rows is {loss:.4g}, that of giving "
            f"every row the classes' shares {constant:.4g}; trained with {got}; {do}",
            **{name: settings[name] for name in names},
        )

    def told(self, data: str, note: str, load: float) -> "Result":
        """The same with what only the caller knows: the data's name, a note about it, seconds to load it."""
        return replace(self, data=data, note=note, seconds={"load": load} | self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not a number (the AUC of one class) is None. Without the timeline."""
        figures = asdict(replace(self, timeline=None))
        del figures["timeline"]  # it has a format of its own: see shmps.report.timeline
        figures["settings"].pop("names", None)  # there may be millions: `shmps inspect` has those that matter
        json_able: dict[str, Any] = finite(
            figures
            | {"samples_per_second": self.samples_per_second, "nonzeros_per_second": self.nonzeros_per_second}
        )
        return json_able

    def _deaths(self) -> str:
        deaths = [event for event in self.events if event.exit_code is not None]
        slowest = max((event.seconds or 0.0 for event in deaths), default=0.0)
        return f"{len(deaths)}, the longest pause {1000 * slowest:.0f} ms"

    def figures(self) -> list[tuple[str, str]]:
        """What is shown at the end of a run: names and values."""
        settings, metrics, seconds = self.settings, self.metrics, self.seconds
        before = f", {self.resumed:,} before it was resumed" if self.resumed else ""
        lines = [
            ("data", self.data),
            ("mode", settings["mode"]),
            ("workers, servers", f"{settings['workers']}, {settings['servers']}"),
            ("solver", "lbfgs") if self.objectives else ("updater", settings["updater"]),
            ("ticks", f"{self.ticks:,} of all workers{before} ({self.rows:,} rows visited)"),
            ("wall seconds", ", ".join(f"{name} {spent:.2f}" for name, spent in seconds.items())),
            (
                "accuracy",
                f"{metrics.accuracy:.4f} on the {self.measured_on} rows (majority {metrics.baseline:.4f})",
            ),
            ("log-loss", format(metrics.log_loss, ".4f" if metrics.log_loss < 1000 else ".4g")),
            ("AUC", f"{metrics.auc:.4f}"),
            ("samples/s", f"{self.samples_per_second:,.0f}"),
            ("non-zeros/s", f"{self.nonzeros_per_second:,.0f}"),
            ("delay p50, p99, max", str(self.delays)),
            ("workers' time", ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())),
        ]
        if any(event.exit_code is not None for event in self.events):
            lines.append(("deaths survived", self._deaths()))
        if self.stability:
            lines.append(
                ("learning rate", f"{settings['learning_rate']:g} (stable up to {self.stability.limit:.3g})")
            )
        if self.note:
            lines.append(("note", self.note))
        return lines

    def table(self) -> str:
        """The table at the end of a run."""
        return table(self.figures())


def shares_of(accounts: list[Account]) -> dict[str, float]:
    """Where the workers' time went: talking is what is left of it. Empty if there are no accounts."""
    if not accounts:
        return {}
    whole = sum(account.ended - account.began for account in accounts) or 1.0
    shares = {
        "computing": sum(account.computing for account in accounts) / whole,
        "waiting": sum(account.waiting for account in accounts) / whole,
        "sleeping": sum(account.slept for account in accounts) / whole,
    }
    shares["talking"] = max(0.0, 1.0 - sum(shares.values()))
    return shares


def timeline_of(accounts: list[Account], started: float) -> dict[int, Spans] | None:
    """Their spans in seconds since `started` (time.monotonic()), by rank; None if they kept none."""
    kept = {account.rank: account.spans.shifted(started) for account in accounts if account.spans is not None}
    return kept or None


def finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
