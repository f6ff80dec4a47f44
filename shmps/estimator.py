"""LogisticRegression: scikit-learn's conventions over a cluster, without importing scikit-learn."""

import contextlib
import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from shmps import checkpoint, trainer
from shmps.consistency import Consistency
from shmps.data import (
    Rows,
    binary_labels,
    classes_of,
    fingerprint,
    is_finite,
    opened,
    rows_of,
    signs,
    to_csr,
)
from shmps.errors import (
    DataError,
    Diverged,
    NodeDied,
    NotConverged,
    ShmpsError,
    UnstableRate,
    UsageError,
    WorkerFailed,
)
from shmps.jobs import Job, job_of
from shmps.models import Model
from shmps.result import Delays, Progress, Result, shares_of
from shmps.runs import OnEvent, OnReport
from shmps.settings import Settings
from shmps.stability import Stability, curvature, stable_rate
from shmps.store import Copy
from shmps.updaters import SGD, Step, Updater

OnPause = Callable[[int, int], None]


class LogisticRegression(Settings):
    """Sparse logistic regression by stochastic gradients, trained by worker and server processes.

    Minimises (1/N) sum_i log(1 + exp(-y_i x_i.w)) + l2/2 |w|^2 + l1 |w|_1 over the N rows; the intercept
    is not penalised.

    Its parameters are those of `shmps.settings.Settings`. After `fit`: coef_ (1, n_features_in_), intercept_
    (1,), classes_ (2,), n_iter_ (iterations of the busiest worker), result_ (a `Result`).
    """

    def fit(
        self,
        X: Any,
        y: Any = None,
        eval_set: tuple[Any, Any] | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_pause: OnPause = lambda done, planned: None,
        on_event: OnEvent = lambda event: None,
        coef_init: Any = None,
        intercept_init: Any = None,
    ) -> "LogisticRegression":
        """Train on X (rows, features), dense or sparse, and y (rows,) with two labels.

        X may be the path of svmlight text or of mapped data, with y None; so may that of eval_set.
        eval_set: (X, y) to evaluate on, else the training rows. on_progress gets every evaluation as it is
        made, on_pause (ticks done, ticks planned) a few times per second, on_event what happens to nodes; all
        run in this process.
        coef_init (features,), intercept_init: the weights to start from (default: zero); not used where a
        checkpoint is resumed.

        Raises UsageError, DataError, NodeDied, Diverged, OutOfSpace. On KeyboardInterrupt the processes are
        gone, the weights so far are kept, and the interrupt goes on.
        """
        self.check()
        # What an earlier fit learned does not go with this one's classes.
        for learned in ("coef_", "intercept_", "n_iter_", "result_"):
            self.__dict__.pop(learned, None)
        rows = self._training_rows(X, y)
        tested = rows if eval_set is None else self._rows(*eval_set)
        consistency = self.consistency()
        num_keys = self.n_features_in_ + int(self.fit_intercept)
        updater = self.make_updater(unpenalized=num_keys - 1 if self.fit_intercept else -1)
        checkpoints, restored = self._checkpoints(rows, updater)
        resumed = 0 if restored is None else int(restored.ticks.sum())
        began = time.monotonic()
        job = job_of(self, rows, self._initial(coef_init, intercept_init), updater, restored)
        compiled = time.monotonic()
        history: list[Progress] = []

        def take(rank: int, report: trainer.Snapshot | Copy) -> None:
            if isinstance(report, trainer.Snapshot):
                evaluate(report)
            elif checkpoints is not None:
                checkpoints.write(report)

        def evaluate(snapshot: trainer.Snapshot) -> None:
            history.append(
                Progress(
                    snapshot.iteration,
                    snapshot.seconds,
                    snapshot.ticks,
                    trainer.measure(tested, snapshot.weights, self.fit_intercept),
                    Delays.of(job.cluster.delays()),
                    (snapshot.ticks - resumed) * rows_per_tick / snapshot.seconds,
                )
            )
            on_progress(history[-1])

        rows_per_tick = rows.num_rows / job.ticks_per_epoch
        with job.cluster as cluster:
            accounts = self._run(
                job, take, lambda: on_pause(int(cluster.ticks().sum()), job.ticks_planned), on_event
            )
            events = cluster.events
            delays = Delays.of(cluster.delays())
        stability = self._stability(rows, updater, consistency, delays)
        started = min(account.began for account in accounts)
        seconds = {
            "compile": compiled - began,
            "start": started - compiled,
            "train": max(account.ended for account in accounts) - started,
        }
        self.result_ = Result(
            settings=self._settings(str(consistency), updater),
            metrics=self._final_metrics(tested),
            measured_on="training" if eval_set is None else "test",
            ticks=sum(account.iterations for account in accounts),
            rows=sum(account.rows for account in accounts),
            nonzeros=sum(account.nonzeros for account in accounts),
            seconds=seconds,
            shares=shares_of(accounts),
            delays=delays,
            history=history,
            stability=stability,
            events=events,
            resumed=resumed,
            objectives=job.objectives,
        )
        if advice := job.advice():
            warnings.warn(advice, NotConverged, stacklevel=2)
        if stability and stability.advice:
            warnings.warn(stability.advice, UnstableRate, stacklevel=2)
        return self

    def _run(
        self,
        job: Job,
        on_report: OnReport,
        on_pause: Callable[[], None],
        on_event: OnEvent,
    ) -> list[trainer.Account]:
        """Train on the running cluster and keep its weights, also when it is interrupted."""
        try:
            results = job.cluster.run(
                job.function,
                *job.args,
                on_report=on_report,
                on_pause=on_pause,
                on_event=on_event,
                on_barrier=job.on_barrier,
                on_worker_death=self.on_worker_death,
                join_at=self.join_at,
            )
            accounts = [account for account in results if account is not None]
        except KeyboardInterrupt:
            with contextlib.suppress(NodeDied):
                self._keep(job.weights())
            raise
        except WorkerFailed as failure:
            if isinstance(failure.__cause__, ShmpsError | MemoryError):
                raise failure.__cause__ from None
            raise
        self._keep(job.weights())
        self.n_iter_ = max(account.iterations for account in accounts)
        if not (np.isfinite(self.coef_).all() and np.isfinite(self.intercept_).all()):
            raise Diverged(
                f"the weights must stay finite, and are not after {self.n_iter_} iterations; "
                f"lower the learning rate, or scale the features to about 1"
            )
        return accounts

    def decision_function(self, X: Any) -> np.ndarray:
        """Margins (rows,): positive for classes_[1]."""
        return self.model().decision_function(to_csr(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (rows, 2) of classes_."""
        return self.model().predict_proba(to_csr(X))

    def predict(self, X: Any) -> np.ndarray:
        """Labels (rows,)."""
        return self.model().predict(to_csr(X))

    def score(self, X: Any, y: Any) -> float:
        """Accuracy."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def model(self) -> Model:
        """What was learned, to be saved. Raises UsageError before `fit`."""
        if not hasattr(self, "coef_"):
            raise UsageError("this LogisticRegression is not fitted yet; call fit(X, y) first")
        settings = self.result_.settings if hasattr(self, "result_") else {}
        return Model(self.coef_[0], float(self.intercept_[0]), tuple(self.classes_.tolist()), settings)

    def _training_rows(self, X: Any, y: Any) -> Rows:
        X, y = _checked(X, y, "")
        labels, classes = binary_labels(y, "y")
        if X.shape[0] < self.workers:
            raise UsageError(f"every worker has at least one row: {self.workers} workers, {X.shape[0]} rows")
        self.classes_ = np.array(classes)
        self.n_features_in_ = X.shape[1]
        return rows_of(X, labels)

    def _rows(self, X: Any, y: Any) -> Rows:
        """Rows to evaluate on. Raises DataError for labels or columns that training did not have."""
        X, y = _checked(X, y, "eval_set: ")
        if X.shape[1] != self.n_features_in_:
            raise DataError(f"eval_set has the {self.n_features_in_} features of X, found {X.shape[1]}")
        strange = [label for label in classes_of(y) if label not in self.classes_.tolist()]
        if strange:
            raise DataError(f"eval_set has the labels of y, {self.classes_.tolist()}, found {strange}")
        return rows_of(X, signs(y, self.classes_[1]))

    def _checkpoints(self, rows: Rows, updater: Updater) -> tuple[checkpoint.Checkpoints | None, Copy | None]:
        """Where to write checkpoints, and what to go on from; each None if it is not asked for."""
        if self.checkpoint is None and self.resume is None:
            return None, None
        identity = self.kept_when_resumed(updater), fingerprint(rows, self.n_features_in_)
        copy = None
        if self.resume is not None:
            copy = checkpoint.resume(os.fspath(self.resume), *identity)
            planned = self.ticks_planned(rows.num_rows)
            if (copy.ticks > planned).any():
                raise UsageError(
                    f"{self.resume}: a training goes on until {planned} iterations of the workers, found a "
                    f"checkpoint after {copy.ticks.tolist()}; ask for more epochs or iterations"
                )
        if self.checkpoint is None:
            return None, copy
        return checkpoint.Checkpoints(os.fspath(self.checkpoint), *identity), copy

    def _initial(self, coef_init: Any, intercept_init: Any) -> np.ndarray:
        """Weights (num_keys,) to start from."""
        if self.updater == "dist-lr" and (coef_init is not None or intercept_init is not None):
            raise UsageError("dist-lr's rules have a start of their own, found coef_init or intercept_init")
        start = np.zeros(self.n_features_in_ + int(self.fit_intercept))
        if coef_init is not None:
            start[: self.n_features_in_] = _start("coef_init", coef_init, self.n_features_in_)
        if intercept_init is not None:
            if not self.fit_intercept:
                raise UsageError("an intercept_init needs fit_intercept=True, found False; leave it out")
            start[self.n_features_in_ :] = _start("intercept_init", intercept_init, 1)
        return start

    def _stability(
        self, rows: Rows, updater: Updater, consistency: Consistency, delays: Delays
    ) -> Stability | None:
        if self.by_lbfgs() or consistency.in_place or not isinstance(updater, SGD):
            return None
        steepest = curvature(rows, self._weights(), self.fit_intercept, updater.l2)
        if steepest is None:
            return None
        # Workers that a bound holds up go on together, and their steps from the same weights add up.
        delay = delays.p99 if math.isfinite(consistency.bound) else delays.p50
        pushes = self.workers if consistency.hold_pushes else 1
        rate = updater.rate(Step(self.n_iter_, 0.0, delay, pushes))
        limit = stable_rate(steepest, delay) * updater.learning_rate / rate
        return Stability(updater.learning_rate, limit, delay, steepest)

    def _keep(self, weights: np.ndarray) -> None:
        features = self.n_features_in_
        self.coef_ = weights[:features].reshape(1, features)
        self.intercept_ = weights[features:] if self.fit_intercept else np.zeros(1)

    def _final_metrics(self, tested: Rows):
        return trainer.measure(tested, self._weights(), self.fit_intercept)

    def _weights(self) -> np.ndarray:
        """As they are trained: with the intercept last, if there is one."""
        return np.append(self.coef_[0], self.intercept_) if self.fit_intercept else self.coef_[0]

    def _settings(self, mode: str, updater: Updater) -> dict[str, Any]:
        settings = self.get_params() | {"mode": mode}
        if self.by_lbfgs():
            return settings | {"solver": "lbfgs"}
        settings["solver"] = "minibatch"
        for name in ("checkpoint", "checkpoint_every", "resume"):  # they make no other model
            del settings[name]
        settings["learning_rate"] = getattr(updater, "learning_rate", getattr(updater, "alpha", None))
        return settings


def _start(name: str, values: Any, count: int) -> np.ndarray:
    """Weights (count,) to start from; UsageError if they are not."""
    try:
        given = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        given = np.empty(0)
    if len(given) != count or not np.isfinite(given).all():
        raise UsageError(f"{name} is {count} finite numbers, found {values!r:.80}")
    return given


def _checked(X: Any, y: Any, name: str) -> tuple[Any, np.ndarray]:
    """X as CSR and y as an array, with as many rows and only finite values; DataError if not."""
    X, y = opened(X, y)
    X, y = to_csr(X), np.asanyarray(y)
    if 0 in X.shape:
        raise DataError(f"{name}X has at least one row and one feature, found shape {X.shape}")
    if y.shape != (X.shape[0],):
        raise DataError(f"{name}y has one label per row: {X.shape[0]} rows, found shape {y.shape}")
    if not is_finite(X):
        raise DataError(f"{name}values of X are finite, found nan or inf; drop or impute them")
    return X, y
