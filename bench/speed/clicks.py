"""A generated set like click-through data: rows of hashed one-hot fields, with a planted model.

Every row has a value in each of FIELDS fields. A field has 10 to a million values, with popularity by Zipf's
law. Field and value are hashed into FEATURES features. The planted weights are normal; a label is drawn with
the probability that they give. About a quarter of the labels are positive.
"""

import numpy as np
import scipy.sparse

FIELDS, FEATURES = 39, 1_000_000
_EXPONENT = 1.1  # of Zipf's law
_DEVIATION = 0.25  # of the planted weights
_INTERCEPT = -1.3
_CHUNK = 100_000  # rows generated at a time


def clicks(rows: int, seed: int, features: int = FEATURES) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Generate X (rows, features) CSR with the value 1 everywhere, and the labels y (rows,), -1 and 1.

    The same seed gives the same rows. The planted model is the same for every seed.
    """
    planted = np.random.default_rng([0, features]).normal(scale=_DEVIATION, size=features)
    popularity = [_popularity(int(values)) for values in np.logspace(1, 6, FIELDS).round()]
    indices = np.empty((rows, FIELDS), np.int32)
    labels = np.empty(rows)
    for begin in range(0, rows, _CHUNK):
        random = np.random.default_rng([1, seed, begin])
        part = indices[begin : begin + _CHUNK]
        for field, shares in enumerate(popularity):
            values = np.searchsorted(shares, random.random(len(part)))
            part[:, field] = _hashed(field, values) % np.uint64(features)
        chance = 1 / (1 + np.exp(-_INTERCEPT - planted[part].sum(axis=1)))
        labels[begin : begin + _CHUNK] = np.where(random.random(len(part)) < chance, 1.0, -1.0)
    indptr = np.arange(0, indices.size + 1, FIELDS, dtype=np.int32)
    X = scipy.sparse.csr_matrix((np.ones(indices.size), indices.reshape(-1), indptr), (rows, features))
    return X, labels


def _popularity(values: int) -> np.ndarray:
    """Return the cumulative shares of the values of a field, (values,)."""
    shares = np.cumsum(np.arange(1, values + 1) ** -_EXPONENT)
    return shares / shares[-1]


def _hashed(field: int, values: np.ndarray) -> np.ndarray:
    """Return 32 bits of a multiplicative hash (Knuth), mixed with the field."""
    mixed = (values.astype(np.uint64) + np.uint64(field << 32)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed >> np.uint64(32)
