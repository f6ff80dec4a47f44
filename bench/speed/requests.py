"""Microseconds of a push and a pull against the number of keys and of parameters, and beside other means.

Async, SGD. Four things, taking turns in every round; every round is a new cluster.

    points      one worker, one server: `pull(keys)` and then `push(keys, values)`, and `push_pull` of both in
                one request, each waited for. Keys are drawn anew for every request, evenly from all, before
                the clock starts; more parameters than the caches hold therefore cost cache misses
    all keys    the same of FIXED_PARAMETERS values with keys=None, as float64 and as float32, beside one copy
                of as many
    throughput  `push_pull` of FIXED_KEYS keys by several workers at once
    others      `push_pull` of FIXED_KEYS keys by other means than shmps (see `ipc.py`)

A pull of all values goes before, so that the server has every page of the parameters mapped, and a tenth of
the requests again, which do not count.

What limits them. 128 keys: the interpreter, with 25 µs of a push_pull in worker and server together, beside 6
of a bare round trip through two pipes. All values: memory, with four passes of a push over as many (see
`shmps.ps.server.redo_log`): to make one of the two that bring forth the after-image took no less time.

Results, percentiles within a round, spreads over the rounds: "points": [{"parameters", "keys", "apart",
"together"}], each {"p50_us", "p99_us"}; "all_keys": by dtype {"push_ms", "pull_ms", "push_pull_ms",
"copy_ms"}; "throughput": requests per second of all workers; "others": [{"name", "p50_us", "p99_us", "ratio":
to ours of the same round}]; "missing": packages not installed; "left_out": numbers of parameters that would
take more than half of the memory available.
"""

import time
from typing import Any

import numpy as np
from tqdm import tqdm

