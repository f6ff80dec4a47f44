"""Accuracy and swing against the learning rate, for each mode and each delay: does the theory hold?

Gradient descent with a delay of tau versions is stable below 2 sin(pi / (2 (2 tau + 1))) / curvature (see
`shmps.linear.stability`). This benchmark tests the limit on real processes: async with 1 to 9 workers and a
tick time has delays of 0 to 8. SGD, whole shards, dist-lr's start, every rate of RATES. A run settles if its
log-loss on the test rows rises by at most RISE above its minimum within the last half. The curvature is that
at the optimum of the training rows.

Rates are those of an update: of a push in async and bounded, of a tick in sync.

Results: "curvature"; "delays": [{"workers", "delay_p50" (median over the rates), "predicted" (the limit for
that delay), "settled" (the highest rate up to which all runs settle), "swung" (the lowest rate that does not
settle; null: all settle), "runs": [{"rate", "accuracy" (final), "low", "high" (over the last half),
"rise"}]}]; "modes": the same with "mode" instead of "workers", four workers each.
"""

import math
import statistics
from typing import Any

from tqdm import tqdm

from bench import figures
from bench.record import markdown
from bench.story import curves, dist_lr
from bench.timing import progress
from shmps.data.rows import rows_of
from shmps.linear.stability import curvature, stable_rate

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
    setting = dist_lr.setting(0)
    rows = rows_of(setting.X, setting.y)
    steepest = curvature(rows, setting.optimum(), False, setting.l2, nonzeros=rows.nonzeros)
    assert steepest is not None
    with progress("grid", len(rates) * (len(taus) + len(MODES))) as bar:

        def line(parameters: dict[str, Any]) -> dict[str, Any]:
            return _line(setting, parameters | {"iterations": iterations}, rates, steepest, bar)

        delays = [{"workers": tau + 1} | line({"mode": "async", "workers": tau + 1}) for tau in taus]
        modes = [{"mode": name} | line(parameters) for name, parameters in MODES.items()]
    settings = setting.settings | {"iterations": iterations, "rates": list(rates), "rise": RISE}
    return settings, {"curvature": steepest, "delays": delays, "modes": modes}


def _line(
    setting: dist_lr.Setting,
    parameters: dict[str, Any],
    rates: tuple[float, ...],
    steepest: float,
    bar: tqdm,
) -> dict[str, Any]:
    """Train at every rate; find the rate from which on the runs do not settle."""
    runs, delays = [], []
    for rate in rates:
        result = setting.train(learning_rate=rate, **parameters)
        curve = curves.curve(result)
        half = curves.last_half(curve, "accuracy")
        runs.append(
            {
                "rate": rate,
                "accuracy": result.metrics.accuracy,
                "low": float(half.min()),
                "high": float(half.max()),
                "rise": curves.rise(curve),
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
                f"{line['swung']:.2f}" if line["swung"] else f"none up to {settings['rates'][-1]:.2f}",
            ]
            for line in lines
        ]

    headers = ["delay, median", "predicted limit", "settles up to", "swings from"]
    return (
        f"{markdown(['workers, async', *headers], rows(results['delays'], 'workers'))}\n\n"
        f"{markdown(['mode, 4 workers', *headers], rows(results['modes'], 'mode'))}\n\n"
        f"{dist_lr.data_name(settings)}, ticks of {settings['tick_time_ms']:g} ms, {settings['iterations']} "
        f"iterations per worker. Learning rates are those of an update, a factor of {FACTOR:.2f} apart. The "
        f"largest eigenvalue of the Hessian at the optimum is {results['curvature']:.3f}."
    )


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    swinging = [line for line in results["delays"] if line["swung"]]
    modes = {line["mode"]: line for line in results["modes"]}
    return {
        "curvature": f"{results['curvature']:.3f}",
        "held": str(sum(_as_predicted(line) for line in swinging)),
        "lines": str(len(swinging)),
        "limit_0": f"{stable_rate(results['curvature'], 0):.2f}",
        "limit_3": f"{stable_rate(results['curvature'], 3):.2f}",
        "limit_0_of_four": f"{stable_rate(results['curvature'], 0) / dist_lr.WORKERS:.2f}",
        "bounded_0_swung": f"{modes['bounded 0']['swung'] or math.inf:.2f}",
    }


def _as_predicted(line: dict[str, Any]) -> bool:
    """Return whether settling ends at the predicted limit, to within one step of the rates."""
    return line["settled"] / FACTOR <= line["predicted"] <= line["swung"] * FACTOR


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Draw the rise of the loss by delay and rate, and the accuracy by rate in a small panel per line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.6), layout="constrained")
    figure.suptitle("Above the predicted limit async swings, below it settles")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.5))
    left, right = halves
    _draw_delays(left, settings, results)
    lines = [(f"async, delay {line['workers'] - 1}", line) for line in results["delays"]]
    lines += [(f"{line['mode']}, 4 workers", line) for line in results["modes"]]
    columns = 4
    panels = right.subplots(-(-len(lines) // columns), columns, sharex=True, sharey=True, squeeze=False)
    right.supxlabel("learning rate of an update", fontsize="medium")
    right.supylabel("accuracy: final (line), last half (band); dotted: predicted limit", fontsize="medium")
    for panel, (title, line) in zip(panels.flat, lines, strict=False):
        rates, low, high, final = (
            [run[name] for run in line["runs"]] for name in ("rate", "low", "high", "accuracy")
        )
        panel.fill_between(rates, low, high, color=figures.COLOURS["async"], alpha=0.3, linewidth=0)
        panel.plot(rates, final, lw=1.2, color=figures.COLOURS["sync"])
        panel.axvline(line["predicted"], **figures.REFERENCE)
        _scale(panel.xaxis, panel.set_xscale, (0.1, 0.5, 2))
        panel.set_title(title, fontsize="small")
        panel.set_ylim(0.6, 0.87)
    return figure


def _draw_delays(figure: Any, settings: dict[str, Any], results: dict[str, Any]) -> None:
    from matplotlib.colors import LogNorm

    panel = figure.subplots()
    for line in results["delays"]:
        rises = [max(run["rise"], 1e-4) for run in line["runs"]]
        delays, norm = [line["workers"] - 1] * len(rises), LogNorm(1e-4, 1)
        style = {"s": 80, "marker": "s", "cmap": "cividis_r", "norm": norm}
        dots = panel.scatter(delays, settings["rates"], c=rises, **style)
    figure.colorbar(dots, ax=panel, label="rise of the log-loss in the last half")
    taus = range(len(TAUS))
    limits = [stable_rate(results["curvature"], tau) for tau in taus]
    panel.plot(taus, limits, "o-", color=figures.COLOURS["async"], lw=1.5, ms=4, label="predicted limit")
    panel.plot([3], [dist_lr.RATE], "*", ms=15, mfc="white", mec="black", label="the published async row")
    _scale(panel.yaxis, panel.set_yscale, (0.1, 0.2, 0.5, 1, 2, 4))
    panel.set(
        title="async, 1 to 9 workers", ylim=(0.085, 11), xlabel="delay, versions (workers - 1)",
        ylabel="learning rate of a push",
    )  # fmt: skip
    panel.legend(loc="upper right")


def _scale(axis: Any, set_scale: Any, ticks: tuple[float, ...]) -> None:
    set_scale("log")
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
