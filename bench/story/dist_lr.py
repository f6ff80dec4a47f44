"""The published sync/async table, and its setting: a9a in four shards, whole-shard gradients, one start.

The table and the trace come from dist-lr (github.com/ctliu3/dist-lr), a logistic regression on ps-lite. Its
rules (see `shmps.updaters.dist_lr`) come from its source at its first commit:

- It reads the configured learning rate of 0.01 as 1, since its parser never reaches the decimals.
- It skips row 0 of the shuffled training file and cuts the other rows into four parts.
- C = 1 in its objective equals l2 = 1 / (rows of a part).
- Its iteration i is the state after i + 1 ticks.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from shmps import LogisticRegression
from shmps.data import datasets
from shmps.errors import NotConverged, UnstableRate, WorseThanConstant
from shmps.linear.kernels import gradient
from shmps.linear.result import Result
from shmps.updaters.dist_lr import c_random

WORKERS = 4
ITERATIONS = 200
RATE = 1.0
TICK_TIME = 10.0  # ms: four workers overlap on two cores as they would on four
MARKS = (20, 180, 200)  # ticks of worker 0 after which the tables show the accuracy

PUBLISHED = {"sync": {"seconds": 108.0, "accuracy": 0.827}, "async": {"seconds": 70.0, "accuracy": 0.711}}
PUBLISHED_TRACE = {  # async: accuracy on a9a.t by iteration
    0: 0.726, 20: 0.832, 40: 0.833, 60: 0.840, 80: 0.797,
    100: 0.847, 120: 0.669, 140: 0.793, 160: 0.849, 180: 0.711,
}  # fmt: skip


def data_name(settings: dict[str, Any]) -> str:
    """Return the data set of a results file, with the note about a generated replacement if there is one."""
    return settings["data"] + (f" ({settings['note']})" if settings["note"] else "")


class Setting(NamedTuple):
    """The rows as dist-lr prepares them, shuffled with a seed."""

    name: str
    note: str
    X: csr_matrix
    y: np.ndarray
    tested: tuple[csr_matrix, np.ndarray]

    @property
    def l2(self) -> float:
        return WORKERS / len(self.y)

    @property
    def majority(self) -> float:
        """The accuracy of a model that always predicts the more frequent label of the test rows."""
        positive = float(np.mean(self.tested[1] == self.y.max()))
        return max(positive, 1 - positive)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that every results file of the story has."""
        return {
            "data": self.name, "note": self.note, "majority": self.majority, "workers": WORKERS,
            "tick_time_ms": TICK_TIME,
        }  # fmt: skip

    def train(self, **parameters: Any) -> Result:
        """Train from dist-lr's start. Without a `test_interval`, every tick of worker 0 is evaluated."""
        defaults: dict[str, Any] = {
            "workers": WORKERS, "solver": "minibatch", "updater": "sgd", "batch_size": 0, "l2": self.l2,
            "iterations": ITERATIONS, "fit_intercept": False, "test_interval": 1, "tick_time": TICK_TIME,
            "early_stopping": False,
        }  # fmt: skip
        estimator = LogisticRegression(**(defaults | parameters))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnstableRate)  # the benchmarks measure such rates on purpose
            warnings.simplefilter("ignore", WorseThanConstant)
            warnings.simplefilter("ignore", NotConverged)
            own_start = estimator.updater == "dist-lr"
            start = None if own_start else c_random(self.X.shape[1])
            estimator.fit(self.X, self.y, eval_set=self.tested, coef_init=start)
        return estimator.result_

    def optimum(self) -> np.ndarray:
        """Return the weights (features,) with the least log-loss + l2/2 |w|^2 on the training rows."""

        def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
            loss, slope = self._loss(weights)
            return loss + self.l2 / 2 * weights @ weights, slope + self.l2 * weights

        start = np.zeros(self.X.shape[1])
        return minimize(objective, start, jac=True, method="L-BFGS-B", tol=1e-12).x

    def log_loss(self, weights: np.ndarray) -> float:
        """Return the log-loss on the training rows."""
        return self._loss(weights)[0]

    def _loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        X, slope = self.X, np.zeros_like(weights)
        loss = gradient(
            X.indptr,
            X.indices,
            X.data,
            self.y,
            None,
            weights,
            False,
            len(self.y),
            slope,
            np.empty(len(self.y)),
        )
        return float(loss), slope


def setting(seed: int) -> Setting:
    """Return a9a, or a generated replacement of its shape that `note` then names."""
    data = datasets.load(None)
    order = np.random.default_rng(seed).permutation(len(data.train_y))[1:]
    order = order[: len(order) // WORKERS * WORKERS]
    assert data.test_X is not None and data.test_y is not None
    return Setting(data.name, data.note, data.train_X[order], data.train_y[order], (data.test_X, data.test_y))
