"""Microseconds of a push and a pull by number of keys and of parameters, beside other means.

Async, SGD. Four measurements take turns in every repeat, with new clusters each time:

    points      one worker, one server: `pull(keys)` and then `push(keys, values)`, and both in one
                `push_pull`; the worker waits for every request. The keys are drawn evenly from all keys
                before the clock starts, anew for every request; so parameters that exceed the caches cost
                cache misses
    all keys    the same with keys=None, for FIXED_PARAMETERS values, as float64 and as float32, beside one
                copy of as many values
    throughput  `push_pull` of FIXED_KEYS keys by several workers at once
    others      `push_pull` of FIXED_KEYS keys by other means than shmps (see `ipc.py`)

First a pull of all values makes the server map every page of the parameters. Then come requests that are not
counted: a tenth of the number (points, others), or one (all keys).

What limits the requests:

- 128 keys: the interpreter. Worker and server together spend 25 µs on a push_pull; a bare round trip through
  two pipes takes 6 µs.
- All values: memory. A push makes four passes over as many values (see `shmps.ps.server.redo_log`). A variant
  that made one of the two passes that produce the after-image took no less time.

Results (percentiles are within a repeat, spreads over the repeats): "points": [{"parameters", "keys",
"apart", "together"}], the last two as {"p50_us", "p99_us"}; "all_keys": by dtype {"push_ms", "pull_ms",
"push_pull_ms", "copy_ms"}; "throughput": requests per second of all workers; "others": [{"name", "p50_us",
"p99_us", "ratio" (to shmps in the same repeat)}]; "missing": packages that are not installed; "left_out":
numbers of parameters that would take more than half of the available memory. In the settings, "rounds" counts
the repeats.
"""

import time
from typing import Any

import numpy as np

from bench import figures
from bench.record import markdown, ratio, shown, spread
from bench.speed import ipc
from bench.timing import progress, seconds
from shmps import ASYNC, SGD, Cluster, KVWorker
from shmps.system.memory import available_memory

