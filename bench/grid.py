"""Accuracy and swing against the learning rate, for each mode and each delay: does the theory hold?

Gradient descent with a delay of tau versions is stable below 2 sin(pi / (2 (2 tau + 1))) / curvature (see
shmps.stability). Here on real processes: async with 1 to 9 workers and a tick time has delays of 0 to 8; SGD,
whole shards, dist-lr's start, every rate of RATES. A run has settled if its log-loss on the test rows rises
by no more than RISE above its least in the last half. The curvature is that at the optimum of the training
rows.

Results: "curvature"; "delays": [{"workers", "delay_p50" (median over the rates), "predicted" (the limit for
it), "settled" (the highest rate below which all settled), "swung" (the least rate that did not; null: none),
"runs": [{"rate", "accuracy" (final), "low", "high" (over the last half), "rise"}]}]; "modes": the same with
"mode", four workers each.
Rates are those of an update: of a push in async and bounded, of a tick in sync.
"""

import statistics
from typing import Any

from tqdm import tqdm

from bench import curves, dist_lr, figures
from bench.record import markdown
from shmps.data import rows_of
from shmps.stability import curvature, stable_rate

FACTOR = 2 ** (1 / 3)
RATES = tuple(round(0.1 * FACTOR**step, 3) for step in range(17))  # 0.1 to 4.03
TAUS = range(9)
RISE = 0.005  # of the log-loss
MODES: dict[str, dict[str, Any]] = {
    "sync": {"mode": "sync"},
    "bounded 0": {"mode": "bounded", "bound": 0},
    "bounded 1": {"mode": "bounded", "bound": 1},
}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    taus, rates, iterations = ((0, 3), RATES[4::6], 100) if quick else (TAUS, RATES, 200)
    where = dist_lr.setting(0)
    rows = rows_of(where.X, where.y)
    steepest = curvature(rows, where.optimum(), False, where.l2, nonzeros=rows.nonzeros)
    assert steepest is not None
    with tqdm(total=len(rates) * (len(taus) + len(MODES)), desc="grid", disable=None, leave=False) as bar:
        delays = [
            {"workers": tau + 1}
            | _line(where, {"mode": "async", "workers": tau + 1}, rates, iterations, steepest, bar)
            for tau in taus
        ]
        modes = [
            {"mode": name} | _line(where, parameters, rates, iterations, steepest, bar)
            for name, parameters in MODES.items()
        ]
    return {
        "data": where.name, "note": where.note, "iterations": iterations, "rates": list(rates),
        "tick_time_ms": dist_lr.TICK_TIME, "rise": RISE,
    }, {"curvature": steepest, "delays": delays, "modes": modes}  # fmt: skip


def _line(
    where: dist_lr.Setting,
    parameters: dict[str, Any],
    rates: tuple[float, ...],
    iterations: int,
    steepest: float,
    bar: tqdm,
) -> dict[str, Any]:
    """One kind of run at every rate, and where it ceases to settle."""
    runs, delays = [], []
    for rate in rates:
        result = where.train(learning_rate=rate, iterations=iterations, **parameters)
        course = curves.curve(result)
        half = curves.last_half(course, "accuracy")
        runs.append(
            {
                "rate": rate,
                "accuracy": result.metrics.accuracy,
                "low": float(half.min()),
                "high": float(half.max()),
                "rise": curves.rise(course),
            }
        )
        delays.append(result.delays.p50)
        bar.update()
    delay = int(statistics.median(delays))
    swung = next((run["rate"] for run in runs if run["rise"] > RISE), None)
    return {
        "delay_p50": delay,
        "predicted": stable_rate(steepest, delay),
        "settled": max((rate for rate in rates if swung is None or rate < swung), default=0.0),
        "swung": swung,
        "runs": runs,
    }


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    def rows(lines: list[dict[str, Any]], name: str) -> list[list[Any]]:
        return [
            [
                line[name],
                line["delay_p50"],
                f"{line['predicted']:.2f}",
                f"{line['settled']:.2f}",
                f"{line['swung']:.2f}" if line["swung"] else f"none to {settings['rates'][-1]:.2f}",
            ]
            for line in lines
        ]

    headers = ["delay, median", "predicted limit", "settles up to", "swings from"]
    return (
        f"{markdown(['workers, async', *headers], rows(results['delays'], 'workers'))}\n\n"
        f"{markdown(['mode, 4 workers', *headers], rows(results['modes'], 'mode'))}\n\n"
        f"{settings['data']}, ticks of {settings['tick_time_ms']:g} ms, {settings['iterations']} iterations "
        f"per worker; learning rates of an update, a factor of {FACTOR:.2f} apart; the largest eigenvalue of "
        f"the Hessian at the optimum is {results['curvature']:.3f}."
    )


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    told = {"curvature": f"{results['curvature']:.3f}"}
    held = [line for line in results["delays"] if line["swung"]]
    told["held"] = str(sum(_as_predicted(line) for line in held))
    told["lines"] = str(len(held))
    for line in results["delays"]:
        told[f"limit_{line['workers']}"] = f"{line['predicted']:.2f}"
        told[f"settled_{line['workers']}"] = f"{line['settled']:.2f}"
        told[f"swung_{line['workers']}"] = f"{line['swung']:.2f}" if line["swung"] else "none"
    for line in results["modes"]:
        name = line["mode"].replace(" ", "_")
        told[f"{name}_settled"] = f"{line['settled']:.2f}"
        told[f"{name}_swung"] = f"{line['swung']:.2f}" if line["swung"] else "none"
    return told


