"""Passes over rows in one process: gradients and metrics, in pieces between which it says that it lives.

Weights, and gradients, are (n,) with the intercept's last; of more than two classes (n, classes).
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from shmps.data.rows import Rows
from shmps.linear.kernels import BLOCK, class_gradients, gradient, margins
from shmps.models.metrics import Metrics, evaluate, evaluate_classes, losses

_PIECE = 2**25  # non-zeros between two signs of life: a tenth of a second
_MARGINS = 2**16  # that `log_loss` has at a time


def mean_gradient(
    rows: Rows,
    weights: np.ndarray,
    intercept: bool,
    total: int,
    out: np.ndarray,
    beat: Callable[[], None] = lambda: None,
) -> float:
    """The rows' part of the mean gradient over `total` rows into `out`; returns their part of the mean loss.

    With signs of life where it takes long.
    """
    out[:] = 0.0
    loss, kernel = 0.0, gradient if weights.ndim == 1 else class_gradients
    for piece in pieces(rows, BLOCK, math.prod(weights.shape[1:])):
        loss += kernel(*piece, weights, intercept, total, out)
        beat()
    return loss


def pieces(rows: Rows, multiple: int, problems: int = 1) -> Iterator[Rows]:
    """The rows in parts between which a sign of life is due, cut at multiples of so many rows."""
    step = max(_PIECE * rows.num_rows // max(rows.nonzeros * problems, 1) // multiple, 1) * multiple
    for begin in range(0, rows.num_rows, step):
        yield rows.part(begin, min(begin + step, rows.num_rows))


def measure(
    rows: Rows,
    weights: np.ndarray,
    intercept: bool,
    whole: Callable[[np.ndarray], np.ndarray] = lambda weights: weights,
) -> Metrics:
    """Metrics of `weights` on `rows`; `whole` makes of those of one problem (k,) what the rows point into."""

    def margins_of(own: np.ndarray) -> np.ndarray:
        own, out, begin = whole(own), np.empty(rows.num_rows), 0
        for part in rows.parts():
            end = begin + part.num_rows
            margins(part.indptr, part.indices, part.data, own, intercept, out[begin:end])
            begin = end
        return out

    if weights.ndim == 1:
        return evaluate(margins_of(weights), rows.labels, rows.importance)
    each = (np.ascontiguousarray(weights[:, number]) for number in range(weights.shape[1]))
    return evaluate_classes(map(margins_of, each), rows.labels, rows.importance)


def log_loss(rows: Rows, weights: np.ndarray, intercept: bool) -> float:
    """The log-loss that `measure` finds, alone: one pass that takes little memory beside the rows."""
    columns = np.ascontiguousarray(weights.reshape(len(weights), -1).T)
    step, total, mass = max(_MARGINS // len(columns), 1), 0.0, 0.0
    for begin in range(0, rows.num_rows, step):
        part = rows.part(begin, min(begin + step, rows.num_rows))
        found = np.empty((len(columns), part.num_rows))
        for own, out in zip(columns, found, strict=True):
            margins(part.indptr, part.indices, part.data, own, intercept, out)
        each = losses(found[0] if weights.ndim == 1 else found.T, part.labels)
        total += float(each.sum() if part.importance is None else each @ part.importance)
        mass += part.num_rows if part.importance is None else float(part.importance.sum())
    return total / mass


def warm_up_gradient(rows: Rows, shape: tuple[int, ...], intercept: bool) -> None:
    """With weights as a pull gives them, and as a look: read-only is another type to numba."""
    weights, out = np.zeros(shape), np.empty(shape)
    mean_gradient(rows, weights, intercept, 1, out)
    weights.flags.writeable = False
    mean_gradient(rows, weights, intercept, 1, out)
