"""Only features that occur take part in a training, and nobody sees a difference."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from shmps import LogisticRegression, LogisticRegressionCV, mapped
from shmps.callbacks import Callback
from shmps.data.rows import rows_of
from shmps.linear import checkpoint, columns
from shmps.linear.columns import Columns
from shmps.system.memory import own_memory

ROWS, FEATURES, WIDE = 60, 12, 3000
PLACES = {
    "appended": np.arange(FEATURES),
    "interleaved": np.random.default_rng(0).permutation(WIDE)[:FEATURES],
}
PLACES["interleaved"].sort()
PARAMS: dict[str, Any] = {"workers": 2, "batch_size": 8, "epochs": 3}
TRAININGS: dict[str, dict[str, Any]] = {
    "adagrad": {},
    "sgd": {"updater": "sgd", "l2": 0.01, "servers": 3},
    "ftrl": {"updater": "ftrl", "l1": 0.01, "servers": 2},
    "a replica": {"servers": 2, "replicas": 1, "fit_intercept": False},
    "whole shards": {"batch_size": 0, "iterations": 4, "epochs": 10},
    "hogwild": {"mode": "hogwild", "workers": 1},
    "lbfgs": {"solver": "lbfgs", "batch_size": None, "epochs": None, "servers": 2},
}


def narrow(classes=2, seed=0):
    X = scipy.sparse.random(ROWS, FEATURES, density=0.4, format="csr", random_state=seed)
    return X, np.arange(ROWS) % classes


def widened(X, places):
    return scipy.sparse.csr_matrix((X.data, places[X.indices], X.indptr), (X.shape[0], WIDE))


def trained(X, y=None, **params):
    return LogisticRegression(**PARAMS | params).fit(X, y)


@pytest.fixture
def all_take_part(monkeypatch):
    """Calling it leaves no feature out any more."""
    return lambda: monkeypatch.setattr(columns, "_PER_WEIGHT", 0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("training", TRAININGS)
def test_empty_columns_change_no_bits(training, classes, all_take_part):
    params, (X, y) = TRAININGS[training], narrow(classes)
    expected = trained(X, y, **params)
    for places in PLACES.values():
        model = trained(widened(X, places), y, **params)
        assert model.coef_.shape == (expected.coef_.shape[0], WIDE)
        assert model.coef_[:, places].tobytes() == expected.coef_.tobytes()
        assert model.intercept_.tobytes() == expected.intercept_.tobytes()
        assert np.count_nonzero(model.coef_) == np.count_nonzero(expected.coef_)
        assert model.result_.metrics == expected.result_.metrics
    if training != "lbfgs":
        all_take_part()
        again = trained(widened(X, PLACES["interleaved"]), y, **params)
        np.testing.assert_array_equal(again.coef_, model.coef_)


@pytest.mark.parametrize("model", [LogisticRegression(), LogisticRegressionCV(Cs=[1.0], cv=2)])
def test_empty_columns_take_no_rounds(model):
    """Of few features the curvature is a matrix, however many columns beside them are empty."""
    random, rows, size = np.random.default_rng(0), 2000, 600
    X = random.normal(size=(rows, 8)).cumsum(axis=1)
    y = X @ np.arange(-4, 4) + random.normal(size=rows) > 0
    expected = np.copy(model.fit(X, y).n_iter_)
    wide = scipy.sparse.csr_matrix(np.hstack([X, np.zeros((rows, size - 8))]))
    assert columns._PER_WEIGHT * size < 4 * wide.nnz  # memory alone would keep all columns
    np.testing.assert_array_equal(model.fit(wide, y).n_iter_, expected)


def test_a_penalty_reaches_a_feature_that_begins_with_a_weight(all_take_part):
    X, y = narrow()
    X, coef = widened(X, PLACES["interleaved"]), np.zeros(WIDE)
    coef[[0, WIDE - 1]] = 1.0, -2.0  # which do not occur

    def coefficients():
        model = LogisticRegression(**PARAMS, updater="sgd", l2=0.5)
        return model.fit(X, y, coef_init=coef).coef_[0]

    found = coefficients()
    assert 0 < found[0] < 1 and -2 < found[-1] < 0
    all_take_part()
    np.testing.assert_array_equal(coefficients(), found)


def test_a_warm_start_keeps_what_was_learned_of_other_features():
    X, y = narrow()
    model = LogisticRegression(**PARAMS, warm_start=True, l2=0).fit(widened(X, PLACES["interleaved"]), y)
    before = model.coef_.copy()
    model.fit(widened(X, PLACES["appended"]), y)
    others = np.setdiff1d(PLACES["interleaved"], PLACES["appended"])
    np.testing.assert_array_equal(model.coef_[:, others], before[:, others])


def test_parts_may_have_other_features(all_take_part):
    X, y = narrow()

    def learned():
        model = LogisticRegression(**PARAMS)
        for places in PLACES.values():
            model.partial_fit(widened(X, places), y, classes=[0, 1])
        return model.coef_

    found = learned()
    all_take_part()
    np.testing.assert_array_equal(learned(), found)
    assert (found[:, PLACES["interleaved"]] != 0).any() and (found[:, PLACES["appended"]] != 0).any()


class Models(Callback):
    def __init__(self):
        self.found = []

    def on_model(self, progress, model):
        self.found.append((progress.metrics, model))


@pytest.mark.parametrize("classes", [2, 3])
def test_rows_with_other_features_are_evaluated_and_models_are_whole(classes, all_take_part):
    (X, y), other = narrow(classes), PLACES["interleaved"]
    X_test, told = widened(narrow(seed=1)[0], np.arange(other[5], other[5] + FEATURES)), []
    for _ in range(2):
        models = Models()
        model = LogisticRegression(**PARAMS, callbacks=[models]).fit(
            widened(X, other), y, eval_set=(X_test, y)
        )
        told.append([metrics for metrics, _ in models.found] + [model.result_.metrics])
        assert {each.num_features for _, each in models.found} == {WIDE}
        assert models.found[-1][1].coefficients.tobytes() == model.model().coefficients.tobytes()
        all_take_part()
    assert told[0] == told[1]


def test_a_checkpoint_does_not_depend_on_the_features_that_are_left_out(tmp_path, all_take_part):
    X, y = narrow(3)
    X = widened(X, PLACES["interleaved"])
    for updater in ("adagrad", "ftrl"):
        params, kept = PARAMS | {"updater": updater}, tmp_path / updater
        undisturbed = LogisticRegression(**params).fit(X, y)
        LogisticRegression(**params | {"epochs": 1}, checkpoint=kept, checkpoint_every=2).fit(X, y)
        assert checkpoint.read(str(kept / "checkpoint-0")).copy.weights.shape == (WIDE + 1, 3)
        for servers in (1, 2):
            resumed = LogisticRegression(**params, resume=kept, servers=servers).fit(X, y)
            np.testing.assert_array_equal(resumed.coef_, undisturbed.coef_)
    all_take_part()
    resumed = LogisticRegression(**params, resume=kept).fit(X, y)
    np.testing.assert_array_equal(resumed.coef_, undisturbed.coef_)


@pytest.fixture
def folder(tmp_path):
    X, y = narrow()
    lines = []
    for i in range(ROWS):
        own = slice(X.indptr[i], X.indptr[i + 1])
        entries = zip(PLACES["interleaved"][X.indices[own]].tolist(), X.data[own].tolist(), strict=True)
        lines.append(f"{y[i]} " + " ".join(f"{j + 1}:{value!r}" for j, value in entries) + f" {WIDE}:0\n")
    (tmp_path / "data").write_text("".join(lines))
    mapped.convert(tmp_path / "data", tmp_path / "data.shmps")
    return tmp_path / "data.shmps"


@pytest.mark.parametrize("params", [{}, TRAININGS["lbfgs"]])
def test_mapped_rows_are_copied_only_where_that_saves_memory(params, folder, all_take_part, monkeypatch):
    X, y = mapped.load(folder)
    found = trained(folder, **params).coef_
    assert found.tobytes() == trained(X.in_memory(), y, **params).coef_.tobytes()
    rows = rows_of(X, np.asarray(y))
    assert len(Columns.of(rows, np.zeros(WIDE), False, 1, None).kept) == FEATURES + 1
    monkeypatch.setattr(columns, "_PER_WEIGHT", 1)
    some = Columns.of(rows, np.zeros(WIDE), False, 1, None)
    assert some.kept is None and some.rows(rows) is rows


def test_nothing_is_copied_where_there_is_no_memory(monkeypatch):
    X, y = narrow()
    rows, start = rows_of(widened(X, PLACES["interleaved"]), y), np.zeros(WIDE)
    assert Columns.of(rows, start, False, 1, None, memory=2**40).kept is not None
    assert Columns.of(rows, start, False, 1, None, memory=1).kept is None
    monkeypatch.setattr(columns, "available_memory", lambda: 0)
    assert Columns.of(rows, start, False, 1, None).kept is not None  # so little is taken without asking
    monkeypatch.setattr(columns, "_LITTLE", 0)
    assert Columns.of(rows, start, False, 1, None).kept is None


def test_nothing_is_copied_where_nearly_all_features_occur():
    X, y = narrow()
    rows = rows_of(X, y)
    for start in (np.zeros(FEATURES), np.zeros((FEATURES + 1, 3))):
        assert Columns.of(rows, start, start.ndim == 2, 1, None).rows(rows) is rows


@pytest.mark.parametrize(
    "params", [{"servers": 3}, {"servers": 3, "solver": "lbfgs", "batch_size": None, "epochs": None}]
)
@pytest.mark.parametrize("entries", [0, ROWS])
def test_every_server_has_a_key_where_hardly_any_feature_occurs(params, entries):
    places = np.full(entries, 7)
    X = scipy.sparse.csr_matrix((np.ones(entries), (np.arange(entries), places)), (ROWS, WIDE))
    model = trained(X, np.arange(ROWS) % 3 == 0, fit_intercept=False, **params)
    assert np.flatnonzero(model.coef_).tolist() == ([7] if entries else [])


def test_dist_lr_begins_with_a_weight_for_every_feature():
    X, y = narrow()
    model = trained(widened(X, PLACES["interleaved"]), y, updater="dist-lr")
    assert (model.coef_ != 0).all()


def test_memory_follows_the_features_that_occur():
    random, classes, features = np.random.default_rng(0), 40, 2**17
    X = scipy.sparse.csr_matrix(
        (np.ones(1000), (np.repeat(np.arange(100), 10), random.integers(0, features, 1000))), (100, features)
    )
    whole = 8 * classes * features  # bytes of the model itself: 42 MB
    memory = own_memory() + 6 * whole  # L-BFGS remembers 40 times that
    model = LogisticRegression(workers=1, solver="lbfgs", iterations=2, memory=memory, tol=1)
    model.fit(X, np.arange(100) % classes)
    assert model.coef_.shape == (classes, features)
