"""Links: how the margins of more than two classes become probabilities.

The probability of class k is exp(s_k) / sum_j exp(s_j). The scores s of the margins m are

    one against the rest   s_k = -log(1 + exp(-m_k)), the log-probability of k against the rest
    softmax                s_k = m_k
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmps.errors import UsageError


def log_losses(agreements: Any) -> np.ndarray:  # (n,) -> (n,)
    """Return log(1 + exp(-agreement)) per row, in nats; agreement = margin * y, and y is -1 or +1."""
    agreements = np.asarray(agreements, dtype=np.float64)
    # logaddexp(0, -agreement), which in numpy is slower and warns about nan.
    return np.maximum(-agreements, 0.0) + np.log1p(np.exp(-np.abs(agreements)))


@dataclass(frozen=True)
class Link:
    """Maps the margins (n, classes) of rows to probabilities (n, classes)."""

    name: str  # the value of the setting `multi_class`
    description: str
    scores: Callable[[np.ndarray], np.ndarray]  # of margins in an array of any shape, one by one

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        shares = np.exp(self._below_largest(margins))
        return shares / shares.sum(axis=1, keepdims=True)

    def log_probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return logarithms, which are finite even if a probability rounds to 0."""
        logs = self._below_largest(margins)
        return logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))

    def _below_largest(self, margins: np.ndarray) -> np.ndarray:
        """Return the scores less the row's largest: otherwise exp could overflow, or a sum of exp be 0."""
        scores = self.scores(margins)
        return scores - scores.max(axis=1, keepdims=True)


def _log_probabilities_against_rest(margins: np.ndarray) -> np.ndarray:
    return -log_losses(margins)


def _unchanged(margins: np.ndarray) -> np.ndarray:
    return margins


ONE_AGAINST_REST = Link(
    "ovr", "of each class against the rest, divided by their sum", _log_probabilities_against_rest
)
SOFTMAX = Link("multinomial", "softmax of the margins", _unchanged)
_LINKS = ONE_AGAINST_REST, SOFTMAX


def link_of(settings: dict[str, Any]) -> Link:
    """Return the link of the setting `multi_class`. Models of older versions lack it: one against the rest.

    Raises UsageError if there is no such link.
    """
    name = settings.get("multi_class", ONE_AGAINST_REST.name)
    for link in _LINKS:
        if link.name == name:
            return link
    known = " or ".join(repr(link.name) for link in _LINKS)
    raise UsageError(f"the setting multi_class must be {known} with more than two labels, got {name!r:.80}")
