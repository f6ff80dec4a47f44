"""What ends a training before its time, what it then keeps, and trainings that go on from another."""

import functools
import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from problems import problem, watching
from processes import children_of

from shmps import ASYNC, HOGWILD, SGD, SYNC, Cluster, LogisticRegression, load, save
from shmps.callbacks import Callback, EarlyStopping, History, JsonLines, ModelCheckpoint
from shmps.data.rows import rows_of
from shmps.errors import DataError, Diverged, UsageError
from shmps.linear import solvers
from shmps.linear.minibatch_worker import train
from shmps.linear.plan import Plan
from shmps.ps.messages import WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import WORKER_PLACES, Failpoint

X, Y = problem()
MANY = 10**7  # iterations: it ends by being stopped, or not at all
MODES = [{"mode": "sync"}, {"mode": "async"}, {"mode": "bounded", "bound": 1}, {"mode": "hogwild"}]


class StopAt(Callback):
    def __init__(self, evaluation):
        self.evaluation = evaluation

    def on_start(self):
        self.seen = []

    def on_evaluation(self, progress):
        self.seen.append(progress)
        return len(self.seen) == self.evaluation


def fit(callback, **params):
    settings = {"batch_size": 20, "test_interval": 3, "iterations": MANY, "callbacks": [callback]}
    return LogisticRegression(**(settings | params)).fit(X, Y)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["mode"])
def test_a_callback_stops_all_workers_and_keeps_the_weights_that_were_evaluated(mode):
    stop, before = StopAt(2), children_of(os.getpid())
    model = fit(stop, workers=3, **mode)
    assert children_of(os.getpid()) == before
    assert [progress.iteration for progress in stop.seen] == [3, 6]
    assert (model.n_iter_, model.history_) == (6, stop.seen)
    assert model.result_.metrics == stop.seen[-1].metrics


def test_callbacks_get_an_evaluation_at_the_end_at_the_latest():
    told = StopAt(0)
    fit(told, iterations=5, test_interval=7)
    assert [progress.iteration for progress in told.seen] == [5]


def test_a_sync_training_that_is_stopped_ends_with_the_bits_of_a_shorter_one():
    shorter = fit(StopAt(0), iterations=6)
    for servers in (1, 2):
        stopped = fit(StopAt(2), servers=servers)
        assert stopped.coef_.tobytes() == shorter.coef_.tobytes()
        assert stopped.intercept_.tobytes() == shorter.intercept_.tobytes()


@pytest.mark.parametrize("place", WORKER_PLACES)
def test_it_does_so_whenever_the_worker_dies_whose_weights_are_evaluated(place, monkeypatch):
    undisturbed = fit(StopAt(2), servers=2)
    failpoints = [Failpoint(WORKER, 0, place, 6)]
    monkeypatch.setattr(solvers, "Cluster", functools.partial(Cluster, failpoints=failpoints))
    killed = fit(StopAt(2), servers=2)
    assert [event.what for event in killed.result_.events] == ["died"]
    assert killed.coef_.tobytes() == undisturbed.coef_.tobytes()
    assert [progress.metrics for progress in killed.history_] == [
        progress.metrics for progress in undisturbed.history_
    ]


def test_who_takes_a_dead_workers_place_counts_what_was_done_though_asked_to_end():
    plan = Plan(batch_size=20, epochs=1, iterations=MANY, test_interval=3, intercept=False, seed=0)
    rows = rows_of(scipy.sparse.csr_matrix(X), np.where(Y == 1, 1.0, -1.0))
    with Cluster(X.shape[1], servers=1, workers=2, updater=SGD(0.1)) as cluster:

        def kill_and_stop(rank, snapshot):
            if not cluster.events:
                os.kill(cluster.node_pids()[2], signal.SIGKILL)
                cluster.stop()

        accounts = cluster.run(
            train, rows, X.shape[1:], plan, on_report=kill_and_stop, on_worker_death=RESPAWN
        )
        assert [event.rank for event in cluster.events] == [1]
        assert accounts[1].iterations >= 3


def test_lbfgs_is_stopped_too():
    stop = StopAt(2)
    settings = {"solver": "lbfgs", "test_interval": 1, "iterations": 50, "tol": 1e-12, "callbacks": [stop]}
    model = LogisticRegression(**settings).fit(X, Y)
    assert len(model.result_.objectives) < 10
    assert model.result_.metrics == stop.seen[1].metrics


def test_workers_may_come_while_all_are_asked_to_go():
    assert fit(StopAt(2), join_at=1, iterations=None, epochs=MANY).n_iter_ == 6


