"""How good margins are: accuracy, log loss and AUC of a binary classifier.

A margin is `x . w + intercept`; a row is predicted positive if and only if its margin is above 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import UsageError


@dataclass(frozen=True)
class Metrics:
    """What `evaluate` finds; log loss in nats per row, the others are shares between 0 and 1."""

    accuracy: float
    baseline: float  # the accuracy of always answering the class most rows have
    log_loss: float
    auc: float  # nan where there is only one class, or a margin is nan


def sigmoid(margins: Any) -> np.ndarray:  # (n,) -> (n,)
    """1 / (1 + exp(-margin)), the probability of the positive class."""
    margins = np.asarray(margins, dtype=np.float64)
    # exp only ever sees arguments <= 0: it cannot overflow, and small probabilities keep all their digits.
    small = np.exp(-np.abs(margins))
    return np.where(margins >= 0, 1.0, small) / (1.0 + small)


def log_losses(agreements: Any) -> np.ndarray:  # (n,) -> (n,)
    """log(1 + exp(-agreement)) per row, in nats, where agreement = margin * y and y is -1 or +1."""
    agreements = np.asarray(agreements, dtype=np.float64)
    # logaddexp(0, -agreement) written out: NumPy's own is slower and warns about nan.
    return np.maximum(-agreements, 0.0) + np.log1p(np.exp(-np.abs(agreements)))


def auc(margins: np.ndarray, positive: np.ndarray) -> float:  # (n,) float64, (n,) bool
    """P(m+ > m-) + P(m+ = m-) / 2 for a random positive row's margin m+ and a random negative row's m-.

    nan if a class has no rows or a margin is nan.
    """
    pairs = int(positive.sum()) * int((~positive).sum())
    if pairs == 0 or np.isnan(margins).any():
        return float("nan")
    values, group = np.unique(margins, return_inverse=True)
    positives = np.bincount(group[positive], minlength=values.size)
    negatives = np.bincount(group[~positive], minlength=values.size)
    below = np.cumsum(negatives) - negatives
    # Twice the pairs won, so that a tie counts 1 and every sum is exact.
    return int(positives @ (2 * below + negatives)) / (2 * pairs)


def evaluate(margins: Any, y: Any) -> Metrics:  # (n,) floats, (n,) of -1 and +1
    """The metrics of these margins against the true classes.

    UsageError if there are no rows, the lengths differ, or `y` has another value than -1 and +1.
    """
    margins, y = np.asarray(margins, dtype=np.float64), np.asarray(y)
    if margins.ndim != 1 or margins.shape != y.shape or margins.size == 0:
        raise UsageError(
            f"margins and y are two vectors with one entry per row and at least one row, "
            f"found shapes {margins.shape} and {y.shape}"
        )
    positive = y == 1
    wrong = np.flatnonzero(~positive & (y != -1))
    if wrong.size:
        raise UsageError(f"y is -1 or +1 in every row, found {y[wrong[0]]} in row {wrong[0]} (from 0)")
    share = float(positive.mean())
    return Metrics(
        accuracy=float(((margins > 0) == positive).mean()),
        baseline=max(share, 1.0 - share),
        log_loss=float(log_losses(np.where(positive, margins, -margins)).mean()),
        auc=auc(margins, positive),
    )
