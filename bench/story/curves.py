"""The course of a training, as it is kept in a results file, and what is read off it.

A curve is {"iteration", "seconds", "ticks", "accuracy", "log_loss"}: lists with an entry per evaluation;
iteration: of worker 0, ticks: of all workers, the last two on the test rows.
"""

from typing import Any

import numpy as np

from bench.record import spread
from bench.story.dist_lr import MARKS
from shmps.linear.result import Result

Curve = dict[str, list[Any]]


def curve(result: Result) -> Curve:
    history = result.history
    return {
        "iteration": [progress.iteration for progress in history],
        "seconds": [round(progress.seconds, 4) for progress in history],
        "ticks": [progress.ticks for progress in history],
        "accuracy": [round(progress.metrics.accuracy, 5) for progress in history],
        "log_loss": [round(progress.metrics.log_loss, 6) for progress in history],
    }


def at(curve: Curve, iteration: int) -> float:
    """The accuracy after so many iterations of worker 0."""
    return curve["accuracy"][curve["iteration"].index(iteration)]


def last_half(curve: Curve, of: str) -> np.ndarray:
    return np.array(curve[of][len(curve[of]) // 2 :])


def fall(curve: Curve, above: float) -> float:
    """By how much the accuracy falls below its best so far, at most, once it has been above `above`."""
    accuracy = np.array(curve["accuracy"])
    reached = np.flatnonzero(accuracy > above)
    if not len(reached):
        return 0.0
    accuracy = accuracy[reached[0] :]
    return float((np.maximum.accumulate(accuracy) - accuracy).max())


def rise(curve: Curve) -> float:
    """By how much the log-loss rises above its least so far, at most, in the last half: 0 if it settles."""
    loss = last_half(curve, "log_loss")
    return float((loss - np.minimum.accumulate(loss)).max())


def summary(results: list[Result]) -> dict[str, Any]:
    """The figures of several runs of one kind, as spreads, and their curves."""
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
