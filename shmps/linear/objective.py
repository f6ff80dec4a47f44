"""The objective on rows in one process: mean loss and its gradient, log-loss and metrics.

Weights and gradients are (n,), the intercept's last; with more than two classes (n, classes). Passes over
many rows are made in pieces, and a worker beats after each.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from shmps.data.rows import Rows
from shmps.linear.kernels import BLOCK, class_gradients, gradient, margins
from shmps.models.metrics import Metrics, evaluate, evaluate_classes, losses

_PIECE = 2**25  # non-zeros between two beats: a tenth of a second
_MARGINS = 2**16  # that `log_loss` holds at a time


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
) -> Metrics:
    """Return the metrics of `weights` on `rows`.

    whole: maps the weights of one problem (k,) to the weights (n,) that the rows' indices refer to.
    """

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
    """Return the log-loss alone, as `measure` does, in one pass and little memory beside the rows."""
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
    """Compile for writable (pull) and read-only (look) weights: numba treats them as different types."""
    weights, out = np.zeros(shape), np.empty(shape)
    mean_gradient(rows, weights, intercept, 1, out)
    weights.flags.writeable = False
    mean_gradient(rows, weights, intercept, 1, out)