KEYS = (1, 10, 128, 1_000, 10_000)
PARAMETERS = (10**3, 10**4, 10**5, 10**6, 10**7)
FIXED_KEYS, FIXED_PARAMETERS = 128, 10**6
# Weight, after-image and its key, mailbox for all keys; the server's list of keys; the worker's pull of all.
BYTES_PER_PARAMETER = 6 * 8
WORKERS, SERVERS = 4, 2  # of the throughput
WAYS = {"apart": "pull, push", "together": "push_pull"}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, requests, all_keys = (2, 300, 10) if quick else (7, 1_000, 30)
    fitting = [n for n in PARAMETERS if n * BYTES_PER_PARAMETER < available_memory() // 2]
    points = {(n, FIXED_KEYS) for n in fitting} | {(FIXED_PARAMETERS, k) for k in KEYS}
    points = {(n, k) for n, k in points if n in fitting}
    means, missing = ipc.means()
    by_point: dict[tuple[int, int], list[Any]] = {point: [] for point in sorted(points)}
    by_name: dict[str, list[np.ndarray]] = {name: [] for name in means}
    by_dtype: dict[type, list[Any]] = {np.float64: [], np.float32: []}
    rates = []
    with progress("requests", repeats * (len(points) + len(means) + 3)) as bar:
        for seed in range(repeats):
            for (num_keys, count), parts in by_point.items():
                parts.append(_measure(1, 1, count, num_keys, session, count, requests, seed)[0])
                bar.update()
            for dtype, parts in by_dtype.items():
                function = all_keys_session, all_keys, dtype
                parts.append(_measure(1, 1, 1, FIXED_PARAMETERS, *function, dtype=dtype)[0])
                bar.update()
            rates.append(_throughput(requests, seed))
            bar.update()
            values, keys = _draw(FIXED_PARAMETERS, FIXED_KEYS, requests + requests // 10, seed)
            for name, measure in means.items():
                by_name[name].append(measure(FIXED_PARAMETERS, keys, values)[requests // 10 :])
                bar.update()
    return {
        "mode": "async", "updater": "sgd", "rounds": repeats, "requests": requests,
        "throughput": {"workers": WORKERS, "servers": SERVERS},
    }, {
        "points": [
            {"parameters": num_keys, "keys": count}
            | {way: _percentiles([part[i] for part in parts]) for i, way in enumerate(WAYS)}
            for (num_keys, count), parts in by_point.items()
        ],
        "all_keys": {
            dtype.__name__: {f"{name}_ms": spread(1e3 * part[name] for part in parts) for name in parts[0]}
            for dtype, parts in by_dtype.items()
        },
        "throughput": spread(rates),
        "others": [
            {"name": name}
            | _percentiles(parts)
            | {"ratio": ratio(map(np.median, parts), map(np.median, by_name[ipc.SHMPS]))}
            for name, parts in by_name.items()
        ],
        "missing": missing,
        "left_out": [n for n in PARAMETERS if n not in fitting],
    }  # fmt: skip


def _percentiles(parts: list[np.ndarray]) -> dict[str, Any]:
    return {f"p{q}_us": spread(1e6 * np.percentile(part, q) for part in parts) for q in (50, 99)}


def _measure(
    servers: int, workers: int, max_keys: int, num_keys: int, *run: Any, dtype: type = np.float64
) -> list[Any]:
    cluster = Cluster(
        num_keys,
        servers=servers,
        workers=workers,
        consistency=ASYNC,
        updater=SGD(0.1),
        max_keys=max_keys,
        dtype=dtype,
    )
    with cluster:
        return cluster.run(*run)


def _draw(num_keys: int, count: int, requests: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw values (count,), and the sorted keys of each request."""
    random = np.random.default_rng(seed)
    keys = [np.sort(random.choice(num_keys, count, replace=False)) for _ in range(requests)]
    return random.standard_normal(count), keys


def session(kv: KVWorker, count: int, requests: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of each pull + push, and of each push_pull, of `count` keys: (requests,) each."""
    kv.pull()
    values, keys = _draw(len(kv.look()), count, requests + requests // 10, seed)

    def apart(some: np.ndarray, values: np.ndarray) -> np.ndarray:
        pulled = kv.pull(some)
        kv.push(some, values)
        return pulled

    both = ipc.timed(apart, keys, values), ipc.timed(kv.push_pull, keys, values)
    return both[0][requests // 10 :], both[1][requests // 10 :]


def all_keys_session(kv: KVWorker, requests: int, dtype: type) -> dict[str, float]:
    """Return the median seconds of a push, a pull, a push_pull and a copy of all values."""
    values: np.ndarray = np.ones(FIXED_PARAMETERS, dtype)
    out = np.zeros_like(values)
    ways = {
        "push": lambda: kv.push(None, values),
        "pull": lambda: kv.pull(out=out),
        "push_pull": lambda: kv.push_pull(None, values, out=out),
        "copy": lambda: np.copyto(out, values),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(requests + 1):
        for name, way in ways.items():
            spent[name].append(seconds(way))
    return {name: float(np.median(each[1:])) for name, each in spent.items()}


def _throughput(requests: int, seed: int) -> float:
    """Return the requests per second of all workers together."""
    spans = _measure(SERVERS, WORKERS, FIXED_KEYS, FIXED_PARAMETERS, throughput_session, requests, seed)
    return WORKERS * requests / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def throughput_session(kv: KVWorker, requests: int, seed: int) -> tuple[float, float]:
    """Return the times at which this worker began and ended its requests."""
    values, keys = _draw(FIXED_PARAMETERS, FIXED_KEYS, requests, seed)
    kv.pull()
    kv.barrier()
    begin = time.monotonic()
    for some in keys:
        kv.push_pull(some, values)
    return begin, time.monotonic()


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    by_keys = [point for point in results["points"] if point["parameters"] == FIXED_PARAMETERS]
    by_parameters = [point for point in results["points"] if point["keys"] == FIXED_KEYS]
    texts = [
        f"A pull and then a push, and both as one push_pull, in µs; {settings['requests']:,} requests per "
        f"repeat; median (min to max) of {settings['rounds']} repeats.",
        _points_table(by_keys, "keys", "parameters"),
        _points_table(by_parameters, "parameters", "keys"),
        f"All {FIXED_PARAMETERS:,} values, keys=None.",
        _all_keys_table(results["all_keys"]),
        f"push_pull of {FIXED_KEYS} keys by {WORKERS} workers to {SERVERS} servers: "
        f"{shown(results['throughput'])} per second.",
        f"push_pull of {FIXED_KEYS} keys of {FIXED_PARAMETERS:,} that another process holds, in µs.",
        _others_table(results["others"]),
    ]
    if results["missing"]:
        texts.append(f"Not installed: {', '.join(results['missing'])}.")
    if results["left_out"]:
        numbers = ", ".join(f"{n:,}" for n in results["left_out"])
        texts.append(f"Left out for lack of memory: {numbers} parameters.")
    return "\n\n".join(texts)


def _points_table(points: list[dict[str, Any]], varied: str, fixed: str) -> str:
    return markdown(
        [varied, fixed, *(f"{name}: {part}" for name in WAYS.values() for part in ("p50", "p99"))],
        [
            [f"{point[varied]:,}", f"{point[fixed]:,}"]
            + [shown(point[way][part]) for way in WAYS for part in ("p50_us", "p99_us")]
            for point in points
        ],
    )


def _all_keys_table(by_dtype: dict[str, Any]) -> str:
    return markdown(
        ["", "ms", "relative to one copy"],
        [
            [
                f"{dtype}, {name.removesuffix('_ms')}",
                shown(ms, ".2f"),
                f"{ms['median'] / parts['copy_ms']['median']:.1f}",
            ]
            for dtype, parts in by_dtype.items()
            for name, ms in parts.items()
        ],
    )


def _others_table(others: list[dict[str, Any]]) -> str:
    return markdown(
        ["", "p50", "p99", "relative to shmps"],
        [
            [other["name"], shown(other["p50_us"]), shown(other["p99_us"]), shown(other["ratio"], ".1f")]
            for other in others
        ],
    )


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, panels = figures.panels(2, "A push and a pull, one worker and one server")
    for panel, varied, fixed, number in (
        (panels[0], "keys", "parameters", FIXED_PARAMETERS),
        (panels[1], "parameters", "keys", FIXED_KEYS),
    ):
        points = [point for point in results["points"] if point[fixed] == number]
        for (way, name), colour in zip(WAYS.items(), figures.MORE_COLOURS, strict=False):
            at, spreads = [point[varied] for point in points], [point[way]["p50_us"] for point in points]
            figures.band(panel, at, spreads, color=colour, lw=1.4, label=name)
        panel.set(xscale="log", yscale="log", xlabel=varied, title=f"{number:,} {fixed}")
    panels[0].set_ylabel("µs, p50")
    panels[0].legend(loc="upper left")
    return figure
