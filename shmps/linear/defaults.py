"""What follows from the rows where it is not given: the number of workers, and the penalties per row."""

import math

from shmps.data.rows import Rows
from shmps.errors import UsageError
from shmps.linear.settings import Settings
from shmps.system.parallel import usable_cores

LEAST_NONZEROS = 200_000  # per worker: one more takes about 5 ms, as do 15 gradients of these (1.5 ns each)
L2_OF_PARTS = 1e-5  # of `partial_fit`, which does not know how many rows there will be


def workers_for(rows: int, nonzeros: int, classes: int) -> int:
    """Return the number of workers for so many rows: the usable cores, fewer where rows are few."""
    outputs = classes if classes > 2 else 1  # each of which takes a product for every non-zero
    most = min(rows, nonzeros * outputs // LEAST_NONZEROS)
    return min(usable_cores(), most) if most > 1 else 1  # asking the system takes as long as a small training


def settle_workers(settings: Settings, rows: int, nonzeros: int, classes: int) -> None:
    """Set the number of workers if it is not given. Raises UsageError for more workers than rows."""
    if settings.workers is None:
        settings.workers = workers_for(rows, nonzeros, classes)
        settings.check_slow_worker()
    if settings.workers > rows:
        raise UsageError(
            f"{{workers}} must be at most the number of rows, {rows}, got {{workers.value}}",
            workers=settings.workers,
        )


def settle_penalties(settings: Settings, rows: Rows) -> None:
    """Set `l1` and `l2` from `C` and `l1_ratio`, unless one of `l1` and `l2` is given.

    Without any of the four parameters, C is 1.
    """
    if settings.l2 is not None or settings.l1:
        settings.l2 = settings.l2 or 0.0
        return
    total = rows.num_rows if rows.importance is None else float(rows.importance.sum())
    C = 1.0 if settings.C is None else settings.C
    settings.l1, settings.l2 = penalties_of(C, settings.l1_ratio, total)


def penalties_of(C: float, ratio: float, total: float) -> tuple[float, float]:
    """Return l1 and l2 for scikit-learn's C and l1_ratio, on rows whose weights s_i have the sum `total`, S.

    scikit-learn minimises C sum_i s_i loss_i + l1_ratio |w|_1 + (1 - l1_ratio)/2 |w|^2, which is the same as
    (1/S) sum_i s_i loss_i + l1 |w|_1 + l2/2 |w|^2 with l1 = l1_ratio / (C S), l2 = (1 - l1_ratio) / (C S).
    """
    strength = 1 / (C * total) if C * total else math.inf
    if not math.isfinite(strength):
        raise UsageError(
            f"{{C}} times the sum of the rows' weights, {total:g}, must not vanish, got {{C.value}}; raise "
            f"{{C}} or the weights",
            C=C,
        )
    return ratio * strength, (1 - ratio) * strength
