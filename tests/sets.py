"""Small sets of rows that solvers find easy and hard: scikit-learn's, and generated ones.

Each function returns (X, y) or (X, y, sample_weight).
"""

import numpy as np
import pytest
import scipy.sparse as sp


def _labels(random, margins):
    """Draw labels 0 and 1 from a logistic model with these margins (rows,)."""
    return (random.random(len(margins)) < 1 / (1 + np.exp(-margins))).astype(int)


def _normal(seed, rows, features, strength=1.0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, features))
    return random, X, _labels(random, X @ random.normal(size=features) * strength)


# --- scikit-learn's ---


def _toy(name):
    return getattr(pytest.importorskip("sklearn.datasets"), f"load_{name}")(return_X_y=True)


def iris():
    return _toy("iris")


def wine():
    return _toy("wine")


def breast_cancer():
    return _toy("breast_cancer")


def standardized_breast_cancer():
    X, y = _toy("breast_cancer")
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def digits():
    """Ten classes; 4 x 4 pixels, the sums of four: the oracle solves for a tenth of the weights."""
    X, y = _toy("digits")
    return X[:200].reshape(200, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(200, 16), y[:200]


def even_digits():
    """Pixels 0 to 255, some of them always 0; linearly nearly separable."""
    X, y = _toy("digits")
    return X[:500] / 16 * 255, y[:500] % 2


def diabetes():
    X, y = _toy("diabetes")
    return X[:200], (y[:200] > 140).astype(int)


# --- scales ---


def scales():
    """Features scaled from 1e-8 to 1e8."""
    _, X, y = _normal(1, 300, 9)
    return X * 10.0 ** np.arange(-8, 9, 2), y


def counts():
    """Counts to a million, most of them 0."""
    random = np.random.default_rng(2)
    X = np.floor(10 ** random.uniform(0, 6, (300, 8))) * (random.random((300, 8)) < 0.4)
    return sp.csr_matrix(X), _labels(random, np.log1p(X) @ random.normal(size=8) / 5)


def far_from_zero():
    """Times in seconds, years and temperatures in Kelvin: means of many standard deviations."""
    _, X, y = _normal(3, 300, 3)
    return X * (1e7, 2.0, 5.0) + (1.7e9, 2020.0, 290.0), y


def one_outlier():
    _, X, y = _normal(4, 300, 5)
    X[7, 2] = 1e6
    return X, y


# --- columns that depend on each other ---


def duplicates():
    _, X, y = _normal(5, 200, 6)
    return np.hstack([X, X, 1000 * X[:, :3]]), y


def constants():
    _, X, y = _normal(6, 200, 4)
    return np.hstack([X, np.full((200, 1), 7.0), np.zeros((200, 1)), np.full((200, 1), -0.1)]), y


def categories():
    """One-hot columns, which add up to the intercept's; one category has a single label."""
    random = np.random.default_rng(7)
    codes = random.integers((0, 3, 11), (3, 11, 36), (400, 3))
    X = sp.csr_matrix((np.ones(1200), codes.ravel(), np.arange(0, 1201, 3)), (400, 36))
    y = _labels(random, X @ random.normal(size=36))
    y[codes[:, 0] == 2] = 1
    return X, y


def more_features_than_rows():
    _, X, y = _normal(8, 20, 100)
    return X, y


# --- labels ---


def separable():
    random, X, _ = _normal(9, 100, 4)
    return X, (X @ random.normal(size=4) > 0).astype(int)


def nearly_separable():
    X, y = separable()
    y[3] = 1 - y[3]
    return X, y


def noise():
    """Labels that no feature knows of."""
    random, X, _ = _normal(10, 300, 5)
    return X, random.integers(0, 2, 300)


def rare():
    """One positive row in 5,000."""
    _, X, _ = _normal(11, 10_000, 4)
    return X, (np.arange(10_000) % 5000 == 4).astype(int)


def two_rows():
    return np.array([[1.0, 2.0], [1.5, 0.0]]), np.array([0, 1])


def one_row_per_class():
    _, X, _ = _normal(12, 5, 3)
    return X, np.arange(5)


# --- rows ---


def text():
    """Four topics, tf-idf in rows of length 1."""
    random = np.random.default_rng(13)
    y, words = np.arange(200) % 4, 50
    common = 1 / np.arange(1, words + 1)
    topics = common * random.permuted(np.geomspace(0.1, 10, words) * np.ones((4, 1)), axis=1)
    X = np.stack([random.multinomial(30, topics[topic] / topics[topic].sum()) for topic in y])
    X = np.log1p(X) * np.log(200 / (1 + (X > 0).sum(axis=0)))
    return sp.csr_matrix(X / np.linalg.norm(X, axis=1, keepdims=True)), y


def empty_rows():
    """Most rows have no entry, and one column has none."""
    random, X, y = _normal(14, 300, 6)
    X[random.random(300) < 0.7] = 0.0
    X[:, 4] = 0.0
    return sp.csr_matrix(X), y


def weighted():
    """Weights over six orders of magnitude, some of them 0."""
    random, X, y = _normal(15, 300, 5)
    weights = 10 ** random.uniform(-3, 3, 300)
    return X, y, weights * (random.random(300) < 0.9)


CLASSES = [iris, wine, digits, one_row_per_class, text]  # of more than two
SETS = [
    *CLASSES, breast_cancer, standardized_breast_cancer, even_digits, diabetes, scales, counts, far_from_zero,
    one_outlier, duplicates, constants, categories, more_features_than_rows, separable, nearly_separable,
    noise, rare, two_rows, empty_rows, weighted,
]  # fmt: skip
