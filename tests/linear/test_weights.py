"""Rows and classes that count more than others: what is minimised, in every mode and by both solvers."""

import math

import numpy as np
import pytest
import scipy.sparse
from naive import loss_and_gradient

from shmps import LogisticRegression
from shmps.data.rows import rows_of
from shmps.errors import DataError, UsageError
from shmps.linear import kernels
from shmps.models.metrics import evaluate

ROWS, FEATURES = 120, 4


def problem(seed=0):
    """X (rows, features), y in {0, 1}, weights of the rows that are whole numbers, some of them 0."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(ROWS, FEATURES))
    y = (random.random(ROWS) < 1 / (1 + np.exp(-X @ random.normal(size=FEATURES)))).astype(int)
    return X, y, random.integers(0, 4, ROWS)


def repeated(X, y, weights):
    return np.repeat(X, weights, axis=0), np.repeat(y, weights)


def descent(**params):
    steps = {} if "solver" in params else {"updater": "sgd", "batch_size": 0, "learning_rate": 1.0}
    return LogisticRegression(**(steps | params))


def test_the_weighted_gradient_is_that_of_repeated_rows():
    X, y, weights = problem()
    signs, w = np.where(y == 1, 1.0, -1.0), np.linspace(-1, 1, FEATURES + 1)
    out, total = np.zeros(FEATURES + 1), weights.sum()
    rows = rows_of(scipy.sparse.csr_matrix(X), signs, weights.astype(float))
    loss = kernels.gradient(*rows, w, True, total, out, np.empty(rows.num_rows))
    expected_loss, expected = loss_and_gradient(*repeated(X, signs, weights), w, intercept=True)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(out, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "params",
    [
        {"iterations": 40},
        {"iterations": 40, "workers": 3, "servers": 2},
        {"solver": "lbfgs", "tol": 1e-15, "l2": 0.01},
        {"solver": "lbfgs", "workers": 3, "tol": 1e-15, "l2": 0.01},
    ],
    ids=lambda params: "-".join(map(str, params.values())),
)
def test_whole_weights_are_repetitions(params):
    X, y, weights = problem()
    weighted = descent(**params).fit(X, y, sample_weight=weights)
    longer = descent(**params).fit(*repeated(X, y, weights))
    np.testing.assert_allclose(weighted.coef_, longer.coef_, rtol=1e-6)
    np.testing.assert_allclose(weighted.intercept_, longer.intercept_, rtol=1e-6)
    ours, theirs = weighted.result_.metrics, longer.result_.metrics
    assert ours.log_loss == pytest.approx(theirs.log_loss, rel=1e-8)
    assert (ours.accuracy, ours.baseline, ours.auc) == pytest.approx(
        (theirs.accuracy, theirs.baseline, theirs.auc), rel=1e-9
    )


@pytest.mark.parametrize(
    "mode",
    [
        {"mode": "sync"},
        {"mode": "async"},
        {"mode": "bounded", "bound": 2},
        # With two, one may be through with its rows when the other begins.
        {"mode": "hogwild", "updater": "sgd", "learning_rate": 0.002, "workers": 1},
    ],
    ids=lambda mode: mode["mode"],
)
def test_every_mode_with_minibatches_comes_near_the_weighted_optimum(mode):
    X, y, weights = problem()
    weights = weights * np.where(y == 1, 20.0, 1.0)  # far from the optimum without weights
    best = LogisticRegression(solver="lbfgs", l2=0.1).fit(X, y, sample_weight=weights)
    settings = {"updater": "adagrad", "batch_size": 20, "epochs": 300, "l2": 0.1} | mode
    found = LogisticRegression(**settings).fit(X, y, sample_weight=weights)
    plain = LogisticRegression(solver="lbfgs", l2=0.1).fit(X, y)
    assert np.abs(found.coef_ - best.coef_).max() < 0.3 * np.abs(plain.coef_ - best.coef_).max()
    assert np.abs(found.intercept_ - best.intercept_) < 0.3 * np.abs(plain.intercept_ - best.intercept_)


def test_weights_matter_relative_to_each_other_only():
    X, y, weights = problem()
    one, other = (
        descent(iterations=5, l2=0.1).fit(X, y, sample_weight=scale * weights) for scale in (1, 1024)
    )
    assert one.coef_.tobytes() == other.coef_.tobytes()


def test_class_weights_are_the_weights_of_their_rows():
    X, y, weights = problem()
    by_class = descent(iterations=5, class_weight={1: 3}).fit(X, y, sample_weight=weights)
    by_row = descent(iterations=5).fit(X, y, sample_weight=weights * np.where(y == 1, 3, 1))
    assert by_class.coef_.tobytes() == by_row.coef_.tobytes()
    assert by_class.result_.settings["class_weight"] == {"1": 3.0}


def test_balanced_classes_weigh_the_same():
    X, y, weights = problem()
    y[:60] = 1
    model = descent(iterations=1, class_weight="balanced").fit(X, y, sample_weight=weights)
    assert model.result_.metrics.baseline == pytest.approx(0.5)


def test_a_row_without_weight_changes_nothing():
    X, y, weights = problem()
    weights[7] = 0
    other = X.copy()
    other[7] = 1e3
    one, two = (descent(iterations=5).fit(each, y, sample_weight=weights) for each in (X, other))
    assert one.coef_.tobytes() == two.coef_.tobytes()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"mode": "async"},
        {"mode": "bounded", "bound": 1},
        {"mode": "hogwild"},
        {"updater": "sgd", "batch_size": 0},
        {"updater": "ftrl", "early_stopping": True},
        {"updater": "dist-lr"},
        {"solver": "lbfgs"},
    ],
    ids=str,
)
def test_rows_without_weight_may_be_the_first_ones(params, classes):
    X, y, _ = problem()
    weights = (np.arange(ROWS) >= 25).astype(float)  # and a whole minibatch of worker 0 has none
    settings = {"solver": "minibatch", "iterations": 3, "batch_size": 20} | params
    if settings["solver"] == "lbfgs":
        del settings["batch_size"]
    model = LogisticRegression(**settings).fit(
        X, y if classes == 2 else np.arange(ROWS) % 3, sample_weight=weights
    )
    assert np.isfinite(model.coef_).all() and math.isfinite(model.result_.metrics.log_loss)


def test_a_part_may_have_no_weight_in_its_first_row():
    X, y, _ = problem()
    weights = (np.arange(ROWS) > 0).astype(float)
    strided = np.repeat(weights, 2)[::2]
    parts = [descent().partial_fit(X, y, [0, 1], each) for each in (weights, strided)]
    assert parts[0].coef_.any() and parts[0].coef_.tobytes() == parts[1].coef_.tobytes()


def test_only_rows_with_weight_are_held_out():
    X, y, _ = problem()
    weights = np.zeros(ROWS)
    for label in (0, 1):
        weights[np.flatnonzero(y == label)[:5]] = 1
    model = descent(iterations=2, early_stopping=True, validation_fraction=0.2).fit(
        X, y, sample_weight=weights
    )
    assert model.result_.rows == 2 * (ROWS - 2) and model.result_.metrics.baseline == 0.5


def test_weighted_metrics_are_those_of_repeated_rows():
    X, y, weights = problem()
    margins, signs = np.round(X[:, 0], 1), np.where(y == 1, 1, -1)  # with ties
    assert vars(evaluate(margins, signs, weights)) == pytest.approx(
        vars(evaluate(np.repeat(margins, weights), np.repeat(signs, weights))), rel=1e-12
    )


X, Y, WEIGHTS = problem()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (WEIGHTS[1:], "one number per row"),
        (np.column_stack([WEIGHTS, WEIGHTS]), "one number per row"),
        (-1.0 * WEIGHTS, "not negative"),
        (np.where(WEIGHTS > 0, 1, np.nan), "finite"),
        (0.0 * WEIGHTS, "zero weight in all"),
        (Y, "none of class 0"),
        (["a"] * ROWS, "one number per row"),
    ],
    ids=["short", "columns", "negative", "nan", "zero", "one-class", "words"],
)
def test_weights_of_rows_that_break_a_rule_are_a_data_error(weights, said):
    with pytest.raises(DataError, match=said):
        descent(iterations=1).fit(X, Y, sample_weight=weights)


def test_class_weights_may_name_classes_that_these_rows_lack():
    for named in ({0: 1.0, 1: 3.0, 7: 5.0}, {1: 3.0, 7: 5.0}):
        by_class = descent(iterations=3, class_weight=named).fit(X, Y)
        assert (
            by_class.coef_.tobytes() == descent(iterations=3, class_weight={1: 3.0}).fit(X, Y).coef_.tobytes()
        )
    with pytest.warns(UserWarning, match=r"names \[7\], and none of the labels \[0, 1\]"):
        unweighted = descent(iterations=3, class_weight={7: 5.0}).fit(X, Y)
    np.testing.assert_allclose(unweighted.coef_, descent(iterations=3).fit(X, Y).coef_, rtol=1e-12)


@pytest.mark.parametrize("weights", ["unbalanced", {"1": 1.0}, {1: -1.0}, {1: "a"}, [1, 2], {1: np.inf}])
def test_weights_of_classes_that_break_a_rule_are_a_usage_error(weights):
    with pytest.raises(UsageError, match="class_weight"):
        descent(iterations=1, class_weight=weights).fit(X, Y)


def test_a_resumed_training_must_have_the_same_weights(tmp_path):
    settings = {"batch_size": 10, "checkpoint": tmp_path, "checkpoint_every": 5}
    whole = LogisticRegression(iterations=20, batch_size=10).fit(X, Y, sample_weight=WEIGHTS)
    LogisticRegression(iterations=12, **settings).fit(X, Y, sample_weight=WEIGHTS)
    resumed = LogisticRegression(iterations=20, batch_size=10, resume=tmp_path)
    assert resumed.fit(X, Y, sample_weight=WEIGHTS).coef_.tobytes() == whole.coef_.tobytes()
    with pytest.raises(DataError, match="must have the data of the checkpoint"):
        resumed.fit(X, Y)


def test_a_resumed_training_must_have_the_same_labels(tmp_path):
    LogisticRegression(iterations=12, checkpoint=tmp_path, checkpoint_every=5, batch_size=10).fit(X, Y)
    resumed = LogisticRegression(iterations=20, batch_size=10, resume=tmp_path)
    with pytest.raises(DataError, match=r"classes \[0, 1\] there and \['no', 'yes'\] here"):
        resumed.fit(X, np.where(Y == 1, "yes", "no"))
