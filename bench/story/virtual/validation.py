"""Real processes beside the simulation of the same parameters. The only part that needs a quiet machine.

Ticks take TICK_TIME ms, which overlap on few cores. One worker is slow, or none.
"""

from typing import Any

import numpy as np

from bench.record import markdown
from bench.story import dist_lr
from bench.story.virtual.problem import MODES
from shmps import Inline, Machines

WORKERS, TICK_TIME, SLOW_FACTOR, ITERATIONS = (1, 2, 4, 8), 50.0, 3.0, 30
COMPARED = ("sync", "bounded 4", "async")
SETTINGS = {"validated_tick_ms": TICK_TIME, "slow_factor": SLOW_FACTOR, "iterations": ITERATIONS}


def cases(quick: bool) -> list[tuple[Any, ...]]:
    if quick:
        return [("sync", 2, False), ("async", 2, True)]
    return [(mode, count, slow) for mode in COMPARED for count in WORKERS for slow in (False, True)]


def measure(mode: str, workers: int, slow: bool) -> dict[str, Any]:
    """Return the time per iteration, the delay and the loss of both."""
    row: dict[str, Any] = {"mode": mode, "workers": workers, "slow": slow}
    for name, engine in (("real", "processes"), ("simulated", Inline(Machines(latency=30e-6)))):
        result = dist_lr.setting(0).train(
            engine=engine, workers=workers, tick_time=TICK_TIME, iterations=ITERATIONS,
            learning_rate=1 / workers, slow_worker=(workers - 1, SLOW_FACTOR) if slow else None,
            test_interval=0, **MODES[mode],
        )  # fmt: skip
        row[f"{name}_ms"] = 1000 * result.seconds["train"] / ITERATIONS
        row[f"{name}_delay"] = result.delays.p50
        row[f"{name}_loss"] = result.metrics.log_loss
    return row


def table(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            f"{row['mode']}{', one slow' if row['slow'] else ''}",
            row["workers"],
            f"{row['real_ms']:.1f}",
            f"{row['simulated_ms']:.1f}",
            f"{row['simulated_ms'] / row['real_ms'] - 1:+.0%}",
            f"{row['real_delay']}, {row['simulated_delay']}",
            f"{row['real_loss']:.4f}, {row['simulated_loss']:.4f}",
        ]
        for row in rows
    ]
    heads = ["mode", "workers", "real ms", "simulated", "difference", "delay p50", "log-loss"]
    return (
        markdown(heads, lines) + f"\n\nMilliseconds per iteration of real processes and of their simulation: "
        f"{settings['iterations']} iterations of {settings['validated_tick_ms']:g} ms, the slow worker "
        f"{settings['slow_factor']:g} times slower; delays and log-losses of both."
    )


def facts(rows: list[dict[str, Any]]) -> dict[str, str]:
    differences = [abs(row["simulated_ms"] / row["real_ms"] - 1) for row in rows]
    apart = max(abs(row["simulated_delay"] - row["real_delay"]) for row in rows)
    return {
        "furthest": f"{max(differences):.0%}",
        "typical": f"{np.median(differences):.0%}",
        "delays_apart": str(apart),
        "pairs": str(len(differences)),
    }
