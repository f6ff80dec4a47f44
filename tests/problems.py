"""Problems to train on, and a callback to watch a training with."""

from types import SimpleNamespace

import numpy as np

ROWS, FEATURES = 201, 6  # an odd number, so that two shards differ in size


def problem(seed=0, rows=ROWS, features=FEATURES):
    """Sparse X (rows, features) and y in {0, 1} from a planted logistic model that leaves some noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features)) * (rng.random((rows, features)) < 0.6)
    planted = rng.normal(size=features)
    y = (rng.random(rows) < 1 / (1 + np.exp(-2 * X @ planted))).astype(int)
    return X, y


def watching(function):
    """Return a callback that passes every evaluation to `function`."""
    return SimpleNamespace(on_evaluation=function)
