"""Time to accuracy: shmps's solver "auto" beside other solvers, on a9a, a set like rcv1, and ten classes.

The objective is 1/2 |w|^2 + sum_i log(1 + exp(-y_i x_i.w)). With ten classes it is the sum of ten such
objectives, one class against the rest each.

For every solver and every relative distance from the best known objective, the benchmark first finds the
coarsest setting (tolerance or rounds) that comes within that distance. Only that setting is timed then; the
solvers take turns in every repeat. The data are in memory, in the solver's own format.

shmps (`solver="auto"`) is timed twice: from the moment when the nodes are up, and whole, with the start of
the processes. It runs in a process that has not loaded the other solvers, since a fork takes longer the more
memory there is to inherit.

Results: "sets": [{"data", "rows", "features", "nonzeros", "best" (objective), "solvers": [{"solver",
"within": {"0.01" and so on: {"setting", "seconds"} or null}}], "ratios": {"0.01": {"solver" (the fastest
other), "ratio" (its time to that of shmps, within a repeat)}}}]; "missing": packages that are not installed.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from bench import figures
from bench.record import markdown, ratio, shown, spread
from bench.speed import rcv1_like, solvers
from bench.speed.problems import Problem
from bench.timing import progress, seconds
from shmps import LogisticRegression
from shmps.data import datasets

WITHIN = (1e-2, 1e-3, 1e-6)
SHMPS, WHOLE = "shmps, 2 workers", "shmps, whole fit"
_SIZES = {"rows": "rows", "features": "features", "nonzeros": "non-zeros"}
_ROWS_OF_TEN = 20_000
_PATIENCE = 10.0  # seconds: after a slower setting no finer one is tried

Seconds = dict[tuple[str, float], list[float]]  # of each repeat, by solver and distance


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
    with progress("peers", len(sets) * (repeats + 1)) as bar:
        for name, (X, y) in sets.items():
            found, missing = solvers.peers(_problem(X, y))
            measured.append({"data": name} | _measure(X, y, found, repeats, bar.update))
    return {"C": 1.0, "repeats": repeats, "workers": 2}, {"sets": measured, "missing": missing}


def _problem(X: Any, y: np.ndarray) -> Problem:
    return Problem(X, y, "l2" if len(np.unique(y)) == 2 else "rest", 1.0)


def _fit(X: Any, y: np.ndarray, tol: float) -> LogisticRegression:
    return LogisticRegression(workers=2, solver="auto", tol=tol, **_problem(X, y).parameters()).fit(X, y)


def _measure(
    X: Any, y: np.ndarray, found: list[solvers.Peer], repeats: int, done: Callable[[], Any]
) -> dict[str, Any]:
    best = len(y) * _fit(X, y, 1e-13).result_.objectives[-1][1]
    chosen = {}
    for peer in found:
        for within, setting in _settings(X, y, peer, best).items():
            chosen[peer.name, within] = peer.run, setting
    done()
    spent: Seconds = {key: [] for key in chosen}
    spent |= {(name, within): [] for name in (SHMPS, WHOLE) for within in WITHIN}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as isolated:
        isolated.submit(_time_shmps, X, y, best).result()  # a warm-up
        for _ in range(repeats):
            for key, (train, setting) in chosen.items():
                spent[key].append(seconds(train, setting))
            for key, time_of in isolated.submit(_time_shmps, X, y, best).result().items():
                spent[key].append(time_of)
            done()
    names = [SHMPS, WHOLE, *(peer.name for peer in found)]
    return {
        "rows": X.shape[0], "features": X.shape[1], "nonzeros": X.nnz, "best": best,
        "solvers": [_entries(name, chosen, spent) for name in names],
        "ratios": {f"{within:g}": _ratio(within, list(chosen), spent) for within in WITHIN},
    }  # fmt: skip


def _settings(X: Any, y: np.ndarray, peer: solvers.Peer, best: float) -> dict[float, Any]:
    """Return the coarsest setting that comes within each distance; distances out of reach are left out."""
    reached: dict[float, Any] = {}
    for setting in peer.settings:
        began = time.perf_counter()
        distance = _problem(X, y).objective(peer.run(setting)) / best - 1
        for within in WITHIN:
            if distance <= within:
                reached.setdefault(within, setting)
        if len(reached) == len(WITHIN) or time.perf_counter() - began > _PATIENCE:
            break
    return reached


def _time_shmps(X: Any, y: np.ndarray, best: float) -> dict[tuple[str, float], float]:
    began = time.perf_counter()
    result = _fit(X, y, 1e-8).result_
    whole = time.perf_counter() - began
    spent = {}
    for within in WITHIN:
        reached = next(at for at, value in result.objectives if len(y) * value / best - 1 <= within)
        spent[SHMPS, within] = reached
        # Without the rounds that came after the distance was reached.
        spent[WHOLE, within] = whole - (result.objectives[-1][0] - reached)
    return spent


def _entries(name: str, chosen: dict[Any, Any], spent: Seconds) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for within in WITHIN:
        setting = chosen.get((name, within), (None, None))[1]
        times = spent.get((name, within))
        entries[f"{within:g}"] = times and {"setting": setting, "seconds": spread(times)}
    return {"solver": name, "within": entries}


def _ratio(within: float, keys: list[tuple[str, float]], spent: Seconds) -> dict[str, Any] | None:
    """Compare the fastest other solver with shmps."""
    others = {key: float(np.median(spent[key])) for key in keys if key[1] == within}
    if not others:
        return None
    fastest = min(others, key=others.__getitem__)
    return {"solver": fastest[0], "ratio": ratio(spent[fastest], spent[SHMPS, within])}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    parts = []
    for each in results["sets"]:
        sizes = (f"{each[name]:,} {word}" for name, word in _SIZES.items())
        title = f"{each['data']}: {', '.join(sizes)}"
        heads = [f"within {within:g}, ms" for within in WITHIN]
        rows = [[row["solver"], *map(_shown, row["within"].values())] for row in each["solvers"]]
        parts += [title, markdown(["solver", *heads], rows), _comparison(each)]
    parts.append(f"Median (min to max) of {settings['repeats']} repeats; the solvers take turns.")
    if results["missing"]:
        parts.append(f"Not installed: {', '.join(results['missing'])}.")
    return "\n\n".join(parts)


def _shown(entry: dict[str, Any] | None) -> str:
    return shown(entry["seconds"], ".1f", 1e-3) if entry else ""


def _comparison(measured: dict[str, Any]) -> str:
    """Compare the fastest other solver of each distance with the training and with the whole fit."""
    by_solver = {row["solver"]: row["within"] for row in measured["solvers"]}
    lines = []
    for within, other in measured["ratios"].items():
        if other:
            fastest, whole = (
                by_solver[name][within]["seconds"]["median"] for name in (other["solver"], WHOLE)
            )
            lines.append(
                f"- Within {within}: {other['solver']} takes {shown(other['ratio'], '.2f')} times as long as "
                f"shmps whose nodes are up, and {fastest / whole:.2f} times as long as the whole fit."
            )
    return "\n".join(lines) or "No other solver is installed."


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    rows: list[list[str]] = []
    slower: dict[str, list[str]] = {}
    for each in results["sets"]:
        by_solver = {row["solver"]: row["within"] for row in each["solvers"]}
        for within, other in each["ratios"].items():
            if other is not None:
                times = [by_solver[name][within] for name in (SHMPS, WHOLE, other["solver"])]
                rows.append([each["data"], within, *map(_shown, times), other["solver"]])
                _, whole, fastest = (time["seconds"]["median"] for time in times)
                if whole > fastest:
                    slower.setdefault(each["data"], []).append(within)
    heads = ["data", "within", "nodes up, ms", "whole fit, ms", "fastest other, ms", "which other"]
    where = "; ".join(f"{data} within {', '.join(distances)}" for data, distances in slower.items())
    sentence = f"The whole fit takes longer than the fastest other on: {where or 'none of these'}."
    return {"summary": f"{markdown(heads, rows)}\n\n{sentence}"}


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
