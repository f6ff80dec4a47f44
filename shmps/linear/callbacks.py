"""Callbacks: what a program learns of a training while it runs, and how it stops one.

Pass them as `LogisticRegression(callbacks=[...])`. `Callback` documents the methods; each is optional, and an
object of any class will do.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from shmps.checks import not_negative, whole
from shmps.errors import UsageError, verbatim
from shmps.linear.result import Evaluation, finite
from shmps.models import formats
from shmps.models.model import Model
from shmps.ps.events import Event
from shmps.system import files

METHODS = ("on_start", "on_progress", "on_event", "on_evaluation", "on_model")


class Callback:
    """The base class of callbacks, which documents their methods. Deriving from it is optional.

    Methods run in the process and the thread that called `fit` or `partial_fit`, one at a time, in the order
    of the list. Minibatch workers continue meanwhile; L-BFGS rounds, and the replacement of a dead node, wait
    until the method returns.

    A method may raise: the processes end, and `fit` raises the same exception. If training had begun, the
    estimator keeps the weights so far (with early_stopping: the best ones), as after Ctrl-C.

    Without a `test_interval`, callbacks that have `on_evaluation` or `on_model` get one evaluation per epoch
    (L-BFGS: per round). Minibatch trainings evaluate at least once, at the latest after the last iteration.
    """

    def on_start(self) -> None:
        """Run once at the start of every training, before its processes start."""

    def on_progress(self, done: int, planned: int) -> None:
        """Run a few times per second, and at the end, with the ticks of all workers: done, and planned.

        `planned` is an upper bound. `done` includes the ticks of a resumed checkpoint and, with L-BFGS, the
        pushes of the curvature.
        """

    def on_event(self, event: Event) -> None:
        """Run for each event: a node died or hung, and what came of it; a worker joined or left.

        `event.at` is a `time.monotonic()` value; in `result_.events`, seconds since the start.
        """

    def on_evaluation(self, evaluation: Evaluation) -> bool | None:
        """Run after each evaluation (`shmps.linear.result.Evaluation`). Return True to stop the training.

        The other callbacks get the evaluation too. The result has the weights that were evaluated, whatever
        the workers did meanwhile: so a stopped sync training is bit-reproducible if its callbacks are.
        """
        return None

    def on_model(self, evaluation: Evaluation, model: Model) -> None:
        """Run after each evaluation with the model that was evaluated, before any `on_evaluation`.

        The callback may keep the model: every evaluation has its own weights.
        """


class EarlyStopping(Callback):
    """Stop when the log-loss makes no more progress.

    Parameters
    ----------
    n_iter_no_change : int, default=5
        Stop after this many consecutive evaluations without progress.
    tol : float, default=1e-4
        Relative tolerance: an evaluation makes progress if its log-loss is below (1 - tol) times the least
        log-loss so far.

    Raises
    ------
    UsageError
        If a parameter is out of range.
    """

    def __init__(self, n_iter_no_change: int = 5, tol: float = 1e-4):
        self.n_iter_no_change = whole("n_iter_no_change", n_iter_no_change, least=1)
        self.tol = not_negative("tol", tol)
        self.on_start()

    def on_start(self) -> None:
        self._least, self._waited = math.inf, 0

    def on_evaluation(self, evaluation: Evaluation) -> bool:
        loss = evaluation.metrics.log_loss
        self._waited = 0 if loss < self._least * (1 - self.tol) else self._waited + 1
        self._least = min(self._least, loss)
        return self._waited >= self.n_iter_no_change


class History(Callback):
    """Collect the evaluations of all trainings in `rows`: flat dicts, which `pandas.DataFrame` accepts."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self.rows.append(flat(evaluation))


class JsonLines(Callback):
    """Append every evaluation to a file as one line of JSON.

    Parameters
    ----------
    path : path-like
        The file. It is created if it does not exist.

    Raises
    ------
    OSError
        If the file cannot be written. This ends the training.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_evaluation(self, evaluation: Evaluation) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite(flat(evaluation))) + "\n")


class ModelCheckpoint(Callback):
    """Save the model after each evaluation, replacing the previous file.

    The file survives if every process is killed, and is whole at every instant. It holds a model to predict
    with; to resume the training itself, use `LogisticRegression(checkpoint=...)`.

    Parameters
    ----------
    path : path-like
        The file. The suffix sets the format, as in `shmps.save`.
    only_best : bool, default=False
        Save a model only if it has the least log-loss so far in this training.

    Raises
    ------
    DataError, OutOfSpace
        If the file cannot be written. This ends the training; if the folder is missing, at its start.
    """

    def __init__(self, path: str | os.PathLike[str], only_best: bool = False):
        self.path, self.only_best = path, only_best

    def on_start(self) -> None:
        self._least = math.inf
        files.check_target(os.fsdecode(self.path), "model")

    def on_model(self, evaluation: Evaluation, model: Model) -> None:
        loss = evaluation.metrics.log_loss
        if model.is_finite and (loss < self._least or not self.only_best):  # otherwise fit raises Diverged
            formats.save(model, self.path)
        self._least = min(self._least, loss)


def flat(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as a dict without nesting: metrics and delays have keys of their own."""
    metrics, delays = evaluation.metrics, evaluation.delays
    return {
        "iteration": evaluation.iteration,
        "seconds": evaluation.seconds,
        "ticks": evaluation.ticks,
        **vars(metrics),
        "delay_p50": delays.p50,
        "delay_p99": delays.p99,
        "delay_max": delays.max,
        "samples_per_second": evaluation.samples_per_second,
    }


class CallbackList:
    """Calls the methods that the callbacks of a training have, in the order of the list."""

    def __init__(self, callbacks: Sequence[Any] | None):
        self._methods = {name: _methods(name, callbacks or ()) for name in METHODS}

    @property
    def needs_evaluations(self) -> bool:
        return bool(self._methods["on_evaluation"] or self._methods["on_model"])

    @property
    def needs_models(self) -> bool:
        return bool(self._methods["on_model"])

    def on_start(self) -> None:
        self._call("on_start")

    def on_progress(self, done: int, planned: int) -> None:
        self._call("on_progress", done, planned)

    def on_event(self, event: Event) -> None:
        self._call("on_event", event)

    def on_evaluation(self, evaluation: Evaluation) -> bool:
        """Return whether a callback asks to stop. All of them get the evaluation."""
        return any(self._call("on_evaluation", evaluation))

    def on_model(self, evaluation: Evaluation, model: Model) -> None:
        self._call("on_model", evaluation, model)

    def _call(self, name: str, *args: Any) -> list[Any]:
        return [method(*args) for method in self._methods[name]]


def check_callbacks(callbacks: Sequence[Any] | None) -> None:
    """Raise UsageError unless `callbacks` is None or has objects with methods of a callback only."""
    for each in callbacks or ():
        own = [getattr(each, name) for name in METHODS if hasattr(each, name)]
        if isinstance(each, type) or not own or not all(map(callable, own)):
            raise UsageError(
                f"{{callbacks}} must be objects with at least one of the methods {', '.join(METHODS)}, got "
                f"{verbatim(f'{each!r:.80}')}; derive from shmps.callbacks.Callback, and pass an instance",
                callbacks=callbacks,
            )


def _methods(name: str, callbacks: Sequence[Any]) -> list[Callable[..., Any]]:
    """Return the method `name` of each callback that has one; those of `Callback` itself do nothing."""
    methods = (getattr(each, name, None) for each in callbacks)
    base = getattr(Callback, name)
    return [method for method in methods if method and getattr(method, "__func__", None) is not base]
