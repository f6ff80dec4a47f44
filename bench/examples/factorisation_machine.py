"""A factorisation machine (Rendle, ICDM 2010): logistic regression on features and on their pairs.

    margin = w.x + sum_{i<j} (v_i.v_j) x_i x_j

A key is a feature; its value is w_i followed by the vector v_i. The planted labels depend only on pairs, so a
linear model can only guess. The updater is AdaGrad with one rate per key instead of one per number.
"""

import numpy as np
import scipy.sparse

from shmps import BOUNDED, Cluster, Updater

FIELDS, LEVELS, FACTORS = 4, 25, 4
FEATURES = FIELDS * LEVELS


class AdaGradByKey(Updater):
    """AdaGrad per key: the state of the first number holds the sum of the key's mean squared gradients."""

    state_width = 1

    def __init__(self, rate):
        self.rate = rate

    def update(self, keys, gradient, values, state, step):
        squares = state[:, 0]
        squares += np.mean(gradient**2, axis=1, keepdims=True)
        values -= self.rate * gradient / np.sqrt(squares + 1e-12)


def rows(count, seed):
    """Generate one-hot rows (count, FEATURES), and labels (count,): the signs of sums over pairs."""
    planted = np.random.default_rng(0).normal(size=(FEATURES, 2))
    levels = np.random.default_rng(seed).integers(0, LEVELS, (count, FIELDS)) + LEVELS * np.arange(FIELDS)
    ends = np.arange(0, count * FIELDS + 1, FIELDS)
    X = scipy.sparse.csr_matrix((np.ones(count * FIELDS), levels.ravel(), ends), (count, FEATURES))
    return X, np.sign(margins(X, np.column_stack([np.zeros(FEATURES), planted])))


def margins(X, values):
    """Return the margins (rows,) in time linear in the non-zeros; values: (features, 1 + FACTORS)."""
    w, v = values[:, 0], values[:, 1:]
    return X @ w + 0.5 * np.sum((X @ v) ** 2 - X.power(2) @ v**2, axis=1)


def gradient(X, y, values):
    """Return the gradient of the mean logistic loss, in the shape of `values`."""
    slope = -y / (1.0 + np.exp(y * margins(X, values))) / len(y)
    v = values[:, 1:]
    pairs = X.T @ (slope[:, None] * (X @ v)) - (X.power(2).T @ slope)[:, None] * v
    return np.column_stack([X.T @ slope, pairs])


def work(kv, X, y, epochs, batch):
    own_X, own_y = X[kv.rank :: kv.num_workers], y[kv.rank :: kv.num_workers]
    for _ in range(epochs):
        for begin in range(0, len(own_y), batch):
            part = own_X[begin : begin + batch]
            keys = np.unique(part.indices)
            kv.push(keys, gradient(part[:, keys], own_y[begin : begin + batch], kv.pull(keys)))


def main(epochs=30, batch=250):
    """Return the accuracy on unseen rows; guessing has about one half."""
    start = np.random.default_rng(1).normal(scale=0.1, size=(FEATURES, 1 + FACTORS))
    updater = AdaGradByKey(rate=0.1)
    with Cluster(
        FEATURES, 1 + FACTORS, servers=1, workers=2, consistency=BOUNDED(2), updater=updater, initial=start
    ) as cluster:
        cluster.run(work, *rows(20_000, seed=2), epochs, batch)
        values = cluster.weights()
    X, y = rows(5_000, seed=3)
    return float(np.mean(np.sign(margins(X, values)) == y))


if __name__ == "__main__":
    print(f"accuracy on unseen rows: {main():.1%}")
