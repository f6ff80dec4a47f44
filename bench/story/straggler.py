"""One worker of four is five times slower: the time that each mode takes to come within 1 % of the optimum.

All runs use dist-lr's start and whole-shard gradients with a tick time, so that the modes differ only in
waiting. SGD has RATE per tick in sync and a quarter of it per push in the other modes. Every worker does the
same number of ticks. Worker 3 is the slow one; the evaluations are those of worker 0. The log-loss is that on
the training rows. L-BFGS finds the optimum of log-loss + l2/2 |w|^2.

Results: "optimum": its log-loss; "rows": [{"mode", "slow" (whether one worker is slow), "seconds" and
"gradients" until within 1 % (null: never), "delay_p50", "delay_p99", "delay_max", "curve"}]. Seconds and
gradients are spreads over the repeats; delays and curve are those of the last repeat.
"""

from typing import Any

from bench import figures
from bench.record import markdown, shown, spread
from bench.story import curves, dist_lr
from bench.timing import progress
from shmps.linear.result import Result

MODES: dict[str, dict[str, Any]] = {
    "sync": {"mode": "sync"},
    "bounded 1": {"mode": "bounded", "bound": 1},
    "bounded 4": {"mode": "bounded", "bound": 4},
    "bounded 16": {"mode": "bounded", "bound": 16},
    "async": {"mode": "async"},
}
RATE = 2.0  # of a tick
SLOW_RANK, FACTOR = 3, 5.0
WITHIN = 0.01  # relative distance from the optimum's log-loss


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, iterations = (1, 160) if quick else (3, 250)
    setting = dist_lr.setting(0)
    setting = setting._replace(tested=(setting.X, setting.y))
    optimum = setting.log_loss(setting.optimum())
    kinds = [(mode, slow) for slow in (False, True) for mode in MODES]
    trained: dict[tuple[str, bool], list[Result]] = {kind: [] for kind in kinds}
    with progress("straggler", repeats * len(kinds)) as bar:
        for _ in range(repeats):
            for mode, slow in kinds:
                trained[mode, slow].append(_train(setting, mode, slow, iterations))
                bar.update()
    rows = [_row(mode, slow, results, optimum) for (mode, slow), results in trained.items()]
    settings = setting.settings | {
        "iterations": iterations, "rate": RATE, "factor": FACTOR, "repeats": repeats,
    }  # fmt: skip
    return settings, {"optimum": optimum, "rows": rows}


def _train(setting: dist_lr.Setting, mode: str, slow: bool, iterations: int) -> Result:
    return setting.train(
        learning_rate=RATE if mode == "sync" else RATE / dist_lr.WORKERS,
        iterations=iterations,
        slow_worker=(SLOW_RANK, FACTOR) if slow else None,
        **MODES[mode],
    )


def _row(mode: str, slow: bool, results: list[Result], optimum: float) -> dict[str, Any]:
    arrivals = [_arrival(curves.curve(result), (1 + WITHIN) * optimum) for result in results]
    arrived = [arrival for arrival in arrivals if arrival is not None]
    all_arrived = len(arrived) == len(arrivals)
    delays = results[-1].delays
    return {
        "mode": mode,
        "slow": slow,
        "seconds": spread(seconds for seconds, _ in arrived) if all_arrived else None,
        "gradients": spread(ticks for _, ticks in arrived) if all_arrived else None,
        "delay_p50": delays.p50,
        "delay_p99": delays.p99,
        "delay_max": delays.max,
        "curve": curves.curve(results[-1]),
    }


def _arrival(curve: curves.Curve, target: float) -> tuple[float, int] | None:
    """Return seconds and gradients at the first evaluation whose log-loss is at most the target."""
    for seconds, ticks, loss in zip(curve["seconds"], curve["ticks"], curve["log_loss"], strict=True):
        if loss <= target:
            return seconds, ticks
    return None


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    even = {row["mode"]: row for row in results["rows"] if not row["slow"]}
    headers = ["mode", "seconds, equal workers", "seconds, one slow", "ratio", "gradients, one slow"]
    headers += ["delay p50", "p99", "max"]
    rows = []
    for row in results["rows"]:
        if row["slow"]:
            equal, slow = even[row["mode"]]["seconds"], row["seconds"]
            rows.append(
                [
                    row["mode"],
                    shown(equal, ".2f") if equal else "never",
                    shown(slow, ".2f") if slow else "never",
                    f"{slow['median'] / equal['median']:.1f}" if equal and slow else "",
                    shown(row["gradients"]) if row["gradients"] else "",
                    row["delay_p50"],
                    row["delay_p99"],
                    row["delay_max"],
                ]
            )
    return (
        f"{markdown(headers, rows)}\n\n"
        f"{dist_lr.data_name(settings)}, {settings['workers']} workers, ticks of "
        f"{settings['tick_time_ms']:g} ms, one worker {settings['factor']:g} times slower. Seconds and "
        f"gradients until the training log-loss is within {WITHIN:.0%} of the optimum's "
        f"{results['optimum']:.4f}; median (min to max) of {settings['repeats']} repeats; delays with one "
        f"slow worker, in versions."
    )


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    texts = {"factor": f"{settings['factor']:g}"}
    seconds = {(row["mode"], row["slow"]): row["seconds"] for row in results["rows"]}
    for mode in MODES:
        even, slow = seconds[mode, False], seconds[mode, True]
        ratio = f"{slow['median'] / even['median']:.1f}" if slow and even else "-"
        texts[f"{mode.replace(' ', '_')}_ratio"] = ratio
    return texts


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, all_panels = figures.panels(2, "Training loss against wall time, four workers on a9a")
    for panel, slow in zip(all_panels, (False, True), strict=True):
        for colour, row in zip(
            figures.MORE_COLOURS, (r for r in results["rows"] if r["slow"] is slow), strict=False
        ):
            panel.plot(
                row["curve"]["seconds"], row["curve"]["log_loss"], color=colour, lw=1.4, label=row["mode"]
            )
        panel.axhline((1 + WITHIN) * results["optimum"], **figures.REFERENCE, label="optimum + 1 %")
        panel.set(
            title=f"one worker {settings['factor']:g} times slower" if slow else "equal workers",
            xlabel="seconds", ylim=(0.95 * results["optimum"], 0.6),
        )  # fmt: skip
        panel.legend(loc="upper right")
    all_panels[0].set_ylabel("log-loss on the training rows")
    return figure
