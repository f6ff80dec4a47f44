"""Async training of a set like click-through data: plain pushes, hogwild, the limit, and Vowpal Wabbit.

A training is one pass over the rows of `clicks.py` with two workers, without a penalty or an intercept, for
FTRL and for AdaGrad. The ways of training take turns in every repeat; a first repeat does not count:

    async    pull and push of minibatches of BATCH rows
    hogwild  the workers update the shared weights in place, one step per row; a tick is BATCH rows
    limit    the steps of `hogwild` in two processes that share nothing: each has half of the rows, and
             weights of its own
    vw       a pass of Vowpal Wabbit's `--ftrl` over its cache file, without the start of Python

Only training is timed: from the first worker's start to the last worker's end. Every way has its own learning
rate: the best of RATES, a factor of two apart, by the log-loss after one pass over the first tenth of the
rows, on rows that serve neither for training nor for the test. Other parameters have their defaults: beta is
1 in shmps and 0.1 in Vowpal Wabbit.

Results: "ways": [{"way", "updater", "learning_rate", "tried": {rate: log-loss}, "nonzeros_per_second",
"of_limit", "of_vw", "log_loss" (on the test rows)}]: spreads over the repeats. "of_limit" and "of_vw" are
ratios of the non-zeros per second within a repeat, null where they don't apply. "skipped": packages that are
not installed.
"""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import figures
from bench.record import markdown, ratio, shown, spread
from bench.speed import vowpal
from bench.speed.clicks import FEATURES, FIELDS, clicks
from bench.timing import at_once, progress
from shmps import FTRL, AdaGrad, LogisticRegression, Step
from shmps.data.rows import Rows, rows_of, shard
from shmps.linear.minibatches import Batches
from shmps.system.parallel import usable_cores
from shmps.updaters.descent import ByRule

