"""What `LogisticRegression` promises: scikit-learn's conventions, the stated optimum, named errors."""

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from problems import FEATURES, ROWS, problem, watching
from processes import children_of, nodes_of

from shmps.callbacks import Callback
from shmps.data import datasets
from shmps.errors import DataError, Diverged, ShmpsError, UsageError
from shmps.linear.result import Evaluation
from shmps.linear.settings import Settings
from shmps.sklearn.estimator import LogisticRegression


def descent(**params):
    """Plain gradient descent: whole shards, constant rate, no evaluation."""
    defaults = {"updater": "sgd", "batch_size": 0, "learning_rate": 1.0, "fit_intercept": False}
    return LogisticRegression(**(defaults | params))


def objective(X, y, weights, intercept=0.0, l1=0.0, l2=0.0):
    """(1/n) sum log(1 + exp(-y_i (x_i.w + b))) + l2/2 |w|^2 + l1 |w|_1, in dense numpy; y in {0, 1}."""
    agreements = np.where(y == 1, 1, -1) * (X @ weights + intercept)
    return np.logaddexp(0, -agreements).mean() + l2 / 2 * weights @ weights + l1 * np.abs(weights).sum()


# --- conventions ---


def test_parameters_are_those_of_the_constructor_and_come_back():
    model = LogisticRegression(workers=3, l2=0.5, slow_worker=(1, 2.0))
    assert LogisticRegression(**model.get_params()).get_params() == model.get_params()
    assert model.set_params(l2=0.25, mode="async") is model
    assert (model.l2, model.mode, model.workers) == (0.25, "async", 3)


def test_an_unknown_parameter_is_refused_by_name():
    with pytest.raises(UsageError, match="lambda_"):
        LogisticRegression().set_params(lambda_=1)


def test_scikit_learn_can_clone_it():
    clone = pytest.importorskip("sklearn.base").clone
    model = LogisticRegression(workers=3, updater="ftrl", l1=0.1, slow_worker=(1, 2.0))
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize("mode", [{"mode": "sync"}, {"mode": "async"}, {"mode": "bounded", "bound": 1}])
def test_every_mode_learns(mode):
    X, y = problem()
    best = LogisticRegression(epochs=100, batch_size=16, learning_rate=0.2, **mode).fit(X, y)
    assert best.score(X, y) > max(y.mean(), 1 - y.mean()) + 0.05
    assert best.result_.settings["mode"] == {"bounded": "bounded 1"}.get(mode["mode"], mode["mode"])


def test_fit_returns_the_estimator_with_arrays_of_the_shapes_that_scikit_learn_uses():
    X, y = problem()
    model = descent(iterations=5)
    assert model.fit(X, y) is model
    assert (model.coef_.shape, model.intercept_.shape) == ((1, FEATURES), (1,))
    assert (model.n_features_in_, model.n_iter_, model.classes_.tolist()) == (FEATURES, 5, [0, 1])
    assert model.decision_function(X).shape == model.predict(X).shape == (ROWS,)
    assert model.predict_proba(X).shape == (ROWS, 2)


def test_predictions_follow_from_the_weights():
    X, y = problem()
    model = descent(iterations=50, fit_intercept=True).fit(X, y)
    margins = X @ model.coef_[0] + model.intercept_[0]
    np.testing.assert_allclose(model.decision_function(X), margins, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-margins)), rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(X), (margins > 0).astype(int))
    assert model.score(X, y) == np.mean((margins > 0) == y) == model.result_.metrics.accuracy


@pytest.mark.parametrize(
    "labels",
    [(0, 1), (3, 7), (-1.0, 1.0), (0.25, 0.5), (False, True), ("no", "yes")],
    ids=lambda labels: f"{labels[0]}-{labels[1]}",
)
def test_any_two_labels_come_back_with_their_type(labels):
    X, y = problem()
    numbered = descent(iterations=20).fit(X, y)
    named = descent(iterations=20).fit(X, np.array(labels)[y])
    assert named.classes_.tolist() == list(labels)
    assert named.coef_.tobytes() == numbered.coef_.tobytes()
    predicted = named.predict(X)
    assert predicted.dtype == np.array(labels).dtype
    np.testing.assert_array_equal(predicted, np.array(labels)[numbered.predict(X)])


