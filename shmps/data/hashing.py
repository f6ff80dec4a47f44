"""Features hashed by name: each name becomes one of 2**bits columns, by MurmurHash3, as in scikit-learn.

A row is what `FeatureHasher(2**bits).transform([{"age": 39, "job": "nurse"}])` makes of it, to the bit: a
name has a sign as well, and the values of names that share a column are summed (Weinberger et al., ICML
2009). The hash is scikit-learn's own, and so is its speed: on one core.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from shmps.errors import UsageError, verbatim

MOST_BITS = 30  # scikit-learn counts features in 32 bits


class Hasher:
    """Hash rows of (name, value) into 2**bits columns.

    `names`: the column of each name that was hashed so far, from 1, negative if the sign of the name is -1;
    None unless `keep_names`. Raises UsageError for other bits than 1 to MOST_BITS, or if scikit-learn is
    missing.
    """

    def __init__(self, bits: int | None, keep_names: bool | None = False):
        self.names: dict[str, int] | None = {} if keep_names else None
        self._hasher = _feature_hasher(bits)

    def transform(self, rows: Iterable[Iterable[tuple[str, float]]]) -> csr_matrix:
        """Return X (rows, 2**bits)."""
        if self.names is not None:
            rows = [list(row) for row in rows]
            new = dict.fromkeys(name for row in rows for name, _ in row if name not in self.names)
            self.names.update(self._columns(list(new)))
        return csr_matrix(self._hasher.transform(rows))

    def _columns(self, names: list[str]) -> dict[str, int]:
        if not names:
            return {}
        hashed = self._hasher.transform([(name, 1.0)] for name in names)
        signed = (hashed.indices + 1) * np.sign(hashed.data).astype(np.int64)
        return dict(zip(names, signed.tolist(), strict=True))


def _feature_hasher(bits: int | None) -> Any:
    if not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
        raise UsageError(
            f"{{hash_bits}} must be an integer from 1 to {MOST_BITS}, got {{hash_bits.value!r}}; 18 to 24 "
            f"are usual",
            hash_bits=bits,
        )
    try:
        from sklearn.feature_extraction import FeatureHasher
    except ImportError as error:
        raise UsageError(
            f"{{hash_bits}} needs scikit-learn, whose hash it uses, got no such package ({verbatim(error)}); "
            f"pip install 'shmps[sklearn]'",
            hash_bits=bits,
        ) from error
    return FeatureHasher(2**bits, input_type="pair", dtype=np.float64)
