"""Microseconds of a pull and a push against the number of keys in them, and against that of parameters.

One worker, one server, async, SGD: `pull(keys)` and then `push(keys, values)`, each waited for. Keys are
drawn anew for every request, evenly from all, before the clock starts; more parameters than the caches hold
therefore cost cache misses. Every round is a new cluster; in it a pull of all values goes before, so that
the server has every page of the parameters mapped, and a tenth of the requests again, which do not count.

Results: "points": [{"parameters", "keys", "p50_us", "p99_us"}], percentiles of pull + push within a round,
spreads over the rounds; "left_out": numbers of parameters that would take more than half of the memory
available.
"""

import time
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.record import markdown, shown, spread
from shmps import ASYNC, SGD, Cluster, KVWorker
from shmps.memory import available_memory

KEYS = (1, 10, 128, 1_000, 10_000)
PARAMETERS = (10**3, 10**4, 10**5, 10**6, 10**7)
FIXED_KEYS, FIXED_PARAMETERS = 128, 10**6
# Weight, after-image and its key, mailbox for all keys; the server's list of keys; the worker's pull of all.
BYTES_PER_PARAMETER = 6 * 8


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    rounds, requests = (2, 300) if quick else (9, 2_000)
    fitting = [n for n in PARAMETERS if n * BYTES_PER_PARAMETER < available_memory() // 2]
    points = {(n, FIXED_KEYS) for n in fitting} | {(FIXED_PARAMETERS, k) for k in KEYS}
    points = {(n, k) for n, k in points if n in fitting}
    seconds: dict[tuple[int, int], list[np.ndarray]] = {point: [] for point in sorted(points)}
    with tqdm(total=rounds * len(points), desc="requests", disable=None, leave=False) as bar:
        for number in range(rounds):
            for (num_keys, count), rounds_of_point in seconds.items():
                rounds_of_point.append(_measure(num_keys, count, requests, seed=number))
                bar.update()
    settings = {
        "workers": 1,
        "servers": 1,
        "mode": "async",
        "updater": "sgd",
        "rounds": rounds,
        "requests": requests,
    }
    measured = [
        {
            "parameters": num_keys,
            "keys": count,
            "p50_us": spread(1e6 * np.percentile(part, 50) for part in parts),
            "p99_us": spread(1e6 * np.percentile(part, 99) for part in parts),
        }
        for (num_keys, count), parts in seconds.items()
    ]
    return settings, {"points": measured, "left_out": [n for n in PARAMETERS if n not in fitting]}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    points = results["points"]
    by_keys = [point for point in points if point["parameters"] == FIXED_PARAMETERS]
    by_parameters = [point for point in points if point["keys"] == FIXED_KEYS]
    text = (
        f"pull + push, {settings['requests']:,} times a round; "
        f"median (min to max) of {settings['rounds']} rounds\n\n"
        f"{_table(by_keys, 'keys', 'parameters')}\n\n{_table(by_parameters, 'parameters', 'keys')}"
    )
    if results["left_out"]:
        text += (
            f"\n\nleft out for want of memory: {', '.join(f'{n:,}' for n in results['left_out'])} parameters"
        )
    return text


def _table(points: list[dict[str, Any]], varied: str, fixed: str) -> str:
    return markdown(
        [varied, fixed, "p50, µs", "p99, µs"],
        [
            [f"{point[varied]:,}", f"{point[fixed]:,}", shown(point["p50_us"]), shown(point["p99_us"])]
            for point in points
        ],
    )


def _measure(num_keys: int, count: int, requests: int, seed: int) -> np.ndarray:
    cluster = Cluster(num_keys, servers=1, workers=1, consistency=ASYNC, updater=SGD(0.1), max_keys=count)
    with cluster:
        return cluster.run(session, num_keys, count, requests, seed)[0]


def session(kv: KVWorker, num_keys: int, count: int, requests: int, seed: int) -> np.ndarray:
    """Seconds of each pull + push of `count` keys, (requests,)."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(count)
    seconds = np.empty(requests)
    kv.pull()
    for i in range(-(requests // 10), requests):
        keys = np.sort(rng.choice(num_keys, count, replace=False))
        start = time.perf_counter()
        kv.pull(keys)
        kv.push(keys, values)
        spent = time.perf_counter() - start
        if i >= 0:
            seconds[i] = spent
    return seconds