def test_labels_in_an_array_of_objects_are_taken_as_they_are():
    X, y = problem()
    model = descent(iterations=5).fit(X, np.array(["no", "yes"], dtype=object)[y])
    assert model.classes_.tolist() == ["no", "yes"]
    assert set(model.predict(X)) <= {"no", "yes"}


def test_labels_in_a_list_are_taken_as_they_are():
    X, y = problem()
    assert descent(iterations=5).fit(X.tolist(), ["ab"[i] for i in y]).classes_.tolist() == ["a", "b"]


def test_whole_labels_beyond_what_a_float_holds_come_back_exactly():
    X, y = problem()
    model = descent(iterations=5).fit(X, np.array([1, 2**64 - 1], np.uint64)[y])
    assert model.classes_.tolist() == [1, 2**64 - 1] and set(model.predict(X)) <= {1, 2**64 - 1}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([1, "a"] * 20, object), "all numbers or all strings, got the types int, str"),
        (np.array([None, "a"] * 20, object), "all numbers or all strings, got the types NoneType, str"),
        (np.array([0, 1, math.nan, 1] * 10, object), "(got|found) .*nan"),
        (
            np.array([b"a", b"b"] * 20),
            "labels must be bools, ints, floats or strings, got b'a' of type bytes; convert",
        ),
    ],
    ids=["two kinds", "none", "nan", "bytes"],
)
def test_labels_that_a_model_can_not_have_are_refused_before_training(labels, said):
    X, told = np.random.default_rng(0).standard_normal((40, 3)), []
    for train in (
        lambda model: model.fit(X, labels),
        lambda model: model.partial_fit(X, labels, classes=labels),
    ):
        model = descent(iterations=2, test_interval=1, callbacks=[watching(told.append)])
        with pytest.raises((DataError, UsageError), match=said):
            train(model)
        assert not told and not hasattr(model, "coef_")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mode", ["sync", "async", "hogwild"])
def test_rows_without_features_are_rows_though_a_minibatch_has_no_others(mode, classes):
    X = sp.csr_matrix(np.random.default_rng(0).standard_normal((60, 4)))
    X[:40] = 0
    X.eliminate_zeros()
    model = LogisticRegression(mode=mode, batch_size=4, epochs=2, fit_intercept=False)
    model.fit(X, np.arange(60) % classes)
    assert model.result_.rows == 120 and np.isfinite(model.coef_).all()


# --- the same input, the same bits ---


@pytest.mark.parametrize("batch_size", [0, 16])
@pytest.mark.parametrize(
    "kind", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, np.asfortranarray]
)
def test_dense_and_sparse_input_give_the_same_bits(kind, batch_size):
    X, y = problem()
    dense, other = (
        LogisticRegression(epochs=2, batch_size=batch_size).fit(matrix, y) for matrix in (X, kind(X))
    )
    assert dense.coef_.tobytes() == other.coef_.tobytes()
    assert dense.intercept_.tobytes() == other.intercept_.tobytes()
    np.testing.assert_array_equal(dense.predict(X), other.predict(kind(X)))


@pytest.mark.parametrize("updater", ["sgd", "adagrad", "ftrl"])
def test_two_sync_fits_agree_in_every_bit_and_another_seed_differs(updater):
    X, y = problem()
    first, second, other = (
        LogisticRegression(workers=3, updater=updater, epochs=3, batch_size=16, random_state=seed).fit(X, y)
        for seed in (4, 4, 5)
    )
    assert first.coef_.tobytes() == second.coef_.tobytes()
    assert first.coef_.tobytes() != other.coef_.tobytes()


