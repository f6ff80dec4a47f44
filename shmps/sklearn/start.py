"""The weights from which a training starts."""

from typing import Any

import numpy as np

from shmps.data.numeric import floats_of
from shmps.errors import DataError, OutOfSpace, UsageError
from shmps.linear.settings import Settings
from shmps.sklearn.inputs import other_names
from shmps.system.memory import available_memory

_COPIES = 4  # the least copies of all weights in this process
_SURELY_AVAILABLE = 2**24  # bytes: asking the system takes as long as training a small model


def check_start(settings: Settings, before: tuple[Any, Any]) -> None:
    """Raise UsageError if weights to start from are given to an updater that has its own."""
    if settings.updater == "dist-lr" and any(each is not None for each in before):
        raise UsageError(
            "updater='dist-lr' starts from weights of its own, got coef_init, intercept_init or warm_start; "
            "leave them out"
        )


def initial(coef_init: Any, intercept_init: Any, features: int, intercept: bool, classes: int) -> np.ndarray:
    """Return the weights to start from in the layout of `trained`; None stands for zeros.

    Raises UsageError if their shapes do not fit, OutOfSpace if they do not fit in memory.
    """
    problems = 1 if classes == 2 else classes
    needed = 8 * _COPIES * problems * (features + 1)
    if needed > _SURELY_AVAILABLE and needed > (available := available_memory()):
        classes_too = f" of {problems:,} classes" if problems > 1 else ""
        raise OutOfSpace(
            f"weights must fit in memory: those of {features:,} features{classes_too} need at least "
            f"{needed / 2**20:,.0f} MiB, got {available / 2**20:,.0f} MiB available; correct the largest "
            f"index if it is wrong, number the features without gaps, or hash them ({{hash_bits}})",
            hash_bits=None,
        )
    if coef_init is None and intercept_init is None:  # zeros that are never written take no memory
        return np.zeros((features + intercept, problems) if problems > 1 else features + intercept)
    coef, own = np.zeros((problems, features)), np.zeros(problems)
    if coef_init is not None:
        coef = _numbers("coef_init", coef_init, coef.size).reshape(coef.shape)
        if problems > 1 and np.shape(coef_init) != coef.shape:
            raise UsageError(f"coef_init must have the shape {coef.shape}, got {np.shape(coef_init)}")
    if intercept_init is not None:
        if not intercept:
            raise UsageError("intercept_init needs fit_intercept=True, got False; leave it out")
        own = _numbers("intercept_init", intercept_init, problems)
    return trained(coef, own if intercept else None)


def warm(
    coef: Any, known: np.ndarray | None, names: np.ndarray | None, features: int, classes: int
) -> np.ndarray:
    """Return the coef_ of the earlier fit, reordered for the features of this one.

    known, names: the names of the features in the earlier fit and in this one, or None. Raises UsageError if
    the shape differs, DataError if the names differ.
    """
    shape = 1 if classes == 2 else classes, features
    if np.shape(coef) != shape:
        raise UsageError(
            f"warm_start=True needs the features and classes of the earlier fit, whose coef_ has the shape "
            f"{np.shape(coef)}, got {features} features and {classes} classes; set warm_start=False"
        )
    if known is None or names is None or known.tolist() == names.tolist():
        return np.asarray(coef)
    places = {name: place for place, name in enumerate(known.tolist())}
    if places.keys() != set(names):
        raise DataError(other_names(set(names), set(known)))
    if len(places) < len(known):
        raise DataError(
            "warm_start=True matches the features by name, so the names must differ; give the columns in the "
            "order of the earlier fit, or rename them"
        )
    reordered: np.ndarray = coef[:, [places[name] for name in names]]
    return reordered


def trained(coef: np.ndarray, intercept: np.ndarray | None) -> np.ndarray:
    """Return weights in the layout of training: a row per key, and the intercept's row last, if there is one.

    coef (problems, features), intercept (problems,) -> (n,) with one problem, else (n, problems).
    """
    rows = coef.T if intercept is None else np.vstack([coef.T, intercept])
    return rows[:, 0] if len(coef) == 1 else np.ascontiguousarray(rows)


def _numbers(name: str, values: Any, count: int) -> np.ndarray:
    """Return weights (count,) to start from. Raises UsageError for anything else."""
    try:
        given = floats_of(values).ravel()
    except (TypeError, ValueError, OverflowError):
        given = np.empty(0)
    if len(given) != count or not np.isfinite(given).all():
        raise UsageError(f"{name} must be {count} finite numbers, got {values!r:.80}")
    return given
