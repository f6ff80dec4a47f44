"""The cost of protection: pushes without the redo slot, with it, and with the redo slot and a replica.

Two servers. `InPlace` is a server's update without any protection: the updater still works on copies, which
then go into place, but nothing is recorded from which a successor could go on. Measured are the pushes of one
worker of KEYS of PARAMETERS keys, each waited for, and the minibatches of an async training on a9a with four
workers. The variants take turns in every repeat; a first repeat does not count.

Results: "pushes": [{"keys", "variant", "p50_us", "ratio"}], "training": [{"rows", "variant",
"pushes_per_second", "ratio"}]: spreads. A ratio is the time of a push to that of the variant before it within
a repeat ("redo slot" to "none", "replica" to "redo slot").
"""

import time
from typing import Any
from unittest import mock

import numpy as np

from bench.record import markdown, ratio, shown, spread
from bench.timing import progress
from shmps import ASYNC, SGD, Cluster, KVWorker, LogisticRegression
from shmps.data import datasets
from shmps.engines import roles
from shmps.ps.kernels import gather, scatter
from shmps.ps.server.redo_log import RedoLog

KEYS, PARAMETERS = (1, 128, 1_000, 10_000), 100_000
ROWS, WORKERS, SERVERS = (64, 256), 4, 2
VARIANTS = ("none", "redo slot", "replica")


class InPlace(RedoLog):
    """An update without protection: a server that is killed in its middle leaves half of it behind."""

    def prepare(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slot, count = self._slots[0], len(keys)
        self._updated = keys
        gather(self._here.weights, keys, slot.values)
        gather(self._here.state, keys, slot.state)
        return slot.values[:count], slot.state_of_values[:count]

    def commit(self, count: int, age: float, done: dict[int, int]) -> None:
        self._here.ages[self._server] = age
        for rank, number in done.items():
            self.done[rank] = number

    def apply(self) -> None:
        scatter(self._slots[0].values, self._updated, self._here.weights)
        scatter(self._slots[0].state, self._updated, self._here.state)
        self._here.versions[self._server] += 1

    def recover(self) -> bool:
        return True


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, requests, epochs = (2, 300, 2) if quick else (9, 4_000, 30)
    data = datasets.load(None)
    pushes: dict[tuple[int, str], list[float]] = {(k, variant): [] for k in KEYS for variant in VARIANTS}
    training: dict[tuple[int, str], list[float]] = {(n, variant): [] for n in ROWS for variant in VARIANTS}
    with progress("protection", (repeats + 1) * (len(pushes) + len(training))) as bar:
        for _ in range(repeats + 1):
            for (count, variant), seconds in pushes.items():
                seconds.append(_push_seconds(variant, count, requests))
                bar.update()
            for (rows, variant), seconds in training.items():
                seconds.append(_train_seconds(variant, data, rows, epochs))
                bar.update()
    return {
        "servers": SERVERS, "parameters": PARAMETERS, "requests": requests, "repeats": repeats,
        "data": data.name, "workers": WORKERS, "epochs": epochs,
    }, {
        "pushes": [
            {"keys": count, "variant": variant, "p50_us": spread(1e6 * each for each in seconds[1:])}
            | _ratio(pushes, count, variant)
            for (count, variant), seconds in pushes.items()
        ],
        "training": [
            {"rows": rows, "variant": variant, "pushes_per_second": spread(1 / each for each in seconds[1:])}
            | _ratio(training, rows, variant)
            for (rows, variant), seconds in training.items()
        ],
    }  # fmt: skip


def _ratio(seconds: dict[tuple[int, str], list[float]], size: int, variant: str) -> dict[str, Any]:
    """Return the ratio to the variant before; nothing for the first."""
    place = VARIANTS.index(variant)
    if not place:
        return {}
    return {"ratio": ratio(seconds[size, variant][1:], seconds[size, VARIANTS[place - 1]][1:])}


def _protected(variant: str) -> Any:
    """Make the nodes that are forked meanwhile update in place for "none", and with a redo log otherwise."""
    return mock.patch.object(roles, "RedoLog", InPlace if variant == "none" else RedoLog)


def _push_seconds(variant: str, count: int, requests: int) -> float:
    """Return the median time of a push."""
    with (
        _protected(variant),
        Cluster(
            PARAMETERS,
            servers=SERVERS,
            workers=1,
            consistency=ASYNC,
            updater=SGD(0.1),
            max_keys=count,
            replicas=int(variant == "replica"),
        ) as cluster,
    ):
        return float(np.median(cluster.run(session, count, requests)[0]))


def session(kv: KVWorker, count: int, requests: int) -> np.ndarray:
    """Return the seconds of each push of `count` keys, (requests,)."""
    random = np.random.default_rng(0)
    values = random.standard_normal(count)
    keys = [np.sort(random.choice(PARAMETERS, count, replace=False)) for _ in range(16)]
    seconds = np.empty(requests)
    for i in range(-(requests // 10), requests):
        start = time.perf_counter()
        kv.push(keys[i % 16], values)
        seconds[i] = time.perf_counter() - start
    return seconds


def _train_seconds(variant: str, data: Any, rows: int, epochs: int) -> float:
    """Return the time per push of a training: its seconds divided by the pushes of all workers."""
    estimator = LogisticRegression(
        workers=WORKERS,
        servers=SERVERS,
        mode="async",
        updater="sgd",
        learning_rate=0.1,
        l2=0.0,
        batch_size=rows,
        epochs=epochs,
        replicas=int(variant == "replica"),
    )
    with _protected(variant):
        result = estimator.fit(data.train_X, data.train_y).result_
    return result.seconds["train"] / result.ticks


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    pushes = [
        [f"{row['keys']:,}", row["variant"], shown(row["p50_us"], ".1f"), _shown_ratio(row)]
        for row in results["pushes"]
    ]
    training = [
        [f"{row['rows']} rows", row["variant"], shown(row["pushes_per_second"]), _shown_ratio(row)]
        for row in results["training"]
    ]
    return "\n\n".join(
        [
            f"{settings['servers']} servers; one worker's pushes into {settings['parameters']:,} parameters, "
            f"and async minibatches of {settings['data']} with {settings['workers']} workers; median (min to "
            f"max) of {settings['repeats']} repeats. Ratio: the time to that of the line above.",
            markdown(["keys", "protection", "p50, µs", "ratio"], pushes),
            markdown(["minibatches", "protection", "pushes/s", "ratio"], training),
        ]
    )


def _shown_ratio(row: dict[str, Any]) -> str:
    return shown(row["ratio"], ".2f") if "ratio" in row else ""


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    return {
        f"{row['variant'].replace(' ', '_')}_{row['rows']}": f"{100 * (row['ratio']['median'] - 1):.0f} %"
        for row in results["training"]
        if "ratio" in row
    }