def test_the_number_of_servers_changes_no_bit_in_sync_mode():
    X, y = problem()
    one, many = (
        LogisticRegression(servers=servers, epochs=3, batch_size=16).fit(X, y) for servers in (1, FEATURES)
    )
    assert one.coef_.tobytes() == many.coef_.tobytes()


def test_a_fit_begins_anew_and_leaves_its_input_alone():
    X, y = problem()
    before, labels = X.copy(), y.copy()
    model = LogisticRegression(epochs=2, batch_size=16).fit(X, y)
    once = model.coef_.tobytes()
    assert model.fit(X, y).coef_.tobytes() == once
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(y, labels)


# --- the optimum ---


def peer(X, y, **params):
    linear = pytest.importorskip("sklearn.linear_model")
    return linear.LogisticRegression(tol=1e-12, max_iter=100_000, **params).fit(X, y)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("l2", [0.01, 0.3])
def test_gradient_descent_reaches_the_optimum_of_scikit_learn(workers, l2):
    X, y = problem(seed=1)
    mine = descent(workers=workers, l2=l2, iterations=1000).fit(X, y)
    theirs = peer(X, y, C=1 / (ROWS * l2), fit_intercept=False)
    best = objective(X, y, theirs.coef_[0], l2=l2)
    assert objective(X, y, mine.coef_[0], l2=l2) == pytest.approx(best, rel=1e-6)
    assert mine.intercept_.tolist() == [0]


UPDATERS = [("sgd", 1.0), ("adagrad", 0.5), ("ftrl", 1.0)]


@pytest.mark.parametrize(("updater", "rate"), UPDATERS[1:])
def test_the_other_updaters_reach_it_too(updater, rate):
    X, y = problem(seed=1)
    mine = descent(updater=updater, learning_rate=rate, l2=0.1, iterations=2000).fit(X, y)
    theirs = peer(X, y, C=1 / (ROWS * 0.1), fit_intercept=False)
    best = objective(X, y, theirs.coef_[0], l2=0.1)
    assert objective(X, y, mine.coef_[0], l2=0.1) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(("updater", "rate"), UPDATERS)
def test_the_intercept_is_learned_and_not_penalised(updater, rate):
    X, y = problem(seed=2)
    y = np.where(np.arange(ROWS) % 3 == 0, y, 1)  # most are positive, so that it has to be far from 0
    l2 = 0.5
    mine = descent(updater=updater, learning_rate=rate, l2=l2, iterations=2000, fit_intercept=True).fit(X, y)
    theirs = peer(X, y, C=1 / (ROWS * l2))
    assert mine.intercept_[0] == pytest.approx(theirs.intercept_[0], rel=1e-4)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, rtol=1e-3, atol=2e-4)
    assert mine.intercept_[0] > 0.5


def test_ftrl_with_l1_gives_exact_zeros_and_meets_the_subgradient_conditions():
    X, y = problem(seed=5, rows=401, features=20)
    l1 = 0.03
    weights = descent(updater="ftrl", l1=l1, l2=0, iterations=4000).fit(X, y).coef_[0]
    gradient = X.T @ (1 / (1 + np.exp(-X @ weights)) - y) / len(y)
    zero = weights == 0
    assert zero.any() and not zero.all()
    assert np.abs(gradient[zero]).max() <= l1 * 1.001
    np.testing.assert_allclose(gradient[~zero], -l1 * np.sign(weights[~zero]), atol=2e-3 * l1)


@pytest.fixture(scope="module")
def a9a():
    folder = os.environ.get("SHMPS_DATA_DIR")
    if not folder or not all((Path(folder) / file).is_file() for file in ("a9a", "a9a.t")):
        pytest.skip("a9a and a9a.t are not in $SHMPS_DATA_DIR")
    return datasets.load("a9a")


