"""Virtual seconds to the optimum on generated click-through data: large pushes, by bandwidth and servers."""

from typing import Any

from bench.record import markdown
from bench.story.virtual.problem import GBIT, MODES, SLOWNESS, STRAGGLERS, click_through, shown_seconds
from shmps import Machines

ROWS, FEATURES, FIELDS, BATCH, L2 = 200_000, 100_000, 39, 256, 0.02
WORKERS, MANY = (10, 30, 100, 300, 1000), (100, 300, 1000)
SERVERS, MORE_SERVERS = 4, 16
GBITS, OTHER_GBITS = 10.0, (1.0, 100.0)
COMPARED = ("sync", "async")  # at other bandwidths
GRADIENT = 5e-3  # seconds of a minibatch
LATENCY, VARIATION = 100e-6, 0.1
PUSH, PULL, KEY = 10e-6, 3.5e-6, 2.5e-9  # seconds, as `shmps.simulation.measured` measures them
MOST, INTERVAL = 120, 2  # iterations
SETTINGS = {
    "click_rows": ROWS, "click_features": FEATURES, "click_fields": FIELDS, "click_batch": BATCH,
    "click_l2": L2, "click_servers": SERVERS, "click_gbits": GBITS,
    "click_gradient_ms": GRADIENT * 1e3, "click_push_us": PUSH * 1e6, "click_pull_us": PULL * 1e6,
    "click_key_ns": KEY * 1e9,
}  # fmt: skip


def cases(quick: bool) -> list[tuple[Any, ...]]:
    if quick:
        return [(mode, 10, SERVERS, gbits, 2_000) for mode in MODES for gbits in (1.0, GBITS)]
    return [
        *((mode, count, SERVERS, GBITS, ROWS) for count in WORKERS for mode in MODES),
        *((mode, n, SERVERS, gbits, ROWS) for n in MANY for gbits in OTHER_GBITS for mode in COMPARED),
        *((mode, MANY[-1], MORE_SERVERS, GBITS, ROWS) for mode in MODES),
    ]


def measure(mode: str, workers: int, servers: int, gbits: float, rows: int) -> dict[str, Any]:
    problem = click_through(rows, FEATURES, L2)
    machines = Machines(
        latency=LATENCY, bandwidth=gbits * GBIT, push=PUSH, pull=PULL, key=KEY, minibatch=0.0,
        nonzero=GRADIENT / (BATCH * FIELDS), variation=VARIATION, stragglers=STRAGGLERS, slowness=SLOWNESS,
    )  # fmt: skip
    parameters = {"batch_size": BATCH, "iterations": MOST, "test_interval": INTERVAL}
    return problem.reach(machines, mode, workers, servers, **parameters)


def table(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the seconds by mode, and what is busy in async."""
    by_case = {
        (row["mode"], row["workers"], row["servers"]): row
        for row in rows
        if row["gbits"] == settings["click_gbits"]
    }
    lines = []
    for count, servers in sorted({case[1:] for case in by_case}, key=lambda case: case[::-1]):
        free = by_case["async", count, servers]
        lines.append(
            [
                f"{count:,}",
                servers,
                *(shown_seconds(by_case[mode, count, servers]) for mode in MODES),
                free["delay_p50"],
                *(f"{free[what]:.0%}" for what in ("computing", "serving", "receiving")),
            ]
        )
    heads = ["workers", "servers", *MODES, "delay", "computing", "serving", "receiving"]
    return (
        markdown(heads, lines) + f"\n\nVirtual seconds until the training log-loss is within 1% of the "
        f"optimum's, {settings['click_gbits']:g} Gbit/s. {settings['click_rows']:,} generated rows with "
        f"{settings['click_fields']} of {settings['click_features']:,} features, minibatches of "
        f"{settings['click_batch']} rows (or all of a worker's), which take a worker "
        f"{settings['click_gradient_ms']:g} ms. "
        f"In async: the median delay, and the mean share of the time that workers compute, servers serve, "
        f"and the servers' links receive."
    )


def bandwidths(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the seconds by bandwidth."""
    by_case = {
        (row["mode"], row["workers"], row["gbits"]): row
        for row in rows
        if row["servers"] == settings["click_servers"]
    }
    gbits = sorted({each for _, _, each in by_case})
    lines = [
        [f"{count:,}", mode, *(shown_seconds(by_case[mode, count, each]) for each in gbits)]
        + [f"{by_case[mode, count, each]['receiving']:.0%}" for each in gbits]
        for count in sorted({workers for _, workers, each in by_case if each == gbits[0]})
        for mode in COMPARED
    ]
    heads = ["workers", "mode", *(f"{each:g} Gbit/s" for each in gbits)]
    heads += [f"receiving, {each:g}" for each in gbits]
    return (
        markdown(heads, lines) + f"\n\nThe same with {settings['click_servers']} servers by the bandwidth of "
        f"every machine: seconds, and the mean share of the time that the servers' links receive."
    )
