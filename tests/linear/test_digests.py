"""Sync trainings keep their bits: digests of the weights, as commit e23ee29 computed them.

Those of full gradients are from the first commit with sampled curvature.

The digests hold wherever exp, log, the random streams, a reassociated sum and LAPACK give the bits that they
gave then: on x86-64 with AVX-512, with glibc 2.36, numpy 2.4.6, numba 0.68.1 and scipy 1.17.1. `blocks` is
the digest of these building blocks alone. Where it differs, so do the bits of a training, and nothing is
wrong: the tests are skipped. To compare two commits on such a machine, print the digests of each:

    PYTHONPATH=<checkout of the commit>:tests python tests/linear/test_digests.py
"""

import hashlib
import math

import numba
import numpy as np
import pytest
import scipy.linalg
from problems import problem

import shmps
from shmps import LogisticRegression

BLOCKS = "0b1c4e75d0f17317ac4f1cef01391068ab18c8f54eff5cc963d0a05950c28a14"
DIGESTS = {
    "sgd": "a8d293fa9d5fb9501b3c8d53e620a78c21ea302a56d79f236b7888f6529d3b84",
    "adagrad": "c02565fdeb179b60530179481dee1c9999734326c7c4afbb6589d42b872d6a31",
    "ftrl": "229f62f7ce00eabc133c66dc3ff8f59148b1aa7ac6ca07050b159a76361635de",
    "dist-lr": "7495406c81ab651bb3b4f9526340e37b0ba98962b1a87c234ad9a5bcaefb5129",
    "lbfgs": "be04e7203bf8473eab40be818ce4e775c5ea4f56489ffc32e1751328082a6e83",
    "classes": "b4857c115015a38f2283ff53cc30ac71328cd27d710672f2a2f05a69b773853a",
    "classes-lbfgs": "2e3d8989146d3dc0868d955ccf7142fe1fd699a078c0dec235f90a022131fafc",
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


@numba.njit(fastmath={"reassoc"})
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
    A = values[:1600].reshape(40, 40)
    matrix = A @ A.T + np.eye(40)
    factor = scipy.linalg.cho_factor(matrix, lower=True)
    solved = scipy.linalg.cho_solve(factor, values[:40])
    sums = np.array([dot(values, losses), dot(values[:1601], losses[:1601])])
    return digest(values, order, losses, sums, matrix, solved, scipy.linalg.eigh(matrix, eigvals_only=True))


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_weights_of_a_sync_training_keep_their_bits(name, servers):
    if blocks() != BLOCKS:
        pytest.skip("exp, log, sums, LAPACK or random numbers have other bits here: see the docstring")
    assert trained(name, servers) == DIGESTS[name]


if __name__ == "__main__":
    print(shmps.__file__)
    print(f'BLOCKS = "{blocks()}"')
    for each in CASES:
        one, two = trained(each, servers=1), trained(each, servers=2)
        assert one == two, each
        print(f'    "{each}": "{one}",')