def test_gradient_descent_reaches_the_optimum_of_scikit_learn_on_a9a(a9a):
    X, y, l2 = a9a.train_X, (a9a.train_y > 0).astype(int), 0.01
    mine = descent(l2=l2, iterations=1200, learning_rate=0.8).fit(X, y)
    theirs = peer(X, y, C=1 / (len(y) * l2), fit_intercept=False)
    best = objective(X, y, theirs.coef_[0], l2=l2)
    assert objective(X, y, mine.coef_[0], l2=l2) == pytest.approx(best, rel=1e-6)


# --- evaluations and figures ---


def test_evaluations_come_at_multiples_of_the_interval_and_as_they_are_made():
    X, y = problem()
    told: list[Evaluation] = []
    held_out = problem(seed=9, rows=50)
    callbacks = [watching(told.append)]
    model = descent(iterations=13, test_interval=4, early_stopping=False, callbacks=callbacks)
    model.fit(X, y, eval_set=held_out)
    history = model.result_.history
    assert [progress.iteration for progress in history] == [4, 8, 12]
    assert told == history
    assert [progress.seconds for progress in history] == sorted(progress.seconds for progress in history)
    losses = [progress.metrics.log_loss for progress in history]
    stopped = descent(iterations=4).fit(X, y)
    assert losses[0] == pytest.approx(objective(*held_out, stopped.coef_[0]), rel=1e-12)
    assert model.result_.measured_on == "test"
    assert model.result_.metrics.accuracy == model.score(*held_out)


def test_without_an_interval_or_an_eval_set_there_is_no_history_and_training_rows_are_measured():
    X, y = problem()
    model = descent(iterations=3, test_interval=0).fit(X, y)
    assert model.result_.history == []
    assert model.result_.measured_on == "training"
    assert model.result_.metrics.log_loss == pytest.approx(objective(X, y, model.coef_[0]), rel=1e-12)


@pytest.mark.parametrize(("workers", "servers", "batch_size"), [(1, 1, 0), (2, 1, 16), (3, 2, 50)])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_figures_add_up(workers, servers, batch_size, mode):
    X, y = problem()
    epochs = 4
    model = LogisticRegression(
        workers=workers, servers=servers, batch_size=batch_size, epochs=epochs, mode=mode
    ).fit(X, y)
    result = model.result_
    shards = [ROWS * (rank + 1) // workers - ROWS * rank // workers for rank in range(workers)]
    ticks = [epochs * (math.ceil(size / batch_size) if batch_size else 1) for size in shards]
    assert (result.rows, result.nonzeros) == (epochs * ROWS, epochs * np.count_nonzero(X))
    assert (result.ticks, model.n_iter_) == (sum(ticks), max(ticks))
    assert set(result.shares) == {"computing", "waiting", "talking", "sleeping"}
    assert all(0 <= share <= 1 for share in result.shares.values())
    assert sum(result.shares.values()) == pytest.approx(1)
    assert all(seconds >= 0 for seconds in result.seconds.values())
    assert set(result.seconds) == {"compile", "start", "train"}
    assert result.samples_per_second == pytest.approx(result.rows / result.seconds["train"])
    assert sum(result.delays.histogram) == servers * result.ticks
    assert mode == "async" or result.delays.max == 0


def test_iterations_count_per_worker_and_go_before_epochs():
    X, y = problem()
    model = LogisticRegression(workers=2, batch_size=16, epochs=1, iterations=37).fit(X, y)
    assert (model.n_iter_, model.result_.ticks) == (37, 74)


def test_a_straggler_sleeps_and_changes_no_bit_in_sync_mode():
    X, y = problem()
    slow, fast = (
        LogisticRegression(workers=2, epochs=2, batch_size=16, slow_worker=straggler).fit(X, y)
        for straggler in ((1, 3.0), None)
    )
    assert slow.result_.shares["sleeping"] > 0 == fast.result_.shares["sleeping"]
    assert slow.coef_.tobytes() == fast.coef_.tobytes()


# --- what is refused, by name ---

X, Y = problem(seed=6, rows=21)
NAN, INFINITE = X.copy(), X.copy()
NAN[3, 2], INFINITE[3, 2] = math.nan, math.inf


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (X, np.zeros(21), "two classes or more, got 1"),
        (X, np.arange(21) / 3, "not whole"),
        (X, np.where(Y == 1, 1.0, math.nan), "nan"),
        (X, Y[:-1], "21 rows"),
        (X, np.append(Y, 1), "21 rows"),
        (X, np.column_stack([Y, Y]), r"\(21, 2\)"),
        (NAN, Y, "nan or inf"),
        (INFINITE, Y, "nan or inf"),
        (sp.csr_matrix(NAN), Y, "nan or inf"),
        (X[:0], Y[:0], r"0 sample"),
    ],
    ids=[
        "one-class",
        "numbers",
        "nan-label",
        "short-y",
        "long-y",
        "two-columns-y",
        "nan",
        "inf",
        "sparse-nan",
        "no-rows",
    ],
)
def test_training_rows_that_break_a_rule_are_a_data_error(features, labels, said):
    with pytest.raises(DataError, match=said):
        descent(iterations=1).fit(features, labels)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (X[:, :-1], Y),
        (np.hstack([X, X]), Y),
        (X, Y + 1),
        (X, np.where(Y == 1, "yes", "no")),
        (X, np.append(Y, 1)),
        (X, Y[:-1]),
        (NAN, Y),
        (X[:0], Y[:0]),
    ],
    ids=[
        "fewer-columns",
        "more-columns",
        "other-labels",
        "other-type",
        "long-y",
        "short-y",
        "nan",
        "no-rows",
    ],
)
def test_an_eval_set_that_does_not_fit_is_a_data_error_before_training(features, labels):
    began = []
    with pytest.raises(DataError, match="eval_set"):
        descent(iterations=2, test_interval=1, callbacks=[watching(began.append)]).fit(
            X, Y, eval_set=(features, labels)
        )
    assert not began


