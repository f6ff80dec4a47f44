"""The protocol of callbacks: which methods run, when, where, and what their exceptions do."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from problems import problem, watching
from processes import nodes_of

from shmps import LogisticRegression
from shmps.callbacks import Callback
from shmps.errors import UsageError
from shmps.linear.callbacks import METHODS

X, Y = problem()
FOREVER = {"workers": 2, "batch_size": 20, "iterations": 10**7, "test_interval": 3}


class Recorder:
    """Records every call, kills a worker at the first evaluation, and stops once all methods have run."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name not in METHODS:
            raise AttributeError(name)

        def method(*args):
            self.calls.append((name, os.getpid(), args))
            if name == "on_model" and len(self.named("on_model")) == 1:
                os.kill(nodes_of(os.getpid())[-1], signal.SIGKILL)
            return name == "on_evaluation" and {called for called, *_ in self.calls} == set(METHODS)

        return method

    def named(self, name):
        return [args for called, _, args in self.calls if called == name]


def test_each_method_runs_in_this_process_when_it_is_due():
    recorder = Recorder()
    model = LogisticRegression(callbacks=[recorder], **FOREVER).fit(X, Y)
    names = [name for name, _, _ in recorder.calls]
    assert names[0] == "on_start" and names.count("on_start") == 1
    assert {pid for _, pid, _ in recorder.calls} == {os.getpid()}
    assert [evaluation for (evaluation,) in recorder.named("on_evaluation")] == model.history_
    assert all(0 <= done <= planned == 2 * 10**7 for done, planned in recorder.named("on_progress"))
    assert [event.what for (event,) in recorder.named("on_event")] == ["died"]
    calls = iter(name for name in names if name in ("on_model", "on_evaluation"))
    assert set(zip(calls, calls, strict=True)) == {("on_model", "on_evaluation")}
    _, last = recorder.named("on_model")[-1]
    assert last.coefficients.tobytes() == model.coef_[0].tobytes()


def test_all_callbacks_get_an_evaluation_though_the_first_one_stops_the_training():
    seen = []
    stops = SimpleNamespace(on_evaluation=lambda evaluation: True)
    LogisticRegression(callbacks=[stops, watching(seen.append)], **FOREVER).fit(X, Y)
    assert [evaluation.iteration for evaluation in seen] == [3]


@pytest.mark.parametrize(
    "callback", [Callback(), SimpleNamespace(on_progress=print), SimpleNamespace(on_event=print)], ids=repr
)
def test_without_a_method_that_takes_them_there_are_no_evaluations(callback):
    assert LogisticRegression(epochs=2, callbacks=[callback]).fit(X, Y).history_ == []
    assert LogisticRegression(epochs=2, callbacks=[callback, watching(print)]).fit(X, Y).history_ != []


def test_a_callback_that_takes_models_alone_asks_for_evaluations():
    models = []
    callback = SimpleNamespace(on_model=lambda evaluation, model: models.append(model))
    model = LogisticRegression(epochs=3, batch_size=0, callbacks=[callback]).fit(X, Y)
    assert len(models) == len(model.history_) == 3
    assert models[-1].coefficients.tobytes() == model.coef_[0].tobytes()


def test_every_part_is_a_training_to_callbacks():
    calls = []
    callback = SimpleNamespace(on_start=lambda: calls.append("start"), on_evaluation=calls.append)
    model = LogisticRegression(batch_size=0, callbacks=[callback])
    for _ in range(2):
        model.partial_fit(X, Y, classes=[0, 1])
        assert calls[-2:] == ["start", *model.history_]


@pytest.mark.parametrize("name", METHODS)
def test_fit_raises_what_a_method_raises_and_keeps_the_weights_so_far(name):
    error = RuntimeError(name)

    def fails(*args):
        raise error

    def kill(evaluation):
        if name == "on_event":
            os.kill(nodes_of(os.getpid())[-1], signal.SIGKILL)

    model = LogisticRegression(callbacks=[watching(kill), SimpleNamespace(**{name: fails})], **FOREVER)
    with pytest.raises(RuntimeError) as caught:
        model.fit(X, Y)
    assert caught.value is error
    assert hasattr(model, "coef_") == (name != "on_start")  # before that training had not begun
    assert name == "on_start" or np.isfinite(model.coef_).all()


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        (Callback(), "callbacks must be a list, got"),
        ([Callback], "and pass an instance"),
        (
            [print],
            "one of the methods on_start, on_progress, on_event, on_evaluation, on_model, got",
        ),
        ([SimpleNamespace(on_evaluation=print, on_event=3)], "at least one of the methods"),
    ],
)
def test_what_is_no_list_of_callbacks_is_refused(callbacks, said):
    with pytest.raises(UsageError, match=said):
        LogisticRegression(callbacks=callbacks).fit(X, Y)
