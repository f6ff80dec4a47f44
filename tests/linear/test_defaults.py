"""What follows from the rows: the number of workers, and the penalties per row from C and l1_ratio."""

import json

import numpy as np
import pytest
import scipy.sparse

from shmps import LogisticRegression
from shmps.errors import UsageError
from shmps.linear.defaults import LEAST_NONZEROS
from shmps.system import parallel

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # trainings of one round
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))
Y = (X[:, 0] + RANDOM.normal(size=60) > 0.5).astype(int)
WEIGHTS = RANDOM.random(60) + 0.5


def held(X=X, y=Y, weights=None, **params):
    """The settings of a training of one round."""
    return LogisticRegression(**({"iterations": 1} | params)).fit(X, y, weights).result_.settings


def of_scikit_learn(X, y, weights=None, **params):
    linear_model = pytest.importorskip("sklearn.linear_model")
    return linear_model.LogisticRegression(tol=1e-10, max_iter=10_000, **params).fit(X, y, weights)


@pytest.mark.parametrize("C", [None, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}], ids=str)
def test_c_is_that_of_scikit_learn(C, weights, class_weight):
    """Without a penalty given, C is 1, as there. Rows count by their weights times those of their classes."""
    mine = LogisticRegression(C=C, class_weight=class_weight, tol=1e-12).fit(X, Y, weights)
    theirs = of_scikit_learn(X, Y, weights, C=C or 1.0, class_weight=class_weight)
    assert np.allclose(mine.coef_, theirs.coef_, atol=1e-5)
    assert np.allclose(mine.intercept_, theirs.intercept_, atol=1e-5)


def test_an_infinite_c_is_no_penalty():
    mine = LogisticRegression(C=np.inf, tol=1e-12).fit(X, Y)
    assert mine.result_.settings["l2"] == 0
    assert np.allclose(mine.coef_, LogisticRegression(l2=0.0, tol=1e-12).fit(X, Y).coef_, atol=1e-5)


def test_l1_ratio_divides_the_penalty():
    settings = held(C=0.5, l1_ratio=0.25, updater="ftrl", weights=WEIGHTS)
    strength = 1 / (0.5 * WEIGHTS.sum())
    assert (settings["l1"], settings["l2"]) == pytest.approx((strength / 4, strength * 3 / 4))
    settings = held(l1_ratio=1.0, updater="ftrl")
    assert (settings["l1"], settings["l2"]) == pytest.approx((1 / 60, 0))


def test_l1_alone_leaves_l2_at_zero():
    settings = held(l1=0.1, updater="ftrl")
    assert (settings["l1"], settings["l2"]) == (0.1, 0)
    assert held(l2=0.3)["l2"] == 0.3 and held(l2=0.0)["l2"] == 0


def test_rows_that_are_held_out_do_not_count():
    assert held(early_stopping=True, validation_fraction=0.5)["l2"] == pytest.approx(1 / 30, rel=0.05)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"C": 2.0, "l2": 0.1}, "got C=2, l2=0.1; give one form or the other"),
        ({"C": 2.0, "l1": 0.1, "updater": "ftrl"}, "got C=2, l1=0.1"),
        ({"l1_ratio": 0.1, "l2": 0.0}, "got l1_ratio=0.1, l2=0"),
        ({"l1_ratio": 0.5, "epochs": 1}, "l1_ratio needs updater='ftrl' with minibatches, got 0.5"),
        ({"l1_ratio": 1.5, "updater": "ftrl"}, "l1_ratio must be a finite number >= 0 and <= 1, got 1.5"),
        ({"C": 0}, "C must be a finite number > 0, got 0"),
        ({"C": float("nan")}, "C must be a finite number > 0, got nan"),
        ({"C": 5e-324}, "C times the sum of the rows' weights, 60, must not vanish, got 5e-324"),
    ],
    ids=str,
)
def test_a_penalty_is_given_in_one_form(params, told):
    with pytest.raises(UsageError, match=r"C|l1_ratio") as caught:
        LogisticRegression(**params).fit(X, Y)
    assert told in str(caught.value)