@pytest.mark.parametrize(
    "params",
    [
        {"workers": 0},
        {"workers": True},
        {"workers": 1.5},
        {"workers": 22},  # more than rows
        {"servers": 0},
        {"servers": FEATURES + 1},
        {"mode": "fast"},
        {"mode": "bounded"},
        {"mode": "sync", "bound": 3},
        {"mode": "bounded", "bound": -1},
        {"mode": "bounded", "bound": 1.5},
        {"mode": "bounded", "bound": math.nan},
        {"updater": "adam"},
        {"learning_rate": 0},
        {"learning_rate": -1},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"schedule": "1/t", "updater": "adagrad"},
        {"schedule": "linear"},
        {"l1": 0.1},
        {"l1": -0.1, "updater": "ftrl"},
        {"l2": -1},
        {"l2": math.nan},
        {"l2": 2.0},  # rate * l2 >= 1
        {"batch_size": -1},
        {"epochs": 0},
        {"iterations": 0},
        {"test_interval": -1},
        {"random_state": -1},
        {"slow_worker": (2, 2.0)},
        {"slow_worker": (0, 0.5)},
        {"slow_worker": (0, math.nan)},
        {"start_method": "spoon"},
    ],
    ids=lambda params: ",".join(f"{name}={value}" for name, value in params.items()),
)
def test_a_parameter_that_breaks_a_rule_is_a_usage_error(params):
    with pytest.raises(UsageError):
        descent(**params).fit(X, Y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_before_fit_every_prediction_says_so(method):
    with pytest.raises(UsageError, match="not fitted"):
        getattr(LogisticRegression(), method)(X)


def test_rows_with_other_columns_are_not_predicted():
    model = descent(iterations=1).fit(X, Y)
    with pytest.raises(ShmpsError, match=f"{FEATURES}"):
        model.predict(X[:, 1:])


class Table:
    """As much of a table as is looked at."""

    def __init__(self, values, columns):
        self.values, self.columns, self.shape = values, columns, values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


NAMES = [f"feature {i}" for i in range(FEATURES)]


def test_the_names_of_columns_are_kept_and_those_that_come_later_are_compared():
    model = descent(iterations=1).fit(Table(X, NAMES), Y, eval_set=(Table(X, NAMES), Y))
    assert model.feature_names_in_.tolist() == NAMES
    assert model.predict(Table(X, NAMES)).tolist() == model.fit(X, Y).predict(X).tolist()
    assert not hasattr(model, "feature_names_in_")
    with pytest.raises(DataError, match="one label per row"):
        (model := descent()).partial_fit(Table(X, NAMES[::-1]), Y[1:], classes=[0, 1])
    assert not hasattr(model.partial_fit(X, Y, classes=[0, 1]), "feature_names_in_")
    model = descent().partial_fit(Table(X, NAMES), Y, classes=[0, 1])
    model.partial_fit(Table(X, NAMES), Y)
    for wrong in (
        lambda table: model.predict(table),
        lambda table: model.partial_fit(table, Y),
        lambda table: descent().fit(Table(X, NAMES), Y, eval_set=(table, Y)),
    ):
        with pytest.raises(DataError, match=r"should match.*\n.*the same order as they were in fit"):
            wrong(Table(X, NAMES[::-1]))
        first_five = r"unseen at fit time:\n- a\n- b\n- c\n- d\n- e\n- \.\.\.\nFeature .* now missing:\n- "
        with pytest.raises(DataError, match=first_five):
            wrong(Table(X, list("fedcba")))


def test_names_on_one_side_only_are_a_warning_and_those_of_two_types_an_error():
    named, nameless = descent(iterations=1).fit(Table(X, NAMES), Y), descent(iterations=1).fit(X, Y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        named.predict(X)
    with pytest.warns(UserWarning, match="X has feature names, but"):
        nameless.predict(Table(X, NAMES))
    numbered = descent(iterations=1).fit(Table(X, range(FEATURES)), Y)
    assert not hasattr(numbered, "feature_names_in_")
    with pytest.raises(DataError, match=r"\['int', 'str'\]"):
        descent().fit(Table(X, [*NAMES[1:], 0]), Y)


# --- what goes wrong on the way ---


def test_an_interrupt_keeps_the_weights_so_far():
    def interrupt(progress):
        raise KeyboardInterrupt

    X, y = problem()
    before = children_of(os.getpid())
    model = descent(iterations=10_000_000, test_interval=5, callbacks=[watching(interrupt)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert children_of(os.getpid()) == before
    assert model.coef_.shape == (1, FEATURES)
    assert np.isfinite(model.coef_).all() and model.coef_.any()
    assert objective(X, y, model.coef_[0]) < math.log(2)  # better than no weights
    assert set(model.predict(X)) <= {0, 1}


@pytest.mark.parametrize("solver", [{}, {"solver": "lbfgs", "test_interval": 1}], ids=["minibatch", "lbfgs"])
def test_an_exception_of_a_callback_is_raised_as_it_is_and_the_weights_so_far_are_kept(solver):
    disk_full = RuntimeError("disk full")

    class Fails(Callback):
        def on_evaluation(self, progress):
            if progress.iteration > 1:
                raise disk_full

    X, y = problem()
    defaults = {"iterations": 10_000_000, "test_interval": 5, "tol": 1e-12, "callbacks": [Fails()]}
    model = LogisticRegression(**defaults | solver)
    with pytest.raises(RuntimeError) as caught:
        model.fit(X, y)
    assert caught.value is disk_full
    assert objective(X, y, model.coef_[0], model.intercept_[0]) < math.log(2)
    assert len(model.history_) >= 1 and set(model.predict(X)) <= {0, 1}


@pytest.mark.parametrize("params", [{"solver": "lbfgs"}, {"iterations": 9}, {"iterations": 1}], ids=str)
def test_weights_of_a_training_that_diverged_are_not_kept(params):
    rate = {} if "solver" in params else {"updater": "sgd", "l2": 0, "learning_rate": 1e300}
    model = LogisticRegression(**rate | params)
    with pytest.raises(Diverged):
        model.fit(X * 1e300, Y)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_loss_that_is_not_finite_is_diverged_itself(mode):
    with pytest.raises(Diverged, match="learning rate") as caught:
        descent(l2=0, learning_rate=1e300, iterations=1000, mode=mode).fit(X * 1e300, Y)
    assert type(caught.value) is Diverged


def test_weights_that_overflow_in_the_last_step_are_diverged_too():
    with pytest.raises(Diverged, match="learning rate"):
        descent(l2=0, learning_rate=1e300, iterations=1).fit(X * 1e300, Y)


class Raises(Callback):
    def __init__(self, error):
        self.error = error

    def on_start(self):
        raise self.error


def kill_newest_node(progress):
    for pid in nodes_of(os.getpid())[-1:]:
        os.kill(pid, signal.SIGKILL)


FAILURES = {
    "labels": lambda model: model.fit(X[:, :3], np.ones(len(X))),
    "names": lambda model: model.fit(Table(X, [*NAMES[1:], 0]), Y),
    "parameter": lambda model: model.set_params(workers=0).fit(X, Y),
    "diverged": lambda model: model.set_params(l2=0, learning_rate=1e300).fit(X * 1e300, Y),
    "start": lambda model: model.set_params(callbacks=[Raises(KeyboardInterrupt())]).fit(X, Y),
    "part": lambda model: model.partial_fit(Table(X, NAMES), Y + 1, classes=[0, 1]),
    "part diverged": lambda model: model.set_params(l2=0, learning_rate=1e308).partial_fit(
        X * 1e10, Y, classes=[0, 1]
    ),
    "node": lambda model: model.set_params(
        iterations=10**7, on_worker_death="fail", test_interval=1, callbacks=[watching(kill_newest_node)]
    ).fit(X, Y),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("is_fitted", [True, False])
@pytest.mark.parametrize("failure", FAILURES)
def test_what_fails_leaves_the_estimator_as_it_was(failure, is_fitted):
    model = descent(iterations=2, fit_intercept=True)
    if is_fitted:
        model.fit(X, Y)
    learned = {name: value for name, value in vars(model).items() if name not in model.get_params()}
    with pytest.raises((ShmpsError, KeyboardInterrupt)):
        FAILURES[failure](model)
    after = {name: value for name, value in vars(model).items() if name not in model.get_params()}
    assert list(after) == list(learned) and all(after[name] is learned[name] for name in learned)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"mode": "async"},
        {"mode": "hogwild"},
        {"early_stopping": True},
        {"solver": "lbfgs", "tol": 1e-15, "l2": 1e-5},
    ],
    ids=str,
)
def test_an_interrupted_fit_has_all_attributes_of_a_whole_one(params, warm):
    def interrupt(progress):
        if progress.iteration >= 2:
            raise KeyboardInterrupt

    settings = {"workers": 2, "test_interval": 1, "iterations": 30} | params
    whole = LogisticRegression(**settings).fit(Table(X, NAMES), Y)
    model = LogisticRegression(**settings)
    if warm:  # of another shape
        model.fit(X[:, :3], np.arange(len(X)) % 3)
    settings |= {"iterations": 10**7, "callbacks": [watching(interrupt)]}
    with pytest.raises(KeyboardInterrupt):
        model.set_params(**settings).fit(Table(X, NAMES), Y)
    assert set(vars(model)) == set(vars(whole))
    assert model.coef_.shape == whole.coef_.shape and model.classes_.tolist() == [0, 1]
    assert model.n_iter_ >= 1 and len(model.history_) == 2 and model.result_.history is model.history_
    assert model.result_.ticks >= 2 and model.result_.rows > 0 < model.result_.nonzeros
    if not model.early_stopping:  # which measures on other rows
        assert model.result_.metrics.accuracy == model.score(Table(X, NAMES), Y)
    assert all(math.isfinite(seconds) for seconds in model.result_.seconds.values())
    assert "accuracy" in model.result_.table() and model.result_.to_dict()["shares"] == {}
    assert model.model().settings["solver"] == whole.model().settings["solver"]


def test_a_callback_sees_the_model_before_until_the_next_one_is_whole():
    model = descent(iterations=6, test_interval=3).fit(X, Y)
    before, seen = model.coef_, []
    model.set_params(callbacks=[watching(lambda evaluation: seen.append(model.coef_))]).fit(2 * X, Y)
    assert [each is before for each in seen] == [True, True] and model.coef_ is not before


# --- where it starts, and how long a tick lasts ---


def test_training_starts_at_the_weights_it_is_given():
    X, y = problem()
    first = descent(fit_intercept=True, iterations=5).fit(X, y)
    going_on = descent(fit_intercept=True, iterations=7).fit(
        X, y, coef_init=first.coef_, intercept_init=first.intercept_
    )
    whole = descent(fit_intercept=True, iterations=12).fit(X, y)
    np.testing.assert_allclose(going_on.coef_, whole.coef_, rtol=1e-12)
    np.testing.assert_allclose(going_on.intercept_, whole.intercept_, rtol=1e-12)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"coef_init": np.zeros(FEATURES + 1)}, f"coef_init must be {FEATURES} finite numbers"),
        ({"coef_init": np.full(FEATURES, math.nan)}, "finite"),
        ({"coef_init": "zero"}, "finite"),
        ({"intercept_init": 1.0}, "needs fit_intercept=True"),
    ],
)
def test_a_start_that_does_not_fit_is_a_usage_error(start, said):
    with pytest.raises(UsageError, match=said):
        descent().fit(X, Y, **start)


