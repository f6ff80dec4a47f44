"""What happens to the iterates of a training: metrics, callbacks, early stopping."""

from collections.abc import Callable

import numpy as np

from shmps.data.rows import Rows
from shmps.linear.callbacks import CallbackList
from shmps.linear.columns import Columns
from shmps.linear.objective import log_loss, measure
from shmps.linear.plan import Iterate
from shmps.linear.result import Delays, Evaluation
from shmps.models.links import ONE_AGAINST_REST, Link
from shmps.models.metrics import Metrics, constant_log_loss
from shmps.models.model import Model


class Evaluator:
    """Evaluates iterates on the rows `tested`, or on the training `rows`, and passes them to the callbacks.

    Weights are those of the features that take part (see `Columns`). keeps_best: whether the training ends
    with the iterate of the least log-loss. model_of: makes a model from the weights of all features. link: of
    more than two classes. stops_at: the iteration whose evaluation stops the training, besides the callbacks.
    """

    def __init__(
        self,
        rows: Rows,
        tested: Rows | None,
        columns: Columns,
        intercept: bool,
        callbacks: CallbackList,
        keeps_best: bool,
        model_of: Callable[[np.ndarray], Model],
        link: Link = ONE_AGAINST_REST,
        stops_at: int | None = None,
    ):
        self._rows, self._tested, self._columns, self._intercept = rows, tested, columns, intercept
        self._callbacks, self._keeps_best, self._model_of = callbacks, keeps_best, model_of
        self._link, self._stops_at = link, stops_at
        self._best: tuple[float, Iterate] | None = None
        self.stopped_at: Iterate | None = None  # the iterate at which the training stopped
        self.history: list[Evaluation] = []

    def is_due(self, iterate: Iterate) -> bool:
        """Return whether to evaluate the iterate: not after a stop, and not twice.

        A respawned worker reports an iterate again, since the dead worker may not have reported it.
        """
        return self.stopped_at is None and not (
            self.history and iterate.iteration == self.history[-1].iteration
        )

    def evaluate(self, iterate: Iterate, seconds: float, delays: Delays, samples_per_second: float) -> bool:
        """Evaluate the iterate, and call the callbacks. Return whether the training stops."""
        evaluation = Evaluation(
            iteration=iterate.iteration,
            seconds=seconds,
            ticks=iterate.ticks,
            metrics=self.measure(iterate.weights),
            delays=delays,
            samples_per_second=samples_per_second,
        )
        self.history.append(evaluation)
        loss = evaluation.metrics.log_loss
        if self._keeps_best and (self._best is None or loss < self._best[0]):
            self._best = loss, iterate
        if self._callbacks.needs_models:
            self._callbacks.on_model(evaluation, self._model_of(self._columns.whole(iterate.weights)))
        if self._callbacks.on_evaluation(evaluation) or iterate.iteration == self._stops_at:
            self.stopped_at = iterate
        return self.stopped_at is not None

    def measure(self, weights: np.ndarray) -> Metrics:
        """Return the metrics of `weights` on the rows that are evaluated."""
        if self._tested is None:
            return measure(self._rows, weights, self._intercept, link=self._link)
        return measure(self._tested, weights, self._intercept, self._columns.whole, self._link)

    def training_log_losses(self, weights: np.ndarray, measured: Metrics) -> tuple[float, float]:
        """Return the log-losses of `weights`, whose metrics are `measured`, and of the constant model.

        Both are on the training rows, whichever rows are evaluated.
        """
        loss = measured.log_loss
        if self._tested is not None:
            loss = log_loss(self._rows, weights, self._intercept, self._link)
        return loss, constant_log_loss(self._rows.labels, self._rows.importance)

    def chosen(self) -> np.ndarray | None:
        """Return the weights that the training ends with: the best, or those at the stop; None: the last."""
        if self._best is not None:
            return self._best[1].weights
        return None if self.stopped_at is None else self.stopped_at.weights
