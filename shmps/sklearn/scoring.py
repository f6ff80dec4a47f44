"""Scores of a cross-validation: those that need no scikit-learn, its other scorers by name, or a function."""

from collections.abc import Callable
from typing import Any

import numpy as np

from shmps.errors import UsageError
from shmps.sklearn.labels import known_codes

# From a fitted estimator, X and y, and sample_weight if rows have weights.
Scorer = Callable[..., float]


def accuracy(estimator: Any, X: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    """Return the share of the rows whose label is predicted."""
    return float(np.average(estimator.model().predict(X) == y, weights=sample_weight))


def neg_log_loss(estimator: Any, X: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    """Return the mean logarithm of the probability of each row's label."""
    logs = estimator.model().predict_log_proba(X)
    codes = known_codes(y, len(logs), estimator.classes_, "y")
    numbers = (codes > 0 if logs.shape[1] == 2 else codes).astype(np.intp)
    own = logs[np.arange(len(logs)), numbers]
    return float(np.average(own, weights=sample_weight))


_OWN: dict[str, Scorer] = {"accuracy": accuracy, "neg_log_loss": neg_log_loss}


def scorer_of(scoring: Any) -> Scorer:
    """Return the scorer that `scoring` names, or is. Raises UsageError."""
    if scoring is None or callable(scoring):
        return scoring or accuracy
    if isinstance(scoring, str) and scoring in _OWN:
        return _OWN[scoring]
    must = f"{{scoring}} must be {', '.join(_OWN)}, a name that scikit-learn knows, or a function"
    try:
        from sklearn.metrics import get_scorer

        scorer: Scorer = get_scorer(scoring)
        return scorer
    except ImportError:
        pass
    except (TypeError, ValueError) as error:
        raise UsageError(f"{must}, got {{scoring.value!r:.80}}", scoring=scoring) from error
    raise UsageError(
        f"{must} of (estimator, X, y), got {{scoring.value!r:.80}}, and scikit-learn is not installed",
        scoring=scoring,
    )
