"""dist-lr's table in virtual time: gradients take 0.35 s on average, as published for async."""

from typing import Any

from bench.record import markdown
from bench.story import dist_lr
from shmps import Inline, Machines

VARIATIONS = (0.0, 0.25, 0.5, 0.75)
GRADIENT = dist_lr.PUBLISHED["async"]["seconds"] / dist_lr.ITERATIONS  # seconds
SETTINGS = {"gradient_seconds": GRADIENT}


def cases(quick: bool) -> list[tuple[Any, ...]]:
    return [(variation,) for variation in ((0.0, 0.5) if quick else VARIATIONS)]


def measure(variation: float) -> dict[str, Any]:
    machines = Machines(latency=100e-6, bandwidth=125e6, minibatch=GRADIENT, nonzero=0.0, variation=variation)
    setting = dist_lr.setting(0)
    row: dict[str, Any] = {"variation": variation}
    for mode in ("sync", "async"):
        result = setting.train(
            engine=Inline(machines), tick_time=0.0, mode=mode, updater="dist-lr", learning_rate=dist_lr.RATE
        )
        accuracy = [progress.metrics.accuracy for progress in result.history]
        row[mode] = {
            "seconds": round(result.seconds["train"], 3),
            "accuracy": accuracy[180],  # dist-lr's iteration i is the state after i + 1 ticks
            "low": min(accuracy[len(accuracy) // 2 :]),
            "delay_p50": result.delays.p50,
            "delay_max": result.delays.max,
        }
    return row


def table(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        ["published", *(f"{dist_lr.PUBLISHED[mode]['seconds']:.0f}" for mode in ("sync", "async"))]
        + [f"{100 * dist_lr.PUBLISHED[mode]['accuracy']:.1f}" for mode in ("sync", "async")]
        + [""]
    ]
    for row in rows:
        modes = row["sync"], row["async"]
        lines.append(
            [f"variation {row['variation']:g}", *(f"{each['seconds']:.0f}" for each in modes)]
            + [f"{100 * each['accuracy']:.1f}" for each in modes]
            + [f"{100 * row['async']['low']:.1f}"]
        )
    heads = ["", "seconds, sync", "async", "accuracy, sync", "async", "least, async"]
    return (
        markdown(heads, lines) + f"\n\nThe published table in virtual time: dist-lr's rules, "
        f"{dist_lr.WORKERS} workers, {dist_lr.ITERATIONS} iterations, gradients of "
        f"{settings['gradient_seconds']:g} s on average, by the standard deviation of the logarithm of that "
        f"time. Accuracy in % at iteration 180; least: the least in the last half."
    )


def facts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the texts about the variation that explains the published time of sync best."""
    best = min(rows, key=lambda row: abs(row["sync"]["seconds"] - dist_lr.PUBLISHED["sync"]["seconds"]))
    texts = {"chosen_variation": f"{best['variation']:g}"}
    for name, row in (("published", best), ("constant", rows[0])):
        for mode in ("sync", "async"):
            texts[f"{name}_{mode}"] = f"{row[mode]['seconds']:.0f} s"
            texts[f"{name}_{mode}_accuracy"] = f"{100 * row[mode]['accuracy']:.1f} %"
    return texts
