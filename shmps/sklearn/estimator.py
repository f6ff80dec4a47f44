"""LogisticRegression: scikit-learn's conventions around a training on processes, without importing it."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from shmps.data.reading import opened
from shmps.data.rows import rows_of
from shmps.errors import NotConverged, UsageError, warn
from shmps.linear.bar import shown_if_verbose
from shmps.linear.defaults import L2_OF_PARTS, settle_penalties, settle_workers, workers_for
from shmps.linear.parameters import DECLARED, Parameters
from shmps.linear.settings import Settings
from shmps.linear.training import Training
from shmps.models.model import array_of
from shmps.sklearn.classifier import LinearClassifier
from shmps.sklearn.conventions import naming_parameters, offered_unless, warning_known_to_sklearn
from shmps.sklearn.docstring import with_parameters
from shmps.sklearn.inputs import evaluated, opened_again, split
from shmps.sklearn.labels import known_codes, listed, named_classes, training_labels
from shmps.sklearn.start import check_start, initial, warm
from shmps.sklearn.weights import importance_of, relative

_Start = tuple[Any, Any]  # coefficients and intercept to start from, each may be None
_LEARNED = (
    "coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_", "n_iter_", "history_",
    "staleness_", "result_", "_continued",
)  # fmt: skip


def _why_no_parts(estimator: Any) -> str:
    """Return why the parameters exclude `partial_fit`; "" if they do not."""
    if estimator.solver == "lbfgs":
        return "solver='lbfgs' needs all rows, use fit"
    if estimator.C is not None or estimator.l1_ratio:
        return (
            "C and l1_ratio are relative to all rows, of which partial_fit knows a part only; give l1 and "
            "l2, or use fit"
        )
    return ""


@naming_parameters
@with_parameters(DECLARED)
class LogisticRegression(LinearClassifier, Parameters):
    """Sparse logistic regression, trained by worker and server processes.

    It minimises (1 / sum_i s_i) sum_i s_i log(1 + exp(-y_i (x_i.w + b))) + l2/2 |w|^2 + l1 |w|_1 over the
    rows. s_i is the weight of the row (default: 1) times the weight of its class. The intercept b has no
    penalty. With more than two classes, each class has a w and a b, and `multi_class` sets the loss of a row
    of class c: log(sum_k exp(x.w_k + b_k)) - x.w_c - b_c (multinomial), or the sum of the losses of each
    class against the rest (ovr). The servers keep the classes side by side, one row per feature, and all
    classes learn in the same passes over the rows.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        With two classes there is one row, and margins are positive for the second class.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the columns, if X is a table with strings as column names, or CSV. `predict` and
        `partial_fit` expect the same columns in the same order; of CSV in any order.
    n_iter_ : int
        Iterations of the busiest worker (L-BFGS: rounds), up to the evaluation that stopped it.
    history_ : list of shmps.linear.result.Evaluation
        The evaluations. Their metrics weight the rows.
    staleness_ : shmps.linear.result.Delays
        Versions of the weights between a pull and its push.
    result_ : shmps.linear.result.Result
        Settings, metrics, times, delays and events of the training.

    References
    ----------
    .. [1] Niu et al., Hogwild!, NIPS 2011.
    .. [2] Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NIPS
       2013.
    .. [3] Nocedal, Updating Quasi-Newton Matrices with Limited Storage, Mathematics of Computation 1980.
    .. [4] Duchi et al., Adaptive Subgradient Methods, JMLR 2011.
    .. [5] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013.
    .. [6] Ross et al., Normalized Online Learning, UAI 2013.
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
        X : array-like or sparse matrix of shape (n_samples, n_features), or path-like
            Finite numbers. CSR with float64 values is read in place, anything else is copied once. Or the
            path of a text (svmlight, or CSV that ends with .csv) or of mapped data.
        y : array-like of shape (n_samples,)
            Labels of two classes or more. None if X is a path.
        sample_weight : array-like of shape (n_samples,), optional
            The weight of each row, 0 or more (default: 1, or the row weights in the file X).
        eval_set : tuple (X, y) or (X, y, sample_weight), or path-like, optional
            Rows to evaluate on (default: the rows that early_stopping holds out, or the training rows). A
            path is read as the training rows were.
        coef_init : array-like of shape (n_features,) or (n_classes, n_features), optional
        intercept_init : float or array-like of shape (n_classes,), optional
            The weights to start from (default: zero). A resumed checkpoint replaces them.

        Returns
        -------
        self : LogisticRegression

        Raises
        ------
        UsageError
            If a parameter breaks a rule.
        DataError
            If X, y or the weights break a rule.
        NodeDied
            If a process died and was not replaced.
        Diverged
            If the loss or the weights are not finite.
        OutOfSpace
            If the shared arrays do not fit in memory, or a checkpoint not on the disk.
        KeyboardInterrupt, or what a callback raised
            Unchanged, after the processes have ended. If training had begun, the weights so far are kept,
            with all attributes.

        After any other error, or one before training had begun, the estimator is as it was before the call.

        Warns
        -----
        NotConverged
            If L-BFGS ended before it was within tol, or minibatches ended far from the optimum.
        WorseThanConstant
            If the log-loss on the training rows ends above that of the model that predicts class shares.
        ReplayDiffers
            If a replay under the recorded settings ends with other bits.
        UnstableRate
            If the learning rate of sgd or dist-lr is above the highest stable one at the measured delay.
        """
        return self._fit(Settings.of(self), X, y, sample_weight, eval_set, (coef_init, intercept_init))

    def _fit(self, settings: Settings, *data: Any) -> Self:
        """`fit` with settings that are checked. The command line checks them before it reads a long file."""
        with self._learner() as learner:
            learner._learn(settings, *data)
        return self

    def _learn(
        self, settings: Settings, X: Any, y: Any, sample_weight: Any, eval_set: Any, init: _Start
    ) -> None:
        known = getattr(self, "feature_names_in_", None)
        before = self._start_again(init)
        X, y, sample_weight = opened(X, y, sample_weight)
        X, origin = self._first_features(X)
        codes, classes = training_labels(y, X.shape[0])
        self.classes_ = array_of(classes)
        importance = importance_of(sample_weight, settings.class_weight, codes, self.classes_)
        names = getattr(self, "feature_names_in_", None)
        rows, tested, measured_on = rows_of(X, codes, importance), None, "training"
        if settings.early_stopping is None:
            settings.early_stopping = eval_set is not None and not settings.by_lbfgs()
        if eval_set is not None:
            tested = evaluated(eval_set, self.classes_, self.n_features_in_, names, origin)
            measured_on = "validation" if settings.early_stopping else "test"
        elif settings.early_stopping:
            rows, tested = split(rows, settings)
            measured_on = "validation"
        settle_workers(settings, rows.num_rows, rows.nonzeros, len(classes))
        settle_penalties(settings, rows)
        check_start(settings, before)
        if before is not init:
            before = warm(before[0], known, names, self.n_features_in_, len(classes)), before[1]
        start = initial(*before, self.n_features_in_, bool(settings.fit_intercept), len(classes))
        kept = origin.kept()
        with shown_if_verbose(settings):
            training = Training(
                settings, relative(rows), tested, start, self._model_of, origin=kept, classes=classes
            )
            self._train(training, measured_on)

    @offered_unless(_why_no_parts)
    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """Continue for one epoch over these rows, from what was learned so far.

        The loss of each row is multiplied by its weight as it is, not relative to the other weights: a call
        knows only its own rows. The state of the updater continues from call to call too, if updater and
        penalties (ftrl: the learning rate too) are the same and nobody sets the weights in between.
        More than two classes are trained one against the rest, also after a `fit` that was multinomial.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or path-like
        y : array-like of shape (n_samples,)
            None if X is a path.
        classes : array-like of shape (n_classes,)
            All labels. The first call needs them, since y need not have all of them.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self : LogisticRegression

        Raises
        ------
        As `fit` does. UsageError also for parameters that need all rows: early_stopping,
        class_weight="balanced", multi_class="multinomial", checkpoint and resume. With solver="lbfgs", C
        or l1_ratio this method does not exist.
        """
        with self._learner() as learner:
            learner._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        settings = Settings.of(self)
        all_rows = {"class_weight": "balanced", "early_stopping": True, "multi_class": "multinomial"}
        for name, value in all_rows.items():
            if getattr(settings, name) == value:
                raise UsageError(
                    f"partial_fit knows a part of the rows only, got {{{name}.given}}; use fit",
                    **{name: value},
                )
        files = {name: getattr(settings, name) for name in ("checkpoint", "resume", "record", "replay")}
        if any(path is not None for path in files.values()):
            got = ", ".join(f"{{{name}.given}}" for name, path in files.items() if path is not None)
            raise UsageError(
                f"partial_fit keeps no checkpoints and no journal, got {got}; use fit, or save", **files
            )
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
                f"classes must be those of the call before, {listed(self.classes_.tolist())}, got "
                f"{classes!r:.80}"
            )
        codes = known_codes(y, X.shape[0], named, "y")
        importance = importance_of(sample_weight, settings.class_weight, codes, named)
        if is_first:
            self.classes_ = named
            self._keep(initial(None, None, X.shape[1], bool(settings.fit_intercept), len(named)))
        settings.solver, settings.epochs, settings.iterations = "minibatch", 1, None
        settings.workers = min(settings.workers or workers_for(len(codes), X.nnz, len(named)), len(codes))
        settings.l2 = L2_OF_PARTS if settings.l2 is None else settings.l2
        known: Any = getattr(self, "_continued", None)
        # The state under another penalty has another shape, or would charge the penalty for updates made
        # without it. The weights of ftrl follow from its state and its rate.
        rate = settings.learning_rate if settings.updater == "ftrl" else None
        kind = settings.held("updater"), settings.l1, settings.l2, settings.fit_intercept, rate
        goes_on = known is not None and known[1] == kind and np.array_equal(known[0], self._weights())
        rows, restored = rows_of(X, codes, importance), known[2] if goes_on else None
        with shown_if_verbose(settings):
            training = Training(
                settings, rows, None, self._weights(), self._model_of, restored, True, origin.kept()
            )
            self._train(training, "training")
        self._continued = self._weights().copy(), kind, training.continuation

    @contextlib.contextmanager
    def _learner(self) -> Iterator[Self]:
        """Train a copy, so that an error before there is a result leaves this estimator unchanged.

        If there is a result, of an interrupted training too, this estimator gets the learned attributes.
        """
        learner = copy.copy(self)
        try:
            yield learner
        finally:
            result = vars(learner).get("result_")
            if result is not None and result is not vars(self).get("result_"):
                own = {name: value for name, value in vars(self).items() if name not in _LEARNED}
                learned = {name: value for name, value in vars(learner).items() if name in _LEARNED}
                self.__dict__ = own | learned  # at once: a signal or another thread sees either of them whole

    def _start_again(self, init: _Start) -> _Start:
        """Remove what an earlier fit learned. Return `init`, or for a warm start the earlier weights."""
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
        unstable = None if stability is None else stability.advice
        replay = None if training.replayed is None else training.replayed.advice
        for advice in training.advice, self.result_.advice, self.result_.shortfall, unstable, replay:
            if isinstance(advice, NotConverged):
                warn(warning_known_to_sklearn(advice, "ConvergenceWarning"))
            elif advice is not None:
                warn(advice)
