"""Cross-validation: LogisticRegressionCV beside scikit-learn's, with each of its solvers, and GridSearchCV.

10 penalties, C from 1e-4 to 1e4, in 5 stratified folds, and the training on all rows with the one that scores
best: whole fits, from data in memory. Scores are log-losses. Solvers differ in what their tolerance means. So
every contestant has the coarsest tolerance with which the mean score of every penalty is within `WITHIN` of
the exact one, relatively. It is timed with that tolerance; the contestants take turns in every repeat. Exact
scores are those of shmps with a tolerance of 1e-10.

The sets are a9a, and those of `bench real`.

Results: "sets": [{"data", "rows", "features", "nonzeros", "classes", "contestants": {name: {"tol",
"seconds"}, or null if no tolerance came within, or one fit took 30 seconds}, "ratios": {name: its time to
that of shmps, within a repeat}}].
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import markdown, ratio, shown, spread
from bench.speed import real
from bench.timing import progress, seconds
from shmps import LogisticRegression, LogisticRegressionCV
from shmps.data import datasets
from shmps.system.parallel import usable_cores

CS, FOLDS, WITHIN = 10, 5, 1e-2
TOLERANCES = (1e-4, 1e-6, 1e-8)
SHMPS, GRID = "shmps", "GridSearchCV of shmps"
SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky", "liblinear")
_MOST_FEATURES = 2000  # with more, the Hessian matrices of newton-cholesky take too long
_PATIENCE = 30.0  # seconds: a contestant that takes longer is left out

Fit = Callable[[Any, np.ndarray, float], np.ndarray]  # X, y, tolerance -> mean scores (CS,)


def run(
    quick: bool, data_dir: str | None = None, sets: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """sets: names of sets in `data_dir`, separated by commas (default: all; quick: none)."""
    folder = Path(data_dir) if data_dir else datasets.data_folder(None) / "real"
    paths = [] if quick and sets is None else real.paths_of(folder, sets)
    repeats, measured, a9a = (1 if quick else 3), [], datasets.load(None)
    with progress("cv", 1 + len(paths)) as bar:
        measured.append({"data": a9a.name} | _measure(a9a.train_X, a9a.train_y, repeats))
        bar.update()
        for path in paths:
            measured.append({"data": path.stem} | _measure(*real.load(path), repeats))
            bar.update()
    settings = {"Cs": CS, "folds": FOLDS, "within": WITHIN, "repeats": repeats, "cores": usable_cores()}
    return settings, {"sets": measured}


def _shmps(X: Any, y: np.ndarray, tol: float) -> np.ndarray:
    return _scores(LogisticRegressionCV(Cs=CS, cv=FOLDS, scoring="neg_log_loss", tol=tol).fit(X, y))


def _grid(X: Any, y: np.ndarray, tol: float) -> np.ndarray:
    from sklearn.model_selection import GridSearchCV

    grid = {"C": np.logspace(-4, 4, CS)}
    search = GridSearchCV(LogisticRegression(tol=tol), grid, cv=FOLDS, scoring="neg_log_loss").fit(X, y)
    found: np.ndarray = search.cv_results_["mean_test_score"]
    return found


def _sklearn(solver: str) -> Fit:
    def fit(X: Any, y: np.ndarray, tol: float) -> np.ndarray:
        from sklearn.linear_model import LogisticRegressionCV as Theirs

        kept = {"l1_ratios": (0,), "use_legacy_attributes": False}
        given = {"Cs": CS, "cv": FOLDS, "scoring": "neg_log_loss", "tol": tol, "max_iter": 1000}
        return _scores(Theirs(solver=solver, n_jobs=usable_cores(), **given, **kept).fit(X, y))

    return fit


def _scores(model: Any) -> np.ndarray:
    mean: np.ndarray = model.scores_.mean(axis=(0, 1))
    return mean


def _contestants(features: int, classes: int) -> dict[str, Fit]:
    fits: dict[str, Fit] = {SHMPS: _shmps, GRID: _grid}
    for solver in SOLVERS:
        too_wide = solver == "newton-cholesky" and features * classes > _MOST_FEATURES
        if not too_wide and not (solver == "liblinear" and classes > 2):
            fits[f"scikit-learn, {solver}"] = _sklearn(solver)
    return fits


def _measure(X: Any, y: np.ndarray, repeats: int) -> dict[str, Any]:
    classes = len(np.unique(y))
    with warnings.catch_warnings(action="ignore"):
        exact = _shmps(X, y, 1e-10)
        fits = _contestants(X.shape[1], classes)
        chosen = {name: _coarsest(fit, X, y, exact) for name, fit in fits.items()}
        spent: dict[str, list[float]] = {name: [] for name, tol in chosen.items() if tol is not None}
        for _ in range(repeats):
            for name in spent:
                spent[name].append(seconds(fits[name], X, y, chosen[name]))
    return {
        "rows": X.shape[0], "features": X.shape[1], "nonzeros": int(X.nnz), "classes": classes,
        "contestants": {
            name: {"tol": tol, "seconds": spread(spent[name])} if tol is not None else None
            for name, tol in chosen.items()
        },
        "ratios": {name: ratio(times, spent[SHMPS]) for name, times in spent.items() if SHMPS in spent},
    }  # fmt: skip


def _coarsest(fit: Fit, X: Any, y: np.ndarray, exact: np.ndarray) -> float | None:
    """Return the coarsest tolerance within the distance, or None if none is or a fit takes too long."""
    for tol in TOLERANCES:
        began = time.perf_counter()
        scores = fit(X, y, tol)
        if time.perf_counter() - began > _PATIENCE:
            return None
        if np.abs(scores / exact - 1).max() <= WITHIN:
            return tol
    return None


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    """Return seconds by set and contestant, and how much longer the fastest other one took than shmps."""
    names = [SHMPS, GRID, *(f"scikit-learn, {solver}" for solver in SOLVERS)]
    lines = []
    for each in results["sets"]:
        found = each["contestants"]
        cells = [shown(found[name]["seconds"], ".2f") if found.get(name) else "-" for name in names]
        others = [own["median"] for name, own in each["ratios"].items() if name != SHMPS]
        lines.append([each["data"], *cells, f"{min(others):.1f}" if others else "-"])
    return markdown(["seconds", *names, "fastest other / shmps"], lines)


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    """Return the geometric mean of the ratios to the fastest other one, and its range."""
    ratios = [
        min(own["median"] for name, own in each["ratios"].items() if name != SHMPS)
        for each in results["sets"]
        if len(each["ratios"]) > 1
    ]
    mean = float(np.exp(np.log(ratios).mean()))
    return {"mean": f"{mean:.1f}", "least": f"{min(ratios):.1f}", "most": f"{max(ratios):.1f}"}