def _as_predicted(line: dict[str, Any]) -> bool:
    """Whether the predicted limit lies where settling ends, to within a step of the rates."""
    return line["settled"] / FACTOR <= line["predicted"] <= line["swung"] * FACTOR


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, (left, right) = figures.panels(
        2, "Above the predicted limit async swings, below it settles", height=4.8, share=False
    )
    _draw_delays(figure, left, settings, results)
    four = next((line for line in results["delays"] if line["workers"] == dist_lr.WORKERS), None)
    lines = results["modes"] + ([{"mode": "async"} | four] if four else [])
    for colour, line in zip(figures.MORE_COLOURS, lines, strict=False):
        rates, low, high, final = (
            [run[name] for run in line["runs"]] for name in ("rate", "low", "high", "accuracy")
        )
        right.fill_between(rates, low, high, color=colour, alpha=0.2, linewidth=0)
        right.plot(rates, final, "o-", ms=3, lw=1.2, color=colour, label=line["mode"])
        right.axvline(line["predicted"], color=colour, linestyle=":")
    _scale(right.xaxis, right.set_xscale)
    right.set(
        title="4 workers; band: last half; dotted: predicted limits", xlabel="learning rate of an update",
        ylabel="accuracy on the test rows", ylim=(0.6, 0.87),
    )  # fmt: skip
    right.legend(loc="lower left")
    return figure


def _draw_delays(figure: Any, panel: Any, settings: dict[str, Any], results: dict[str, Any]) -> None:
    from matplotlib.colors import LogNorm

    rates, lines = settings["rates"], results["delays"]
    for line in lines:
        rises = [max(run["rise"], 1e-4) for run in line["runs"]]
        delays, norm = [line["workers"] - 1] * len(rates), LogNorm(1e-4, 1)
        dots = panel.scatter(delays, rates, c=rises, s=90, marker="s", cmap="cividis_r", norm=norm)
    figure.colorbar(dots, ax=panel, label="rise of the log-loss in the last half")
    taus = range(len(TAUS))
    limits = [stable_rate(results["curvature"], tau) for tau in taus]
    panel.plot(taus, limits, "o-", color=figures.COLOURS["async"], lw=1.5, ms=4, label="predicted limit")
    panel.plot([3], [dist_lr.RATE], "*", ms=15, mfc="white", mec="black", label="the published async row")
    _scale(panel.yaxis, panel.set_yscale)
    panel.set(
        title="async, 1 to 9 workers", ylim=(0.085, 11), xlabel="delay, versions (workers - 1)",
        ylabel="learning rate of a push",
    )  # fmt: skip
    panel.legend(loc="upper right")


def _scale(axis: Any, set_scale: Any) -> None:
    set_scale("log")
    axis.set_ticks([0.1, 0.2, 0.5, 1, 2, 4], ["0.1", "0.2", "0.5", "1", "2", "4"])
