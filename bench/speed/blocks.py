"""L1 by delayed block proximal gradient, the parameter server's published example, beside shmps's own search.

Both run on this package's servers, with 2 workers and 2 servers: `bench.speed.block_proximal`, and
`LogisticRegression(l1=...)`. The sets are a9a, two of `bench real` and a generated one with many features; L1
penalties are shares of the least one at which all weights are 0, and nothing has an intercept.

Times are seconds of training, from the moment when all workers have their rows in their own layout, until the
objective is within a relative distance of the optimum. Rounds are gradients of shmps, and passes over all
blocks. For each delay and distance the block method runs at the fastest of several step rates and numbers of
blocks; the search itself is not timed. The contestants take turns in every repeat.

The optimum is the least objective that shmps at tol=1e-9, or a long run of the block method, came to; "gap"
bounds its error. Processor times are those of the whole training, to the least distance, with its processes.

Results: "problems": [{"data", "rows", "features", "nonzeros", "share" (of the L1 penalty), "best", "gap" (an
upper bound of the relative error of "best"), "weights" (not 0), "contestants": {name: {"0.01" and so on:
{"seconds", "rounds", "processor" (spreads), "rate", "blocks_per_value"}, or null if none came within}}}];
"missing": the sets that are not in the folder.
"""

import math
import resource
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.record import markdown, spread
from bench.speed import block_proximal, rcv1_like, real
from bench.speed.block_proximal import Pass, Plan
from bench.speed.problems import Problem
from bench.timing import progress
from shmps import LogisticRegression
from shmps.data import datasets
from shmps.errors import NotConverged, WorseThanConstant

SHARES = (0.1, 0.01, 0.001)
WITHIN = (1e-2, 1e-3, 1e-6)
_LEAST = f"{min(WITHIN):g}"
SHMPS = "shmps"
DELAYS = {"delay 0": 0, "delay 4": 4, "no bound": block_proximal.EVERY_BLOCK}
STEPS = ((1.0, 1.0), (1.0, 4.0), (0.3, 1.0), (0.1, 1.0), (0.03, 1.0))
REAL = ("rcv1_small", "sms_tfidf")
WIDE_ROWS = 2000
_PATIENCE = 8.0  # seconds of a training
_FLAT = 10  # passes without progress end it
_LOST = 3  # times what the fastest takes to the least distance: a slower one is ended
_MOST_ROUNDS = 200  # of shmps

Setting = tuple[float, float] | None  # rate and blocks per value of the block method


class Run(NamedTuple):
    """One training. history: seconds and objective after each round. processor: seconds, of all processes."""

    history: list[tuple[float, float]]
    weights: np.ndarray
    processor: float

    def reaches(self, goal: float) -> tuple[float, int] | None:
        """Return seconds and rounds until the objective is at most `goal`."""
        for number, (seconds, objective) in enumerate(self.history, 1):
            if objective <= goal:
                return seconds, number
        return None


