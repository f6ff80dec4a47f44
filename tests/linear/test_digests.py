"""Sync trainings keep their bits: digests of the weights, from the commit that last changed them on purpose.

The digests hold wherever exp, log, the random streams and a reassociated sum give the bits that they gave
then: on x86-64 with AVX-512, with glibc 2.36, numpy 2.4.6 and numba 0.68.1. `blocks` is the digest of these
building blocks alone. Where it differs, so do the bits of a training, and nothing is wrong: the tests are
skipped. To compare two commits on such a machine, print the digests of each:

    PYTHONPATH=<checkout of the commit>:tests python tests/linear/test_digests.py
"""

import hashlib
import math

import numba
import numpy as np
import pytest
from problems import problem

import shmps
from shmps import LogisticRegression

BLOCKS = "8e915d0f53d331d2a5b3d2ad44b793bf9cd833506bd75e569222025edc79cac8"
DIGESTS = {
    "sgd": "4ed22856dc6d7db5e97a360dc3e955a07278e730c523276da8313c2df9c7aa60",
    "adagrad": "f6a77d184e0c98c3cea9d47aae13fa5f97dd5bce340cc288d64550695891d22c",
    "ftrl": "acde1eefb04487371af1554ab775e5c8e36b7615c98b24270b97fa2360dbbdfe",
    "dist-lr": "5b5d23d19c00edbfe95d6c38b22d62e79505c75e29d9f6274d56d1d4a4a3cc0b",
    "lbfgs": "dd1aef4af6504c491327685174b598613ff1b79394d06bf8a5aee82dc7846b52",
    "classes": "9f580ceb911c824b8212067e67f3b59e2ec6fb1a4163e27643162b3b0d7ec685",
    "classes-lbfgs": "0b9a754e0f612fb06e31c90914250f8db8f269863dd55747dbf260239e642e0c",
}

# Three workers: a sum of two gradients is the same in any order.
MINIBATCHES = {"workers": 3, "batch_size": 16, "epochs": 3, "l2": 1e-3}
CASES = {
    "sgd": {"updater": "sgd", "learning_rate": 0.5, "schedule": "1/sqrt(t)", **MINIBATCHES},
    "adagrad": {"updater": "adagrad", "learning_rate": 0.1, "class_weight": "balanced", **MINIBATCHES},
    "ftrl": {"updater": "ftrl", "learning_rate": 0.5, "l1": 1e-3, **MINIBATCHES},
    # One worker: of several, dist-lr applies the gradient that arrives last.
    "dist-lr": {
        "updater": "dist-lr",
        "workers": 1,
        "batch_size": 0,
        "epochs": 20,
        "fit_intercept": False,
        "l2": 1e-5,
    },
    "lbfgs": {"solver": "lbfgs", "workers": 3, "l2": 1e-5},
    "classes": {"updater": "adagrad", "learning_rate": 0.1, **MINIBATCHES},
    "classes-lbfgs": {"solver": "lbfgs", "workers": 3, "l2": 1e-3},
}


def digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of the arrays' bytes."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def trained(name: str, servers: int) -> str:
    """Return the digest of the weights of the case `name`."""
    X, y = problem(seed=5, rows=401, features=40)
    if name.startswith("classes"):
        y = np.where(X[:, 0] > 0.5, 2, y)
    model = LogisticRegression(servers=servers, **CASES[name]).fit(X, y)
    return digest(model.coef_, model.intercept_)


@numba.njit
def elementary(values, out):
    for i in range(len(values)):
        out[i] = math.log(1.0 + math.exp(-abs(values[i])))


@numba.njit(fastmath={"reassoc", "contract"})
def dot(one, other):
    total = 0.0
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


def blocks() -> str:
    """Return the digest of what a training's bits are made of, apart from the code under test."""
    random = np.random.default_rng([1, 2, 3])
    values, order = random.normal(size=2000), random.permutation(2000)
    losses = np.empty(2000)
    elementary(10 * values, losses)
    sums = np.array([dot(values, losses), dot(values[:1601], losses[:1601])])
    return digest(values, order, losses, sums)


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_weights_of_a_sync_training_keep_their_bits(name, servers):
    if blocks() != BLOCKS:
        pytest.skip("exp, log, sums or random numbers have other bits here: see the docstring")
    assert trained(name, servers) == DIGESTS[name]


if __name__ == "__main__":
    print(shmps.__file__)
    print(f'BLOCKS = "{blocks()}"')
    for each in CASES:
        one, two = trained(each, servers=1), trained(each, servers=2)
        assert one == two, each
        print(f'    "{each}": "{one}",')
