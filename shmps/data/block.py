"""What every reader of text yields: some rows at a time."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data.dialect import Dialect


class Block(NamedTuple):
    """Some rows of a text, in the order of the file.

    The labels of a file are numbers in every row (float64), text in every row (object, of str), or missing in
    every row (float64, all nan); a file that mixes them is refused.
    """

    X: csr_matrix  # (n, features) float64
    y: np.ndarray  # (n,) float64, or object of str
    weights: np.ndarray | None  # (n,) float64, finite, >= 0: what each row's loss is multiplied by; None: 1
    taken: int  # bytes of the file that were read so far


class NamedMatrix(csr_matrix):
    """X (rows, features) of a text: an ordinary csr_matrix that knows how it was read.

    What comes out of an operation is of the same class, but its `origin` says nothing.
    """

    origin: Dialect = Dialect()
