"""The highest rate at which async stays at the optimum, by bisection, beside the limit of the theory."""

from typing import Any

import numpy as np

from bench.record import markdown
from bench.story.virtual.problem import story
from shmps import Inline, Machines
from shmps.errors import Diverged
from shmps.linear.stability import stable_rate

WORKERS = (1, 2, 4, 9, 16, 32, 64)
# All workers have about the same speed, so the delay is that of all other workers.
EQUAL = Machines(latency=0.0, push=0.0, pull=0.0, key=0.0, minibatch=1.0, nonzero=0.0, variation=0.02)
SETTINGS: dict[str, Any] = {}


def cases(quick: bool) -> list[tuple[Any, ...]]:
    return [(workers,) for workers in ((2,) if quick else WORKERS)]


def measure(workers: int) -> dict[str, Any]:
    problem = story()
    best, loss = problem.best, problem.log_loss(problem.best)
    limit = stable_rate(problem.curvature, workers - 1)
    start = best + 0.01 * np.random.default_rng(0).standard_normal(len(best))

    def stays(rate: float) -> bool:
        try:
            result = problem.train(
                Inline(EQUAL), start, workers=workers, mode="async", learning_rate=rate, batch_size=0,
                iterations=200, test_interval=0,
            )  # fmt: skip
        except Diverged:
            return False
        return result.metrics.log_loss < 1.02 * loss

    low, high = 0.25 * limit, 4 * limit
    for _ in range(6):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if stays(middle) else (low, middle)
    return {"workers": workers, "found": (low * high) ** 0.5, "limit": limit}


def table(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        [row["workers"], f"{row['found']:.3g}", f"{row['limit']:.3g}", f"{row['found'] / row['limit']:.2f}"]
        for row in rows
    ]
    return (
        markdown(["workers", "highest stable rate", "limit", "ratio"], lines)
        + "\n\nThe highest rate of a push at which async stays near the optimum, found by bisection, beside "
        "the limit 2 sin(pi / (2 (2 delay + 1))) / curvature for a delay of all other workers."
    )
