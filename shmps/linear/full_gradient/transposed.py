"""The rows of a training by columns: the coordinator of a search with an L1 penalty reads them itself.

A sweep over the coordinates of a quadratic model costs two passes over the non-zeros then. With a block of
the Hessian, it costs a pass over the block, which has to be computed first. So few features take a block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shmps.data.rows import MappedRows, Rows
from shmps.linear.full_gradient import row_kernels
from shmps.linear.full_gradient.problem import SOFTMAX, Problem

_MOST_NONZEROS = 2**21  # the coordinator works alone, and has a copy
_MOST_PER_PAIR = 2  # non-zeros for each pair of features


class Transposed(NamedTuple):
    """Column j has the rows rows[starts[j]:starts[j + 1]], and their values."""

    starts: np.ndarray  # (features + 1,) int64
    rows: np.ndarray  # (non-zeros,) int32
    values: np.ndarray  # (non-zeros,) float64
    importance: np.ndarray | None  # (num_rows,)
    num_rows: int


def transposed(problem: Problem, runs: Sequence[Rows]) -> Transposed | None:
    """Return the rows by columns, if that is quicker than blocks of the Hessian for the problem on them."""
    nonzeros, count = sum(run.nonzeros for run in runs), problem.features - problem.intercept
    few = nonzeros <= min(_MOST_PER_PAIR * count**2, _MOST_NONZEROS)
    if problem.l1 == 0 or problem.loss == SOFTMAX or not few or any(isinstance(r, MappedRows) for r in runs):
        return None
    sizes, first = np.zeros(count, np.int64), 0
    for run in runs:
        sizes += np.bincount(run.indices[run.indptr[0] : run.indptr[-1]], minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows, values, places = np.empty(nonzeros, np.int32), np.empty(nonzeros), starts[:-1].copy()
    for run in runs:
        row_kernels.by_column(run.indptr, run.indices, run.data, first, places, rows, values)
        first += run.num_rows
    owned = [run.importance for run in runs if run.importance is not None]
    return Transposed(starts, rows, values, np.concatenate(owned) if owned else None, first)
