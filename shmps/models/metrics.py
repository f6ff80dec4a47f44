"""Accuracy, log-loss and AUC of margins.

A margin is `x . w + intercept`. With two classes, a row is predicted positive if and only if its margin is
above 0. With more, each class has a margin, and the class with the largest one is predicted; a `Link` maps
the margins to probabilities.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmps.errors import UsageError
from shmps.models import ranking
from shmps.models.links import ONE_AGAINST_REST, Link, log_losses

_PIECE = 2**16  # rows


@dataclass(frozen=True)
class Metrics:
    """The result of `evaluate`. log_loss is in nats per row; the others are between 0 and 1.

    If the rows have weights, all are weighted.
    """

    accuracy: float
    baseline: float  #: the accuracy of predicting the most frequent class for every row
    log_loss: float
    auc: float  #: nan with one class, or if a margin is nan; with more than two classes their mean


def constant_log_loss(y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the log-loss of the constant model, whose probabilities are the shares of the classes.

    It is the entropy of the shares. y (n,): -1 and +1, or the numbers of more than two classes.
    """
    totals = np.zeros(int(y.max()) + 2)
    for begin in range(0, len(y), _PIECE):
        own = slice(begin, begin + _PIECE)
        codes = y[own].astype(np.intp) + 1
        totals += np.bincount(codes, None if weights is None else weights[own], len(totals))
    shares = totals[totals > 0] / totals.sum()
    return float(-(shares * np.log(shares)).sum())


def auc(margins: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return P(m+ > m-) + P(m+ = m-) / 2 for the margins m+ of a positive row and m- of a negative row.

    margins (n,) float64, positive (n,) bool. The rows are random, in proportion to their weights (n,). nan if
    a class has no rows or a margin is nan.
    """
    winners, losers = ranking.parted(margins, positive)
    if not len(winners) or not len(losers) or np.isnan(margins).any():
        return math.nan
    # Twice the number of won pairs: a tie counts 1, so without weights every sum is exact.
    if weights is None:
        winners.sort()
        losers.sort()
        return ranking.won(winners, losers) / (2 * len(winners) * len(losers))
    order = losers.argsort()
    below = np.append(0.0, np.cumsum(weights[~positive][order]))  # cumulated weights of the losers
    places = [losers[order].searchsorted(winners, side) for side in ("left", "right")]
    pairs = float(weights[positive].sum() * below[-1])
    return sum(float(weights[positive] @ below[each]) for each in places) / (2 * pairs) if pairs else math.nan


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pieces of an array in order; arrays made of a piece take little memory."""
    for begin in range(0, len(array), _PIECE):
        yield array[begin : begin + _PIECE]


def evaluate(margins: Any, y: Any, weights: np.ndarray | None = None) -> Metrics:
    """Return the metrics of margins (n,) for rows of the classes y (n,), -1 and +1, with `weights` (n,).

    Raises UsageError if there are no rows, the lengths differ, or `y` has another value than -1 and +1.
    """
    margins, y = np.asarray(margins, dtype=np.float64), np.asarray(y)
    if margins.ndim != 1 or margins.shape != y.shape or margins.size == 0:
        raise UsageError(
            f"margins and y must be vectors with one entry per row and at least one row, got shapes "
            f"{margins.shape} and {y.shape}"
        )
    positive = y == 1
    valid = positive | (y == -1)
    if not valid.all():
        wrong = int(valid.argmin())
        raise UsageError(f"y must be -1 or +1 in every row, got {y[wrong]} in row {wrong} (from 0)")
    share = _share(positive, weights)
    return Metrics(
        accuracy=_share((margins > 0) == positive, weights),
        baseline=max(share, 1.0 - share),
        log_loss=_log_loss(margins, y, weights),
        auc=auc(margins, positive, weights),
    )


def evaluate_classes(
    margins: Callable[[int], np.ndarray],
    classes: int,
    y: Any,
    weights: np.ndarray | None = None,
    link: Link = ONE_AGAINST_REST,
) -> Metrics:
    """Return the metrics of more than two classes.

    margins: returns those of one class (n,); y (n,): the numbers of the classes. No more than one class's
    margins are kept, so each class's are asked for twice. The AUC is the mean over the classes that have rows
    of the AUC of the class's probability (as in Provost & Domingos 2000, but without weights for classes).
    """
    y = np.asarray(y)
    largest, predicted = np.full(len(y), -np.inf), np.zeros(len(y))
    log_sum, log_own = np.full(len(y), -np.inf), np.zeros(len(y))
    shares, areas = [], []
    for number in range(classes):
        margin, own = margins(number), y == number
        larger, scores = margin > largest, link.scores(margin)
        largest[larger], predicted[larger] = margin[larger], number
        log_own[own] = scores[own]
        np.logaddexp(log_sum, scores, out=log_sum)
        shares.append(float(np.average(own, weights=weights)))
    for number in range(classes):
        own = y == number
        if own.any():
            areas.append(auc(link.scores(margins(number)) - log_sum, own, weights))
    return Metrics(
        accuracy=float(np.average(predicted == y, weights=weights)),
        baseline=max(shares),
        log_loss=float(np.average(log_sum - log_own, weights=weights)),
        auc=sum(areas) / len(areas),
    )


def losses(margins: np.ndarray, y: np.ndarray, link: Link = ONE_AGAINST_REST) -> np.ndarray:  # (n,)
    """Return each row's log-loss, for margins (n,) and y -1 and +1, or margins (n, classes) and y numbers."""
    if margins.ndim == 1:
        return log_losses(margins * y)
    return -link.log_probabilities(margins)[np.arange(len(y)), y.astype(np.intp)]


def _share(which: np.ndarray, weights: np.ndarray | None) -> float:
    """Return the share of the rows for which `which` (n,) is true."""
    if weights is None:
        return int(np.count_nonzero(which)) / len(which)
    return float(np.average(which, weights=weights))


def _log_loss(margins: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> float:
    losses = np.empty(len(margins))
    for loss, margin, sign in zip(_pieces(losses), _pieces(margins), _pieces(y), strict=True):
        loss[:] = log_losses(sign * margin)
    return float(np.average(losses, weights=weights))