def test_a_stop_reaches_workers_that_a_slow_one_holds_up():
    assert fit(StopAt(1), workers=2, mode="bounded", bound=0, slow_worker=(1, 5.0)).n_iter_ == 3


@pytest.mark.parametrize("consistency", [SYNC, ASYNC, HOGWILD], ids=str)
def test_functions_of_a_run_are_asked_to_end_and_those_of_the_next_are_not(consistency):
    def work(kv):
        ticks = 0
        push = kv.push_in_place if consistency.in_place else kv.push
        while not kv.stopping:
            push(np.array([0]), np.ones(1))
            ticks += 1
            if kv.rank == 0 and ticks == 5:
                kv.report("enough")
        return ticks

    with Cluster(2, servers=1, workers=3, consistency=consistency) as cluster:
        ticks = cluster.run(work, on_report=lambda rank, value: cluster.stop())
        assert len(ticks) == 3 and ticks[0] >= 5
        assert cluster.run(lambda kv: kv.stopping) == [False] * 3
        with pytest.raises(UsageError, match="run"):
            cluster.stop()


# --- ready callbacks, and early stopping ---


def test_a_training_ends_when_there_is_no_more_progress():
    model = LogisticRegression(epochs=MANY, batch_size=0, tol=1e-3, n_iter_no_change=3).fit(X, Y)
    losses = [progress.metrics.log_loss for progress in model.history_]
    slow = [after > min(losses[: at + 1]) * (1 - 1e-3) for at, after in enumerate(losses[1:])]
    assert slow[-3:] == [True] * 3 and not any(map(all, zip(slow, slow[1:], slow[2:-1], strict=False)))
    assert model.n_iter_ == len(losses) == model.history_[-1].iteration  # evaluated every epoch


def test_early_stopping_keeps_the_weights_that_are_best_on_rows_held_out():
    settings = {"epochs": 300, "batch_size": 5, "learning_rate": 2.0, "l2": 0.0}
    models = [LogisticRegression(early_stopping=True, **settings).fit(X, Y) for _ in range(2)]
    losses = [progress.metrics.log_loss for progress in models[0].history_]
    assert models[0].result_.metrics.log_loss == min(losses)
    assert np.argmin(losses) < len(losses) - 1 < 299
    assert models[0].result_.measured_on == "validation"
    assert models[0].coef_.tobytes() == models[1].coef_.tobytes()


def test_early_stopping_holds_out_the_same_share_of_each_class():
    labels = np.where(np.arange(len(Y)) < 40, 0, 1)
    model = LogisticRegression(early_stopping=True, validation_fraction=0.25, epochs=2)
    model.fit(X, labels)
    assert model.result_.metrics.baseline == pytest.approx(40 / (10 + 40))
    assert model.result_.rows == 2 * (len(Y) - 50)


def test_early_stopping_watches_the_eval_set_if_there_is_one():
    model = LogisticRegression(early_stopping=True, epochs=2).fit(X, Y, eval_set=(X[:20], Y[:20]))
    assert (model.result_.measured_on, model.result_.rows) == ("validation", 2 * len(Y))


OVERFITS = {"epochs": 60, "batch_size": 5, "learning_rate": 2.0, "l2": 0.0}
OVERFITS_IN_FLAGS = "--epochs", 60, "--batch-size", 5, "--learning-rate", 2, "--l2", 0


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["mode"])
def test_minibatches_with_an_evaluation_set_stop_early_by_default_and_keep_the_best_weights(mode):
    model = LogisticRegression(**mode, **OVERFITS).fit(X[:80], Y[:80], eval_set=(X[80:], Y[80:]))
    losses = [progress.metrics.log_loss for progress in model.history_]
    assert model.result_.metrics.log_loss == min(losses) and len(losses) < 60
    assert model.result_.settings["early_stopping"] and model.result_.measured_on == "validation"


@pytest.mark.parametrize(
    ("params", "tested", "measured_on"),
    [
        (OVERFITS | {"early_stopping": False}, True, "test"),
        (OVERFITS, False, "training"),
        ({"solver": "lbfgs"}, True, "test"),
    ],
    ids=["refused", "no rows", "lbfgs"],
)
def test_nothing_else_stops_early_by_itself(params, tested, measured_on):
    model = LogisticRegression(**params).fit(X[:80], Y[:80], eval_set=(X[80:], Y[80:]) if tested else None)
    assert model.history_ == [] and model.result_.measured_on == measured_on
    assert model.n_iter_ == 60 * 16 or params.get("solver") == "lbfgs"
    assert not model.result_.settings["early_stopping"]