WORKERS, BATCH = 2, 256
UPDATERS: dict[str, Callable[[float], ByRule]] = {"ftrl": FTRL, "adagrad": AdaGrad}
# The mean gradient of BATCH rows is small. FTRL's beta of 1 is large beside it; so its rate must be large.
RATES = {
    ("async", "ftrl"): (1, 2, 4, 8, 16),
    ("async", "adagrad"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("hogwild", "ftrl"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("hogwild", "adagrad"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("vw", "ftrl"): (0.025, 0.05, 0.1, 0.2, 0.4),
}
LIMIT, VW = "limit", "vw"
Way = tuple[str, str]  # the way of training and the updater


class Pass(NamedTuple):
    nonzeros_per_second: float
    log_loss: float  # on the test rows of the pass; nan: not measured


class Part(NamedTuple):
    """Rows, and the path of their cache file for Vowpal Wabbit."""

    X: Any
    y: np.ndarray
    cache: Path


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    rows, tested, repeats = (100_000, 20_000, 2) if quick else (2_000_000, 100_000, 5)
    skipped = [] if find_spec("vowpalwabbit") else ["vowpalwabbit"]
    ways = [way for way in RATES if way[0] != VW or not skipped]
    with tempfile.TemporaryDirectory() as folder, progress("async", len(ways) + repeats + 1) as bar:
        parts = _parts(Path(folder), rows, tested)
        if not skipped:
            for part in parts.values():
                vowpal.write_cache(*part)
        tried = {}
        for way in ways:
            tried[way] = _losses(way, parts["tenth"], parts["validation"])
            bar.update()
        rates = {way: min(losses, key=losses.__getitem__) for way, losses in tried.items()}
        rates |= {(LIMIT, updater): rates["hogwild", updater] for updater in UPDATERS}
        passes: dict[Way, list[Pass]] = {way: [] for way in rates}
        for _ in range(repeats + 1):
            for way, rate in rates.items():
                passes[way].append(_pass(way, rate, parts["train"], parts["test"]))
            bar.update()
    settings = {
        "rows": rows, "fields": FIELDS, "features": FEATURES, "test_rows": tested, "workers": WORKERS,
        "cores": usable_cores(), "batch_size": BATCH, "repeats": repeats,
    }  # fmt: skip
    counted = {way: done[1:] for way, done in passes.items()}
    order = sorted(counted, key=lambda way: list(UPDATERS).index(way[1]))
    entries = [_entry(way, rates[way], tried.get(way, {}), counted) for way in order]
    return settings, {"ways": entries, "skipped": skipped}


def _parts(folder: Path, rows: int, tested: int) -> dict[str, Part]:
    X, y = clicks(rows, seed=0)
    sets = {
        "train": (X, y),
        "tenth": (X[: rows // 10], y[: rows // 10]),
        "validation": clicks(tested, seed=1),
        "test": clicks(tested, seed=2),
    }
    return {name: Part(*data, folder / name) for name, data in sets.items()}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        [
            f"{way['updater']}, {way['way']}",
            f"{way['learning_rate']:g}",
            shown(way["nonzeros_per_second"], ".1f", 1e6),
            shown(way["of_limit"], ".2f") if way["of_limit"] else "",
            shown(way["of_vw"], ".1f") if way["of_vw"] else "",
            shown(way["log_loss"], ".4f") if way["log_loss"] else "",
        ]
        for way in results["ways"]
    ]
    headers = ["", "rate", "non-zeros/s, millions", "relative to the limit", "relative to vw", "log-loss"]
    caption = (
        f"{settings['rows']:,} rows of {settings['fields']} one-hot fields in {settings['features']:,} "
        f"features, one pass, {settings['workers']} workers on {settings['cores']} cores, minibatches of "
        f"{settings['batch_size']} rows, log-loss on the test rows; median (min to max) of "
        f"{settings['repeats']} repeats."
    )
    text = f"{caption}\n\n{markdown(headers, rows)}"
    if results["skipped"]:
        text += f"\n\nNot installed: {', '.join(results['skipped'])}."
    return text


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, [panel] = figures.panels(1, "One pass over clicks, two workers")
    names = [f"{way['updater']}, {way['way']}" for way in results["ways"]]
    spreads = [way["nonzeros_per_second"] for way in results["ways"]]
    medians = [each["median"] / 1e6 for each in spreads]
    ends = [
        [abs(each[end] / 1e6 - at) for each, at in zip(spreads, medians, strict=True)]
        for end in ("min", "max")
    ]
    panel.barh(names, medians, xerr=ends, color=figures.MORE_COLOURS[3], ecolor="#404040", capsize=3)
    panel.set(xlabel="millions of non-zeros per second")
    panel.invert_yaxis()
    return figure


def _losses(way: Way, train: Part, test: Part) -> dict[float, float]:
    """Return the log-loss after one pass by learning rate."""
    return {rate: _pass(way, rate, train, test).log_loss for rate in RATES[way]}


def _pass(way: Way, rate: float, train: Part, test: Part) -> Pass:
    kind, updater = way
    if kind == VW:
        seconds, loss = vowpal.train_and_test(train.cache, test.cache, rate)
        return Pass(train.X.nnz / seconds, loss)
    if kind == LIMIT:
        rule, rows = UPDATERS[updater](rate), rows_of(train.X, train.y)
        return Pass(train.X.nnz / at_once(WORKERS, lambda rank: _alone(rank, rule, rows)), np.nan)
    estimator = LogisticRegression(
        workers=WORKERS,
        mode=kind,
        updater=updater,
        learning_rate=rate,
        l2=0.0,
        batch_size=BATCH,
        epochs=1,
        fit_intercept=False,
    )
    result = estimator.fit(train.X, train.y, eval_set=(test.X, test.y)).result_
    return Pass(result.nonzeros_per_second, result.metrics.log_loss)


def _alone(rank: int, updater: ByRule, rows: Rows) -> Callable[[], None]:
    """Return a pass over one worker's rows, with weights of its own."""
    own = shard(rows, rank, WORKERS)
    batches = Batches(own, BATCH, FEATURES, False, 0, rank, list(range(WORKERS)), contiguous=True)
    weights, state = np.zeros((FEATURES, 1)), np.zeros((FEATURES, 1, updater.state_width))
    weights[:], state[:] = 0.0, 0.0  # touch every page before the clock starts: shared memory is in place too

    def work() -> None:
        for tick, batch in enumerate(batches.epoch(0), 1):
            updater.descend(batch.rows, False, weights, state, Step(tick, 0.0))

    return work


def _entry(way: Way, rate: float, tried: dict[float, float], passes: dict[Way, list[Pass]]) -> dict[str, Any]:
    kind, updater = way
    own = passes[way]
    return {
        "way": kind,
        "updater": updater,
        "learning_rate": rate,
        "tried": {f"{rate:g}": loss for rate, loss in tried.items()},
        "nonzeros_per_second": spread(each.nonzeros_per_second for each in own),
        "of_limit": None if kind in (LIMIT, VW) else _speedup(own, passes[LIMIT, updater]),
        "of_vw": None if kind == VW else _speedup(own, passes.get((VW, "ftrl"))),
        "log_loss": None if kind == LIMIT else spread(each.log_loss for each in own),
    }


def _speedup(passes: list[Pass], others: list[Pass] | None) -> dict[str, Any] | None:
    if others is None:
        return None
    return ratio(*([each.nonzeros_per_second for each in some] for some in (passes, others)))