def run(
    quick: bool, data_dir: str | None = None, sets: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """sets: names of sets, separated by commas (default: all; quick: a9a)."""
    folder = Path(data_dir) if data_dir else datasets.data_folder(None) / "real"
    found, missing = _sets(folder, sets.split(",") if sets else ["a9a"] if quick else None)
    shares, repeats, measured = SHARES[:1] if quick else SHARES, 1 if quick else 3, []
    with progress("blocks", len(found) * len(shares)) as bar:
        for name, load in found.items():
            X, y = load()
            about = {"data": name, "rows": X.shape[0], "features": X.shape[1], "nonzeros": X.nnz}
            for share in shares:
                bar.set_postfix_str(f"{name}, {share:g}")
                measured.append(about | {"share": share} | measure(X, y, share, repeats))
                bar.update()
    settings = {"repeats": repeats, "workers": 2, "servers": 2, "patience": _PATIENCE, "steps": STEPS}
    return settings, {"problems": measured, "missing": missing}


def _sets(
    folder: Path, chosen: list[str] | None
) -> tuple[dict[str, Callable[[], tuple[Any, np.ndarray]]], list[str]]:
    """Return functions that load the sets, and the names of those that are not there."""

    def a9a() -> tuple[Any, np.ndarray]:
        loaded = datasets.load(None)
        return loaded.train_X.tocsr(), loaded.train_y

    paths = {path.stem: path for path in folder.glob("*") if path.stem in REAL}
    sets: dict[str, Callable[[], tuple[Any, np.ndarray]]] = {"a9a": a9a}
    sets |= {name: partial(real.load, path) for name, path in sorted(paths.items())}
    sets["wide"] = lambda: rcv1_like.generate(WIDE_ROWS)
    if chosen is not None:
        sets = {name: load for name, load in sets.items() if name in chosen}
    return sets, [name for name in REAL if name not in paths and (chosen is None or name in chosen)]


def measure(X: Any, y: np.ndarray, share: float, repeats: int) -> dict[str, Any]:
    """Find each contestant's fastest settings, then time them."""
    l1 = share / (Problem(X, y, "l1", 1.0).weakest_l1() * len(y))
    problem = Problem(X, y, "l1", 1 / (l1 * len(y)))
    exact = _shmps(X, y, l1, 1e-9)
    long = _blocks(X, y, Plan(l1, 0), -math.inf, _PATIENCE)
    optimum = min((exact.weights, long.weights), key=problem.objective)
    best = problem.objective(optimum) * l1
    goals = {within: best * (1 + within) for within in WITHIN}
    last = min(goals.values())
    tried: dict[str, dict[Setting, Run]] = {SHMPS: {None: exact}}
    tried |= {name: _try(X, y, l1, delay, last) for name, delay in DELAYS.items()}
    chosen = {
        name: {within: _fastest(runs, goal) for within, goal in goals.items()} for name, runs in tried.items()
    }
    timed: dict[str, dict[Setting, list[Run]]] = {
        name: {setting: [] for setting, fast in own.values() if fast} for name, own in chosen.items()
    }
    for _ in range(repeats):
        for name, settings in timed.items():
            for setting, runs in settings.items():
                if setting is None:
                    runs.append(_shmps(X, y, l1, min(WITHIN)))
                else:
                    runs.append(_blocks(X, y, Plan(l1, DELAYS[name], *setting), last, _PATIENCE))
    return {
        "best": best, "gap": max(problem.gap(optimum), 0.0) / problem.objective(optimum),
        "weights": int(np.count_nonzero(optimum)),
        "contestants": {
            name: {
                f"{within:g}": _entry(setting, timed[name].get(setting, []), goals[within])
                for within, (setting, _) in own.items()
            }
            for name, own in chosen.items()
        },
    }  # fmt: skip


def _try(X: Any, y: np.ndarray, l1: float, delay: int, goal: float) -> dict[Setting, Run]:
    """Run the block method at all settings, each until it is lost."""
    runs: dict[Setting, Run] = {}
    patience = _PATIENCE
    for setting in STEPS:
        runs[setting] = _blocks(X, y, Plan(l1, delay, *setting), goal, patience)
        if reached := runs[setting].reaches(goal):
            patience = min(patience, max(_LOST * reached[0], 0.5))
    return runs


def _fastest(runs: dict[Setting, Run], goal: float) -> tuple[Setting, bool]:
    """Return the setting that comes to the goal first, and whether any does."""
    reached = {setting: found for setting, run in runs.items() if (found := run.reaches(goal))}
    return (min(reached, key=lambda setting: reached[setting]), True) if reached else (None, False)


def _shmps(X: Any, y: np.ndarray, l1: float, tol: float) -> Run:
    model = LogisticRegression(
        l1=l1, l2=0.0, fit_intercept=False, tol=tol, workers=2, servers=2, iterations=_MOST_ROUNDS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        warnings.simplefilter("ignore", WorseThanConstant)  # no intercept
        began = _processor()
        model.fit(X, y)
    return Run(list(model.result_.objectives), model.coef_[0], _processor() - began)


def _processor() -> float:
    """Return the processor time of this process and its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _blocks(X: Any, y: np.ndarray, plan: Plan, goal: float, patience: float) -> Run:
    def ended(passes: list[Pass]) -> bool:
        last, before = passes[-1], passes[-_FLAT:][0]
        flat = len(passes) > _FLAT and before.objective - last.objective <= 1e-11 * last.objective
        diverged = not last.objective < 2 * math.log(2)
        return last.objective <= goal or last.seconds > patience or flat or diverged

    began = _processor()
    weights, passes = block_proximal.train(X, y, plan, ended)
    history = [(each.seconds, each.objective) for each in passes]
    return Run(history, weights, _processor() - began)


def _entry(setting: Setting, runs: list[Run], goal: float) -> dict[str, Any] | None:
    """Return the entry of a contestant for one distance."""
    reached = [found for run in runs if (found := run.reaches(goal))]
    if not reached or len(reached) < len(runs):
        return None
    seconds, rounds = zip(*reached, strict=True)
    rate, blocks = setting or (None, None)
    return {
        "seconds": spread(seconds), "rounds": spread(rounds),
        "processor": spread(run.processor for run in runs), "rate": rate, "blocks_per_value": blocks,
    }  # fmt: skip


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    """Return seconds (rounds) by problem and distance, and processor seconds to the least distance."""
    lines = []
    for each in results["problems"]:
        about = [each["data"], f"{each['share']:g}", str(each["weights"])]
        found = [each["contestants"][name] for name in (SHMPS, *DELAYS)]
        for within in map("{:g}".format, WITHIN):
            lines.append([*about, within, *(_cell(own[within], "seconds") for own in found)])
            about = ["", "", ""]
        lines.append([*about, "processor", *(_cell(own[_LEAST], "processor") for own in found)])
    heads = ["set", "L1 / largest", "weights", "within", SHMPS, *(f"blocks, {name}" for name in DELAYS)]
    return markdown(heads, lines)


def _cell(entry: dict[str, Any] | None, what: str) -> str:
    if entry is None:
        return "-"
    rounds = f" ({entry['rounds']['median']:.0f})" if what == "seconds" else ""
    return f"{entry[what]['median']:.2f}{rounds}"


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    """Return how many times as long as shmps the fastest delay takes, by distance, and in processor time."""
    found = {"gap": f"{max(each['gap'] for each in results['problems']):.0e}"}
    for within in map("{:g}".format, WITHIN):
        found |= _ratios(results, within, "seconds", f"at_{within}")
    return found | _ratios(results, _LEAST, "processor", "processor")


def _ratios(results: dict[str, Any], within: str, what: str, name: str) -> dict[str, str]:
    """Return the geometric mean of the ratios, and on how many problems each comes first."""
    ratios, only = [], 0
    for each in results["problems"]:
        entries = {own: made[within] for own, made in each["contestants"].items() if made[within]}
        others = [entries[own][what]["median"] for own in DELAYS if own in entries]
        if SHMPS in entries and others:
            ratios.append(min(others) / entries[SHMPS][what]["median"])
        else:
            only += SHMPS in entries
    mean = math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
    return {f"mean_{name}": f"{mean:.1f}", f"won_{name}": f"{sum(ratio > 1 for ratio in ratios) + only}"}
