"""Async training of a click-through-like set: plain pushes, hogwild, the limit, and Vowpal Wabbit.

One pass over the rows of `clicks.py` with two workers, for FTRL and for AdaGrad, without a penalty or an
intercept. They take turns in every repeat; one repeat goes before, and does not count:

    async    pull and push of minibatches of BATCH rows
    hogwild  the workers update the shared weights in place, a step per row; a tick is BATCH rows
    limit    what `hogwild` does, by two processes that share nothing: each has its half of the rows, and
             weights of its own
    vw       Vowpal Wabbit's `--ftrl` over its cache file, made before; the pass without starting Python

Only training is timed: from the first worker's start to the last one's end. Every learning rate is the
best of RATES, a factor of two apart, for each way by itself: by log-loss on rows that are neither trained
nor tested on, after one pass over the first tenth of the rows. The rest is as it comes: beta is 1 here and
0.1 in Vowpal Wabbit.

Results: "ways": [{"way", "updater", "learning_rate", "tried": {rate: log-loss}, "nonzeros_per_second",
"of_limit", "of_vw", "log_loss"}]: spreads over the repeats, the log-loss on the test rows; ratios are of
nonzeros per second within a repeat, null where there is nothing to compare with. "skipped": names of what is
not installed.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bench import figures, vowpal
from bench.clicks import FEATURES, FIELDS, clicks
from bench.processes import at_once
from bench.record import markdown, shown, spread, usable_cores
from shmps import FTRL, AdaGrad, LogisticRegression, Step
from shmps.data.rows import Rows, rows_of, shard
from shmps.linear.minibatches import Batches
from shmps.updaters.descent import ByRule

WORKERS, BATCH = 2, 256
UPDATERS: dict[str, Callable[[float], ByRule]] = {"ftrl": FTRL, "adagrad": AdaGrad}
# A mean gradient of BATCH rows is small: beside it FTRL's beta of 1 is large, and its rate has to be as well.
RATES = {
    ("async", "ftrl"): (1, 2, 4, 8, 16),
    ("async", "adagrad"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("hogwild", "ftrl"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("hogwild", "adagrad"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("vw", "ftrl"): (0.025, 0.05, 0.1, 0.2, 0.4),
}
LIMIT, VW = "limit", "vw"


class Pass(NamedTuple):
    nonzeros_per_second: float
    log_loss: float  # on the rows given; nan: not measured


class Part(NamedTuple):
    """Rows, and where Vowpal Wabbit finds them."""

    X: Any
    y: np.ndarray
    cache: Path


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    rows, tested, repeats = (100_000, 20_000, 2) if quick else (2_000_000, 100_000, 5)
    skipped = [] if importlib.util.find_spec("vowpalwabbit") else ["vowpalwabbit"]
    ways = [way for way in RATES if way[0] != VW or not skipped]
    with tempfile.TemporaryDirectory() as folder:
        made = clicks(rows, seed=0)
        sets = {
            "train": made,
            "tenth": (made[0][: rows // 10], made[1][: rows // 10]),
            "chosen by": clicks(tested, seed=1),
            "test": clicks(tested, seed=2),
        }
        parts = {name: Part(*data, Path(folder, name)) for name, data in sets.items()}
        if not skipped:
            for part in parts.values():
                vowpal.write_cache(*part)
        tried = {
            way: _tried(way, parts["tenth"], parts["chosen by"]) for way in tqdm(ways, "rates", leave=False)
        }
        rates = {way: min(losses, key=losses.__getitem__) for way, losses in tried.items()}
        rates |= {(LIMIT, updater): rates["hogwild", updater] for updater in UPDATERS}
        passes: dict[tuple[str, str], list[Pass]] = {way: [] for way in rates}
        for _ in tqdm(range(repeats + 1), "passes", leave=False):
            for way, rate in rates.items():
                passes[way].append(_pass(way, rate, parts["train"], parts["test"]))
    settings = {
        "rows": rows, "fields": FIELDS, "features": FEATURES, "test_rows": tested, "workers": WORKERS,
        "cores": usable_cores(), "batch_size": BATCH, "repeats": repeats,
    }  # fmt: skip
    counted = {way: done[1:] for way, done in passes.items()}
    order = sorted(counted, key=lambda way: list(UPDATERS).index(way[1]))
    figures = [_figures(way, rates[way], tried.get(way, {}), counted) for way in order]
    return settings, {"ways": figures, "skipped": skipped}


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
    headers = ["", "rate", "non-zeros/s, millions", "of the limit", "of vw's ftrl", "test log-loss"]
    caption = (
        f"{settings['rows']:,} rows of {settings['fields']} one-hot fields in {settings['features']:,} "
        f"features, one pass, {settings['workers']} workers on {settings['cores']} cores, minibatches of "
        f"{settings['batch_size']} rows; median (min to max) of {settings['repeats']} repeats"
    )
    text = f"{caption}\n\n{markdown(headers, rows)}"
    if results["skipped"]:
        text += f"\n\nleft out, as not installed: {', '.join(results['skipped'])}"
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


def _tried(way: tuple[str, str], train: Part, test: Part) -> dict[float, float]:
    """Log-loss after one pass, by learning rate."""
    return {rate: _pass(way, rate, train, test).log_loss for rate in RATES[way]}


def _pass(way: tuple[str, str], rate: float, train: Part, test: Part) -> Pass:
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
    """A pass over one worker's rows, with weights of its own."""
    own = shard(rows, rank, WORKERS)
    batches = Batches(own, BATCH, FEATURES, False, 0, rank, list(range(WORKERS)), contiguous=True)
    weights, state = np.zeros((FEATURES, 1)), np.zeros((FEATURES, 1, updater.state_width))
    weights[:], state[:] = 0.0, 0.0  # every page is there before the clock starts, as shared memory's is

    def work() -> None:
        for tick, batch in enumerate(batches.epoch(0), 1):
            updater.descend(batch.rows, False, weights, state, Step(tick, 0.0))

    return work


def _figures(
    way: tuple[str, str], rate: float, tried: dict[float, float], passes: dict[tuple[str, str], list[Pass]]
) -> dict[str, Any]:
    kind, updater = way
    own = passes[way]
    return {
        "way": kind,
        "updater": updater,
        "learning_rate": rate,
        "tried": {f"{rate:g}": loss for rate, loss in tried.items()},
        "nonzeros_per_second": spread(each.nonzeros_per_second for each in own),
        "of_limit": None if kind in (LIMIT, VW) else _ratio(own, passes[LIMIT, updater]),
        "of_vw": None if kind == VW else _ratio(own, passes.get((VW, "ftrl"))),
        "log_loss": None if kind == LIMIT else spread(each.log_loss for each in own),
    }


def _ratio(mine: list[Pass], theirs: list[Pass] | None) -> dict[str, Any] | None:
    if theirs is None:
        return None
    pairs = zip(mine, theirs, strict=True)
    return spread(a.nonzeros_per_second / b.nonzeros_per_second for a, b in pairs)
