"""Whole fits on real sets: shmps beside other solvers, for each penalty and strength.

Every file of `--data-dir` (default: real/ in the data folder) is a set: NAME.npz with `indptr`, `indices`,
`data`, `shape` and `y`, or svmlight. `bench.speed.problems` has the objectives. A set of two classes is
trained with L2 at each C, and with L1 at shares of lambda_max, the least penalty at which all weights are 0.
One of more classes is trained by softmax at each C, and each class against the rest at C = 1. Nothing has an
intercept.

The optimum is the least objective that any solver came to. It is checked by Newton's method in NumPy, which
starts at the weights of shmps at tol=1e-13, and by the duality gap.

For every solver and every relative distance from the optimum, the benchmark first finds the coarsest setting
that comes within that distance. That setting is timed; the solvers take turns in every repeat. The rows are
in memory, in the solver's own format. Of shmps, the time is that of `fit`, with the start and end of the
processes, at the coarsest `tol`. It runs in a process that has not loaded the other solvers; each package of
these has a process too.

A solver is lost, and gets no finer setting, after a fit of 10 seconds, or of 40 times what shmps or 4 times
what the fastest other takes to the least distance, if that is over 0.1 seconds. The solver whose last fit was
the shortest gets a finer setting first. A fit that takes twice as long as it takes to be lost, and 5 seconds,
is ended with the process. A solver that takes twice as long as the fastest other, and over 0.1 seconds, is
timed once.

Results: "problems": [{"set", "rows", "features", "nonzeros", "classes", "problem", "kind", "C", "best"
(objective), "newton" (relative distance between shmps at tol=1e-13 and Newton's method), "gap" (relative
duality gap), "within": {"0.01" and so on: {"tol", "rounds", "whole", "training" (spreads of shmps, in
seconds), "other" (the fastest other solver), "other_setting", "other_seconds" (a spread), "ratio" (of the
medians, other to whole), "seconds" (median by solver)}}}], null where no solver came within; "packages":
{solver: package}; "missing": packages that are not installed.
"""

import math
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from bench.record import markdown, spread
from bench.speed import profile, race, solvers
from bench.speed.packages import Package, packages
from bench.speed.problems import Problem, newton
from bench.speed.race import Entrant, Trial
from bench.timing import progress
from shmps import LogisticRegression
from shmps.data import datasets
from shmps.errors import DataError, NotConverged, WorseThanConstant

STRENGTHS = (1e-3, 1.0, 1e3)
SHARES = (0.1, 0.01, 0.001)
SHMPS = "shmps"
AGREE = 1e-8  # the relative distance between optima that are the same
_EXACT = 1e-13
_TOLERANCES = tuple(10.0 ** (-k / 2) for k in range(17))
_SUFFIXES = (".npz", ".svm", ".svmlight", ".libsvm", ".txt")
_QUICK_SETS = 3
_HOPELESS = 40  # times as long as shmps takes to the least distance


def run(
    quick: bool, data_dir: str | None = None, sets: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """sets: names of sets, separated by commas (default: all)."""
    paths = paths_of(Path(data_dir) if data_dir else datasets.data_folder(None) / "real", sets)
    if quick and sets is None:
        paths = sorted(paths, key=lambda path: path.stat().st_size)[:_QUICK_SETS]
    repeats = 2 if quick else 5
    measured: list[dict[str, Any]] = []
    package_of: dict[str, str] = {}
    with progress("real", len(paths)) as bar, packages(solvers.PACKAGES) as others:
        for path in paths:
            X, y = load(path)
            about = {"set": path.stem, "rows": X.shape[0], "features": X.shape[1], "nonzeros": X.nnz}
            about["classes"] = len(np.unique(y))
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as isolated:
                for name, problem in _problems(X, y, quick):
                    bar.set_postfix_str(f"{path.stem}, {name}")
                    for package in others:
                        package.take(problem)
                        package_of |= dict.fromkeys(package.settings or (), package.name)
                    measured.append(about | {"problem": name} | _measure(problem, others, repeats, isolated))
            bar.update()
        missing = [package.name for package in others if package.settings is None]
    settings = {"repeats": repeats, "within": list(race.WITHIN), "intercept": False}
    return settings, {"problems": measured, "packages": package_of, "missing": missing}


def paths_of(folder: Path, names: str | None) -> list[Path]:
    found = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix in _SUFFIXES}
    if not found:
        raise DataError(
            f"{folder}: the folder must hold sets as {', '.join(_SUFFIXES)}; name one by --data-dir"
        )
    chosen = list(found) if names is None else names.split(",")
    if unknown := [name for name in chosen if name not in found]:
        raise DataError(f"{folder}: the sets are {', '.join(found)}, got {', '.join(unknown)}")
    return [found[name] for name in chosen]


