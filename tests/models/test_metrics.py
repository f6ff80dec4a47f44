"""`evaluate` against naive twins and scikit-learn."""

import math
import warnings
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.special import expit

from shmps.errors import UsageError
from shmps.models.links import log_losses
from shmps.models.metrics import evaluate


def rows(seed, n=300, distinct=None):
    """Return random margins and classes; `distinct` is the number of different margins, which makes ties."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(size=n) if distinct is None else rng.integers(distinct, size=n) / 4 - 0.5
    y = np.where(margins + 2 * rng.normal(size=n) > 0.5, 1.0, -1.0)
    y[:2] = -1, 1
    return margins, y


def naive_auc(margins, y):
    """Return the AUC from every pair of a positive and a negative row, in exact arithmetic."""
    pairs = list(product(margins[y > 0], margins[y < 0]))
    won = sum(Fraction(int(p > n)) + Fraction(int(p == n), 2) for p, n in pairs)
    return float(won / len(pairs))


@pytest.fixture(autouse=True)
def nothing_warns():
    with warnings.catch_warnings(), np.errstate(divide="raise", over="raise", invalid="raise"):
        warnings.simplefilter("error")
        yield


TABLES = [(0, None), (1, None), (2, 1), (3, 2), (4, 5), (5, 50)]


@pytest.mark.parametrize(("seed", "distinct"), TABLES)
def test_auc_is_the_share_of_pairs_in_order_with_ties_counted_half(seed, distinct):
    margins, y = rows(seed, 120, distinct)
    assert evaluate(margins, y).auc == naive_auc(margins, y)


@pytest.mark.parametrize(("seed", "distinct"), TABLES)
def test_metrics_agree_with_scikit_learn(seed, distinct):
    theirs = pytest.importorskip("sklearn.metrics")
    margins, y = rows(seed, 300, distinct)
    mine = evaluate(margins, y)
    assert mine.auc == pytest.approx(theirs.roc_auc_score(y, margins), rel=1e-12)
    assert mine.accuracy == pytest.approx(theirs.accuracy_score(y, np.where(margins > 0, 1.0, -1.0)))
    assert mine.log_loss == pytest.approx(theirs.log_loss(y, expit(margins)), rel=1e-12)


@pytest.mark.parametrize(("seed", "distinct"), TABLES)
def test_metrics_agree_with_one_row_at_a_time(seed, distinct):
    margins, y = rows(seed, 300, distinct)
    mine = evaluate(margins, y)
    right = [(m > 0) == (c > 0) for m, c in zip(margins, y, strict=True)]
    losses = [math.log(1 + math.exp(-m * c)) for m, c in zip(margins, y, strict=True)]
    positives = [c for c in y if c > 0]
    assert mine.accuracy == pytest.approx(sum(right) / 300)
    assert mine.baseline == pytest.approx(max(len(positives), 300 - len(positives)) / 300)
    assert mine.log_loss == pytest.approx(math.fsum(losses) / 300, rel=1e-12)


def test_a_margin_of_zero_is_predicted_negative():
    assert evaluate([0.0, -0.0], [-1, -1]).accuracy == 1.0
    assert evaluate([0.0, -0.0], [1, 1]).accuracy == 0.0
    assert evaluate([5e-324], [1]).accuracy == 1.0


@pytest.mark.parametrize("magnitude", [1e4, 1e300])
def test_extreme_margins_give_exact_metrics_without_a_warning(magnitude):
    margins = np.array([magnitude, -magnitude])
    best, worst = evaluate(margins, [1, -1]), evaluate(margins, [-1, 1])
    assert (best.accuracy, best.log_loss, best.auc, best.baseline) == (1.0, 0.0, 1.0, 0.5)
    assert (worst.accuracy, worst.auc, worst.baseline) == (0.0, 0.0, 0.5)
    assert worst.log_loss == magnitude


def test_infinite_margins_are_certainties():
    assert log_losses([np.inf, -np.inf]).tolist() == [0.0, np.inf]


@pytest.mark.parametrize("margin", [-700.0, -40.0, -1.0, -1e-9, 0.0, 1e-9, 1.0, 40.0, 700.0])
def test_losses_keep_their_digits(margin):
    assert log_losses([margin])[0] == pytest.approx(np.logaddexp(0.0, -margin), rel=1e-14)
    assert log_losses([abs(margin)])[0] > 0


@pytest.mark.parametrize("y", [[1, 1, 1], [-1, -1, -1]])
def test_auc_of_one_class_is_nan_and_the_rest_is_not(y):
    metrics = evaluate([0.5, -1.0, 2.0], y)
    assert math.isnan(metrics.auc)
    assert metrics.baseline == 1.0
    assert math.isfinite(metrics.log_loss)


def test_a_margin_that_is_nan_shows_in_log_loss_and_auc():
    metrics = evaluate([np.nan, 1.0, -1.0], [1, 1, -1])
    assert math.isnan(metrics.log_loss)
    assert math.isnan(metrics.auc)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64, object])
def test_classes_may_have_any_type_of_number(dtype):
    margins, y = rows(0)
    assert evaluate(margins, y.astype(dtype)) == evaluate(margins, y)


def test_metrics_are_python_floats():
    metrics = evaluate(*rows(0))
    assert {type(value) for value in vars(metrics).values()} == {float}


@pytest.mark.parametrize(
    ("margins", "y", "evidence"),
    [
        ([], [], r"\(0,\)"),
        ([1.0, 2.0], [1], r"\(2,\) and \(1,\)"),
        ([[1.0], [2.0]], [[1], [-1]], r"\(2, 1\)"),
        ([1.0, 2.0], [1, 0], "got 0 in row 1"),
        ([1.0, 2.0], [2, 1], "got 2 in row 0"),
        ([1.0, 2.0], [1, np.nan], "got nan in row 1"),
    ],
)
def test_rows_that_break_a_rule_are_refused_with_the_evidence(margins, y, evidence):
    with pytest.raises(UsageError, match=evidence):
        evaluate(margins, y)
