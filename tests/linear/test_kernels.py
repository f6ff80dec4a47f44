"""The kernels against numpy and finite differences."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from naive import loss_and_gradient

from shmps.data.kernels import take_rows
from shmps.data.rows import rows_of
from shmps.linear import kernels
from shmps.linear.exponential import exponentials
from shmps.linear.full_gradient import matrix_kernels
from shmps.ps.kernels import cut, gather, merge, scatter


@pytest.fixture
def problem():
    random = np.random.default_rng(3)
    X = scipy.sparse.random(700, 20, density=0.3, format="csr", random_state=4)
    return X, np.where(random.random(700) < 0.4, 1.0, -1.0), random.normal(size=21)


def test_exponentials_are_numpys_to_two_units_in_the_last_place():
    values = np.concatenate([np.random.default_rng(0).uniform(-700, 700, 4001), [0.0, -0.0, 1e-300, 700.0]])
    out = np.empty(len(values))
    exponentials(values, out, np.empty(len(values)))
    exact = np.exp(-np.abs(values))
    assert np.abs((out - exact) / np.spacing(exact)).max() <= 2
    beyond = np.array([701.0, np.inf, -np.inf, np.nan])
    exponentials(beyond, out[:4], np.empty(4))
    assert (out[:3] > 0).all() and (out[:3] < 1e-303).all() and np.isnan(out[3])


@pytest.mark.parametrize("n", [1, 2, 37])
def test_a_factor_solves_and_an_indefinite_matrix_has_none(n):
    random = np.random.default_rng(n)
    A = random.normal(size=(n, n))
    matrix, vector = A @ A.T + np.eye(n), random.normal(size=n)
    factor, solved, product = matrix.copy(), vector.copy(), np.empty(n)
    assert matrix_kernels.factorise(factor)
    matrix_kernels.solve(factor, solved)
    matrix_kernels.times(matrix, solved, product)
    np.testing.assert_allclose(product, vector, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.tril(factor, -1), np.tril(np.linalg.cholesky(matrix), -1), atol=1e-12)
    for spoilt in (-1.0, 0.0, np.nan, np.inf):
        broken = matrix.copy()
        broken[-1, -1] = spoilt
        assert not matrix_kernels.factorise(broken)


def taken(X, y, w, intercept):
    out = np.zeros(len(w))
    loss = kernels.gradient(*rows_of(X, y), w, intercept, len(y), out, np.empty(len(y)))
    return loss, out


def test_the_gradient_comes_to_the_same_bits_piece_by_piece(problem):
    X, y, w = problem
    X, y = scipy.sparse.vstack([X] * 40, format="csr"), np.tile(y, 40)
    assert len(y) > 3 * kernels.BLOCK
    whole, pieces = np.zeros(len(w)), np.zeros(len(w))
    rows = rows_of(X, y)
    loss = kernels.gradient(*rows, w, True, len(y), whole, np.empty(len(y)))
    size = 2 * kernels.BLOCK
    losses = [
        kernels.gradient(*rows.part(begin, begin + size), w, True, len(y), pieces, np.empty(size))
        for begin in range(0, len(y), size)
    ]
    assert pieces.tobytes() == whole.tobytes()
    assert sum(losses) == pytest.approx(loss, rel=1e-14)


@pytest.mark.parametrize("intercept", [False, True])
def test_the_gradient_is_the_dense_one(problem, intercept):
    X, y, w = problem
    w = w if intercept else w[:-1]
    loss, gradient = taken(X, y, w, intercept)
    expected_loss, expected = loss_and_gradient(X.toarray(), y, w, intercept)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("intercept", [False, True])
def test_the_gradient_is_the_slope_of_the_loss(problem, intercept):
    X, y, w = problem
    w = w if intercept else w[:-1]
    _, gradient = taken(X, y, w, intercept)
    for j in range(len(w)):
        step = np.zeros(len(w))
        step[j] = 1e-5
        slope = (taken(X, y, w + step, intercept)[0] - taken(X, y, w - step, intercept)[0]) / 2e-5
        assert gradient[j] == pytest.approx(slope, abs=1e-8)


def test_extreme_margins_give_finite_gradients_and_the_right_loss():
    X = scipy.sparse.csr_matrix(np.array([[1.0], [1.0], [-1.0]]))
    loss, gradient = taken(X, np.array([1.0, -1.0, 1.0]), np.array([1e4]), False)
    assert loss == pytest.approx(2e4 / 3, rel=1e-12)
    assert gradient[0] == pytest.approx(2 / 3, rel=1e-12)


def test_margins_are_products(problem):
    X, _, w = problem
    out = np.empty(700)
    kernels.margins(X.indptr, X.indices, X.data, w, True, out)
    np.testing.assert_allclose(out, X @ w[:-1] + w[-1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (5, 0), (40, 40), (3, 90)])
def test_merge_adds_sparse_vectors(sizes):
    random = np.random.default_rng(sum(sizes))
    keys, more = (np.sort(random.choice(100, size, replace=False)) for size in sizes)
    values, more_values = random.normal(size=(len(keys), 2)), random.normal(size=(len(more), 2))
    expected = np.zeros((100, 2))
    expected[keys] += values
    expected[more] += 0.3 * more_values
    union, sums = merge(keys, values, more, more_values, 0.3)
    np.testing.assert_array_equal(union, np.union1d(keys, more))
    np.testing.assert_array_equal(sums, expected[union])


@pytest.mark.parametrize("keys", [[], [0], [9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [2, 3, 7], [4, 5]])
def test_cut_is_searchsorted(keys):
    keys, bounds, cuts = np.array(keys, np.int64), np.array([0, 3, 6, 10]), np.empty(4, np.int64)
    assert cut(keys, bounds, cuts) == -1
    np.testing.assert_array_equal(cuts, np.searchsorted(keys, bounds))


@pytest.mark.parametrize(
    ("keys", "wrong"), [([-1, 2], 0), ([2, 2], 1), ([5, 3], 1), ([1, 10], 1), ([2**62], 0)]
)
def test_cut_finds_the_first_wrong_key(keys, wrong):
    assert cut(np.array(keys), np.array([0, 3, 10]), np.empty(3, np.int64)) == wrong


@pytest.mark.parametrize("num_keys", [1, 2, 1000, 2**11, 2**11 + 1, 10**6, 2**31 - 1, 2**40])
@pytest.mark.parametrize("count", [0, 1, 200])
def test_localize_is_unique_with_inverse(num_keys, count):
    random = np.random.default_rng(5)
    dtype = np.int32 if num_keys < 2**31 else np.int64
    indices = np.append(random.integers(0, num_keys, count), [num_keys - 1] * count).astype(dtype)
    random.shuffle(indices)
    keys, local = kernels.localize(indices, num_keys)
    expected, inverse = np.unique(indices, return_inverse=True)
    np.testing.assert_array_equal(keys, expected)
    np.testing.assert_array_equal(local, inverse)


def test_take_rows_is_indexing(problem):
    X, _, _ = problem
    chosen = np.array([5, 5, 699, 0])
    indptr, indices, data = take_rows(X.indptr, X.indices, X.data, chosen)
    np.testing.assert_array_equal(
        scipy.sparse.csr_matrix((data, indices, indptr), shape=(4, 20)).toarray(), X[chosen].toarray()
    )


@pytest.mark.parametrize("keys", [[], [3], [2, 3, 4], [0, 1, 2, 3, 4, 5], [0, 2, 5], [0, 1, 5]])
@pytest.mark.parametrize("width", [0, 1, 3])
def test_gather_and_scatter_move_the_rows_of_the_keys_alone(keys, width):
    keys, rows = np.array(keys, np.int64), np.arange(6.0 * width).reshape(6, width)
    out = np.full((6, width), -1.0)
    gather(rows, keys, out)
    np.testing.assert_array_equal(out, np.concatenate([rows[keys], np.full((6 - len(keys), width), -1.0)]))
    expected = rows.copy()
    expected[keys] = -rows[keys]
    scatter(-out, keys, rows)
    np.testing.assert_array_equal(rows, expected)


def test_servers_compile_nothing():
    """A kernel that is compiled by a server would hold it up for longer than a short node_timeout."""
    script = """
import os
from numba.core import event
from shmps import ASYNC, SYNC, AdaGrad, Add, FTRL, SGD, Cluster

here = os.getpid()

class InNodes(event.Listener):
    def on_start(self, event):
        if os.getpid() != here:
            os.write(1, b"compiled or loaded\\n")

    def on_end(self, event): ...

def work(kv):
    for keys in ([0, 1, 2], [kv.rank, 5], [kv.rank], None):
        for step in range(2):
            kv.push(keys, [1.0] * (9 if keys is None else len(keys)))
            kv.pull(keys)

event.register("numba:compiler_lock", InNodes())
for updater in (Add(), SGD(0.1, l2=0.1), AdaGrad(0.1, l2=0.1), FTRL(0.1, l1=0.1)):
    for consistency in (SYNC, ASYNC):
        with Cluster(9, servers=2, workers=2, updater=updater, consistency=consistency) as cluster:
            cluster.run(work)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
