"""A generated set with the shape of rcv1: many features with popularity by Zipf's law, tf-idf-like values."""

import numpy as np
import scipy.sparse
from numba import njit

ROWS, FEATURES, NONZEROS = 200_000, 47_000, 73  # NONZEROS: the most in a row
_CHUNK = 10_000  # rows drawn at a time
_SHARPNESS = 4.0  # standard deviation of the planted margins: smaller means noisier labels


def generate(rows: int = ROWS, seed: int = 0) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Generate X (rows, FEATURES) CSR float64 with rows of norm 1, and labels in {-1, +1}."""
    random = np.random.default_rng(seed)
    popularity = 1 / (np.arange(FEATURES) + 10.0)
    popularity /= popularity.sum()
    thresholds, chosen = np.cumsum(popularity), []
    for first in range(0, rows, _CHUNK):
        draws = random.random((min(_CHUNK, rows - first), 3 * NONZEROS))
        chosen.append(_first_distinct(np.searchsorted(thresholds[:-1], draws), NONZEROS))
    keys = np.vstack(chosen)
    there = keys >= 0
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    in_how_many = 1 - (1 - popularity) ** NONZEROS
    values = (1 + np.log(random.geometric(0.6, keys.shape))) * (1 - np.log(in_how_many))[keys]
    values /= np.linalg.norm(np.where(there, values, 0.0), axis=1, keepdims=True)
    names = random.permutation(FEATURES)  # spread the popular features over all indices
    X = scipy.sparse.csr_matrix((values[there], names[keys[there]], indptr), (rows, FEATURES))
    X.sort_indices()
    margins = X @ (random.standard_normal(FEATURES) * (random.random(FEATURES) < 0.3))
    positive = 1 / (1 + np.exp(-_SHARPNESS * margins / margins.std()))
    return X, np.where(random.random(rows) < positive, 1.0, -1.0)


def topics(X: scipy.sparse.csr_matrix, count: int, seed: int = 1) -> np.ndarray:
    """Draw a class below `count` for each row (rows,) by a planted model with noise, as in `generate`."""
    random = np.random.default_rng(seed)
    margins = X @ (random.standard_normal((X.shape[1], count)) * (random.random((X.shape[1], count)) < 0.3))
    return np.argmax(_SHARPNESS * margins / margins.std() + random.gumbel(size=margins.shape), axis=1)


@njit
def _first_distinct(draws, most):
    """Return the first `most` different keys of each row of draws, padded with -1."""
    keys = np.full((len(draws), most), -1)
    last_seen = np.full(draws.max() + 1, -1)
    for i in range(len(draws)):
        count = 0
        for key in draws[i]:
            if count < most and last_seen[key] != i:
                last_seen[key] = i
                keys[i, count] = key
                count += 1
    return keys
