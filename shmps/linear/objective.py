"""The objective on rows in one process: mean loss and its gradient, log-loss and metrics.

Weights and gradients are (n,), the intercept's last; with more than two classes (n, classes). Passes over
many rows are made in pieces, and a worker beats after each.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from shmps.data.rows import Rows
from shmps.linear.kernels import BLOCK, class_gradients, class_margins, gradient, margins
from shmps.models.links import ONE_AGAINST_REST, Link
from shmps.models.metrics import Metrics, evaluate, evaluate_classes, losses

_PIECE = 2**25  # non-zeros between two beats: a tenth of a second
_MARGINS = 2**16  # that `log_loss` holds at a time
CLASSES = 16  # whose margins `measure` holds at a time


def mean_gradient(
    rows: Rows,
    weights: np.ndarray,
    intercept: bool,
    total: int,
    out: np.ndarray,
    beat: Callable[[], None] = lambda: None,
) -> float:
    """Write the rows' part of the mean gradient over `total` rows to `out`; return their part of the mean
    loss.

    Calls `beat` after each piece.
    """
    weights = weights.view()
    weights.flags.writeable = False  # as a look is: kernels compile for one type of arrays
    out[:] = 0.0
    loss, kernel = 0.0, gradient if weights.ndim == 1 else class_gradients
    for piece in pieces(rows, BLOCK, math.prod(weights.shape[1:])):
        curvatures = np.empty((piece.num_rows, *weights.shape[1:]))  # which full gradients use alone
        loss += kernel(*piece, weights, intercept, total, out, curvatures)
        beat()
    return loss


def pieces(rows: Rows, multiple: int, problems: int = 1) -> Iterator[Rows]:
    """Yield the rows in pieces between which a worker beats; each but the last has a multiple of `multiple`
    rows.
    """
    step = max(_PIECE * rows.num_rows // max(rows.nonzeros * problems, 1) // multiple, 1) * multiple
    for begin in range(0, rows.num_rows, step):
        yield rows.part(begin, min(begin + step, rows.num_rows))


def measure(
    rows: Rows,
    weights: np.ndarray,
    intercept: bool,
    whole: Callable[[np.ndarray], np.ndarray] = lambda weights: weights,
    link: Link = ONE_AGAINST_REST,
) -> Metrics:
    """Return the metrics of `weights` on `rows`.

    whole: maps weights (k, ...) to the weights (n, ...) that the rows' indices refer to. link: of more than
    two classes.
    """
    if weights.ndim > 1:
        of_class = _MarginsOfClass(rows, weights, intercept, whole)
        return evaluate_classes(of_class, weights.shape[1], rows.labels, rows.importance, link)
    weights, out, begin = whole(weights), np.empty(rows.num_rows), 0
    for part in rows.parts():
        end = begin + part.num_rows
        margins(part.indptr, part.indices, part.data, weights, intercept, out[begin:end])
        begin = end
    return evaluate(out, rows.labels, rows.importance)


class _MarginsOfClass:
    """Returns the margins (rows,) of a class. A pass over the rows computes those of several classes."""

    def __init__(
        self,
        rows: Rows,
        weights: np.ndarray,
        intercept: bool,
        whole: Callable[[np.ndarray], np.ndarray],
    ):
        self._rows, self._weights, self._intercept, self._whole = rows, weights, intercept, whole
        self._found = np.empty((min(CLASSES, weights.shape[1]), rows.num_rows))
        self._first = -1  # the class of _found[0]

    def __call__(self, number: int) -> np.ndarray:
        place = number % len(self._found)
        if self._first != number - place:
            self._first = number - place
            self._compute()
        return self._found[place]

    def _compute(self) -> None:
        several = self._weights[:, self._first : self._first + len(self._found)]
        weights, begin = self._whole(np.ascontiguousarray(several)), 0
        for part in self._rows.parts():
            end = begin + part.num_rows
            out = self._found[: several.shape[1], begin:end]
            class_margins(part.indptr, part.indices, part.data, weights, self._intercept, out)
            begin = end


def log_loss(rows: Rows, weights: np.ndarray, intercept: bool, link: Link = ONE_AGAINST_REST) -> float:
    """Return the log-loss alone, as `measure` does, in one pass and little memory beside the rows."""
    columns = np.ascontiguousarray(weights.reshape(len(weights), -1))
    step, total, mass = max(_MARGINS // columns.shape[1], 1), 0.0, 0.0
    for begin in range(0, rows.num_rows, step):
        part = rows.part(begin, min(begin + step, rows.num_rows))
        found = np.empty((columns.shape[1], part.num_rows))
        class_margins(part.indptr, part.indices, part.data, columns, intercept, found)
        each = losses(found[0] if weights.ndim == 1 else found.T, part.labels, link)
        total += float(each.sum() if part.importance is None else each @ part.importance)
        mass += part.num_rows if part.importance is None else float(part.importance.sum())
    return total / mass
