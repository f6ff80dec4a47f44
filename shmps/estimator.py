"""LogisticRegression: scikit-learn's conventions over a cluster, without importing scikit-learn."""

import contextlib
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shmps import trainer
from shmps.checks import whole
from shmps.cluster import Cluster
from shmps.consistency import ASYNC, BOUNDED, SYNC, Consistency
from shmps.data import Rows, binary_labels, most_keys, rows_of, to_csr
from shmps.errors import DataError, Diverged, NodeDied, ShmpsError, UsageError, WorkerFailed
from shmps.models import Model
from shmps.rehearsal import rehearse
from shmps.result import Delays, Progress, Result, shares_of
from shmps.scheduler import OnReport
from shmps.updaters import FTRL, SGD, AdaGrad, Updater

MODES = ("sync", "async", "bounded")
# Rates that work on a9a in sync and in async mode.
LEARNING_RATES = {"sgd": 0.5, "adagrad": 0.1, "ftrl": 0.5}

OnPause = Callable[[int, int], None]


class LogisticRegression:
    """Sparse logistic regression by stochastic gradients, trained by worker and server processes.

    Minimises (1/N) sum_i log(1 + exp(-y_i x_i.w)) + l2/2 |w|^2 + l1 |w|_1 over the N rows; the intercept
    is not penalised.

    workers, servers: processes. mode: "sync", "async" or "bounded" (with bound, in ticks).
    updater: "sgd", "adagrad" or "ftrl" (the only one with l1). learning_rate: None for the updater's own.
    schedule: of sgd's rate: "constant", "1/t" or "1/sqrt(t)", t in ticks.
    batch_size: rows of a minibatch; 0: a worker's whole shard. epochs: passes over the rows, or else
    iterations: minibatches per worker. test_interval: worker 0's iterations between evaluations; 0: none.
    slow_worker: (rank, factor) makes a straggler. random_state: seed of the minibatches and their order.

    After `fit`: coef_ (1, n_features_in_), intercept_ (1,), classes_ (2,), n_iter_ (iterations of the
    busiest worker), result_ (a `Result`).
    """

    def __init__(
        self,
        workers: int = 2,
        servers: int = 1,
        mode: str = "sync",
        bound: int | None = None,
        updater: str = "adagrad",
        learning_rate: float | None = None,
        schedule: str = "constant",
        l1: float = 0.0,
        l2: float = 1e-5,
        batch_size: int = 256,
        epochs: int = 10,
        iterations: int | None = None,
        fit_intercept: bool = True,
        test_interval: int = 0,
        slow_worker: tuple[int, float] | None = None,
        random_state: int = 0,
        start_method: str | None = None,
    ):
        self.workers = workers
        self.servers = servers
        self.mode = mode
        self.bound = bound
        self.updater = updater
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.l1 = l1
        self.l2 = l2
        self.batch_size = batch_size
        self.epochs = epochs
        self.iterations = iterations
        self.fit_intercept = fit_intercept
        self.test_interval = test_interval
        self.slow_worker = slow_worker
        self.random_state = random_state
        self.start_method = start_method

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> "LogisticRegression":
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise UsageError(f"parameters are {', '.join(known)}; found {name!r}")
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: Any,
        y: Any,
        eval_set: tuple[Any, Any] | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_pause: OnPause = lambda done, planned: None,
    ) -> "LogisticRegression":
        """Train on X (rows, features), dense or sparse, and y (rows,) with two labels.

        eval_set: (X, y) to evaluate on, else the training rows. on_progress gets every evaluation as it is
        made, on_pause (ticks done, ticks planned) a few times per second; both run in this process.

        Raises UsageError, DataError, NodeDied, Diverged, OutOfSpace. On KeyboardInterrupt the processes are
        gone, the weights so far are kept, and the interrupt goes on.
        """
        self.check()
        # What an earlier fit learned does not go with this one's classes.
        for learned in ("coef_", "intercept_", "n_iter_", "result_"):
            self.__dict__.pop(learned, None)
        rows = self._training_rows(X, y)
        tested = rows if eval_set is None else self._rows(*eval_set)
        plan, consistency = self._plan(), self.consistency()
        num_keys = self.n_features_in_ + int(self.fit_intercept)
        updater = self._updater(unpenalized=num_keys - 1 if self.fit_intercept else -1)
        began = time.monotonic()
        trainer.rehearse(rows, num_keys, plan)
        rehearse(updater, 1)
        compiled = time.monotonic()
        cluster = Cluster(
            num_keys,
            servers=self.servers,
            workers=self.workers,
            consistency=consistency,
            updater=updater,
            max_keys=most_keys(rows, plan.batch_size, num_keys),
            start_method=self.start_method,
        )
        history: list[Progress] = []

        def evaluate(rank: int, snapshot: trainer.Snapshot) -> None:
            metrics = trainer.measure(tested, snapshot.weights, self.fit_intercept)
            history.append(
                Progress(
                    snapshot.iteration,
                    snapshot.seconds,
                    metrics,
                    Delays.of(cluster.delays()),
                    float(cluster.ticks().sum()) * rows_per_tick / snapshot.seconds,
                )
            )
            on_progress(history[-1])

        ticks_per_epoch = self._ticks_per_epoch(rows.num_rows)
        planned = self.iterations * self.workers if self.iterations else self.epochs * ticks_per_epoch
        rows_per_tick = rows.num_rows / ticks_per_epoch
        with cluster:
            accounts = self._run(
                cluster,
                (rows, num_keys, plan),
                evaluate,
                lambda: on_pause(int(cluster.ticks().sum()), planned),
            )
            delays = Delays.of(cluster.delays())
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
            iterations=sum(account.iterations for account in accounts),
            rows=sum(account.rows for account in accounts),
            nonzeros=sum(account.nonzeros for account in accounts),
            seconds=seconds,
            shares=shares_of(accounts),
            delays=delays,
            history=history,
        )
        return self

    def _run(
        self, cluster: Cluster, job: tuple[Any, ...], on_report: OnReport, on_pause: Callable[[], None]
    ) -> list[trainer.Account]:
        """Train on the running cluster and keep its weights, also when it is interrupted."""
        try:
            accounts = cluster.run(trainer.train, *job, on_report=on_report, on_pause=on_pause)
        except KeyboardInterrupt:
            with contextlib.suppress(NodeDied):
                self._keep(cluster.weights())
            raise
        except WorkerFailed as failure:
            if isinstance(failure.__cause__, ShmpsError | MemoryError):
                raise failure.__cause__ from None
            raise
        self._keep(cluster.weights())
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

    def check(self) -> None:
        """Raises UsageError for parameters that break a rule: what `fit` would say without its data."""
        for name in ("workers", "servers"):
            whole(name, getattr(self, name), least=1)
        self.consistency()
        self._plan()
        self._updater(unpenalized=-1)

    def consistency(self) -> Consistency:
        """The mode as a value. Raises UsageError if mode and bound contradict each other."""
        if self.mode not in MODES:
            raise UsageError(f"mode is one of {', '.join(MODES)}; found {self.mode!r}")
        if (self.bound is not None) != (self.mode == "bounded"):
            raise UsageError(
                f"a bound goes with mode='bounded' only; found mode={self.mode!r}, bound={self.bound!r}"
            )
        if self.bound is not None:
            return BOUNDED(self.bound)
        return SYNC if self.mode == "sync" else ASYNC

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
        strange = [label for label in np.unique(y).tolist() if label not in self.classes_.tolist()]
        if strange:
            raise DataError(f"eval_set has the labels of y, {self.classes_.tolist()}, found {strange}")
        return rows_of(X, np.where(y == self.classes_[1], 1.0, -1.0))

    def _plan(self) -> trainer.Plan:
        if self.iterations is not None:
            whole("iterations", self.iterations, least=1)
        if self.slow_worker is not None:
            try:
                rank, factor = self.slow_worker
                fits = 0 <= rank < self.workers and math.isfinite(factor) and factor >= 1
            except (TypeError, ValueError):
                fits = False
            if not fits:
                raise UsageError(
                    f"slow_worker is a rank below workers={self.workers} and a factor from 1 up, "
                    f"found {self.slow_worker!r}"
                )
        return trainer.Plan(
            batch_size=whole("batch_size", self.batch_size, least=0),
            epochs=whole("epochs", self.epochs, least=1),
            iterations=self.iterations,
            test_interval=whole("test_interval", self.test_interval, least=0),
            intercept=bool(self.fit_intercept),
            seed=whole("random_state", self.random_state, least=0),
            slow_worker=self.slow_worker,
        )

    def _updater(self, unpenalized: int) -> Updater:
        if self.updater not in LEARNING_RATES:
            raise UsageError(f"updater is one of {', '.join(LEARNING_RATES)}; found {self.updater!r}")
        if self.l1 and self.updater != "ftrl":
            raise UsageError(f"l1 needs updater='ftrl', found {self.updater!r} with l1={self.l1}")
        if self.schedule != "constant" and self.updater != "sgd":
            raise UsageError(f"a schedule needs updater='sgd', found {self.updater!r} with {self.schedule!r}")
        rate = LEARNING_RATES[self.updater] if self.learning_rate is None else self.learning_rate
        if self.updater == "ftrl":
            return FTRL(rate, l1=self.l1, l2=self.l2, unpenalized=unpenalized)
        if self.updater == "adagrad":
            return AdaGrad(rate, l2=self.l2, unpenalized=unpenalized)
        return SGD(rate, l2=self.l2, schedule=self.schedule, unpenalized=unpenalized)

    def _ticks_per_epoch(self, rows: int) -> int:
        sizes = np.diff(np.arange(self.workers + 1) * rows // self.workers)
        return int(sum(-(-size // self.batch_size) if self.batch_size else 1 for size in sizes))

    def _keep(self, weights: np.ndarray) -> None:
        features = self.n_features_in_
        self.coef_ = weights[:features].reshape(1, features)
        self.intercept_ = weights[features:] if self.fit_intercept else np.zeros(1)

    def _final_metrics(self, tested: Rows):
        return trainer.measure(tested, np.append(self.coef_[0], self.intercept_), intercept=True)

    def _settings(self, mode: str, updater: Updater) -> dict[str, Any]:
        settings = self.get_params() | {"mode": mode}
        settings["learning_rate"] = getattr(updater, "learning_rate", getattr(updater, "alpha", None))
        return settings


def _checked(X: Any, y: Any, name: str) -> tuple[Any, np.ndarray]:
    """X as CSR and y as an array, with as many rows and only finite values; DataError if not."""
    X, y = to_csr(X), np.asarray(y)
    if 0 in X.shape:
        raise DataError(f"{name}X has at least one row and one feature, found shape {X.shape}")
    if y.shape != (X.shape[0],):
        raise DataError(f"{name}y has one label per row: {X.shape[0]} rows, found shape {y.shape}")
    if not np.isfinite(X.data).all():
        raise DataError(f"{name}values of X are finite, found nan or inf; drop or impute them")
    return X, y