from bench import figures
from bench.record import markdown, shown, spread
from bench.speed import ipc
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
    rounds, requests, all_keys = (2, 300, 10) if quick else (7, 1_000, 30)
    fitting = [n for n in PARAMETERS if n * BYTES_PER_PARAMETER < available_memory() // 2]
    points = {(n, FIXED_KEYS) for n in fitting} | {(FIXED_PARAMETERS, k) for k in KEYS}
    points = {(n, k) for n, k in points if n in fitting}
    means, missing = ipc.means()
    seconds: dict[tuple[int, int], list[Any]] = {point: [] for point in sorted(points)}
    others: dict[str, list[np.ndarray]] = {name: [] for name in means}
    whole: dict[type, list[Any]] = {np.float64: [], np.float32: []}
    rates = []
    with tqdm(total=rounds * (len(points) + len(means) + 3), desc="requests", leave=False) as bar:
        for number in range(rounds):
            for (num_keys, count), parts in seconds.items():
                parts.append(_measure(1, 1, count, num_keys, session, count, requests, number)[0])
                bar.update()
            for dtype, parts in whole.items():
                session_of = whole_session, all_keys, dtype
                parts.append(_measure(1, 1, 1, FIXED_PARAMETERS, *session_of, dtype=dtype)[0])
                bar.update()
            rates.append(_throughput(requests, number))
            bar.update()
            values, keys = _draw(FIXED_PARAMETERS, FIXED_KEYS, requests + requests // 10, number)
            for name, measure in means.items():
                others[name].append(measure(FIXED_PARAMETERS, keys, values)[requests // 10 :])
                bar.update()
    return {
        "mode": "async", "updater": "sgd", "rounds": rounds, "requests": requests,
        "throughput": {"workers": WORKERS, "servers": SERVERS},
    }, {
        "points": [
            {"parameters": num_keys, "keys": count}
            | {way: _percentiles([part[i] for part in parts]) for i, way in enumerate(WAYS)}
            for (num_keys, count), parts in seconds.items()
        ],
        "all_keys": {
            dtype.__name__: {f"{name}_ms": spread(1e3 * part[name] for part in parts) for name in parts[0]}
            for dtype, parts in whole.items()
        },
        "throughput": spread(rates),
        "others": [
            {"name": name} | _percentiles(parts) | {"ratio": _ratio(parts, others[ipc.OURS])}
            for name, parts in others.items()
        ],
        "missing": missing,
        "left_out": [n for n in PARAMETERS if n not in fitting],
    }  # fmt: skip


def _percentiles(parts: list[np.ndarray]) -> dict[str, Any]:
    return {f"p{q}_us": spread(1e6 * np.percentile(part, q) for part in parts) for q in (50, 99)}


def _ratio(parts: list[np.ndarray], ours: list[np.ndarray]) -> dict[str, Any]:
    return spread(np.median(part) / np.median(our) for part, our in zip(parts, ours, strict=True))


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
    """Values (count,), and the keys of each request."""
    random = np.random.default_rng(seed)
    keys = [np.sort(random.choice(num_keys, count, replace=False)) for _ in range(requests)]
    return random.standard_normal(count), keys


def session(kv: KVWorker, count: int, requests: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each pull + push and of each push_pull of `count` keys, (requests,) each."""
    kv.pull()
    values, keys = _draw(len(kv.look()), count, requests + requests // 10, seed)

    def apart(some: np.ndarray, values: np.ndarray) -> np.ndarray:
        pulled = kv.pull(some)
        kv.push(some, values)
        return pulled

    both = ipc.timed(apart, keys, values), ipc.timed(kv.push_pull, keys, values)
    return both[0][requests // 10 :], both[1][requests // 10 :]


def whole_session(kv: KVWorker, requests: int, dtype: type) -> dict[str, float]:
    """Seconds, the median of `requests`, by what was done with all values."""
    values: np.ndarray = np.ones(FIXED_PARAMETERS, dtype)
    out = np.zeros_like(values)
    ways = {
        "push": lambda: kv.push(None, values),
        "pull": lambda: kv.pull(out=out),
        "push_pull": lambda: kv.push_pull(None, values, out=out),
        "copy": lambda: np.copyto(out, values),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(requests + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(each[1:])) for name, each in seconds.items()}


def _throughput(requests: int, seed: int) -> float:
    """Requests per second of all workers together."""
    spans = _measure(SERVERS, WORKERS, FIXED_KEYS, FIXED_PARAMETERS, crowd_session, requests, seed)
    return WORKERS * requests / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def crowd_session(kv: KVWorker, requests: int, seed: int) -> tuple[float, float]:
    """When this worker began and ended."""
    values, keys = _draw(FIXED_PARAMETERS, FIXED_KEYS, requests, seed)
    kv.pull()
    kv.barrier()
    begin = time.monotonic()
    for some in keys:
        kv.push_pull(some, values)
    return begin, time.monotonic()


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    points, whole = results["points"], results["all_keys"]
    by_keys = [point for point in points if point["parameters"] == FIXED_PARAMETERS]
    by_parameters = [point for point in points if point["keys"] == FIXED_KEYS]
    requests = f"{settings['requests']:,} times a round; median (min to max) of {settings['rounds']} rounds"
    texts = [
        f"pull and then push, and both as one push_pull, µs, {requests}",
        _table(by_keys, "keys", "parameters"),
        _table(by_parameters, "parameters", "keys"),
        f"all {FIXED_PARAMETERS:,} values, keys=None",
        markdown(
            ["", "ms", "of one copy"],
            [
                [
                    f"{dtype}, {name.removesuffix('_ms')}",
                    shown(ms, ".2f"),
                    f"{ms['median'] / parts['copy_ms']['median']:.1f}",
                ]
                for dtype, parts in whole.items()
                for name, ms in parts.items()
            ],
        ),
        f"push_pull of {FIXED_KEYS} keys, {WORKERS} workers and {SERVERS} servers: "
        f"{shown(results['throughput'])} a second",
        f"push_pull of {FIXED_KEYS} keys of {FIXED_PARAMETERS:,} held by another process, µs",
        markdown(
            ["", "p50", "p99", "to ours"],
            [
                [other["name"], shown(other["p50_us"]), shown(other["p99_us"]), shown(other["ratio"], ".1f")]
                for other in results["others"]
            ],
        ),
    ]
    if results["missing"]:
        texts.append(f"not installed: {', '.join(results['missing'])}")
    if results["left_out"]:
        numbers = ", ".join(f"{n:,}" for n in results["left_out"])
        texts.append(f"left out for want of memory: {numbers} parameters")
    return "\n\n".join(texts)


def _table(points: list[dict[str, Any]], varied: str, fixed: str) -> str:
    return markdown(
        [varied, fixed, *(f"{name}: {part}" for name in WAYS.values() for part in ("p50", "p99"))],
        [
            [f"{point[varied]:,}", f"{point[fixed]:,}"]
            + [shown(point[way][part]) for way in WAYS for part in ("p50_us", "p99_us")]
            for point in points
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
            panel.plot(at, [each["median"] for each in spreads], "o-", color=colour, lw=1.4, label=name)
            least, most = ([each[end] for each in spreads] for end in ("min", "max"))
            panel.fill_between(at, least, most, color=colour, alpha=0.2, lw=0)
        panel.set(xscale="log", yscale="log", xlabel=varied, title=f"{number:,} {fixed}")
    panels[0].set_ylabel("µs, p50")
    panels[0].legend(loc="upper left")
    return figure
