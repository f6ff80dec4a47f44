"""The curve of a training in a results file, and the figures computed from it.

A curve is {"iteration", "seconds", "ticks", "accuracy", "log_loss"}: lists with one entry per evaluation.
"iteration" counts the iterations of worker 0, "ticks" the ticks of all workers. Accuracy and log-loss are
those on the test rows.
"""

from typing import Any

import numpy as np

from bench.record import spread
from bench.story.dist_lr import MARKS
from shmps.linear.result import Result

Curve = dict[str, list[Any]]


def curve(result: Result) -> Curve:
    """Return the curve of a training, rounded for the results file."""
    history = result.history
    return {
        "iteration": [progress.iteration for progress in history],
        "seconds": [round(progress.seconds, 4) for progress in history],
        "ticks": [progress.ticks for progress in history],
        "accuracy": [round(progress.metrics.accuracy, 5) for progress in history],
        "log_loss": [round(progress.metrics.log_loss, 6) for progress in history],
    }


def at(curve: Curve, iteration: int) -> float:
    """Return the accuracy after `iteration` iterations of worker 0."""
    return curve["accuracy"][curve["iteration"].index(iteration)]


def last_half(curve: Curve, name: str) -> np.ndarray:
    """Return the values of "accuracy" or "log_loss" in the last half of the evaluations."""
    return np.array(curve[name][len(curve[name]) // 2 :])


def fall(curve: Curve, above: float) -> float:
    """Return the largest drop of the accuracy below its maximum so far, once it has exceeded `above`."""
    accuracy = np.array(curve["accuracy"])
    reached = np.flatnonzero(accuracy > above)
    if not len(reached):
        return 0.0
    accuracy = accuracy[reached[0] :]
    return float((np.maximum.accumulate(accuracy) - accuracy).max())


def rise(curve: Curve) -> float:
    """Return the largest rise of the log-loss above its minimum so far in the last half; 0 if it settles."""
    loss = last_half(curve, "log_loss")
    return float((loss - np.minimum.accumulate(loss)).max())


def summary(results: list[Result]) -> dict[str, Any]:
    """Summarise several runs of one kind: a spread per figure, and all curves."""
    curves = [curve(result) for result in results]
    lows, highs = ([f(last_half(one, "accuracy")) for one in curves] for f in (np.min, np.max))
    return {
        "seconds": spread(result.seconds["train"] for result in results),
        "accuracy": {
            str(mark): spread(at(one, mark) for one in curves)
            for mark in MARKS
            if all(mark in one["iteration"] for one in curves)
        },
        "low": spread(lows),
        "high": spread(highs),
        "swing": spread(high - low for high, low in zip(highs, lows, strict=True)),
        "log_loss": spread(result.metrics.log_loss for result in results),
        "delay_p50": spread(result.delays.p50 for result in results),
        "delay_p99": spread(result.delays.p99 for result in results),
        "curves": curves,
    }
