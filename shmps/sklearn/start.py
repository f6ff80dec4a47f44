"""The weights that a training begins with."""

from typing import Any

import numpy as np

from shmps.data.numeric import floats_of
from shmps.errors import DataError, OutOfSpace, UsageError
from shmps.sklearn.inputs import other_names
from shmps.system.memory import available_memory

_COPIES = 4  # of all weights, at least, in this process


def initial(coef_init: Any, intercept_init: Any, features: int, intercept: bool, classes: int) -> np.ndarray:
    """Weights to start from, as they are trained (see `trained`); zero where None is given.

    Raises UsageError if they do not fit.
    """
    problems = 1 if classes == 2 else classes
    needed, available = 8 * _COPIES * problems * (features + 1), available_memory()
    if needed > available:
        classes_too = f" of {problems:,} classes" if problems > 1 else ""
        raise OutOfSpace(
            f"weights must fit in memory: those of {features:,} features{classes_too} need at least "
            f"{needed / 2**20:,.0f} MiB, found {available / 2**20:,.0f} MiB available; correct the largest "
            f"index if it is wrong, number the features without gaps, or hash them (hash_bits)"
        )
    if coef_init is None and intercept_init is None:  # zeros that nobody writes to take no memory
        return np.zeros((features + intercept, problems) if problems > 1 else features + intercept)
    coef, own = np.zeros((problems, features)), np.zeros(problems)
    if coef_init is not None:
        coef = _numbers("coef_init", coef_init, coef.size).reshape(coef.shape)
        if problems > 1 and np.shape(coef_init) != coef.shape:
            raise UsageError(f"coef_init has the shape {coef.shape}, found {np.shape(coef_init)}")
    if intercept_init is not None:
        if not intercept:
            raise UsageError("an intercept_init needs fit_intercept=True, found False; leave it out")
        own = _numbers("intercept_init", intercept_init, problems)
    return trained(coef, own if intercept else None)


def warm(
    coef: Any, known: np.ndarray | None, names: np.ndarray | None, features: int, classes: int
) -> np.ndarray:
    """Return the coef_ of the fit before for the features of this one, which may be in another order.

    known, names: the features' names in the fit before and in this one, or None. Raises UsageError if the
    shape differs, DataError if the names do.
    """
    shape = 1 if classes == 2 else classes, features
    if np.shape(coef) != shape:
        raise UsageError(
            f"warm_start=True needs the features and classes of the fit before, whose coef_ has the shape "
            f"{np.shape(coef)}, found {features} features and {classes} classes; set warm_start=False"
        )
    if known is None or names is None or known.tolist() == names.tolist():
        return coef
    places = {name: place for place, name in enumerate(known.tolist())}
    if places.keys() != set(names):
        raise DataError(other_names(set(names), set(known)))
    if len(places) < len(known):
        raise DataError(
            "warm_start=True matches the features by their names, which must differ; give the columns in the "
            "order of the fit before, or rename them"
        )
    return coef[:, [places[name] for name in names]]


def trained(coef: np.ndarray, intercept: np.ndarray | None) -> np.ndarray:
    """The weights `coef` (problems, features) as they are trained: a row for every key, (n,) of one problem
    and (n, problems) of more; the intercept's (problems,) last, if there is one.
    """
    rows = coef.T if intercept is None else np.vstack([coef.T, intercept])
    return rows[:, 0] if len(coef) == 1 else np.ascontiguousarray(rows)


def _numbers(name: str, values: Any, count: int) -> np.ndarray:
    """Weights (count,) to start from; UsageError if they are not."""
    try:
        given = floats_of(values).ravel()
    except (TypeError, ValueError, OverflowError):
        given = np.empty(0)
    if len(given) != count or not np.isfinite(given).all():
        raise UsageError(f"{name} is {count} finite numbers, found {values!r:.80}")
    return given
