"""Minibatch k-means (Sculley, WWW 2010): a key is a cluster, its value the centre and the number of points.

A worker pulls all centres and assigns each point of its minibatch to the nearest one. For every cluster with
new points it pushes their sum and their number. The updater moves a centre to the mean of all points that
were ever assigned to it: its learning rate is one over their number. In sync mode a server adds the sums of a
tick, so the result does not depend on the order of arrival.
"""

import numpy as np

from shmps import SYNC, Add, Cluster

CLUSTERS, DIMENSIONS, SPREAD = 10, 16, 0.3


class Centres(Add):
    """Values (k, DIMENSIONS + 1): each centre, followed by the number of points that it is the mean of."""

    def update(self, keys, sums, values, state, step):
        points = sums[:, -1:]
        values[:, -1:] += points
        values[:, :-1] += (sums[:, :-1] - points * values[:, :-1]) / np.maximum(values[:, -1:], 1)


def points(count, seed):
    """Generate points (count, DIMENSIONS) around planted centres, and the true cluster of each (count,)."""
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, DIMENSIONS))
    random = np.random.default_rng(seed)
    true = random.integers(0, CLUSTERS, count)
    return centres[true] + SPREAD * random.normal(size=(count, DIMENSIONS)), true


def nearest(X, centres):
    """Return for each row of X (rows, d) the index of the nearest centre (k, d), and the squared distance."""
    distances = np.sum(X**2, 1)[:, None] - 2 * X @ centres.T + np.sum(centres**2, 1)
    return distances.argmin(axis=1), np.maximum(distances.min(axis=1), 0.0)


def first_centres(X):
    """Return points of X, each the farthest from those before (Gonzalez, Theor. Computer Science 1985)."""
    chosen = X[:1]
    while len(chosen) < CLUSTERS:
        _, squares = nearest(X, chosen)
        chosen = np.vstack([chosen, X[squares.argmax()]])
    return chosen


def work(kv, X, epochs, batch):
    own = X[kv.rank :: kv.num_workers]
    for _ in range(epochs):
        for begin in range(0, len(own), batch):
            part = own[begin : begin + batch]
            assigned, _ = nearest(part, kv.pull()[:, :-1])
            keys = np.unique(assigned)
            member = assigned == keys[:, None]
            kv.push(keys, np.column_stack([member @ part, member.sum(axis=1)]))


def main(epochs=3, batch=200):
    """Return the purity: the share of points with the most frequent true cluster among those of a centre."""
    X, true = points(20_000, seed=1)
    start = np.column_stack([first_centres(X[:1000]), np.zeros(CLUSTERS)])
    with Cluster(
        CLUSTERS,
        width=DIMENSIONS + 1,
        servers=2,
        workers=2,
        consistency=SYNC,
        updater=Centres(),
        initial=start,
    ) as cluster:
        cluster.run(work, X, epochs, batch)
        found, _ = nearest(X, cluster.weights()[:, :-1])
    return float(sum(np.bincount(true[found == k]).max(initial=0) for k in range(CLUSTERS)) / len(X))


if __name__ == "__main__":
    print(f"purity of the clusters: {main():.1%}")
