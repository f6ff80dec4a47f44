"""One training as the process that asked for it sees it: evaluate, tell, stop, keep the weights."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from shmps.cluster import Cluster
from shmps.data.rows import Rows, fingerprint
from shmps.errors import Diverged, NodeDied, ShmpsError, UsageError, WorkerFailed
from shmps.linear.account import Account
from shmps.linear.callbacks import EarlyStopping
from shmps.linear.checkpoint import Checkpoints, resume
from shmps.linear.columns import Columns
from shmps.linear.jobs import job_of
from shmps.linear.minibatch_worker import Snapshot
from shmps.linear.passes import log_loss, measure
from shmps.linear.result import Delays, Progress, Result, shares_of, timeline_of
from shmps.linear.settings import Settings
from shmps.linear.stability import Stability, curvature, stable_rate
from shmps.models.metrics import Metrics, constant_log_loss
from shmps.models.model import Model
from shmps.ps.events import Event
from shmps.ps.memory.parameters import Copy
from shmps.ps.scheduler.run import OnEvent
from shmps.ps.updater import Step, Updater
from shmps.updaters.descent import SGD, ByRule

OnPause = Callable[[int, int], None]  # ticks done, ticks planned
ModelOf = Callable[[np.ndarray, dict[str, Any]], Model]  # of weights as they are trained, and settings

_PATIENCE = 5  # evaluations, where early_stopping does not say


class Told(NamedTuple):
    """Who is told of a training while it goes on, in this process."""

    on_progress: Callable[[Progress], None] = lambda progress: None
    on_pause: OnPause = lambda done, planned: None
    on_event: OnEvent = lambda event: None


def told_of(*callbacks: Any) -> Told:
    """None is told nothing. Raises UsageError for one that can not be called."""
    given = {name: each for name, each in zip(Told._fields, callbacks, strict=True) if each is not None}
    for name, each in given.items():
        if not callable(each):
            raise UsageError(f"{{{name}}} must be a function, got {{{name}.value!r:.80}}", **{name: each})
    return Told(**given)


class Training:
    """`settings` (settled) at work on `rows`, from `start`, or from what another one `continued` left behind;
    `tested` are evaluated, or all rows. `model_of` makes what callbacks get of the weights evaluated.
    One that is a part leaves `parameters` behind. origin: how a text became the rows, kept for other texts.
    classes: the labels that the rows' codes stand for.

    start: (n,), or of more than two classes (n, classes). weights: the same, what is to be kept, None before
    there is something. Those of the evaluation after which a callback said stop; with early_stopping those
    that were best at any; else the last ones. Inside, rows and weights are of the features that take part
    alone (see `Columns`).
    """

    def __init__(
        self,
        settings: Settings,
        rows: Rows,
        tested: Rows | None,
        start: np.ndarray,
        model_of: ModelOf,
        told: Told,
        continued: Copy | None = None,
        is_part: bool = False,
        origin: dict[str, Any] | None = None,
        classes: Sequence[Any] = (),
    ):
        watched = told.on_progress is not Told().on_progress
        settings.test_interval = settings.evaluated_every(rows.num_rows, watched)
        self.settings, self._tested = settings, tested
        self._is_part, self._origin = is_part, origin or {}
        self._told, self._model_of = told, model_of
        self._intercept = bool(settings.fit_intercept)
        self._checkpoints, restored = _checkpoints(
            settings, self._updater_of(start), rows, len(start), classes
        )
        self._before: Any = 0 if restored is None else restored.ticks  # iterations of each worker
        self._resumed = int(np.sum(self._before))
        self._watchers = list(settings.callbacks or ())
        if settings.early_stopping or settings.n_iter_no_change is not None:
            self._watchers.append(EarlyStopping(settings.n_iter_no_change or _PATIENCE, settings.tol))
        if continued is not None:  # at its first tick
            restored = continued._replace(ticks=np.zeros(settings.workers, np.int64))
        began = time.monotonic()
        self._columns = self._columns_of(rows, start, restored)
        self._rows, narrow = self._columns.rows(rows), self._columns.narrow(start)
        if restored is not None:
            restored = self._columns.narrow_copy(restored)
        self._updater = self._updater_of(narrow)
        left_out = start.size - narrow.size
        self._job = job_of(settings, self._rows, narrow, self._updater, restored, left_out)
        self._compiled = time.monotonic()
        self._seconds = {"compile": self._compiled - began}
        self._stopped: Snapshot | None = None
        self._best: tuple[float, Snapshot] | None = None
        self._accounts: list[Account] = []
        self._started = math.inf  # time.monotonic() when everyone was there
        self._ended = math.inf  # when there was something to keep
        self._events: list[Event] = []
        self.history: list[Progress] = []
        self.weights: np.ndarray | None = None
        self._learned: np.ndarray | None = None  # the same, of the features that take part
        self.delays = Delays.of(np.zeros(1))
        self.parameters: Copy | None = None  # what another training can go on from

    def run(self) -> None:
        """Raises as `LogisticRegression.fit` does."""
        for watcher in self._watchers:
            getattr(watcher, "on_start", lambda: None)()
        job = self._job
        with job.cluster as cluster:
            try:
                results = cluster.run(
                    job.function,
                    *job.args,
                    on_report=self._take,
                    on_pause=lambda: self._told.on_pause(int(cluster.ticks().sum()), job.ticks_planned),
                    on_event=self._told.on_event,
                    on_barrier=self._open,
                    on_worker_death=self.settings.on_worker_death,
                    join_at=self.settings.join_at,
                )
            except WorkerFailed as failure:
                if isinstance(failure.__cause__, ShmpsError | MemoryError):
                    raise failure.__cause__ from None
                raise
            except NodeDied:
                self._rows.must_be_whole()  # a worker whose mapped file was cut short dies by SIGBUS
                raise
            except Diverged:
                raise
            except BaseException:  # Ctrl-C, or a callback's
                if math.isfinite(self._started):
                    with contextlib.suppress(NodeDied, Diverged):
                        self._settle(cluster)
                raise
            self._accounts = [account for account in results if account is not None]
            self._settle(cluster)
            if self._is_part and self._stopped is None:
                self.parameters = cluster.copy_of_parameters()

    def _settle(self, cluster: Cluster) -> None:
        """Keep what was learned, and what `result` tells of it. Raises Diverged if that is not finite."""
        ticks = cluster.ticks() - self._before
        if self.solver == "lbfgs":  # whose first pushes are no rounds
            ticks = np.full(self.settings.workers, len(self._job.objectives))
        self._ticks, self._ended = ticks, time.monotonic()
        self._events = [replace(event, at=event.at - self._started) for event in cluster.events]
        self.delays = Delays.of(cluster.delays())
        weights = self._chosen()
        if not np.isfinite(weights).all():
            raise Diverged(
                f"the weights must stay finite, and are not after {self.iterations} iterations; "
                f"lower the learning rate, or scale the features to about 1"
            )
        self._learned, self.weights = weights, self._columns.whole(weights)

    def _columns_of(self, rows: Rows, start: np.ndarray, restored: Copy | None) -> Columns:
        settings = self.settings
        # The next part may have other features, and dist-lr's rules begin with a weight for every one.
        if self._is_part or settings.updater == "dist-lr":
            return Columns(len(start))
        memory = settings.plan().memory
        return Columns.of(rows, start, self._intercept, settings.servers, restored, memory)

    def _updater_of(self, weights: np.ndarray) -> ByRule:
        return self.settings.make_updater(unpenalized=len(weights) - 1 if self._intercept else -1)

    @property
    def iterations(self) -> int:
        """Of the busiest worker; if the training was stopped, until the evaluation that stopped it."""
        if self._stopped:
            return self._stopped.iteration
        if self._accounts:
            return max(account.iterations for account in self._accounts)
        return int(self._ticks.max(initial=0))  # it was interrupted

    @property
    def solver(self) -> str:
        """The one that `auto` stands for, too."""
        return self._job.solver

    @property
    def advice(self) -> Warning | None:
        """What to do about it, if it ended before it was done."""
        return self._job.advice()

    def _open(self) -> None:
        self._started = min(self._started, time.monotonic())
        self._job.on_barrier()

    def _take(self, rank: int, report: Snapshot | Copy) -> None:
        if isinstance(report, Snapshot):
            if self._stopped is None:
                self._evaluate(report)
        elif self._checkpoints is not None:
            self._checkpoints.write(self._columns.whole_copy(report))

    def _evaluate(self, snapshot: Snapshot) -> None:
        if self.history and snapshot.iteration == self.history[-1].iteration:
            return  # by a worker in a dead one's place, which may have had it evaluated already
        rows_per_tick = self._rows.num_rows / self._job.ticks_per_epoch
        seconds = max(snapshot.at - self._started, 1e-9)
        progress = Progress(
            snapshot.iteration,
            seconds,
            snapshot.ticks,
            self._measure(snapshot.weights),
            Delays.of(self._job.cluster.delays()),
            (snapshot.ticks - self._resumed) * rows_per_tick / seconds,
        )
        self.history.append(progress)
        loss = progress.metrics.log_loss
        if self.settings.early_stopping and (self._best is None or loss < self._best[0]):
            self._best = loss, snapshot
        self._told.on_progress(progress)
        if asking := [watcher for watcher in self._watchers if hasattr(watcher, "on_model")]:
            model = self._model_of(self._columns.whole(snapshot.weights), self._kept_settings())
            for watcher in asking:
                watcher.on_model(progress, model)
        if any([watcher.on_evaluation(progress) for watcher in self._watchers]):  # all are told
            self._stopped = snapshot
            self._job.stop()

    def _measure(self, weights: np.ndarray) -> Metrics:
        """Of weights of the features that take part."""
        if self._tested is None:
            return measure(self._rows, weights, self._intercept)
        return measure(self._tested, weights, self._intercept, self._columns.whole)

    def _chosen(self) -> np.ndarray:
        if self._best is not None:
            return self._best[1].weights
        return self._job.weights() if self._stopped is None else self._stopped.weights

    def result(self, measured_on: str) -> Result:
        """The figures; `measured_on` says which rows were evaluated.

        Of a training that was interrupted no worker gave its account: ticks, rows and non-zeros are what the
        clocks say, `shares` is empty, and there is no `stability`.
        """
        assert self._learned is not None
        accounts, started = self._accounts, self._started
        ticks = sum(account.iterations for account in accounts) if accounts else int(self._ticks.sum())
        epochs = 0 if accounts else ticks / self._job.ticks_per_epoch
        metrics = self._measure(self._learned)
        training, constant = self._on_training_rows(metrics)
        return Result(
            settings=self._kept_settings(),
            metrics=metrics,
            measured_on=measured_on,
            ticks=ticks,
            rows=sum(account.rows for account in accounts) + round(epochs * self._rows.num_rows),
            nonzeros=sum(account.nonzeros for account in accounts) + round(epochs * self._rows.nonzeros),
            seconds=self._seconds
            | {
                "start": started - self._compiled,
                "train": max((account.ended for account in accounts), default=self._ended) - started,
            },
            shares=shares_of(accounts),
            delays=self.delays,
            history=self.history,
            stability=self._stability() if accounts else None,
            events=self._events,
            resumed=self._resumed,
            objectives=self._job.objectives,
            timeline=timeline_of(accounts, started),
            training_log_loss=training,
            constant_log_loss=constant,
        )

    def _on_training_rows(self, measured: Metrics) -> tuple[float, float]:
        """The log-loss of the model and that of the constant one; nan for a part, which lacks other rows."""
        if self._is_part:
            return math.nan, math.nan
        assert self._learned is not None
        rows, loss = self._rows, measured.log_loss
        if self._tested is not None:
            loss = log_loss(rows, self._learned, self._intercept)
        return loss, constant_log_loss(rows.labels, rows.importance)

    def _kept_settings(self) -> dict[str, Any]:
        """What is kept of them with a result and a model: JSON-able."""
        settings, updater = self.settings, self._updater
        kept = vars(settings) | {"solver": self.solver, "mode": str(settings.consistency())}
        kept |= self._origin
        for name in ("callbacks", "timeline", "checkpoint", "checkpoint_every", "resume"):
            del kept[name]  # they make no other model
        if isinstance(settings.class_weight, dict):
            kept["class_weight"] = {str(label): float(each) for label, each in settings.class_weight.items()}
        if self.solver == "minibatch":
            kept |= settings.minibatch_values()
            kept["learning_rate"] = getattr(updater, "learning_rate", getattr(updater, "alpha", None))
        return kept

    def _stability(self) -> Stability | None:
        consistency, updater = self.settings.consistency(), self._updater
        if self.solver != "minibatch" or consistency.in_place or not isinstance(updater, SGD):
            return None
        assert self._learned is not None
        steepest = curvature(self._rows, self._learned, self._intercept, updater.l2)
        if steepest is None:
            return None
        # Workers that a bound holds up go on together, and their steps from the same weights add up.
        delay = self.delays.p99 if math.isfinite(consistency.bound) else self.delays.p50
        pushes = self.settings.workers if consistency.hold_pushes else 1
        rate = updater.rate(Step(self.iterations, 0.0, delay, pushes))
        limit = stable_rate(steepest, delay) * updater.learning_rate / rate
        return Stability(updater.learning_rate, limit, delay, steepest)


def _checkpoints(
    settings: Settings, updater: Updater, rows: Rows, num_keys: int, classes: Sequence[Any]
) -> tuple[Checkpoints | None, Copy | None]:
    """Where to write checkpoints, and what to go on from; each None if it is not asked for."""
    if settings.checkpoint is None and settings.resume is None:
        return None, None
    features = num_keys - int(settings.fit_intercept)
    identity = settings.kept_when_resumed(updater), fingerprint(rows, features, classes)
    copy = None
    if settings.resume is not None:
        copy = resume(os.fspath(settings.resume), *identity)
        planned = settings.ticks_planned(rows.num_rows)
        if (copy.ticks > planned).any():
            raise UsageError(
                f"{settings.resume}: a training goes on until {planned} iterations of the workers, found a "
                f"checkpoint after {copy.ticks.tolist()}; ask for more epochs or iterations"
            )
    if settings.checkpoint is None:
        return None, copy
    return Checkpoints(os.fspath(settings.checkpoint), *identity), copy
