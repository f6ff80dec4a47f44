"""Virtual seconds to the optimum on a9a, by mode and number of workers."""

from typing import Any

from bench.record import markdown
from bench.story import dist_lr
from bench.story.virtual.problem import GBIT, MODES, SLOWNESS, STRAGGLERS, WITHIN, shown_seconds, story
from shmps import Machines

WORKERS = (1, 3, 10, 30, 100, 300, 1000)
SERVERS, GBITS = 2, 10.0
FULL = 2.0  # seconds of one gradient over all rows by one worker
LATENCY, VARIATION = 100e-6, 0.1
MOST, INTERVAL = 420, 4  # iterations
SETTINGS = {
    "servers": SERVERS, "gbits": GBITS, "full_seconds": FULL, "latency_us": LATENCY * 1e6,
    "variation": VARIATION, "stragglers": STRAGGLERS, "slowness": SLOWNESS, "within": WITHIN,
}  # fmt: skip


def cases(quick: bool) -> list[tuple[Any, ...]]:
    return [(mode, workers) for workers in ((10,) if quick else WORKERS) for mode in MODES]


def measure(mode: str, workers: int) -> dict[str, Any]:
    problem = story()
    machines = Machines(
        latency=LATENCY, bandwidth=GBITS * GBIT, nonzero=FULL / problem.X.nnz, variation=VARIATION,
        stragglers=STRAGGLERS, slowness=SLOWNESS,
    )  # fmt: skip
    parameters = {"batch_size": 0, "iterations": MOST, "test_interval": INTERVAL}
    return problem.reach(machines, mode, workers, SERVERS, **parameters)


def table(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    by_case = {(row["mode"], row["workers"]): row for row in rows}
    lines = [
        [
            f"{count:,}",
            *(shown_seconds(by_case[mode, count]) for mode in MODES),
            by_case["async", count]["delay_p50"],
            *(f"{by_case[mode, count]['computing']:.0%}" for mode in ("sync", "async")),
            *(f"{by_case[mode, count]['serving']:.0%}" for mode in ("sync", "async")),
        ]
        for count in sorted({workers for _, workers in by_case})
    ]
    heads = ["workers", *MODES, "delay", "computing, sync", "async", "serving, sync", "async"]
    return (
        markdown(heads, lines) + f"\n\nVirtual seconds until the training log-loss is within "
        f"{settings['within']:.0%} of the optimum's, {dist_lr.data_name(settings)}, {settings['servers']} "
        f"servers, {settings['gbits']:g} Gbit/s. One worker would take {settings['full_seconds']:g} s for a "
        f"gradient; {settings['stragglers']:.0%} of the workers are {settings['slowness']:g} times slower. "
        f"Delay: the median in async. Computing, serving: the mean share of the time of workers and servers."
    )
