"""LogisticRegression: scikit-learn's conventions over a cluster, without importing scikit-learn."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from shmps.data.labels import encoded
from shmps.data.reading import opened
from shmps.data.rows import rows_of
from shmps.errors import NotConverged, UnstableRate, UsageError, WorseThanConstant, warn
from shmps.linear.training import Training
from shmps.models.model import array_of, plain_labels
from shmps.sklearn.classifier import LinearClassifier
from shmps.sklearn.conventions import offered_unless
from shmps.sklearn.inputs import evaluated, held_out, opened_again
from shmps.sklearn.labels import known_labels, labels_of, named_classes
from shmps.sklearn.start import initial, warm
from shmps.sklearn.weights import importance_of, relative

_MANY_CLASSES, _FEW_ROWS = 100, 10  # so many classes of so few rows each are more likely names or amounts
_LEARNED = (
    "coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_", "n_iter_", "history_",
    "staleness_", "result_", "_continued",
)  # fmt: skip


class LogisticRegression(LinearClassifier):
    """Sparse logistic regression, trained by worker and server processes.

    Minimises (1 / sum_i s_i) sum_i s_i log(1 + exp(-y_i (x_i.w + b))) + l2/2 |w|^2 + l1 |w|_1 over the rows,
    with s_i the row's weight (1, if none are given) times its class's. The intercept b has no penalty. Of
    more than two classes each has a w and b of its own, trained against the rest: the servers keep them side
    by side, a row for every feature, and all are learned in the same passes over the rows.

    Parameters
    ----------
    workers, servers : int, default=2, 1
        Processes.
    mode : {"sync", "async", "bounded", "hogwild"}, default="sync"
        Whether workers wait for each other after every minibatch; hogwild: they update the shared weights in
        place, without a lock, one step per row [1]_ (see the README: what that gives up).
    bound : int, optional
        Of bounded mode: ticks that a worker may be ahead of the slowest one [2]_.
    solver : {"auto", "lbfgs", "minibatch"}, default="auto"
        lbfgs: full gradients (see `shmps.linear.full_gradient`) [3]_. auto: lbfgs, unless something is given
        that only minibatches have: another mode than sync, an updater, learning_rate, schedule, batch_size or
        epochs (at whatever value), l1, slow_worker, tick_time, join_at, replicas, checkpoint, resume, or
        on_worker_death="continue". lbfgs itself refuses those.
    updater : {"adagrad", "sgd", "ftrl", "dist-lr"}, optional
        The rule of the servers [4]_ [5]_; None: adagrad. l1 needs ftrl; for dist-lr see
        `shmps.updaters.dist_lr`.
    learning_rate : float, optional
        None: the updater's own.
    schedule : {"constant", "1/t", "1/sqrt(t)", "1/(1+delay)"}, optional
        Of the rate of sgd and dist-lr; t in ticks of this call, the delay in versions. None: constant.
    l1, l2 : float, default=0, 1e-5
        The penalties.
    batch_size : int, optional
        Rows of a minibatch; 0: a worker's whole shard; None: 256. In hogwild mode: rows of a tick.
    epochs : int, optional
        Passes over the rows by minibatches; None: 10.
    iterations : int, optional
        Minibatches per worker, instead of epochs; of lbfgs: rounds at most (None: 100).
    tol : float, default=1e-6
        Relative tolerance. lbfgs ends when the gap between its objective and the least one is within tol of
        the objective, by an estimate (see the README); it warns (NotConverged) if it ends earlier. For
        n_iter_no_change a log-loss that is not lower by so much is no progress.
    n_iter_no_change : int, optional
        Stop after so many evaluations in a row without progress; None: never, but 5 with early_stopping.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of each class (if `fit` gets no eval_set), stop when there is no more
        progress there, and keep the weights with the least log-loss there.
    validation_fraction : float, default=0.1
        Between 0 and 1.
    fit_intercept : bool, default=True
        Whether to learn b; it is 0 otherwise.
    class_weight : dict or "balanced", optional
        Weights by label (1 for those that are not named; labels without rows may be named); balanced: all
        classes weigh the same in all.
    warm_start : bool, default=False
        `fit` begins at coef_ and intercept_ of the fit before, matched by the features' names where they
        have some; the updater's state begins anew.
    test_interval : int, default=0
        Worker 0's iterations between evaluations; 0: none, or, where callbacks, early_stopping or
        n_iter_no_change ask for some, one per epoch (of lbfgs: per round); they get one in any case.
    slow_worker : tuple (rank, factor), optional
        Makes a straggler.
    tick_time : float, default=0
        Milliseconds that a tick lasts at least; workers that sleep overlap where cores are few.
    on_worker_death : {"respawn", "continue", "fail"}, default="respawn"
        It is started again and goes on; or the others go on, and divide its rows from the next epoch on.
    join_at : int, optional
        The epoch at which one more worker comes in.
    replicas : int, default=0
        1: every server keeps a copy of its predecessor's partition (needs two servers).
    node_timeout : float, default=60
        Seconds without a sign of life after which a node is taken for hung and replaced; None: never.
    random_state : int, RandomState, Generator or None, default=0
        Seed of the minibatches, their order, and what is held out. In sync mode equal seeds give equal bits,
        also where a callback stops the training.
    checkpoint : path-like, optional
        A folder for what was learned so far; the last two are kept, and overwrite what is there.
    checkpoint_every : int, default=100
        Iterations of worker 0.
    resume : path-like, optional
        A folder with checkpoints, to go on from the newest whole one instead of from the start. What
        callbacks and early_stopping have seen is not in it: they begin anew.
    memory : int or str, optional
        Bytes, or text such as "600M" (of 1024), that no process is to have more of, of its own and shared
        (the page cache is not in it, nor data that was in memory before): minibatches are made anew where
        there is no room to keep them. None: half of what is available is used to keep them, or nothing.
    start_method : {"fork", "forkserver", "spawn"}, optional
        Of processes; None: the system's own.
    timeline : bool, default=False
        Keep what every worker did when, for result_.timeline (under 1 MB each, however long).
    callbacks : list, optional
        Objects with at least one of the methods on_start, on_progress, on_event, on_evaluation and on_model.
        They run in this process during the training; an on_evaluation that returns True stops it. See
        `shmps.callbacks.Callback`, and `shmps.callbacks` for ready ones.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        One problem where there are two classes, whose margins are positive for the second.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        The columns' names, where X is a table whose columns have strings for names, or CSV: `predict` and
        `partial_fit` take the same ones in the same order; of CSV in any order.
    n_iter_ : int
        Iterations of the busiest worker (lbfgs: rounds), up to the evaluation that stopped it.
    history_ : list of shmps.linear.result.Evaluation
        The evaluations; metrics count rows by their weights.
    staleness_ : shmps.linear.result.Delays
        Versions of the weights between a pull and its push.
    result_ : shmps.linear.result.Result
        All figures of the training.

    References
    ----------
    .. [1] Niu et al., Hogwild!, NIPS 2011.
    .. [2] Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NIPS
       2013.
    .. [3] Nocedal, Updating Quasi-Newton Matrices with Limited Storage, Mathematics of Computation 1980.
    .. [4] Duchi et al., Adaptive Subgradient Methods, JMLR 2011.
    .. [5] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013.
    """

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        coef_init: Any = None,
        intercept_init: Any = None,
    ) -> Self:
        """Train from the start.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Finite numbers. CSR with float64 values is read where it is, anything else is copied once. Or the
            path of a text (svmlight, or CSV that ends with .csv) or of mapped data.
        y : array-like of shape (n_samples,)
            Labels of two classes or more; none, if X is a path.
        sample_weight : array-like of shape (n_samples,), optional
            How much each row counts, 0 or more (default: 1, or as the file at the path X says).
        eval_set : tuple (X, y) or (X, y, sample_weight), optional
            To evaluate on, else the rows that early_stopping holds out, else the training rows. Or a path,
            which is read as the training rows were.
        coef_init : array-like of shape (n_features,) or (n_classes, n_features), optional
        intercept_init : float or array-like of shape (n_classes,), optional
            The weights to start from (default: zero); not used where a checkpoint is resumed.

        Returns
        -------
        self : LogisticRegression

        Raises
        ------
        UsageError
            For a parameter that breaks a rule.
        DataError
            For X, y or weights that do.
        NodeDied
            If a process died and was not replaced.
        Diverged
            If the loss or the weights are not finite.
        OutOfSpace
            If the shared arrays do not fit in memory, or a checkpoint not on the disk.
        KeyboardInterrupt, or what a callback raised
            As it came. The processes are gone. The weights so far are kept, with all attributes, if training
            had begun.

        After any other error, or one before training had begun, the estimator is as it was before the call.

        Warns
        -----
        NotConverged
            If lbfgs ended before it was within tol.
        WorseThanConstant
            If the log-loss on the training rows ends above that of giving every row the classes' shares.
        UnstableRate
            If the learning rate of sgd or dist-lr is above what is stable at the delay that was measured.
        """
        with self._learner() as learner:
            learner._fit(X, y, sample_weight, eval_set, (coef_init, intercept_init))
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, eval_set: Any, init: tuple[Any, Any]) -> None:
        settings, known = self.settled(), getattr(self, "feature_names_in_", None)
        before = self._start_again(init)
        X, y, sample_weight = opened(X, y, sample_weight)
        X, origin = self._first_features(X)
        codes, classes = encoded(labels_of(y, X.shape[0]), "y")
        plain = plain_labels(classes)
        self.classes_ = array_of(plain)
        if len(classes) > _MANY_CLASSES and len(codes) < _FEW_ROWS * len(classes):
            warn(
                f"y has {len(classes):,} classes in {len(codes):,} rows, each trained against the rest; if "
                f"these are not classes, name another column of labels"
            )
        importance = importance_of(sample_weight, self.class_weight, codes, self.classes_)
        names = getattr(self, "feature_names_in_", None)
        rows, tested, measured_on = rows_of(X, codes, importance), None, "training"
        if eval_set is not None:
            tested = evaluated(eval_set, self.classes_, self.n_features_in_, names, origin)
            measured_on = "test"
        elif self.early_stopping:
            if self.memory is not None:
                raise UsageError(
                    "early_stopping copies the rows it trains on, found memory too; pass an eval_set"
                )
            chosen = held_out(codes, importance, self.validation_fraction, settings.random_state)
            rows, tested, measured_on = (
                rows.taken(np.flatnonzero(~chosen)),
                rows.taken(np.flatnonzero(chosen)),
                "validation",
            )
        if rows.num_rows < self.workers:
            raise UsageError(
                f"every worker has at least one row: {self.workers} workers, {rows.num_rows} rows"
            )
        if self.updater == "dist-lr" and any(each is not None for each in before):
            raise UsageError(
                "dist-lr's rules have a start of their own, found coef_init, intercept_init or warm_start; "
                "leave them out"
            )
        if before is not init:
            before = warm(before[0], known, names, self.n_features_in_, len(classes)), before[1]
        start = initial(*before, self.n_features_in_, bool(self.fit_intercept), len(classes))
        kept = origin.kept()
        training = Training(
            settings, relative(rows), tested, start, self._model_of, origin=kept, classes=plain
        )
        self._train(training, measured_on)

    @offered_unless(lambda self: "solver='lbfgs' needs all rows, use fit" if self.solver == "lbfgs" else "")
    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on for one epoch over these rows, from what was learned so far.

        Each row's loss is multiplied by its weight as it is, not relative to the others: a call knows only
        its own rows. The updater's state goes on too, from one such call to the next with the same updater
        and penalties, and of ftrl the same learning rate, as long as nobody sets the weights in between.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or a path
        y : array-like of shape (n_samples,); None, if X is a path
        classes : array-like of shape (n_classes,)
            All labels; needed by the first call, since y need not have them all.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self : LogisticRegression

        Raises
        ------
        As `fit` does; UsageError also for parameters of which one call knows too little: early_stopping,
        class_weight="balanced", checkpoint and resume. With solver="lbfgs" there is no such method.
        """
        with self._learner() as learner:
            learner._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        settings = self.settled()
        for name, value in {"class_weight": "balanced", "early_stopping": True}.items():
            if getattr(self, name) == value:
                raise UsageError(
                    f"partial_fit knows a part of the rows only, found {name}={value!r}; use fit"
                )
        if self.checkpoint is not None or self.resume is not None:
            raise UsageError("partial_fit keeps no checkpoints, found checkpoint or resume; use fit, or save")
        is_first = not hasattr(self, "coef_")
        if is_first:
            X, y, sample_weight = opened(X, y, sample_weight)
            X, origin = self._first_features(X)
        else:
            origin = self._origin()
            X, y, sample_weight = opened_again(X, y, sample_weight, self.n_features_in_, origin)
            X = self._features(X)
        named = self.classes_ if classes is None and not is_first else named_classes(classes)
        if not is_first and named.tolist() != self.classes_.tolist():
            raise UsageError(
                f"classes are those of the call before, {self.classes_.tolist()}; found {classes}"
            )
        codes = known_labels(labels_of(y, X.shape[0]), named, "y")
        importance = importance_of(sample_weight, self.class_weight, codes, named)
        if is_first:
            self.classes_ = named
            self._keep(initial(None, None, X.shape[1], bool(self.fit_intercept), len(named)))
        settings.solver, settings.epochs, settings.iterations = "minibatch", 1, None
        settings.workers = min(self.workers, len(codes))
        known: Any = getattr(self, "_continued", None)
        # State of another penalty has another shape, or would have it paid for updates made without it. From
        # ftrl's the weights follow, by its rate.
        rate = getattr(settings.make_updater(unpenalized=-1), "alpha", None)
        kind = settings.held("updater"), self.l1, self.l2, self.fit_intercept, rate
        goes_on = known is not None and known[1] == kind and np.array_equal(known[0], self._weights())
        rows, restored = rows_of(X, codes, importance), known[2] if goes_on else None
        training = Training(
            settings, rows, None, self._weights(), self._model_of, restored, True, origin.kept()
        )
        self._train(training, "training")
        self._continued = self._weights().copy(), kind, training.parameters

    @contextlib.contextmanager
    def _learner(self) -> Iterator[Self]:
        """Train a copy, so that an error before there is a result leaves this estimator unchanged.

        The learned attributes are taken over if there is a result, also that of an interrupted training.
        """
        learner = copy.copy(self)
        try:
            yield learner
        finally:
            result = vars(learner).get("result_")
            if result is not None and result is not vars(self).get("result_"):
                own = {name: value for name, value in vars(self).items() if name not in _LEARNED}
                learned = {name: value for name, value in vars(learner).items() if name in _LEARNED}
                self.__dict__ = own | learned  # at once: a signal, or another thread, finds one or the other

    def _start_again(self, init: tuple[Any, Any]) -> tuple[Any, Any]:
        """Remove what an earlier fit learned; return the coefficients and intercept to start from.

        They are `init` (each may be None), or those of the earlier fit if there is a warm start.
        """
        before = init
        if self.warm_start and hasattr(self, "coef_") and init[0] is None:
            before = self.coef_, self.intercept_ if self.fit_intercept else None
        for learned in _LEARNED:
            self.__dict__.pop(learned, None)
        return before

    def _train(self, training: Training, measured_on: str) -> None:
        self.history_ = training.history
        try:
            training.run()
        finally:
            if training.weights is not None:
                self._keep(training.weights)
                self.n_iter_, self.staleness_ = training.iterations, training.delays
                self.result_ = training.result(measured_on)
        stability = self.result_.stability
        if advice := training.advice:
            warn(advice, NotConverged)
        if advice := self.result_.advice:
            warn(advice, WorseThanConstant)
        if stability and stability.advice:
            warn(stability.advice, UnstableRate)
