"""More than two classes: each against the rest, learned side by side in the same passes."""

import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
from naive import loss_and_gradient
from problems import watching

import shmps
from shmps import LogisticRegression
from shmps.data.rows import rows_of
from shmps.errors import DataError, UsageError
from shmps.linear import kernels
from shmps.models.metrics import evaluate_classes

ROWS, FEATURES, CLASSES = 90, 7, 4
NAMES = np.array(["ash", "elm", "fir", "oak"])


def problem(seed=0):
    """X (rows, features), sparse, and the classes' numbers (rows,)."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(ROWS, FEATURES)) * (random.random((ROWS, FEATURES)) < 0.6)
    y = np.argmax(X @ random.normal(size=(FEATURES, CLASSES)) + random.normal(size=(ROWS, CLASSES)), axis=1)
    return scipy.sparse.csr_matrix(X), y


X, Y = problem()
WEIGHTS = np.random.default_rng(1).uniform(0.1, 3, ROWS)


@pytest.mark.parametrize("importance", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_gradient_is_each_classs_against_the_rest(importance, intercept):
    random = np.random.default_rng(2)
    weights = random.normal(size=(FEATURES + intercept, CLASSES))
    rows, out = rows_of(X, Y.astype(float), importance), np.zeros_like(weights)
    loss = kernels.class_gradients(*rows, weights, intercept, ROWS, out, np.empty((ROWS, CLASSES)))
    losses = []
    for number in range(CLASSES):
        own, column = np.zeros(len(weights)), weights[:, number].copy()
        part = rows.against_rest(number)
        losses.append(kernels.gradient(*part, column, intercept, ROWS, own, np.empty(ROWS)))
        assert own.tobytes() == out[:, number].tobytes()
        if importance is None:
            signs = np.where(number == Y, 1, -1)
            naive_loss, naive = loss_and_gradient(X.toarray(), signs, column, intercept)
            np.testing.assert_allclose(own, naive, atol=1e-14)
            assert losses[-1] == pytest.approx(naive_loss, rel=1e-12)
    assert loss == pytest.approx(sum(losses), rel=1e-12)


@pytest.mark.parametrize(
    "params",
    [
        {"workers": 3, "servers": 2},
        {"updater": "sgd", "batch_size": 0, "servers": 2, "iterations": 20},
        {"updater": "ftrl", "l1": 1e-3, "fit_intercept": False},
        {"workers": 1, "mode": "async"},
        {"workers": 1, "mode": "hogwild"},
        {"workers": 1, "mode": "hogwild", "updater": "ftrl"},
    ],
    ids=lambda params: "-".join(map(str, params.values())),
)
def test_each_class_comes_to_the_bits_of_a_training_against_the_rest(params):
    params = {"epochs": 3, "batch_size": 16} | params
    together = LogisticRegression(**params).fit(X, NAMES[Y], sample_weight=WEIGHTS)
    assert together.classes_.tolist() == NAMES.tolist()
    assert together.coef_.shape == (CLASSES, FEATURES) and together.intercept_.shape == (CLASSES,)
    for number in range(CLASSES):
        alone = LogisticRegression(**params).fit(X, number == Y, sample_weight=WEIGHTS)
        assert alone.coef_.tobytes() == together.coef_[number].tobytes()
        assert alone.intercept_.tobytes() == together.intercept_[number].tobytes()


@pytest.mark.parametrize("features", [FEATURES, 600], ids=["whole curvature", "moments"])
@pytest.mark.parametrize("intercept", [True, False])
def test_lbfgs_finds_each_classs_optimum(features, intercept):
    wide = scipy.sparse.csr_matrix((X.data, X.indices, X.indptr), (ROWS, features))
    params = {"solver": "lbfgs", "l2": 0.01, "tol": 1e-13, "iterations": 500, "fit_intercept": intercept}
    params |= {"multi_class": "ovr"}
    together = LogisticRegression(**params).fit(wide, Y)
    alone = [LogisticRegression(**params).fit(wide, number == Y) for number in range(CLASSES)]
    np.testing.assert_allclose(together.coef_, np.vstack([each.coef_ for each in alone]), atol=1e-5)
    np.testing.assert_allclose(together.intercept_, [each.intercept_[0] for each in alone], atol=1e-5)


@pytest.mark.parametrize("mode", ["async", "hogwild"])
@pytest.mark.parametrize("batch_size", [0, 8])
def test_without_synchrony_it_learns_too(mode, batch_size):
    params = {"mode": mode, "batch_size": batch_size, "learning_rate": 0.1}
    model = LogisticRegression(epochs=300, workers=3, **params).fit(X, Y)
    assert model.score(X, Y) > 0.5 > 1.5 * model.result_.metrics.baseline
    assert model.result_.metrics.log_loss < 1 < np.log(CLASSES) - 0.3
    assert model.result_.metrics.accuracy == pytest.approx(model.score(X, Y))


def test_predictions_and_metrics_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    model = LogisticRegression(solver="lbfgs").fit(X, NAMES[Y], sample_weight=WEIGHTS)
    margins, shares = model.decision_function(X), model.predict_proba(X)
    assert margins.shape == shares.shape == (ROWS, CLASSES)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert model.predict(X).tolist() == NAMES[margins.argmax(axis=1)].tolist()
    found = model.result_.metrics
    assert found.log_loss == pytest.approx(metrics.log_loss(Y, shares, sample_weight=WEIGHTS))
    assert found.accuracy == pytest.approx(model.score(X, NAMES[Y], WEIGHTS))
    area = metrics.roc_auc_score(Y, shares, sample_weight=WEIGHTS, multi_class="ovr")
    assert found.auc == pytest.approx(area)


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({}, "multinomial"),
        ({"multi_class": "ovr"}, "ovr"),
        ({"epochs": 3}, "ovr"),
        ({"mode": "async"}, "ovr"),
    ],
    ids=str,
)
def test_probabilities_are_of_the_kind_that_was_trained(params, kind):
    model = LogisticRegression(**params).fit(X, Y, eval_set=(X[:50], Y[:50]))
    margins = model.decision_function(X)
    shares = np.exp(margins) if kind == "multinomial" else 1 / (1 + np.exp(-margins))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), shares, rtol=1e-12)
    assert model.result_.settings["multi_class"] == model.model().settings["multi_class"] == kind
    losses = -np.log(shares[range(ROWS), Y])
    assert model.result_.metrics.log_loss == pytest.approx(losses[:50].mean())
    assert model.result_.training_log_loss == pytest.approx(losses.mean())


def test_far_from_the_border_probabilities_are_numbers_still():
    model = shmps.Model(np.array([[-2e3], [-1e3], [-1e3]]), [0.0, 0.0, 0.0], (0, 1, 2))
    np.testing.assert_array_equal(model.predict_proba(np.ones((1, 1))), [[0.0, 0.5, 0.5]])
    of_class = model.decision_function(np.ones((1, 1))).T.__getitem__
    assert evaluate_classes(of_class, 3, [1.0]).log_loss == pytest.approx(np.log(2))
    assert evaluate_classes(of_class, 3, [0.0]).log_loss == pytest.approx(1000 + np.log(2))


def test_a_class_without_rows_has_no_part_in_the_auc():
    margins = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    found = evaluate_classes(margins.__getitem__, 3, [0, 1, 1])
    assert found.auc == 1.0 and found.accuracy == 1.0 and found.baseline == pytest.approx(2 / 3)


def test_classes_weigh_what_is_asked_for():
    params = {"solver": "lbfgs", "l2": 0.01}
    balanced = LogisticRegression(class_weight="balanced", **params).fit(X, Y)
    counts = np.bincount(Y)
    by_hand = LogisticRegression(**params).fit(X, Y, sample_weight=(ROWS / CLASSES / counts)[Y])
    np.testing.assert_allclose(balanced.coef_, by_hand.coef_, rtol=1e-6)
    named = LogisticRegression(class_weight=dict(enumerate(ROWS / CLASSES / counts)), **params).fit(X, Y)
    np.testing.assert_allclose(named.coef_, by_hand.coef_, rtol=1e-6)
    with pytest.raises(DataError, match="none of class 2"):
        LogisticRegression(class_weight={2: 0.0}).fit(X, Y)


def test_rows_of_every_class_are_held_out_and_the_best_weights_kept():
    model = LogisticRegression(early_stopping=True, validation_fraction=0.2, epochs=50).fit(X, Y)
    losses = [progress.metrics.log_loss for progress in model.history_]
    assert model.result_.metrics.log_loss == min(losses)


def test_partial_fit_and_warm_start_go_on_from_all_classes():
    model, params = LogisticRegression(epochs=1), {"classes": range(CLASSES)}
    model.partial_fit(X[:1], Y[:1], **params)
    assert model.coef_.shape == (CLASSES, FEATURES)
    for _ in range(3):
        model = pickle.loads(pickle.dumps(model)).partial_fit(X, Y)
    with pytest.raises(DataError, match=r"got \[9\]"):
        model.partial_fit(X, np.full(ROWS, 9))
    begun = LogisticRegression(warm_start=True, solver="lbfgs").fit(X, Y)
    again = begun.result_.objectives[-1][1]
    begun.fit(X, Y)
    assert begun.result_.objectives[0][1] == pytest.approx(again, abs=1e-9)


def test_weights_to_start_from_are_one_row_a_class():
    start, own = np.arange(CLASSES * FEATURES).reshape(CLASSES, FEATURES) / 10, np.arange(CLASSES) / 10
    params = {"mode": "async", "workers": 1, "updater": "sgd", "l2": 0, "learning_rate": 1e-300}
    model = LogisticRegression(**params).fit(X, Y, coef_init=start, intercept_init=own)
    np.testing.assert_allclose(model.coef_, start, atol=1e-290)
    np.testing.assert_allclose(model.intercept_, own, atol=1e-290)
    with pytest.raises(UsageError, match="intercept_init must be 4 finite numbers"):
        LogisticRegression().fit(X, Y, intercept_init=0.5)
    with pytest.raises(UsageError, match=r"coef_init must have the shape \(4, 7\), got \(7, 4\)"):
        LogisticRegression().fit(X, Y, coef_init=start.T)


def test_labels_that_training_did_not_have_are_refused():
    with pytest.raises(
        DataError, match=r"eval_set: labels must be those of training, \['ash'.*got \['yew'\]"
    ):
        LogisticRegression().fit(X, NAMES[Y], eval_set=(X[:1], np.array(["yew"])))


def fit_and_die(folder):
    def die(progress):
        if progress.iteration == 30:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints = {"checkpoint": folder, "checkpoint_every": 5}
    settings = {"epochs": 9, "batch_size": 8, "test_interval": 10, "callbacks": [watching(die)]}
    LogisticRegression(**checkpoints, **settings).fit(X, Y)


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=fit_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    undisturbed = LogisticRegression(epochs=9, batch_size=8).fit(X, Y)
    resumed = LogisticRegression(epochs=9, batch_size=8, resume=tmp_path).fit(X, Y)
    assert resumed.result_.resumed and resumed.coef_.tobytes() == undisturbed.coef_.tobytes()
    assert resumed.intercept_.tobytes() == undisturbed.intercept_.tobytes()


def test_a_worker_that_dies_changes_no_bit():
    killed = []

    def kill(progress):
        if not killed and progress.iteration >= 10:
            killed.append(children()[-1])
            os.kill(killed[0], signal.SIGKILL)

    def children():
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]

    params = {"epochs": 20, "batch_size": 8, "test_interval": 5}
    undisturbed = LogisticRegression(**params).fit(X, Y)
    disturbed = LogisticRegression(callbacks=[watching(kill)], **params).fit(X, Y)
    assert len(disturbed.result_.events) == 1
    assert disturbed.coef_.tobytes() == undisturbed.coef_.tobytes()


@pytest.mark.parametrize("features", [FEATURES, 600], ids=["whole curvature", "moments"])
@pytest.mark.parametrize("importance", [None, WEIGHTS], ids=["alike", "weighted"])
def test_softmax_comes_to_the_optimum(features, importance):
    wide = scipy.sparse.csr_matrix((X.data, X.indices, X.indptr), (ROWS, features))
    model = LogisticRegression(l2=0.01, tol=1e-12, iterations=500).fit(wide, Y, sample_weight=importance)
    assert model.result_.settings["multi_class"] == "multinomial"
    own = np.ones(ROWS) if importance is None else importance
    dense = np.hstack([X.toarray(), np.ones((ROWS, 1))])

    def value_and_gradient(flat):
        weights = flat.reshape(FEATURES + 1, CLASSES)
        margins = dense @ weights
        logs = margins - scipy.special.logsumexp(margins, axis=1, keepdims=True)
        slopes = (np.exp(logs) - np.eye(CLASSES)[Y]) * own[:, None] / own.sum()
        penalized = weights * (np.arange(FEATURES + 1) < FEATURES)[:, None]
        value = -(logs[range(ROWS), Y] @ own) / own.sum() + 0.005 * (penalized**2).sum()
        return value, (dense.T @ slopes + 0.01 * penalized).ravel()

    best = scipy.optimize.minimize(
        value_and_gradient, np.zeros((FEATURES + 1) * CLASSES), jac=True, options={"gtol": 1e-9}
    )
    assert model.result_.objectives[-1][1] == pytest.approx(best.fun, rel=1e-10)
    found = np.vstack([model.coef_[:, :FEATURES].T, model.intercept_])
    assert value_and_gradient(found.ravel())[0] == pytest.approx(best.fun, rel=1e-10)


def test_softmax_needs_full_gradients():
    with pytest.raises(UsageError, match="multi_class='multinomial' needs full gradients"):
        LogisticRegression(multi_class="multinomial", solver="minibatch").fit(X, Y)
    with pytest.raises(UsageError, match="multi_class='multinomial'; use fit"):
        LogisticRegression(multi_class="multinomial").partial_fit(X, Y, range(CLASSES))
    begun = LogisticRegression().fit(X, Y).partial_fit(X, Y)
    assert begun.result_.settings["multi_class"] == "ovr"