def test_a_part_has_a_penalty_of_its_own():
    model = LogisticRegression().partial_fit(X, Y, classes=[0, 1])
    assert model.result_.settings["l2"] == 1e-5
    with pytest.raises(UsageError, match="C and l1_ratio are relative to all rows"):
        LogisticRegression(C=1.0).partial_fit(X, Y, classes=[0, 1])


def test_flags_of_the_penalty(shmps, tmp_path):
    path = tmp_path / "rows.svm"
    path.write_text("".join(f"{i % 2} {1 + i % 3}:1\n" for i in range(40)))
    done = shmps("train", path, "--C", 0.5, "--quiet", "--json")
    assert json.loads(done.stdout)["settings"]["l2"] == pytest.approx(1 / 20)
    done = shmps("train", path, "--rule", "ftrl", "--C", 0.5, "--l1-ratio", 1, "--quiet", "--json")
    assert json.loads(done.stdout)["settings"]["l1"] == pytest.approx(1 / 20)
    done = shmps("train", path, "--C", 0.5, "--l2", 0.1)
    assert (done.returncode, done.stderr) == (
        2,
        "shmps: --C and --l1-ratio are another form of --l1 and --l2, got --C 0.5, --l2 0.1; give one form "
        "or the other\n",
    )


def wide(rows, nonzeros):
    """Rows with so many non-zeros in each."""
    indices = np.tile(np.arange(nonzeros, dtype=np.int32), rows)
    indptr = np.arange(rows + 1) * nonzeros
    return scipy.sparse.csr_matrix((np.ones(rows * nonzeros), indices, indptr)), np.arange(rows) % 2


@pytest.mark.parametrize(
    ("cores", "rows", "workers"),
    [(8, 3, 3), (2, 3, 2), (1, 8, 0), (8, 8, 8)],
)
def test_many_non_zeros_get_all_usable_cores_but_no_more_workers_than_rows(monkeypatch, cores, rows, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.setattr(parallel, "cpu_quota", lambda: float(cores))
    assert held(*wide(rows, LEAST_NONZEROS))["workers"] == workers


def test_few_non_zeros_get_fewer_workers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(parallel, "cpu_quota", lambda: float("inf"))
    assert held(epochs=1, iterations=None)["workers"] == 1
    assert held(*wide(40, LEAST_NONZEROS // 10), epochs=1, iterations=None)["workers"] == 4
    model = LogisticRegression().partial_fit(*wide(40, LEAST_NONZEROS // 10), classes=[0, 1])
    assert model.result_.settings["workers"] == 4


def test_workers_that_are_given_are_used_and_must_not_outnumber_the_rows():
    assert held(workers=3)["workers"] == 3 and LogisticRegression().fit(X, Y).workers is None
    with pytest.raises(UsageError, match="workers must be at most the number of rows, 60, got 61"):
        held(workers=61)


def test_a_slow_worker_must_be_one_of_those_that_follow_from_the_rows():
    assert held(slow_worker=(0, 2.0))["workers"] == 1
    with pytest.raises(UsageError, match="slow_worker must name a rank below workers=1, got rank 1"):
        held(slow_worker=(1, 2.0))


def test_a_training_is_resumed_with_the_workers_and_the_penalty_that_followed_from_its_rows(tmp_path):
    params = {"solver": "minibatch", "epochs": 4, "batch_size": 10}
    whole = LogisticRegression(**params).fit(X, Y)
    first = LogisticRegression(**params | {"epochs": 2}, checkpoint=tmp_path, checkpoint_every=1).fit(X, Y)
    rest = LogisticRegression(**params, resume=tmp_path).fit(X, Y)
    assert (rest.coef_ == whole.coef_).all() and (first.coef_ != whole.coef_).any()
