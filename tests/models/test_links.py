"""Softmax and one class against the rest: probabilities, metrics and files of models of both kinds."""

import json
import math
import warnings

import numpy as np
import pytest

from shmps.errors import DataError, UsageError
from shmps.models.formats import check, load, save
from shmps.models.links import ONE_AGAINST_REST, SOFTMAX
from shmps.models.metrics import evaluate_classes, losses
from shmps.models.model import Model

LINKS = [ONE_AGAINST_REST, SOFTMAX]
LABELS = ("ash", "elm", "fir")
RANDOM = np.random.default_rng(0)
WEIGHTS, INTERCEPT = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=3)
X = RANDOM.normal(size=(200, 4))

each_link = pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)


def model_of(link, labels=LABELS):
    return Model(WEIGHTS, INTERCEPT, labels, {"multi_class": link.name})


@pytest.fixture(autouse=True)
def nothing_warns():
    with warnings.catch_warnings(), np.errstate(divide="raise", over="raise", invalid="raise"):
        warnings.simplefilter("error")
        yield


def naive_probabilities(link, row):
    shares = [math.exp(m) if link is SOFTMAX else 1 / (1 + math.exp(-m)) for m in row]
    return [share / math.fsum(shares) for share in shares]


@each_link
def test_probabilities_follow_from_the_margins_of_a_row(link):
    model = model_of(link)
    shares = [naive_probabilities(link, row) for row in model.decision_function(X)]
    np.testing.assert_allclose(model.predict_proba(X), shares, rtol=1e-13)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(shares), rtol=1e-12, atol=1e-15)
    assert model.predict_proba(X[:0]).shape == model.predict_log_proba(X[:0]).shape == (0, 3)