def load(path: Path) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Return X (rows, features) and y (rows,): -1 and +1, or with more classes 0, 1, ..."""
    if path.suffix == ".npz":
        with np.load(path) as parts:
            X = scipy.sparse.csr_matrix(
                (parts["data"].astype(float), parts["indices"], parts["indptr"]), tuple(parts["shape"])
            )
            y = parts["y"]
        X.sort_indices()
    else:
        data = datasets.load(str(path))
        X, y = data.train_X, data.train_y
    classes, y = np.unique(y, return_inverse=True)
    return X, np.where(y == 1, 1.0, -1.0) if len(classes) == 2 else y


def _problems(X: Any, y: np.ndarray, quick: bool) -> Iterator[tuple[str, Problem]]:
    strengths, shares = (STRENGTHS[1:2], SHARES[1:2]) if quick else (STRENGTHS, SHARES)
    if len(np.unique(y)) > 2:
        for C in strengths:
            yield f"softmax, C = {C:g}", Problem(X, y, "softmax", C)
        yield "one against the rest, C = 1", Problem(X, y, "rest", 1.0)
        return
    for C in strengths:
        yield f"L2, C = {C:g}", Problem(X, y, "l2", C)
    weakest = Problem(X, y, "l1", 1.0).weakest_l1()
    for share in shares:
        yield f"L1, {share:g} lambda_max", Problem(X, y, "l1", weakest / share)


def _measure(
    problem: Problem, found: list[Package], repeats: int, isolated: ProcessPoolExecutor
) -> dict[str, Any]:
    exact = isolated.submit(_fit, problem, _EXACT).result()[1]
    checked = newton(problem, exact)
    best, other = sorted(map(problem.objective, (exact, checked)))
    own = {SHMPS: Entrant(_TOLERANCES, lambda tol, _: isolated.submit(_fit, problem, tol).result()[0])}
    others = {name: each for package in found for name, each in package.entrants().items()}
    tried = race.search(own, best)
    tried |= race.search(others, best, _HOPELESS * tried[SHMPS][-1][1].seconds)
    least = min(best, *(trial.objective for each in tried.values() for _, trial in each))
    times = race.race(own | others, tried, least, repeats, SHMPS)
    return {
        "kind": problem.kind, "C": problem.C, "best": least, "newton": other / best - 1,
        "gap": min(map(problem.gap, (exact, checked))) / least,
        "within": {f"{within:g}": _entry(least * (1 + within), times[within]) for within in race.WITHIN},
    }  # fmt: skip


def _fit(problem: Problem, tol: float) -> tuple[Trial, np.ndarray]:
    """Return the fit, and the weights as `Problem.objective` takes them."""
    model = LogisticRegression(tol=tol, **problem.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)  # a tol near the precision of the objective
        warnings.simplefilter("ignore", WorseThanConstant)  # no intercept
        began = time.perf_counter()
        model.fit(problem.X, problem.y)
        seconds = time.perf_counter() - began
    weights = model.coef_[0] if len(model.coef_) == 1 else model.coef_.T
    scale = problem.C * len(problem.y)
    rounds = [(at, scale * value) for at, value in model.result_.objectives]
    return Trial(seconds, problem.objective(weights), rounds), weights


def _entry(goal: float, times: race.Times) -> dict[str, Any]:
    """Return the entry "within" of a problem for one distance; goal: the objective to come to."""
    setting, fits = times.get(SHMPS, (None, []))
    others = {name: made for name, (_, made) in times.items() if name != SHMPS}
    fastest = min(others, key=lambda name: _median(others[name]), default=None)
    training = [next((at for at, value in fit.rounds if value <= goal), fit.seconds) for fit in fits]
    return {
        "tol": setting, "rounds": len(fits[0].rounds) if fits else None,
        "whole": spread(_seconds(fits)) if fits else None, "training": spread(training) if fits else None,
        "other": fastest, "other_setting": times[fastest][0] if fastest else None,
        "other_seconds": spread(_seconds(others[fastest])) if fastest else None,
        "ratio": _median(others[fastest]) / _median(fits) if fits and fastest else None,
        "seconds": {name: _median(made) for name, (_, made) in times.items()},
    }  # fmt: skip


def _seconds(trials: Sequence[Trial]) -> list[float]:
    return [trial.seconds for trial in trials]


def _median(trials: Sequence[Trial]) -> float:
    return statistics.median(_seconds(trials))


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    names = dict.fromkeys(each["problem"] for each in results["problems"])
    rows = [row for name in names for row in _rows(name, results)]
    heads = ["problem", "within", "sets", "mean ratio", "least ratio", "on", "won"]
    parts = [
        markdown(heads, rows),
        f"Ratio: median time of the fastest other solver to that of the whole fit, of {settings['repeats']} "
        f"repeats; mean: geometric, over the sets on which both come within the distance.",
        _lost(results),
        _unsure(results),
    ]
    if results["missing"]:
        parts.append(f"Not installed: {', '.join(results['missing'])}.")
    return "\n\n".join(parts)


def _rows(name: str, results: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a row of the table per distance."""
    sets = {each["set"]: each["within"] for each in results["problems"] if each["problem"] == name}
    for within in next(iter(sets.values())):
        ratios = {where: each[within]["ratio"] for where, each in sets.items() if each[within]["ratio"]}
        won = sum(_won(each[within]) for each in sets.values())
        cells = ["", "", ""]
        if ratios:
            worst = min(ratios, key=ratios.__getitem__)
            mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
            cells = [f"{mean:.2f}", f"{ratios[worst]:.2f}", worst]
        yield [name, within, str(len(sets)), *cells, str(won)]


