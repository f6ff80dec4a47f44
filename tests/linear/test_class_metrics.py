"""Metrics of weights of more than two classes: of few classes and many, by softmax and against the rest."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from shmps.data.rows import rows_of
from shmps.linear import kernels
from shmps.linear.callbacks import CallbackList
from shmps.linear.columns import Columns
from shmps.linear.evaluator import Evaluator
from shmps.linear.objective import CLASSES, log_loss, measure
from shmps.models.links import ONE_AGAINST_REST, SOFTMAX
from shmps.models.metrics import evaluate_classes

ROWS, FEATURES = 700, 9
each_link = pytest.mark.parametrize("link", [ONE_AGAINST_REST, SOFTMAX], ids=lambda link: link.name)


def problem(classes, rows=ROWS, weighted=False):
    """Return sparse X (rows, FEATURES), its rows with numbers of classes, and weights."""
    random = np.random.default_rng(classes)
    X = scipy.sparse.random(rows, FEATURES, 0.5, "csr", random_state=random)
    y = random.integers(0, classes, rows).astype(float)
    importance = random.uniform(0.1, 3, rows) if weighted else None
    return X, rows_of(X, y, importance), random.normal(size=(FEATURES + 1, classes))


@each_link
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("classes", [3, CLASSES, CLASSES + 1, 2 * CLASSES + 3])
def test_metrics_of_weights_are_those_of_their_margins(classes, weighted, intercept, link):
    X, rows, weights = problem(classes, weighted=weighted)
    weights = weights if intercept else weights[:-1]
    margins = X @ weights[:FEATURES] + (weights[-1] if intercept else 0.0)
    expected = evaluate_classes(margins.T.__getitem__, classes, rows.labels, rows.importance, link)
    assert vars(measure(rows, weights, intercept, link=link)) == pytest.approx(vars(expected), rel=1e-12)
    assert log_loss(rows, weights, intercept, link) == pytest.approx(expected.log_loss, rel=1e-12)


def test_margins_of_classes_are_products():
    X, _, weights = problem(5)
    out = np.empty((5, ROWS))
    kernels.class_margins(X.indptr, X.indices, X.data, weights, True, out)
    np.testing.assert_allclose(out.T, X @ weights[:-1] + weights[-1], rtol=1e-12, atol=1e-13)


@each_link
def test_memory_follows_the_rows_and_not_the_classes(link):
    peaks = []
    for classes in (CLASSES, 4 * CLASSES):
        _, rows, weights = problem(classes, rows=20_000)
        measure(rows, weights, True, link=link)
        tracemalloc.start()
        measure(rows, weights, True, link=link)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]


@each_link
@pytest.mark.parametrize("classes", [3, CLASSES + 1])
def test_an_evaluator_measures_by_its_link(classes, link):
    X, rows, weights = problem(classes)
    wide = scipy.sparse.hstack([scipy.sparse.csr_matrix((ROWS, 1)), X], format="csr")
    tested = rows_of(wide, rows.labels)
    columns = Columns(FEATURES + 2, kept=np.arange(1, FEATURES + 2))  # the first feature has no weight
    for others in (None, tested):
        evaluator = Evaluator(
            rows, others, columns, True, CallbackList(None), False, lambda weights: None, link
        )
        found = evaluator.measure(weights)
        assert vars(found) == pytest.approx(vars(measure(rows, weights, True, link=link)), rel=1e-12)
        loss, _ = evaluator.training_log_losses(weights, found)
        assert loss == pytest.approx(found.log_loss, rel=1e-12)
