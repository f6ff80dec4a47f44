"""What may be told of every evaluation of a training, and end it.

A callback runs in the process that called `fit`, beside the workers, which do not wait for it. If one says
stop, the weights that are kept are those that were evaluated, whatever the workers have done meanwhile: so a
sync training that is stopped is bit-reproducible too, as long as the callback is.
"""

import json
import math
import os
from typing import Any

from shmps.checks import not_negative, whole
from shmps.linear.result import Progress, finite
from shmps.models import formats
from shmps.models.model import Model
from shmps.system import files


class Callback:
    """The base class; anything with an `on_evaluation` will do.

    One that has `on_model(progress, model)` too gets the model that was evaluated, before anyone is asked
    whether to stop. It may keep it: every evaluation has weights of its own.
    """

    def on_start(self) -> None:
        """A training is about to begin."""

    def on_evaluation(self, progress: Progress) -> bool | None:
        """An evaluation was made. True: stop, and keep the weights that were evaluated."""
        return None


class EarlyStopping(Callback):
    """Stops when the log-loss has not fallen for a while.

    Parameters
    ----------
    n_iter_no_change : int, default=5
        Stop after so many evaluations in a row without progress.
    tol : float, default=1e-4
        Progress is a log-loss below the least so far by more than this share of it.

    Raises
    ------
    UsageError
        For numbers out of range.
    """

    def __init__(self, n_iter_no_change: int = 5, tol: float = 1e-4):
        self.n_iter_no_change = whole("n_iter_no_change", n_iter_no_change, least=1)
        self.tol = not_negative("tol", tol)
        self.on_start()

    def on_start(self) -> None:
        self._least, self._waited = math.inf, 0

    def on_evaluation(self, progress: Progress) -> bool:
        loss = progress.metrics.log_loss
        self._waited = 0 if loss < self._least * (1 - self.tol) else self._waited + 1
        self._least = min(self._least, loss)
        return self._waited >= self.n_iter_no_change


class History(Callback):
    """Keeps every evaluation, over all trainings, in `rows`: flat dicts, as `pandas.DataFrame` takes them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_evaluation(self, progress: Progress) -> None:
        self.rows.append(flat(progress))


class JsonLines(Callback):
    """Appends every evaluation to a file, as a JSON object in a line of its own.

    Parameters
    ----------
    path : path-like
        The file; it is made if there is none.

    Raises
    ------
    OSError
        If it cannot be written. That ends the training.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_evaluation(self, progress: Progress) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite(flat(progress))) + "\n")


class Checkpoint(Callback):
    """Saves the model that was evaluated, each in place of the one before: what is left if all is killed.

    The file is whole at every instant. It is a model to predict with; to go on with the training itself is
    what `LogisticRegression(checkpoint=...)` is for.

    Parameters
    ----------
    path : path-like
        The file; its suffix decides the format, as in `shmps.save`.
    only_best : bool, default=False
        Save only what has the least log-loss so far of this training.

    Raises
    ------
    DataError, OutOfSpace
        If it cannot be written. That ends the training, or refuses it where its folder is missing.
    """

    def __init__(self, path: str | os.PathLike[str], only_best: bool = False):
        self.path, self.only_best = path, only_best

    def on_start(self) -> None:
        self._least = math.inf
        files.check_target(os.fsdecode(self.path), "model")

    def on_model(self, progress: Progress, model: Model) -> None:
        loss = progress.metrics.log_loss
        if model.is_finite and (loss < self._least or not self.only_best):  # else it ends as Diverged
            formats.save(model, self.path)
        self._least = min(self._least, loss)


def flat(progress: Progress) -> dict[str, Any]:
    """Iteration, seconds, ticks, the metrics, the delays, samples per second: by name, without nesting."""
    metrics, delays = progress.metrics, progress.delays
    return {
        "iteration": progress.iteration,
        "seconds": progress.seconds,
        "ticks": progress.ticks,
        **vars(metrics),
        "delay_p50": delays.p50,
        "delay_p99": delays.p99,
        "delay_max": delays.max,
        "samples_per_second": progress.samples_per_second,
    }
