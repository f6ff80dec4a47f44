"""The problems that the simulation trains by SGD with a constant rate, and the distance to their optimum."""

import functools
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
from scipy.special import expit

from bench.speed.clicks import clicks
from bench.story import dist_lr
from shmps import Inline, LogisticRegression, Machines
from shmps.errors import NotConverged, UnstableRate, WorseThanConstant
from shmps.linear.result import Result
from shmps.linear.stability import stable_rate
from shmps.simulation import simulation_of
from shmps.updaters.dist_lr import c_random

MODES: dict[str, dict[str, Any]] = {
    "sync": {"mode": "sync"},
    "bounded 4": {"mode": "bounded", "bound": 4},
    "async": {"mode": "async"},
    "staleness-aware": {"mode": "async", "schedule": "1/(1+delay)"},
}
WITHIN, SHARE = 0.01, 0.5  # of the optimum's log-loss; of the highest stable rate
STRAGGLERS, SLOWNESS = 0.01, 5.0
GBIT = 125e6  # bytes per second
_POWER_STEPS = 30


@dataclass(frozen=True)
class Problem:
    """Mean log-loss + l2/2 |w|^2, and the weights from which a training starts."""

    X: scipy.sparse.csr_matrix
    y: np.ndarray
    l2: float
    start: np.ndarray

    @functools.cached_property
    def best(self) -> np.ndarray:
        """The weights of the optimum, (features,)."""

        def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
            margins = self.y * (self.X @ weights)
            slope = -(self.X.T @ (self.y * expit(-margins))) / len(self.y)
            loss = float(np.logaddexp(0, -margins).mean())
            return loss + self.l2 / 2 * weights @ weights, slope + self.l2 * weights

        start = np.zeros(self.X.shape[1])
        return scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", tol=1e-12).x

    def log_loss(self, weights: np.ndarray) -> float:
        """Return the log-loss on the rows."""
        return float(np.logaddexp(0, -self.y * (self.X @ weights)).mean())

    @functools.cached_property
    def curvature(self) -> float:
        """The largest eigenvalue of the Hessian at the optimum, by the power method."""
        chance = expit(self.X @ self.best)
        scale, largest = chance * (1 - chance) / len(self.y), 1.0
        direction = np.random.default_rng(0).standard_normal(self.X.shape[1])
        for _ in range(_POWER_STEPS):
            direction = self.X.T @ (scale * (self.X @ direction)) + self.l2 * direction
            largest = float(np.linalg.norm(direction))
            direction /= largest
        return largest

    def rate(self, mode: str, workers: int) -> float:
        """Return SHARE of the highest stable rate: of a tick in sync mode, of a push in the others.

        The delay of a push is taken to be that of all other workers. The staleness-aware mode divides the
        rate of sync by 1 + the delay itself.
        """
        delay = workers - 1 if mode in ("async", "bounded 4") else 0
        return SHARE * stable_rate(self.curvature, delay)

    def train(self, engine: Inline, start: np.ndarray | None = None, **parameters: Any) -> Result:
        """Train from `start`. Evaluations are on the rows themselves."""
        estimator = LogisticRegression(
            engine=engine, solver="minibatch", updater="sgd", l2=self.l2, fit_intercept=False,
            early_stopping=False, **parameters,
        )  # fmt: skip
        with warnings.catch_warnings():
            for each in (UnstableRate, NotConverged, WorseThanConstant):  # of rates that are too high
                warnings.simplefilter("ignore", each)
            return estimator.fit(self.X, self.y, coef_init=self.start if start is None else start).result_

    def reach(
        self, machines: Machines, mode: str, workers: int, servers: int, **parameters: Any
    ) -> dict[str, Any]:
        """Return how long a mode takes to come within WITHIN of the optimum, and what the machines did."""
        stop = _Within((1 + WITHIN) * self.log_loss(self.best))
        rate, engine, began = self.rate(mode, workers), Inline(machines), time.process_time()
        result = self.train(
            engine, workers=workers, servers=servers, learning_rate=rate, callbacks=[stop],
            **MODES[mode], **parameters,
        )  # fmt: skip
        done, reached = simulation_of(engine, result), stop.reached
        return {
            "mode": mode,
            "workers": workers,
            "servers": servers,
            "gbits": machines.bandwidth / GBIT,
            "rate": rate,
            "seconds": reached and round(reached.seconds, 6),
            "iterations": reached and reached.iteration,
            "delay_p50": result.delays.p50,
            "delay_max": result.delays.max,
            "computing": round(float(done.computing.mean()), 4),
            "serving": round(float(done.serving.mean()), 4),
            "receiving": round(float(done.receiving.mean()), 4),
            "bytes": done.bytes,
            "processor_seconds": round(time.process_time() - began, 2),
        }


class _Within:
    """Stops a training when its log-loss is at most the target."""

    def __init__(self, target: float):
        self._target = target
        self.reached: Any = None

    def on_evaluation(self, evaluation: Any) -> bool:
        if self.reached is None and evaluation.metrics.log_loss <= self._target:
            self.reached = evaluation
        return self.reached is not None


@functools.cache
def story() -> Problem:
    """Return the rows, the start and the penalty of the story: a9a, for whole shards."""
    setting = dist_lr.setting(0)
    return Problem(setting.X, setting.y, setting.l2, c_random(setting.X.shape[1]))


@functools.cache
def click_through(rows: int, features: int, l2: float) -> Problem:
    """Return generated click-through data, and weights of zero."""
    X, y = clicks(rows, 0, features)
    return Problem(X, y, l2, np.zeros(features))


def shown_seconds(row: dict[str, Any]) -> str:
    return "never" if row["seconds"] is None else f"{row['seconds']:.3g}"