def test_a_tick_time_is_slept_and_changes_no_bit_in_sync_mode():
    slow, fast = (descent(iterations=4, tick_time=ms).fit(X, Y) for ms in (20, 0))
    assert slow.result_.shares["sleeping"] > 0 == fast.result_.shares["sleeping"]
    assert slow.result_.seconds["train"] >= 4 * 0.02
    assert slow.coef_.tobytes() == fast.coef_.tobytes()


def test_a_stragglers_tick_time_is_longer_by_its_factor():
    plan = Settings.of(descent(workers=2, tick_time=20, slow_worker=(1, 5.0))).plan()
    assert plan.least_seconds(0, computed=0.001) == pytest.approx(0.02)
    assert plan.least_seconds(1, computed=0.001) == pytest.approx(0.1)
    assert plan.least_seconds(1, computed=0.03) == pytest.approx(0.15)


def test_partial_fit_goes_on_in_sync_mode_from_steps_in_place():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    y = (X.sum(axis=1) > 0).astype(int)
    after = []
    for batch_size in (0, len(y)):  # the same rows, looked at whole or localized
        model = LogisticRegression(
            solver="minibatch", updater="ftrl", mode="hogwild", workers=1, batch_size=1, test_interval=0
        )
        model.partial_fit(X, y, classes=[0, 1])
        model.set_params(mode="sync", batch_size=batch_size).partial_fit(X, y)
        after.append(model.coef_)
    np.testing.assert_allclose(after[0], after[1], rtol=1e-9)


def test_partial_fit_with_another_penalty_begins_with_the_weights():
    X, y = np.eye(4), np.array([0, 1, 0, 1])
    model = LogisticRegression(solver="minibatch", updater="sgd", workers=1, l2=0.0)
    model.partial_fit(X, y, classes=[0, 1])
    model.set_params(l2=0.1).partial_fit(X, y)
    assert np.isfinite(model.coef_).all()