def _won(entry: dict[str, Any]) -> bool:
    return entry["whole"] is not None and (entry["ratio"] is None or entry["ratio"] > 1)


def _lost(results: dict[str, Any]) -> str:
    """List where another solver is faster."""
    lines: dict[tuple[str, str], list[str]] = {}
    for each in results["problems"]:
        for within, entry in each["within"].items():
            if entry["other"] is not None and not _won(entry):
                how = f"{entry['ratio']:.2f}" if entry["ratio"] else "shmps does not come within"
                lines.setdefault((each["problem"], within), []).append(
                    f"{each['set']} ({entry['other']}, {how})"
                )
    listed = [f"- {name}, within {within}: {', '.join(lost)}" for (name, within), lost in lines.items()]
    return "\n".join(["Another solver is faster (its ratio):\n", *listed]) if listed else "None is faster."


def _unsure(results: dict[str, Any]) -> str:
    """Say on which problems the two optima differ."""
    differing = [
        f"{each['set']}, {each['problem']} ({each['newton']:.1g})"
        for each in results["problems"]
        if each["newton"] > AGREE
    ]
    if differing:
        return (
            f"The optima of shmps and of Newton's method differ, by over {AGREE:g}: {'; '.join(differing)}."
        )
    return f"shmps and Newton's method come to the same optima, to {AGREE:g} relatively."


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    names = [name for name in dict.fromkeys(each["problem"] for each in results["problems"]) if _usual(name)]
    rows = [[row[0], row[1], *row[3:]] for name in names for row in _rows(name, results)]
    heads = ["problem", "within", "mean ratio", "least ratio", "on", "won"]
    sets = dict.fromkeys(each["set"] for each in results["problems"])
    return {"summary": markdown(heads, rows), "sets": f"{len(sets)} sets: {', '.join(sets)}"}


def _usual(name: str) -> bool:
    return name.endswith("C = 1") or name.startswith("L1, 0.01 ")


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    return profile.figure(results["problems"], {SHMPS: "shmps, whole fit"} | results["packages"])