def test_probabilities_of_softmax_are_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    y = np.array(LABELS)[np.argmax(X @ WEIGHTS.T + RANDOM.normal(size=(200, 3)), axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        theirs = linear.LogisticRegression().fit(X, y)
    mine = Model(theirs.coef_, theirs.intercept_, theirs.classes_, {"multi_class": "multinomial"})
    assert mine.predict(X).tolist() == theirs.predict(X).tolist()
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    np.testing.assert_allclose(mine.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [{"multi_class": "ovr"}, {}], ids=["ovr", "of an older version"])
def test_probabilities_against_the_rest_are_scikit_learns(settings):
    linear, multiclass = (pytest.importorskip(f"sklearn.{name}") for name in ("linear_model", "multiclass"))
    y = np.array(LABELS)[np.argmax(X @ WEIGHTS.T + RANDOM.normal(size=(200, 3)), axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        theirs = multiclass.OneVsRestClassifier(linear.LogisticRegression()).fit(X, y)
    coefficients = np.vstack([each.coef_ for each in theirs.estimators_])
    intercept = np.concatenate([each.intercept_ for each in theirs.estimators_])
    mine = Model(coefficients, intercept, theirs.classes_, settings)
    assert mine.predict(X).tolist() == theirs.predict(X).tolist()
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)


@each_link
@pytest.mark.parametrize("weights", [None, RANDOM.uniform(0.1, 3, 200)], ids=["alike", "weighted"])
def test_metrics_are_scikit_learns_of_these_probabilities(link, weights):
    theirs = pytest.importorskip("sklearn.metrics")
    margins, y = 3 * RANDOM.normal(size=(200, 3)), RANDOM.integers(0, 3, 200)
    shares = link.probabilities(margins)
    found = evaluate_classes(lambda number: margins[:, number], 3, y, weights, link)
    expected = theirs.log_loss(y, shares, sample_weight=weights)
    assert found.log_loss == pytest.approx(expected, rel=1e-12)
    assert np.average(losses(margins, y, link), weights=weights) == pytest.approx(expected, rel=1e-12)
    area = theirs.roc_auc_score(y, shares, multi_class="ovr", sample_weight=weights)
    assert found.auc == pytest.approx(area, rel=1e-12)
    assert found.accuracy == pytest.approx(np.average(margins.argmax(axis=1) == y, weights=weights))
    assert {type(value) for value in vars(found).values()} == {float}


def test_what_all_margins_of_a_row_have_in_common_changes_nothing_of_softmax():
    margins, y = RANDOM.normal(size=(200, 3)), RANDOM.integers(0, 3, 200)
    moved = margins + 10 * RANDOM.normal(size=(200, 1))
    one, other = (
        evaluate_classes(each.T.__getitem__, 3, y, link=SOFTMAX).__dict__ for each in (margins, moved)
    )
    assert one == pytest.approx(other, rel=1e-12)
    np.testing.assert_allclose(SOFTMAX.probabilities(moved), SOFTMAX.probabilities(margins), rtol=1e-12)


@pytest.mark.parametrize("magnitude", [1e3, 1e100, 1e300])
def test_extreme_margins_of_softmax_give_exact_losses_without_a_warning(magnitude):
    margins = np.array([[magnitude, 0.0, -magnitude], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(SOFTMAX.probabilities(margins), [[1, 0, 0], [1 / 3] * 3])
    assert SOFTMAX.log_probabilities(margins)[0].tolist() == [0.0, -magnitude, -2 * magnitude]
    for number in range(3):
        found = evaluate_classes(margins[:1].T.__getitem__, 3, [number], link=SOFTMAX)
        assert found.log_loss == losses(margins[:1], np.array([number]), SOFTMAX)[0] == number * magnitude


@each_link
@pytest.mark.parametrize("name", ["shmps", "npz"])
def test_files_keep_the_kind_of_probabilities(tmp_path, link, name):
    model = model_of(link)
    save(model, tmp_path / "m", name)
    found = load(tmp_path / "m")
    assert found.link == link and found.settings["multi_class"] == link.name
    assert found.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_a_softmax_model_is_not_saved_for_liblinear_whose_probabilities_would_differ(tmp_path):
    softmax, against_rest = (model_of(link, (0, 1, 2)) for link in (SOFTMAX, ONE_AGAINST_REST))
    words = r"m\.liblinear: .* got a model with multi_class='multinomial'; train with multi_class='ovr', or"
    with pytest.raises(DataError, match=words):
        save(softmax, tmp_path / "m.liblinear")
    with pytest.raises(DataError, match=words):  # before training
        check((0, 1, 2), str(tmp_path / "m.liblinear"), None, softmax.settings)
    assert list(tmp_path.iterdir()) == []
    save(against_rest, tmp_path / "m.liblinear")
    found = load(tmp_path / "m.liblinear")
    assert found.link == ONE_AGAINST_REST
    assert found.predict_proba(X).tobytes() == against_rest.predict_proba(X).tobytes()


@pytest.mark.parametrize("name", ["shmps", "npz", "liblinear"])
def test_models_of_two_labels_have_one_kind_of_probabilities(tmp_path, name):
    settings = {"multi_class": "multinomial"}
    save(Model(WEIGHTS[0], 0.5, (0, 1), settings), tmp_path / "m", name)
    expected = Model(WEIGHTS[0], 0.5, (0, 1)).predict_proba(X)
    assert load(tmp_path / "m").predict_proba(X).tobytes() == expected.tobytes()


@pytest.mark.parametrize("value", ["crammer-singer", "auto", None, ["ovr"]])
def test_an_unknown_kind_is_refused(tmp_path, value):
    words = "multi_class must be 'ovr' or 'multinomial' with more than two labels, got "
    with pytest.raises(UsageError, match=words):
        Model(WEIGHTS, INTERCEPT, LABELS, {"multi_class": value})
    settings = np.array(json.dumps({"multi_class": value}))
    np.savez(tmp_path / "m.npz", coefficients=WEIGHTS, intercept=INTERCEPT, labels=LABELS, settings=settings)
    with pytest.raises(DataError, match=rf"m\.npz: .*{words}"):
        load(tmp_path / "m.npz")
