"""Labels, shards and minibatches."""

import numpy as np
import pytest
import scipy.sparse

from shmps.data.labels import encoded
from shmps.data.rows import rows_of, shard
from shmps.errors import DataError
from shmps.linear.minibatches import Batches, most_entries


@pytest.fixture
def rows():
    X = scipy.sparse.random(103, 30, density=0.2, format="csr", random_state=1)
    return rows_of(X, np.where(np.arange(103) % 3 == 0, 1.0, -1.0))


def dense(batch, num_keys):
    """The rows of a batch, (rows, num_keys), with its labels in the last column."""
    found = np.zeros((batch.rows.num_rows, num_keys + 1))
    for i in range(batch.rows.num_rows):
        part = slice(batch.rows.indptr[i], batch.rows.indptr[i + 1])
        indices = batch.rows.indices[part]
        found[i, indices if batch.keys is None else batch.keys[indices]] = batch.rows.data[part]
    found[:, -1] = batch.rows.labels
    return found


def batches(rows, size=10, seed=0, rank=0):
    return Batches(rows, size, 30, False, seed, rank, [0])


def test_labels_become_signs_and_are_kept():
    signs, classes = encoded(np.array(["no", "yes", "no"]), "y")
    assert signs.tolist() == [-1.0, 1.0, -1.0] and classes == ("no", "yes")


def test_more_than_two_labels_become_numbers_and_are_kept():
    numbers, classes = encoded(np.array(["c", "a", "b", "a"]), "y")
    assert numbers.tolist() == [2.0, 0.0, 1.0, 0.0] and classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("labels", "said"),
    [([1, 1, 1], r"two classes or more, got 1 \(1\)"), ([0.5, 1.0, 1.5], "3 numbers that are not whole")],
)
def test_labels_that_name_no_classes_are_refused(labels, said):
    with pytest.raises(DataError, match=said):
        encoded(np.array(labels), "y")


def test_shards_cover_all_rows_once(rows):
    parts = [shard(rows, rank, 4) for rank in range(4)]
    assert sum(part.num_rows for part in parts) == 103
    assert max(part.num_rows for part in parts) - min(part.num_rows for part in parts) <= 1
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), rows.labels)


@pytest.mark.parametrize("size", [0, 1, 10, 1000])
def test_an_epoch_visits_every_row_once(rows, size):
    own = shard(rows, 1, 2)
    everything = dense(Batches(own, 0, 30, False, 0, 1, [0, 1])[0], 30)
    visited = np.vstack([dense(batch, 30) for batch in batches(own, size).epoch(0)])
    np.testing.assert_array_equal(visited[np.lexsort(visited.T)], everything[np.lexsort(everything.T)])


def test_batches_depend_on_seed_and_rank_and_their_order_on_the_epoch(rows):
    def first(seed, rank, epoch=0):
        return [
            batch.rows.labels.tolist() + batch.keys.tolist()
            for batch in batches(rows, 10, seed, rank).epoch(epoch)
        ]

    assert first(0, 0) == first(0, 0)
    assert sorted(first(0, 0)) == sorted(first(0, 0, epoch=1)) and first(0, 0) != first(0, 0, epoch=1)
    assert sorted(first(0, 0)) != sorted(first(0, 1)) != sorted(first(1, 0))


def test_a_batch_is_localized_once_and_kept(rows):
    kept = batches(rows)
    assert kept[3] is kept[3]


def test_a_batch_that_is_visited_once_is_not_kept(rows):
    own = Batches(rows, 10, 30, False, 0, 0, [0], once=True)
    assert own[3] is not own[3]


def test_the_intercepts_key_comes_last(rows):
    batch = Batches(rows, 10, 31, True, 0, 0, [0])[0]
    assert batch.keys[-1] == 30


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_no_batch_has_more_keys_than_announced(rows, size):
    most = most_entries(rows, size) + 1
    own = Batches(rows, size, 31, True, 0, 0, [0])
    assert max(len(own[index].keys) for index in range(len(own))) <= most


def test_a_batch_that_memory_does_not_allow_to_keep_is_the_same_at_every_visit(rows, monkeypatch):
    kept = batches(rows, size=40)
    monkeypatch.setattr("shmps.linear.minibatches.available_memory", lambda: 0)
    cut_anew = batches(rows, size=40)
    for _ in range(2):
        for index in range(3):
            again = cut_anew[index]
            assert again is not cut_anew[index]
            np.testing.assert_array_equal(again.keys, kept[index].keys)
            np.testing.assert_array_equal(dense(again, 30), dense(kept[index], 30))
