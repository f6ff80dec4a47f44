"""Time to accuracy: shmps's solver "auto" beside those that people use: a9a, a set like rcv1, ten classes.

The objective is 1/2 |w|^2 + sum_i log(1 + exp(-y_i x_i.w)); of ten classes the sum of ten, each against the
rest. For every solver the coarsest of its settings
(tolerances or rounds) that comes within each relative distance of the best value known is looked for first;
only that is timed then, solvers taking turns in every repeat. Data are in memory, in the solver's own format.
Ours (`solver="auto"`) is timed from when the nodes are up, and whole, with the start of the processes; in a
process that has not loaded the others, since a fork takes the longer the more memory there is to inherit.

Results: "sets": [{"data", "rows", "features", "nonzeros", "best" (objective), "solvers": [{"solver",
"within": {"0.01" and so on: {"setting", "seconds"} or null}}], "ratios": {"0.01": {"solver" (the fastest of
the others), "ratio": its time to ours, repeat by repeat}}}]; "missing": packages.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from bench import figures
from bench.record import markdown, shown, spread
from bench.speed import rcv1_like, solvers
from shmps import LogisticRegression
from shmps.data import datasets

WITHIN = (1e-2, 1e-3, 1e-6)
OURS, WHOLE = "shmps, 2 workers", "shmps, whole fit"
_SIZES = {"rows": "rows", "features": "features", "nonzeros": "non-zeros"}
_ROWS_OF_TEN = 20_000
_PATIENCE = 10.0  # seconds: a setting that takes longer is the last to be tried


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats = 2 if quick else 7
    a9a = datasets.load(None)
    X, y = rcv1_like.generate(_ROWS_OF_TEN if quick else rcv1_like.ROWS)
    few = X[:_ROWS_OF_TEN]
    sets = {
        a9a.name: (a9a.train_X, a9a.train_y),
        "rcv1-like": (X, y),
        "ten classes": (few, rcv1_like.topics(few, 10)),
    }
    measured: list[dict[str, Any]] = []
    missing: list[str] = []
    with tqdm(total=len(sets) * (repeats + 1), desc="peers", disable=None, leave=False) as bar:
        for name, (X, y) in sets.items():
            found, missing = solvers.peers(X, _problems(y))
            measured.append({"data": name} | _measure(X, y, found, repeats, bar.update))
    return {"C": 1.0, "repeats": repeats, "workers": 2}, {"sets": measured, "missing": missing}


def _problems(y: np.ndarray) -> list[np.ndarray]:
    """Labels -1 and +1 of each: y itself, or of more than two classes each against the rest."""
    classes = np.unique(y)
    return [y] if len(classes) == 2 else [np.where(y == label, 1.0, -1.0) for label in classes]


def _objective(X: Any, y: np.ndarray, weights: np.ndarray) -> float:
    """weights (n, problems)"""
    signs = np.column_stack(_problems(y))
    return float(0.5 * np.square(weights).sum() + np.logaddexp(0.0, -signs * (X @ weights)).sum())


def _fit(X: Any, y: np.ndarray, tol: float) -> LogisticRegression:
    model = LogisticRegression(workers=2, solver="auto", l2=1 / len(y), fit_intercept=False, tol=tol)
    return model.fit(X, y)


def _measure(
    X: Any, y: np.ndarray, found: list[solvers.Peer], repeats: int, done: Callable[[], Any]
) -> dict[str, Any]:
    best = len(y) * _fit(X, y, 1e-13).result_.objectives[-1][1]
    chosen = {}
    for peer in found:
        for within, setting in _settings(X, y, peer, best).items():
            chosen[peer.name, within] = peer.run, setting
    done()
    seconds: dict[tuple[str, float], list[float]] = {key: [] for key in chosen}
    seconds |= {(ours, within): [] for ours in (OURS, WHOLE) for within in WITHIN}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        apart.submit(_time_ours, X, y, best).result()  # a warm-up
        for _ in range(repeats):
            for key, (trained, setting) in chosen.items():
                began = time.perf_counter()
                trained(setting)
                seconds[key].append(time.perf_counter() - began)
            for key, spent in apart.submit(_time_ours, X, y, best).result().items():
                seconds[key].append(spent)
            done()
    names = [OURS, WHOLE, *(peer.name for peer in found)]
    return {
        "rows": X.shape[0], "features": X.shape[1], "nonzeros": X.nnz, "best": best,
        "solvers": [_entries(name, chosen, seconds) for name in names],
        "ratios": {f"{within:g}": _ratio(within, list(chosen), seconds) for within in WITHIN},
    }  # fmt: skip


def _settings(X: Any, y: np.ndarray, peer: solvers.Peer, best: float) -> dict[float, Any]:
    """The coarsest setting that comes so near, by distance; none for a distance that it does not reach."""
    reached: dict[float, Any] = {}
    for setting in peer.settings:
        began = time.perf_counter()
        away = _objective(X, y, peer.run(setting)) / best - 1
        for within in WITHIN:
            if away <= within:
                reached.setdefault(within, setting)
        if len(reached) == len(WITHIN) or time.perf_counter() - began > _PATIENCE:
            break
    return reached


def _time_ours(X: Any, y: np.ndarray, best: float) -> dict[tuple[str, float], float]:
    began = time.perf_counter()
    result = _fit(X, y, 1e-8).result_
    whole = time.perf_counter() - began
    seconds = {}
    for within in WITHIN:
        reached = next(spent for spent, value in result.objectives if len(y) * value / best - 1 <= within)
        seconds[OURS, within] = reached
        # What comes after the round that reached it would not have been waited for.
        seconds[WHOLE, within] = whole - (result.objectives[-1][0] - reached)
    return seconds


def _entries(name: str, chosen: dict[Any, Any], seconds: dict[Any, list[float]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for within in WITHIN:
        setting = chosen.get((name, within), (None, None))[1]
        spent = seconds.get((name, within))
        entries[f"{within:g}"] = spent and {"setting": setting, "seconds": spread(spent)}
    return {"solver": name, "within": entries}


def _ratio(
    within: float, keys: list[tuple[str, float]], seconds: dict[Any, list[float]]
) -> dict[str, Any] | None:
    others = {key: float(np.median(seconds[key])) for key in keys if key[1] == within}
    if not others:
        return None
    fastest = min(others, key=others.__getitem__)
    pairs = zip(seconds[fastest], seconds[OURS, within], strict=True)
    return {"solver": fastest[0], "ratio": spread(theirs / ours for theirs, ours in pairs)}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    parts = []
    for each in results["sets"]:
        sizes = (f"{each[name]:,} {word}" for name, word in _SIZES.items())
        title = f"{each['data']}: {', '.join(sizes)}"
        heads = [f"within {within:g}, ms" for within in WITHIN]
        rows = [[row["solver"], *map(_shown, row["within"].values())] for row in each["solvers"]]
        parts += [title, markdown(["solver", *heads], rows), _told(each["ratios"])]
    parts.append(f"median (min to max) of {settings['repeats']} repeats, taking turns")
    if results["missing"]:
        parts.append(f"not installed, left out: {', '.join(results['missing'])}")
    return "\n\n".join(parts)


def _shown(entry: dict[str, Any] | None) -> str:
    return shown(entry["seconds"], ".1f", 1e-3) if entry else ""


def _told(ratios: dict[str, Any]) -> str:
    told = [
        f"{ratio['solver']} takes {shown(ratio['ratio'], '.2f')} times as long as shmps to be within {within}"
        for within, ratio in ratios.items()
        if ratio
    ]
    return "; ".join(told) or "nobody to compare with"


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    rows = []
    for each in results["sets"]:
        ours = next(row for row in each["solvers"] if row["solver"] == OURS)
        for within, ratio in each["ratios"].items():
            if ratio is None:
                continue
            theirs = next(row for row in each["solvers"] if row["solver"] == ratio["solver"])
            times = (_shown(row["within"][within]) for row in (ours, theirs))
            rows.append([each["data"], within, *times, ratio["solver"], shown(ratio["ratio"], ".2f")])
    heads = ["data", "within", "shmps, ms", "fastest other, ms", "which", "its time to ours"]
    return {"summary": markdown(heads, rows)}


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    from matplotlib.ticker import LogLocator

    figure, panels = figures.panels(
        len(results["sets"]), "Time to a relative distance from the least objective", share=False
    )
    for panel, each in zip(panels, results["sets"], strict=True):
        names = [row["solver"] for row in each["solvers"]]
        for within, colour, marker in zip(each["ratios"], figures.MORE_COLOURS, "o^s", strict=False):
            reached = {row["solver"]: row["within"][within] for row in each["solvers"]}
            at = [name for name in names if reached[name]]
            panel.plot(
                [1000 * reached[name]["seconds"]["median"] for name in at],
                [names.index(name) for name in at],
                marker,
                color=colour,
                label=f"within {within}",
            )
        panel.set(xscale="log", xlabel="ms, median", title=each["data"], yticks=range(len(names)))
        panel.set_yticklabels(names)
        panel.invert_yaxis()
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(panels[0].lines)
    )
    return figure
