"""The progress bar of `verbose`, and the line about the first compilation."""

import logging
import threading
from types import SimpleNamespace

import pytest
import tqdm.auto
from problems import problem

from shmps import LogisticRegression
from shmps.callbacks import Callback
from shmps.errors import UsageError
from shmps.linear import training

X, Y = problem()


@pytest.mark.parametrize("params", [{}, {"epochs": 3, "batch_size": 20}], ids=["lbfgs", "minibatch"])
@pytest.mark.parametrize("verbose", [1, 2, True])
def test_verbose_shows_a_bar_with_the_latest_evaluation(params, verbose, capsys):
    model = LogisticRegression(verbose=verbose, **params).fit(X, Y)
    shown = capsys.readouterr()
    assert shown.out == "" and ("rounds" if not params else f"{model.result_.ticks}/") in shown.err
    assert f"loss {model.history_[-1].metrics.log_loss:.4f}" in shown.err
    assert model.callbacks is None and "verbose" not in model.result_.settings


def test_a_bar_is_shown_beside_the_callbacks_and_for_parts(capsys):
    seen = []

    class Watching(Callback):
        def on_evaluation(self, evaluation):
            seen.append(evaluation)

    callbacks = [Watching()]
    LogisticRegression(verbose=1, callbacks=callbacks, epochs=2).fit(X, Y)
    assert len(seen) == 2 and len(callbacks) == 1 and "ticks" in capsys.readouterr().err
    LogisticRegression(verbose=1).partial_fit(X, Y, classes=[0, 1])
    assert "ticks" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [0, False])
def test_without_verbose_nothing_is_shown_and_nothing_evaluated(verbose, capsys):
    model = LogisticRegression(verbose=verbose).fit(X, Y)
    assert capsys.readouterr() == ("", "") and model.history_ == []


@pytest.mark.parametrize("wrong", [-1, 1.5, "yes", None])
def test_verbose_is_a_number_or_a_bool(wrong):
    with pytest.raises(UsageError, match="verbose must be an integer >= 0"):
        LogisticRegression(verbose=wrong).fit(X, Y)


def test_the_bar_starts_no_thread_and_is_closed_when_training_fails(monkeypatch):
    monkeypatch.setattr(tqdm.auto.tqdm, "monitor_interval", 10)
    before = set(threading.enumerate())

    class Failing(Callback):
        def on_evaluation(self, evaluation):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        LogisticRegression(verbose=1, callbacks=[Failing()]).fit(X, Y)
    assert set(threading.enumerate()) == before and not list(tqdm.auto.tqdm._instances)


def test_the_first_compilation_is_logged_and_can_be_silenced(tmp_path, monkeypatch, caplog):
    """Compiling takes seconds: here a kernel without a file in the cache stands for the first one."""
    folder = SimpleNamespace(cache_path=str(tmp_path))
    compiled = training.GRADIENTS["binary"]

    def gradient(*args):
        return compiled(*args)

    gradient.stats, gradient.signatures, gradient.__module__ = folder, [], "shmps.linear.kernels"
    monkeypatch.setitem(training.GRADIENTS, "binary", gradient)
    caplog.set_level(logging.WARNING, "shmps")
    LogisticRegression().fit(X, Y)
    assert caplog.messages == ["numba compiles the kernels: once on this machine, some seconds"]
    caplog.set_level(logging.ERROR, "shmps")
    LogisticRegression().fit(X, Y)
    assert len(caplog.messages) == 1
    caplog.set_level(logging.WARNING, "shmps")
    (tmp_path / "kernels.gradient-56.py311.nbi").touch()
    LogisticRegression().fit(X, Y)
    assert len(caplog.messages) == 1
