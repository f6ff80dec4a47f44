"""The folds of a cross-validation."""

import importlib.util

import numpy as np
import pytest

from shmps.errors import DataError, UsageError
from shmps.sklearn.folds import folds_of, stratified

LABELS = np.random.default_rng(3).choice(["c", "a", "b"], 103, p=[0.2, 0.5, 0.3])


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
@pytest.mark.parametrize("folds", [2, 3, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_scikit_learn(folds, seed):
    from sklearn.model_selection import StratifiedKFold

    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(2 + seed, 2.0))
    y = np.append(random.choice(len(shares), 200, p=shares), np.repeat(np.arange(len(shares)), folds))
    for (train, test), (own_train, own_test) in zip(
        StratifiedKFold(folds).split(y, y), folds_of(folds, y, y), strict=True
    ):
        assert train.tolist() == own_train.tolist() and test.tolist() == own_test.tolist()


def test_every_row_is_scored_once_and_every_class_has_its_share():
    tested = stratified(LABELS, 4)
    sizes = np.bincount(tested)
    assert len(sizes) == 4 and sizes.max() - sizes.min() <= 1
    for label in "abc":
        own = np.bincount(tested[label == LABELS], minlength=4)
        assert own.max() - own.min() <= 1


def test_pairs_are_row_numbers_or_masks_from_any_iterable():
    y = np.array([0, 1, 0, 1, 0])
    mask = np.array([True, True, False, False, True])
    [(train, test), (other, _)] = folds_of(iter([(mask, ~mask), ([3, 2], [0])]), None, y)
    assert train.tolist() == [0, 1, 4] and test.tolist() == [2, 3] and other.tolist() == [2, 3]


class Groups:
    """A splitter that needs groups."""

    def split(self, X, y):
        raise ValueError("no groups")


@pytest.mark.parametrize(
    ("cv", "error", "said"),
    [
        (1, UsageError, "cv must be an integer >= 2, got 1"),
        ("five", UsageError, "cv must be an integer >= 2, a splitter, or pairs"),
        ([], UsageError, "cv must have a fold or more, got none"),
        ([(0.5, 1)], UsageError, r"cv must be .*, got \[\(0.5, 1\)\]: "),
        ([([0, 1], [9])], UsageError, "cv must be .*out of bounds"),
        ([([0, 1], np.zeros(5, bool))], UsageError, "cv must have rows to train on and rows to score"),
        ([([], [1])], UsageError, "cv must have rows to train on and rows to score"),
        ([([0, 1, 1], [2])], UsageError, "cv must have a row at most once .*; use sample_weight"),
        (Groups(), UsageError, r"cv must split the rows, got .*: no groups; .* cv=list\(cv.split"),
        ([([0, 2], [1])], DataError, "cv: every fold must train on two classes or more, got 1 in fold 0"),
        (4, DataError, "cv must be at most the number of members in each class, 3"),
    ],
)
def test_other_folds_are_refused(cv, error, said):
    with pytest.raises(error, match=said):
        folds_of(cv, None, np.array([0, 1, 0, 1, 0]))


def test_rows_without_weight_are_no_rows_of_a_class():
    y, importance = np.array([0, 1, 0, 1]), np.array([1.0, 0.0, 1.0, 1.0])
    for pair, said in (([0, 1, 2], [3]), "got 1 in fold 0"), (([0, 2, 3], [1]), "none in fold 0"):
        with pytest.raises(DataError, match=said):
            folds_of([pair], None, y, importance)


def test_a_class_with_fewer_rows_than_folds_is_told():
    with pytest.warns(UserWarning, match="least populated class in y has only 2 members"):
        stratified(np.array([0] * 8 + [1] * 2), 3)
