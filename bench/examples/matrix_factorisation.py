"""Ratings as products of user and item vectors (Koren, Bell & Volinsky, IEEE Computer 2009), asynchronously.

A key is a user or an item; its value is a vector of WIDTH numbers. Each worker has a share of the ratings.
For a minibatch it pulls the vectors that occur in it and pushes the gradient of half the squared error. The
updater decays only the keys of a push: users and items with many ratings are penalised more, as in the paper.
"""

import numpy as np

from shmps import ASYNC, Cluster, Updater

USERS, ITEMS, WIDTH, NOISE = 600, 400, 8, 0.1


class Decayed(Updater):
    """values -= rate * (gradient + decay * values)"""

    def __init__(self, rate, decay):
        self.rate, self.decay = rate, decay

    def update(self, keys, gradient, values, state, step):
        values -= self.rate * (gradient + self.decay * values)


def ratings(count, seed):
    """Generate users (count,), items (count,) and their ratings: products of planted vectors plus noise."""
    planted = np.random.default_rng(0).normal(size=(USERS + ITEMS, WIDTH)) / WIDTH**0.25
    random = np.random.default_rng(seed)
    users, items = random.integers(0, USERS, count), random.integers(0, ITEMS, count)
    products = np.sum(planted[users] * planted[USERS + items], axis=1)
    return users, items, products + NOISE * random.normal(size=count)


def work(kv, users, items, rated, epochs, batch):
    random = np.random.default_rng(kv.rank)
    own = np.arange(kv.rank, len(rated), kv.num_workers)
    for _ in range(epochs):
        random.shuffle(own)
        for begin in range(0, len(own), batch):
            rows = own[begin : begin + batch]
            keys, places = np.unique([users[rows], USERS + items[rows]], return_inverse=True)
            user, item = places.reshape(2, -1)
            vectors = kv.pull(keys)
            errors = np.sum(vectors[user] * vectors[item], axis=1) - rated[rows]
            gradient = np.zeros_like(vectors)
            np.add.at(gradient, user, errors[:, None] * vectors[item])
            np.add.at(gradient, item, errors[:, None] * vectors[user])
            kv.start_push(keys, gradient)
    kv.flush()


def main(epochs=25, batch=500):
    """Return the root mean squared error on unseen ratings; NOISE is the least possible."""
    start = np.random.default_rng(1).normal(scale=0.3, size=(USERS + ITEMS, WIDTH))
    updater = Decayed(rate=0.05, decay=0.02)
    with Cluster(
        USERS + ITEMS, width=WIDTH, servers=1, workers=2, consistency=ASYNC, updater=updater, initial=start
    ) as cluster:
        cluster.run(work, *ratings(60_000, seed=2), epochs, batch)
        vectors = cluster.weights()
    users, items, rated = ratings(5_000, seed=3)
    errors = np.sum(vectors[users] * vectors[USERS + items], axis=1) - rated
    return float(np.sqrt(np.mean(errors**2)))


if __name__ == "__main__":
    print(f"root mean squared error on unseen ratings: {main():.3f} (noise alone: {NOISE})")
