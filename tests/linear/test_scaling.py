"""The default learning rate of minibatches: features of any scale, how near the optimum it ends."""

import os
import signal
import warnings

import numpy as np
import pytest
import scipy.sparse
from problems import watching
from processes import children_of

from shmps import LogisticRegression
from shmps.data.rows import rows_of
from shmps.errors import NotConverged
from shmps.linear.scaling import Centre, Moments

MODES = [{"mode": "sync"}, {"mode": "async"}, {"mode": "bounded", "bound": 1}, {"mode": "hogwild"}]
UPDATERS = ["adagrad", "ftrl"]


def problem(rows=1500, classes=2, seed=0):
    """Five dense features, three that few rows have; X (rows, 8) and y (rows,)."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 8))
    X[:, 5:] *= random.random((rows, 3)) < 0.2
    margins = X @ random.normal(size=(8, classes)) + random.gumbel(size=(rows, classes))
    return X, np.argmax(margins, axis=1)


def short_of(model, best):
    """The share of the way from the constant model to the optimum that is left."""
    found, least = model.result_.training_log_loss, best.result_.training_log_loss
    return (found - least) / (best.result_.constant_log_loss - least)


SCALES = 10.0 ** np.array([-4, 6, 0, -2, 3, 5, -3, 1])
OFFSETS = np.array([30.0, -20, 10, 0, 100, 0, 0, 0])  # in units of the scale


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["mode"])
@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_ten_epochs_end_near_the_optimum_on_features_of_any_scale_and_offset(mode, updater, classes):
    X, y = problem(classes=classes)
    X = (X + OFFSETS) * SCALES
    best = LogisticRegression(solver="lbfgs").fit(X, y)
    model = LogisticRegression(**mode, updater=updater, solver="minibatch").fit(X, y)
    assert short_of(model, best) < 0.1
    assert short_of(LogisticRegression(learning_rate=0.1).fit(X, y), best) > 1


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_scales_that_are_powers_of_two_change_no_bit(updater, classes, intercept):
    X, y = problem(rows=200, classes=classes)
    X[:, :5] += np.arange(5)
    scales = 2.0 ** np.array([-30, 20, 0, -7, 3, 40, -11, 5])
    params = {"updater": updater, "fit_intercept": intercept, "l2": 0.0, "epochs": 2, "workers": 3}
    model, scaled = (LogisticRegression(**params).fit(each, y) for each in (X, X * scales))
    assert (scaled.coef_ * scales).tobytes() == model.coef_.tobytes()
    assert scaled.intercept_.tobytes() == model.intercept_.tobytes()


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_sync_has_the_same_bits_with_any_servers_and_after_a_death(updater, classes):
    X, y = problem(rows=300, classes=classes)
    doomed = [True]

    def kill(evaluation):
        if doomed:
            doomed.clear()
            os.kill(children_of(os.getpid())[-1], signal.SIGKILL)

    def bits(**params):
        params = {"workers": 3, "updater": updater, "epochs": 3, "test_interval": 7} | params
        model = LogisticRegression(**params).fit(X + OFFSETS, y)
        return model.coef_.tobytes() + model.intercept_.tobytes()

    expected = bits()
    assert bits(servers=2) == bits(servers=3) == expected
    assert bits(servers=2, callbacks=[watching(kill)]) == expected and not doomed


@pytest.mark.parametrize("batch_size", [None, 0])
@pytest.mark.parametrize("mode", ["sync", "hogwild"])
def test_an_offset_of_dense_features_changes_the_intercept_alone(mode, batch_size):
    X, y = problem(rows=300)
    offset = np.array([3.0, -500, 0.1, 20, 7, 0, 0, 0])
    params = {"mode": mode, "workers": 1, "batch_size": batch_size, "epochs": 5}
    model, shifted = (LogisticRegression(**params).fit(each, y) for each in (X, X + offset))
    np.testing.assert_allclose(shifted.coef_, model.coef_, rtol=1e-6)
    np.testing.assert_allclose(shifted.intercept_ + shifted.coef_ @ offset, model.intercept_, rtol=1e-6)


@pytest.mark.parametrize("constant", [1e-9, 1.0, 1e9])
def test_a_constant_feature_gets_no_weight_that_matters(constant):
    X, y = problem(rows=300)
    models = [
        LogisticRegression(solver="minibatch").fit(np.hstack([X, np.full((300, 1), each)]), y)
        for each in (1.0, constant)
    ]
    assert abs(models[1].coef_[0, -1] * constant) < 1e-3
    np.testing.assert_allclose(models[1].coef_[:, :-1], models[0].coef_[:, :-1], rtol=1e-3)


def test_rows_of_weight_zero_do_not_count():
    X, y = problem(rows=300)
    more, labels = np.vstack([X, 1e9 * X[:100]]), np.append(y, y[:100])
    rates = [
        Moments.of(rows_of(scipy.sparse.csr_matrix(each), codes.astype(float), importance), 8)
        for each, codes, importance in ((X, y, None), (more, labels, np.repeat([1.0, 0.0], [300, 100])))
    ]
    np.testing.assert_allclose(rates[0].scales(True), rates[1].scales(True))
    assert rates[0].rate("sgd", False, True, 0.1) == pytest.approx(rates[1].rate("sgd", False, True, 0.1))


@pytest.mark.parametrize("importance", [None, np.random.default_rng(1).uniform(0.1, 3, 60)])
def test_centred_rows_are_dense_in_the_features_that_most_rows_have_and_have_their_moments(importance):
    random = np.random.default_rng(2)
    X = (random.normal(size=(60, 6)) + 5) * (random.random((60, 6)) < [1, 0.9, 0.7, 0.2, 0.1, 0])
    X = scipy.sparse.csr_matrix(X)
    X.indices[: X.indptr[1]] = X.indices[: X.indptr[1]][::-1].copy()  # rows need not be sorted
    rows = rows_of(X, np.ones(60), importance)
    moments = Moments.of(rows, 6)
    scales = moments.scales(True)
    dense, shares = X.toarray(), np.ones(60) if importance is None else importance
    for j in (3, 4):
        has = dense[:, j] != 0
        assert scales[j] == pytest.approx(np.sqrt(np.average(dense[has, j] ** 2, weights=shares[has])))
    centre = Centre.of(rows, moments, scales)
    assert centre.keys.tolist() == [0, 1, 2] and scales[5] == scales[6] == 1
    means = np.average(dense, axis=0, weights=shares)[:3]
    deviations = np.sqrt(np.average((dense[:, :3] - means) ** 2, axis=0, weights=shares))
    np.testing.assert_allclose(centre.means, means, rtol=1e-12)
    np.testing.assert_allclose(scales[:3], deviations, rtol=1e-12)
    for begin, end in ((0, 60), (7, 19)):
        part = centre.centred(rows.part(begin, end))
        expected = dense[begin:end] - np.append(means, [0, 0, 0])
        found = scipy.sparse.csr_matrix((part.data, part.indices, part.indptr), expected.shape)
        np.testing.assert_allclose(found.toarray(), expected, atol=1e-14)
    weights = random.normal(size=(7, 2))
    np.testing.assert_allclose(centre.plain(centre.stored(weights)), weights)
    keys = np.array([0, 1, 2, 4, 6])
    assert centre.plain(weights[keys], keys).tolist() == centre.plain(weights)[keys].tolist()


def test_features_without_a_value_leave_the_rate_finite():
    y = np.arange(60) % 2
    for updater in ("sgd", *UPDATERS):
        for intercept in (True, False):
            model = LogisticRegression(updater=updater, fit_intercept=intercept).fit(np.zeros((60, 2)), y)
            assert not model.coef_.any()


@pytest.mark.parametrize("updater", UPDATERS)
def test_parts_whose_scales_differ_end_near_the_optimum(updater):
    X, y = problem(rows=2000)
    X = X * SCALES
    X[:500, 7] = 0  # a feature that the first parts do not have
    best = LogisticRegression(solver="lbfgs").fit(X, y)
    model = LogisticRegression(updater=updater, workers=1)
    for _ in range(3):
        for begin in range(0, 2000, 250):
            model.partial_fit(X[begin : begin + 250], y[begin : begin + 250], classes=[0, 1])
    least, chance = best.result_.training_log_loss, best.result_.constant_log_loss
    found = -np.log(model.predict_proba(X)[np.arange(2000), y]).mean()
    assert (found - least) / (chance - least) < 0.05


def test_small_data_has_small_minibatches_unless_a_size_is_given():
    for rows, batches in ((4000, 20), (640, 5), (100, 1)):
        X, y = problem(rows=rows)
        assert LogisticRegression(epochs=1, workers=2).fit(X, y).n_iter_ == batches
    assert LogisticRegression(epochs=1, workers=2, batch_size=10).fit(X, y).n_iter_ == 5


def test_the_rate_of_sgd_allows_for_a_strong_penalty():
    X, y = problem(rows=300)
    best = LogisticRegression(solver="lbfgs", l2=100.0).fit(1e-3 * X, y)
    model = LogisticRegression(updater="sgd", l2=100.0, iterations=100, batch_size=0).fit(1e-3 * X, y)
    assert model.result_.training_log_loss == pytest.approx(best.result_.training_log_loss, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "params",
    [{}, {"fit_intercept": False}, {"updater": "ftrl", "l1": 0.01}],
    ids=["l2", "no intercept", "l1"],
)
def test_the_gap_is_about_that_to_the_optimum(classes, weighted, params):
    X, y = problem(rows=600, classes=classes)
    weights = np.random.default_rng(3).uniform(0.1, 3, 600) if weighted else None
    long = {"l2": 1e-3, "epochs": 400, "workers": 1}

    def objective(model):
        total = model.l2 / 2 * (model.coef_**2).sum() + model.l1 * np.abs(model.coef_).sum()
        labels = model.classes_[-len(model.coef_) :]  # with two classes there is one problem
        for label, own, bias in zip(labels, model.coef_, model.intercept_, strict=True):
            margins = np.where(y == label, 1, -1) * (X @ own + bias)
            total += np.average(np.logaddexp(0, -margins), weights=weights)
        return total

    best = LogisticRegression(**(long | params)).fit(X, y, sample_weight=weights)
    near = LogisticRegression(**(long | params | {"epochs": 2})).fit(X, y, sample_weight=weights)
    actual = objective(near) - objective(best)
    assert near.result_.estimate.value == pytest.approx(actual, rel=0.3)
    assert best.result_.estimate.value < 0.2 * actual


def test_rows_may_have_their_columns_in_any_order_and_more_than_once():
    X, y = problem(rows=200)
    sorted_rows = scipy.sparse.csr_matrix(X)
    columns, starts = np.tile(np.r_[np.arange(8)[::-1], 7], 200), np.arange(0, 1801, 9)
    values = np.column_stack([X[:, ::-1], np.zeros(200)])
    values[:, [0, 8]] = X[:, [7]] / 2  # column 7 is there twice
    unsorted = scipy.sparse.csr_matrix((values.ravel(), columns, starts), (200, 8))
    given = {"engine": "inline", "workers": 2, "updater": "sgd", "learning_rate": 0.1, "epochs": 2}
    expected, found = (
        LogisticRegression(**given, fit_intercept=False).fit(rows, y) for rows in (sorted_rows, unsorted)
    )
    assert found.coef_ == pytest.approx(expected.coef_)
    assert found.result_.estimate.value == pytest.approx(expected.result_.estimate.value, rel=1e-3)


def test_a_training_that_ends_far_from_the_optimum_is_said_to_once_and_to_have_its_remedy(shmps, tmp_path):
    X, y = problem(rows=400)
    model = LogisticRegression(epochs=1, learning_rate=1e-3)
    with pytest.warns(
        NotConverged, match=r"short on the way .* raise epochs, or leave .* solver='auto'"
    ) as said:
        result = model.fit(X, y).result_
    assert len(said) == 1
    assert f"{result.estimate.share:.0%}" in str(said[0].message) and result.estimate.share > 0.5
    assert result.to_dict()["estimate"]["value"] == result.estimate.value
    np.savetxt(
        tmp_path / "rows.csv", np.column_stack([y, X]), "%g", ",", header="label,a,b,c,d,e,f,g,h", comments=""
    )
    run = shmps("train", tmp_path / "rows.csv", "--iterations", 1, "--learning-rate", 0.001)
    assert "raise --iterations, or leave minibatches for --solver auto" in run.stderr


def test_nothing_is_said_of_the_gap_where_more_epochs_would_not_be_the_remedy():
    X, y = problem(rows=400)
    short = {"epochs": 1, "learning_rate": 1e-3}
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotConverged)
        results = [
            LogisticRegression(**short).fit(X, y, eval_set=(X, y)).result_,
            LogisticRegression(**short).partial_fit(X, y, classes=[0, 1]).result_,
            LogisticRegression(solver="lbfgs").fit(X, y).result_,
        ]
        LogisticRegression(**short).fit(
            X, np.random.default_rng(0).permutation(y)
        )  # there is little to learn
    assert [result.estimate for result in results] == [None] * 3