def test_early_stopping_waits_for_epochs_however_often_it_looks():
    params = OVERFITS | {"workers": 1, "test_interval": 2}
    model = LogisticRegression(**params).fit(X[:80], Y[:80], eval_set=(X[80:], Y[80:]))
    losses = [progress.metrics.log_loss for progress in model.history_]
    assert len(losses) - 1 - np.argmin(losses) == 5 * 16 / 2


def test_the_command_line_stops_early_with_rows_of_a_test_file_but_not_with_those_of_a_named_set(
    shmps, tmp_path
):
    for name, part in (("train", slice(0, 80)), ("test", slice(80, None))):
        rows = [" ".join(f"{j + 1}:{v:.17g}" for j, v in enumerate(row)) for row in X[part]]
        lines = [f"{label} {row}" for label, row in zip(Y[part], rows, strict=True)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    def found(*flags):
        run = shmps("train", *flags, "--json", *OVERFITS_IN_FLAGS)
        result = json.loads(run.stdout)
        return result["settings"]["early_stopping"], len(result["history"])

    files = tmp_path / "train", "--test", tmp_path / "test"
    stops, evaluations = found(*files)
    assert stops and 0 < evaluations < 60
    assert found(*files, "--no-early-stopping") == (False, 0)
    assert found(tmp_path / "train") == (False, 0)
    whole = shmps("train", "synth:a9a", "--async", "--epochs", 1, "--json")
    assert json.loads(whole.stdout)["settings"]["early_stopping"] is False


def test_early_stopping_needs_rows_of_both_classes_to_train_on():
    with pytest.raises(DataError, match="a row to train on"):
        LogisticRegression(early_stopping=True, validation_fraction=0.9).fit(X[:30], np.arange(30) == 0)
    with pytest.raises(DataError, match="a row to validate on"):
        LogisticRegression(early_stopping=True, validation_fraction=1e-6).fit(X, Y)


def test_json_lines_has_a_line_per_evaluation_and_history_the_same_rows(tmp_path):
    history, path = History(), tmp_path / "log.jsonl"
    callbacks = [history, JsonLines(path)]
    for _ in range(2):
        model = LogisticRegression(epochs=3, batch_size=0, callbacks=callbacks).fit(X, Y)
    assert [json.loads(line) for line in path.read_text().splitlines()] == history.rows
    assert [row["iteration"] for row in history.rows] == [1, 2, 3, 1, 2, 3]
    assert history.rows[-1]["log_loss"] == model.history_[-1].metrics.log_loss


def test_early_stopping_as_a_callback_begins_anew_with_every_fit():
    stopping = EarlyStopping(n_iter_no_change=2, tol=0.5)
    for _ in range(2):
        assert LogisticRegression(epochs=50, batch_size=0, callbacks=[stopping]).fit(X, Y).n_iter_ == 3


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("solver", ["minibatch", "lbfgs"])
def test_a_checkpoint_is_the_model_that_was_evaluated_last(solver, classes, tmp_path):
    settings = {"epochs": 3} if solver == "minibatch" else {"solver": solver}
    callbacks = [ModelCheckpoint(tmp_path / "newest"), StopAt(3)]
    labels = np.array(["no", "yes", "often"])[np.where(X[:, 0] > 0, Y, classes - 1)]
    model = LogisticRegression(callbacks=callbacks, **settings).fit(X, labels)
    save(model.model(), tmp_path / "last")
    assert (tmp_path / "newest").read_bytes() == (tmp_path / "last").read_bytes()


def test_a_checkpoint_of_the_best_is_not_replaced_by_what_came_after(tmp_path):
    settings = {"epochs": 300, "batch_size": 5, "learning_rate": 2.0, "l2": 0.0}
    callbacks = [ModelCheckpoint(tmp_path / "best", only_best=True), ModelCheckpoint(tmp_path / "newest")]
    model = LogisticRegression(early_stopping=True, callbacks=callbacks, **settings).fit(X, Y)
    best, newest = load(tmp_path / "best"), load(tmp_path / "newest")
    assert best.coefficients.tobytes() == model.coef_.tobytes() != newest.coefficients.tobytes()
    LogisticRegression(epochs=1, l2=0.5, callbacks=callbacks).fit(X, Y)  # worse, but the best of its own
    assert load(tmp_path / "best").settings["l2"] == 0.5


class Waits(Callback):
    """Says that an evaluation was made, and does not return from it."""

    def on_evaluation(self, progress):
        print(progress.metrics.log_loss, flush=True)
        sys.stdin.read()


def test_a_checkpoint_is_left_when_everything_is_killed(tmp_path):
    program = (
        "from test_stopping import ModelCheckpoint, Waits, fit\n"
        f"fit(None, callbacks=[ModelCheckpoint({str(tmp_path / 'newest')!r}), Waits()])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        loss = float(process.stdout.readline())
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["newest"]
    chances = load(tmp_path / "newest").predict_proba(X)[np.arange(len(Y)), Y]
    assert -np.log(chances).mean() == pytest.approx(loss)


def test_a_checkpoint_that_can_not_be_kept_is_said_and_no_weights_but_finite_ones_are(tmp_path):
    with pytest.raises(DataError, match="must exist and be writable"):
        LogisticRegression(callbacks=[ModelCheckpoint(tmp_path / "no" / "folder")]).fit(X, Y)
    (tmp_path / "kept").write_text("before")
    settings = {"updater": "sgd", "l2": 0, "learning_rate": 1e300, "batch_size": 0, "iterations": 1}
    with pytest.raises(Diverged):
        LogisticRegression(callbacks=[ModelCheckpoint(tmp_path / "kept")], **settings).fit(X * 1e300, Y)
    assert (tmp_path / "kept").read_text() == "before"


def test_an_interrupt_keeps_the_weights_so_far_or_the_best_ones_held_out():
    def interrupt(progress):
        if progress.iteration == 30:
            raise KeyboardInterrupt

    settings = {"early_stopping": True, "n_iter_no_change": MANY, "epochs": MANY, "test_interval": 10}
    model = LogisticRegression(callbacks=[watching(interrupt)], **settings)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert len(model.history_) == 3 and np.isfinite(model.coef_).all()
    assert 0 < model.score(X, Y) <= 1


def test_an_interrupt_while_the_cluster_ends_keeps_the_weights(monkeypatch):
    class Interrupted(Cluster):
        def __exit__(self, *exception):
            super().__exit__(*exception)
            raise KeyboardInterrupt

    monkeypatch.setattr(solvers, "Cluster", Interrupted)
    model = LogisticRegression(epochs=1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert model.score(X, Y) > 0.5


@pytest.mark.parametrize(
    "params",
    [
        {"n_iter_no_change": 0},
        {"validation_fraction": 0},
        {"validation_fraction": 1.0},
        {"callbacks": [print]},
        {"tol": -1},
        {"random_state": "a"},
        {"random_state": None, "checkpoint": "/nowhere"},
    ],
    ids=str,
)
def test_what_stops_a_training_is_checked_first(params):
    with pytest.raises(UsageError):
        LogisticRegression(**params).fit(X, Y)


# --- going on ---


def test_warm_start_begins_where_the_fit_before_ended():
    warm = LogisticRegression(updater="sgd", batch_size=0, iterations=5, warm_start=True)
    whole = LogisticRegression(updater="sgd", batch_size=0, iterations=10).fit(X, Y)
    np.testing.assert_allclose(warm.fit(X, Y).fit(X, Y).coef_, whole.coef_, rtol=1e-12)
    for other in ((X[:, :3], Y), (X, np.arange(len(Y)) % 3)):
        with pytest.raises(UsageError, match=r"warm_start=True needs .* coef_ has the shape \(1, 6\)"):
            warm.fit(*other)
    with pytest.raises(UsageError, match=r"dist-lr' starts from .* warm_start"):
        warm.set_params(updater="dist-lr").fit(X, Y)


@pytest.mark.parametrize(("updater", "rate"), [("sgd", None), ("sgd", 0.5), ("adagrad", 0.1), ("ftrl", 0.5)])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_parts_one_after_the_other_are_as_good_as_epochs(updater, rate, mode):
    settings = {"mode": mode, "workers": 1, "batch_size": 0, "l2": 0.01}
    settings |= {"updater": updater, "learning_rate": rate}
    parts = LogisticRegression(**settings)
    for _ in range(4):
        parts.partial_fit(X, Y, classes=[0, 1])
        parts = pickle.loads(pickle.dumps(parts))
    whole = LogisticRegression(epochs=4, **settings).fit(X, Y)
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-12)
    np.testing.assert_allclose(parts.intercept_, whole.intercept_, rtol=1e-12)


def test_a_part_may_have_one_class_and_fewer_rows_than_there_are_workers():
    model = LogisticRegression(workers=2)
    model.partial_fit(X[:10], np.zeros(10, int), classes=[1, 0])
    before = model.decision_function(X[:1])[0]
    model.partial_fit(X[:1], [1])
    assert model.decision_function(X[:1])[0] > before
    assert model.classes_.tolist() == [0, 1]


def test_a_part_goes_on_from_a_fit_and_from_weights_that_were_set():
    params = {"updater": "sgd", "batch_size": 0, "l2": 0.1}
    model = LogisticRegression(iterations=3, epochs=1, **params).fit(X, Y)
    whole = LogisticRegression(iterations=4, **params).fit(X, Y)
    np.testing.assert_allclose(model.partial_fit(X, Y).coef_, whole.coef_, rtol=1e-12)
    model.partial_fit(X, Y)
    model.coef_ = np.zeros_like(model.coef_)
    model.intercept_ = np.zeros(1)
    once = LogisticRegression(iterations=1, **params).fit(X, Y)
    np.testing.assert_allclose(model.partial_fit(X, Y).coef_, once.coef_, rtol=1e-12)


def test_what_the_updater_knows_goes_with_the_values_of_the_weights():
    def parts(change, **params):
        model = LogisticRegression(**({"batch_size": 0, "learning_rate": 0.1} | params))
        model.partial_fit(X, Y, classes=[0, 1])
        change(model)
        model.partial_fit(X, Y)
        return np.append(model.coef_, model.intercept_).tolist()

    def copied(model):  # as joblib does
        model.coef_, model.intercept_ = model.coef_.copy(), model.intercept_.copy()

    def halved(model):
        model.coef_, model.intercept_ = model.coef_ / 2, model.intercept_ / 2

    def halved_in_place(model):
        model.coef_ /= 2
        model.intercept_ /= 2

    def shifted(model):
        model.intercept_ = model.intercept_ + 5.0

    assert parts(copied) == parts(lambda model: None)
    assert parts(halved_in_place) == parts(halved)
    assert parts(shifted)[-1] > 4.0


def test_a_part_with_another_rate_of_ftrl_goes_on_from_the_same_weights():
    model = LogisticRegression(updater="ftrl", learning_rate=0.5, batch_size=20)
    before = model.partial_fit(X, Y, classes=[0, 1]).coef_
    model.set_params(learning_rate=1e-6).partial_fit(X, Y)
    np.testing.assert_allclose(model.coef_, before, rtol=1e-3)


def test_a_part_that_diverges_changes_nothing():
    model = LogisticRegression(updater="sgd", batch_size=0, l2=0.0).partial_fit(X, Y, classes=[0, 1])
    before = model.coef_.copy()
    model.set_params(learning_rate=1e308)
    with pytest.raises(Diverged, match="weights must stay finite"):
        model.partial_fit(X * 1e10, Y)
    assert model.coef_.tolist() == before.tolist()


@pytest.mark.parametrize(
    ("params", "classes", "said"),
    [
        ({}, None, "two classes"),
        ({}, [0, 0], "two classes or more"),
        ({"solver": "lbfgs"}, [0, 1], "lbfgs"),
        ({"early_stopping": True}, [0, 1], "early_stopping"),
        ({"class_weight": "balanced"}, [0, 1], "balanced"),
        ({"checkpoint": "/nowhere"}, [0, 1], "checkpoint"),
    ],
)
def test_what_a_part_can_not_know_is_a_usage_error(params, classes, said):
    with pytest.raises(UsageError, match=said):
        LogisticRegression(**params).partial_fit(X, Y, classes=classes)


def test_labels_that_the_first_part_did_not_name_are_a_data_error():
    with pytest.raises(DataError, match=r"\[2\]"):
        LogisticRegression().partial_fit(X, Y + 1, classes=[0, 1])


def test_a_seed_may_be_drawn():
    drawn = [LogisticRegression(random_state=None, batch_size=20, epochs=1).fit(X, Y) for _ in range(2)]
    assert drawn[0].coef_.tobytes() != drawn[1].coef_.tobytes()
    again = LogisticRegression(
        random_state=drawn[0].result_.settings["random_state"], batch_size=20, epochs=1
    )
    assert again.fit(X, Y).coef_.tobytes() == drawn[0].coef_.tobytes()
    of_numpy = [
        LogisticRegression(random_state=np.random.RandomState(3), batch_size=20, epochs=1).fit(X, Y)
        for _ in range(2)
    ]
    assert of_numpy[0].coef_.tobytes() == of_numpy[1].coef_.tobytes()
