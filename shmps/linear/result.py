"""The figures of a training, as a table for people and as a dict for programs."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from shmps.errors import NotConverged, UnstableRate, WorseThanConstant
from shmps.linear.gap import Gap
from shmps.linear.recorded import Replayed
from shmps.linear.text import html_table, table
from shmps.linear.timesheet import Spans, WorkerStats
from shmps.models.metrics import Metrics
from shmps.ps.events import Event

_NEAR = 0.05  # share of the distance from the constant model to the optimum

IN_PROCESS = "none, in the calling process"


@dataclass(frozen=True)
class Delays:
    """Versions between a pull and its push, over all (push, server) pairs."""

    p50: int
    p99: int
    max: int
    histogram: list[int]

    def __str__(self) -> str:
        if not self.histogram:
            return "none counted: nothing was pushed"
        return f"{self.p50}, {self.p99}, {self.max} versions"

    @staticmethod
    def of(histogram: np.ndarray) -> "Delays":
        """Return the quantiles of a histogram (bins,) of delays; all are zero if nothing was pushed."""
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
class Evaluation:
    """The figures of one evaluation during a training."""

    iteration: int  #: of worker 0
    seconds: float  #: since the start
    ticks: int  #: of all workers
    metrics: Metrics
    delays: Delays  #: since the start
    samples_per_second: float  #: of all workers, since the start


@dataclass(frozen=True)
class Stability:
    """The learning rate of a training, and the highest rate that is stable at its delay."""

    learning_rate: float  #: as configured
    limit: float  #: in the same units
    delay: int  #: in versions, the median; with a bound, the 99th percentile
    curvature: float  #: estimate of the largest eigenvalue of the objective's Hessian near its minimum

    @property
    def advice(self) -> UnstableRate | None:
        """What to do about a rate above the limit; None if the rate is stable."""
        if self.learning_rate <= self.limit:
            return None
        return UnstableRate(
            f"gradient steps with a delay of {self.delay} versions are stable up to a learning rate of "
            f"{self.limit:.3g} here (curvature {self.curvature:.3g}), got {self.learning_rate:g}: the "
            f"weights swing instead of settling; use a lower rate, or the schedule 1/(1+delay)"
        )


@dataclass(frozen=True, repr=False)
class Result:
    """The figures of one training. It is shown as a table.

    Seconds are wall time. With the inline engine, those of the training itself are virtual: "train" of
    `seconds`, and those of `history`, `events` and `timeline`.
    """

    settings: dict[str, Any]
    metrics: Metrics
    measured_on: str  #: "test", "validation" or "training"
    ticks: int  #: of all workers together
    rows: int  #: visits
    nonzeros: int
    seconds: dict[str, float]  #: load, compile, start, train
    shares: dict[str, float]  #: of the workers' time that went to computing, waiting, talking, sleeping
    delays: Delays
    history: list[Evaluation]
    events: list[Event]
    stability: Stability | None  #: None unless the updater's steps are the gradient times one rate
    objectives: list[tuple[float, float]] = field(default_factory=list)  #: (seconds, value) per L-BFGS round
    clock: str = "wall"  #: "virtual" with the inline engine
    resumed: int = 0  #: ticks from a checkpoint; of the figures above, only `ticks` includes them
    timeline: dict[int, Spans] | None = None  #: what each rank did when, in seconds since the start
    training_log_loss: float = math.nan  #: of the model, on the training rows
    constant_log_loss: float = math.nan  #: on the same rows, with the classes' shares as the probabilities
    #: Estimate for minibatches that ran to the end, if no evaluation set chose the weights.
    estimate: Gap | None = None
    gap: float | None = None  #: with `certificate`: upper bound of the objective minus the least one
    replayed: Replayed | None = None  #: how a replay came out
    data: str = ""
    note: str = ""

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return html_table(self.figures())

    @property
    def samples_per_second(self) -> float:
        return self.rows / max(self.seconds["train"], 1e-9)

    @property
    def nonzeros_per_second(self) -> float:
        return self.nonzeros / max(self.seconds["train"], 1e-9)

    @property
    def advice(self) -> WorseThanConstant | None:
        """What to do if the model is worse than the constant one on the training rows; None if it is not.

        The difference must exceed `tol`: a solver may miss the constant model itself by that much.
        """
        settings, loss, constant = self.settings, self.training_log_loss, self.constant_log_loss
        if math.isnan(constant) or loss <= constant * (1 + settings["tol"]):
            return None
        do = "scale the features to about 1, "
        if self.objectives:
            got, do = "{solver:'lbfgs'}", do + "or raise {iterations}"
        else:
            got = "{updater.given}, {learning_rate.given}"
            length = "epochs" if settings["iterations"] is None else "iterations"  # which exclude each other
            if settings["learning_rate"] is not None:
                do += "lower the {learning_rate} or leave it out, "
            do += f"raise {{{length}}}, "
            do += "or leave minibatches for {solver:'auto'}"
        if not settings["fit_intercept"]:
            do = f"learn an intercept with {{fit_intercept:True}}, {do}"
        names = "solver", "iterations", "updater", "learning_rate", "epochs", "fit_intercept"
        return WorseThanConstant(
            f"the model is worse than none: its log-loss on the training rows is {loss:.4g}, that of giving "
            f"every row the classes' shares {constant:.4g}; trained with {got}; {do}",
            **{name: settings[name] for name in names},
        )

    @property
    def shortfall(self) -> NotConverged | None:
        """What to do if minibatches ended far from the optimum; None if they did not, or nobody knows.

        A gap counts as near if it is a small share of what the features can explain, or of the loss itself:
        features may explain next to nothing.
        """
        if self.estimate is None or self.advice is not None:
            return None
        if self.estimate.share <= _NEAR or self.estimate.value <= _NEAR / 10 * self.constant_log_loss:
            return None
        length = "epochs" if self.settings["iterations"] is None else "iterations"
        return NotConverged(
            f"minibatches ended about {self.estimate.value:.2g} above the least objective, "
            f"{self.estimate.share:.0%} short on the way there from the constant model; raise "
            f"{{{length}}}, or leave minibatches for {{solver:'auto'}}",
            **{"solver": self.settings["solver"], length: self.settings[length]},
        )

    def with_source(self, data: str, note: str, load: float) -> "Result":
        """Return the result with what only the caller knows: the data's name, a note, seconds to load it."""
        return replace(self, data=data, note=note, seconds={"load": load} | self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict without the timeline. What is no number is None (the AUC of one class)."""
        figures = asdict(replace(self, timeline=None))
        del figures["timeline"]  # shmps.report.timeline writes it in a format of its own
        figures["settings"].pop("names", None)  # maybe millions; `shmps inspect` shows those that matter
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
        """Return the names and values that the table shows."""
        settings, metrics, seconds = self.settings, self.metrics, dict(self.seconds)
        virtual = seconds.pop("train") if self.clock == "virtual" else None
        before = f", {self.resumed:,} before it was resumed" if self.resumed else ""
        lines = [
            *([("data", self.data)] if self.data else []),
            ("mode", settings["mode"]),
            (
                "workers, servers",
                f"{settings['workers']}, {settings['servers']}" if settings["workers"] else IN_PROCESS,
            ),
            ("solver", "lbfgs") if self.objectives else ("updater", settings["updater"]),
            ("penalty", f"l1 {settings['l1']:.3g}, l2 {settings['l2']:.3g}"),
            ("ticks", f"{self.ticks:,} of all workers{before} ({self.rows:,} rows visited)"),
            ("wall seconds", ", ".join(f"{name} {spent:.2f}" for name, spent in seconds.items())),
            *([] if virtual is None else [("virtual seconds", f"train {virtual:.4g}")]),
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
        if self.replayed:
            lines.append(("replay", str(self.replayed)))
        if self.note:
            lines.append(("note", self.note))
        return lines

    def table(self) -> str:
        """Return the table that `shmps train` prints at the end."""
        return table(self.figures())


def shares_of(workers: list[WorkerStats]) -> dict[str, float]:
    """Return what shares of the workers' time went to what; talking is the rest. Empty without workers."""
    if not workers:
        return {}
    whole = sum(each.ended - each.began for each in workers) or 1.0
    shares = {
        "computing": sum(each.computing for each in workers) / whole,
        "waiting": sum(each.waiting for each in workers) / whole,
        "sleeping": sum(each.slept for each in workers) / whole,
    }
    shares["talking"] = max(0.0, 1.0 - sum(shares.values()))
    return shares


def timeline_of(workers: list[WorkerStats], started: float) -> dict[int, Spans] | None:
    """Return the spans by rank, in seconds since `started` (time.monotonic()); None if there are no spans."""
    kept = {each.rank: each.spans.shifted(started) for each in workers if each.spans is not None}
    return kept or None


def finite(value: Any) -> Any:
    """Return `value` with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
