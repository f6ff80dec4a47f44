"""What every reader of text yields: some rows at a time."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix


class Block(NamedTuple):
    """Some rows of a text, in the order of the file."""

    X: csr_matrix  # (n, features) float64
    y: np.ndarray  # (n,) float64
    weights: np.ndarray | None  # (n,) float64, what each row's loss is multiplied by; None: 1
    taken: int  # bytes of the file that were read so far
