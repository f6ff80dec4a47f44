"""One training in the process that called `fit`: start the processes, evaluate, stop, keep the weights.

                       the solver's cluster (small problems: this process)
    Training.run ----> servers <--push, pull--> workers
                                                  | kv.report
         +----------------------------------------+
         +--> Iterate -> Evaluator -> callbacks -> stop?     every test_interval iterations of worker 0
         +--> Copy ----> Checkpoints -> folder               every checkpoint_every iterations of worker 0
    Event (a node died, joined, left) -> callbacks

    At the end: weights of the best iterate (early_stopping), of the one at the stop, or the last ones
                -> Columns.whole -> weights, Result

Inside, rows and weights have only the features that take part (see `Columns`).
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from shmps.data.rows import Rows, fingerprint
from shmps.errors import Diverged, NodeDied, ShmpsError, WorkerFailed
from shmps.linear import checkpoint, recorded
from shmps.linear.callbacks import CallbackList, EarlyStopping
from shmps.linear.certificate import duality_gap
from shmps.linear.columns import Columns
from shmps.linear.evaluator import Evaluator
from shmps.linear.full_gradient.model_kernels import descend
from shmps.linear.full_gradient.problem import MOST_WHOLE
from shmps.linear.full_gradient.shard import GRADIENTS
from shmps.linear.gap import Gap, gap_of
from shmps.linear.parameters import DECLARED
from shmps.linear.plan import Iterate
from shmps.linear.result import Delays, Evaluation, Result, Stability, shares_of, timeline_of
from shmps.linear.scaling import Centre, Moments
from shmps.linear.settings import Settings
from shmps.linear.solvers import OnCluster, Solver, problem_of, solver_of
from shmps.linear.stability import stability_of
from shmps.linear.timesheet import WorkerStats
from shmps.models.links import link_of
from shmps.models.model import Model
from shmps.ps.events import Event
from shmps.ps.memory.parameters import Copy
from shmps.recording import Recording
from shmps.system import files
from shmps.system.compiling import announce
from shmps.updaters.descent import FTRL, ByRule

ModelOf = Callable[[np.ndarray, dict[str, Any]], Model]  # from the weights as trained, and the settings

_PATIENCE = 5  # epochs, or rounds of L-BFGS, if n_iter_no_change is None


class Continuation(NamedTuple):
    """What one call of `partial_fit` leaves for the next."""

    parameters: Copy
    moments: Moments | None  # of the rows of all calls, if they decide the learning rate


class Training:
    """One training by `settings` (checked) on `rows`, from the weights `start`.

    tested: the rows to evaluate on; None: the training rows. model_of: makes the models for callbacks.
    continued: what an earlier training left, to go on from. is_part: this is one call of `partial_fit`, which
    leaves a `continuation` for the next one. origin: how the rows' text was read, saved
    with the settings. classes: the labels that the rows' codes stand for.

    start: (n,), with more than two classes (n, classes). weights: the same shape; None before training has
    begun.
    """

    weights: np.ndarray | None = None
    continuation: Continuation | None = None
    replayed: recorded.Replayed | None = None  # how a replay came out
    _moments: Moments | None = None  # for the continuation
    _learned: np.ndarray | None = None  # `weights`, of the features that take part
    _ready = math.inf  # time.monotonic() when all workers were ready
    _started = math.inf  # the same by the solver's clock
    _ended = math.inf  # by the solver's clock, when the weights were kept

    def __init__(
        self,
        settings: Settings,
        rows: Rows,
        tested: Rows | None,
        start: np.ndarray,
        model_of: ModelOf,
        continued: Continuation | None = None,
        is_part: bool = False,
        origin: dict[str, Any] | None = None,
        classes: Sequence[Any] = (),
    ):
        if not settings.by_lbfgs():
            settings.batch_size = settings.rows_of_batch(rows.num_rows)
        settings.test_interval = settings.evaluated_every(rows.num_rows)
        self.settings, self._is_part, self._origin = settings, is_part, origin or {}
        self._intercept = bool(settings.fit_intercept)
        self._checkpoints, restored = checkpoint.opened(
            settings, self._updater_of(start), rows, len(start), classes
        )
        self._before: Any = 0 if restored is None else restored.ticks  # iterations of each worker
        self._resumed = int(np.sum(self._before))
        self._about = self._identity(rows, start, classes)
        if continued is not None:  # at its first tick
            restored = continued.parameters._replace(ticks=np.zeros(settings.workers, np.int64))
        announce(*_kernels(settings, start))
        began = time.monotonic()
        self._columns = columns = self._columns_of(rows, start, restored)
        self._rows, narrow = columns.rows(rows), columns.narrow(start)
        if restored is not None:
            restored = columns.narrow_copy(restored)
        moments = self._moments_of(len(narrow), None if continued is None else continued.moments)
        self._updater = self._updater_of(narrow, moments)
        centre = self._scale(self._updater, moments)
        if is_part:
            self._moments = moments
            if restored is not None and moments is not None:
                restored = _at_other_rate(self._updater, restored, narrow)
        left_out = start.size - narrow.size
        self._solver = solver_of(settings, self._rows, narrow, self._updater, restored, left_out, centre)
        self._callbacks = _callbacks(settings, rows.num_rows)
        self._evaluator = Evaluator(
            self._rows,
            tested,
            columns,
            self._intercept,
            self._callbacks,
            keeps_best=bool(settings.early_stopping),
            model_of=lambda weights: model_of(weights, self._effective_settings()),
            link=link_of({"multi_class": settings.classes}),
            stops_at=None if settings.journal is None else settings.journal.stopped,
        )
        self._compiled = time.monotonic()
        self._seconds = {"compile": self._compiled - began}
        self._workers: list[WorkerStats] = []  # empty if the training was interrupted
        self._ticks = np.zeros(settings.workers, np.int64)
        self._events: list[Event] = []
        self.delays = Delays.of(np.zeros(1))

    def run(self) -> None:
        """Train. Raises as `LogisticRegression.fit` does."""
        self._callbacks.on_start()
        with self._solver as solver:
            try:
                self._train(solver)
            except BaseException:
                with contextlib.suppress(ShmpsError):
                    self._write_journal(solver)
                raise
            self._write_journal(solver)

    def _train(self, solver: Solver) -> None:
        """Run the solver, and keep what it learned."""
        try:
            stats = self._run(solver)
        except WorkerFailed as failure:
            if isinstance(failure.__cause__, ShmpsError | MemoryError):
                raise failure.__cause__ from None
            raise
        except NodeDied:
            self._rows.must_be_whole()  # a worker whose mapped file was cut short dies by SIGBUS
            raise
        except Diverged:
            raise
        except BaseException:  # Ctrl-C, or an exception of a callback
            if math.isfinite(self._started):
                with contextlib.suppress(NodeDied, Diverged):
                    self._keep(solver)
            raise
        self._workers = [each for each in stats if each is not None]
        self._keep(solver)
        if self._is_part and self._evaluator.stopped_at is None:
            assert isinstance(solver, OnCluster)  # partial_fit trains by minibatches
            self.continuation = Continuation(solver.cluster.copy_of_parameters(), self._moments)

    def _identity(self, rows: Rows, start: np.ndarray, classes: Sequence[Any]) -> dict[str, Any]:
        """Return what a journal says of the training beside the schedule; {} if there is none.

        Prepare to record, if the settings ask for it. Raises DataError for rows that are not those of the run
        to repeat, or a journal with no place.
        """
        settings = self.settings
        if settings.record is None and settings.journal is None:
            return {}
        if settings.record is not None:
            files.check_target(os.fspath(settings.record), "journal")
        data = fingerprint(rows, len(start) - int(settings.fit_intercept), [str(each) for each in classes])
        if settings.journal is not None:
            settings.journal.must_be_of(data, str(settings.replay))
        about = {"settings": recorded.kept(settings), "data": data, "start": recorded.start_of(start)}
        if settings.record is not None:
            settings.recording = Recording(settings.record, **about)
        return about

    def _write_journal(self, solver: Solver) -> None:
        """Write the journal, and compare it with that of the run to repeat."""
        if not self._about:
            return
        assert isinstance(solver, OnCluster)  # a journal is of minibatches
        at = self._evaluator.stopped_at
        stopped = None if at is None else at.iteration
        journal = replace(solver.cluster.journal(), **self._about, stopped=stopped)
        if self.settings.recording is not None:
            self.settings.recording.save(journal)
        if self.settings.journal is not None and journal.complete:
            self.replayed = recorded.outcome(self.settings, journal)

    def _run(self, solver: Solver) -> Sequence[WorkerStats | None]:
        settings = self.settings

        def show_progress() -> None:
            self._callbacks.on_progress(int(solver.ticks().sum()), solver.ticks_planned)

        stats = solver.run(
            on_report=self._on_report,
            on_pause=show_progress,
            on_event=self._callbacks.on_event,
            on_barrier=self._on_barrier,
            on_worker_death=settings.on_worker_death,
            join_at=settings.join_at,
        )
        show_progress()
        return stats

    def _on_barrier(self) -> None:
        if math.isinf(self._started):
            self._started, self._ready = self._solver.now(), time.monotonic()

    def _on_report(self, rank: int, report: Iterate | Copy) -> None:
        if isinstance(report, Iterate):
            if self._evaluator.is_due(report):
                self._evaluate(report)
        elif self._checkpoints is not None:
            self._checkpoints.write(self._columns.whole_copy(report))

    def _evaluate(self, iterate: Iterate) -> None:
        rows_per_tick = self._rows.num_rows / self._solver.ticks_per_epoch
        seconds = max(iterate.at - self._started, 1e-9)
        delays = Delays.of(self._solver.delays())
        visited = (iterate.ticks - self._resumed) * rows_per_tick
        if self._evaluator.evaluate(iterate, seconds, delays, visited / seconds):
            self._solver.stop()

    def _keep(self, solver: Solver) -> None:
        """Keep the weights, and what `result` reports. Raises Diverged if the weights are not finite."""
        self._ticks = solver.ticks() - self._before
        if self.solver == "lbfgs":  # which also pushes curvatures
            self._ticks = np.full(max(solver.num_workers, 1), len(solver.objectives))
        self._ended = self._solver.now()
        self._events = [replace(event, at=event.at - self._started) for event in solver.events]
        self.delays = Delays.of(solver.delays())
        chosen = self._evaluator.chosen()
        weights = solver.weights() if chosen is None else chosen
        if not np.isfinite(weights).all():
            raise Diverged(
                f"the weights must stay finite, and are not after {self.iterations} iterations; "
                f"lower the learning rate or leave it out, or scale the features to about 1"
            )
        self._learned, self.weights = weights, self._columns.whole(weights)

    def _columns_of(self, rows: Rows, start: np.ndarray, restored: Copy | None) -> Columns:
        settings = self.settings
        # The next part may have other features; dist-lr's rules start with a weight for every feature.
        if self._is_part or settings.updater == "dist-lr":
            return Columns(len(start))
        memory = settings.plan().memory
        few = MOST_WHOLE if settings.by_lbfgs() else 0
        return Columns.of(rows, start, self._intercept, settings.servers, restored, memory, few)

    def _moments_of(self, num_keys: int, before: Moments | None) -> Moments | None:
        """Return the moments of the rows, and of those `before`, if they decide the learning rate."""
        if not self.settings.rate_by_rows:
            return None
        moments = Moments.of(self._rows, num_keys - self._intercept)
        return moments if before is None else before.plus(moments)

    def _updater_of(self, weights: np.ndarray, moments: Moments | None = None) -> ByRule:
        unpenalized = len(weights) - 1 if self._intercept else -1
        return self.settings.make_updater(unpenalized, moments)

    def _scale(self, updater: ByRule, moments: Moments | None) -> Centre | None:
        """Give the updater the scales of the features, if it takes them. Return what is centred."""
        if moments is None or not self.settings.scales_features:
            return None
        updater.scales = moments.scales(self._intercept)
        if not self._intercept or self._is_part:  # the next part may have other means
            return None
        return Centre.of(self._rows, moments, updater.scales)

    @property
    def history(self) -> list[Evaluation]:
        return self._evaluator.history

    @property
    def iterations(self) -> int:
        """The iterations of the busiest worker; if a callback stopped the training, up to that evaluation."""
        if self._evaluator.stopped_at is not None:
            return self._evaluator.stopped_at.iteration
        if self._workers:
            return max(each.iterations for each in self._workers)
        return int(self._ticks.max(initial=0))  # the training was interrupted

    @property
    def solver(self) -> str:
        """The name of the solver, also if the settings say `auto`."""
        return self._solver.name

    @property
    def advice(self) -> Warning | None:
        """What to do if the solver ended before it was done; None if it was done."""
        return self._solver.advice()

    def result(self, measured_on: str) -> Result:
        """Return the figures; `measured_on` names the rows that were evaluated.

        An interrupted training has no statistics of the workers: ticks, rows and non-zeros follow from the
        clocks, `shares` is empty, and `stability` is None.
        """
        assert self._learned is not None
        workers, started, rows = self._workers, self._started, self._rows
        ticks = sum(each.iterations for each in workers) if workers else int(self._ticks.sum())
        epochs = 0 if workers else ticks / self._solver.ticks_per_epoch
        metrics = self._evaluator.measure(self._learned)
        training, constant = math.nan, math.nan
        if not self._is_part:  # which lacks the other parts' rows
            training, constant = self._evaluator.training_log_losses(self._learned, metrics)
        ended = max((each.ended for each in workers), default=self._ended)
        return Result(
            settings=self._effective_settings(),
            metrics=metrics,
            measured_on=measured_on,
            ticks=ticks,
            rows=sum(each.rows for each in workers) + round(epochs * rows.num_rows),
            nonzeros=sum(each.nonzeros for each in workers) + round(epochs * rows.nonzeros),
            seconds=self._seconds | {"start": self._ready - self._compiled, "train": ended - started},
            shares=shares_of(workers),
            delays=self.delays,
            history=self.history,
            stability=self._stability(self._learned),
            events=self._events,
            clock=self._solver.clock,
            resumed=self._resumed,
            objectives=self._solver.objectives,
            timeline=timeline_of(workers, started),
            training_log_loss=training,
            constant_log_loss=constant,
            estimate=self._estimate(self._learned),
            gap=self._certificate(self._learned),
            replayed=self.replayed,
        )

    def _stability(self, weights: np.ndarray) -> Stability | None:
        if not self._workers or self.solver != "minibatch":
            return None
        return stability_of(
            self._rows,
            weights,
            self._intercept,
            self._updater,
            self.settings.consistency(),
            workers=self.settings.workers,
            iterations=self.iterations,
            delays=self.delays,
        )

    def _estimate(self, weights: np.ndarray) -> Gap | None:
        settings = self.settings
        unfinished = not self._workers or self._is_part or self._evaluator.chosen() is not None
        if unfinished or self.solver != "minibatch" or settings.updater == "dist-lr":
            return None
        return gap_of(self._rows, weights, self._intercept, settings.l1, settings.l2)

    def _certificate(self, weights: np.ndarray) -> float | None:
        if not self.settings.certificate or self._is_part:
            return None
        return duality_gap(self._rows, weights, problem_of(self.settings, self._rows, weights))

    def _effective_settings(self) -> dict[str, Any]:
        """Return the settings that are saved with the result and the model, as JSON-able values."""
        settings, updater = self.settings, self._updater
        kept = {name: getattr(settings, name) for name in DECLARED} | {
            "solver": self.solver,
            "mode": str(settings.consistency()),
            "multi_class": settings.classes,
        }
        kept |= self._origin | {"engine": str(settings.engine)}
        for name in (
            "callbacks",
            "timeline",
            "certificate",
            "verbose",
            "checkpoint",
            "checkpoint_every",
            "resume",
            "record",
            "replay",
        ):
            del kept[name]  # the model does not depend on them
        for name in "C", "l1_ratio":
            del kept[name]  # l1 and l2 have what follows from them
        if isinstance(settings.class_weight, dict):
            kept["class_weight"] = {str(label): float(each) for label, each in settings.class_weight.items()}
        if not self._solver.num_workers:
            kept |= {"workers": 0, "servers": 0}
        if self.solver == "minibatch":
            kept |= settings.minibatch_values()
            rate = getattr(updater, "learning_rate", getattr(updater, "alpha", None))
            kept["learning_rate"] = None if settings.scales_features else rate
        return kept


def _at_other_rate(updater: ByRule, copy: Copy, weights: np.ndarray) -> Copy:
    """Return the copy for an updater with another rate, which goes on from the same `weights`."""
    if not isinstance(updater, FTRL):
        return copy
    values, state = weights.reshape(copy.weights.shape).copy(), copy.state.copy()
    updater.start(values, state.reshape(*values.shape, updater.state_width))
    return copy._replace(weights=values, state=state, ages=np.zeros_like(copy.ages))


def _kernels(settings: Settings, start: np.ndarray) -> list[Any]:
    """Return kernels of the training that stand for all of them: those that differ between trainings."""
    gradient = GRADIENTS[settings.loss_of(start)]
    return [gradient, descend] if settings.l1 and settings.by_lbfgs() else [gradient]


def _callbacks(settings: Settings, rows: int) -> CallbackList:
    """Return the callbacks of the settings, and the one that early stopping adds."""
    callbacks = list(settings.callbacks or ())
    if settings.early_stopping or settings.n_iter_no_change is not None:
        per_epoch = 1 if settings.by_lbfgs() else settings.ticks_per_epoch(rows)[0]
        patience = math.ceil(_PATIENCE * per_epoch / (settings.test_interval or per_epoch))
        callbacks.append(EarlyStopping(settings.n_iter_no_change or patience, settings.tol))
    return CallbackList(callbacks)
